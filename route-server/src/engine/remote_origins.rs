//! Origins of other servers: whose routes come which way, and whether they count.
//!
//! An origin's *lease* says whether the protocol instance lives (`fibcast_sync_proto::origins`), and is the same everywhere. Whether a
//! server still has a *way* to the routes is its own matter: its client for them is in sync, or has a server that is capable.
//!
//! | lease | in sync | lost its last server | none for long |
//! |---|---|---|---|
//! | live | counts | ranks last at once | goes after lease and hold time |
//! | stale | ranks last | ranks last | the same |
//! | expired, loading | does not count | | |
//!
//! So where a server dies, its neighbours prefer at once what others have of the same prefixes, and change nothing else before the lease
//! is over: beginning with the prefixes that changed last, of which the dead one may not have told the newest. What expires, expires
//! by the lease, on all servers alike.

use std::time::Duration;

use fibcast_sync_proto::client::{Client, ClientConfig};
use fibcast_sync_proto::frame::Role;
use fibcast_sync_proto::node::{ClientId, ClientRequest, ServerIndex};
use fibcast_sync_proto::origins::{OriginEvent, OriginState, table_name};
use fibcast_sync_proto::{Batch, Change, Key, OriginId, OriginValue, Table};
use ipnet::IpNet;

use super::queue::Work;
use super::{Engine, EngineError, PRESENCE, SLICE};

/// Commits of an own table whose prefixes are looked at first when an origin is lost: about the last second at the usual pace.
const RECENT_COMMITS: u64 = 1024;
/// The most of those prefixes. Clients that also lost its server come over now, and wait for these: 60,000 cost them 80 ms.
const RECENT_PREFIXES: usize = 4096;
/// The sweep over a lost origin's routes begins after this: clients that also lost its server come over now, and go first.
const SWEEP_AFTER: Duration = Duration::from_millis(200);
/// A server that has to look for another way takes so long at most before the routes rank last: a relay that looks for one itself says
/// "not ready" for a moment.
const GRACE: Duration = Duration::from_millis(200);

/// How long the origin's own server must have been capable before it is used again.
const FAILBACK: Duration = Duration::from_secs(2);

/// A client for the routes of an origin. `peers` are its servers in order of preference; `prefers_first`: the first of them is the origin's
/// own server, which is used again when it comes back. Among relays there is nothing to choose.
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
        goes_round: true,
        servers: (0..peers.len()).map(role).collect(),
        failback: prefers_first.then_some(FAILBACK),
        // Among relays none is worth waiting for.
        grace: if prefers_first { like.grace } else { Duration::ZERO },
        ..like.clone()
    };
    ClientRequest { client, config, servers: peers }
}

/// How an origin's routes take part in the selection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Counted {
    Out,
    Live,
    Stale,
}

impl Counted {
    /// None: not at all.
    pub(super) fn is_stale(self) -> Option<bool> {
        match self {
            Counted::Out => None,
            Counted::Live => Some(false),
            Counted::Stale => Some(true),
        }
    }
}

/// An origin of another server.
#[derive(Debug)]
pub(super) struct Other {
    pub server: String,
    /// The client's.
    place: usize,
    /// The peer that is the origin's own server, which the client prefers.
    direct: Option<usize>,
    /// Its routes as they came here.
    pub table: Table,
    /// Up to this serial the selection knows it.
    known: u64,
    /// The table is what the client's server has.
    pub synced: bool,
    pub synced_once: bool,
    /// The servers that the routes come through, nearest last.
    pub path: Vec<String>,
    /// Since when it has been out of sync.
    since: Duration,
    /// Some server has the routes by a way that does not lead through us.
    capable: bool,
    /// The connection to the server in use ended, after which there was no sync yet.
    lost: bool,
    pub counted: Counted,
    /// When it may count otherwise without input.
    due: Option<Duration>,
}

impl Other {
    /// When the routes may count otherwise without input.
    pub(super) fn due(&self) -> Option<Duration> {
        self.due
    }

    /// How the routes count at a time, and until when that is so if nothing happens.
    fn judge(
        &self,
        state: Option<OriginState>,
        lease: Duration,
        hold: Duration,
        now: Duration,
    ) -> (Counted, Option<Duration>) {
        let by_lease = match state {
            _ if !self.synced_once => Counted::Out,
            Some(OriginState::Live { .. }) => Counted::Live,
            Some(OriginState::Stale { .. }) => Counted::Stale,
            _ => Counted::Out,
        };
        if self.synced || by_lease == Counted::Out {
            return (by_lease, None);
        }
        let patience = match (self.capable, self.lost) {
            (true, _) => lease,
            (false, false) => GRACE,
            (false, true) => Duration::ZERO,
        };
        let (cut_off, gone) = (self.since + patience, self.since + lease + hold);
        match now {
            _ if now >= gone => (Counted::Out, None),
            _ if now >= cut_off => (Counted::Stale, Some(gone)),
            _ => (by_lease, Some(cut_off)),
        }
    }
}

