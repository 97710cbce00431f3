//! The scrubber of the control side: compares what workers read with the table, slowly, and corrects it.
//!
//! There are two comparisons. Parts of the agent's table arrive in the channel of its batches, so both are at the same commit, and a busy
//! table gives no false alarm; they are compared with the routes and groups here, before recursion and the host's own routes change them.
//! Published tries and compiled groups are compared with these in turn, right after a publication, and what next hops and connected hosts
//! lead to with the links (`adjacencies`). A difference of routes or groups is corrected by a batch like any other, one of the tries by
//! writing all blocks again.

mod adjacencies;

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use fibcast_daemon::scrub::Tally;
use fibcast_fib::{Change, Fib, Generation, Group, GroupLabel, ScrubCursor, VrfId};
use ipnet::IpNet;

use super::own_routes::is_own;
use super::{Batch, Control};

/// Routes that a slice of the tries compares.
const ROUTES: usize = 256;
/// Slices of a pass through tries without routes: their slots.
const EMPTY_SLICES: usize = 600;
/// Shortest interval between two slices.
const SHORTEST: Duration = Duration::from_millis(1);

/// A place in the order of the agent's table: groups by label, then routes by VRF, family and prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Before everything.
    Start,
    /// At this group.
    Group(GroupLabel),
    /// At this route.
    Route(VrfId, IpNet),
    /// Behind everything.
    End,
}

/// A part of the agent's table: all groups and routes behind `after`, up to and including `until`.
#[derive(Debug, Clone)]
pub struct TablePart {
    /// Where it begins.
    pub after: Place,
    /// Where it ends.
    pub until: Place,
    /// Its groups, as translated for this host.
    pub groups: Vec<(GroupLabel, Group)>,
    /// Its routes.
    pub routes: Vec<(VrfId, IpNet, GroupLabel)>,
}

/// What the next slice of a pass compares.
#[derive(Debug, Clone, Copy)]
enum Next {
    /// Next hops, before the groups, which hold copies of them.
    Adjacencies,
    Hosts,
    Groups,
    Tries(ScrubCursor),
}

/// State of the scrubber.
#[derive(Debug)]
pub(super) struct Scrubber {
    /// Time for a pass through the tries; none: off.
    pass: Option<Duration>,
    next: Next,
    due: Instant,
    /// The tries were written again in this pass: a second time would not help.
    rebuilt: bool,
    pub table: Tally,
    pub tries: Tally,
}

impl Scrubber {
    pub fn new(now: Instant) -> Self {
        Self {
            pass: None,
            next: Next::Adjacencies,
            due: now,
            rebuilt: false,
            table: Tally::new("the table"),
            tries: Tally::new("the tries"),
        }
    }
}

impl Control {
    /// Sets the time for a pass through the tries; none switches the scrubber off.
    pub fn scrub_every(&mut self, pass: Option<Duration>) {
        self.scrubber.pass = pass;
    }

    /// Damages the table behind the control side's back, for tests of the scrubber.
    #[doc(hidden)]
    pub fn fault(&mut self, damage: impl FnOnce(&mut Fib)) {
        damage(&mut self.fib);
        self.dirty = true;
    }

    /// Compares a slice of the published tries, when it is due and nothing is staged that is not published.
    pub(super) fn scrub_tries(&mut self, now: Instant) {
        let Some(pass) = self.scrubber.pass.filter(|_| now >= self.scrubber.due) else { return };
        let generation = self.publisher.current();
        if !self.fib.is_staged_as(&generation) {
            return;
        }
        let slices = (self.fib.len() / ROUTES + EMPTY_SLICES) as u32;
        self.scrubber.due = now + (pass / slices).max(SHORTEST);
        let cursor = match self.scrubber.next {
            Next::Adjacencies => {
                self.scrubber.next = Next::Hosts;
                return self.scrub_next_hops(&generation);
            }
            Next::Hosts => {
                self.scrubber.next = Next::Groups;
                return self.scrub_hosts(&generation);
            }
            Next::Groups => {
                self.scrubber.next = Next::Tries(ScrubCursor::default());
                self.scrubber.rebuilt = false;
                return self.scrub_groups(&generation, now);
            }
            Next::Tries(cursor) => cursor,
        };
        let done = self.fib.scrub(&generation, cursor, ROUTES);
        self.scrubber.tries.compared(done.compared);
        let name = |label: Option<GroupLabel>| label.map_or("no route".into(), |label| format!("{label:?}"));
        for one in &done.wrong {
            let (address, vrf) = (one.address, one.vrf.0);
            let (expected, found) = (name(one.expected), name(one.found));
            let text = format!("{address} in VRF {vrf}: the table says {expected}, workers find {found}");
            self.scrubber.tries.difference(text);
        }
        if !done.wrong.is_empty() && !std::mem::replace(&mut self.scrubber.rebuilt, true) {
            match self.fib.rebuild() {
                Ok(()) => {
                    tracing::warn!("scrub of the tries: all blocks were written again");
                    self.scrubber.tries.mended(done.wrong.len());
                    self.dirty = true;
                }
                Err(error) => tracing::error!("scrub of the tries: cannot write them again: {error}"),
            }
        }
        self.scrubber.next = done.next.map_or(Next::Adjacencies, Next::Tries);
        if done.next.is_none() {
            self.scrubber.tries.pass_ends();
        }
    }

    /// Compares the compiled groups with their content.
    fn scrub_groups(&mut self, generation: &Generation, now: Instant) {
        self.scrubber.tries.compared(self.fib.groups().count());
        for label in self.fib.scrub_groups(generation) {
            let text = format!("group {label:?}: what workers read is not its content");
            self.scrubber.tries.difference(text);
            self.fib.recompile(label);
            self.scrubber.tries.mended(1);
            self.dirty = true;
        }
        self.resolve_new(now);
    }

