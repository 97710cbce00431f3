//! What runs inside the agent's event loop: the table, the sink, the commands of other threads.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};
use fibcast_control::kv::KvList;
use fibcast_control::protocol::{Answer, RouteQuery};
use fibcast_control::tables::{GroupList, RouteList};
use fibcast_sync_proto::client::ClientEvent;
use fibcast_sync_proto::relay::Relay;
use fibcast_sync_proto::server::{Served, Tables};
use fibcast_sync_proto::{Subset, Table};

use super::kv::{self, Watchers};
use super::{AgentConfig, Report, Sink, SinkError, show};
use crate::checkpoint::Checkpoint;
use crate::shell::{ClientId, Host, ShellState, Turn};

/// A busy sink is asked again after this time.
const BUSY: Duration = Duration::from_millis(2);
/// A failed sink is asked again after this time.
const FAILED: Duration = Duration::from_millis(250);

/// What other threads ask.
pub(super) enum Command {
    Status(Sender<Report>),
    Routes(RouteQuery, usize, Sender<RouteList>),
    Groups(Sender<GroupList>),
    Resync(Sender<()>),
    KvGet(String, Sender<KvList>),
    KvList(String, usize, Sender<KvList>),
    KvWatch(String, u64, u64, Sender<Result<Answer, String>>),
}

/// What outlives a panic of the loop: the table and how much of it the sink has.
pub(super) struct Kept {
    pub table: Table,
    /// Last serial that the sink took.
    pub taken: u64,
    /// Keeps the table for the next start.
    pub checkpoint: Option<Checkpoint>,
}

pub(super) struct AgentHost<'s> {
    kept: &'s mut Kept,
    sink: &'s mut dyn Sink,
    commands: Receiver<Command>,
    /// A tier below is served.
    serves: bool,
    beats: &'s AtomicU64,
    /// Ends the loop, after which another one begins with new connections.
    halt: &'s AtomicBool,
    /// Which part of the table it is.
    subset: Subset,
    /// The sink is emptied after so long without a capable server.
    expire: Option<Duration>,
    /// Since when there has been none; none: there is one.
    stale_since: Option<Duration>,
    expired: bool,
    /// When the sink is asked again.
    retry_at: Option<Duration>,
    sink_error: Option<String>,
    changes: u64,
    relay: Relay,
    announce: bool,
    watchers: Watchers,
    pumped: u64,
}

impl<'s> AgentHost<'s> {
    pub fn new(
        kept: &'s mut Kept,
        sink: &'s mut dyn Sink,
        commands: Receiver<Command>,
        config: &AgentConfig,
        beats: &'s AtomicU64,
        halt: &'s AtomicBool,
    ) -> Self {
        Self {
            kept,
            sink,
            commands,
            serves: !config.listen.is_empty(),
            beats,
            halt,
            subset: config.sync.subset.clone(),
            expire: config.sync.expire(),
            stale_since: None,
            expired: false,
            retry_at: None,
            sink_error: None,
            changes: 0,
            relay: Relay::default(),
            announce: false,
            watchers: Watchers::default(),
            pumped: 0,
        }
    }

    /// Gives the sink what it has not taken yet.
    fn feed(&mut self, now: Duration) {
        if self.kept.taken == self.kept.table.serial() || self.retry_at.is_some_and(|at| now < at) {
            return;
        }
        self.retry_at = None;
        // The table itself stays: a server that comes back is asked for the difference only, and the tier below decides for itself.
        let nothing = self.expired.then(|| Table::new(self.kept.table.epoch()));
        let (source, from) = nothing.as_ref().map_or((&self.kept.table, self.kept.taken), |none| (none, 0));
        let Some(batch) = source.changes_since(from) else {
            // Cannot be: deletions that the sink has not seen are pinned.
            tracing::error!("the sink is beyond the horizon of the table; giving it everything anew");
            self.kept.taken = 0;
            self.sink.reset();
            return;
        };
        match self.sink.apply(&batch) {
            Ok(()) => {
                self.kept.taken = self.kept.table.serial();
                self.sink_error = None;
            }
            Err(SinkError::Busy) => self.retry_at = Some(now + BUSY),
            Err(SinkError::Failed(reason)) => {
                if self.sink_error.as_ref() != Some(&reason) {
                    tracing::error!("batch to serial {} stays pending: {reason}", self.kept.table.serial());
                }
                self.sink_error = Some(reason);
                self.retry_at = Some(now + FAILED);
            }
        }
        self.pin();
    }

    /// Deletions stay known until the sink and the checkpoint have them.
    fn pin(&mut self) {
        let checkpoint = self.kept.checkpoint.as_ref().map_or(u64::MAX, Checkpoint::pin);
        self.kept.table.pin(self.kept.taken.min(checkpoint));
    }