impl Engine {
    pub(super) fn origin_at(&self, place: usize) -> Option<OriginId> {
        place.checked_sub(self.peers.len()).and_then(|at| self.places.get(at)).copied().flatten()
    }

    /// The connection to the server in use is over.
    pub(super) fn lost(&mut self, now: Duration, place: usize) -> Result<(), EngineError> {
        if let Some(peer) = self.peers.get_mut(place) {
            peer.synced = false;
            tracing::warn!("peer {} is lost", peer.address);
            return Ok(());
        }
        let Some(other) = self.origin_at(place).and_then(|id| self.others.get_mut(&id)) else {
            return Ok(());
        };
        other.lost = true;
        if std::mem::replace(&mut other.synced, false) {
            other.since = now;
            self.announce = true;
        }
        Ok(())
    }

    pub(super) fn watch_other(&mut self, now: Duration, place: usize, client: &Client) {
        let Some(other) = self.origin_at(place).and_then(|id| self.others.get_mut(&id)) else { return };
        other.capable = client.has_capable();
        let synced = client.is_synced();
        if synced {
            let path = client.path();
            self.announce |= path != other.path;
            (other.path, other.lost, other.synced_once) = (path, false, true);
        }
        if std::mem::replace(&mut other.synced, synced) != synced {
            other.since = now;
            self.announce = true;
        }
    }

    /// The copy of an origin's routes has a new commit.
    pub(super) fn copy_changed(&mut self, place: usize) -> Result<(), EngineError> {
        let Some(other) = self.origin_at(place).and_then(|id| self.others.get_mut(&id)) else {
            return Ok(());
        };
        let (serial, counts) = (other.table.serial(), other.counted != Counted::Out);
        // What does not count yet is looked at as a whole once it does.
        let batch = other.table.changes_since(other.known).filter(|_| counts);
        let prefixes = batch.map(|batch| prefixes_of(&batch)).unwrap_or_default();
        other.known = serial;
        // Deletions that the selection does not know yet must not be forgotten.
        other.table.pin(serial);
        if prefixes.is_empty() {
            return Ok(());
        }
        if prefixes.len() <= SLICE && self.queue.is_empty() {
            return self.select(prefixes);
        }
        self.push(Work::List(prefixes.into_iter()));
        Ok(())
    }

    /// Opens and ends clients as origins come and go, and lets routes count as leases and clients say.
    pub(super) fn follow_origins(&mut self, now: Duration) -> Result<(), EngineError> {
        while let Some(event) = self.origins.poll_event() {
            self.tell(&event);
        }
        let new = |(id, value, state): (OriginId, &OriginValue, OriginState)| {
            let wanted = value.name != PRESENCE
                && !matches!(state, OriginState::Expired { .. })
                && !self.others.contains_key(&id);
            wanted.then(|| (id, value.server.clone()))
        };
        let new: Vec<_> = self.origins.others().filter_map(new).collect();
        new.into_iter().for_each(|(id, server)| self.open(now, id, server));

        let ids: Vec<OriginId> = self.others.keys().copied().collect();
        for id in ids {
            let state = self.origins.state(id);
            let lease = self.origins.describe(id).map_or(0, |value| value.lease_ms);
            let Some(other) = self.others.get_mut(&id) else { continue };
            let (counted, due) = other.judge(state, Duration::from_millis(lease.into()), self.hold, now);
            other.due = due;
            let before = std::mem::replace(&mut other.counted, counted);
            if before != counted {
                self.look_again(now, id, before, counted)?;
            }
            let over = matches!(state, None | Some(OriginState::Expired { .. }));
            if over && !self.queue.is_sweeping(id) {
                self.close(id);
            }
        }
        Ok(())
    }

