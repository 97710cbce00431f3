//! The client side: connections to a primary and to secondaries, and one copy of the table.
//!
//! [`Client`] is a state machine without sockets or clock. Its owner
//! * opens and closes connections as [`Client::poll_action`] requests, and reports with [`Client::handle_connected`] and
//!   [`Client::handle_disconnected`];
//! * passes received bytes to [`Client::handle_bytes`], and calls [`Client::handle_timeout`] when [`Client::poll_timeout`] is due;
//! * sends [`Client::transmit`], confirms with [`Client::sent`], and reads [`Client::poll_event`].
//!
//! The table belongs to the owner, who lends it and does not change it otherwise. A batch is applied as a whole, and only if it results in
//! the digest that the server announced. Servers are in order of preference: the first is the primary. `types` is what it exchanges with its
//! owner, `link` one connection; `intake` handles its frames, `incoming` assembles batches of them, `select` chooses the active server, `lag`
//! tells whether that brings the table up to date.; `installed` tells the server
//! what the sink forwards by.

mod incoming;
mod installed;
mod intake;
mod lag;
mod link;
mod select;
mod types;

use std::collections::VecDeque;
use std::time::Duration;

use crate::frame::DATA;
use crate::mutation::{Mutation, on};
use crate::refusal::Refusals;
use crate::serial_map::SerialMap;
use crate::table::Table;
use crate::wire::ProtocolError;
use lag::Lag;
use link::{Link, Phase};
pub use types::{Action, ClientConfig, ClientCounters, ClientEvent, How, LinkId, LinkStatus};

/// The client state machine; see the module's documentation.
#[derive(Debug)]
pub struct Client {
    config: ClientConfig,
    links: Vec<Link>,
    started: Duration,
    active: Option<LinkId>,
    /// The previously active server, to distinguish a failover from a reconnection.
    last_active: Option<LinkId>,
    /// Epoch and serial of the server's table that ours equals.
    base: Option<(u64, u64)>,
    /// Serials of the server's table that ours has equalled, by our own.
    equals: SerialMap,
    /// The serial of our table that the sink, and whoever else is required, forwards by.
    installed: Option<u64>,
    /// The routes that the sink, or whoever else is required, does not forward by.
    refusals: Refusals,
    /// Lag behind the active server.
    lag: Lag,
    /// Time of the last check of the lag.
    lag_checked: Duration,
    /// Time at which the active server was lost.
    lost_at: Option<Duration>,
    /// Digest mismatches, each at most [`intake::MEND`] after the previous one.
    mismatches: u32,
    mismatch_at: Duration,
    actions: VecDeque<Action>,
    events: VecDeque<ClientEvent>,
    counters: ClientCounters,
}

impl Client {
    /// A client that will connect to all of its servers.
    pub fn new(config: ClientConfig, now: Duration) -> Self {
        let links = config.servers.iter().map(|&role| Link::new(role, now)).collect();
        let mut client = Self {
            config,
            links,
            started: now,
            active: None,
            last_active: None,
            base: None,
            equals: SerialMap::default(),
            installed: None,
            refusals: Refusals::default(),
            lag: Lag::default(),
            lag_checked: now,
            lost_at: None,
            mismatches: 0,
            mismatch_at: Duration::ZERO,
            actions: VecDeque::new(),
            events: VecDeque::new(),
            counters: ClientCounters::default(),
        };
        client.reconnect(now);
        client
    }

    /// The connection is open.
    pub fn handle_connected(&mut self, now: Duration, id: LinkId) {
        match self.links.get_mut(id) {
            Some(link) if matches!(link.phase, Phase::Connecting { .. }) => link.greet(now, &self.config),
            // Nobody asked for it any more.
            _ => self.actions.push_back(Action::Disconnect(id)),
        }
    }

    /// The connection ended, or could not be opened.
    pub fn handle_disconnected(&mut self, now: Duration, id: LinkId, reason: &str, table: &mut Table) {
        if on(Mutation::EmptyOnLoss) && self.active == Some(id) {
            let all: Vec<_> = table.iter().map(|(key, _)| crate::change::Change::Delete(key)).collect();
            let _ = table.commit(all);
        }
        self.lose(now, id, ProtocolError::Refused(reason.to_owned()));
        self.select(now, table);
    }

    /// Handles received bytes.
    pub fn handle_bytes(&mut self, now: Duration, id: LinkId, bytes: &[u8], table: &mut Table) {
        let Some(link) = self.links.get_mut(id) else { return };
        if matches!(link.phase, Phase::Down { .. } | Phase::Connecting { .. }) {
            return;
        }
        link.heard = now;
        link.received += bytes.len() as u64;
        let mut inbox = std::mem::take(&mut link.inbox);
        inbox.push(bytes);
        let result = loop {
            let data = inbox.peek().is_some_and(|kind| DATA.contains(&kind));
            let before = inbox.consumed();
            let outcome = match inbox.next() {
                Ok(None) => Ok(false),
                Ok(Some(frame)) => self.handle_frame(now, id, frame, table).map(|()| true),
                Err(e) => Err(e),
            };
            if let Some(link) = self.links.get_mut(id).filter(|_| !data) {
                link.control += inbox.consumed() - before;
            }
            match outcome.and_then(|more| self.links.get(id).map_or(Ok(()), Link::check_out).map(|()| more)) {
                Ok(true) => {}
                Ok(false) => break Ok(()),
                Err(e) => break Err(e),
            }
        };
        match result {
            Ok(()) => {
                if let Some(link) = self.links.get_mut(id) {
                    link.inbox = inbox;
                }
            }
            Err(error) => {
                self.actions.push_back(Action::Disconnect(id));
                self.lose(now, id, error);
            }
        }
        self.watch_lag(now);
        self.select(now, table);
    }

