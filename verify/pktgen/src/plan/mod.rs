//! The expectations: a destination per prefix, its route, and that route's next hops over time.
//!
//! | module | role |
//! |---|---|
//! | `oracle` | longest matches |
//! | `gateways` | next hops by number |
//! | `destinations` | which addresses get packets |
//! | `changes` | next hops over time |
//! | `churn` | changes at a rate, made up |

mod changes;
pub mod churn;
mod destinations;
mod gateways;
mod oracle;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use self::changes::Changes;
pub use self::changes::{Set, Update};
pub use self::destinations::Wanted;
use self::destinations::by_ingress;
pub use self::gateways::Gateway;
use self::gateways::Gateways;
use self::oracle::Oracle;
use crate::frame::Mac;
use crate::neighbor::Link;
use crate::traffic::signature::MAX_FLOWS;

/// How much a source may be ahead of its timetable (both read the same clock, but not at the same instant).
const EARLY_NS: u64 = 5_000_000;

#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    #[error("the table holds no route")]
    Empty,
    #[error("{prefix} via {gateway}: no port's subnet holds this next hop")]
    NoPort { prefix: IpNet, gateway: IpAddr },
    #[error("next hops {one} and {other} would have the same MAC address on port {port}")]
    SameMac { one: IpAddr, other: IpAddr, port: String },
    #[error("{0}: the table has no route for it")]
    NoRoute(IpNet),
    #[error(
        "no destination is left: expected routes of the chosen families and prefixes that leave by another port than the one traffic enters by"
    )]
    NoDestination,
    #[error("{0} flows: expected at most {MAX_FLOWS}")]
    TooManyFlows(usize),
    #[error("change of {0}, which is not in the table: only changes of next hops can be checked")]
    UnknownPrefix(IpNet),
    #[error(
        "churn: no route has another next hop to change to: expected two or more of a family, on one port unless the direction is mesh"
    )]
    NoOtherGateway,
}

/// One destination.
#[derive(Debug, Clone, Copy)]
pub struct Flow {
    pub to: IpAddr,
    /// The port by which it enters, always the same, or its order could not be kept.
    pub ingress: u8,
    route: u32,
    /// The next hop before any change.
    gateway: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The next hop by the timetable.
    Current,
    /// The previous one, while the change may still propagate.
    Previous,
    Wrong,
}

#[derive(Debug)]
pub struct Plan {
    /// In the order of sending, those that enter by the first port first.
    pub flows: Vec<Flow>,
    /// The flows that enter by each port.
    pub lanes: Vec<std::ops::Range<u32>>,
    /// With [`Wanted::exactly`], the number of each flow's address there.
    pub origins: Vec<u32>,
    pub gateways: Arc<[Gateway]>,
    /// Prefixes for which there is no usable destination, such as those inside a port's subnet.
    pub skipped: usize,
    prefixes: Arc<[IpNet]>,
    changes: Changes,
    settle_ns: u64,
}

impl Plan {
    /// For a router that has this table. Next hops that are no port's neighbors are an error.
    pub fn new(
        table: impl IntoIterator<Item = (IpNet, IpAddr)>,
        updates: &[Update],
        sets: &[Set],
        links: &[Link],
        settle_ns: u64,
        wanted: &Wanted,
    ) -> Result<Self, PlanError> {
        let mut gateways = Gateways::default();
        let mut oracle = Oracle::default();
        let (mut prefixes, mut initial) = (Vec::new(), Vec::new());
        for (prefix, gateway) in table {
            let gateway = gateways.number(prefix, gateway, links)?;
            match oracle.insert(prefix, prefixes.len() as u32) {
                // Announced twice: the last one counts.
                Some(before) => {
                    if let Some(slot) = initial.get_mut(before as usize) {
                        *slot = gateway;
                    }
                }
                None => {
                    prefixes.push(prefix);
                    initial.push(gateway);
                }
            }
        }
        if prefixes.is_empty() {
            return Err(PlanError::Empty);
        }
        let changes = Changes::new(updates, sets, &oracle, &mut gateways, links, prefixes.len())?;
        let (found, skipped) = destinations::destinations(&prefixes, &oracle, links, wanted)?;
        let egress = |route: u32| {
            let gateway = gateways.list.get(*initial.get(route as usize)? as usize)?;
            Some(gateway.port)
        };
        let mut flows = Vec::with_capacity(found.len());
        for (number, (to, route)) in found.into_iter().enumerate() {
            if let (Some(ingress), Some(&gateway)) =
                (wanted.direction.ingress(number, egress(route), links.len()), initial.get(route as usize))
            {
                flows.push((number as u32, Flow { to, ingress: ingress as u8, route, gateway }));
            }
        }
        let (flows, lanes, origins) = by_ingress(flows, links.len(), wanted)?;
        Ok(Self {
            skipped,
            changes: changes.with_flows(&flows),
            flows,
            lanes,
            origins,
            gateways: gateways.list.into(),
            prefixes: prefixes.into(),
            settle_ns,
        })
    }

