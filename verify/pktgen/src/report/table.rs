//! An outcome as tables for a terminal, and as CSV.

use std::fmt::Write;

use super::outcome::Outcome;
use super::{Figures, QueueFigures};
use crate::latency::Latency;
use crate::outage::Outage;
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

/// All figures.
pub fn tables(outcome: &Outcome) -> String {
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
    text += &packets(&outcome.trials);
    text += &outages(&outcome.outages);
    text + &queues(&outcome.queues)
}

/// With what spoils the figures.
pub fn whole(outcome: &Outcome) -> String {
    let notes = outcome.warnings.iter().map(|warning| format!("\nnote: {warning}"));
    tables(outcome) + &notes.collect::<String>()
}

/// What became of the packets of all trials, by cause.
pub fn packets(trials: &[Trial]) -> String {
    let sum = |count: fn(&Trial) -> u64| trials.iter().map(count).sum::<u64>();
    let (sent, intended) = (sum(|trial| trial.offered), sum(|trial| trial.intended));
    if sent == 0 {
        return String::new();
    }
    let mut rows = vec![cells(&["packets of all trials", "count", "% of sent"])];
    let mut row = |name: &str, count: u64| {
        if count > 0 || name == "forwarded" || name == "lost" {
            rows.push(vec![name.to_owned(), count.to_string(), percent(count as f64 / sent as f64)]);
        }
    };
    row("intended, not sent", intended.saturating_sub(sent));
    row("sent", sent);
    row("forwarded", sum(|trial| trial.forwarded));
    row("lost", sum(|trial| trial.lost));
    row("  of these too late", sum(|trial| trial.late));
    row("  of these dropped by the generator", sum(|trial| trial.generator_dropped.min(trial.lost)));
    row("misdelivered", sum(|trial| trial.misdelivered));
    row("duplicated", sum(|trial| trial.duplicated));
    row("reordered", sum(|trial| trial.reordered));
    row("corrupt", sum(|trial| trial.corrupt));
    format!("\n{}", columns(&rows))
}

fn outages(outages: &[Outage]) -> String {
    if outages.is_empty() {
        return String::new();
    }
    let mut rows = vec![cells(&["outage, Unix time", "ms", "lost"])];
    for outage in outages {
        rows.push(vec![format!("{:.3}", outage.from), format!("{:.1}", outage.ms), outage.lost.to_string()]);
    }
    format!("\n{}", columns(&rows))
}

/// Only where there is more than one of a port.
fn queues(queues: &[QueueFigures]) -> String {
    if queues.iter().all(|queue| queue.queue == 0) {
        return String::new();
    }
    let mut rows = vec![cells(&["queue", "core", "sent", "received", "of other cores", "of these dropped"])];
    for queue in queues {
        rows.push(vec![
            format!("{} {}", queue.port, queue.queue),
            queue.core.map_or("-".to_owned(), |core| core.to_string()),
            queue.sent.to_string(),
            queue.received.to_string(),
            queue.of_other_cores.to_string(),
            queue.dropped.to_string(),
        ]);
    }
    format!("\n{}", columns(&rows))
}

/// Of a test of traffic.
pub fn traffic(trial: &Trial, figures: &Figures) -> String {
    let mut text = progress(1, trial);
    text.push('\n');
    text += &packets(std::slice::from_ref(trial));
    if figures.by_previous_hop + figures.foreign > 0 {
        let _ = writeln!(
            text,
            "\nby the previous next hop while a change settled: {}; other frames, such as ICMP errors: {}",
            figures.by_previous_hop, figures.foreign
        );
    }
    text += &outages(&figures.outages);
    text + &queues(&figures.queues)
}

fn latency_row(name: String, latency: &Latency) -> Vec<String> {
    let Latency { min, p50, p90, p99, p999, max, pdv_p999, ipdv_mean, .. } = *latency;
    let figures = [min, p50, p90, p99, p999, max, pdv_p999, ipdv_mean].map(|us| format!("{us:.1}"));
    [vec![name], figures.to_vec(), vec![latency.samples.to_string()]].concat()
}

/// A line for each trial.
pub fn csv(outcome: &Outcome) -> String {
    let mut text = "trial,intended_pps,offered_pps,intended_s,intended,offered,forwarded,lost,late,misdelivered,duplicated,reordered,corrupt,\
                    generator_dropped,changes,loss_ratio,latency_min_us,latency_p50_us,latency_p99_us,latency_max_us\n"
        .to_owned();
    for (number, trial) in (1..).zip(&outcome.trials) {
        let latency = trial.latency.unwrap_or_default();
        let _ = writeln!(
            text,
            "{number},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{}",
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
            trial.changes,
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
    fn losses_are_told_by_cause_and_queues_where_there_are_several() {
        let trial = Trial {
            intended: 1_010,
            offered: 1_000,
            forwarded: 970,
            lost: 20,
            late: 5,
            generator_dropped: 3,
            misdelivered: 7,
            reordered: 2,
            ..Trial::default()
        };
        let queue = |queue, received| QueueFigures {
            port: "p0".into(),
            queue,
            core: Some(queue + 4),
            received,
            ..QueueFigures::default()
        };
        let figures = Figures {
            queues: vec![queue(0, 600), queue(1, 390)],
            outages: vec![Outage { from: 1.5, ms: 20.0, lost: 15 }],
            ..Figures::default()
        };
        let text = traffic(&trial, &figures);
        let has = |words: &[&str]| text.lines().any(|line| line.split_whitespace().eq(words.iter().copied()));
        for line in [
            &["intended,", "not", "sent", "10", "1.000"][..],
            &["sent", "1000", "100.000"],
            &["forwarded", "970", "97.000"],
            &["lost", "20", "2.000"],
            &["of", "these", "too", "late", "5", "0.500"],
            &["of", "these", "dropped", "by", "the", "generator", "3", "0.300"],
            &["misdelivered", "7", "0.700"],
            &["reordered", "2", "0.200"],
            &["1.500", "20.0", "15"],
            &["p0", "1", "5", "0", "390", "0", "0"],
        ] {
            assert!(has(line), "{line:?}: {text}");
        }
        assert!(!text.contains("corrupt"), "{text}");
    }

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
        let text = whole(&outcome);
        assert!(text.contains("NDR                  0   14880952  7.619G"), "{text}");
        assert!(text.contains("10G") && text.contains("none"), "{text}");
        let csv = csv(&outcome);
        let counts: Vec<usize> = csv.lines().map(|line| line.split(',').count()).collect();
        assert_eq!(counts, [20; 3]);
        assert!(csv.contains("\n2,1000000,"));
    }
}
