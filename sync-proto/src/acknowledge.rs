//! Decides up to which serial of a table the required clients forward packets: a serial is *acknowledged* when they have all installed it.
//!
//! A route server acknowledges routes to its routing daemon by it, and a relay reports the smaller of this and its own sink's serial
//! upstream. [`Acknowledge`] has no sockets and no clock. Its owner
//! * passes what sessions report about their clients: [`Acknowledge::handle_session`];
//! * calls [`Acknowledge::advance`] with the serial of the table, after each input and when [`Acknowledge::next_timeout`] is due;
//! * reads [`Acknowledge::acknowledged`], and takes events with [`Acknowledge::poll_event`].
//!
//! A node *counts* from its activation on, unless it comes with an empty table or comes back after the grace time: then it counts once it has
//! installed what is acknowledged already. A node that deactivates has moved to another server and stops counting at once. A node whose
//! connection is lost counts for the grace time. For that time after the start nothing is acknowledged, because nodes are still connecting.
//! The acknowledged serial never decreases.
//!
//! A serial says nothing of the routes that a node's sink *refused*; it names them ([`crate::refusal`]). A route is refused here while so many
//! counting nodes refuse it that the others are fewer than required ([`Acknowledge::refused`], `refused`). What a node said before its connection
//! was lost holds until it says something again. What one refused that has moved to another server holds for the grace time, so that no moment
//! is left in which neither server knows of it. A node that has clients itself says nothing of refused routes before it has settled
//! ([`Acknowledge::is_settled`]): until then it does not know what its clients refuse, and its list would end what it said before its restart.

mod refused;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::frame::Role;
use crate::refusal::{Reason, RouteKey};
use crate::server::{SessionChange, SessionId, SessionReport};
use refused::{MovedAway, Tally};

/// Serials whose waiting time is measured separately.
const STEPS: u32 = 32;
/// Most nodes that are remembered though they no longer count; the one that left first is forgotten first.
const MAX_GONE: usize = 256;

/// The nodes whose installation is required.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Require {
    /// All clients that are active here.
    All,
    /// Those that have this server as their primary.
    PrimaryTier,
    /// Those with a name that matches one of these, each with at most one `*`.
    Names(Vec<String>),
}

/// What happens after the timeout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnTimeout {
    /// Acknowledge without the nodes that are missing.
    Announce,
    /// Keep waiting.
    Hold,
}

/// When a serial is acknowledged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// The required nodes.
    pub require: Require,
    /// Percentage of the counting nodes that must have installed a serial.
    pub quorum: u8,
    /// Longest wait for a serial; none: for ever.
    pub timeout: Option<Duration>,
    /// What happens then.
    pub on_timeout: OnTimeout,
    /// How long a node whose connection is lost counts.
    pub grace: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            require: Require::All,
            quorum: 100,
            timeout: Some(Duration::from_secs(10)),
            on_timeout: OnTimeout::Announce,
            grace: Duration::from_secs(5),
        }
    }
}

impl Require {
    fn includes(&self, name: &str, role: Role) -> bool {
        match self {
            Self::All => true,
            Self::PrimaryTier => role == Role::Primary,
            Self::Names(patterns) => patterns.iter().any(|pattern| matches(pattern, name)),
        }
    }
}

/// Whether a pattern with at most one `*` matches a name.
fn matches(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((first, last)) => {
            name.len() >= first.len() + last.len() && name.starts_with(first) && name.ends_with(last)
        }
    }
}

/// How a node takes part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It counts.
    Counts,
    /// Its connection is lost since this time; it counts for the grace time.
    Lost(Duration),
    /// It is here, and counts once it has installed what is acknowledged.
    Joining,
    /// It is not here, and does not count.
    Gone,
    /// It is not required.
    NotRequired,
}

