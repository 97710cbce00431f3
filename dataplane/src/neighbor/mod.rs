//! Neighbor tables: the MAC address of an address on a link, by ARP (RFC 826) and ND (RFC 4861).
//!
//! [`Table`] is a state machine without sockets and clocks: its inputs are what was heard and the time, its outputs are requests and
//! changes. The control thread owns it.
//!
//! A reachable entry stays usable while it is probed; only [`PROBES`] unanswered requests end it. An entry that a next hop needs is never
//! deleted, but requested with growing pauses. Any other is probed only if packets used it since its last answer; otherwise it becomes
//! stale, and is deleted after [`STALE`] without use.
//! answer; else it turns stale, and is forgotten when nobody wanted it for [`STALE`].

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use fibcast_fib::PortId;

use crate::packet::ethernet::Mac;

/// Unanswered requests after which a neighbor is unreachable.
pub const PROBES: u32 = 3;
/// Pause between requests to a neighbor that is unresolved or being probed (RFC 4861 §10, RETRANS_TIMER).
pub const RETRY: Duration = Duration::from_secs(1);
/// Longest pause between requests to a neighbor that does not answer.
pub const LONGEST_RETRY: Duration = Duration::from_secs(30);
/// How long an answer is valid before the neighbor is probed (RFC 4861 §10, REACHABLE_TIME).
pub const REFRESH: Duration = Duration::from_secs(30);
/// How long an unused entry is kept; it stays usable (RFC 4861 §7.3.2, STALE).
pub const STALE: Duration = Duration::from_secs(120);
/// Most unresolved entries of one port that packets caused. The scan of a subnet gets these and no more; the newest are kept.
pub const UNANSWERED_LIMIT: usize = 1_024;
/// Most entries caused by packets and other stations. Next hops and static entries do not count.
pub const LEARNED_LIMIT: usize = 16_384;

/// An address on a link.
pub type Key = (PortId, IpAddr);

/// State of a neighbor (compare RFC 4861 §7.3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// From the configuration: never solicited, never changed.
    Static,
    /// REACHABLE: answered recently.
    Reachable,
    /// PROBE: being probed, still used.
    Probing,
    /// STALE: no packet used it recently. Used by the next packet, and probed then.
    Stale,
    /// INCOMPLETE: being resolved.
    Incomplete,
    /// FAILED: did not answer; requested again with growing pauses.
    Failed,
}

impl State {
    /// The name shown to operators.
    pub fn name(self) -> &'static str {
        match self {
            State::Static => "static",
            State::Reachable => "reachable",
            State::Probing => "probing",
            State::Stale => "stale",
            State::Incomplete => "incomplete",
            State::Failed => "failed",
        }
    }
}

/// A neighbor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Its state.
    pub state: State,
    /// Its MAC address, in the states in which it is used.
    pub mac: Option<Mac>,
    /// A next hop needs it.
    pub needed: bool,
    /// Packets used it since its last answer.
    used: bool,
    questions: u32,
    pause: Duration,
    due: Instant,
}

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
#[derive(Debug, Default)]
pub struct Table {
    entries: HashMap<Key, Entry>,
    learned: usize,
    /// By port: entries caused by packets, oldest first. May include entries that were answered since.
    unanswered: HashMap<PortId, VecDeque<Key>>,
    refused: u64,
    next: Option<Instant>,
}

impl Table {
    /// Adds a static neighbor.
    pub fn set_static(&mut self, key: Key, mac: Mac, now: Instant, actions: &mut Vec<Action>) {
        let entry = Entry {
            state: State::Static,
            mac: Some(mac),
            needed: true,
            used: false,
            questions: 0,
            pause: RETRY,
            due: now,
        };
        if self.entries.insert(key, entry).is_some_and(|before| !before.needed) {
            self.learned = self.learned.saturating_sub(1);
        }
        actions.push(Action::Changed { key, mac: Some(mac) });
    }

