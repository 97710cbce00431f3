//! What a live source holds: the sender's table as it is now, and how far the RIB knows it.
//!
//! The reader of a socket must never wait for the RIB, or the sender's buffer fills and it resets the session. So readers write into a
//! [`Mirror`], which is bounded by the sender's table, not by its haste, and [`Mirror::changes`] gives the RIB the *net* changes since it
//! was told last: a withdrawal followed by the same route is nothing.
//!
//! Neither FPM nor netlink replays deletions that happened while nobody listened. [`Mirror::begin`] marks everything stale when the
//! sender begins anew, hearing a route again takes the mark off, and [`Mirror::sweep`] withdraws what still bears it at the end of the
//! table ([`EndOfTable`] says when that is). [`Policy`] says which routes are taken, `ports` in what form. Paths are shared and counted (`paths`); routes may refer to next-hop
//! objects that come later or change (`objects`): such routes are *parked*, and what the RIB knows of them stays for some seconds.
//!
//! A changed object is told as changed routes, not as a changed group: labels are made of content, so that all servers and origins
//! share them, and another origin's route may lead by the same label elsewhere.

mod end_of_table;
mod objects;
mod paths;
mod policy;
mod ports;
mod side;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{Duration, Instant};

use ipnet::IpNet;

pub use end_of_table::{EndOfTable, How};
use objects::Resolved;
use paths::Lead;
pub use policy::{Policy, Skip};
use ports::{PathHop, Ports};
pub use side::Figures;
use side::{Shared, Side, Told, V4, V6, Via};

use super::outlet::{Group, RouteChange};
use fibcast_netlink::{Definition, Route, Target};

/// For so long the RIB's knowledge of a parked route stays as it was.
const PATIENCE: Duration = Duration::from_secs(10);

/// A sender's table. See the module's documentation.
#[derive(Debug)]
pub struct Mirror {
    policy: Policy,
    ports: Ports,
    shared: Shared,
    v4: Side<V4>,
    v6: Side<V6>,
    skipped: [u64; Skip::ALL.len()],
    hops: Vec<PathHop>,
    /// Since when routes are parked without a break.
    parked_since: Option<Instant>,
}

impl Mirror {
    /// An empty one.
    pub fn new(policy: Policy) -> Self {
        Self {
            ports: Ports::new(&policy),
            policy,
            shared: Shared::default(),
            v4: Side::default(),
            v6: Side::default(),
            skipped: Default::default(),
            hops: Vec::new(),
            parked_since: None,
        }
    }

    /// The sender begins anew: everything it said before is stale.
    pub fn begin(&mut self) {
        self.v4.begin(&mut self.shared);
        self.v6.begin(&mut self.shared);
        self.shared.objects.clear(&mut self.shared.paths);
        self.ports.forget();
        self.parked_since = None;
    }

    /// The end of its table: withdraws what is still stale; how many that are.
    pub fn sweep(&mut self) -> u64 {
        self.v4.sweep(&mut self.shared) + self.v6.sweep(&mut self.shared)
    }

    /// Routing instance of a route's table, if that is wanted and the route is for all packets to its prefix; counts if not. A route for some of
    /// them stands beside the one for all, and must not be taken for it, when it comes nor when it goes.
    pub fn vrf(&mut self, route: &Route) -> Option<u32> {
        let vrf = self.policy.vrf(route.table).and_then(|vrf| self.policy.all_packets(route).map(|()| vrf));
        vrf.map_err(|skip| self.skip(skip)).ok()
    }

    /// Whether a route's protocol is wanted; counts if not.
    pub fn takes_protocol(&mut self, route: &Route) -> bool {
        self.policy.protocol(route.protocol).map_err(|skip| self.skip(skip)).is_ok()
    }

    /// A route is there or changed. With `metric`, the RIB gets the route's own.
    pub fn set(&mut self, vrf: u32, route: &Route, metric: bool) {
        let metric = if metric { route.metric } else { 0 };
        let via = match self.via(route, metric) {
            Ok(via) => via,
            Err(skip) => {
                self.skip(skip);
                // What was there before is no longer so.
                self.remove(vrf, route.prefix);
                return;
            }
        };
        if let Via::Object(id) = via
            && let Resolved::Unusable(skip) = self.shared.objects.resolved(id)
        {
            self.skip(skip);
        }
        match route.prefix {
            IpNet::V4(prefix) => self.v4.set(V4::pack(vrf, prefix), via, &mut self.shared),
            IpNet::V6(prefix) => self.v6.set(V6::pack(vrf, prefix), via, &mut self.shared),
        }
    }

    fn via(&mut self, route: &Route, metric: u32) -> Result<Via, Skip> {
        let lead = match route.target {
            Target::Object(id) => return Ok(Via::Object(id)),
            Target::Other(_) => return Err(Skip::Kind),
            Target::Special(special) => Lead::Special(special),
            Target::Hops => {
                self.ports.usable(&route.hops, &mut self.hops)?;
                Lead::Hops(&self.hops)
            }
        };
        Ok(Via::Path(self.shared.paths.take(lead, metric, &self.ports)))
    }