    /// Handles heartbeats, silence, reconnection and failback.
    pub fn handle_timeout(&mut self, now: Duration, table: &mut Table) {
        let heartbeat = self.config.heartbeat;
        let mut failed = Vec::new();
        for (id, link) in self.links.iter_mut().enumerate() {
            if let Err(error) = link.handle_timeout(now, heartbeat) {
                failed.push((id, error));
            }
        }
        for (id, error) in failed {
            self.actions.push_back(Action::Disconnect(id));
            self.lose(now, id, error);
        }
        self.watch_lag(now);
        self.reconnect(now);
        self.select(now, table);
        self.report_installed(now);
    }

    /// When [`Self::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Duration> {
        let links = self.links.iter().filter_map(|l| l.due(self.config.heartbeat)).min();
        [links, self.selection_due(), self.report_due()].into_iter().flatten().min()
    }

    /// The next request.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<ClientEvent> {
        self.events.pop_front()
    }

    /// The next bytes for a server; empty if there is nothing to send.
    pub fn transmit(&self, id: LinkId) -> &[u8] {
        self.links.get(id).map_or(&[], |l| l.out.front())
    }

    /// The same with the following pieces: for one vectored write.
    pub fn transmit_pieces(&self, id: LinkId) -> impl Iterator<Item = &[u8]> {
        self.links.get(id).into_iter().flat_map(|l| l.out.pieces())
    }

    /// Confirms that `n` bytes of [`Self::transmit`] were sent.
    pub fn sent(&mut self, id: LinkId, n: usize) {
        if let Some(link) = self.links.get_mut(id) {
            link.out.consume(n);
        }
    }

    /// Its configuration.
    pub fn config(&self) -> &ClientConfig {
        &self.config
    }

    /// The active server, whose table ours equals or is being synchronized with.
    pub fn active(&self) -> Option<LinkId> {
        self.active
    }

    /// Whether a capable server is active, the table equals its table as of some commit, and the server is not stalled.
    pub fn is_synced(&self) -> bool {
        let active = self.active.filter(|_| !self.is_stalled());
        active
            .and_then(|id| self.links.get(id))
            .is_some_and(|l| l.is_ready() && matches!(l.phase, Phase::Active { synced: true, .. }))
    }

    /// Whether the table has no capable source: no server is active, or the active one reports so.
    pub fn is_stale(&self) -> bool {
        !self.is_synced() || self.active.and_then(|id| self.links.get(id)).is_some_and(Link::is_stale)
    }

    /// Whether the active server is stalled: it announces commits and brings no progress, and no other server is capable.
    pub fn is_stalled(&self) -> bool {
        self.active.is_some() && self.lag.is_stalled() && !on(Mutation::IgnoreLag)
    }

    /// Bytes of memory of what was received and not applied, or not sent.
    pub fn pending_bytes(&self) -> usize {
        self.links.iter().map(Link::pending_bytes).sum()
    }

    /// The link with the most such bytes.
    pub(crate) fn heaviest_link(&self) -> Option<LinkId> {
        self.links.iter().enumerate().max_by_key(|(_, link)| link.pending_bytes()).map(|(id, _)| id)
    }

    /// The nodes that the table comes through, nearest last: what this node announces when it relays the table.
    pub fn path(&self) -> Vec<String> {
        let from = self.active.or(self.last_active);
        from.and_then(|id| self.links.get(id)).map(Link::path).unwrap_or_default()
    }

    /// Whether some server is capable: registered and ready.
    pub fn has_capable(&self) -> bool {
        self.links.iter().any(Link::is_ready)
    }

    /// Epoch and serial of the server's table that ours equals.
    pub fn base(&self) -> Option<(u64, u64)> {
        self.base
    }

    /// Counters since the start.
    pub fn counters(&self) -> ClientCounters {
        self.counters
    }

    /// All links, in order of preference.
    pub fn links(&self) -> Vec<LinkStatus> {
        let status = |(id, link): (LinkId, &Link)| {
            let stalled = self.active == Some(id) && self.is_stalled();
            let status = link.status();
            let avoided = self.lag_checked < link.avoided_until;
            LinkStatus { state: if stalled { "stalled" } else { status.state }, avoided, ..status }
        };
        self.links.iter().enumerate().map(status).collect()
    }
}