    /// A next hop needs this neighbor: it is requested at once and for as long as it is needed.
    pub fn need(&mut self, key: Key, now: Instant) {
        match self.entries.get_mut(&key) {
            Some(entry) => {
                if !std::mem::replace(&mut entry.needed, true) {
                    self.learned = self.learned.saturating_sub(1);
                }
            }
            None => {
                self.entries.insert(key, incomplete(true, now));
                self.wake(now);
            }
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
        self.entries.remove(&key);
        actions.push(Action::Changed { key, mac: None });
        if needed {
            self.need(key, now);
        }
        true
    }

    /// A packet needs this neighbor.
    pub fn missed(&mut self, key: Key, now: Instant) {
        if self.entries.contains_key(&key) {
            return;
        }
        let waiting = self.unanswered.entry(key.0).or_default();
        if waiting.len() >= UNANSWERED_LIMIT
            && let Some(oldest) = waiting.pop_front()
        {
            let unanswered = |entry: &Entry| entry.state == State::Incomplete && !entry.needed;
            if self.entries.get(&oldest).is_some_and(unanswered) {
                self.entries.remove(&oldest);
                self.learned = self.learned.saturating_sub(1);
                self.refused += 1;
            }
        }
        if !self.has_room() {
            return;
        }
        self.unanswered.entry(key.0).or_default().push_back(key);
        self.learned += 1;
        self.entries.insert(key, incomplete(false, now));
        self.wake(now);
    }

    /// Records which entries packets used. A stale one is probed at once.
    pub fn mark_used(&mut self, marks: impl Fn(&Key) -> bool, now: Instant) {
        let mut woken = false;
        for (key, entry) in &mut self.entries {
            let idle = matches!(entry.state, State::Reachable | State::Stale) && !entry.used && !entry.needed;
            if idle && marks(key) {
                entry.used = true;
                if entry.state == State::Stale {
                    entry.due = now;
                    woken = true;
                }
            }
        }
        if woken {
            self.wake(now);
        }
    }

    /// The station itself announced its address: by an answer, or by a request to us. `create`: also add an unknown neighbor (RFC 826: yes,
    /// if the request was for us; RFC 4861 §7.2.5: not by an unsolicited advertisement).
    pub fn heard(&mut self, key: Key, mac: Mac, create: bool, now: Instant, actions: &mut Vec<Action>) {
        if !mac.is_unicast() {
            return;
        }
        if !self.entries.contains_key(&key) {
            if !create || !self.has_room() {
                return;
            }
            self.learned += 1;
            self.entries.insert(key, incomplete(false, now));
        }
        let Some(entry) = self.entries.get_mut(&key) else { return };
        if entry.state == State::Static {
            return;
        }
        if entry.mac != Some(mac) {
            actions.push(Action::Changed { key, mac: Some(mac) });
        }
        *entry = Entry {
            state: State::Reachable,
            mac: Some(mac),
            needed: entry.needed,
            used: false,
            questions: 0,
            pause: RETRY,
            due: now + REFRESH,
        };
        self.wake(now + REFRESH);
    }

    /// What is due by now, at most `limit` requests; the rest comes with the next call.
    pub fn poll(&mut self, now: Instant, limit: usize, actions: &mut Vec<Action>) {
        if self.next.is_none_or(|next| now < next) {
            return;
        }
        let mut asked = 0;
        let mut next = None;
        let mut gone = 0;
        self.entries.retain(|&key, entry| {
            if entry.state == State::Static {
                return true;
            }
            if entry.due <= now && asked < limit {
                let before = actions.len();
                if !advance(key, entry, now, actions) {
                    gone += 1;
                    return false;
                }
                asked += usize::from(actions.len() != before);
            }
            next = Some(next.map_or(entry.due, |next: Instant| next.min(entry.due)));
            true
        });
        self.learned = self.learned.saturating_sub(gone);
        self.next = next;
        if gone != 0 {
            let entries = &self.entries;
            for waiting in self.unanswered.values_mut() {
                waiting.retain(|key| entries.get(key).is_some_and(|entry| entry.state == State::Incomplete));
            }
        }
    }

    /// Probes the selected neighbors at once; they stay usable.
    pub fn probe(&mut self, which: impl Fn(&Key) -> bool, now: Instant) {
        for (_, entry) in self.entries.iter_mut().filter(|(key, _)| which(key)) {
            if matches!(entry.state, State::Reachable | State::Stale | State::Failed) {
                (entry.due, entry.used) = (now, true);
            }
        }
        self.wake(now);
    }

    /// When [`poll`](Self::poll) has to be called next.
    pub fn next_due(&self) -> Option<Instant> {
        self.next
    }

    /// The entry of a neighbor.
    pub fn get(&self, key: &Key) -> Option<&Entry> {
        self.entries.get(key)
    }

    /// All entries, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = (&Key, &Entry)> {
        self.entries.iter()
    }

    /// Entries refused because of [`LEARNED_LIMIT`].
    pub fn refused(&self) -> u64 {
        self.refused
    }

    fn has_room(&mut self) -> bool {
        let room = self.learned < LEARNED_LIMIT;
        self.refused += u64::from(!room);
        room
    }

    fn wake(&mut self, at: Instant) {
        self.next = Some(self.next.map_or(at, |next| next.min(at)));
    }
}

fn incomplete(needed: bool, now: Instant) -> Entry {
    Entry { state: State::Incomplete, mac: None, needed, used: false, questions: 0, pause: RETRY, due: now }
}

/// Next step of an entry whose timer expired; false: delete it.
fn advance(key: Key, entry: &mut Entry, now: Instant, actions: &mut Vec<Action>) -> bool {
    match entry.state {
        State::Static => return true,
        State::Reachable if !entry.needed && !entry.used => {
            (entry.state, entry.due) = (State::Stale, now + STALE);
            return true;
        }
        State::Stale if !entry.needed && !entry.used => {
            actions.push(Action::Changed { key, mac: None });
            return false;
        }
        State::Reachable | State::Stale => {
            entry.state = State::Probing;
            entry.questions = 0;
        }
        State::Probing if entry.questions >= PROBES => {
            actions.push(Action::Changed { key, mac: None });
            if !entry.needed {
                return false;
            }
            *entry = Entry { state: State::Incomplete, ..incomplete(true, now) };
        }
        State::Incomplete if entry.questions >= PROBES => {
            if !entry.needed {
                return false;
            }
            entry.state = State::Failed;
        }
        State::Failed => entry.pause = (entry.pause * 2).min(LONGEST_RETRY),
        State::Probing | State::Incomplete => {}
    }
    entry.questions += 1;
    entry.due = now + entry.pause;
    actions.push(Action::Ask { key, known: entry.mac });
    true
}

#[cfg(test)]
mod tests;