    /// An origin's routes count otherwise: all of its prefixes may have another best path.
    fn look_again(
        &mut self,
        now: Duration,
        id: OriginId,
        before: Counted,
        after: Counted,
    ) -> Result<(), EngineError> {
        let name = self.origins.describe(id).map_or_else(|| id.to_string(), title);
        match after {
            Counted::Live => tracing::info!("{name}: its routes count"),
            Counted::Stale => tracing::warn!("{name}: its routes rank after all others"),
            Counted::Out => tracing::warn!("{name}: its routes are withdrawn"),
        }
        let lost = (before, after) == (Counted::Live, Counted::Stale);
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
        let free = self.places.iter().position(Option::is_none);
        let at = free.unwrap_or(self.places.len());
        match self.places.get_mut(at) {
            Some(place) => *place = Some(id),
            None => self.places.push(Some(id)),
        }
        let place = self.peers.len() + at;
        let mut table = self.new_table();
        table.pin(0);
        let other = Other {
            server,
            place,
            direct: None,
            table,
            known: 0,
            synced: false,
            synced_once: false,
            path: Vec::new(),
            since: now,
            capable: false,
            lost: false,
            counted: Counted::Out,
            due: None,
        };
        self.others.insert(id, other);
        self.ask(id);
    }

    fn ask(&mut self, id: OriginId) {
        let Some(other) = self.others.get_mut(&id) else { return };
        let direct = self.peers.iter().position(|peer| peer.name.as_ref() == Some(&other.server));
        other.direct = direct;
        let rest = (0..self.peers.len()).filter(|at| Some(*at) != direct);
        let peers = direct.into_iter().chain(rest).collect();
        let request = client_for(&self.client, other.place, table_name(id), peers, direct.is_some());
        self.requests.push_back(request);
    }

    /// A peer is the server of this name: its origins are to come from it.
    pub(super) fn prefer(&mut self, at: usize, name: &str) {
        let moved = self.others.iter().filter(|(_, o)| o.server == name && o.direct != Some(at));
        let moved: Vec<OriginId> = moved.map(|(id, _)| *id).collect();
        moved.into_iter().for_each(|id| self.ask(id));
    }

    fn close(&mut self, id: OriginId) {
        let Some(other) = self.others.remove(&id) else { return };
        if let Some(place) = other.place.checked_sub(self.peers.len()).and_then(|at| self.places.get_mut(at))
        {
            *place = None;
        }
        let (client, config) = (other.place, self.client.clone());
        self.requests.push_back(ClientRequest { client, config, servers: Vec::new() });
        // Sessions that got the table are to learn that it is gone.
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
                    "{title} is stale: its lease is over; it goes after {} ms",
                    self.hold.as_millis()
                );
            }
            OriginEvent::Expired(_) => tracing::warn!("{title} has expired"),
            OriginEvent::Contested(_) => tracing::error!(
                "{title}: somebody else makes newer descriptions of it: another route server is called {} too, or the clock of this one was set back",
                self.name
            ),
        }
    }

    /// Another server that has an origin of the same name.
    pub(super) fn namesake(&self, id: OriginId, value: &OriginValue) -> Option<String> {
        if value.name == PRESENCE {
            return None;
        }
        let own = self.sources.iter().map(|s| (s.id, s.name.as_str(), self.name.as_str()));
        let others =
            self.origins.others().filter(|(_, _, state)| !matches!(state, OriginState::Expired { .. }));
        let others = others.map(|(id, value, _)| (id, value.name.as_str(), value.server.as_str()));
        let mut all = own.chain(others);
        all.find(|(other, name, _)| *other != id && *name == value.name)
            .map(|(_, _, server)| server.to_owned())
    }
}

/// Whose routes changed in the newest commits: in as many as have few enough, since one may hold a whole table.
fn recent(table: &Table) -> Vec<(u32, IpNet)> {
    let since = |commits: u64| table.serial().saturating_sub(commits).max(table.horizon());
    let mut commits = RECENT_COMMITS;
    while commits > 0 && table.count_since(since(commits), RECENT_PREFIXES + 1) > RECENT_PREFIXES {
        commits /= 2;
    }
    table.changes_since(since(commits)).map(|batch| prefixes_of(&batch)).unwrap_or_default()
}

/// Whose routes changed.
fn prefixes_of(batch: &Batch<'_>) -> Vec<(u32, IpNet)> {
    let prefix = |change: Change| match change.key() {
        Key::RibRoute { vrf, prefix, .. } => Some((*vrf, *prefix)),
        _ => None,
    };
    batch.changes().filter_map(prefix).collect()
}

/// An origin in words.
fn title(value: &OriginValue) -> String {
    match value.name.as_str() {
        PRESENCE => format!("route server {}", value.server),
        name => format!("origin {name:?} of {}", value.server),
    }
}

/// Two servers have an origin of one name.
pub(super) fn conflict(origin: &str, a: &str, b: &str) -> String {
    let (a, b) = if a < b { (a, b) } else { (b, a) };
    format!("origin {origin:?} is configured at {a} and at {b}: give it another name at one of them")
}

#[cfg(test)]
mod tests {
    use fibcast_sync_proto::{GroupValue, Label, Value};

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
