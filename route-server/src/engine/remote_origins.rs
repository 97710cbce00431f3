//! Origins of other servers: where their routes come from, and whether they are eligible for best path.
//!
//! An origin's *lease* says whether the protocol instance is alive (`fibcast_sync_proto::origins`), and is the same everywhere. Whether a
//! server can still reach the routes is its own matter: its client for them is in sync, or has a capable server.
//!
//! | lease | in sync | lost its last server | without server for long |
//! |---|---|---|---|
//! | live | eligible | ranks last at once | withdrawn after lease and hold time |
//! | stale | ranks last | ranks last | the same |
//! | expired, loading | ineligible | | |
//!
//! So when a server dies, its neighbors immediately prefer other origins' routes for the same prefixes, and change nothing else before the
//! lease expires. They start with the prefixes that changed last, of which the dead server may not have sent the newest. Leases expire on
//! all servers alike.

use std::time::Duration;

use fibcast_sync_proto::ages::Ages;
use fibcast_sync_proto::client::{Client, ClientConfig};
use fibcast_sync_proto::frame::Role;
use fibcast_sync_proto::node::{ClientId, ClientRequest, ServerIndex};
use fibcast_sync_proto::origins::{OriginEvent, OriginState, table_name};
use fibcast_sync_proto::{Batch, ChangeRef, OriginId, OriginValue, Table};
use ipnet::IpNet;

use super::queue::Work;
use super::{Engine, EngineError, PRESENCE, SLICE};

/// Commits of an own table whose prefixes are selected first when an origin is lost: about the last second at the usual rate.
const RECENT_COMMITS: u64 = 1024;
/// Most of those prefixes. Clients that also lost its server fail over now and wait for them: 60,000 cost them 80 ms.
const RECENT_PREFIXES: usize = 4096;
/// Delay of the sweep over a lost origin's routes: clients that also lost its server fail over now, and go first.
const SWEEP_AFTER: Duration = Duration::from_millis(200);
/// How long a server may search for another path before the routes rank last: a searching relay reports "not ready" for a moment.
const GRACE: Duration = Duration::from_millis(200);

/// How long the origin's own server must have been capable before the client fails back to it.
const FAILBACK: Duration = Duration::from_secs(2);

/// A client for the routes of an origin. `peers` are its servers in order of preference. With `prefers_first` the first is the origin's own
/// server, to which the client fails back. Relays are equivalent.
fn client_for(
    like: &ClientConfig,
    client: ClientId,
    table: String,
    peers: Vec<ServerIndex>,
    prefers_first: bool,
) -> ClientRequest {
    let role = |at: usize| if at == 0 { Role::Primary } else { Role::Secondary };
    let config = ClientConfig {
        table,
        allow_loops: true,
        servers: (0..peers.len()).map(role).collect(),
        failback: prefers_first.then_some(FAILBACK),
        // No relay is worth waiting for.
        grace: if prefers_first { like.grace } else { Duration::ZERO },
        ..like.clone()
    };
    ClientRequest { client, config, servers: peers }
}

/// Eligibility of an origin's routes for best path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Eligibility {
    Ineligible,
    Live,
    Stale,
}

impl Eligibility {
    /// None: ineligible.
    pub(super) fn is_stale(self) -> Option<bool> {
        match self {
            Eligibility::Ineligible => None,
            Eligibility::Live => Some(false),
            Eligibility::Stale => Some(true),
        }
    }
}

/// An origin of another server.
#[derive(Debug)]
pub(super) struct RemoteOrigin {
    pub server: String,
    /// Index of its client.
    client: usize,
    /// The peer that is the origin's own server, which the client prefers.
    direct: Option<usize>,
    /// Copy of its routes.
    pub table: Table,
    /// Times of the copy's serials.
    pub ages: Ages,
    /// Serial up to which the selection has processed the table.
    known: u64,
    /// The table equals that of the client's server.
    pub synced: bool,
    pub synced_once: bool,
    /// The servers that the routes come through, nearest last.
    pub path: Vec<String>,
    /// Time since which it is out of sync.
    since: Duration,
    /// Some server has the routes by a path that does not lead through this server.
    capable: bool,
    /// The connection to the active server was lost, and there was no sync since.
    lost: bool,
    pub eligibility: Eligibility,
    /// Time at which the eligibility may change without input.
    due: Option<Duration>,
}

