//! The control side: holds every route and group, applies batches as a whole or not at all, and stages generations.

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use hashbrown::HashMap;
use ipnet::IpNet;

use crate::change::{Applied, ApplyError, Change, Limits};
use crate::generation::Generation;
use crate::groups::Groups;
use crate::neighbors::Neighbors;
use crate::table::{Counts, Table};
use crate::trie::{Arena, Demand, Encoder, Kernel};
use crate::types::{Adjacency, Group, GroupIndex, GroupLabel, NextHop, PortId, VrfId};

/// The forwarding table of a NIC host, owned by its control thread.
///
/// [`Fib::apply`] stages a batch; [`Fib::generation`] takes an immutable snapshot of what is staged, for [`crate::Publisher`]. Two
/// snapshots share everything that no change touched in between.
#[derive(Debug)]
pub struct Fib {
    limits: Limits,
    serial: u64,
    vrfs: Vec<Option<Table>>,
    encoder: Encoder,
    kernel: Kernel,
    groups: Groups,
    neighbors: Neighbors,
    routes: usize,
    /// The snapshot of the staged state, as long as nothing has changed since it was taken.
    taken: Option<Arc<Generation>>,
}

/// Most group indices that a trie word can hold; the bits above are tags of handles.
const MAX_GROUPS: usize = (1 << 29) - 1;

/// Changes whose cache lines are prefetched together.
const FETCH: usize = 16;

/// What a batch has done to routes, and will do to groups.
#[derive(Debug, Default)]
struct Staged<'a> {
    /// The last change to each group that the batch names.
    puts: HashMap<GroupLabel, Option<&'a Group>>,
    /// Labels without a group before the batch.
    reserved: Vec<GroupLabel>,
    /// The routes that moved, with their previous groups.
    undo: Vec<(VrfId, IpNet, GroupIndex)>,
    applied: Applied,
}

impl Staged<'_> {
    fn puts(&self, label: GroupLabel) -> bool {
        self.puts.get(&label).is_some_and(Option::is_some)
    }
}

impl Fib {
    /// An empty table with the default VRF, and [`Limits::trie_bytes`] of address space for its tries.
    pub fn new(limits: Limits) -> Self {
        Fib::with_trie_bytes(limits, limits.trie_bytes)
    }

    /// Like [`Fib::new`], with another bound on the memory of the tries. The address space is reserved at once, and halved until the system
    /// grants it; at least 4 MiB are used. Physical memory is used as needed.
    ///
    /// # Panics
    /// If the system does not grant even 4 MiB.
    #[allow(clippy::expect_used)]
    pub fn with_trie_bytes(mut limits: Limits, bytes: usize) -> Self {
        limits.max_groups = limits.max_groups.min(MAX_GROUPS);
        let arena = Arena::new(bytes).expect("4 MiB of memory for an empty table");
        Fib {
            limits,
            serial: 0,
            vrfs: vec![Some(Table::new())],
            encoder: Encoder::new(arena),
            kernel: Kernel::best(),
            groups: Groups::new(),
            neighbors: Neighbors::new(),
            routes: 0,
            taken: None,
        }
    }

