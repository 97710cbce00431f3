//! The core of an agent: one copy of a table, how much of it the sink has, and the state announced to the tier below.
//!
//! [`AgentCore`] is the [`NodeRole`] of NIC hosts and relays. Its client fills the table; sessions serve it to the tier below. The owner takes
//! each batch for the sink from [`AgentCore::poll_sink`] and reports its outcome with [`AgentCore::handle_sink`].
//!
//! The sink follows the table at its own pace. Deletions that it has not seen are *pinned*: the table remembers them whatever its limit. A
//! sink that is busy or fails is retried with one batch that covers everything since the last accepted one. It starts over, with a batch
//! that *replaces* its content, when an operator requests a resync, when the table has expired because there is no capable server (the
//! batch is empty then), and when a capable server returns after that.
//!
//! What a sink has accepted need not be in use yet. [`AgentCore::handle_forwarding`] says what is; the client reports it upstream, or less if
//! required clients downstream have installed less ([`crate::acknowledge`]). [`AgentCore::handle_refusals`] says by which routes the sink does not
//! forward all the same; the client reports these, and those that required clients refuse.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::acknowledge::{Acknowledge, AcknowledgeEvent, Policy};
use crate::client::{Client, ClientConfig, ClientEvent};
use crate::digest::DigestKey;
use crate::mutation::{Mutation, on};
use crate::node::{ClientId, ClientRequest, News, NodeRole, ServerIndex};
use crate::refusal::Refusals;
use crate::relay::Relay;
use crate::server::{Served, SessionReport, Tables};
use crate::subset::Subset;
use crate::table::{Batch, Table};
use crate::timer::{Timer, Timers};

/// Pause before a busy sink is retried.
const BUSY: Duration = Duration::from_millis(2);
/// Pause before a failed sink is retried.
pub const FAILED: Duration = Duration::from_millis(250);

/// Configuration of an agent.
#[derive(Debug, Clone)]
pub struct AgentConfig {
    /// Its client: name, table, subset, servers.
    pub client: ClientConfig,
    /// Whether it serves the table to a tier below.
    pub serves: bool,
    /// The sink is emptied after this time without a capable server. None: never.
    pub expire: Option<Duration>,
    /// The clients downstream that must have installed what this node reports upstream as installed. None: its sink alone decides.
    pub acknowledge: Option<Policy>,
}

impl AgentConfig {
    /// The client's servers, in the order of the configuration.
    fn servers(&self) -> Vec<ServerIndex> {
        (0..self.client.servers.len()).collect()
    }

    /// The client with its servers, as [`crate::node::Node::new`] takes them.
    pub fn upstream(&self) -> (ClientConfig, Vec<ServerIndex>) {
        (self.client.clone(), self.servers())
    }
}

/// Why a sink did not take a batch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SinkError {
    /// Busy: retry in a few milliseconds.
    #[error("busy")]
    Busy,
    /// Failed: the batch stays pending and is retried.
    #[error("{0}")]
    Failed(String),
}

/// A batch for the sink.
#[derive(Debug, Clone, Copy)]
pub struct SinkBatch<'t> {
    /// The batch replaces everything: the sink deletes what the batch does not name, but not before it applies the batch.
    pub replaces: bool,
    /// The changes since the last accepted batch, or all records.
    pub batch: Batch<'t>,
}

/// Events for the owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AgentEvent {
    /// There was no capable server for the configured time: the sink is emptied.
    Expired(Duration),
    /// A capable server is back after an expiry: the sink gets the table again.
    Recovered,
    /// The sink refused the batch up to this serial, for another reason than the time before.
    SinkFailed {
        /// Serial of the table.
        serial: u64,
        /// The sink's error.
        reason: String,
    },
    /// Bug: the table forgot pinned deletions that the sink lacks. The sink gets everything again.
    SinkBehindHorizon(u64),
}

