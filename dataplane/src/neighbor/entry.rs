//! One neighbor: its state (RFC 4861 §7.3.2), and how messages and timers change it. ARP follows the same rules, as in Linux.

use std::time::{Duration, Instant};

use super::evidence::Evidence;
use crate::packet::ethernet::Mac;

/// Unanswered requests after which a neighbor is unreachable (RFC 4861 §10, MAX_UNICAST_SOLICIT and MAX_MULTICAST_SOLICIT).
pub const PROBES: u32 = 3;
/// Pause between requests to a neighbor that is unresolved or being probed (RFC 4861 §10, RETRANS_TIMER).
pub const RETRY: Duration = Duration::from_secs(1);
/// Longest pause between requests to a neighbor that does not answer.
pub const LONGEST_RETRY: Duration = Duration::from_secs(30);
/// How long a confirmation is valid (RFC 4861 §10, REACHABLE_TIME).
pub const REACHABLE_TIME: Duration = Duration::from_secs(30);
/// How long after a packet used an unconfirmed entry the neighbor is probed (RFC 4861 §10, DELAY_FIRST_PROBE_TIME).
pub const DELAY_FIRST_PROBE: Duration = Duration::from_secs(5);
/// How long an unused entry is kept; it stays usable (RFC 4861 §7.3.2, STALE).
pub const STALE_TIME: Duration = Duration::from_secs(120);

/// State of a neighbor (RFC 4861 §7.3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// From the configuration: never solicited, never changed.
    Static,
    /// Being resolved.
    Incomplete,
    /// Confirmed recently.
    Reachable,
    /// Not confirmed recently, and not used since. Used by the next packet.
    Stale,
    /// Not confirmed recently, but used: probed soon.
    Delay,
    /// Being probed, still used.
    Probe,
    /// Did not answer; requested again with growing pauses, because a next hop needs it (`NUD_FAILED` of Linux).
    Failed,
}

impl State {
    /// The name shown to operators.
    pub fn name(self) -> &'static str {
        match self {
            State::Static => "static",
            State::Incomplete => "incomplete",
            State::Reachable => "reachable",
            State::Stale => "stale",
            State::Delay => "delay",
            State::Probe => "probe",
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
    /// Number of its creation among the unproven ones; none once it answered a request, or is needed: it is there, and not made up by
    /// another station.
    pub(super) unproven: Option<u64>,
    /// Packets used it since its last confirmation.
    pub(super) used: bool,
    pub(super) due: Instant,
    questions: u32,
    pause: Duration,
}

/// What a timer asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    /// Nothing; it has another due time.
    Wait,
    /// A request.
    Ask,
    /// A request; the MAC address became unknown.
    LoseAndAsk,
    /// Its deletion.
    Delete,
}

impl Entry {
    /// Unresolved; the request is due at once. `used`: packets wait for it.
    pub(super) fn incomplete(needed: bool, used: bool, now: Instant) -> Entry {
        Entry {
            state: State::Incomplete,
            mac: None,
            needed,
            unproven: None,
            used,
            due: now,
            questions: 0,
            pause: RETRY,
        }
    }

    pub(super) fn fixed(mac: Mac, now: Instant) -> Entry {
        let incomplete = Entry::incomplete(true, false, now);
        Entry { state: State::Static, mac: Some(mac), ..incomplete }
    }

    /// Applies a message of the station (RFC 4861 §7.2.3, §7.2.5); returns whether the MAC address changed.
    pub(super) fn learn(&mut self, evidence: Evidence, now: Instant) -> bool {
        let Evidence { mac, solicited, overrides, .. } = evidence;
        let known = match self.state {
            State::Static => return false,
            State::Incomplete | State::Failed => false,
            State::Reachable | State::Stale | State::Delay | State::Probe => true,
        };
        let changed = mac.is_some_and(|mac| self.mac != Some(mac));
        if !known && mac.is_none() {
            // §7.2.5: an advertisement without the address cannot resolve it.
            return false;
        }
        if known && changed && !overrides {
            // §7.2.5, I: doubt only, so the old address is probed.
            if self.state == State::Reachable {
                self.doubt(now);
            }
            return false;
        }
        if changed {
            self.mac = mac;
        }
        if solicited {
            self.confirm(now);
        } else if changed {
            self.doubt(now);
        }
        changed
    }

    fn confirm(&mut self, now: Instant) {
        (self.state, self.due) = (State::Reachable, now + REACHABLE_TIME);
        self.used = false;
        (self.questions, self.pause) = (0, RETRY);
    }

    /// The address is not confirmed any more: STALE, or DELAY if packets use it.
    fn doubt(&mut self, now: Instant) {
        (self.questions, self.pause) = (0, RETRY);
        (self.state, self.due) = if self.needed || self.used {
            (State::Delay, now + DELAY_FIRST_PROBE)
        } else {
            (State::Stale, now + STALE_TIME)
        };
    }

    /// A packet used it; returns whether that changed its due time.
    pub(super) fn mark_used(&mut self, now: Instant) -> bool {
        self.used = true;
        let wakes = self.state == State::Stale;
        if wakes {
            self.doubt(now);
        }
        wakes
    }

    /// Probes it as soon as possible; returns whether that changed its due time.
    pub(super) fn probe(&mut self, now: Instant) -> bool {
        let probes = matches!(self.state, State::Reachable | State::Stale | State::Delay | State::Failed);
        if probes {
            self.due = now;
            if self.state != State::Failed {
                self.state = State::Delay;
            }
        }
        probes
    }

    /// The next step when its timer has expired.
    pub(super) fn advance(&mut self, now: Instant) -> Due {
        let mut lost = false;
        match self.state {
            State::Static => return Due::Wait,
            // Routes use a next hop at all times; a confirmation that ran out is renewed at once (`NTF_MANAGED` of Linux).
            State::Reachable if !self.needed => {
                self.doubt(now);
                return Due::Wait;
            }
            State::Stale | State::Failed if !self.needed => return Due::Delete,
            State::Reachable | State::Stale | State::Delay => {
                (self.state, self.questions) = (State::Probe, 0);
            }
            State::Probe if self.questions >= PROBES => {
                if !self.needed {
                    return Due::Delete;
                }
                *self = Entry::incomplete(true, false, now);
                lost = true;
            }
            State::Incomplete if self.questions >= PROBES => {
                if !self.needed {
                    return Due::Delete;
                }
                self.state = State::Failed;
            }
            State::Failed => self.pause = (self.pause * 2).min(LONGEST_RETRY),
            State::Probe | State::Incomplete => {}
        }
        self.questions += 1;
        self.due = now + self.pause;
        if lost { Due::LoseAndAsk } else { Due::Ask }
    }
}
