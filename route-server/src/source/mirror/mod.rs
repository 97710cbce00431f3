//! A live source's mirror of its sender's table, and what the RIB knows of it.
//!
//! The reader of a socket must never wait for the RIB, or the sender's buffer fills and it resets the session. So readers write into a
//! [`Mirror`], which is bounded by the size of the sender's table, not by its rate, and [`Mirror::changes`] returns the *net* changes since
//! the last call: a withdrawal followed by the same route is no change.
//!
//! Neither FPM nor netlink replays deletions that happened while nobody listened. [`Mirror::begin`] marks everything stale when the
//! sender starts over, hearing a route again takes the mark off, and [`Mirror::sweep`] withdraws what still bears it at the end of the
//! table ([`EndOfTable`] says when that is). [`Policy`] says which routes are taken, `ports` in what form. Paths are shared and counted (`paths`); routes may refer to next-hop
//! objects that come later or change (`objects`): such routes are *parked*, and what the RIB knows of them stays for some seconds.
//!
//! A changed object is passed on as changed routes, not as a changed group: labels are a function of content and shared by all servers and
//! origins, so another origin's route may use the same label.

mod end_of_table;
mod links;
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

pub use end_of_table::{End, EndOfTable, How};
pub(in crate::source) use links::Links;
use objects::Resolved;
use paths::Lead;
pub use policy::{KERNEL, Policy, Skip};
use ports::{PathHop, Ports};
pub use side::Figures;
use side::{NetChange, Shared, Side, Via};
pub(in crate::source) use side::{V4, V6};

use super::outlet::{Group, RouteChange};
use fibcast_netlink::{Definition, Message, Route, Target};

/// How long a parked route keeps its last state in the RIB.
const PARKED_TIMEOUT: Duration = Duration::from_secs(10);

/// A sender's table; see the module's documentation.
#[derive(Debug)]
pub struct Mirror {
    policy: Policy,
    ports: Ports,
    shared: Shared,
    v4: Side<V4>,
    v6: Side<V6>,
    skipped: [u64; Skip::ALL.len()],
    hops: Vec<PathHop>,
    /// Time since which there have been parked routes.
    parked_since: Option<Instant>,
}

impl Mirror {
    /// An empty mirror.
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

    /// Takes routes by another policy from now on. What was taken before stays as it was until the sender has sent everything again.
    pub fn follow(&mut self, policy: Policy) {
        self.ports.follow(&policy);
        self.policy = policy;
    }

    /// Every route is among the next changes, also one that has not changed.
    pub fn announce_again(&mut self) {
        self.v4.announce_again();
        self.v6.announce_again();
    }

    /// The sender starts over: all that it sent before is stale.
    pub fn begin(&mut self) {
        self.v4.begin(&mut self.shared);
        self.v6.begin(&mut self.shared);
        self.shared.objects.clear(&mut self.shared.paths);
        self.ports.forget();
        self.parked_since = None;
    }

    /// End of the table: withdraws stale routes; returns their number.
    pub fn sweep(&mut self) -> u64 {
        self.v4.sweep(&mut self.shared) + self.v6.sweep(&mut self.shared)
    }

    /// VRF of a route's table, if the table is accepted and the route applies to all packets to its prefix; counts it otherwise. A route
    /// for some packets exists next to the one for all, and must not be confused with it.
    pub fn vrf(&mut self, route: &Route) -> Option<u32> {
        let vrf = self.policy.vrf(route.table).and_then(|vrf| self.policy.all_packets(route).map(|()| vrf));
        vrf.map_err(|skip| self.skip(skip)).ok()
    }

    /// Whether a route's protocol is accepted; counts it otherwise.
    pub fn takes_protocol(&mut self, route: &Route) -> bool {
        self.policy.protocol(route.protocol).map_err(|skip| self.skip(skip)).is_ok()
    }

    /// A route was added or changed. With `metric`, the RIB gets the route's own.
    pub fn set(&mut self, vrf: u32, route: &Route, metric: bool) {
        let metric = if metric { route.metric } else { 0 };
        let via = match self.via(route, metric) {
            Ok(via) => via,
            Err(skip) => {
                self.skip(skip);
                // The earlier route is no longer valid.
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
                Lead::Hops(self.hops.as_slice())
            }
        };
        Ok(Via::Path(self.shared.paths.take(lead, metric, &self.ports)))
    }

    fn skip(&mut self, skip: Skip) {
        if let Some(count) = self.skipped.get_mut(skip as usize) {
            *count += 1;
        }
    }

