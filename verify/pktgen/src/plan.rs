//! The expectations: a destination per prefix, its route, and that route's next hops over time. Longest matches come from `treebitmap`,
//! which shares nothing with the router's trie.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ip_network_table_deps_treebitmap::IpLookupTable;
use ipnet::IpNet;
use rand::rngs::SmallRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};

use crate::frame::Mac;
use crate::neighbor::{Link, mac_of};
use crate::traffic::order::Direction;
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
}

/// The expected receiver of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gateway {
    pub address: IpAddr,
    pub mac: Mac,
    pub port: usize,
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

/// Which destinations.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// Neither: both.
    pub ipv4: bool,
    pub ipv6: bool,
    /// Inside these prefixes. None: a destination for each prefix of the table.
    pub within: Vec<IpNet>,
    /// So many of them.
    pub flows: Option<usize>,
    /// These and no others, in this order.
    pub exactly: Option<Vec<IpAddr>>,
    pub direction: Direction,
    pub seed: u64,
}

impl Wanted {
    fn family(&self, prefix: IpNet) -> bool {
        match (self.ipv4, self.ipv6) {
            (false, false) => true,
            (v4, v6) => {
                if prefix.addr().is_ipv4() {
                    v4
                } else {
                    v6
                }
            }
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Change {
    due_ns: u64,
    gateway: u32,
}

/// A change of next hop, with the time at which its source makes it.
#[derive(Debug, Clone, Copy)]
pub struct Update {
    pub due_ns: u64,
    pub prefix: IpNet,
    pub gateway: IpAddr,
}

/// Next-hop changes that are announced on the control socket when they happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Set {
    pub name: String,
    pub routes: Vec<(IpNet, IpAddr)>,
}

/// A change of a set: its route, the next hop, and a flow that goes by this route, if any.
type Expected = (u32, u32, Option<u32>);

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
    pub gateways: Vec<Gateway>,
    /// Prefixes for which there is no usable destination, such as those inside a port's subnet.
    pub skipped: usize,
    prefixes: Vec<IpNet>,
    /// `changes[change_start[r]..change_start[r + 1]]` are those of route r, in order of time.
    change_start: Vec<u32>,
    changes: Vec<Change>,
    /// The time of each change over all routes, sorted, with a flow of the route, if any.
    due: Vec<(u64, Option<u32>)>,
    sets: Vec<(String, Vec<Expected>)>,
    /// Changes of sets, by route, in order of time.
    announced: HashMap<u32, Vec<Change>>,
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
        let (change_start, changes) = timetable(updates, &oracle, &mut gateways, links, prefixes.len())?;
        let (found, skipped) = destinations(&prefixes, &oracle, links, wanted)?;
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
        let sets = resolve_sets(sets, &oracle, &mut gateways, links, &flows)?;
        let due = by_time(&flows, &change_start, &changes);
        Ok(Self {
            skipped,
            flows,
            lanes,
            origins,
            gateways: gateways.list,
            prefixes,
            change_start,
            changes,
            due,
            sets,
            announced: HashMap::new(),
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
        let (found, skipped) = destinations(&prefixes, &oracle, links, wanted)?;
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
            gateways: Vec::new(),
            prefixes,
            change_start: Vec::new(),
            changes: Vec::new(),
            due: Vec::new(),
            sets: Vec::new(),
            announced: HashMap::new(),
            settle_ns: 0,
        })
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
        self.due.partition_point(|&(due, _)| due <= now_ns)
    }

    /// Time of the n-th change in order of time, and a flow that it affects, if any.
    pub fn change(&self, number: usize) -> Option<(u64, Option<u32>)> {
        self.due.get(number).copied()
    }

