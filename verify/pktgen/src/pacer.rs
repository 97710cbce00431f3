//! Open loop: when the next packets are due, whatever the router does with those before.
//!
//! Packets leave in bursts of a chosen size, each when the last of its packets is due, so that the count follows the intended rate without
//! a rounding error that adds up. A machine that was away catches up, at most a quarter faster than the rate: a router's queue must not
//! fill because the generator was late. What it is behind by more than [`BEHIND_NS`] is not sent at all, and counted: then the offered load
//! is not the intended load (RFC 2285 §3.5).

/// Most time to catch up.
const BEHIND_NS: f64 = 100_000_000.0;
/// Longest time between two turns of the loop that does not count as late.
const TURN_NS: f64 = 250_000.0;
/// Packets that fill no queue, and may always be caught up at once.
const AT_ONCE: f64 = 64.0;
/// How much faster than the rate it catches up.
const FASTER: f64 = 1.25;
/// How long after its end a trial may still send what is due.
const GRACE_NS: u64 = 5_000_000;

/// Which load is intended.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Load {
    /// Packets/s over all ports.
    pub pps: f64,
    /// Packets that leave together.
    pub burst: u64,
    /// None: until it is stopped.
    pub duration_ns: Option<u64>,
    /// Exactly so many packets, as fast as the rate says. For back-to-back bursts.
    pub count: Option<u64>,
    /// A window limits packets in flight, so that catching up at once floods nothing.
    pub windowed: bool,
}

#[derive(Debug, Clone)]
pub struct Pacer {
    per_ns: f64,
    burst: u64,
    total: Option<u64>,
    start_ns: u64,
    end_ns: Option<u64>,
    /// Packets asked for by now.
    issued: u64,
    /// Packets that were not sent because the machine was late.
    missed: u64,
    last_ns: u64,
    /// Packets that may leave now without being faster than [`FASTER`].
    tokens: f64,
    windowed: bool,
    late_max_ns: u64,
}

impl Pacer {
    pub fn new(load: Load, now_ns: u64) -> Self {
        let per_ns = load.pps / 1e9;
        let total = load.count.or(load.duration_ns.map(|ns| (per_ns * ns as f64).round() as u64));
        Self {
            per_ns,
            burst: load.burst.max(1),
            total,
            start_ns: now_ns,
            end_ns: total.map(|total| now_ns + (total as f64 / per_ns).ceil() as u64),
            issued: 0,
            missed: 0,
            last_ns: now_ns,
            tokens: 0.0,
            windowed: load.windowed,
            late_max_ns: 0,
        }
    }

    /// How many packets are to leave now. The caller reports with [`Pacer::sent`] what it sent.
    #[inline]
    pub fn due(&mut self, now_ns: u64) -> u64 {
        let elapsed = now_ns.saturating_sub(self.start_ns) as f64;
        let mut intended = (elapsed * self.per_ns) as u64;
        let over = self.end_ns.is_some_and(|end_ns| now_ns >= end_ns);
        if let Some(total) = self.total {
            intended = intended.min(total);
            if over {
                intended = total;
            }
        }
        let mut behind = intended.saturating_sub(self.issued + self.missed);
        let most = (BEHIND_NS * self.per_ns) as u64 + self.burst;
        if behind > most {
            self.missed += behind - most;
            behind = most;
        }
        if self.end_ns.is_some_and(|end_ns| now_ns >= end_ns + GRACE_NS) {
            self.missed += behind;
            return 0;
        }
        let passed = now_ns.saturating_sub(self.last_ns) as f64;
        self.last_ns = now_ns;
        let most_tokens = (TURN_NS * self.per_ns * FASTER).max(AT_ONCE) + self.burst as f64;
        self.tokens = (self.tokens + passed * self.per_ns * FASTER).min(most_tokens);
        if behind == 0 {
            // Time in which nothing was due gives no right to be faster afterwards.
            self.tokens = self.tokens.min(self.burst as f64);
            return 0;
        }
        let late_ns = ((behind.saturating_sub(self.burst)) as f64 / self.per_ns) as u64;
        self.late_max_ns = self.late_max_ns.max(late_ns);
        let allowed = if self.windowed { behind } else { behind.min((self.tokens + 1e-6) as u64) };
        // The last packets of a trial may be less than a burst.
        if over { allowed } else { allowed / self.burst * self.burst }
    }

    #[inline]
    pub fn sent(&mut self, packets: u64) {
        self.issued += packets;
        self.tokens = (self.tokens - packets as f64).max(0.0);
    }

    /// Nothing more will be due.
    pub fn is_over(&self) -> bool {
        self.total.is_some_and(|total| self.issued + self.missed >= total)
    }

    /// Packets intended in all, or by now where there is no end.
    pub fn intended(&self, now_ns: u64) -> u64 {
        self.total.unwrap_or((now_ns.saturating_sub(self.start_ns) as f64 * self.per_ns) as u64)
    }