impl RemoteOrigin {
    /// Time at which the eligibility may change without input.
    pub(super) fn due(&self) -> Option<Duration> {
        self.due
    }

    /// Eligibility at a time, and until when it holds without input.
    fn judge(
        &self,
        state: Option<OriginState>,
        lease: Duration,
        hold: Duration,
        now: Duration,
    ) -> (Eligibility, Option<Duration>) {
        let by_lease = match state {
            _ if !self.synced_once => Eligibility::Ineligible,
            Some(OriginState::Live { .. }) => Eligibility::Live,
            Some(OriginState::Stale { .. }) => Eligibility::Stale,
            _ => Eligibility::Ineligible,
        };
        if self.synced || by_lease == Eligibility::Ineligible {
            return (by_lease, None);
        }
        let grace = match (self.capable, self.lost) {
            (true, _) => lease,
            (false, false) => GRACE,
            (false, true) => Duration::ZERO,
        };
        let (cut_off, gone) = (self.since + grace, self.since + lease + hold);
        match now {
            _ if now >= gone => (Eligibility::Ineligible, None),
            _ if now >= cut_off => (Eligibility::Stale, Some(gone)),
            _ => (by_lease, Some(cut_off)),
        }
    }
}

impl Engine {
    pub(super) fn origin_at(&self, client: usize) -> Option<OriginId> {
        client.checked_sub(self.peers.len()).and_then(|at| self.client_origins.get(at)).copied().flatten()
    }

    /// The connection to the active server was lost.
    pub(super) fn lost(&mut self, now: Duration, client: usize) -> Result<(), EngineError> {
        if let Some(peer) = self.peers.get_mut(client) {
            peer.synced = false;
            tracing::warn!("peer {} is lost", peer.address);
            return Ok(());
        }
        let Some(remote) = self.origin_at(client).and_then(|id| self.remotes.get_mut(&id)) else {
            return Ok(());
        };
        remote.lost = true;
        if std::mem::replace(&mut remote.synced, false) {
            remote.since = now;
            self.announce = true;
        }
        Ok(())
    }

    pub(super) fn watch_remote(&mut self, now: Duration, index: usize, client: &Client) {
        let Some(remote) = self.origin_at(index).and_then(|id| self.remotes.get_mut(&id)) else { return };
        remote.capable = client.has_capable();
        let synced = client.is_synced();
        if synced {
            let path = client.path();
            self.announce |= path != remote.path;
            (remote.path, remote.lost, remote.synced_once) = (path, false, true);
        }
        if std::mem::replace(&mut remote.synced, synced) != synced {
            remote.since = now;
            self.announce = true;
        }
    }

    /// The copy of an origin's routes has a new commit.
    pub(super) fn copy_changed(&mut self, client: usize) -> Result<(), EngineError> {
        let Some(remote) = self.origin_at(client).and_then(|id| self.remotes.get_mut(&id)) else {
            return Ok(());
        };
        let (serial, counts) = (remote.table.serial(), remote.eligibility != Eligibility::Ineligible);
        // An ineligible origin is processed as a whole once it becomes eligible.
        let batch = remote.table.changes_since(remote.known).filter(|_| counts);
        let prefixes = batch.map(|batch| prefixes_of(&batch)).unwrap_or_default();
        remote.known = serial;
        // Deletions that the selection has not processed must be remembered.
        remote.table.pin(serial);
        if prefixes.is_empty() {
            return Ok(());
        }
        if prefixes.len() <= SLICE && self.queue.is_empty() {
            return self.select(prefixes);
        }
        self.push(Work::List(prefixes.into_iter()));
        Ok(())
    }

    /// Opens and closes clients as origins appear and expire, and updates eligibility.
    pub(super) fn follow_origins(&mut self, now: Duration) -> Result<(), EngineError> {
        while let Some(event) = self.origins.poll_event() {
            self.tell(&event);
        }
        let new = |(id, value, state): (OriginId, &OriginValue, OriginState)| {
            let wanted = value.name != PRESENCE
                && !matches!(state, OriginState::Expired { .. })
                && !self.remotes.contains_key(&id);
            wanted.then(|| (id, value.server.clone()))
        };
        let new: Vec<_> = self.origins.others().filter_map(new).collect();
        new.into_iter().for_each(|(id, server)| self.open(now, id, server));

        let ids: Vec<OriginId> = self.remotes.keys().copied().collect();
        for id in ids {
            let state = self.origins.state(id);
            let lease = self.origins.describe(id).map_or(0, |value| value.lease_ms);
            let Some(remote) = self.remotes.get_mut(&id) else { continue };
            let (eligibility, due) = remote.judge(state, Duration::from_millis(lease.into()), self.hold, now);
            remote.due = due;
            let before = std::mem::replace(&mut remote.eligibility, eligibility);
            if before != eligibility {
                self.reselect(now, id, before, eligibility)?;
            }
            let over = matches!(state, None | Some(OriginState::Expired { .. }));
            if over && !self.queue.is_sweeping(id) {
                self.close(id);
            }
        }
        Ok(())
    }