    /// The routes of a set get its next hops from now on; returns their number, or none if there is no such set.
    pub fn change_set(&mut self, name: &str, now_ns: u64) -> Option<usize> {
        let (_, changes) = self.sets.iter().find(|(known, _)| known == name)?;
        for &(route, gateway, flow) in changes {
            self.announced.entry(route).or_default().push(Change { due_ns: now_ns, gateway });
            self.due.push((now_ns, flow));
        }
        Some(changes.len())
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
        for change in self.changes_of(flow) {
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
        let changed = self.changes_of(flow).iter().take_while(|change| change.due_ns <= now_ns).last();
        let number = changed.map(|change| change.gateway).or(self.first_gateway(flow))?;
        self.gateways.get(number as usize).copied()
    }

    #[inline]
    fn changes_of(&self, flow: &Flow) -> &[Change] {
        if self.due.is_empty() {
            return &[];
        }
        if let Some(announced) = self.announced.get(&flow.route) {
            return announced;
        }
        let route = flow.route as usize;
        match (self.change_start.get(route), self.change_start.get(route + 1)) {
            (Some(&from), Some(&to)) => self.changes.get(from as usize..to as usize).unwrap_or(&[]),
            _ => &[],
        }
    }
}

/// Addresses with their routes, shuffled, and how many prefixes have none.
fn destinations(
    prefixes: &[IpNet],
    oracle: &Oracle,
    links: &[Link],
    wanted: &Wanted,
) -> Result<(Vec<(IpAddr, u32)>, usize), PlanError> {
    if let Some(addresses) = &wanted.exactly {
        let route =
            |&to: &IpAddr| oracle.longest(to).map(|route| (to, route)).ok_or(PlanError::NoRoute(to.into()));
        return Ok((addresses.iter().map(route).collect::<Result<_, _>>()?, 0));
    }
    let mut random = SmallRng::seed_from_u64(wanted.seed);
    let mut from: Vec<IpNet> = if wanted.within.is_empty() { prefixes } else { &wanted.within }
        .iter()
        .copied()
        .filter(|prefix| wanted.family(*prefix))
        .collect();
    // Inside a given prefix any route will do.
    let exact = wanted.within.is_empty();
    from.shuffle(&mut random);
    let most = wanted.flows.unwrap_or(from.len());
    if most > MAX_FLOWS {
        return Err(PlanError::TooManyFlows(most));
    }
    let (mut found, mut skipped) = (Vec::with_capacity(most), 0);
    // More flows than prefixes: further addresses of each.
    while found.len() < most && !from.is_empty() {
        let before = found.len();
        let mut unusable = 0;
        for prefix in &from {
            if found.len() == most {
                break;
            }
            let destination = if exact {
                oracle.destination(*prefix, links, &mut random)
            } else {
                Some(oracle.address_within(*prefix, links, &mut random).ok_or(PlanError::NoRoute(*prefix))?)
            };
            match destination {
                Some(destination) => found.push(destination),
                None => unusable += 1,
            }
        }
        skipped = skipped.max(unusable);
        if found.len() == before || wanted.flows.is_none() {
            break;
        }
    }
    Ok((found, skipped))
}

type Sorted = (Vec<Flow>, Vec<std::ops::Range<u32>>, Vec<u32>);

/// Sorts flows by the port that they enter by, in their order.
fn by_ingress(mut flows: Vec<(u32, Flow)>, ports: usize, wanted: &Wanted) -> Result<Sorted, PlanError> {
    if flows.is_empty() {
        return Err(PlanError::NoDestination);
    }
    flows.sort_by_key(|(_, flow)| flow.ingress);
    let start = |port: usize| flows.partition_point(|(_, flow)| usize::from(flow.ingress) < port) as u32;
    let lanes = (0..ports).map(|port| start(port)..start(port + 1)).collect();
    let origins =
        if wanted.exactly.is_some() { flows.iter().map(|(number, _)| *number).collect() } else { Vec::new() };
    Ok((flows.into_iter().map(|(_, flow)| flow).collect(), lanes, origins))
}

/// Changes grouped by route.
fn timetable(
    updates: &[Update],
    oracle: &Oracle,
    gateways: &mut Gateways,
    links: &[Link],
    routes: usize,
) -> Result<(Vec<u32>, Vec<Change>), PlanError> {
    let mut all = Vec::with_capacity(updates.len());
    for update in updates {
        let route = oracle.exact(update.prefix).ok_or(PlanError::UnknownPrefix(update.prefix))?;
        let gateway = gateways.number(update.prefix, update.gateway, links)?;
        all.push((route, Change { due_ns: update.due_ns, gateway }));
    }
    all.sort_by_key(|(route, change)| (*route, change.due_ns));
    let mut start = Vec::with_capacity(routes + 1);
    let mut next = 0_usize;
    for route in 0..=routes as u32 {
        while all.get(next).is_some_and(|(of, _)| *of < route) {
            next += 1;
        }
        start.push(next as u32);
    }
    Ok((start, all.into_iter().map(|(_, change)| change).collect()))
}

/// Sets with indices instead of prefixes and next hops.
fn resolve_sets(
    sets: &[Set],
    oracle: &Oracle,
    gateways: &mut Gateways,
    links: &[Link],
    flows: &[Flow],
) -> Result<Vec<(String, Vec<Expected>)>, PlanError> {
    let mut flow_of = HashMap::new();
    if !sets.is_empty() {
        flow_of.extend((0..).zip(flows).map(|(number, flow)| (flow.route, number)));
    }
    let mut numbered = Vec::with_capacity(sets.len());
    for set in sets {
        let mut changes = Vec::with_capacity(set.routes.len());
        for &(prefix, gateway) in &set.routes {
            let route = oracle.exact(prefix).ok_or(PlanError::UnknownPrefix(prefix))?;
            let gateway = gateways.number(prefix, gateway, links)?;
            changes.push((route, gateway, flow_of.get(&route).copied()));
        }
        numbered.push((set.name.clone(), changes));
    }
    Ok(numbered)
}

/// All changes in order of time.
fn by_time(flows: &[Flow], change_start: &[u32], changes: &[Change]) -> Vec<(u64, Option<u32>)> {
    let mut due: Vec<_> = changes.iter().map(|change| (change.due_ns, None)).collect();
    for (number, flow) in (0..).zip(flows) {
        let route = flow.route as usize;
        if let (Some(&from), Some(&to)) = (change_start.get(route), change_start.get(route + 1)) {
            for (_, of) in due.get_mut(from as usize..to as usize).unwrap_or_default() {
                *of = Some(number);
            }
        }
    }
    due.sort_unstable();
    due
}

#[derive(Default)]
struct Gateways {
    list: Vec<Gateway>,
    numbers: HashMap<IpAddr, u32>,
    macs: HashMap<(usize, Mac), IpAddr>,
}

impl Gateways {
    fn number(&mut self, prefix: IpNet, address: IpAddr, links: &[Link]) -> Result<u32, PlanError> {
        if let Some(&number) = self.numbers.get(&address) {
            return Ok(number);
        }
        let found = links.iter().enumerate().find(|(_, link)| link.holds(address));
        let (port, link) = found.ok_or(PlanError::NoPort { prefix, gateway: address })?;
        let gateway = Gateway { address, mac: mac_of(address), port };
        if let Some(&other) = self.macs.get(&(port, gateway.mac)) {
            return Err(PlanError::SameMac { one: other, other: address, port: link.name.clone() });
        }
        self.macs.insert((port, gateway.mac), address);
        let number = self.list.len() as u32;
        self.list.push(gateway);
        self.numbers.insert(address, number);
        Ok(number)
    }
}

struct Oracle {
    v4: IpLookupTable<Ipv4Addr, u32>,
    v6: IpLookupTable<Ipv6Addr, u32>,
}

impl Default for Oracle {
    fn default() -> Self {
        Self { v4: IpLookupTable::with_capacity(1 << 16), v6: IpLookupTable::with_capacity(1 << 16) }
    }
}

impl Oracle {
    /// Returns the number that the prefix already had; it keeps that one.
    fn insert(&mut self, prefix: IpNet, number: u32) -> Option<u32> {
        if let Some(before) = self.exact(prefix) {
            return Some(before);
        }
        let length = u32::from(prefix.prefix_len());
        match prefix.network() {
            IpAddr::V4(network) => self.v4.insert(network, length, number),
            IpAddr::V6(network) => self.v6.insert(network, length, number),
        }
    }