    /// Stops as if this were the intended end.
    pub fn stop(&mut self, now_ns: u64) {
        let by_now = (now_ns.saturating_sub(self.start_ns) as f64 * self.per_ns) as u64;
        let total = self.total.map_or(by_now, |total| total.min(by_now));
        // What was due within the last burst counts for neither side.
        self.total = Some(total.saturating_sub(self.burst).max(self.issued + self.missed));
        self.missed = self.missed.max(self.total.unwrap_or(0).saturating_sub(self.issued));
        self.end_ns = Some(now_ns);
    }

    /// The longest time that a burst was late.
    pub fn late_max_ns(&self) -> u64 {
        self.late_max_ns
    }

    /// When something is due next at the earliest.
    pub fn next_ns(&self) -> u64 {
        let packets = self.issued + self.missed + self.burst;
        let due_ns = self.start_ns + (packets as f64 / self.per_ns) as u64;
        self.end_ns.map_or(due_ns, |end_ns| due_ns.min(end_ns))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;

    fn load(pps: f64, burst: u64) -> Load {
        Load { pps, burst, duration_ns: Some(S), count: None, windowed: false }
    }

    /// Runs with a turn of the loop every `step` ns, except for a pause; returns what was sent, by turn.
    fn run(load: Load, step: u64, pause: std::ops::Range<u64>) -> (Pacer, Vec<(u64, u64)>) {
        let mut pacer = Pacer::new(load, 0);
        let (mut now, mut sent) = (0, Vec::new());
        while !pacer.is_over() {
            now += step;
            if pause.contains(&now) {
                continue;
            }
            let due = pacer.due(now);
            if due > 0 {
                sent.push((now, due));
                pacer.sent(due);
            }
        }
        (pacer, sent)
    }

    fn total(sent: &[(u64, u64)]) -> u64 {
        sent.iter().map(|(_, count)| count).sum()
    }

    #[test]
    fn sends_the_intended_number_of_packets_in_bursts() {
        for pps in [1.0, 999.0, 33_333.0, 1e6, 14_880_952.0] {
            let (pacer, sent) = run(load(pps, 32), 1_000, 0..0);
            assert_eq!((total(&sent), pacer.missed), (pps as u64, 0), "{pps}");
            let whole = sent.iter().filter(|(_, count)| count % 32 == 0).count();
            assert!(whole + 1 >= sent.len(), "all but the last are whole bursts");
        }
    }

    #[test]
    fn count_follows_the_rate_at_all_times() {
        let (_, sent) = run(load(1e6, 16), 700, 0..0);
        let mut count = 0;
        for (now, packets) in sent {
            count += packets;
            let intended = now as f64 / 1e3;
            assert!((intended - count as f64) > -1.0 && intended - (count as f64) < 33.0, "{now}");
        }
    }

    #[test]
    fn short_pause_is_caught_up_without_a_flood() {
        let (pacer, sent) = run(load(1e6, 1), 1_000, S / 2..S / 2 + 50_000_000);
        assert_eq!((total(&sent), pacer.missed), (1_000_000, 0));
        // 50 ms are caught up within 200 ms, not at once.
        let at = |from: u64, to: u64| {
            total(&sent.iter().copied().filter(|(t, _)| (from..to).contains(t)).collect::<Vec<_>>())
        };
        let after = S / 2 + 51_000_000;
        let in_ten_ms = at(after, after + 10_000_000);
        assert!((12_400..=12_900).contains(&in_ten_ms), "{in_ten_ms} in 10 ms, after the first turn");
    }

    #[test]
    fn closed_loop_catches_up_at_once() {
        let windowed = Load { windowed: true, ..load(1e6, 1) };
        let (_, sent) = run(windowed, 1_000, S / 2..S / 2 + 50_000_000);
        assert_eq!(sent.iter().map(|(_, count)| *count).max(), Some(50_001), "the window is for the ledger");
    }

    #[test]
    fn long_pause_is_missed_and_counted() {
        let (pacer, sent) = run(load(1e6, 1), 1_000, S / 4..S / 2);
        assert_eq!(total(&sent) + pacer.missed, 1_000_000);
        assert!((145_000..=150_001).contains(&pacer.missed), "{} of 250 ms", pacer.missed);
        assert!(pacer.late_max_ns() >= 99_000_000);
    }

    #[test]
    fn machine_that_is_too_slow_ends_in_time_and_says_what_it_did_not_send() {
        let mut pacer = Pacer::new(load(1e6, 1), 0);
        let (mut now, mut sent) = (0, 0);
        while !pacer.is_over() {
            now += 10_000;
            let due = pacer.due(now).min(5);
            pacer.sent(due);
            sent += due;
        }
        assert!(now <= S + 2 * GRACE_NS);
        assert!((490_000..=510_000).contains(&sent), "{sent}");
        assert_eq!(sent + pacer.missed, 1_000_000);
    }

    #[test]
    fn a_stop_before_the_end_misses_nothing() {
        let mut pacer = Pacer::new(load(1e6, 32), 0);
        for turn in 1..=1000 {
            let due = pacer.due(turn * 1000);
            pacer.sent(due);
        }
        pacer.stop(1_000_000);
        assert!(pacer.is_over());
        assert_eq!(pacer.missed, 0);
    }
}