    /// Looks at the client: what the tier below is told, and whether what is forwarded by has become too old.
    fn watch(&mut self, now: Duration, state: &ShellState) {
        let Some(slot) = state.clients.first() else { return };
        self.announce |= self.relay.watch(now, &slot.machine);
        if !slot.machine.is_stale() {
            self.stale_since = None;
            if std::mem::take(&mut self.expired) {
                tracing::info!("a capable server is back: the table is forwarded by again");
                self.anew();
            }
            return;
        }
        let since = *self.stale_since.get_or_insert(now);
        if let Some(expire) = self.expire.filter(|&expire| now >= since + expire && !self.expired) {
            tracing::error!(
                "no capable server for {} s (sync.expire_s): routes are withdrawn",
                expire.as_secs()
            );
            self.expired = true;
            self.anew();
        }
    }

    /// The sink gets everything anew: the table, or nothing once it has expired.
    fn anew(&mut self) {
        self.kept.taken = 0;
        self.retry_at = None;
        self.sink.reset();
    }

    fn command(&mut self, command: Command, state: &ShellState) {
        match command {
            Command::Status(answer) => {
                let synced = state.clients.first().is_some_and(|c| c.machine.is_synced());
                let stale = state.clients.first().is_none_or(|c| c.machine.is_stale());
                let passed_on = state.server.routes_passed_on();
                let mut sync =
                    state.clients.first().map(|c| show::sync_status(c, passed_on)).unwrap_or_default();
                sync.checkpoint = self.kept.checkpoint.as_ref().map(Checkpoint::status);
                let report = Report {
                    ready: synced,
                    stale,
                    table: show::table_status(&self.kept.table, self.changes),
                    sync,
                    clients: show::clients(state, self),
                    refused: show::refused(state),
                };
                let _ = answer.try_send(report);
            }
            Command::Routes(query, limit, answer) => {
                let _ = answer.try_send(show::routes(&self.kept.table, &query, limit));
            }
            Command::Resync(answer) => {
                self.kept.taken = 0;
                self.sink.reset();
                self.halt.store(true, Ordering::Release);
                let _ = answer.try_send(());
            }
            Command::KvGet(key, answer) => {
                let _ = answer.try_send(kv::get(&self.kept.table, &key));
            }
            Command::KvList(prefix, limit, answer) => {
                let _ = answer.try_send(kv::list(&self.kept.table, &prefix, limit));
            }
            Command::KvWatch(prefix, epoch, serial, answer) => {
                self.watchers.add(prefix, epoch, serial, answer);
            }
            Command::Groups(answer) => {
                let _ = answer.try_send(show::groups(&self.kept.table));
            }
        }
    }
}

impl Tables for AgentHost<'_> {
    fn served(&self, name: &str) -> Option<Served<'_>> {
        (self.serves && name == "fib").then_some(Served {
            table: &self.kept.table,
            ready: self.relay.is_ready(),
            path: self.relay.path(),
        })
    }

    fn is_stale(&self, _: &str) -> bool {
        self.relay.is_stale()
    }

    fn subset(&self, _: &str) -> Option<&Subset> {
        Some(&self.subset).filter(|subset| !subset.is_all())
    }
}

impl Host for AgentHost<'_> {
    fn client_table(&mut self, _: ClientId) -> &mut Table {
        &mut self.kept.table
    }

    fn client_event(&mut self, now: Duration, _: ClientId, event: &ClientEvent, _: &ShellState) {
        if let ClientEvent::Committed(commit) = event {
            self.changes += commit.count;
            // At once, not at the turn's end: the worker is to see it as soon as it can.
            self.feed(now);
        }
    }

    fn turn(&mut self, now: Duration, state: &ShellState) -> Turn {
        self.beats.fetch_add(1, Ordering::Relaxed);
        self.watch(now, state);
        self.feed(now);
        while let Ok(command) = self.commands.try_recv() {
            self.command(command, state);
        }
        let changed = self.pumped != self.kept.table.serial();
        self.pumped = self.kept.table.serial();
        let expiry =
            self.expire.filter(|_| !self.expired).and_then(|expire| Some(self.stale_since? + expire));
        let checkpoint = self.kept.checkpoint.as_mut().and_then(|c| c.turn(now, &self.kept.table));
        self.pin();
        let watched = self.watchers.turn(&self.kept.table);
        let watched = watched.map(|at| now + at.saturating_duration_since(Instant::now()));
        let wake_at =
            [self.retry_at, self.relay.due(), expiry, checkpoint, watched].into_iter().flatten().min();
        Turn { changed, announce: std::mem::take(&mut self.announce), wake_at }
    }
}
