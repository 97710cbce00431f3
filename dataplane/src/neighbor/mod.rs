//! Neighbors: which MAC address has an address on a link, kept by asking (ARP, RFC 826; ND, RFC 4861).
//!
//! [`Table`] is a state machine without sockets and clocks: it is told what was heard and what time it is, and says what to ask and
//! what changed. The control thread owns it.
//!
//! An entry that worked keeps working while it is asked again; only [`PROBES`] questions without an answer end it. An entry that a
//! next hop needs is never given up, it is asked with growing pauses. Any other is asked again only where packets went to it since its last
//! answer; else it turns stale, and is forgotten when nobody wanted it for [`STALE`].

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use fibcast_fib::PortId;

use crate::packet::ethernet::Mac;

/// Questions without an answer after which a neighbor is taken for gone.
pub const PROBES: u32 = 3;
/// Pause between questions to a neighbor that is not known yet, or may be gone (RFC 4861 §10, RETRANS_TIMER).
pub const RETRY: Duration = Duration::from_secs(1);
/// Longest pause between questions to a neighbor that does not answer.
pub const LONGEST_RETRY: Duration = Duration::from_secs(30);
/// How long an answer is believed before the neighbor is asked again (RFC 4861 §10, REACHABLE_TIME).
pub const REFRESH: Duration = Duration::from_secs(30);
/// How long an entry is kept that no packet went to; usable all the while (RFC 4861 §7.3.2, STALE).
pub const STALE: Duration = Duration::from_secs(120);
/// Most entries of one port that packets caused and nobody answered for yet: who scans a subnet has these, and no more. The newest are kept.
pub const UNANSWERED_LIMIT: usize = 1_024;
/// Most entries that packets and other stations may cause; next hops and static entries have their place besides.
pub const LEARNED_LIMIT: usize = 16_384;

/// An address on a link.
pub type Key = (PortId, IpAddr);

/// Whether a neighbor can be sent to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// From the configuration: never solicited, never changed.
    Static,
    /// Answered lately.
    Reachable,
    /// Known, and being asked whether it is still there; used all the while.
    Probing,
    /// Known, but no packet went to it lately: used when one does, and asked then.
    Stale,
    /// Not known yet; being asked.
    Incomplete,
    /// Did not answer; asked again with growing pauses.
    Failed,
}

impl State {
    /// As shown.
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
    /// Whether it can be sent to.
    pub state: State,
    /// Its MAC address; present in the states in which it is used.
    pub mac: Option<Mac>,
    /// A next hop needs it.
    pub needed: bool,
    /// Packets went to it since its last answer.
    used: bool,
    questions: u32,
    pause: Duration,
    due: Instant,
}

/// What the table wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Ask who has the address; the station itself where its MAC address is known.
    Ask {
        /// Port and address.
        key: Key,
        /// Where it was.
        known: Option<Mac>,
    },
    /// The neighbor's MAC address is this from now on; none: it is not known any more.
    Changed {
        /// Port and address.
        key: Key,
        /// Where it is.
        mac: Option<Mac>,
    },
}

/// The neighbors of all ports.
#[derive(Debug, Default)]
pub struct Table {
    entries: HashMap<Key, Entry>,
    learned: usize,
    /// By port: entries that packets caused, oldest first; those that were answered for since are still among them.
    unanswered: HashMap<PortId, VecDeque<Key>>,
    refused: u64,
    next: Option<Instant>,
}

impl Table {
    /// A neighbor from the configuration.
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

    /// A next hop needs this neighbor from now on: it is asked at once, and for ever.
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

    /// A static neighbor is one no longer; false where it was none. It is asked for like any other from now on, where anybody needs it.
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

    /// A packet needed this neighbor.
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

    /// Notes which entries packets went to. One that was stale is asked at once whether it is still there.
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

    /// The station itself said where it is: in an answer, or by asking us. `create`: also if nobody wanted to know
    /// (RFC 826: yes, if it asked for us; RFC 4861 §7.2.5: not by an unsolicited advertisement).
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

    /// What is due by now, at most `limit` questions; the others come with the next call.
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

    /// Asks those neighbors at once whether they are still there; they are used all the while.
    pub fn probe(&mut self, which: impl Fn(&Key) -> bool, now: Instant) {
        for (_, entry) in self.entries.iter_mut().filter(|(key, _)| which(key)) {
            if matches!(entry.state, State::Reachable | State::Stale | State::Failed) {
                (entry.due, entry.used) = (now, true);
            }
        }
        self.wake(now);
    }

    /// When [`poll`](Self::poll) has something to do again.
    pub fn next_due(&self) -> Option<Instant> {
        self.next
    }

    /// What is known about a neighbor.
    pub fn get(&self, key: &Key) -> Option<&Entry> {
        self.entries.get(key)
    }

    /// All, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&Key, &Entry)> {
        self.entries.iter()
    }

    /// Entries that were not made because of [`LEARNED_LIMIT`].
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

/// The next step of an entry whose time has come; false: forget it.
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
