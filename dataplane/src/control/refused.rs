//! Which routes of the agent's table this host does not forward by: those whose group has no next hop on a port of this host, and those of a
//! batch that the forwarding table has no room for ([`super::in_use`]).
//!
//! A refusal holds from the batch on that brings it. It ends when all workers use the batch that ends it.

use std::collections::HashMap;

use fibcast_fib as fib;
use fibcast_sync_agent::fib_changes::TranslateError;
use fibcast_sync_agent::sink::{Installed, Reason, Refusals, RouteKey};
use fibcast_sync_proto::{ChangeRef, GroupValue, Label, Table};

/// Refused routes; see the module's documentation.
#[derive(Debug, Default)]
pub(super) struct RefusedRoutes {
    /// Groups without a usable next hop.
    unusable: HashMap<Label, Reason>,
    /// Routes of these groups.
    routes: HashMap<RouteKey, Label>,
    /// Routes that are refused no more from this serial on.
    leaving: HashMap<RouteKey, (u64, Reason)>,
    /// Groups of the batch that have become unusable: routes that the batch does not name may use them.
    lost: Vec<Label>,
    list: Refusals,
    /// What the list was made of has changed.
    stale: bool,
    /// Version of what the forwarding table refuses, as it is in the list.
    limits: u64,
}

impl RefusedRoutes {
    /// A batch begins that leads to `serial`; with `replaces` it names everything there is.
    pub fn begin(&mut self, replaces: bool, serial: u64) {
        if replaces {
            let before = std::mem::take(&mut self.unusable);
            for (key, label) in std::mem::take(&mut self.routes) {
                self.leave(key, serial, before.get(&label).copied());
            }
        }
    }

    /// A change of the batch, what it was translated to, and why next hops were left out.
    pub fn note(
        &mut self,
        change: ChangeRef<'_>,
        translated: Option<&fib::Change>,
        problem: Option<&TranslateError>,
        serial: u64,
    ) {
        match change {
            ChangeRef::Group { label, value } => {
                let dead = fib::Group::Special(fib::Special::Unreachable);
                let is_dead =
                    matches!(translated, Some(fib::Change::PutGroup { group, .. }) if *group == dead);
                let reason = match problem {
                    Some(TranslateError::UnknownPort { .. }) => Reason::UnknownPort,
                    _ => Reason::Unsupported,
                };
                match value {
                    Some(GroupValue::Hops(_)) if is_dead => {
                        if self.unusable.insert(label, reason).is_none() {
                            self.lost.push(label);
                        }
                        self.stale = true;
                    }
                    _ => self.usable(label, serial),
                }
            }
            ChangeRef::Route { vrf, prefix, label } => {
                if self.unusable.is_empty() && self.routes.is_empty() {
                    return;
                }
                match label.filter(|label| self.unusable.contains_key(label)) {
                    Some(label) => self.refuse((vrf, prefix), label),
                    None => {
                        if let Some(before) = self.routes.remove(&(vrf, prefix)) {
                            let reason = self.unusable.get(&before).copied();
                            self.leave((vrf, prefix), serial, reason);
                        }
                    }
                }
            }
            ChangeRef::RibRoute { .. } | ChangeRef::Origin { .. } | ChangeRef::Opaque { .. } => {}
        }
    }

    /// The batch ends; `table` is the agent's after it.
    pub fn end(&mut self, table: &Table) {
        let lost = std::mem::take(&mut self.lost);
        if lost.is_empty() {
            return;
        }
        for vrf in table.vrfs() {
            for (prefix, label) in table.routes_of(vrf, None).filter(|(_, label)| lost.contains(label)) {
                self.refuse((vrf, prefix), label);
            }
        }
    }

    fn refuse(&mut self, key: RouteKey, label: Label) {
        self.leaving.remove(&key);
        self.routes.insert(key, label);
        self.stale = true;
    }

    fn leave(&mut self, key: RouteKey, serial: u64, reason: Option<Reason>) {
        self.leaving.insert(key, (serial, reason.unwrap_or(Reason::UnknownPort)));
        self.stale = true;
    }

    /// A group has a usable next hop, or is gone.
    fn usable(&mut self, label: Label, serial: u64) {
        let Some(reason) = self.unusable.remove(&label) else { return };
        let (gone, rest) = std::mem::take(&mut self.routes).into_iter().partition(|(_, of)| *of == label);
        self.routes = rest;
        let gone: HashMap<RouteKey, Label> = gone;
        gone.into_keys().for_each(|key| self.leave(key, serial, Some(reason)));
    }

    /// The list, if its version is not `known`.
    pub fn list(&mut self, installed: &Installed, known: u64) -> Option<Refusals> {
        if !self.leaving.is_empty() {
            let (serial, before) = (installed.serial(), self.leaving.len());
            self.leaving.retain(|_, (until, _)| *until > serial);
            self.stale |= self.leaving.len() != before;
        }
        let limits = installed.refusals_version();
        if std::mem::take(&mut self.stale) | (std::mem::replace(&mut self.limits, limits) != limits) {
            self.renew(&installed.refusals());
        }
        (self.list.version() != known).then(|| self.list.clone())
    }

    fn renew(&mut self, limits: &Refusals) {
        let of_routes = |label: &Label| self.unusable.get(label).copied();
        let own = |key: &RouteKey| {
            let of_routes = self.routes.get(key).and_then(of_routes);
            of_routes.or_else(|| self.leaving.get(key).map(|(_, reason)| *reason))
        };
        let further = || limits.iter().filter(|(key, _)| own(key).is_none());
        let total = self.routes.len() + self.leaving.len() + further().count();
        let routes = self.routes.iter().filter_map(|(key, label)| Some((*key, of_routes(label)?)));
        let leaving = self.leaving.iter().map(|(key, (_, reason))| (*key, *reason));
        let all = routes.chain(leaving).chain(further().map(|(key, reason)| (*key, reason)));
        self.list.replace(total as u64 + limits.more(), |key| own(key).or_else(|| limits.get(key)), all);
    }
}