/// The core of an agent; see the module's documentation.
#[derive(Debug)]
pub struct AgentCore {
    config: AgentConfig,
    table: Table,
    /// The empty table that the sink gets after an expiry.
    nothing: Table,
    /// Last serial that the sink accepted.
    delivered: u64,
    /// The next batch replaces everything.
    replaces: bool,
    sink_error: Option<String>,
    /// The serial that the sink forwards by, if it knows more than what it has accepted.
    forwards_by: Option<u64>,
    /// The routes that the sink does not forward by.
    sink_refused: Refusals,
    /// These, and those that are refused downstream; and what they were made of.
    refused: Refusals,
    refused_of: (u64, u64),
    acknowledge: Option<Acknowledge>,
    /// Deletions after this serial are pinned for users other than the sink.
    kept_for_others: u64,
    /// Time since which there has been no capable server.
    stale_since: Option<Duration>,
    expired: bool,
    relay: Relay,
    /// Number of changes that the client committed.
    changes: u64,
    /// Last serial announced to sessions.
    announced: u64,
    timers: Timers,
    requests: VecDeque<ClientRequest>,
    events: VecDeque<AgentEvent>,
}

impl AgentCore {
    /// An agent with a table that is empty or from a checkpoint. The sink starts from nothing.
    pub fn new(config: AgentConfig, table: Table) -> Self {
        let mut agent = Self {
            acknowledge: config.acknowledge.clone().map(Acknowledge::new),
            forwards_by: None,
            sink_refused: Refusals::default(),
            refused: Refusals::default(),
            refused_of: (0, 0),
            config,
            nothing: Table::new(table.epoch()).with_digest_key(table.digest_key()),
            table,
            delivered: 0,
            replaces: false,
            sink_error: None,
            kept_for_others: u64::MAX,
            stale_since: None,
            expired: false,
            relay: Relay::default(),
            changes: 0,
            announced: 0,
            timers: Timers::default(),
            requests: VecDeque::new(),
            events: VecDeque::new(),
        };
        agent.pin();
        agent
    }

    /// The agent after a panic of its thread: new connections, same table and sink. A table that was in the middle of a batch is replaced
    /// by an empty one of `epoch`, and the sink's next batch replaces everything. True in that case.
    #[must_use]
    pub fn restart(self, epoch: u64) -> (Self, bool) {
        let sound = self.table.is_sound();
        let (delivered, replaces) = if sound { (self.delivered, self.replaces) } else { (0, true) };
        let key = self.table.digest_key();
        let table = if sound { self.table } else { Table::new(epoch).with_digest_key(key) };
        // An expiry lasts until a capable server is back.
        let mut agent = Self { delivered, replaces, expired: self.expired, ..Self::new(self.config, table) };
        agent.pin();
        (agent, !sound)
    }

    /// Its configuration.
    pub fn config(&self) -> &AgentConfig {
        &self.config
    }

    /// The copy of the table.
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// Readiness and path as announced to the tier below.
    pub fn relay(&self) -> &Relay {
        &self.relay
    }

    /// Number of changes that the client has committed since the start.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// Whether the sink is emptied because there is no capable server.
    pub fn is_expired(&self) -> bool {
        self.expired
    }

    /// Last serial that the sink accepted; 0 while it is to get everything.
    pub fn delivered(&self) -> u64 {
        self.delivered
    }

    /// Whether the sink is up to date.
    pub fn is_delivered(&self) -> bool {
        self.delivered == self.table.serial()
    }

    /// Compares the table with the servers' over new connections, and gives the sink everything again.
    pub fn handle_resync(&mut self) {
        let (config, servers) = self.config.upstream();
        self.requests.push_back(ClientRequest { client: 0, config, servers });
        if !on(Mutation::ResyncKeepsSerial) {
            self.replace_sink();
        }
    }

    /// The sink has lost what it was given: it gets everything again.
    pub fn handle_lost_sink(&mut self) {
        self.replace_sink();
    }

    /// Replaces the key of the table's digest, and compares the table with the servers' over new connections. The sink is not affected.
    /// `epoch` must be new.
    pub fn rekey(&mut self, key: DigestKey, epoch: u64) {
        self.table.rekey(key, epoch);
        self.nothing.rekey(key, epoch);
        self.config.client.digest_key = key.id();
        let (config, servers) = self.config.upstream();
        self.requests.push_back(ClientRequest { client: 0, config, servers });
    }

