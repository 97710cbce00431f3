//! The routes of recorded peers, and the best of each prefix: what a router would use that had them all as neighbors.
//!
//! A peer's message replaces its path with the same path identifier (RFC 7911) and no other peer's. The best path has the shortest AS path,
//! then the lowest peer address, then the lowest path identifier. Recordings do not tell more that a decision needs (local preference
//! is the collector's, the IGP's metric is unknown).
//!
//! All paths of a prefix are kept only where a later message may remove one ([`Keep`]): the tables of collectors have 40 peers and more.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use fibcast_mrt::{Event, Route};
use fibcast_sync_proto::GroupValue;
use ipnet::IpNet;

use crate::source::Group;

/// The prefixes whose paths are all kept.
#[derive(Debug, Clone)]
pub enum Keep {
    /// These: no other changes later.
    Only(HashSet<IpNet>),
    /// All prefixes.
    All,
}

impl Keep {
    fn has(&self, prefix: &IpNet) -> bool {
        match self {
            Keep::Only(prefixes) => prefixes.contains(prefix),
            Keep::All => true,
        }
    }
}

/// A message changes a prefix of which only the best path was kept: read the table again with [`Keep::All`].
#[derive(Debug, PartialEq, Eq)]
pub struct NotKept;

/// One peer's path, with indices into the lists of [`Neighbors`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Path {
    as_path_len: u32,
    metric: u32,
    peer: u32,
    path_id: Option<u32>,
    hop: u32,
}

impl Path {
    fn is_of(&self, peer: u32, path_id: Option<u32>) -> bool {
        self.peer == peer && self.path_id == path_id
    }
}

/// Group and metric of a prefix; none: no peer reaches it.
pub type Best = Option<(Arc<Group>, u32)>;

/// Routes of all peers.
pub struct Neighbors {
    keep: Keep,
    peers: Vec<IpAddr>,
    hops: Vec<Arc<Group>>,
    hop_of: HashMap<IpAddr, u32>,
    /// The best path of each prefix.
    best: HashMap<IpNet, Path>,
    /// Its other paths, if any: few prefixes have some that are kept.
    others: HashMap<IpNet, Vec<Path>>,
    /// Another path than the best one was dropped, by [`Keep`].
    dropped: bool,
    /// Announcements without a usable next hop, which count as withdrawals (RFC 4271 §6.3).
    pub without_next_hop: u64,
}

impl Neighbors {
    /// No routes.
    pub fn new(keep: Keep) -> Self {
        Self {
            keep,
            peers: Vec::new(),
            hops: Vec::new(),
            hop_of: HashMap::new(),
            best: HashMap::new(),
            others: HashMap::new(),
            dropped: false,
            without_next_hop: 0,
        }
    }

    /// Adds an entry of a table. The better one counts where a peer has two for a prefix without path identifiers.
    pub fn add(&mut self, route: &Route) {
        let Some(path) = self.path(route) else { return };
        let better = |a: &Path, b: &Path| rank(a, &self.peers) < rank(b, &self.peers);
        match self.best.entry(route.prefix) {
            Entry::Vacant(entry) => {
                entry.insert(path);
            }
            Entry::Occupied(mut best) if !self.keep.has(&route.prefix) => {
                self.dropped = true;
                if better(&path, best.get()) {
                    best.insert(path);
                }
            }
            Entry::Occupied(_) => {
                let mut paths = self.take(&route.prefix);
                match paths.iter_mut().find(|known| known.is_of(path.peer, path.path_id)) {
                    Some(known) if rank(&path, &self.peers) < rank(known, &self.peers) => *known = path,
                    Some(_) => {}
                    None => paths.push(path),
                }
                self.put(route.prefix, paths);
            }
        }
    }