    /// The eligibility of an origin has changed: all of its prefixes need a new selection.
    fn reselect(
        &mut self,
        now: Duration,
        id: OriginId,
        before: Eligibility,
        after: Eligibility,
    ) -> Result<(), EngineError> {
        let name = self.origins.describe(id).map_or_else(|| id.to_string(), title);
        match after {
            Eligibility::Live => tracing::info!("{name}: its routes are eligible for best path"),
            Eligibility::Stale => tracing::warn!("{name}: its routes are stale and rank last"),
            Eligibility::Ineligible => tracing::warn!("{name}: its routes are withdrawn"),
        }
        let lost = (before, after) == (Eligibility::Live, Eligibility::Stale);
        let from = if lost { now + SWEEP_AFTER } else { now };
        self.queue.forget_sweep(id);
        self.push(Work::sweep(id, from));
        if !lost {
            return Ok(());
        }
        let recent: Vec<_> = self.sources.iter().flat_map(|source| recent(&source.table)).collect();
        self.select(recent)
    }

    fn open(&mut self, now: Duration, id: OriginId, server: String) {
        let free = self.client_origins.iter().position(Option::is_none);
        let at = free.unwrap_or(self.client_origins.len());
        match self.client_origins.get_mut(at) {
            Some(client) => *client = Some(id),
            None => self.client_origins.push(Some(id)),
        }
        let client = self.peers.len() + at;
        let mut table = self.new_table();
        table.pin(0);
        let remote = RemoteOrigin {
            server,
            client,
            direct: None,
            table,
            ages: Ages::default(),
            known: 0,
            synced: false,
            synced_once: false,
            path: Vec::new(),
            since: now,
            capable: false,
            lost: false,
            eligibility: Eligibility::Ineligible,
            due: None,
        };
        self.remotes.insert(id, remote);
        self.ask(id);
    }

    pub(super) fn ask(&mut self, id: OriginId) {
        let Some(remote) = self.remotes.get_mut(&id) else { return };
        let direct = self.peers.iter().position(|peer| peer.name.as_ref() == Some(&remote.server));
        remote.direct = direct;
        let rest = (0..self.peers.len()).filter(|at| Some(*at) != direct);
        let peers = direct.into_iter().chain(rest).collect();
        let request = client_for(&self.client, remote.client, table_name(id), peers, direct.is_some());
        self.requests.push_back(request);
    }

    /// A peer turned out to be the server with this name: prefer it for the server's origins.
    pub(super) fn prefer(&mut self, at: usize, name: &str) {
        let moved = self.remotes.iter().filter(|(_, o)| o.server == name && o.direct != Some(at));
        let moved: Vec<OriginId> = moved.map(|(id, _)| *id).collect();
        moved.into_iter().for_each(|id| self.ask(id));
    }

    fn close(&mut self, id: OriginId) {
        let Some(remote) = self.remotes.remove(&id) else { return };
        if let Some(client) =
            remote.client.checked_sub(self.peers.len()).and_then(|at| self.client_origins.get_mut(at))
        {
            *client = None;
        }
        let (client, config) = (remote.client, self.client.clone());
        self.requests.push_back(ClientRequest { client, config, servers: Vec::new() });
        // Sessions that got the table learn that it is gone.
        self.announce = true;
    }

