//! The engine as the role of its node: tables for clients and sessions, client events, and time.

use std::time::Duration;

use fibcast_sync_proto::Table;
use fibcast_sync_proto::client::{Client, ClientEvent};
use fibcast_sync_proto::node::{ClientId, ClientRequest, News, NodeRole};
use fibcast_sync_proto::origins::{CATALOG, origin_of};
use fibcast_sync_proto::refusal::Refusals;
use fibcast_sync_proto::server::{Served, SessionReport, Tables};
use fibcast_sync_proto::timer::Timer;

use super::{Engine, EngineError, FIB, rib_error};

impl Tables for Engine {
    fn served(&self, name: &str) -> Option<Served<'_>> {
        if name == FIB {
            return Some(Served { table: &self.fib, ready: self.ready, path: &[] });
        }
        if name == CATALOG {
            return Some(Served { table: self.catalog(), ready: true, path: &[] });
        }
        let id = origin_of(name)?;
        if let Some(source) = self.sources.iter().find(|source| source.id == id) {
            return Some(Served { table: &source.table, ready: source.whole, path: &[] });
        }
        // A peer may request an origin before we know it or after it expired: the table is empty then.
        let served =
            self.remotes.get(&id).map(|o| Served { table: &o.table, ready: o.synced, path: &o.path });
        Some(served.unwrap_or(Served { table: &self.nothing, ready: false, path: &[] }))
    }

    fn allow_loops(&self, name: &str) -> bool {
        origin_of(name).is_some()
    }
}

impl NodeRole for Engine {
    fn client_table(&mut self, client: ClientId) -> &mut Table {
        if client < self.peers.len() {
            return self.peers.get_mut(client).map_or(&mut self.nothing, |peer| &mut peer.catalog);
        }
        match self.origin_at(client).and_then(|id| self.remotes.get_mut(&id)) {
            Some(other) => &mut other.table,
            None => &mut self.nothing,
        }
    }

    fn handle_client_event(&mut self, now: Duration, client: ClientId, event: &ClientEvent) {
        let outcome = match event {
            ClientEvent::Registered { name, .. } if client < self.peers.len() => {
                self.peer_named(client, name);
                Ok(())
            }
            ClientEvent::Lost { active: true, .. } => self.lost(now, client),
            ClientEvent::Committed(_) if client < self.peers.len() => self.catalog_changed(now, client),
            ClientEvent::Committed(_) => self.copy_changed(client),
            _ => Ok(()),
        };
        self.note(outcome);
    }

    fn advance(&mut self, now: Duration, clients: &[Client]) -> News {
        for (at, client) in clients.iter().enumerate() {
            if at < self.peers.len() {
                self.watch_peer(at, client);
            } else {
                self.watch_remote(now, at, client);
            }
        }
        let outcome = self.work(now);
        self.note(outcome);
        self.follow_installed(now);
        self.note_ages(now);
        self.set_timers(now);
        let (ready, served) = (self.ready, self.served_serials());
        let (ready_before, served_before) = std::mem::replace(&mut self.announced, (ready, served));
        let announce = std::mem::take(&mut self.announce) | (ready != ready_before);
        News { announce, changed: announce | (served != served_before) }
    }

    fn handle_session(&mut self, now: Duration, report: &SessionReport) {
        self.session_reported(now, report);
    }

    fn installed(&self, client: ClientId) -> Option<u64> {
        self.origin_at(client).map(|id| self.installed_of(id))
    }

    fn refused(&self, client: ClientId) -> Option<&Refusals> {
        self.origin_at(client).and_then(|id| self.refused_to_report(id))
    }

    fn poll_request(&mut self) -> Option<ClientRequest> {
        self.requests.pop_front()
    }

    fn next_timeout(&self) -> Option<Duration> {
        self.timers.next_timeout()
    }
}

impl Engine {
    fn note(&mut self, outcome: Result<(), EngineError>) {
        if let Err(error) = outcome {
            self.failure.get_or_insert(error);
        }
    }

    /// Does a slice of the waiting work, and everything due by `now`.
    fn work(&mut self, now: Duration) -> Result<(), EngineError> {
        self.origins.handle_timeout(now).map_err(rib_error)?;
        self.follow_origins(now)?;
        self.judge_liveness(now)?;
        self.withdraw_unrefreshed()?;
        self.forget_removed(now);
        if let Some(prefixes) = self.slice(now) {
            self.select(prefixes)?;
        }
        self.judge_readiness(now)
    }

    fn set_timers(&mut self, now: Duration) {
        let remotes = self.remotes.values().filter_map(|other| other.due());
        let eligibility = remotes.chain(self.liveness_due()).min();
        let ready_at = self.started + self.ready_timeout;
        self.timers.set(Timer::Lease, self.origins.poll_timeout());
        self.timers.set(Timer::Eligibility, eligibility);
        self.timers.set(Timer::ReadyTimeout, (!self.ready).then_some(ready_at));
        self.timers.set(Timer::Sweep, self.queue.next_due());
        self.timers.set(Timer::Work, (self.queue.is_due(now) || self.sweeps()).then_some(now));
    }
}
