//! Reconvergence by route: from the time at which a change is due until a packet comes back by the new next hop (RFC 6412 §3.6.1, route
//! convergence time).
//!
//! Routes that have not converged get every other packet, in turn, so that the time between two packets of one of them bounds the error.

use std::collections::{HashMap, VecDeque};

use hdrhistogram::Histogram;
use serde::Serialize;

/// Most routes that are watched at once; further changes are not.
const WATCHED: usize = 1 << 16;
const LARGEST_NS: u64 = 600_000_000_000;

/// Milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Reconvergence {
    pub routes: u64,
    pub min_ms: f64,
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub max_ms: f64,
    /// Not seen within the time to wait.
    pub missing: u64,
    pub waiting: u64,
}

impl Reconvergence {
    /// Both, with the longer times: what can be said without all of them.
    pub fn slower(&self, other: &Self) -> Self {
        let quickest = match (self.routes, other.routes) {
            (0, _) => other.min_ms,
            (_, 0) => self.min_ms,
            _ => self.min_ms.min(other.min_ms),
        };
        Self {
            routes: self.routes + other.routes,
            min_ms: quickest,
            p50_ms: self.p50_ms.max(other.p50_ms),
            p99_ms: self.p99_ms.max(other.p99_ms),
            max_ms: self.max_ms.max(other.max_ms),
            missing: self.missing + other.missing,
            waiting: self.waiting + other.waiting,
        }
    }
}

#[derive(Debug)]
pub struct Watcher {
    times: Histogram<u64>,
    /// When the change of a flow's route was due.
    due: HashMap<u32, u64>,
    turn: VecDeque<u32>,
    give_up_ns: u64,
    missing: u64,
}

impl Watcher {
    /// A route without a packet by its new next hop after `give_up_ns` is missing.
    pub fn new(give_up_ns: u64) -> Result<Self, hdrhistogram::CreationError> {
        let times = Histogram::new_with_bounds(1_000, LARGEST_NS, 3)?;
        Ok(Self { times, due: HashMap::new(), turn: VecDeque::new(), give_up_ns, missing: 0 })
    }

    /// A change is due. One that replaces another before that has converged starts over.
    pub fn changed(&mut self, flow: u32, due_ns: u64) {
        if self.due.len() < WATCHED && self.due.insert(flow, due_ns).is_none() {
            self.turn.push_back(flow);
        }
    }

    /// The next flow that waits.
    pub fn next(&mut self, now_ns: u64) -> Option<u32> {
        loop {
            let flow = self.turn.pop_front()?;
            match self.due.get(&flow) {
                Some(&due_ns) if now_ns < due_ns.saturating_add(self.give_up_ns) => {
                    self.turn.push_back(flow);
                    return Some(flow);
                }
                Some(_) => {
                    self.due.remove(&flow);
                    self.missing += 1;
                }
                None => {}
            }
        }
    }

    #[inline]
    pub fn is_idle(&self) -> bool {
        self.due.is_empty()
    }

    /// A packet came back by the newest next hop.
    pub fn arrived(&mut self, flow: u32, now_ns: u64) {
        if let Some(&due_ns) = self.due.get(&flow)
            && now_ns >= due_ns
        {
            self.due.remove(&flow);
            self.times.saturating_record(now_ns - due_ns);
        }
    }

    /// Of all of them together.
    pub fn summary<'a>(watchers: impl IntoIterator<Item = &'a Self>) -> Reconvergence {
        let mut watchers = watchers.into_iter();
        let Some(first) = watchers.next() else { return Reconvergence::default() };
        let (mut missing, mut waiting) = (first.missing, first.due.len());
        let mut times = std::borrow::Cow::Borrowed(&first.times);
        for other in watchers {
            // All have the same bounds.
            let _ = times.to_mut().add(&other.times);
            missing += other.missing;
            waiting += other.due.len();
        }
        let ms = |ns: u64| ns as f64 / 1e6;
        Reconvergence {
            routes: times.len(),
            min_ms: ms(times.min()),
            p50_ms: ms(times.value_at_quantile(0.5)),
            p99_ms: ms(times.value_at_quantile(0.99)),
            max_ms: ms(times.max()),
            missing,
            waiting: waiting as u64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_routes_take_turns_until_they_converge_or_are_given_up() {
        const MS: u64 = 1_000_000;
        let mut watcher = Watcher::new(100 * MS).unwrap();
        assert!(watcher.is_idle() && watcher.next(0).is_none());
        (0..3).for_each(|flow| watcher.changed(flow, 10 * MS));
        assert_eq!((0..4).map_while(|_| watcher.next(11 * MS)).collect::<Vec<_>>(), [0, 1, 2, 0]);
        watcher.arrived(1, 9 * MS);
        watcher.arrived(1, 14 * MS);
        watcher.arrived(1, 15 * MS);
        watcher.arrived(7, 15 * MS);
        watcher.changed(2, 50 * MS);
        assert_eq!((watcher.next(112 * MS), watcher.next(112 * MS)), (Some(2), Some(2)), "0 is given up");
        let found = Watcher::summary([&watcher]);
        assert_eq!((found.routes, found.missing, found.waiting), (1, 1, 1));
        assert!((found.max_ms - 4.0).abs() < 0.01, "{found:?}");
        let mut other = Watcher::new(100 * MS).unwrap();
        other.changed(9, 0);
        other.arrived(9, 50 * MS);
        other.changed(3, 0);
        let both = Watcher::summary([&watcher, &other]);
        assert_eq!((both.routes, both.missing, both.waiting), (2, 1, 2));
        assert!((both.min_ms - 4.0).abs() < 0.01 && (both.max_ms - 50.0).abs() < 0.1, "{both:?}");
    }
}