    /// Pins deletions after this serial for a user other than the sink, such as the writer of a checkpoint; `u64::MAX`: none.
    pub fn keep_deletions(&mut self, after: u64) {
        self.kept_for_others = after;
        self.pin();
    }

    /// The next batch for the sink, if it lacks something and no retry pause is running. Report the outcome with [`Self::handle_sink`].
    pub fn poll_sink(&mut self, now: Duration) -> Option<SinkBatch<'_>> {
        if self.is_delivered() {
            self.timers.set(Timer::SinkRetry, None);
            return None;
        }
        if self.timers.get(Timer::SinkRetry).is_some_and(|at| now < at) {
            return None;
        }
        self.timers.set(Timer::SinkRetry, None);
        if !self.expired && !self.replaces && !self.table.remembers(self.delivered) {
            self.events.push_back(AgentEvent::SinkBehindHorizon(self.table.serial()));
            self.replace_sink();
        }
        let replaces = self.replaces;
        let batch = match (self.expired, replaces) {
            // The table itself stays: a returning server only sends the difference, and the tier below has its own expiry.
            (true, _) => self.nothing.everything(),
            // A sink that starts over lacks no deletion, however many the table has forgotten.
            (false, true) => self.table.everything(),
            (false, false) => self.table.changes_since(self.delivered)?,
        };
        Some(SinkBatch { replaces, batch })
    }

    /// Outcome of the last batch from [`Self::poll_sink`].
    pub fn handle_sink(&mut self, now: Duration, outcome: Result<(), SinkError>) {
        match outcome {
            Ok(()) => self.take_for_delivered(),
            Err(SinkError::Busy) => self.timers.set(Timer::SinkRetry, Some(now + BUSY)),
            Err(SinkError::Failed(_)) if on(Mutation::DropFailedBatch) => self.take_for_delivered(),
            Err(SinkError::Failed(reason)) => {
                if self.sink_error.as_ref() != Some(&reason) {
                    let serial = self.table.serial();
                    self.events.push_back(AgentEvent::SinkFailed { serial, reason: reason.clone() });
                }
                self.sink_error = Some(reason);
                self.timers.set(Timer::SinkRetry, Some(now + FAILED));
            }
        }
        self.pin();
    }

    /// The sink forwards by everything up to this serial of the table. None: by what it has accepted.
    pub fn handle_forwarding(&mut self, serial: Option<u64>) {
        self.forwards_by = serial;
    }

    /// The routes that the sink does not forward by, as of what [`Self::handle_forwarding`] said, or later.
    pub fn handle_refusals(&mut self, refusals: Refusals) {
        self.sink_refused = refusals;
    }

    /// The version of what [`Self::handle_refusals`] said last.
    pub fn sink_refusals(&self) -> &Refusals {
        &self.sink_refused
    }

    /// Merges what the sink and the clients downstream refuse.
    fn merge_refused(&mut self) {
        let below = self.acknowledge.as_mut().filter(|_| !on(Mutation::ForgetRefusalsBelow));
        let version = below.as_ref().map_or(0, |below| below.refused_version());
        let of = (self.sink_refused.version(), version);
        if std::mem::replace(&mut self.refused_of, of) == of {
            return;
        }
        let mut all = below.map_or_else(BTreeMap::new, |below| {
            below.take_moved();
            below.refused().clone()
        });
        all.extend(self.sink_refused.iter().map(|(key, reason)| (*key, reason)));
        self.refused.take(&all, self.sink_refused.more());
    }

    /// The serial of the table that the sink forwards by; none while it forwards nothing, for want of a capable server.
    pub fn sink_installed(&self) -> Option<u64> {
        let installed = self.forwards_by.map_or(self.delivered, |serial| serial.min(self.delivered));
        (!self.expired).then_some(installed)
    }

    /// Which serial the clients downstream have installed; none if that does not matter here.
    pub fn acknowledge(&self) -> Option<&Acknowledge> {
        self.acknowledge.as_ref()
    }

    /// The next event about clients downstream.
    pub fn poll_acknowledge_event(&mut self) -> Option<AcknowledgeEvent> {
        self.acknowledge.as_mut()?.poll_event()
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<AgentEvent> {
        self.events.pop_front()
    }

    fn take_for_delivered(&mut self) {
        self.delivered = self.table.serial();
        self.replaces = false;
        self.sink_error = None;
    }

    /// The sink gets everything again: the table, or nothing after an expiry.
    fn replace_sink(&mut self) {
        self.delivered = 0;
        self.replaces = true;
        self.timers.set(Timer::SinkRetry, None);
    }

    /// Pins deletions until the sink and the other users have them.
    fn pin(&mut self) {
        let serial =
            if on(Mutation::ForgetPin) { u64::MAX } else { self.delivered.min(self.kept_for_others) };
        self.table.pin(serial);
    }

    fn expire(&self) -> Option<Duration> {
        self.config.expire.filter(|_| !on(Mutation::IgnoreExpiry))
    }

    /// Checks for expiry, and for the return of a capable server.
    fn watch_expiry(&mut self, now: Duration, client: &Client) {
        if !client.is_stale() {
            self.stale_since = None;
            if std::mem::take(&mut self.expired) {
                self.events.push_back(AgentEvent::Recovered);
                self.replace_sink();
            }
            return;
        }
        let since = *self.stale_since.get_or_insert(now);
        if let Some(expire) = self.expire().filter(|expire| now >= since + *expire)
            && !std::mem::replace(&mut self.expired, true)
        {
            self.events.push_back(AgentEvent::Expired(expire));
            self.replace_sink();
        }
    }
}

