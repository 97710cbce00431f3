//! Staging of routes.

use ipnet::IpNet;

use super::super::arena::{Arena, MAX_SLOTS, NONE, Slot, halves};
use super::super::{Context, ContextEntry, Table, TableError};
use super::Undo;
use crate::change::{ChangeRef, Path};
use crate::record::{OriginId, route_id, with_octets};

/// A change of a route that waits for the lookup of its block.
#[derive(Debug)]
pub(super) struct Staged {
    /// None: a route of the forwarding table.
    origin: Option<OriginId>,
    vrf: u32,
    prefix: IpNet,
    /// None: the route is deleted.
    path: Option<Path>,
}

impl Staged {
    /// None for a change of another record.
    pub fn of(change: &ChangeRef<'_>) -> Option<Self> {
        match *change {
            ChangeRef::Route { vrf, prefix, label } => {
                let path = label.map(|label| Path { label, distance: 0, metric: 0 });
                Some(Self { origin: None, vrf, prefix, path })
            }
            ChangeRef::RibRoute { origin, vrf, prefix, path } => {
                Some(Self { origin: Some(origin), vrf, prefix, path })
            }
            _ => None,
        }
    }
}

impl Table {
    /// Looks up a block of routes, and reads what the changes will write.
    pub(super) fn find_all(&self, block: &[Staged], found: &mut Vec<Option<Slot>>) {
        found.clear();
        found.extend(block.iter().map(|route| self.find_route(route.origin, route.vrf, &route.prefix)));
        // Plain reads serve as prefetches: none waits for another.
        let mut sum = 0u128;
        for slot in found.iter().flatten() {
            let i = slot.index() as u32;
            let (link, id) =
                if matches!(slot.arena(), Arena::V4) { self.v4.warm(i) } else { self.v6.warm(i) };
            sum ^= id ^ u128::from(self.link(Slot(link.prev)).serial ^ self.link(Slot(link.next)).serial);
        }
        std::hint::black_box(sum);
    }

    /// The slot of a route, live or not.
    pub(in super::super) fn find_route(
        &self,
        origin: Option<OriginId>,
        vrf: u32,
        prefix: &IpNet,
    ) -> Option<Slot> {
        let context = self.find_context(Context { origin, vrf })?;
        let len = prefix.prefix_len();
        match prefix {
            IpNet::V4(p) => {
                self.v4.find(context, u32::from(p.network()), len).map(|i| Slot::new(Arena::V4, i))
            }
            IpNet::V6(p) => self.v6.find(context, halves(p), len).map(|i| Slot::new(Arena::V6, i)),
        }
    }

    fn find_context(&self, context: Context) -> Option<u16> {
        match self.contexts.first() {
            // Most tables have a single context.
            Some(first) if first.context == context => Some(0),
            _ => self.context_ids.get(&context).copied(),
        }
    }

    fn context(&mut self, context: Context) -> Result<u16, TableError> {
        if let Some(i) = self.find_context(context) {
            return Ok(i);
        }
        let i = u16::try_from(self.contexts.len())
            .ok()
            .filter(|&i| i < u16::MAX)
            .ok_or(TableError::TooManyContexts { vrf: context.vrf })?;
        self.contexts.push(ContextEntry::new(context));
        self.context_ids.insert(context, i);
        Ok(i)
    }