    /// Name of the lookup kernel that this CPU uses: `scalar`, `avx2` or `avx512`.
    pub fn kernel(&self) -> &'static str {
        self.kernel.name
    }

    /// Names of all lookup kernels that this CPU can run, `scalar` first.
    pub fn kernels() -> Vec<&'static str> {
        Kernel::all().iter().map(|kernel| kernel.name).collect()
    }

    /// Selects one of [`Fib::kernels`] from the next generation on, for comparisons. Returns whether this CPU can run it.
    pub fn use_kernel(&mut self, name: &str) -> bool {
        let Some(kernel) = Kernel::all().into_iter().find(|kernel| kernel.name == name) else { return false };
        self.kernel = kernel;
        self.taken = None;
        true
    }

    /// Selects the lookup kernel that runs on every CPU, for comparisons.
    pub fn use_scalar_kernel(&mut self) {
        self.kernel = Kernel::SCALAR;
        self.taken = None;
    }

    /// Creates a VRF. An existing VRF is left as it is.
    ///
    /// # Errors
    /// [`ApplyError::TooManyVrfs`] if the id is not below [`Limits::max_vrfs`].
    pub fn create_vrf(&mut self, vrf: VrfId) -> Result<(), ApplyError> {
        let place = vrf.0 as usize;
        if place >= self.limits.max_vrfs {
            return Err(ApplyError::TooManyVrfs { vrf, limit: self.limits.max_vrfs });
        }
        if self.vrfs.len() <= place {
            self.vrfs.resize_with(place + 1, || None);
        }
        if let Some(slot @ None) = self.vrfs.get_mut(place) {
            *slot = Some(Table::new());
            self.taken = None;
        }
        Ok(())
    }

    /// The VRFs that exist, in ascending order.
    pub fn vrfs(&self) -> impl Iterator<Item = VrfId> {
        self.vrfs.iter().enumerate().filter(|(_, table)| table.is_some()).map(|(id, _)| VrfId(id as u32))
    }

    /// Applies a batch as a whole, or refuses it as a whole and leaves the table unchanged. `serial` is the serial of the commit that the
    /// batch ends with; the next [`Generation`] carries it.
    ///
    /// # Errors
    /// Each variant of [`ApplyError`] says when it occurs. The table, its groups and all generations are unchanged then. A batch that only
    /// lacks room ([`ApplyError::is_capacity`]) may be retried.
    pub fn apply(&mut self, changes: &[Change], serial: u64) -> Result<Applied, ApplyError> {
        let mut staged = Staged::default();
        let done = self.stage(changes, &mut staged).and_then(|()| self.check(changes, &staged));
        if let Err(error) = done {
            self.roll_back(staged);
            return Err(error);
        }
        for label in staged.reserved.iter().filter(|label| !staged.puts(**label)) {
            self.groups.delete(*label);
        }
        let Staged { puts, mut applied, .. } = staged;
        for (&label, put) in &puts {
            match put {
                Some(group) => applied.groups += usize::from(self.groups.commit(label, group)),
                None => applied.groups_deleted += usize::from(self.groups.delete(label)),
            }
        }
        for table in self.vrfs.iter_mut().flatten() {
            table.encode(&mut self.encoder);
        }
        self.serial = serial;
        self.taken = None;
        Ok(applied)
    }

    /// The one pass over a batch: points routes to their groups, and notes the changes of groups. A route may name a group that comes
    /// later.
    fn stage<'a>(&mut self, changes: &'a [Change], staged: &mut Staged<'a>) -> Result<(), ApplyError> {
        for (at, change) in changes.iter().enumerate() {
            if at % FETCH == 0 {
                self.fetch(changes.iter().skip(at).take(FETCH));
            }
            let (vrf, prefix, index) = match change {
                Change::PutGroup { label, group } => {
                    group.check().map_err(|error| ApplyError::BadGroup { label: *label, error })?;
                    self.index_or_reserve(*label, staged);
                    staged.puts.insert(*label, Some(group));
                    continue;
                }
                Change::DeleteGroup { label } => {
                    staged.puts.insert(*label, None);
                    continue;
                }
                &Change::Announce { vrf, prefix, label } => {
                    (vrf, prefix, self.index_or_reserve(label, staged))
                }
                &Change::Withdraw { vrf, prefix } => (vrf, prefix, GroupIndex::NO_ROUTE),
            };
            if self.table(vrf).is_none() {
                // A VRF that does not exist has no route to withdraw, so a server can correct an announcement that was refused.
                if matches!(change, Change::Withdraw { .. }) {
                    staged.applied.unknown += 1;
                    continue;
                }
                return Err(ApplyError::UnknownVrf { vrf, prefix });
            }
            if prefix.trunc() != prefix {
                return Err(ApplyError::HostBits { vrf, prefix });
            }
            let before = self.put_route(vrf, prefix, index);
            let count = match (index == GroupIndex::NO_ROUTE, before == index) {
                (true, true) => &mut staged.applied.unknown,
                (true, false) => &mut staged.applied.withdrawn,
                (false, true) => &mut staged.applied.unchanged,
                (false, false) => &mut staged.applied.announced,
            };
            *count += 1;
            if before != index {
                staged.undo.push((vrf, prefix, before));
            }
        }
        Ok(())
    }

    fn index_or_reserve(&mut self, label: GroupLabel, staged: &mut Staged<'_>) -> GroupIndex {
        self.groups.index(label).unwrap_or_else(|| {
            staged.reserved.push(label);
            self.groups.reserve(label)
        })
    }

    /// Checks the end of a batch. Only the net result counts: a full table may swap one group for another.
    fn check(&mut self, changes: &[Change], staged: &Staged<'_>) -> Result<(), ApplyError> {
        let deleted = staged.puts.iter().filter(|(_, put)| put.is_none()).map(|(label, _)| *label);
        let missing = staged.reserved.iter().copied().filter(|label| !staged.puts(*label));
        for label in missing.chain(deleted) {
            let routes = self.groups.routes(label);
            if routes > 0 {
                let announced = changes.iter().find_map(|change| match *change {
                    Change::Announce { vrf, prefix, label: named } if named == label => Some((vrf, prefix)),
                    _ => None,
                });
                return Err(match announced {
                    Some((vrf, prefix)) => ApplyError::UnknownLabel { vrf, prefix, label },
                    None => ApplyError::GroupInUse { label, routes },
                });
            }
        }
        let limit = self.limits.max_groups;
        let gone =
            staged.puts.iter().filter(|(label, put)| put.is_none() && self.groups.index(**label).is_some());
        let unnamed = staged.reserved.iter().filter(|label| !staged.puts.contains_key(*label));
        if self.groups.len() - gone.count() - unnamed.count() > limit {
            let mut new = staged.reserved.iter().rev().filter(|label| staged.puts(**label));
            if let Some(&label) = new.next() {
                return Err(ApplyError::TooManyGroups { label, limit });
            }
        }
        if self.routes > self.limits.max_routes {
            // The last announcement of a new prefix is the one that did not fit.
            let last = staged.undo.iter().rev().find(|(.., before)| *before == GroupIndex::NO_ROUTE);
            if let Some(&(vrf, prefix, _)) = last {
                return Err(ApplyError::TooManyRoutes { vrf, prefix, limit: self.limits.max_routes });
            }
        }
        self.check_room(changes.len())
    }

    /// Prefetches what several changes will read, so that their cache misses overlap.
    fn fetch<'a>(&self, changes: impl Iterator<Item = &'a Change>) {
        for change in changes {
            if let Change::Announce { vrf, prefix, .. } | Change::Withdraw { vrf, prefix } = *change
                && let Some(table) = self.table(vrf)
            {
                table.fetch(prefix);
            }
        }
    }

    /// Writes one route (`NO_ROUTE` removes it) and updates all counts; returns the previous group.
    fn put_route(&mut self, vrf: VrfId, prefix: IpNet, index: GroupIndex) -> GroupIndex {
        let Some(Some(table)) = self.vrfs.get_mut(vrf.0 as usize) else { return GroupIndex::NO_ROUTE };
        let before = table.set(prefix, index);
        if before != index {
            self.routes += usize::from(before == GroupIndex::NO_ROUTE);
            self.routes -= usize::from(index == GroupIndex::NO_ROUTE);
            self.groups.count(before, -1);
            self.groups.count(index, 1);
        }
        before
    }

    /// Reserves memory for the whole batch before the first block is written, so that no batch is encoded in part.
    fn check_room(&mut self, changes: usize) -> Result<(), ApplyError> {
        self.encoder.arena.reclaim();
        if self.encoder.arena.surely_has_room(changes) {
            return Ok(());
        }
        self.check_room_for(Demand::new())
    }

    /// Reserves memory for what is marked, and for further blocks.
    pub(crate) fn check_room_for(&mut self, mut demand: Demand) -> Result<(), ApplyError> {
        self.encoder.arena.reclaim();
        self.vrfs.iter().flatten().for_each(|table| table.demand(&self.encoder, &mut demand));
        let arena = &mut self.encoder.arena;
        if arena.reserve(&demand) {
            return Ok(());
        }
        Err(ApplyError::TrieMemory { need: demand.bytes(), used: arena.used(), limit: arena.limit() })
    }

    /// Whether this generation is the staged state.
    pub fn is_staged_as(&self, generation: &Arc<Generation>) -> bool {
        self.taken.as_ref().is_some_and(|taken| Arc::ptr_eq(taken, generation))
    }

    pub(crate) fn groups_wrong_in(&self, generation: &Generation) -> Vec<GroupLabel> {
        self.groups.wrong_in(generation)
    }

    pub(crate) fn groups_recompile(&mut self, label: GroupLabel) {
        self.groups.recompile(label);
        self.taken = None;
    }

    pub(crate) fn next_hop_in<'a>(
        &self,
        generation: &'a Generation,
        next_hop: &NextHop,
    ) -> Option<&'a Adjacency> {
        self.groups.adjacency_in(generation, next_hop)
    }

    pub(crate) fn neighbors_anew(&mut self, all: impl IntoIterator<Item = (PortId, IpAddr, Adjacency)>) {
        self.neighbors = Neighbors::new();
        for (port, address, adjacency) in all {
            self.neighbors.set(port, address, adjacency);
        }
        self.taken = None;
    }

    pub(crate) fn refresh_tries(&mut self) {
        self.vrfs.iter_mut().flatten().for_each(Table::refresh);
    }

    pub(crate) fn settle_tries(&mut self) {
        self.vrfs.iter_mut().flatten().for_each(Table::settle);
    }

    pub(crate) fn encoder_mut(&mut self) -> &mut Encoder {
        &mut self.encoder
    }

    /// Encodes what is marked, without a block of before.
    pub(crate) fn encode_tries_anew(&mut self) {
        let uniform = self.encoder.take_uniform();
        for table in self.vrfs.iter_mut().flatten() {
            table.encode(&mut self.encoder);
        }
        self.encoder.retire_uniform(uniform);
        self.taken = None;
    }

    /// Puts a wrong group into the published blocks of a prefix, and leaves the control side's records as they are: what a broken memory
    /// or a bug of the encoder would do. For tests of the scrubber.
    #[cfg(feature = "fault-injection")]
    #[doc(hidden)]
    pub fn corrupt(&mut self, vrf: VrfId, prefix: IpNet, label: Option<GroupLabel>) {
        let wrong = label.and_then(|label| self.groups.index(label)).unwrap_or(GroupIndex::NO_ROUTE);
        let right = self.put_route(vrf, prefix, wrong);
        for table in self.vrfs.iter_mut().flatten() {
            table.encode(&mut self.encoder);
        }
        self.put_route(vrf, prefix, right);
        self.vrfs.iter_mut().flatten().for_each(Table::settle);
        self.taken = None;
    }

    /// Damages what workers read of a next hop in use: its adjacency, or with `copies` those in groups of this next hop alone. For tests of
    /// the scrubber.
    #[cfg(feature = "fault-injection")]
    #[doc(hidden)]
    pub fn corrupt_adjacency(
        &mut self,
        next_hop: NextHop,
        copies: bool,
        damage: impl FnOnce(&mut Adjacency),
    ) -> bool {
        self.taken = None;
        self.groups.corrupt(next_hop, damage, copies)
    }

    /// Puts a directly connected host where workers do not look for it, or one that nobody knows. For tests of the scrubber.
    #[cfg(feature = "fault-injection")]
    #[doc(hidden)]
    pub fn misplace_neighbor(&mut self, port: PortId, address: IpAddr, adjacency: Adjacency) {
        self.taken = None;
        self.neighbors.misplace((port, address), adjacency);
    }

    fn roll_back(&mut self, staged: Staged<'_>) {
        for (vrf, prefix, before) in staged.undo.into_iter().rev() {
            self.put_route(vrf, prefix, before);
        }
        self.vrfs.iter_mut().flatten().for_each(Table::settle);
        for label in staged.reserved {
            self.groups.delete(label);
        }
    }

    /// Sets where packets to a next hop are sent. Does nothing for a next hop that no group uses. Copies adjacencies only, no trie; returns
    /// whether anything changed.
    pub fn set_adjacency(&mut self, next_hop: NextHop, adjacency: Adjacency) -> bool {
        let changed = self.groups.set_adjacency(next_hop, adjacency);
        if changed {
            self.taken = None;
        }
        changed
    }

    /// The adjacency of a next hop in use.
    pub fn adjacency(&self, next_hop: &NextHop) -> Option<&Adjacency> {
        self.groups.adjacency(next_hop)
    }

    /// The next hops that at least one group uses, in no particular order.
    pub fn next_hops(&self) -> impl Iterator<Item = NextHop> {
        self.groups.next_hops()
    }

    /// The next hops that came into use since the last call. The dataplane has to resolve them.
    pub fn take_new_next_hops(&mut self) -> Vec<NextHop> {
        self.groups.take_new_next_hops()
    }

    /// Sets where packets to a directly connected host are sent; returns whether anything changed.
    ///
    /// # Errors
    /// [`ApplyError::TooManyNeighbors`] if the host is new and would exceed [`Limits::max_neighbors`].
    pub fn set_neighbor(
        &mut self,
        port: PortId,
        address: IpAddr,
        adjacency: Adjacency,
    ) -> Result<bool, ApplyError> {
        let limit = self.limits.max_neighbors;
        if self.neighbors.len() >= limit && self.neighbors.get(port, address).is_none() {
            return Err(ApplyError::TooManyNeighbors { port, address, limit });
        }
        let changed = self.neighbors.set(port, address, adjacency);
        if changed {
            self.taken = None;
        }
        Ok(changed)
    }

    /// Removes a directly connected host; returns whether there was one.
    pub fn remove_neighbor(&mut self, port: PortId, address: IpAddr) -> bool {
        let changed = self.neighbors.remove(port, address);
        if changed {
            self.taken = None;
        }
        changed
    }

    /// The directly connected hosts, in no particular order.
    pub fn neighbors(&self) -> impl Iterator<Item = (PortId, IpAddr, &Adjacency)> {
        self.neighbors.iter()
    }

    /// Snapshot of the staged state. Without a change in between it returns the same one again.
    pub fn generation(&mut self) -> Arc<Generation> {
        if let Some(taken) = &self.taken {
            return taken.clone();
        }
        let vrfs = self.vrfs.iter().map(|table| table.as_ref().map(Table::roots)).collect();
        let generation = Arc::new(Generation {
            serial: self.serial,
            kernel: self.kernel,
            vrfs,
            blocks: self.encoder.arena.snapshot(),
            trie_bytes: self.encoder.arena.used(),
            trie_retired: self.encoder.arena.retired(),
            groups: self.groups.compiled.clone(),
            slots: self.groups.slots.clone(),
            single_hop: self.groups.single_hop.clone(),
            neighbors: self.neighbors.clone(),
            audit: OnceLock::new(),
        });
        self.taken = Some(generation.clone());
        generation
    }

    /// Serial of the last applied batch.
    pub fn serial(&self) -> u64 {
        self.serial
    }

    /// Routes of one VRF by family.
    pub fn counts(&self, vrf: VrfId) -> Counts {
        self.table(vrf).map(Table::counts).unwrap_or_default()
    }

    /// Routes of all VRFs and families.
    pub fn len(&self) -> usize {
        self.routes
    }

    /// Whether there is no route at all.
    pub fn is_empty(&self) -> bool {
        self.routes == 0
    }

    /// The group of exactly this prefix, without longest-prefix match.
    pub fn get(&self, vrf: VrfId, prefix: IpNet) -> Option<GroupLabel> {
        self.groups.label(self.table(vrf)?.get(prefix)?)
    }

    /// Longest-prefix match: the route of a packet to `address`.
    pub fn longest_match(&self, vrf: VrfId, address: IpAddr) -> Option<(IpNet, GroupLabel)> {
        let (prefix, index) = self.table(vrf)?.longest_match(address)?;
        Some((prefix, self.groups.label(index)?))
    }

    /// Routes in order (IPv4 before IPv6, then by address, then by prefix length), starting at `from` or at the first one.
    pub fn routes(&self, vrf: VrfId, from: Option<IpNet>) -> impl Iterator<Item = (IpNet, GroupLabel)> {
        let routes = self.table(vrf).into_iter().flat_map(move |table| table.routes(from));
        routes.filter_map(|(prefix, index)| Some((prefix, self.groups.label(index)?)))
    }

    /// The content of a group.
    pub fn group(&self, label: GroupLabel) -> Option<&Group> {
        self.groups.content(label)
    }

    /// The groups with the number of routes that point to each, in no particular order.
    pub fn groups(&self) -> impl Iterator<Item = (GroupLabel, &Group, usize)> {
        self.groups.iter()
    }

    /// The index that a lookup returns for a group. Valid for generations taken while the group exists.
    pub fn group_index(&self, label: GroupLabel) -> Option<GroupIndex> {
        self.groups.index(label)
    }

    /// The group of an index that a lookup returned, if the generation that was asked is the staged one.
    pub fn group_label(&self, index: GroupIndex) -> Option<GroupLabel> {
        self.groups.label(index)
    }

    /// Bytes of the control side's own data structures, without generations.
    pub fn memory(&self) -> usize {
        self.groups.memory() + self.vrfs.iter().flatten().map(Table::memory).sum::<usize>()
    }

    pub(crate) fn table(&self, vrf: VrfId) -> Option<&Table> {
        self.vrfs.get(vrf.0 as usize)?.as_ref()
    }
}