    /// For a device that looks no route up.
    pub fn without_table(links: &[Link], wanted: &Wanted) -> Result<Self, PlanError> {
        let mut oracle = Oracle::default();
        let prefixes: Vec<IpNet> = match &wanted.exactly {
            Some(addresses) => addresses.iter().map(|&to| IpNet::from(to)).collect(),
            None => wanted.within.clone(),
        };
        for (number, prefix) in (0..).zip(&prefixes) {
            oracle.insert(*prefix, number);
        }
        let (found, skipped) = destinations::destinations(&prefixes, &oracle, links, wanted)?;
        let flows = (0..).zip(found).filter_map(|(number, (to, route))| {
            let ingress = wanted.direction.ingress(number as usize, None, links.len())?;
            Some((number, Flow { to, ingress: ingress as u8, route, gateway: 0 }))
        });
        let (flows, lanes, origins) = by_ingress(flows.collect(), links.len(), wanted)?;
        Ok(Self {
            skipped,
            flows,
            lanes,
            origins,
            gateways: Arc::new([]),
            prefixes: prefixes.into(),
            changes: Changes::default(),
            settle_ns: 0,
        })
    }

    /// The part of one of so many cores: every so-many-th flow of each port.
    pub fn share(&self, number: usize, of: usize) -> Self {
        let (mut flows, mut lanes, mut origins) = (Vec::new(), Vec::new(), Vec::new());
        for lane in &self.lanes {
            let from = flows.len() as u32;
            for at in (lane.start as usize..lane.end as usize).skip(number).step_by(of) {
                flows.extend(self.flows.get(at).copied());
                origins.extend(self.origins.get(at).copied());
            }
            lanes.push(from..flows.len() as u32);
        }
        Self {
            skipped: if number == 0 { self.skipped } else { 0 },
            changes: self.changes.with_flows(&flows),
            flows,
            lanes,
            origins,
            gateways: self.gateways.clone(),
            prefixes: self.prefixes.clone(),
            settle_ns: self.settle_ns,
        }
    }

    /// The number of the next hop that a flow has before any change.
    pub fn first_gateway(&self, flow: &Flow) -> Option<u32> {
        Some(flow.gateway).filter(|_| !self.gateways.is_empty())
    }

    pub fn prefix(&self, flow: &Flow) -> Option<IpNet> {
        self.prefixes.get(flow.route as usize).copied()
    }

    /// Number of changes due by now.
    pub fn changes_due(&self, now_ns: u64) -> usize {
        self.changes.due(now_ns)
    }

    /// Time of the n-th change in order of time, and a flow that it affects, if any.
    pub fn change(&self, number: usize) -> Option<(u64, Option<u32>)> {
        self.changes.nth(number)
    }

    /// The routes of a set get its next hops from now on; returns their number, or none if there is no such set.
    pub fn change_set(&mut self, name: &str, now_ns: u64) -> Option<usize> {
        self.changes.announce(name, now_ns)
    }

    pub fn settle_ns(&self) -> u64 {
        self.settle_ns
    }

    /// Whether a packet with these times of sending and return may have gone to `mac` on `port`. A next hop is right from when it is due
    /// until the settling time after its successor is due.
    pub fn judge(&self, flow: &Flow, port: usize, mac: Mac, sent_ns: u64, back_ns: u64) -> Verdict {
        let is = |gateway: u32| {
            self.gateways.get(gateway as usize).is_some_and(|gw| gw.port == port && gw.mac == mac)
        };
        let mut verdict = Verdict::Wrong;
        let mut gateway = self.first_gateway(flow);
        for change in self.changes.of(flow.route) {
            if change.due_ns > back_ns.saturating_add(EARLY_NS) {
                break;
            }
            if gateway.is_some_and(is) && sent_ns <= change.due_ns.saturating_add(self.settle_ns) {
                verdict = Verdict::Previous;
            }
            gateway = Some(change.gateway);
        }
        if gateway.is_some_and(is) { Verdict::Current } else { verdict }
    }

    /// The next hop of a flow by the timetable, for messages.
    pub fn expected(&self, flow: &Flow, now_ns: u64) -> Option<Gateway> {
        let changed = self.changes.of(flow.route).take_while(|change| change.due_ns <= now_ns).last();
        let number = changed.map(|change| change.gateway).or(self.first_gateway(flow))?;
        self.gateways.get(number as usize).copied()
    }
}
