//! The routes of one address family: a map with compact keys, and the changes that wait for the RIB.

use std::collections::VecDeque;
use std::hash::Hash;
use std::net::{Ipv4Addr, Ipv6Addr};

use hashbrown::{HashMap, HashSet};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::objects::{Objects, Resolved};
use super::paths::{PathId, Paths};

/// Target of a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Via {
    /// It is withdrawn.
    Gone,
    /// A path, of which the holder owns a reference.
    Path(PathId),
    /// A next-hop object.
    Object(u32),
}

/// A destination in few bytes: a full table has a million.
pub trait Destination: Copy + Eq + Hash {
    /// VRF and prefix.
    fn unpack(self) -> (u32, IpNet);
}

/// See [`Destination`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct V4 {
    vrf: u32,
    address: u32,
    length: u8,
}

/// See [`Destination`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct V6 {
    vrf: u32,
    address: [u32; 4],
    length: u8,
}

impl V4 {
    /// Packs a prefix.
    pub fn pack(vrf: u32, prefix: Ipv4Net) -> Self {
        Self { vrf, address: prefix.network().to_bits(), length: prefix.prefix_len() }
    }
}

impl V6 {
    /// Packs a prefix.
    pub fn pack(vrf: u32, prefix: Ipv6Net) -> Self {
        let bits = prefix.network().to_bits();
        let address = [96, 64, 32, 0].map(|shift| (bits >> shift) as u32);
        Self { vrf, address, length: prefix.prefix_len() }
    }
}

impl Destination for V4 {
    fn unpack(self) -> (u32, IpNet) {
        let prefix = Ipv4Net::new(Ipv4Addr::from_bits(self.address), self.length).unwrap_or_default();
        (self.vrf, prefix.into())
    }
}

impl Destination for V6 {
    fn unpack(self) -> (u32, IpNet) {
        let bits = self.address.iter().fold(0u128, |bits, word| bits << 32 | u128::from(*word));
        let prefix = Ipv6Net::new(Ipv6Addr::from_bits(bits), self.length).unwrap_or_default();
        (self.vrf, prefix.into())
    }
}

/// No path.
const NONE: PathId = PathId::MAX;

#[derive(Debug, Clone, Copy)]
struct MirrorRoute {
    via: Via,
    /// The path that the RIB has, of which the entry owns a reference.
    in_rib: PathId,
    /// Not refreshed since the sender started over.
    stale: bool,
    /// Queued for the RIB.
    waits: bool,
    /// It is announced to the RIB once more, changed or not.
    again: bool,
}

/// State shared by all routes.
#[derive(Debug, Default)]
pub struct Shared {
    /// Paths in use.
    pub paths: Paths,
    /// Next-hop objects.
    pub objects: Objects,
}

impl Shared {
    fn take(&mut self, via: Via) {
        if let Via::Object(id) = via {
            self.objects.use_by_route(id);
        }
    }

    fn give_back(&mut self, via: Via) {
        match via {
            Via::Gone => {}
            Via::Path(path) => self.paths.give_back(path),
            Via::Object(id) => self.objects.unused_by_route(id),
        }
    }

    /// The current path of a route; None: unknown yet.
    fn target(&self, via: Via) -> Option<PathId> {
        match via {
            Via::Gone => Some(NONE),
            Via::Path(path) => Some(self.usable(path)),
            Via::Object(id) => match self.objects.resolved(id) {
                Resolved::Path(path) => Some(self.usable(path)),
                Resolved::Unusable(_) => Some(NONE),
                Resolved::Unknown => None,
            },
        }
    }

    fn usable(&self, path: PathId) -> PathId {
        if self.paths.is_usable(path) { path } else { NONE }
    }
}

/// Figures of routes: those of one family, or of several together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Figures {
    /// Routes that the sender has and the source takes.
    pub live: u64,
    /// Of those, not received again since the sender started over.
    pub stale: u64,
    /// Stale routes heard again, ever.
    pub refreshed: u64,
    /// New routes, in total.
    pub fresh: u64,
}

impl std::iter::Sum for Figures {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |sum, one| Self {
            live: sum.live + one.live,
            stale: sum.stale + one.stale,
            refreshed: sum.refreshed + one.refreshed,
            fresh: sum.fresh + one.fresh,
        })
    }
}

/// A change for the RIB: destination and path; none: withdrawn.
pub type NetChange<K> = (K, Option<PathId>);

/// The routes of one family.
#[derive(Debug)]
pub struct Side<K> {
    map: HashMap<K, MirrorRoute>,
    waiting: VecDeque<K>,
    /// Counters.
    pub figures: Figures,
}

impl<K> Default for Side<K> {
    fn default() -> Self {
        Self { map: HashMap::new(), waiting: VecDeque::new(), figures: Figures::default() }
    }
}

impl<K: Destination> Side<K> {
    /// A route was added or changed. Takes over the path's reference.
    pub fn set(&mut self, key: K, via: Via, shared: &mut Shared) {
        let fresh = MirrorRoute { via: Via::Gone, in_rib: NONE, stale: false, waits: false, again: false };
        let entry = self.map.entry(key).or_insert(fresh);
        if entry.via == Via::Gone {
            self.figures.live += 1;
            self.figures.fresh += u64::from(entry.in_rib == NONE);
        }
        if std::mem::take(&mut entry.stale) {
            self.figures.stale -= 1;
            self.figures.refreshed += 1;
        }
        // Even without a change: `via` came with a reference of its own.
        shared.take(via);
        shared.give_back(std::mem::replace(&mut entry.via, via));
        if !entry.waits && shared.target(via) != Some(entry.in_rib) {
            entry.waits = true;
            self.waiting.push_back(key);
        }
    }