    fn tell(&self, event: &OriginEvent) {
        let (OriginEvent::Appeared(id)
        | OriginEvent::Live(id)
        | OriginEvent::Stale(id)
        | OriginEvent::Expired(id)
        | OriginEvent::Contested(id)) = event;
        let Some(value) = self.origins.describe(*id) else { return };
        let title = title(value);
        match event {
            OriginEvent::Appeared(_) => {
                tracing::info!("{title} appeared, epoch {:016x}", value.epoch);
                if let Some(server) = self.namesake(*id, value) {
                    tracing::error!("{}", conflict(&value.name, &server, &value.server));
                }
            }
            OriginEvent::Live(_) => tracing::info!("{title} is live"),
            OriginEvent::Stale(_) => {
                tracing::warn!(
                    "{title} is stale: its lease has expired; withdrawn in {} ms",
                    self.hold.as_millis()
                );
            }
            OriginEvent::Expired(_) => tracing::warn!("{title} has expired"),
            OriginEvent::Contested(_) => tracing::error!(
                "{title}: another node announces newer epochs of it: another route server has the name {} as well, or the clock of this one was set back",
                self.name
            ),
        }
    }

    /// Another server with an origin of the same name.
    pub(super) fn namesake(&self, id: OriginId, value: &OriginValue) -> Option<String> {
        if value.name == PRESENCE {
            return None;
        }
        let own = self.sources.iter().filter(|s| s.removed.is_none());
        let own = own.map(|s| (s.id, s.name.as_str(), self.name.as_str()));
        let others =
            self.origins.others().filter(|(_, _, state)| !matches!(state, OriginState::Expired { .. }));
        let others = others.map(|(id, value, _)| (id, value.name.as_str(), value.server.as_str()));
        let mut all = own.chain(others);
        all.find(|(other, name, _)| *other != id && *name == value.name)
            .map(|(_, _, server)| server.to_owned())
    }
}

/// Prefixes changed by the newest commits, as long as these are small, since one may hold a whole table.
fn recent(table: &Table) -> Vec<(u32, IpNet)> {
    let since = |commits: u64| table.serial().saturating_sub(commits).max(table.horizon());
    let mut commits = RECENT_COMMITS;
    while commits > 0 && table.count_since(since(commits), RECENT_PREFIXES + 1) > RECENT_PREFIXES {
        commits /= 2;
    }
    table.changes_since(since(commits)).map(|batch| prefixes_of(&batch)).unwrap_or_default()
}

/// Prefixes changed by a batch.
fn prefixes_of(batch: &Batch<'_>) -> Vec<(u32, IpNet)> {
    let prefix = |change| match change {
        ChangeRef::RibRoute { vrf, prefix, .. } => Some((vrf, prefix)),
        _ => None,
    };
    batch.changes().filter_map(prefix).collect()
}

/// An origin as text.
fn title(value: &OriginValue) -> String {
    match value.name.as_str() {
        PRESENCE => format!("route server {}", value.server),
        name => format!("origin {name:?} of {}", value.server),
    }
}

/// Error text for two servers with an origin of the same name.
pub(super) fn conflict(origin: &str, a: &str, b: &str) -> String {
    let (a, b) = if a < b { (a, b) } else { (b, a) };
    format!("origin {origin:?} is configured at {a} and at {b}: rename one of them")
}

#[cfg(test)]
mod tests {
    use fibcast_sync_proto::{Change, GroupValue, Key, Label, Value};

    use super::*;

    fn commit(table: &mut Table, numbers: std::ops::Range<u32>) {
        let group = GroupValue::via([192, 0, 2, 1].into());
        let label = Label::of(&group);
        let route = |number: u32| {
            let prefix = IpNet::new_assert(std::net::Ipv4Addr::from(number << 8).into(), 24);
            let key = Key::RibRoute { origin: OriginId(7), vrf: 0, prefix };
            Change::Put(key, Value::RibRoute { label, distance: 20, metric: 0 })
        };
        let group = Change::Put(Key::Group(label), Value::Group(group));
        table.commit([group].into_iter().chain(numbers.map(route))).unwrap();
    }

    #[test]
    fn the_newest_prefixes_come_first_and_a_whole_table_is_not_among_them() {
        let mut table = Table::new(1);
        assert_eq!(recent(&table), []);
        commit(&mut table, 0..RECENT_PREFIXES as u32 + 1);
        assert_eq!(recent(&table), [], "one commit with too many");
        for number in 10_000..10_010 {
            commit(&mut table, number..number + 1);
        }
        let found = recent(&table);
        let last = (0, "0.39.25.0/24".parse().unwrap());
        assert!(found.contains(&last) && found.len() >= 5 && found.len() <= 10, "{found:?}");
        for number in 20_000..22_000 {
            commit(&mut table, number..number + 1);
        }
        assert_eq!(recent(&table).len(), RECENT_COMMITS as usize);
    }
}
