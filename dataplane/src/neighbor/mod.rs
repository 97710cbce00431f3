//! Neighbor tables: the MAC address of an address on a link, by ARP (RFC 826) and ND (RFC 4861).
//!
//! [`Table`] is a state machine without sockets and clocks: its inputs are what was heard and the time, its outputs are requests and
//! changes. The control thread owns it. [`entry`] is one neighbor with its states, [`evidence`] what a message says, [`unproven`] bounds
//! what strangers can cause, and [`announce`] tells the link about the router's own addresses.
//!
//! An entry stays usable while it is probed; only [`PROBES`] unanswered requests end it. An entry that a next hop needs is never deleted,
//! but requested with growing pauses. Any other is probed only if packets used it since its last confirmation; otherwise it becomes stale,
//! and is deleted after [`STALE_TIME`] without use.

pub mod announce;
pub mod entry;
pub mod evidence;
mod unproven;

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use fibcast_fib::PortId;

use crate::packet::ethernet::Mac;
use entry::Due;
pub use entry::{Entry, PROBES, RETRY, STALE_TIME, State};
pub use evidence::Evidence;
use unproven::Unproven;

/// How long the requests of a port that has no room for them wait.
const PUT_OFF: Duration = Duration::from_millis(10);

/// An address on a link.
pub type Key = (PortId, IpAddr);

/// Output of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Send a request: to all stations, or to the neighbor itself if its MAC address is known.
    Ask {
        /// Port and address.
        key: Key,
        /// Its last MAC address.
        known: Option<Mac>,
    },
    /// The neighbor's MAC address changed; none if it became unknown.
    Changed {
        /// Port and address.
        key: Key,
        /// The new MAC address.
        mac: Option<Mac>,
    },
}

/// The neighbors of all ports.
#[derive(Debug)]
pub struct Table {
    entries: HashMap<Key, Entry>,
    /// Due times of all entries that are not static.
    due: BTreeSet<(Instant, Key)>,
    unproven: Unproven,
    /// Entries that neither a next hop nor the configuration needs.
    learned: usize,
    limit: usize,
    refused: u64,
}

impl Table {
    /// With at most `limit` entries that packets and other stations cause, and `unproven` of each port that nobody has proven. Next hops
    /// and static entries do not count.
    pub fn new(limit: usize, unproven: usize) -> Table {
        Table {
            entries: HashMap::new(),
            due: BTreeSet::new(),
            unproven: Unproven::new(unproven),
            learned: 0,
            limit,
            refused: 0,
        }
    }

    /// Entries that packets and other stations caused, and the bound.
    pub fn use_of_limit(&self) -> (usize, usize) {
        (self.limit, self.learned)
    }

    /// The bound of a port's unproven entries, and how many the port with most of them has.
    pub fn use_of_unproven_limit(&self) -> (usize, usize) {
        self.unproven.use_of_limit()
    }

    /// Adds a static neighbor.
    pub fn set_static(&mut self, key: Key, mac: Mac, now: Instant, actions: &mut Vec<Action>) {
        self.remove(key);
        self.entries.insert(key, Entry::fixed(mac, now));
        actions.push(Action::Changed { key, mac: Some(mac) });
    }

    /// A next hop needs this neighbor: it is requested at once and for as long as it is needed.
    pub fn need(&mut self, key: Key, now: Instant) {
        match self.entries.get_mut(&key) {
            Some(entry) => {
                if !std::mem::replace(&mut entry.needed, true) {
                    self.learned = self.learned.saturating_sub(1);
                    if let Some(number) = entry.unproven.take() {
                        self.unproven.remove(key.0, number);
                    }
                    if matches!(entry.state, State::Stale | State::Incomplete) {
                        self.change(key, |entry| _ = entry.mark_used(now));
                    }
                }
            }
            None => self.insert(key, Entry::incomplete(true, false, now)),
        }
    }

    /// No next hop needs it any more; it stays as long as it answers.
    pub fn release(&mut self, key: Key) {
        if let Some(entry) = self.entries.get_mut(&key).filter(|entry| entry.state != State::Static)
            && std::mem::replace(&mut entry.needed, false)
        {
            self.learned += 1;
        }
    }

    /// Removes the static property of a neighbor; false if it had none. It is resolved like any other from now on, if `needed`.
    pub fn remove_static(&mut self, key: Key, needed: bool, now: Instant, actions: &mut Vec<Action>) -> bool {
        if self.entries.get(&key).is_none_or(|entry| entry.state != State::Static) {
            return false;
        }
        self.remove(key);
        actions.push(Action::Changed { key, mac: None });
        if needed {
            self.need(key, now);
        }
        true
    }

    /// A packet needs this neighbor.
    pub fn missed(&mut self, key: Key, now: Instant, actions: &mut Vec<Action>) {
        if !self.entries.contains_key(&key) && self.make_room(key.0, actions) {
            self.create(key, Entry::incomplete(false, true, now));
        }
    }

