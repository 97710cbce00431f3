//! Which serial of one table another table had reached at a serial of its own.
//!
//! A client notes at each commit which serial of the server's table its own table then equals; a view notes which serial of the whole table it
//! covers; a route server notes which serial of the forwarding table contains an origin's changes. So "installed up to here" can be said in
//! the serials of whoever is told.

use std::collections::VecDeque;

/// Most pairs. Older ones are thinned out first: a reader that is behind learns a little less than it could, never too much.
const LIMIT: usize = 1024;

/// Pairs of serials, both growing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SerialMap(VecDeque<(u64, u64)>);

impl SerialMap {
    /// Notes that what is at `from` in the first table is at `to` in the second.
    pub fn push(&mut self, from: u64, to: u64) {
        match self.0.back_mut() {
            Some((last, reached)) if *last >= from => *reached = to.max(*reached),
            Some((_, reached)) if *reached == to => {}
            _ => {
                self.0.push_back((from, to));
                if self.0.len() > LIMIT {
                    self.thin();
                }
            }
        }
    }

    /// The serial of the second table that is reached with `from` of the first; none if that is older than all pairs.
    pub fn get(&self, from: u64) -> Option<u64> {
        let after = self.0.partition_point(|(serial, _)| *serial <= from);
        after.checked_sub(1).and_then(|at| self.0.get(at)).map(|(_, to)| *to)
    }

    /// Forgets all pairs: one of the tables was replaced.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Keeps every second pair of the older half.
    fn thin(&mut self) {
        let mut at = 0;
        self.0.retain(|_| {
            at += 1;
            at > LIMIT / 2 || at % 2 == 0
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_serial_between_two_pairs_means_the_earlier_one() {
        let mut map = SerialMap::default();
        assert_eq!(map.get(5), None);
        map.push(3, 30);
        map.push(7, 70);
        assert_eq!(
            [2, 3, 6, 7, 99].map(|from| map.get(from)),
            [None, Some(30), Some(30), Some(70), Some(70)]
        );
        // The other table moved on without a change here.
        map.push(7, 75);
        assert_eq!(map.get(7), Some(75));
        map.clear();
        assert_eq!(map.get(7), None);
    }

    #[test]
    fn a_long_map_never_says_too_much_and_knows_the_newest_exactly() {
        let mut map = SerialMap::default();
        for serial in 1..100_000 {
            map.push(serial, serial);
        }
        assert!(map.0.len() <= LIMIT);
        assert_eq!(map.get(99_999), Some(99_999));
        assert_eq!(map.get(99_700), Some(99_700), "half of the pairs are exact");
        for serial in 1..100_000 {
            assert!(map.get(serial).is_none_or(|to| to <= serial));
        }
    }
}