/// A node that is, or was, active here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeState {
    /// How it takes part.
    pub standing: Standing,
    /// The serial that it reported; none since its last activation.
    pub installed: Option<u64>,
    /// Time of its last report or change.
    pub at: Duration,
    session: Option<SessionId>,
    refused: BTreeMap<RouteKey, Reason>,
    /// Number of further ones.
    more: u64,
    /// It has reported something since its last activation.
    heard: bool,
}

impl NodeState {
    /// The session by which it is active here.
    pub fn session(&self) -> Option<SessionId> {
        self.session
    }

    /// The routes that it does not forward by.
    pub fn refused(&self) -> &BTreeMap<RouteKey, Reason> {
        &self.refused
    }

    /// Number of further ones, which it does not name.
    pub fn more_refused(&self) -> u64 {
        self.more
    }

    fn counts(&self) -> bool {
        matches!(self.standing, Standing::Counts | Standing::Lost(_))
    }
}

/// Events for the owner's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AcknowledgeEvent {
    /// A node was away for the grace time and no longer counts.
    Left(String),
    /// A node has caught up and counts from now on.
    Joined(String),
    /// These nodes have not installed a serial within the timeout. Reported once until everything is acknowledged in time again.
    TimedOut {
        /// The serial.
        serial: u64,
        /// The nodes.
        nodes: Vec<String>,
        /// The serial was acknowledged nevertheless.
        announced: bool,
    },
    /// After a timeout: the required nodes forward by everything again.
    CaughtUp,
}

/// The state machine; see the module's documentation.
#[derive(Debug)]
pub struct Acknowledge {
    policy: Policy,
    nodes: BTreeMap<String, NodeState>,
    /// Nothing is acknowledged before; none before the first call.
    settled_at: Option<Duration>,
    settled: bool,
    /// Serial of the table.
    serial: u64,
    acknowledged: u64,
    /// Serials that wait, with the time since which they do.
    waiting: VecDeque<(Duration, u64)>,
    /// Up to this serial the timeout has passed.
    overdue: u64,
    /// A timeout was reported, and not everything has been acknowledged since.
    late: bool,
    timeouts: u64,
    tally: Tally,
    moved_away: MovedAway,
    events: VecDeque<AcknowledgeEvent>,
}

impl Acknowledge {
    /// A machine without nodes.
    pub fn new(policy: Policy) -> Self {
        Self {
            policy,
            nodes: BTreeMap::new(),
            settled_at: None,
            settled: false,
            serial: 0,
            acknowledged: 0,
            waiting: VecDeque::new(),
            overdue: 0,
            late: false,
            timeouts: 0,
            tally: Tally::default(),
            moved_away: MovedAway::default(),
            events: VecDeque::new(),
        }
    }

    /// Its policy.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Whether it has been advanced.
    pub fn has_started(&self) -> bool {
        self.settled_at.is_some()
    }

    /// Whether the grace time after the start is over: those that are still active here have had the time to say so.
    pub fn is_settled(&self) -> bool {
        self.settled
    }

    /// The last acknowledged serial.
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// Up to this serial the timeout has passed; it may be acknowledged or not.
    pub fn overdue(&self) -> u64 {
        self.overdue
    }

    /// Time since which the oldest serial waits; none if everything is acknowledged.
    pub fn waiting_since(&self) -> Option<Duration> {
        self.waiting.front().map(|(since, _)| *since)
    }

    /// Number of timeouts since the start.
    pub fn timeouts(&self) -> u64 {
        self.timeouts
    }

