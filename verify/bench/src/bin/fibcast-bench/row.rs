//! A measured figure beside its peer's, and how it is shown: a table for people, a line of JSON for programs.

use std::io::{self, Write};

use serde::Serialize;

/// Whether more or less of a figure is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Better {
    More,
    Less,
}

/// One figure. Serialised as it is printed with `--json`.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    pub bench: &'static str,
    pub metric: String,
    pub value: f64,
    pub unit: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer_value: Option<f64>,
    /// How many times better than the peer: above 1 is better, also where less is better.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ratio: Option<f64>,
}

impl Row {
    /// A figure without a peer.
    pub fn new(bench: &'static str, metric: &str, value: f64, unit: &'static str) -> Row {
        let metric = metric.to_owned();
        Row { bench, metric, value, unit, peer: None, peer_value: None, ratio: None }
    }

    /// The same figure beside this peer's.
    pub fn beside(mut self, peer: &str, value: f64, better: Better) -> Row {
        let ratio = match better {
            Better::More => self.value / value,
            Better::Less => value / self.value,
        };
        self.peer = Some(peer.to_owned());
        self.peer_value = Some(value);
        self.ratio = ratio.is_finite().then_some(ratio);
        self
    }
}

/// Prints rows as they come, so that a long run shows how far it is.
#[derive(Debug)]
pub struct Report {
    json: bool,
    bench: &'static str,
}

impl Report {
    /// Rows as JSON or as a table.
    pub fn new(json: bool) -> Report {
        Report { json, bench: "" }
    }

    /// Shows rows.
    pub fn rows(&mut self, rows: &[Row]) -> io::Result<()> {
        let mut out = io::stdout().lock();
        for row in rows {
            if self.json {
                serde_json::to_writer(&mut out, row)?;
                writeln!(out)?;
                continue;
            }
            if row.bench != self.bench {
                self.bench = row.bench;
                writeln!(out, "\n{}", row.bench)?;
                let heads = ["metric", "value", "unit", "peer's", "ratio", "peer"];
                let [metric, value, unit, peer_value, ratio, peer] = heads;
                writeln!(out, "  {metric:<32} {value:>12}  {unit:<9} {peer_value:>12} {ratio:>8}  {peer}")?;
            }
            let peer_value = row.peer_value.map(number).unwrap_or_default();
            let ratio = row.ratio.map(|ratio| format!("{ratio:.2} x")).unwrap_or_default();
            let line = format!(
                "  {:<32} {:>12}  {:<9} {peer_value:>12} {ratio:>8}  {}",
                row.metric,
                number(row.value),
                row.unit,
                row.peer.as_deref().unwrap_or_default()
            );
            writeln!(out, "{}", line.trim_end())?;
        }
        out.flush()
    }
}

/// Three digits that matter, and no more decimals than that takes.
fn number(value: f64) -> String {
    let decimals = match value.abs() {
        0.0 => 0,
        ..1.0 => 3,
        ..100.0 => 2,
        ..1000.0 => 1,
        _ => 0,
    };
    let digits = format!("{value:.decimals$}");
    if decimals > 0 || digits.len() <= 4 {
        return digits;
    }
    let mut grouped = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) && digits.as_bytes()[at - 1].is_ascii_digit() {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// The middle of some figures; of an even number, the mean of the two in the middle. Not a number where there is none.
pub fn median(mut of: Vec<f64>) -> f64 {
    of.sort_by(f64::total_cmp);
    let middle = of.len() / 2;
    match (of.len() % 2, of.get(middle)) {
        (1, Some(&value)) => value,
        (_, Some(&value)) => (of[middle - 1] + value) / 2.0,
        (_, None) => f64::NAN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_above_one_is_better_whichever_way_the_figure_goes() {
        let row = |value| Row::new("lpm", "ipv4", value, "cycles");
        assert_eq!(row(5.0).beside("rte_fib", 20.0, Better::Less).ratio, Some(4.0));
        assert_eq!(row(5.0).beside("testpmd", 20.0, Better::More).ratio, Some(0.25));
        assert_eq!(row(0.0).beside("nobody", 20.0, Better::Less).ratio, None, "JSON has no infinity");
    }

    #[test]
    fn the_median_of_an_even_number_lies_between_the_middle_two() {
        assert_eq!(median(vec![9.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![9.0, 1.0, 2.0, 4.0]), 3.0);
        assert!(median(Vec::new()).is_nan());
    }

    #[test]
    fn numbers_show_the_digits_that_matter() {
        let shown: Vec<String> = [0.0, 0.1234, 5.678, 123.45, 7390.2, 1_234_567.0].map(number).into();
        assert_eq!(shown, ["0", "0.123", "5.68", "123.5", "7390", "1,234,567"]);
    }

    #[test]
    fn a_line_of_json_has_no_peer_where_there_is_none() {
        let row = Row::new("apply", "build", 150.0, "ms");
        assert_eq!(
            serde_json::to_string(&row).unwrap(),
            r#"{"bench":"apply","metric":"build","value":150.0,"unit":"ms"}"#
        );
    }
}