    /// A route was deleted. False: it was unknown.
    pub fn remove(&mut self, vrf: u32, prefix: IpNet) -> bool {
        match prefix {
            IpNet::V4(prefix) => self.v4.remove(V4::pack(vrf, prefix), &mut self.shared),
            IpNet::V6(prefix) => self.v6.remove(V6::pack(vrf, prefix), &mut self.shared),
        }
    }

    /// A next-hop object was added or changed. False: there are too many.
    pub fn define(&mut self, id: u32, definition: Definition) -> bool {
        self.shared.objects.define(id, definition, &mut self.shared.paths, &mut self.ports)
    }

    /// A next-hop object was deleted. With `routes`, its routes are withdrawn, as in the kernel; without, they are parked.
    pub fn undefine(&mut self, id: u32, routes: bool) {
        if routes {
            let gone = [id].into_iter().collect();
            self.v4.re_evaluate(&gone, true, &mut self.shared);
            self.v6.re_evaluate(&gone, true, &mut self.shared);
        }
        self.shared.objects.undefine(id, &mut self.shared.paths, &mut self.ports);
    }

    /// A notification about an interface of this host, where the sender is as well, or a part of a dump of all of them.
    pub fn hear_interface(&mut self, message: &Message<'_>) {
        if let Some(interface) = self.ports.links.hear(message) {
            self.interface_changed(interface);
        }
    }

    /// Notifications about interfaces were lost; all of them are read next, and then [`Self::interfaces_were_read`] is called.
    pub fn read_interfaces_again(&mut self) {
        self.ports.links.read_again();
    }

    /// All interfaces were read.
    pub fn interfaces_were_read(&mut self) {
        self.ports.links.were_read().into_iter().for_each(|interface| self.interface_changed(interface));
    }

    fn interface_changed(&mut self, interface: u32) {
        let replaced = self.shared.paths.replace(interface, &self.ports);
        if !replaced.is_empty() {
            self.v4.replace(&replaced, &mut self.shared);
            self.v6.replace(&replaced, &mut self.shared);
        }
        self.shared.objects.interface_changed(interface, &mut self.shared.paths, &mut self.ports);
        replaced.into_values().for_each(|path| self.shared.paths.give_back(path));
    }

    /// Number of next hops of a route that exists and is not stale.
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

    /// Group and metric of a prefix, as sent to the RIB.
    pub fn in_rib(&self, vrf: u32, prefix: IpNet) -> Option<(Arc<Group>, u32)> {
        let path = match prefix {
            IpNet::V4(prefix) => self.v4.in_rib(V4::pack(vrf, prefix)),
            IpNet::V6(prefix) => self.v6.in_rib(V6::pack(vrf, prefix)),
        }?;
        self.shared.paths.get(path)
    }

    /// The group that a prefix has now, whether it was announced to the RIB or not.
    pub fn group(&self, vrf: u32, prefix: IpNet) -> Option<Arc<Group>> {
        let path = match prefix {
            IpNet::V4(prefix) => self.v4.target(V4::pack(vrf, prefix), &self.shared),
            IpNet::V6(prefix) => self.v6.target(V6::pack(vrf, prefix), &self.shared),
        }?;
        Some(self.shared.paths.get(path)?.0)
    }

    /// Copies the next-hop objects of another mirror.
    pub fn adopt_objects(&mut self, other: &Mirror) {
        for (id, definition) in other.shared.objects.definitions() {
            self.define(id, definition.clone());
        }
    }

    /// Net changes since the last call, at most `limit`; empty if there are none.
    pub fn changes(&mut self, limit: usize) -> Vec<RouteChange> {
        self.re_evaluate();
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        self.v4.tell(&mut self.shared, limit, &mut v4);
        self.v6.tell(&mut self.shared, limit.saturating_sub(v4.len()), &mut v6);
        self.as_changes(v4, v6)
    }

    fn re_evaluate(&mut self) {
        let changed = self.shared.objects.take_changed();
        if !changed.is_empty() {
            self.v4.re_evaluate(&changed, false, &mut self.shared);
            self.v6.re_evaluate(&changed, false, &mut self.shared);
        }
    }

    fn as_changes(&self, v4: Vec<NetChange<V4>>, v6: Vec<NetChange<V6>>) -> Vec<RouteChange> {
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
        if now.saturating_duration_since(*self.parked_since.get_or_insert(now)) < PARKED_TIMEOUT {
            return Vec::new();
        }
        self.parked_since = Some(now);
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        self.v4.give_up_parked(&mut self.shared, &mut v4);
        self.v6.give_up_parked(&mut self.shared, &mut v6);
        self.as_changes(v4, v6)
    }

    /// Number of routes that wait for their next-hop object.
    pub fn parked(&self) -> u64 {
        self.shared.objects.parked()
    }

    /// Counters.
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