    /// A route was deleted. False: it was unknown.
    pub fn remove(&mut self, key: K, shared: &mut Shared) -> bool {
        let Some(entry) = self.map.get_mut(&key).filter(|e| e.via != Via::Gone) else { return false };
        self.figures.live -= 1;
        self.figures.stale -= u64::from(std::mem::take(&mut entry.stale));
        shared.give_back(std::mem::replace(&mut entry.via, Via::Gone));
        if !entry.waits {
            entry.waits = true;
            self.waiting.push_back(key);
        }
        true
    }

    /// Target of a route that exists and is not stale.
    pub fn fresh(&self, key: K) -> Option<Via> {
        self.map.get(&key).filter(|e| e.via != Via::Gone && !e.stale).map(|e| e.via)
    }

    /// The path that the RIB has.
    pub fn in_rib(&self, key: K) -> Option<PathId> {
        self.map.get(&key).map(|e| e.in_rib).filter(|in_rib| *in_rib != NONE)
    }

    /// All routes become stale, and keep their state in the RIB until they are refreshed or swept.
    pub fn begin(&mut self, shared: &mut Shared) {
        for entry in self.map.values_mut().filter(|e| e.via != Via::Gone) {
            entry.stale = true;
            // Ids of objects have no meaning any more.
            if let Via::Object(_) = entry.via {
                let in_rib = shared.paths.current(entry.in_rib);
                let via = if in_rib == NONE { Via::Gone } else { Via::Path(in_rib) };
                if let Via::Path(path) = via {
                    shared.paths.again(path);
                }
                shared.give_back(std::mem::replace(&mut entry.via, via));
                if via == Via::Gone {
                    entry.stale = false;
                    self.figures.live -= 1;
                }
            }
        }
        self.figures.stale = self.figures.live;
        self.map.retain(|_, e| e.via != Via::Gone || e.in_rib != NONE || e.waits);
    }

    /// The current path of a destination; none if it has none, or its object is unknown.
    pub fn target(&self, key: K, shared: &Shared) -> Option<PathId> {
        shared.target(self.map.get(&key)?.via).filter(|path| *path != NONE)
    }

    /// Withdraws stale routes; returns their number.
    pub fn sweep(&mut self, shared: &mut Shared) -> u64 {
        if self.figures.stale == 0 {
            return 0;
        }
        let keys: Vec<K> = self.map.iter().filter(|(_, e)| e.stale).map(|(k, _)| *k).collect();
        for key in &keys {
            self.remove(*key, shared);
        }
        keys.len() as u64
    }

    /// Re-evaluates routes of changed objects; with `gone`, withdraws them.
    pub fn re_evaluate(&mut self, changed: &HashSet<u32>, gone: bool, shared: &mut Shared) {
        let concerned = |entry: &MirrorRoute| matches!(entry.via, Via::Object(id) if changed.contains(&id));
        if gone {
            let keys: Vec<K> = self.map.iter().filter(|(_, e)| concerned(e)).map(|(k, _)| *k).collect();
            keys.iter().for_each(|key| {
                self.remove(*key, shared);
            });
            return;
        }
        for (key, entry) in self.map.iter_mut().filter(|(_, e)| concerned(e) && !e.waits) {
            entry.waits = true;
            self.waiting.push_back(*key);
        }
    }

    /// Moves routes to the paths that replace theirs.
    pub fn replace(&mut self, replaced: &HashMap<PathId, PathId>, shared: &mut Shared) {
        for (key, entry) in &mut self.map {
            let Via::Path(path) = entry.via else { continue };
            let Some(&new) = replaced.get(&path) else { continue };
            shared.paths.again(new);
            shared.give_back(std::mem::replace(&mut entry.via, Via::Path(new)));
            if !std::mem::replace(&mut entry.waits, true) {
                self.waiting.push_back(*key);
            }
        }
    }

    /// Withdraws routes whose object has been unknown for too long.
    pub fn give_up_parked(&mut self, shared: &mut Shared, out: &mut Vec<NetChange<K>>) {
        for (key, entry) in &mut self.map {
            if entry.in_rib != NONE && shared.target(entry.via).is_none() {
                shared.paths.give_back(std::mem::replace(&mut entry.in_rib, NONE));
                out.push((*key, None));
            }
        }
    }

    /// Every route that the RIB has is announced once more.
    pub fn announce_again(&mut self) {
        for (key, entry) in &mut self.map {
            entry.again = true;
            if !std::mem::replace(&mut entry.waits, true) {
                self.waiting.push_back(*key);
            }
        }
    }

    /// Net changes since the RIB got the last ones, up to `limit` of them.
    pub fn tell(&mut self, shared: &mut Shared, limit: usize, out: &mut Vec<NetChange<K>>) {
        while out.len() < limit {
            let Some(key) = self.waiting.pop_front() else { break };
            let Some(entry) = self.map.get_mut(&key) else { continue };
            entry.waits = false;
            let in_rib = entry.in_rib;
            let again = std::mem::take(&mut entry.again) && in_rib != NONE;
            match shared.target(entry.via) {
                // The RIB's state stays until the object arrives.
                None if again => out.push((key, Some(in_rib))),
                None => {}
                Some(target) if target == in_rib && again => out.push((key, Some(in_rib))),
                Some(target) if target == in_rib => {}
                Some(target) => {
                    if target != NONE {
                        shared.paths.again(target);
                    }
                    entry.in_rib = target;
                    if in_rib != NONE {
                        shared.paths.give_back(in_rib);
                    }
                    out.push((key, (target != NONE).then_some(target)));
                }
            }
            if entry.via == Via::Gone && entry.in_rib == NONE {
                self.map.remove(&key);
            }
        }
    }
}
