//! The longest burst of back-to-back frames without loss (RFC 9004), and what follows from it for the device's buffer.
//!
//! Each repetition is a binary search over the length of a burst at line rate (§5.4). The mean over repetitions is the back-to-back
//! value; with the device's throughput it gives the buffer's time without the part that is forwarded meanwhile (§5.4, corrected buffer
//! time).

use super::{Answer, Ask, Search};

#[derive(Debug, Clone, Copy)]
pub struct Goal {
    /// Packets/s of a burst: the line's.
    pub pps: f64,
    /// Longest burst, packets.
    pub longest: u64,
    pub repeat: usize,
    /// Packets by which a result may be too small.
    pub resolution: u64,
}

#[derive(Debug)]
pub struct BackToBack {
    goal: Goal,
    passed: u64,
    failed: u64,
    /// Packets of the longest burst of each repetition.
    pub lengths: Vec<u64>,
}

impl BackToBack {
    pub fn new(goal: Goal) -> Self {
        Self { goal, passed: 0, failed: goal.longest + 1, lengths: Vec::new() }
    }

    pub fn mean(&self) -> f64 {
        self.lengths.iter().sum::<u64>() as f64 / self.lengths.len().max(1) as f64
    }

    pub fn deviation(&self) -> f64 {
        let mean = self.mean();
        let squares: f64 = self.lengths.iter().map(|&length| (length as f64 - mean).powi(2)).sum();
        (squares / (self.lengths.len() as f64 - 1.0).max(1.0)).sqrt()
    }

    /// Whether the longest burst of all never lost a packet: then the result says nothing about the buffer.
    pub fn is_unbounded(&self) -> bool {
        self.lengths.iter().all(|&length| length == self.goal.longest)
    }

    /// Seconds that the buffer holds at line rate, and the same without what a device of this throughput forwards meanwhile.
    pub fn buffer_s(&self, throughput: f64) -> (f64, f64) {
        let implied = self.mean() / self.goal.pps;
        (implied, implied * (1.0 - throughput / self.goal.pps).max(0.0))
    }
}

impl Search for BackToBack {
    fn ask(&mut self) -> Option<Ask> {
        if self.lengths.len() >= self.goal.repeat {
            return None;
        }
        let first = self.passed == 0 && self.failed > self.goal.longest;
        let count = if first { self.goal.longest } else { self.passed.midpoint(self.failed) }.max(1);
        Some(Ask { pps: self.goal.pps, seconds: count as f64 / self.goal.pps, count: Some(count) })
    }

    fn answer(&mut self, answer: Answer) {
        let count = answer.ask.count.unwrap_or(0);
        if answer.loss_ratio == 0.0 {
            self.passed = count
        } else {
            self.failed = count
        }
        if self.failed - self.passed <= self.goal.resolution.max(1) || self.passed >= self.goal.longest {
            self.lengths.push(self.passed);
            (self.passed, self.failed) = (0, self.goal.longest + 1);
        }
    }

    fn left(&self) -> Option<usize> {
        let each = (self.goal.longest as f64 / self.goal.resolution.max(1) as f64).log2().ceil() as usize;
        Some((self.goal.repeat - self.lengths.len().min(self.goal.repeat)) * each)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A device with a buffer that it empties at its own rate: a burst of n passes if n (1 - rate / line) fits.
    fn run(buffer: f64, rate: f64) -> BackToBack {
        let goal = Goal { pps: 1e7, longest: 100_000, repeat: 5, resolution: 1 };
        let mut search = BackToBack::new(goal);
        while let Some(ask) = search.ask() {
            let count = ask.count.unwrap() as f64;
            let loss_ratio = if count * (1.0 - rate / ask.pps) <= buffer { 0.0 } else { 0.5 };
            search.answer(Answer { ask, loss_ratio, seconds: ask.seconds });
        }
        search
    }

    #[test]
    fn burst_and_buffer_time_of_a_known_device() {
        let search = run(1024.0, 5e6);
        assert_eq!(search.lengths, [2048; 5]);
        assert_eq!(search.deviation(), 0.0);
        let (implied, corrected) = search.buffer_s(5e6);
        assert!((implied - 2048.0 / 1e7).abs() < 1e-12 && (corrected - 1024.0 / 1e7).abs() < 1e-12);
    }

    #[test]
    fn device_as_fast_as_the_line_has_no_bound_and_one_without_buffer_passes_nothing() {
        assert!(run(10.0, 1e7).is_unbounded());
        assert_eq!(run(0.0, 5e6).lengths, [0; 5]);
    }
}