    fn skip(&mut self, skip: Skip) {
        if let Some(count) = self.skipped.get_mut(skip as usize) {
            *count += 1;
        }
    }

    /// A route is gone. False: it was not there.
    pub fn remove(&mut self, vrf: u32, prefix: IpNet) -> bool {
        match prefix {
            IpNet::V4(prefix) => self.v4.remove(V4::pack(vrf, prefix), &mut self.shared),
            IpNet::V6(prefix) => self.v6.remove(V6::pack(vrf, prefix), &mut self.shared),
        }
    }

    /// A next-hop object is there or changed. False: there are too many.
    pub fn define(&mut self, id: u32, definition: Definition) -> bool {
        self.shared.objects.define(id, definition, &mut self.shared.paths, &mut self.ports)
    }

    /// A next-hop object is gone. With `routes`, its routes are gone too, as in the kernel; without, they are parked.
    pub fn undefine(&mut self, id: u32, routes: bool) {
        if routes {
            let gone = [id].into_iter().collect();
            self.v4.look_again(&gone, true, &mut self.shared);
            self.v6.look_again(&gone, true, &mut self.shared);
        }
        self.shared.objects.undefine(id, &mut self.shared.paths, &mut self.ports);
    }

    /// Next hops of a route that is there and not stale.
    pub fn fresh_hops(&self, vrf: u32, prefix: IpNet) -> Option<usize> {
        let via = match prefix {
            IpNet::V4(prefix) => self.v4.fresh(V4::pack(vrf, prefix)),
            IpNet::V6(prefix) => self.v6.fresh(V6::pack(vrf, prefix)),
        }?;
        Some(match via {
            Via::Path(path) => self.shared.paths.hops(path),
            Via::Gone | Via::Object(_) => 0,
        })
    }

    /// Group and metric that the RIB was told for a prefix.
    pub fn told(&self, vrf: u32, prefix: IpNet) -> Option<(Arc<Group>, u32)> {
        let path = match prefix {
            IpNet::V4(prefix) => self.v4.told(V4::pack(vrf, prefix)),
            IpNet::V6(prefix) => self.v6.told(V6::pack(vrf, prefix)),
        }?;
        self.shared.paths.get(path)
    }

    /// Takes over the next-hop objects that another mirror knows.
    pub fn adopt_objects(&mut self, other: &Mirror) {
        for (id, definition) in other.shared.objects.definitions() {
            self.define(id, definition.clone());
        }
    }

    /// Net changes since the last ones, at most `limit`; empty: there are none.
    pub fn changes(&mut self, limit: usize) -> Vec<RouteChange> {
        self.look_again();
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        self.v4.tell(&mut self.shared, limit, &mut v4);
        self.v6.tell(&mut self.shared, limit.saturating_sub(v4.len()), &mut v6);
        self.as_changes(v4, v6)
    }

    fn look_again(&mut self) {
        let changed = self.shared.objects.take_changed();
        if !changed.is_empty() {
            self.v4.look_again(&changed, false, &mut self.shared);
            self.v6.look_again(&changed, false, &mut self.shared);
        }
    }

    fn as_changes(&self, v4: Vec<Told<V4>>, v6: Vec<Told<V6>>) -> Vec<RouteChange> {
        let change = |(vrf, prefix): (u32, IpNet), path: Option<u32>| RouteChange {
            vrf,
            prefix,
            path: path.and_then(|path| self.shared.paths.get(path)),
        };
        let v4 = v4.into_iter().map(|(key, path)| change(side::Destination::unpack(key), path));
        let v6 = v6.into_iter().map(|(key, path)| change(side::Destination::unpack(key), path));
        v4.chain(v6).collect()
    }

    /// What is due by `now`: withdrawals of routes that have been parked for too long.
    pub fn turn(&mut self, now: Instant) -> Vec<RouteChange> {
        if self.parked() == 0 {
            self.parked_since = None;
            return Vec::new();
        }
        if now.saturating_duration_since(*self.parked_since.get_or_insert(now)) < PATIENCE {
            return Vec::new();
        }
        self.parked_since = Some(now);
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        self.v4.give_up_parked(&mut self.shared, &mut v4);
        self.v6.give_up_parked(&mut self.shared, &mut v6);
        self.as_changes(v4, v6)
    }

    /// Routes that wait for their next-hop object.
    pub fn parked(&self) -> u64 {
        self.shared.objects.parked()
    }

    /// Figures.
    pub fn figures(&self) -> Figures {
        [self.v4.figures, self.v6.figures].into_iter().sum()
    }

    /// Names and values for status and metrics.
    pub fn counters(&self) -> Vec<(&'static str, u64)> {
        let figures = self.figures();
        let mut counters = vec![
            ("routes_heard", figures.live),
            ("routes_stale", figures.stale),
            ("routes_parked", self.parked()),
            ("next_hop_objects", self.shared.objects.len() as u64),
            ("paths", self.shared.paths.len() as u64),
        ];
        counters.extend(Skip::ALL.iter().zip(self.skipped).map(|(skip, count)| (skip.name(), count)));
        counters
    }
}