    /// All nodes by name.
    pub fn nodes(&self) -> impl Iterator<Item = (&str, &NodeState)> {
        self.nodes.iter().map(|(name, node)| (name.as_str(), node))
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<AcknowledgeEvent> {
        self.events.pop_front()
    }

    /// A session for the table has a client that activated, installed, deactivated or is gone.
    pub fn handle_session(&mut self, now: Duration, report: &SessionReport) {
        let settled = self.settled_at.is_some_and(|at| now >= at);
        let mine = |node: &NodeState| node.session == Some(report.session);
        match report.change {
            SessionChange::Activated { empty } => {
                let before = self.nodes.get(&report.name).map(|node| node.standing);
                let standing = match before {
                    _ if !self.policy.require.includes(&report.name, report.role) => Standing::NotRequired,
                    Some(Standing::Counts | Standing::Lost(_)) => Standing::Counts,
                    Some(Standing::Gone | Standing::Joining) => Standing::Joining,
                    // A node with a table forwards already, perhaps by another server until now.
                    _ if settled && empty => Standing::Joining,
                    _ => Standing::Counts,
                };
                let session = Some(report.session);
                // Until it says what it refuses now.
                let (refused, more) =
                    self.nodes.remove(&report.name).map(|n| (n.refused, n.more)).unwrap_or_default();
                let node =
                    NodeState { standing, installed: None, at: now, session, refused, more, heard: false };
                self.nodes.insert(report.name.clone(), node);
                self.tally.recount();
            }
            SessionChange::Installed(serial) => {
                let Some(node) = self.nodes.get_mut(&report.name).filter(|node| mine(node)) else { return };
                (node.installed, node.at) = (Some(serial), now);
                // What it refuses would have come first.
                if !std::mem::replace(&mut node.heard, true) {
                    node.forget_refused();
                    self.tally.recount();
                }
            }
            SessionChange::Refused { whole, more, ref routes } => {
                let Some(node) = self.nodes.get_mut(&report.name).filter(|node| mine(node)) else { return };
                if !std::mem::replace(&mut node.heard, true) || whole {
                    node.forget_refused();
                    self.tally.recount();
                }
                node.at = now;
                node.hear_refused(more, routes, &mut self.tally);
            }
            SessionChange::Deactivated => {
                if self.nodes.get(&report.name).is_some_and(mine)
                    && let Some(node) = self.nodes.remove(&report.name)
                {
                    if node.counts() {
                        self.moved_away.push(now + self.policy.grace, node.refused);
                    }
                    self.tally.recount();
                }
            }
            SessionChange::Closed => {
                let Some(node) = self.nodes.get_mut(&report.name).filter(|node| mine(node)) else { return };
                (node.session, node.at) = (None, now);
                self.tally.recount();
                match node.standing {
                    Standing::Counts => node.standing = Standing::Lost(now),
                    Standing::Joining => {
                        node.standing = Standing::Gone;
                        node.forget_refused();
                    }
                    _ => drop(self.nodes.remove(&report.name)),
                }
            }
        }
    }

    /// Processes what was reported and what is due. `serial` is the table's. True if the acknowledged serial has grown. The first call is the
    /// start: when clients may use the table, not before.
    pub fn advance(&mut self, now: Duration, serial: u64) -> bool {
        self.settled = now >= *self.settled_at.get_or_insert(now + self.policy.grace);
        let before = self.acknowledged;
        self.note(now, serial);
        self.expire(now);
        if self.settled {
            self.acknowledged = self.acknowledged.max(self.floor().min(self.serial));
        }
        self.time_out(now);
        self.admit();
        self.judge_refused();
        while self.waiting.front().is_some_and(|(_, serial)| *serial <= self.acknowledged) {
            self.waiting.pop_front();
        }
        if self.late && self.waiting.is_empty() && self.floor() >= self.serial {
            self.late = false;
            self.events.push_back(AcknowledgeEvent::CaughtUp);
        }
        self.acknowledged != before
    }

    /// When [`Self::advance`] is due without other input.
    pub fn next_timeout(&self) -> Option<Duration> {
        let settled = self.settled_at.filter(|_| !self.settled);
        let lost = self.nodes.values().filter_map(|node| match node.standing {
            Standing::Lost(since) => Some(since + self.policy.grace),
            _ => None,
        });
        let late = self.waiting.iter().find(|(_, serial)| *serial > self.overdue);
        let late = late.and_then(|(since, _)| Some(*since + self.policy.timeout?));
        settled.into_iter().chain(lost).chain(late).chain(self.moved_away.next()).min()
    }

    /// Notes since when a serial waits. Serials shortly after each other wait as one, since the last of them.
    fn note(&mut self, now: Duration, serial: u64) {
        if serial <= self.serial {
            return;
        }
        self.serial = serial;
        let step = self.policy.timeout.unwrap_or(Duration::from_secs(60)) / STEPS;
        let last_but_one = self.waiting.len().checked_sub(2).and_then(|at| self.waiting.get(at));
        if last_but_one.is_some_and(|(since, _)| now < *since + step) {
            self.waiting.pop_back();
        }
        self.waiting.push_back((now, serial));
    }

    /// Nodes that have been lost for the grace time stop counting.
    fn expire(&mut self, now: Duration) {
        for (name, node) in &mut self.nodes {
            if matches!(node.standing, Standing::Lost(since) if now >= since + self.policy.grace) {
                node.standing = Standing::Gone;
                node.forget_refused();
                self.tally.recount();
                self.events.push_back(AcknowledgeEvent::Left(name.clone()));
            }
        }
        if self.moved_away.expire(now) {
            self.tally.recount();
        }
        let gone = |node: &NodeState| node.standing == Standing::Gone;
        while self.nodes.values().filter(|node| gone(node)).count() > MAX_GONE {
            let first = self.nodes.iter().filter(|(_, node)| gone(node)).min_by_key(|(_, node)| node.at);
            let Some(name) = first.map(|(name, _)| name.clone()) else { break };
            self.nodes.remove(&name);
        }
    }

    /// The serial that enough of the counting nodes have installed. Everything, if none counts: there is nothing to wait for.
    fn floor(&self) -> u64 {
        let mut installed: Vec<u64> = self.counting().map(|(_, node)| node.installed.unwrap_or(0)).collect();
        if installed.is_empty() {
            return self.serial;
        }
        let needed = self.needed(installed.len());
        installed.sort_unstable_by(|a, b| b.cmp(a));
        installed.get(needed.saturating_sub(1)).copied().unwrap_or(0)
    }

    /// How many of so many counting nodes are required.
    fn needed(&self, counting: usize) -> usize {
        (counting * usize::from(self.policy.quorum.clamp(1, 100))).div_ceil(100)
    }

    fn counting(&self) -> impl Iterator<Item = (&String, &NodeState)> {
        self.nodes.iter().filter(|(_, node)| node.counts())
    }

    /// Nodes that have caught up count.
    fn admit(&mut self) {
        for (name, node) in &mut self.nodes {
            if node.standing == Standing::Joining && node.installed.is_some_and(|at| at >= self.acknowledged)
            {
                node.standing = Standing::Counts;
                self.tally.recount();
                self.events.push_back(AcknowledgeEvent::Joined(name.clone()));
            }
        }
    }

    fn time_out(&mut self, now: Duration) {
        let Some(timeout) = self.policy.timeout else { return };
        let due = self.waiting.iter().take_while(|(since, _)| now >= *since + timeout).last();
        let acknowledged = self.acknowledged;
        let Some(&(_, serial)) = due.filter(|(_, serial)| *serial > acknowledged.max(self.overdue)) else {
            return;
        };
        self.overdue = serial;
        self.timeouts += 1;
        let announced = self.policy.on_timeout == OnTimeout::Announce;
        if !std::mem::replace(&mut self.late, true) {
            let behind = self.counting().filter(|(_, node)| node.installed.unwrap_or(0) < serial);
            let nodes = behind.map(|(name, _)| name.clone()).collect();
            self.events.push_back(AcknowledgeEvent::TimedOut { serial, nodes, announced });
        }
        if announced {
            self.acknowledged = serial;
        }
    }
}

#[cfg(test)]
mod tests;