    /// Records which entries packets used. A stale one is probed soon.
    pub fn mark_used(&mut self, marks: impl Fn(&Key) -> bool, now: Instant) {
        let idle = |entry: &Entry| matches!(entry.state, State::Reachable | State::Stale) && !entry.used;
        let used = self.entries.iter().filter(|(key, entry)| idle(entry) && !entry.needed && marks(key));
        for key in used.map(|(key, _)| *key).collect::<Vec<_>>() {
            self.change(key, |entry| _ = entry.mark_used(now));
        }
    }

    /// A station announced its address.
    pub fn heard(&mut self, key: Key, evidence: Evidence, now: Instant, actions: &mut Vec<Action>) {
        if evidence.mac.is_some_and(|mac| !mac.is_unicast()) {
            return;
        }
        if !self.entries.contains_key(&key) {
            if !evidence.creates || evidence.mac.is_none() || !self.make_room(key.0, actions) {
                return;
            }
            self.create(key, Entry::incomplete(false, false, now));
        }
        let mut changed = None;
        let mut proven = None;
        self.change(key, |entry| {
            changed = entry.learn(evidence, now).then_some(entry.mac);
            proven = entry.unproven.take_if(|_| entry.state == State::Reachable);
        });
        if let Some(number) = proven {
            self.unproven.remove(key.0, number);
        }
        actions.extend(changed.map(|mac| Action::Changed { key, mac }));
    }

    /// What is due by now, at most `limit` requests; the rest comes with the next call. `room` takes the room for a request of a port, if there
    /// is one; the requests of a port without wait, and those of others do not.
    pub fn poll(
        &mut self,
        now: Instant,
        limit: usize,
        mut room: impl FnMut(PortId) -> bool,
        actions: &mut Vec<Action>,
    ) {
        let mut asked = 0;
        while asked < limit
            && let Some(&(due, key)) = self.due.first()
            && due <= now
        {
            if !room(key.0) {
                self.change(key, |entry| entry.due = now + PUT_OFF);
                continue;
            }
            let mut step = Due::Delete;
            let mut known = None;
            self.change(key, |entry| {
                known = entry.mac;
                step = entry.advance(now);
            });
            match step {
                Due::Wait => {}
                Due::Ask => actions.push(Action::Ask { key, known }),
                Due::LoseAndAsk => {
                    actions.push(Action::Changed { key, mac: None });
                    actions.push(Action::Ask { key, known: None });
                }
                Due::Delete => self.delete(key, actions),
            }
            asked += usize::from(matches!(step, Due::Ask | Due::LoseAndAsk));
        }
    }

    /// Probes the selected neighbors at once; they stay usable.
    pub fn probe(&mut self, which: impl Fn(&Key) -> bool, now: Instant) {
        for key in self.entries.keys().filter(|key| which(key)).copied().collect::<Vec<_>>() {
            self.change(key, |entry| _ = entry.probe(now));
        }
    }

    /// When [`poll`](Self::poll) has to be called next.
    pub fn next_due(&self) -> Option<Instant> {
        self.due.first().map(|(due, _)| *due)
    }

    /// The entry of a neighbor.
    pub fn get(&self, key: &Key) -> Option<&Entry> {
        self.entries.get(key)
    }

    /// All entries, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = (&Key, &Entry)> {
        self.entries.iter()
    }

    /// Entries that were refused, or gave way to others, because of a limit.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// Whether a port has room for one more entry that is not proven. The oldest unproven ones give way: first of the same port, if that
    /// has its share, so that a flood on one port costs the others nothing.
    fn make_room(&mut self, port: PortId, actions: &mut Vec<Action>) -> bool {
        let oldest = if self.unproven.is_full(port) {
            self.unproven.oldest(port)
        } else if self.learned >= self.limit {
            self.unproven.oldest_of_largest()
        } else {
            return true;
        };
        self.refused += 1;
        if let Some(key) = oldest {
            self.delete(key, actions);
        }
        oldest.is_some()
    }

    /// An entry that a packet or another station causes.
    fn create(&mut self, key: Key, mut entry: Entry) {
        self.learned += 1;
        entry.unproven = Some(self.unproven.add(key));
        self.insert(key, entry);
    }

    fn insert(&mut self, key: Key, entry: Entry) {
        self.due.insert((entry.due, key));
        self.entries.insert(key, entry);
    }

    /// Changes an entry and keeps its due time in order.
    fn change(&mut self, key: Key, change: impl FnOnce(&mut Entry)) {
        let Some(entry) = self.entries.get_mut(&key).filter(|entry| entry.state != State::Static) else {
            return;
        };
        let before = entry.due;
        change(entry);
        if entry.due != before {
            self.due.remove(&(before, key));
            self.due.insert((entry.due, key));
        }
    }

    fn remove(&mut self, key: Key) -> Option<Entry> {
        let entry = self.entries.remove(&key)?;
        self.due.remove(&(entry.due, key));
        if let Some(number) = entry.unproven {
            self.unproven.remove(key.0, number);
        }
        if !entry.needed {
            self.learned = self.learned.saturating_sub(1);
        }
        Some(entry)
    }

    fn delete(&mut self, key: Key, actions: &mut Vec<Action>) {
        if self.remove(key).is_some_and(|entry| entry.mac.is_some()) {
            actions.push(Action::Changed { key, mac: None });
        }
    }
}

#[cfg(test)]
mod tests;