    fn exact(&self, prefix: IpNet) -> Option<u32> {
        let length = u32::from(prefix.prefix_len());
        match prefix.network() {
            IpAddr::V4(network) => self.v4.exact_match(network, length).copied(),
            IpAddr::V6(network) => self.v6.exact_match(network, length).copied(),
        }
    }

    fn longest(&self, address: IpAddr) -> Option<u32> {
        match address {
            IpAddr::V4(address) => self.v4.longest_match(address).map(|(_, _, &number)| number),
            IpAddr::V6(address) => self.v6.longest_match(address).map(|(_, _, &number)| number),
        }
    }

    /// An address inside the prefix for which it is the longest match or, if more specific prefixes cover all attempts, one with another
    /// longest match.
    fn destination(&self, prefix: IpNet, links: &[Link], random: &mut SmallRng) -> Option<(IpAddr, u32)> {
        let own = self.exact(prefix)?;
        let mut second_best = None;
        for (to, route) in self.attempts(prefix, links, random) {
            if route == own {
                return Some((to, route));
            }
            second_best = Some((to, route));
        }
        second_best
    }

    /// An address inside the prefix that some route matches.
    fn address_within(&self, prefix: IpNet, links: &[Link], random: &mut SmallRng) -> Option<(IpAddr, u32)> {
        self.attempts(prefix, links, random).next()
    }

