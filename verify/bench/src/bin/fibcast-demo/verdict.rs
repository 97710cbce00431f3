//! What was seen, as a table, and whether it is what fibcast promises.

use std::fmt::Write;

use crate::generator::Figures;

/// The figures of a run.
#[derive(Debug, Default)]
pub struct Seen {
    /// Start of the programs to a full and equal table in both servers and the NIC host, in seconds.
    pub table_s: f64,
    /// Start of the programs to the first packet through the last route, in seconds.
    pub last_route_s: Option<f64>,
    /// Routes in the table.
    pub routes: u64,
    /// Route changes that the NIC host applied.
    pub changes: u64,
    /// What the generator counted.
    pub packets: Figures,
    /// Packets per second over the counted run.
    pub mean_pps: f64,
    /// Packets that the dataplane says it dropped, by reason. The generator's first probes, sent before the table was there, are
    /// among them; packets that count and were dropped would be lost as well.
    pub dropped: Vec<(String, u64)>,
    /// SIGKILL of the primary to the secondary active, in milliseconds.
    pub takeover_ms: Option<f64>,
    /// The part of it after the NIC host noticed, by its own clock; the rest is the kernel's and this program's.
    pub noticed_ms: Option<f64>,
    /// Longest time for that which passes; none: any.
    pub takeover_limit_ms: Option<f64>,
    /// Routes copied on that failover.
    pub copied: Option<u64>,
    /// Routes in which the servers' tables differed at that moment.
    pub differing: Option<u64>,
    /// The NIC host went back to the primary after its return.
    pub failed_back: bool,
    /// Name and digest of each copy at the end.
    pub digests: Vec<(&'static str, String)>,
    /// Name and resident memory of each node in bytes, at the end.
    pub memory: Vec<(&'static str, u64)>,
}

impl Seen {
    /// What is not as promised, one line each.
    pub fn failures(&self) -> Vec<String> {
        let mut failures = Vec::new();
        let mut must = |holds: bool, what: String| {
            if !holds {
                failures.push(what);
            }
        };
        let packets = &self.packets;
        must(packets.received > 0, "no packet was forwarded".into());
        must(packets.lost == 0, format!("{} packets were lost", packets.lost));
        must(packets.misdelivered == 0, format!("{} packets were misdelivered", packets.misdelivered));
        must(packets.duplicated == 0, format!("{} packets came twice", packets.duplicated));
        must(packets.reordered == 0, format!("{} packets came out of order", packets.reordered));
        must(packets.corrupt == 0, format!("{} packets were damaged", packets.corrupt));
        must(self.takeover_ms.is_some(), "the secondary did not take over".into());
        if let (Some(took), Some(limit)) = (self.takeover_ms, self.takeover_limit_ms) {
            must(took <= limit, format!("the secondary took over after {took:.0} ms, not within {limit:.0}"));
        }
        must(self.copied == Some(0), format!("{} routes were copied on failover", self.copied.unwrap_or(0)));
        let first = self.digests.first().map_or("", |(_, digest)| digest.as_str());
        let equal = !first.is_empty() && self.digests.iter().all(|(_, digest)| digest == first);
        must(equal, "the copies of the table are not equal".into());
        failures
    }

    /// The table, with the verdict as its last line.
    pub fn table(&self) -> String {
        let packets = &self.packets;
        let seconds = |value: Option<f64>| value.map_or_else(|| "-".into(), |value| format!("{value:.1} s"));
        let count = |value: Option<u64>| value.map_or_else(|| "-".into(), grouped);
        let mut rows = vec![
            ("routes in the table", grouped(self.routes)),
            ("start to the table in both servers and the NIC host", seconds(Some(self.table_s))),
            ("start to a packet through the last route", seconds(self.last_route_s)),
            ("route changes applied by the NIC host", grouped(self.changes)),
            ("packets sent", format!("{} ({:.0} per second)", grouped(packets.sent), self.mean_pps)),
            ("packets received", grouped(packets.received)),
            ("lost", grouped(packets.lost)),
            ("misdelivered", grouped(packets.misdelivered)),
            ("twice / out of order / damaged", {
                format!("{} / {} / {}", packets.duplicated, packets.reordered, packets.corrupt)
            }),
            ("dropped by the dataplane, probes included", {
                let reasons =
                    self.dropped.iter().map(|(reason, packets)| format!("{} {reason}", grouped(*packets)));
                let reasons: Vec<_> = reasons.collect();
                if reasons.is_empty() { "0".into() } else { reasons.join(", ") }
            }),
            ("latency p50 / p99 / max", {
                format!(
                    "{:.0} / {:.0} / {:.0} µs",
                    packets.latency_p50_us, packets.latency_p99_us, packets.latency_max_us
                )
            }),
            ("kill of the primary to the secondary active", {
                let own = self
                    .noticed_ms
                    .map_or_else(String::new, |ms| format!(", {ms:.1} ms of it by nh-1's clock"));
                self.takeover_ms.map_or_else(|| "-".into(), |ms| format!("{ms:.0} ms{own}"))
            }),
            ("routes copied on failover", count(self.copied)),
            ("routes that differed on failover", count(self.differing)),
            ("back to the primary after its return", if self.failed_back { "yes" } else { "no" }.into()),
        ];
        for (name, bytes) in &self.memory {
            rows.push((name, format!("{} MiB resident", bytes >> 20)));
        }
        for (name, digest) in &self.digests {
            rows.push((name, format!("digest {digest}")));
        }
        let width = rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
        let mut text = String::from("\n");
        // Writing to a String cannot fail.
        for (name, value) in rows {
            let _ = writeln!(text, "{name:<width$}  {value}");
        }
        let failures = self.failures();
        if failures.is_empty() {
            let _ = writeln!(
                text,
                "\nPASS: nothing lost, nothing misdelivered, all copies equal, the secondary took over"
            );
        } else {
            let _ = writeln!(text, "\nFAIL: {}", failures.join("; "));
        }
        text
    }
}

/// 1062046 as 1,062,046.
pub fn grouped(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Seen {
        Seen {
            packets: Figures { sent: 10, received: 10, ..Figures::default() },
            takeover_ms: Some(20.0),
            copied: Some(0),
            digests: vec![("rs-a", "ab".into()), ("rs-b", "ab".into())],
            ..Seen::default()
        }
    }

    /// One way to break a good run, and a word of the complaint.
    type Breakage = (fn(&mut Seen), &'static str);

    #[test]
    fn a_good_run_passes_and_each_broken_promise_fails_it() {
        assert_eq!(good().failures(), Vec::<String>::new());
        let breakages: [Breakage; 10] = [
            (|seen| seen.packets.received = 0, "forwarded"),
            (|seen| seen.packets.lost = 1, "lost"),
            (|seen| seen.packets.misdelivered = 1, "misdelivered"),
            (|seen| seen.packets.duplicated = 1, "twice"),
            (|seen| seen.packets.reordered = 1, "order"),
            (|seen| seen.packets.corrupt = 1, "damaged"),
            (|seen| seen.takeover_ms = None, "take over"),
            (|seen| seen.takeover_limit_ms = Some(10.0), "within 10"),
            (|seen| seen.copied = Some(7), "copied"),
            (|seen| seen.digests[1].1 = "cd".into(), "equal"),
        ];
        for (broken, word) in breakages {
            let mut seen = good();
            broken(&mut seen);
            let failures = seen.failures();
            assert!(failures.len() == 1 && failures[0].contains(word), "{failures:?}");
            assert!(seen.table().contains("FAIL"));
        }
    }

    #[test]
    fn thousands_are_grouped() {
        assert_eq!([0, 999, 1000, 1_062_046].map(grouped), ["0", "999", "1,000", "1,062,046"]);
    }
}
