//! Entries that nobody has proven: packets to addresses that may not exist, and stations that spoke but never answered.
//!
//! A scan of a subnet and a flood of made-up senders cause such entries at will. Each port has room for a number of them, of which the
//! newest are kept; a station that answers one request is proven and counts no more.

use std::collections::{HashMap, VecDeque};

use fibcast_fib::PortId;

use super::Key;

/// Most unproven entries of a port.
pub const UNPROVEN_LIMIT: usize = 4_096;

/// By port: keys of unproven entries, oldest first. Some may be proven or deleted since.
#[derive(Debug, Default)]
pub(super) struct Unproven(HashMap<PortId, VecDeque<Key>>);

impl Unproven {
    /// An entry was created.
    pub fn note(&mut self, key: Key) {
        self.0.entry(key.0).or_default().push_back(key);
    }

    /// Whether a port has its share. `unproven` tells whether a key still has an unproven entry.
    pub fn is_full(&mut self, port: PortId, unproven: impl Fn(&Key) -> bool) -> bool {
        let Some(keys) = self.0.get_mut(&port).filter(|keys| keys.len() >= UNPROVEN_LIMIT) else {
            return false;
        };
        // Proven keys are dropped from the front at first, and from everywhere once they are many.
        while keys.front().is_some_and(|key| !unproven(key)) {
            keys.pop_front();
        }
        if keys.len() >= 2 * UNPROVEN_LIMIT {
            keys.retain(&unproven);
        }
        keys.len() >= UNPROVEN_LIMIT
    }

    /// Takes the oldest unproven key of a port.
    pub fn oldest(&mut self, port: PortId, unproven: impl Fn(&Key) -> bool) -> Option<Key> {
        let keys = self.0.get_mut(&port)?;
        while let Some(key) = keys.pop_front() {
            if unproven(&key) {
                return Some(key);
            }
        }
        None
    }

    /// Takes the oldest unproven key of the port that has most of them.
    pub fn oldest_of_largest(&mut self, unproven: impl Fn(&Key) -> bool) -> Option<Key> {
        self.0.values_mut().for_each(|keys| keys.retain(&unproven));
        let port = *self.0.iter().max_by_key(|(_, keys)| keys.len())?.0;
        self.oldest(port, unproven)
    }
}
