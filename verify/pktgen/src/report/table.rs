//! An outcome as tables for a terminal, and as CSV.

use std::fmt::Write;

use super::outcome::Outcome;
use crate::latency::Latency;
use crate::rate::Short;
use crate::trial::Trial;

/// A table with columns as wide as their cells, the first to the left and others to the right.
fn columns(rows: &[Vec<String>]) -> String {
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |at: usize| {
        rows.iter().filter_map(|row| row.get(at)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..count).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (at, (cell, width)) in row.iter().zip(&widths).enumerate() {
            let _ = if at == 0 { write!(line, "{cell:<width$}") } else { write!(line, "  {cell:>width$}") };
        }
        text += line.trim_end();
        text.push('\n');
    }
    text
}

fn cells(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

pub fn percent(ratio: f64) -> String {
    match ratio * 100.0 {
        0.0 => "0".into(),
        value if value < 0.01 => format!("{value:.5}"),
        value => format!("{value:.3}"),
    }
}

/// One line for a trial, while a test runs.
pub fn progress(number: usize, trial: &Trial) -> String {
    let mut line = format!(
        "trial {number}: {}pps {:.3} s: offered {}pps, loss {} %",
        Short(trial.intended_pps),
        trial.intended_s,
        Short(trial.offered_pps),
        percent(trial.loss_of_offered())
    );
    if let Some(latency) = &trial.latency {
        let _ = write!(line, ", p50 {:.1} us, p99 {:.1} us", latency.p50, latency.p99);
    }
    if trial.not_offered().is_some() {
        line += " (offered is not intended)";
    }
    line
}

pub fn text(outcome: &Outcome) -> String {
    let mut text = String::new();
    let width = outcome.setup.iter().map(|(key, _)| key.len()).max().unwrap_or(0);
    for (key, value) in &outcome.setup {
        let _ = writeln!(text, "{key:<width$}  {value}");
    }
    if !outcome.results.is_empty() {
        let mut rows = vec![cells(&[
            "result",
            "loss allowed %",
            "packets/s",
            "bit/s",
            "bit/s on the line",
            "lower bound",
            "upper bound",
        ])];
        for found in &outcome.results {
            let short = |value: Option<f64>| value.map_or("-".to_owned(), |value| Short(value).to_string());
            let mut name = found.name.clone();
            if found.unfinished {
                name += " (not finished)";
            }
            rows.push(vec![
                name,
                percent(found.loss_ratio),
                found.pps.map_or("none".into(), |pps| format!("{pps:.0}")),
                short(found.bits),
                short(found.line_bits),
                short(found.lower),
                short(found.upper),
            ]);
        }
        let _ = write!(text, "\n{}", columns(&rows));
    }
    if !outcome.curve.is_empty() {
        let mut rows = vec![cells(&["load %", "packets/s", "loss %"])];
        for point in &outcome.curve {
            rows.push(vec![
                format!("{:.1}", point.percent),
                format!("{:.0}", point.pps),
                percent(point.loss_ratio),
            ]);
        }
        let _ = write!(text, "\n{}", columns(&rows));
    }
    if let Some(burst) = &outcome.back_to_back {
        let bound = if burst.unbounded { " or more" } else { "" };
        let _ = write!(
            text,
            "\nback-to-back: {:.0} packets{bound} at {}pps, standard deviation {:.1}, {} repetitions\n\
             buffer: {:.1} us at that rate; {:.1} us without what is forwarded meanwhile\n",
            burst.mean,
            Short(burst.line_pps),
            burst.deviation,
            burst.lengths.len(),
            burst.implied_buffer_s * 1e6,
            burst.corrected_buffer_s * 1e6
        );
    }
    if !outcome.latency.is_empty() {
        let mut rows = vec![cells(&[
            "latency, us",
            "min",
            "p50",
            "p90",
            "p99",
            "p99.9",
            "max",
            "PDV p99.9",
            "IPDV mean",
            "samples",
        ])];
        for at in &outcome.latency {
            let name = format!("{} ({}pps)", at.name, Short(at.pps));
            for (name, latency) in
                [(name, &at.device), ("  the generator's own part".to_owned(), &at.generator)]
            {
                if let Some(latency) = latency {
                    rows.push(latency_row(name, latency));
                }
            }
        }
        let _ = write!(text, "\n{}", columns(&rows));
    }
    if let Some(seen) = &outcome.reconvergence {
        let _ = writeln!(
            text,
            "\nreconvergence of {} routes, ms: min {:.2}, p50 {:.2}, p99 {:.2}, max {:.2}; {} never came, {} still to come",
            seen.routes, seen.min_ms, seen.p50_ms, seen.p99_ms, seen.max_ms, seen.missing, seen.waiting
        );
    }
    for warning in &outcome.warnings {
        let _ = write!(text, "\nnote: {warning}");
    }
    text
}

fn latency_row(name: String, latency: &Latency) -> Vec<String> {
    let Latency { min, p50, p90, p99, p999, max, pdv_p999, ipdv_mean, .. } = *latency;
    let figures = [min, p50, p90, p99, p999, max, pdv_p999, ipdv_mean].map(|us| format!("{us:.1}"));
    [vec![name], figures.to_vec(), vec![latency.samples.to_string()]].concat()
}

/// A line for each trial.
pub fn csv(outcome: &Outcome) -> String {
    let mut text = "trial,intended_pps,offered_pps,intended_s,intended,offered,forwarded,lost,late,misdelivered,duplicated,reordered,corrupt,\
                    generator_dropped,loss_ratio,latency_min_us,latency_p50_us,latency_p99_us,latency_max_us\n"
        .to_owned();
    for (number, trial) in (1..).zip(&outcome.trials) {
        let latency = trial.latency.unwrap_or_default();
        let _ = writeln!(
            text,
            "{number},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{}",
            trial.intended_pps,
            trial.offered_pps,
            trial.intended_s,
            trial.intended,
            trial.offered,
            trial.forwarded,
            trial.lost,
            trial.late,
            trial.misdelivered,
            trial.duplicated,
            trial.reordered,
            trial.corrupt,
            trial.generator_dropped,
            trial.loss_ratio(),
            latency.min,
            latency.p50,
            latency.p99,
            latency.max
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::outcome::Found;
    use super::*;

    #[test]
    fn tables_align_and_csv_has_a_line_for_each_trial() {
        let trial = Trial {
            intended_pps: 1e6,
            offered_pps: 1e6,
            offered: 10,
            intended: 10,
            forwarded: 9,
            lost: 1,
            ..Trial::default()
        };
        let outcome = Outcome {
            setup: vec![("frames".into(), "64".into())],
            trials: vec![trial.clone(), trial],
            results: vec![
                Found::new("NDR", 0.0, Some(14_880_952.0), 64.0),
                Found::new("PDR", 0.005, None, 64.0),
            ],
            ..Outcome::default()
        };
        let text = text(&outcome);
        assert!(text.contains("NDR                  0   14880952  7.619G"), "{text}");
        assert!(text.contains("10G") && text.contains("none"), "{text}");
        let csv = csv(&outcome);
        let counts: Vec<usize> = csv.lines().map(|line| line.split(',').count()).collect();
        assert_eq!(counts, [19; 3]);
        assert!(csv.contains("\n2,1000000,"));
    }
}