#[cfg(test)]
mod tests {
    use fibcast_sync_agent::fib_changes::translate;
    use fibcast_sync_agent::sink::Progress;
    use fibcast_sync_proto::{Change, HopValue, Key, Value};

    use super::*;

    /// A table and its sink on a host with port `p0`; batches are in use when the workers are told so.
    struct Bed {
        table: Table,
        progress: Progress,
        installed: Installed,
        refused: RefusedRoutes,
        given: u64,
    }

    impl Bed {
        fn new() -> Self {
            let progress = Progress::default();
            let installed = Installed::new(progress.clone());
            Self { table: Table::new(1), progress, installed, refused: RefusedRoutes::default(), given: 0 }
        }

        fn commit(&mut self, changes: Vec<Change>) {
            let since = self.table.serial();
            self.table.commit(changes).unwrap();
            self.give(Some(since));
        }

        /// Gives the sink the changes since a serial, or everything.
        fn give(&mut self, since: Option<u64>) {
            let batch = match since {
                Some(since) => self.table.changes_since(since).unwrap(),
                None => self.table.everything(),
            };
            let port = |name: &str| (name == "p0").then_some(fib::PortId(0));
            self.refused.begin(since.is_none(), batch.serial());
            for change in batch.changes() {
                let mut problem = None;
                let translated = translate(change, &port, &mut |error| problem = Some(error));
                self.refused.note(change, translated.as_ref(), problem.as_ref(), batch.serial());
            }
            self.refused.end(&self.table);
            self.given = self.installed.begin();
            self.installed.accepted(self.given, batch.serial());
        }

        fn use_all(&mut self) {
            self.progress.reach(self.given);
        }

        fn listed(&mut self) -> Vec<String> {
            self.refused.list(&self.installed, u64::MAX);
            self.refused.list.iter().map(|(key, reason)| format!("{}: {reason}", key.1)).collect()
        }
    }

    fn group(label: u64, ports: &[&str]) -> Change {
        let hop = |port: &&str| HopValue {
            gateway: Some([192, 0, 2, 1].into()),
            port: Some((*port).into()),
            weight: 1,
        };
        let hops = GroupValue::Hops(ports.iter().map(hop).collect());
        Change::Put(Key::Group(Label(label)), Value::Group(hops))
    }

    fn route(prefix: &str, label: u64) -> Change {
        Change::Put(Key::Route { vrf: 0, prefix: prefix.parse().unwrap() }, Value::Route(Label(label)))
    }

    #[test]
    fn a_route_is_refused_while_no_next_hop_has_a_port_here_and_until_the_workers_use_the_group_that_has() {
        let mut bed = Bed::new();
        bed.commit(vec![group(1, &["p0"]), group(2, &["p9"]), group(3, &["p9", "p0"])]);
        bed.commit(vec![route("10.0.0.0/8", 1), route("11.0.0.0/8", 2), route("12.0.0.0/8", 3)]);
        assert_eq!(bed.listed(), ["11.0.0.0/8: unknown port"], "at once, not when the workers use it");
        bed.use_all();
        // The content changes under the label, without a change of the route.
        bed.commit(vec![group(2, &["p0"])]);
        assert_eq!(bed.listed(), ["11.0.0.0/8: unknown port"], "the workers do not use it yet");
        bed.use_all();
        assert!(bed.listed().is_empty());
        bed.commit(vec![group(1, &["p8"])]);
        assert_eq!(bed.listed(), ["10.0.0.0/8: unknown port"]);
    }

    #[test]
    fn another_group_a_withdrawal_and_a_whole_table_end_refusals() {
        let mut bed = Bed::new();
        bed.commit(vec![group(1, &["p0"]), group(2, &["p9"])]);
        bed.commit(vec![route("10.0.0.0/8", 2), route("11.0.0.0/8", 2), route("12.0.0.0/8", 2)]);
        assert_eq!(bed.listed().len(), 3);
        bed.commit(vec![
            route("10.0.0.0/8", 1),
            Change::Delete(Key::Route { vrf: 0, prefix: "11.0.0.0/8".parse().unwrap() }),
        ]);
        assert_eq!(bed.listed().len(), 3);
        bed.use_all();
        assert_eq!(bed.listed(), ["12.0.0.0/8: unknown port"]);
        bed.give(None);
        assert_eq!(bed.listed(), ["12.0.0.0/8: unknown port"], "it names the route again");
        bed.commit(vec![route("12.0.0.0/8", 1)]);
        bed.give(None);
        bed.use_all();
        assert!(bed.listed().is_empty());
    }

    #[test]
    fn what_the_forwarding_table_has_no_room_for_is_listed_too() {
        let mut bed = Bed::new();
        bed.commit(vec![group(2, &["p9"]), route("11.0.0.0/8", 2)]);
        let full = [
            ((0, "11.0.0.0/8".parse().unwrap()), Reason::Limits),
            ((0, "13.0.0.0/8".parse().unwrap()), Reason::Limits),
        ];
        bed.progress.refuse(|list| list.take(&full.into(), 5));
        assert_eq!(bed.listed(), ["11.0.0.0/8: unknown port", "13.0.0.0/8: table full"]);
        assert_eq!(bed.refused.list.more(), 5);
        bed.progress.refuse(|list| list.take(&[].into(), 0));
        assert_eq!(bed.listed(), ["11.0.0.0/8: unknown port"]);
        assert_eq!(bed.refused.list.more(), 0);
    }
}