    /// Applies a message. `Ok(true)`: the best path of its prefix has changed.
    ///
    /// # Errors
    /// [`NotKept`] where that cannot be known.
    pub fn apply(&mut self, route: &Route) -> Result<bool, NotKept> {
        if self.dropped && !self.keep.has(&route.prefix) {
            return Err(NotKept);
        }
        let path = self.path(route);
        let peer = self.peer(route.peer);
        let before = self.best.get(&route.prefix).copied();
        let mut paths = self.take(&route.prefix);
        paths.retain(|known| !known.is_of(peer, route.path_id));
        paths.extend(path);
        self.put(route.prefix, paths);
        Ok(forwarding(before) != forwarding(self.best.get(&route.prefix).copied()))
    }

    /// Withdraws all that a peer has announced; gives the prefixes whose best path has changed.
    ///
    /// # Errors
    /// [`NotKept`] where that cannot be known.
    pub fn end_session(&mut self, peer: IpAddr) -> Result<Vec<IpNet>, NotKept> {
        if self.dropped && !matches!(self.keep, Keep::All) {
            return Err(NotKept);
        }
        let peer = self.peer(peer);
        self.others.retain(|_, paths| {
            paths.retain(|path| path.peer != peer);
            !paths.is_empty()
        });
        let lost: Vec<(IpNet, Path)> = self
            .best
            .iter()
            .filter(|(_, path)| path.peer == peer)
            .map(|(prefix, path)| (*prefix, *path))
            .collect();
        let mut changed = Vec::new();
        for (prefix, before) in lost {
            self.best.remove(&prefix);
            let paths = self.take(&prefix);
            self.put(prefix, paths);
            if forwarding(Some(before)) != forwarding(self.best.get(&prefix).copied()) {
                changed.push(prefix);
            }
        }
        Ok(changed)
    }

    /// Removes all paths of a prefix.
    fn take(&mut self, prefix: &IpNet) -> Vec<Path> {
        let mut paths = self.others.remove(prefix).unwrap_or_default();
        paths.extend(self.best.remove(prefix));
        paths
    }

    /// Sets the paths of a prefix that has none.
    fn put(&mut self, prefix: IpNet, mut paths: Vec<Path>) {
        let best = paths.iter().enumerate().min_by_key(|(_, path)| rank(path, &self.peers));
        let Some((at, _)) = best else { return };
        self.best.insert(prefix, paths.swap_remove(at));
        if !paths.is_empty() {
            self.others.insert(prefix, paths);
        }
    }

    /// What a prefix is forwarded by.
    pub fn best(&self, prefix: &IpNet) -> Best {
        self.forwarded_by(self.best.get(prefix)?)
    }

    fn forwarded_by(&self, path: &Path) -> Best {
        Some((self.hops.get(path.hop as usize)?.clone(), path.metric))
    }

    /// Whether there is no path to anywhere.
    pub fn is_empty(&self) -> bool {
        self.best.is_empty()
    }

    /// Number of prefixes with a path.
    pub fn len(&self) -> usize {
        self.best.len()
    }

    /// What each prefix is forwarded by, in the order of prefixes.
    pub fn routes(&self) -> Vec<(IpNet, Best)> {
        let mut all: Vec<_> =
            self.best.iter().map(|(prefix, path)| (*prefix, self.forwarded_by(path))).collect();
        all.sort_unstable_by_key(|(prefix, _)| *prefix);
        all
    }

    /// Frees the paths of prefixes that do not change any more.
    pub fn forget_unchanging(&mut self) {
        let keep = &self.keep;
        self.best.retain(|prefix, _| keep.has(prefix));
        self.best.shrink_to_fit();
    }

    /// The announced path; none for a withdrawal.
    fn path(&mut self, route: &Route) -> Option<Path> {
        let Event::Announce { next_hop, metric, as_path_len } = route.event else { return None };
        if next_hop.is_unspecified() || next_hop.is_multicast() {
            self.without_next_hop += 1;
            return None;
        }
        let next = self.hops.len() as u32;
        let hop = *self.hop_of.entry(next_hop).or_insert(next);
        if hop == next {
            self.hops.push(Group::new(GroupValue::via(next_hop)));
        }
        Some(Path { as_path_len, metric, peer: self.peer(route.peer), path_id: route.path_id, hop })
    }