    /// Compares a part of the agent's table, which came behind all batches up to its commit, with the routes and groups here.
    pub fn scrub_table(&mut self, part: &TablePart, now: Instant) {
        self.apply(now);
        // A batch that waits because it failed is a difference that is known.
        if !self.pending.is_empty() || self.failure.is_some() {
            self.scrubber.table.skipped();
            return;
        }
        let mut changes = Vec::new();
        self.compare_groups(part, &mut changes);
        self.compare_routes(part, &mut changes);
        self.scrubber.table.compared(part.groups.len() + part.routes.len());
        if !changes.is_empty() {
            self.scrubber.table.mended(changes.len());
            let number = self.in_use.applied();
            self.push(Batch { changes, serial: self.fib.serial(), number, replaces: false });
        }
        if part.until == Place::End {
            self.scrubber.table.pass_ends();
        }
    }

    fn compare_groups(&mut self, part: &TablePart, changes: &mut Vec<Change>) {
        for (label, group) in &part.groups {
            let found = self.recursion.definition(*label, &self.fib);
            if found == Some(group) {
                continue;
            }
            let text = format!("group {label:?}: the table says {group:?}, found {found:?}");
            self.scrubber.table.difference(text);
            changes.push(Change::PutGroup { label: *label, group: group.clone() });
        }
        let inside = |label: GroupLabel| {
            let above = match part.after {
                Place::Start => true,
                Place::Group(after) => label.0 > after.0,
                Place::Route(..) | Place::End => false,
            };
            above && !matches!(part.until, Place::Group(until) if label.0 > until.0)
        };
        let known: HashSet<GroupLabel> = part.groups.iter().map(|(label, _)| *label).collect();
        // Copies for other VRFs belong to a server's group under another label. A group in use goes with its routes.
        let ghosts: Vec<GroupLabel> = self
            .fib
            .groups()
            .filter(|(label, _, routes)| {
                *routes == 0
                    && inside(*label)
                    && !is_own(*label)
                    && self.recursion.server_label(*label) == *label
                    && !known.contains(label)
            })
            .map(|(label, ..)| label)
            .collect();
        for label in ghosts {
            self.scrubber.table.difference(format!("group {label:?}: not in the table, found here"));
            changes.push(Change::DeleteGroup { label });
        }
    }

    fn compare_routes(&mut self, part: &TablePart, changes: &mut Vec<Change>) {
        let mut known: HashMap<(VrfId, IpNet), GroupLabel> = HashMap::with_capacity(part.routes.len());
        for &(vrf, prefix, label) in &part.routes {
            known.insert((vrf, prefix), label);
            let found = self.server_route(vrf, prefix);
            if found == Some(label) {
                continue;
            }
            let text = format!("{prefix} in VRF {}: the table says {label:?}, found {found:?}", vrf.0);
            self.scrubber.table.difference(text);
            let announced =
                changes.iter().any(|c| matches!(c, Change::PutGroup { label: l, .. } if *l == label));
            if announced
                || self.fib.group_index(label).is_some()
                || self.recursion.definition(label, &self.fib).is_some()
            {
                changes.push(Change::Announce { vrf, prefix, label });
            }
        }
        let ghosts: Vec<(VrfId, IpNet)> = self
            .routes_inside(part.after, part.until)
            .filter(|(vrf, prefix)| {
                !self.own.contains(*vrf, *prefix) && !known.contains_key(&(*vrf, *prefix))
            })
            .collect();
        for (vrf, prefix) in ghosts {
            let text = format!("{prefix} in VRF {}: not in the table, found here", vrf.0);
            self.scrubber.table.difference(text);
            changes.push(Change::Withdraw { vrf, prefix });
        }
    }

    /// The server's group of a route here, whether the host overrides the route or not.
    fn server_route(&self, vrf: VrfId, prefix: IpNet) -> Option<GroupLabel> {
        if self.own.contains(vrf, prefix) {
            return self.own.overridden(vrf, prefix);
        }
        self.fib.get(vrf, prefix).map(|label| self.recursion.server_label(label))
    }

    /// The routes of all VRFs between two places of the table.
    fn routes_inside(&self, after: Place, until: Place) -> impl Iterator<Item = (VrfId, IpNet)> + '_ {
        let any = !matches!(until, Place::Group(_)) && after != Place::End;
        let vrfs = self.fib.vrfs().filter(move |_| any);
        let vrfs = vrfs.filter(move |vrf| !matches!(after, Place::Route(first, _) if *vrf < first));
        let vrfs = vrfs.take_while(move |vrf| !matches!(until, Place::Route(last, _) if *vrf > last));
        vrfs.flat_map(move |vrf| {
            let from = match after {
                Place::Route(first, prefix) if first == vrf => Some(prefix),
                _ => None,
            };
            let last = match until {
                Place::Route(last, prefix) if last == vrf => Some(prefix),
                _ => None,
            };
            self.fib
                .routes(vrf, from)
                .map(|(prefix, _)| prefix)
                .filter(move |prefix| from != Some(*prefix))
                .take_while(move |prefix| last.is_none_or(|last| order(*prefix) <= order(last)))
                .map(move |prefix| (vrf, prefix))
        })
    }
}

/// Order of routes in a table: IPv4 first, then by address and length.
fn order(prefix: IpNet) -> (bool, std::net::IpAddr, u8) {
    (prefix.addr().is_ipv6(), prefix.network(), prefix.prefix_len())
}
