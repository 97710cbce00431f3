//! Devices whose answer is known, for tests of searches.

use super::{Answer, Ask, Search};

/// Loses what exceeds its capacity, and a part of the rest.
#[derive(Debug, Clone)]
pub struct Device {
    pub capacity: f64,
    /// Loss ratio at any load.
    pub floor: f64,
    /// Of each so many trials one loses a packet in a thousand.
    pub bad_every: Option<usize>,
    pub trials: Vec<Answer>,
}

impl Device {
    pub fn new(capacity: f64) -> Self {
        Self { capacity, floor: 0.0, bad_every: None, trials: Vec::new() }
    }

    fn measure(&mut self, ask: Ask) -> Answer {
        let mut loss_ratio = (1.0 - self.capacity / ask.pps).max(self.floor);
        if self.bad_every.is_some_and(|every| self.trials.len().is_multiple_of(every)) {
            loss_ratio = loss_ratio.max(0.001);
        }
        let answer = Answer { ask, loss_ratio, seconds: ask.seconds };
        self.trials.push(answer);
        answer
    }

    /// Runs a search to its end.
    pub fn run(&mut self, search: &mut impl Search) {
        while let Some(ask) = search.ask() {
            let answer = self.measure(ask);
            search.answer(answer);
            assert!(self.trials.len() < 2_000, "does not end");
        }
    }

    pub fn seconds(&self) -> f64 {
        self.trials.iter().map(|trial| trial.seconds).sum()
    }
}