    /// A file has some tens of peers.
    fn peer(&mut self, address: IpAddr) -> u32 {
        let known = self.peers.iter().position(|peer| *peer == address);
        known.unwrap_or_else(|| {
            self.peers.push(address);
            self.peers.len() - 1
        }) as u32
    }
}

/// Lower is better.
fn rank(path: &Path, peers: &[IpAddr]) -> (u32, Option<IpAddr>, Option<u32>) {
    (path.as_path_len, peers.get(path.peer as usize).copied(), path.path_id)
}

/// What of a path is seen outside.
fn forwarding(path: Option<Path>) -> Option<(u32, u32)> {
    path.map(|path| (path.hop, path.metric))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    const PREFIX: &str = "203.0.113.0/24";

    /// A route of 203.0.113.0/24 by the next hop 198.18.0.`hop`; none: withdrawn.
    fn route(peer: &str, path_id: Option<u32>, as_path_len: u32, hop: Option<u8>) -> Route {
        let event = match hop {
            Some(hop) => Event::Announce { next_hop: [198, 18, 0, hop].into(), metric: 0, as_path_len },
            None => Event::Withdraw,
        };
        Route { time_us: 0, peer: ip(peer), path_id, prefix: PREFIX.parse().unwrap(), event }
    }

    /// Last byte of the best path's next hop.
    fn best(neighbors: &Neighbors) -> Option<u8> {
        let (group, _) = neighbors.best(&PREFIX.parse().unwrap())?;
        (1..=255).find(|&hop| group.value == GroupValue::via([198, 18, 0, hop].into()))
    }

    fn tables() -> [Neighbors; 2] {
        [Neighbors::new(Keep::All), Neighbors::new(Keep::Only(HashSet::new()))]
    }

    #[test]
    fn the_shortest_as_path_then_the_lowest_peer_then_the_lowest_path_identifier_is_best() {
        for mut n in tables() {
            n.add(&route("192.0.2.9", None, 3, Some(1)));
            assert_eq!(best(&n), Some(1));
            n.add(&route("192.0.2.10", None, 2, Some(2)));
            assert_eq!(best(&n), Some(2), "shorter");
            n.add(&route("192.0.2.9", Some(7), 2, Some(3)));
            assert_eq!(best(&n), Some(3), "9 before 10, as numbers");
            n.add(&route("192.0.2.9", Some(5), 2, Some(4)));
            assert_eq!(best(&n), Some(4), "path 5 before path 7");
            n.add(&route("192.0.2.9", Some(6), 2, Some(5)));
            assert_eq!(best(&n), Some(4), "the last path of an entry is not the best one");
        }
    }

    #[test]
    fn of_two_entries_of_a_peer_without_identifiers_the_better_counts_and_the_first_of_equals() {
        for mut n in tables() {
            n.add(&route("192.0.2.9", None, 3, Some(1)));
            n.add(&route("192.0.2.9", None, 3, Some(2)));
            assert_eq!(best(&n), Some(1));
            n.add(&route("192.0.2.9", None, 1, Some(3)));
            assert_eq!(best(&n), Some(3));
        }
    }

    #[test]
    fn a_peers_message_replaces_its_own_path_and_no_other() {
        let mut n = Neighbors::new(Keep::All);
        assert_eq!(n.apply(&route("192.0.2.1", None, 2, Some(1))), Ok(true));
        assert_eq!(n.apply(&route("192.0.2.2", None, 3, Some(2))), Ok(false), "longer");
        assert_eq!(n.apply(&route("192.0.2.1", None, 4, Some(3))), Ok(true));
        assert_eq!(best(&n), Some(2));
        assert_eq!(n.apply(&route("192.0.2.2", None, 0, None)), Ok(true));
        assert_eq!(best(&n), Some(3));
        assert_eq!(n.apply(&route("192.0.2.2", None, 0, None)), Ok(false), "withdrawn already");
        assert_eq!(n.apply(&route("192.0.2.1", None, 0, None)), Ok(true));
        assert_eq!((best(&n), n.is_empty()), (None, true));
    }

    #[test]
    fn additional_paths_are_withdrawn_one_by_one() {
        let mut n = Neighbors::new(Keep::All);
        for (id, hop) in [(1, 1), (2, 2)] {
            n.apply(&route("192.0.2.1", Some(id), 2, Some(hop))).unwrap();
        }
        assert_eq!(best(&n), Some(1));
        assert_eq!(n.apply(&route("192.0.2.1", Some(1), 0, None)), Ok(true));
        assert_eq!(best(&n), Some(2));
    }

    #[test]
    fn the_end_of_a_session_withdraws_all_of_that_peer() {
        let mut n = Neighbors::new(Keep::All);
        n.add(&route("192.0.2.1", Some(1), 2, Some(1)));
        n.add(&route("192.0.2.1", Some(2), 2, Some(2)));
        n.add(&route("192.0.2.2", None, 5, Some(3)));
        assert_eq!(n.end_session(ip("192.0.2.3")), Ok(vec![]));
        assert_eq!(n.end_session(ip("192.0.2.1")).unwrap().len(), 1);
        assert_eq!(best(&n), Some(3));
    }

    #[test]
    fn a_change_of_what_was_not_kept_is_told_and_not_guessed() {
        let mut n = Neighbors::new(Keep::Only(HashSet::new()));
        n.add(&route("192.0.2.1", None, 2, Some(1)));
        n.add(&route("192.0.2.2", None, 3, Some(2)));
        assert_eq!(n.apply(&route("192.0.2.1", None, 0, None)), Err(NotKept));
        assert_eq!(n.end_session(ip("192.0.2.1")), Err(NotKept));
    }

    #[test]
    fn a_next_hop_of_no_use_withdraws() {
        let mut n = Neighbors::new(Keep::All);
        n.apply(&route("192.0.2.1", None, 2, Some(1))).unwrap();
        let mut none = route("192.0.2.1", None, 2, Some(1));
        none.event = Event::Announce { next_hop: ip("0.0.0.0"), metric: 0, as_path_len: 0 };
        assert_eq!(n.apply(&none), Ok(true));
        assert_eq!((best(&n), n.without_next_hop), (None, 1));
    }

    proptest::proptest! {
        /// What is left out by [`Keep`] changes no best path, now and after messages about what was kept.
        #[test]
        fn keeping_only_what_changes_gives_the_same_routes(
            table in proptest::collection::vec((0u8..4, 1u8..5, proptest::option::of(0u32..3), 0u32..4, 1u8..9), 0..60),
            messages in proptest::collection::vec((0u8..2, 1u8..5, proptest::option::of(0u32..3), 0u32..4, 0u8..9), 0..60),
        ) {
            let prefix = |n: u8| -> IpNet { format!("10.{n}.0.0/16").parse().unwrap() };
            let route = |(n, peer, id, len, hop): (u8, u8, Option<u32>, u32, u8)| Route {
                prefix: prefix(n),
                ..route(&format!("192.0.2.{peer}"), id, len, (hop > 0).then_some(hop))
            };
            let mut all = Neighbors::new(Keep::All);
            let mut some = Neighbors::new(Keep::Only([prefix(0), prefix(1)].into()));
            for entry in table {
                all.add(&route(entry));
                some.add(&route(entry));
            }
            proptest::prop_assert_eq!(all.routes(), some.routes());
            some.forget_unchanging();
            for message in messages {
                let message = route(message);
                let before = all.best(&message.prefix);
                let changed = all.apply(&message).unwrap();
                proptest::prop_assert_eq!(some.apply(&message), Ok(changed));
                let after = all.best(&message.prefix);
                proptest::prop_assert_eq!(changed, before != after);
                proptest::prop_assert_eq!(some.best(&message.prefix), after);
            }
        }
    }
}