    fn attempts(
        &self,
        prefix: IpNet,
        links: &[Link],
        random: &mut SmallRng,
    ) -> impl Iterator<Item = (IpAddr, u32)> {
        (0..12).filter_map(move |attempt| {
            let to = match attempt {
                10 => prefix.network(),
                11 => prefix.broadcast(),
                _ => random_address(prefix, random),
            };
            let unusable = is_special(to) || links.iter().any(|link| link.holds(to));
            if unusable { None } else { self.longest(to).map(|route| (to, route)) }
        })
    }
}

fn random_address(prefix: IpNet, random: &mut SmallRng) -> IpAddr {
    match prefix {
        IpNet::V4(net) => {
            let host = random.random::<u32>() & u32::from(net.hostmask());
            Ipv4Addr::from(u32::from(net.network()) | host).into()
        }
        IpNet::V6(net) => {
            let host = random.random::<u128>() & u128::from(net.hostmask());
            Ipv6Addr::from(u128::from(net.network()) | host).into()
        }
    }
}

/// Addresses that no router forwards (RFC 1812 §5.3.7, RFC 4291 §2.5).
fn is_special(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            let [first, second, ..] = address.octets();
            first == 0 || first == 127 || first >= 224 || (first, second) == (169, 254)
        }
        IpAddr::V6(address) => {
            address.is_multicast()
                || address.is_loopback()
                || address.is_unspecified()
                || address.is_unicast_link_local()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::neighbor::tests::link;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn plan(table: &[(&str, &str)], updates: &[(u64, &str, &str)]) -> Result<Plan, PlanError> {
        let updates: Vec<_> = updates
            .iter()
            .map(|(due, prefix, gateway)| Update { due_ns: *due, prefix: net(prefix), gateway: ip(gateway) })
            .collect();
        let table: Vec<_> = table.iter().map(|(prefix, gateway)| (net(prefix), ip(gateway))).collect();
        Plan::new(
            table,
            &updates,
            &[],
            &[link(0), link(1)],
            50_000_000,
            &Wanted { seed: 1, ..Wanted::default() },
        )
    }

    /// The flow of a prefix of the table.
    fn flow_of<'a>(plan: &'a Plan, prefix: &str) -> &'a Flow {
        plan.flows
            .iter()
            .find(|flow| net(prefix).contains(&flow.to) && plan.prefix(flow) == Some(net(prefix)))
            .unwrap()
    }

    fn wanted() -> Wanted {
        Wanted { seed: 1, ..Wanted::default() }
    }

    fn judge(plan: &Plan, gateway: &str, sent_ms: u64, back_ms: u64) -> Verdict {
        let port = usize::from(link(1).holds(ip(gateway)));
        let flow = plan.flows.iter().max_by_key(|flow| plan.changes_of(flow).len()).unwrap();
        plan.judge(flow, port, mac_of(ip(gateway)), sent_ms * 1_000_000, back_ms * 1_000_000)
    }

    #[test]
    fn destination_lies_in_its_prefix_but_not_in_a_longer_one() {
        let table = [("10.0.0.0/8", "198.18.0.2"), ("10.0.0.0/9", "198.18.0.3"), ("2a00::/16", "2001:2::2")];
        let plan = plan(&table, &[]).unwrap();
        assert_eq!(plan.flows.len(), 3);
        for (prefix, gateway) in table {
            assert_eq!(plan.expected(flow_of(&plan, prefix), 0).unwrap().address, ip(gateway));
        }
        assert!(!net("10.0.0.0/9").contains(&flow_of(&plan, "10.0.0.0/8").to));
    }

    #[test]
    fn prefix_that_longer_ones_cover_expects_the_next_hop_of_those() {
        let table =
            [("10.0.0.0/8", "198.18.0.2"), ("10.0.0.0/9", "198.18.0.3"), ("10.128.0.0/9", "198.18.0.3")];
        let plan = plan(&table, &[]).unwrap();
        assert!(plan.flows.iter().all(|flow| plan.expected(flow, 0).unwrap().address == ip("198.18.0.3")));
    }

    #[test]
    fn destinations_that_no_router_forwards_are_skipped() {
        let plan = plan(
            &[("224.0.0.0/8", "198.18.0.2"), ("198.19.7.0/24", "198.18.0.2"), ("9.0.0.0/8", "198.18.0.2")],
            &[],
        );
        let plan = plan.unwrap();
        assert_eq!((plan.skipped, plan.flows.len()), (2, 1));
    }

    #[test]
    fn only_the_timetables_next_hop_is_right_outside_of_the_settling_time() {
        let changes = [(100_000_000, "9.0.0.0/8", "198.19.0.3"), (300_000_000, "9.0.0.0/8", "198.18.0.4")];
        let plan = plan(&[("9.0.0.0/8", "198.18.0.2")], &changes).unwrap();
        let (first, second, third) = ("198.18.0.2", "198.19.0.3", "198.18.0.4");
        assert_eq!(judge(&plan, first, 50, 60), Verdict::Current);
        assert_eq!(judge(&plan, second, 50, 60), Verdict::Wrong, "before it is due");
        assert_eq!(judge(&plan, second, 99, 101), Verdict::Current);
        assert_eq!(judge(&plan, first, 140, 150), Verdict::Previous);
        assert_eq!(judge(&plan, first, 151, 152), Verdict::Wrong, "settled");
        assert_eq!(judge(&plan, second, 200, 201), Verdict::Current);
        assert_eq!(judge(&plan, third, 200, 201), Verdict::Wrong);
        assert_eq!(judge(&plan, third, 400, 401), Verdict::Current);
        assert_eq!(judge(&plan, second, 400, 401), Verdict::Wrong);
        assert_eq!(
            (plan.changes_due(0), plan.changes_due(100_000_000), plan.changes_due(u64::MAX)),
            (0, 1, 2)
        );
    }

    #[test]
    fn set_changes_its_routes_when_told_and_settles_like_any_change() {
        let table = [("8.0.0.0/8", "198.18.0.2"), ("9.0.0.0/8", "198.18.0.2")].map(|(p, g)| (net(p), ip(g)));
        let set =
            |name: &str, gateway| Set { name: name.into(), routes: vec![(net("8.0.0.0/8"), ip(gateway))] };
        let sets = [set("away", "198.19.0.3"), set("home", "198.18.0.2")];
        let mut plan = Plan::new(table, &[], &sets, &[link(0), link(1)], 50_000_000, &wanted()).unwrap();
        let (home, away) = ("198.18.0.2", "198.19.0.3");
        assert_eq!(
            (judge(&plan, home, 100, 101), judge(&plan, away, 100, 101)),
            (Verdict::Current, Verdict::Wrong)
        );
        assert_eq!(
            (plan.change_set("away", 100_000_000), plan.change_set("else", 100_000_000)),
            (Some(1), None)
        );
        let number = plan.flows.iter().position(|flow| plan.prefix(flow) == Some(net("8.0.0.0/8"))).unwrap();
        assert_eq!(plan.change(0), Some((100_000_000, Some(number as u32))));
        assert_eq!(
            (judge(&plan, home, 140, 150), judge(&plan, away, 101, 102)),
            (Verdict::Previous, Verdict::Current)
        );
        assert_eq!(judge(&plan, home, 151, 152), Verdict::Wrong, "settled");
        plan.change_set("home", 300_000_000);
        assert_eq!(
            (judge(&plan, away, 310, 320), judge(&plan, home, 400, 401)),
            (Verdict::Previous, Verdict::Current)
        );
        assert_eq!(plan.changes_due(u64::MAX), 2);
        let unknown = [Set { name: "x".into(), routes: vec![(net("7.0.0.0/8"), ip(home))] }];
        let error = Plan::new(table, &[], &unknown, &[link(0)], 0, &wanted()).unwrap_err().to_string();
        assert_eq!(
            error,
            "change of 7.0.0.0/8, which is not in the table: only changes of next hops can be checked"
        );
    }

    #[test]
    fn changes_come_in_order_of_time_with_the_flow_that_they_concern() {
        let changes = [
            (30, "9.0.0.0/8", "198.18.0.3"),
            (10, "8.0.0.0/8", "198.18.0.3"),
            (20, "9.0.0.0/8", "198.18.0.4"),
        ];
        let plan = plan(&[("8.0.0.0/8", "198.18.0.2"), ("9.0.0.0/8", "198.18.0.2")], &changes).unwrap();
        let all: Vec<_> = (0..4).map_while(|number| plan.change(number)).collect();
        let number = |prefix| {
            plan.flows.iter().position(|flow| plan.prefix(flow) == Some(net(prefix))).map(|at| at as u32)
        };
        let (eight, nine) = (number("8.0.0.0/8"), number("9.0.0.0/8"));
        assert!(eight.is_some() && nine.is_some());
        assert_eq!(all, [(10, eight), (20, nine), (30, nine)]);
    }

    #[test]
    fn right_mac_on_the_wrong_port_is_wrong() {
        let plan = plan(&[("9.0.0.0/8", "198.18.0.2")], &[]).unwrap();
        assert_eq!(plan.judge(&plan.flows[0], 1, mac_of(ip("198.18.0.2")), 0, 1), Verdict::Wrong);
    }

    #[test]
    fn what_cannot_be_checked_is_refused_by_name() {
        let no_port = plan(&[("9.0.0.0/8", "192.0.2.1")], &[]).unwrap_err().to_string();
        assert_eq!(no_port, "9.0.0.0/8 via 192.0.2.1: no port's subnet holds this next hop");
        let unknown = plan(&[("9.0.0.0/8", "198.18.0.2")], &[(0, "9.0.0.0/9", "198.18.0.2")]).unwrap_err();
        assert!(matches!(unknown, PlanError::UnknownPrefix(prefix) if prefix == net("9.0.0.0/9")));
        let same = plan(&[("9.0.0.0/8", "2001:2::1:2"), ("8.0.0.0/8", "2001:2::1:0:1:2")], &[]).unwrap_err();
        assert!(matches!(same, PlanError::SameMac { .. }), "{same}");
        assert!(matches!(plan(&[], &[]).unwrap_err(), PlanError::Empty));
    }

    #[test]
    fn route_given_twice_counts_once_with_its_last_next_hop() {
        let plan = plan(&[("9.0.0.0/8", "198.18.0.2"), ("9.0.0.0/8", "198.18.0.3")], &[]).unwrap();
        assert_eq!(plan.flows.len(), 1);
        assert_eq!(judge(&plan, "198.18.0.3", 0, 1), Verdict::Current);
    }

    #[test]
    fn order_of_flows_is_shuffled_and_the_same_for_the_same_seed() {
        let table: Vec<_> = (1..=200).map(|n| (net(&format!("9.{n}.0.0/16")), ip("198.18.0.2"))).collect();
        let one = |seed| {
            let plan =
                Plan::new(table.clone(), &[], &[], &[link(0)], 0, &Wanted { seed, ..Wanted::default() })
                    .unwrap();
            plan.flows.iter().map(|flow| flow.to).collect::<Vec<_>>()
        };
        assert_eq!(one(5), one(5));
        assert_ne!(one(5), one(6));
        assert!(!one(5).is_sorted());
    }

    fn planned(wanted: &Wanted) -> Result<Plan, PlanError> {
        let table =
            [("8.0.0.0/8", "198.18.0.2"), ("9.0.0.0/8", "198.19.0.3"), ("2a00::/16", "2001:2:0:1::5")];
        let table: Vec<_> = table.iter().map(|(prefix, gateway)| (net(prefix), ip(gateway))).collect();
        Plan::new(table, &[], &[], &[link(0), link(1)], 0, wanted)
    }

    #[test]
    fn families_prefixes_and_number_of_flows_can_be_chosen() {
        let only = planned(&Wanted { ipv6: true, ..wanted() }).unwrap();
        assert!(only.flows.len() == 1 && only.flows[0].to.is_ipv6());
        let within = vec![net("9.1.2.0/24"), net("8.8.8.8/32")];
        let inside = planned(&Wanted { within: within.clone(), flows: Some(50), ..wanted() }).unwrap();
        assert_eq!(inside.flows.len(), 50);
        assert!(inside.flows.iter().all(|flow| within.iter().any(|net| net.contains(&flow.to))));
        assert!(inside.flows.iter().all(|flow| plan_matches(&inside, flow)));
        assert_eq!(planned(&Wanted { flows: Some(1), ..wanted() }).unwrap().flows.len(), 1);
        let nowhere = planned(&Wanted { within: vec![net("7.0.0.0/8")], ..wanted() }).unwrap_err();
        assert_eq!(nowhere.to_string(), "7.0.0.0/8: the table has no route for it");
    }

    fn plan_matches(plan: &Plan, flow: &Flow) -> bool {
        plan.prefix(flow).unwrap().contains(&flow.to)
    }

    #[test]
    fn no_flow_enters_by_the_port_that_it_leaves_by_unless_in_a_mesh() {
        for direction in [Direction::Unidirectional, Direction::Bidirectional] {
            let plan =
                planned(&Wanted { direction: direction.clone(), flows: Some(30), ..wanted() }).unwrap();
            for (port, lane) in plan.lanes.iter().enumerate() {
                for flow in &plan.flows[lane.start as usize..lane.end as usize] {
                    assert_eq!(usize::from(flow.ingress), port);
                    assert_ne!(plan.expected(flow, 0).unwrap().port, port);
                }
            }
            assert_eq!(plan.lanes[1].is_empty(), direction == Direction::Unidirectional);
        }
        let back =
            Wanted { direction: Direction::Unidirectional, within: vec![net("8.0.0.0/8")], ..wanted() };
        assert!(matches!(planned(&back).unwrap_err(), PlanError::NoDestination));
    }

    #[test]
    fn given_addresses_are_kept_and_numbered() {
        let exactly = vec![ip("9.9.9.9"), ip("8.8.8.8"), ip("9.9.9.8")];
        let plan = planned(&Wanted {
            exactly: Some(exactly.clone()),
            direction: Direction::Bidirectional,
            ..wanted()
        })
        .unwrap();
        assert_eq!(plan.flows.len(), 3);
        for (flow, origin) in plan.flows.iter().zip(&plan.origins) {
            assert_eq!(flow.to, exactly[*origin as usize]);
        }
        let none = Wanted { exactly: Some(vec![ip("7.7.7.7")]), ..wanted() };
        assert!(matches!(planned(&none).unwrap_err(), PlanError::NoRoute(_)));
    }

    #[test]
    fn device_without_a_table_gets_addresses_of_the_given_prefixes() {
        let wanted = Wanted { within: vec![net("9.0.0.0/8")], flows: Some(10), ..wanted() };
        let plan = Plan::without_table(&[link(0), link(1)], &wanted).unwrap();
        assert_eq!((plan.flows.len(), plan.lanes.clone()), (10, vec![0..5, 5..10]));
        assert!(plan.first_gateway(&plan.flows[0]).is_none());
    }
}