    fn route_slot(
        &mut self,
        origin: Option<OriginId>,
        vrf: u32,
        prefix: &IpNet,
    ) -> Result<(Slot, bool), TableError> {
        let context = self.context(Context { origin, vrf })?;
        let entry = self.contexts.get_mut(usize::from(context));
        let len = prefix.prefix_len();
        let full = TableError::Full(MAX_SLOTS);
        Ok(match prefix {
            IpNet::V4(p) => {
                let addr = u32::from(p.network());
                let (i, fresh) = self.v4.find_or_insert(context, addr, len).ok_or(full)?;
                if let Some(entry) = entry.filter(|_| fresh) {
                    entry.v4.insert(addr, len, i);
                }
                (Slot::new(Arena::V4, i), fresh)
            }
            IpNet::V6(p) => {
                let addr = halves(p);
                let (i, fresh) = self.v6.find_or_insert(context, addr, len).ok_or(full)?;
                if let Some(entry) = entry.filter(|_| fresh) {
                    entry.v6.insert(addr, len, i);
                }
                (Slot::new(Arena::V6, i), fresh)
            }
        })
    }

    /// `found` is the route's slot if it had one at the lookup of the block.
    pub(super) fn stage_route(
        &mut self,
        route: &Staged,
        found: Option<Slot>,
        undo: &mut Undo,
    ) -> Result<(), TableError> {
        let Staged { origin, vrf, ref prefix, path } = *route;
        let Some(Path { label, distance, metric }) = path else {
            // An earlier change of this block may have created it.
            if let Some(slot) = found.or_else(|| self.find_route(origin, vrf, prefix)) {
                self.save(slot, false, undo);
                self.set_route(slot, NONE, 0, 0, 0, Some(undo));
            }
            return Ok(());
        };
        let (slot, fresh) = match found {
            Some(slot) => (slot, false),
            None => self.route_slot(origin, vrf, prefix)?,
        };
        self.save(slot, fresh, undo);
        let group = match self.groups.find(label) {
            Some(g) => g,
            None => self.fresh_group(label, undo)?,
        };
        let rib = origin.map(|o| (o, distance, metric));
        let id = with_octets(prefix, |a| route_id(&self.digest_key, rib, vrf, a, prefix.prefix_len(), label));
        self.set_route(slot, group, metric, distance, id, Some(undo));
        Ok(())
    }

    /// Writes a route's state and updates users of groups and counts.
    pub(super) fn set_route(
        &mut self,
        slot: Slot,
        group: u32,
        metric: u32,
        distance: u8,
        id: u128,
        undo: Option<&mut Undo>,
    ) {
        let i = slot.index();
        macro_rules! swap {
            ($routes:expr) => {{
                let (Some(e), Some(old_id)) = ($routes.entries.get_mut(i), $routes.ids.get_mut(i)) else {
                    return;
                };
                *old_id = id;
                e.metric = metric;
                e.distance = distance;
                (std::mem::replace(&mut e.group, group), e.context)
            }};
        }
        let v4 = matches!(slot.arena(), Arena::V4);
        let (old_group, context) = if v4 { swap!(self.v4) } else { swap!(self.v6) };
        if old_group == group {
            return;
        }
        self.use_group(group);
        self.drop_group(old_group, undo);
        let rib = self.contexts.get(usize::from(context)).is_some_and(|c| c.context.origin.is_some());
        let count = match (rib, v4) {
            (false, true) => &mut self.counts.routes_v4,
            (false, false) => &mut self.counts.routes_v6,
            (true, true) => &mut self.counts.rib_routes_v4,
            (true, false) => &mut self.counts.rib_routes_v6,
        };
        *count = *count + u64::from(group != NONE) - u64::from(old_group != NONE);
    }

    fn use_group(&mut self, group: u32) {
        if let Some(e) = self.groups.entries.get_mut(group as usize).filter(|_| group != NONE) {
            e.users += 1;
            self.dangling += u64::from(e.value.is_none());
        }
    }

    fn drop_group(&mut self, group: u32, undo: Option<&mut Undo>) {
        if let Some(e) = self.groups.entries.get_mut(group as usize).filter(|_| group != NONE) {
            e.users = e.users.saturating_sub(1);
            self.dangling = self.dangling.saturating_sub(u64::from(e.value.is_none()));
            if let Some(undo) = undo.filter(|_| e.users == 0) {
                undo.unused.push(group);
            }
        }
    }
}