impl Tables for AgentCore {
    fn served(&self, name: &str) -> Option<Served<'_>> {
        let ready = self.relay.is_ready() || (on(Mutation::ReadyTooEarly) && !self.table.is_empty());
        (self.config.serves && name == self.config.client.table).then_some(Served {
            table: &self.table,
            ready,
            path: self.relay.path(),
        })
    }

    fn is_stale(&self, _: &str) -> bool {
        self.relay.is_stale()
    }

    fn subset(&self, _: &str) -> Option<&Subset> {
        Some(&self.config.client.subset).filter(|subset| !subset.is_all())
    }
}

impl NodeRole for AgentCore {
    fn client_table(&mut self, _: ClientId) -> &mut Table {
        &mut self.table
    }

    fn handle_client_event(&mut self, _: Duration, _: ClientId, event: &ClientEvent) {
        if let ClientEvent::Committed(commit) = event {
            self.changes += commit.count;
        }
    }

    fn advance(&mut self, now: Duration, clients: &[Client]) -> News {
        let mut announce = false;
        if let Some(client) = clients.first() {
            announce = self.relay.watch(now, client);
            self.watch_expiry(now, client);
        }
        self.timers.set(Timer::Readiness, self.relay.due());
        let expiry = self.expire().filter(|_| !self.expired);
        self.timers.set(Timer::Expiry, expiry.and_then(|expire| Some(self.stale_since? + expire)));
        let serial = self.table.serial();
        if let Some(acknowledge) = &mut self.acknowledge
            && (acknowledge.has_started() || self.relay.is_ready())
        {
            acknowledge.advance(now, serial);
            self.timers.set(Timer::Acknowledge, acknowledge.next_timeout());
        }
        self.merge_refused();
        News { announce, changed: std::mem::replace(&mut self.announced, serial) != serial }
    }

    fn handle_session(&mut self, now: Duration, report: &SessionReport) {
        if let Some(acknowledge) = &mut self.acknowledge {
            acknowledge.handle_session(now, report);
        }
    }

    fn installed(&self, _: ClientId) -> Option<u64> {
        if on(Mutation::AcknowledgeAccepted) {
            return Some(self.table.serial());
        }
        let downstream = self.acknowledge.as_ref().filter(|_| !on(Mutation::ForgetDownstream));
        let serial = self.sink_installed()?;
        Some(downstream.map_or(serial, |acknowledge| serial.min(acknowledge.acknowledged())))
    }

    fn refused(&self, _: ClientId) -> Option<&Refusals> {
        let settled = self.acknowledge.as_ref().is_none_or(Acknowledge::is_settled);
        settled.then_some(&self.refused)
    }

    fn poll_request(&mut self) -> Option<ClientRequest> {
        self.requests.pop_front()
    }

    fn next_timeout(&self) -> Option<Duration> {
        self.timers.next_timeout()
    }
}
