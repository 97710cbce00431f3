//! What the resolver remembers and says.

use super::*;
use crate::control::own_routes::OwnRoutes;
use crate::packet::ethernet::Mac;
use crate::pipeline::port::{Link, ReversePath};
use fibcast_fib::{Limits, PortId};
use proptest::prelude::*;
use std::time::Instant;

use crate::control::{Batch, Control, Setup};
use crate::pipeline::icmp_limit::Limits as IcmpLimits;
use crate::pipeline::output::Rings;

/// A table with one port, 192.0.2.1/24.
struct World {
    recursion: Recursion,
    fib: Fib,
    ports: Vec<PortSetup>,
}

impl World {
    fn new() -> World {
        let ports = vec![PortSetup {
            name: "p0".to_owned(),
            mac: Mac([2, 0, 0, 0, 0, 1]),
            addresses: vec!["192.0.2.1/24".parse().unwrap()],
            loopback: Vec::new(),
            mtu: 1_500,
            vrf: VrfId::DEFAULT,
            link: Link { device: 0, vlan: None },
            reverse_path: ReversePath::Off,
            exception_path: false,
        }];
        let mut fib = Fib::new(Limits { max_routes: 1_000, ..Limits::default() });
        fib.apply(&OwnRoutes::new(&ports, &[]).changes, 0).unwrap();
        World { recursion: Recursion::default(), fib, ports }
    }

    /// Applies a batch; the lines that the log gets.
    fn apply(&mut self, mut changes: Vec<Change>) -> Vec<String> {
        self.recursion.prepare(&mut changes, false, &self.fib);
        self.fib.apply(&changes, 1).unwrap();
        self.recursion.note(&changes);
        let before = self.recursion.lost.clone();
        let resolved = self.recursion.resolve(&self.ports, &self.fib);
        self.fib.apply(&resolved, 1).unwrap();
        let mut new = Vec::new();
        for (label, lost) in &self.recursion.lost {
            let vrf = self.recursion.wanted[label].vrf;
            let before = before.get(label).cloned().unwrap_or_default();
            let news = lost.iter().filter(|one| !before.contains(one));
            new.extend(news.map(|&(gateway, reason)| LostGateway { vrf, label: *label, gateway, reason }));
        }
        lost::lines(&new, &self.fib)
    }
}

fn put(label: u64, gateway: &str) -> Change {
    let group = Group::one(NextHop::via(gateway.parse().unwrap())).unwrap();
    Change::PutGroup { label: GroupLabel(label), group }
}

fn announce(prefix: &str, label: u64) -> Change {
    let prefix: IpNet = prefix.parse().unwrap();
    Change::Announce { vrf: VrfId::DEFAULT, prefix, label: GroupLabel(label) }
}

#[test]
fn a_lost_gateway_is_reported_once_with_a_prefix_and_again_when_the_reason_changes() {
    let mut world = World::new();
    let first = world.apply(vec![put(1, "203.0.113.1"), announce("172.16.0.0/16", 1)]);
    assert_eq!(
        first,
        ["vrf 0: 172.16.0.0/16 via 203.0.113.1: no connected subnet and no route has the gateway"]
    );
    // Other routes with the same group, and the same group again: no news.
    assert!(world.apply(vec![announce("172.17.0.0/16", 1), put(1, "203.0.113.1")]).is_empty());
    let circle = world.apply(vec![put(2, "203.0.113.7"), announce("203.0.113.0/24", 2)]);
    let reason = "the gateway's route leads back to it (loop)";
    assert!(circle.contains(&format!("vrf 0: 203.0.113.0/24 via 203.0.113.7: {reason}")), "{circle:?}");
    assert!(circle.contains(&format!("vrf 0: 172.16.0.0/16 via 203.0.113.1: {reason}")), "{circle:?}");
    // The circle is walked again and again, and stays what it was.
    for label in 3..9 {
        assert!(world.apply(vec![put(label, "203.0.113.7"), announce("203.0.113.0/25", 2)]).is_empty());
    }
    // A way out and back in.
    assert!(world.apply(vec![put(2, "192.0.2.9")]).is_empty());
    assert_eq!(world.recursion.lost(), 0);
    assert_eq!(world.apply(vec![put(2, "203.0.113.7")]).len(), 2);
}

#[test]
fn a_group_that_no_route_uses_is_not_worth_a_line_and_many_lines_are_cut_off() {
    let mut world = World::new();
    assert!(world.apply(vec![put(1, "203.0.113.1")]).is_empty());
    let batch = (10..30).flat_map(|number| {
        [put(number, &format!("203.0.113.{number}")), announce(&format!("172.{number}.0.0/16"), number)]
    });
    let lines = world.apply(batch.collect());
    assert_eq!(
        (lines.len(), lines.last().map(String::as_str)),
        (9, Some("12 more gateways cannot be resolved"))
    );
}

#[test]
fn a_group_whose_gateways_are_on_connected_subnets_stays_as_it_is() {
    let mut world = World::new();
    let member = |last: u8, weight| Member { next_hop: NextHop::via([192, 0, 2, last].into()), weight };
    // Weights that could be made smaller, and a next hop that is there twice.
    let group = Group::hops(vec![member(9, 2), member(8, 4), member(9, 2)]).unwrap();
    let put = Change::PutGroup { label: GroupLabel(1), group: group.clone() };
    world.apply(vec![put, announce("172.16.0.0/16", 1)]);
    assert_eq!(world.fib.group(GroupLabel(1)), Some(&group));
}

#[test]
fn only_the_groups_concerned_are_resolved_again() {
    let mut world = World::new();
    world.apply(vec![put(1, "192.0.2.9"), put(2, "203.0.113.1"), announce("172.16.0.0/16", 2)]);
    let mut stale_after = |change: Change| {
        world.recursion.note(&[change]);
        std::mem::take(&mut world.recursion.stale).into_iter().map(|label| label.0).collect::<Vec<_>>()
    };
    assert_eq!(stale_after(announce("192.0.2.9/32", 1)), [1]);
    assert_eq!(stale_after(announce("0.0.0.0/0", 1)), [2]);
    assert!(stale_after(announce("172.17.0.0/16", 1)).is_empty());
}

#[test]
fn nothing_is_left_of_groups_that_went() {
    let mut world = World::new();
    world.apply(vec![put(1, "192.0.2.9"), put(2, "203.0.113.1")]);
    world.apply(vec![
        Change::DeleteGroup { label: GroupLabel(1) },
        Change::DeleteGroup { label: GroupLabel(2) },
    ]);
    assert!(world.recursion.wanted.is_empty() && world.recursion.lost() == 0);
    let mut found = BTreeSet::new();
    world.recursion.dependents.of_route(VrfId::DEFAULT, "0.0.0.0/0".parse().unwrap(), &mut found);
    world.recursion.dependents.of_route(VrfId::DEFAULT, "192.0.2.9/32".parse().unwrap(), &mut found);
    assert!(found.is_empty());
    let on = NextHop { gateway: Some([192, 0, 2, 9].into()), port: Some(PortId(0)) };
    let group = Group::one(on).unwrap();
    world.apply(vec![Change::PutGroup { label: GroupLabel(3), group }]);
    assert!(world.recursion.wanted.is_empty(), "a next hop with a port needs no resolution");
}

#[test]
fn a_copy_has_a_label_of_its_own() {
    let copies: HashSet<GroupLabel> = (0..1_000).map(|vrf| copy_of(GroupLabel(7), VrfId(vrf))).collect();
    assert!(copies.len() == 1_000 && !copies.contains(&GroupLabel(7)));
    assert!(copies.iter().all(|label| !is_own(*label)));
}

/// A change of the property below: what happens to a table and to the addresses of its two ports.
#[derive(Debug, Clone, Copy)]
enum Event {
    Put(u64, usize),
    Announce(usize, u64),
    Withdraw(usize),
    /// The operator's addresses on the TAP interface of a port, by the bits of a mask.
    Addresses(usize, u8),
}

/// Gateways inside and outside of the subnets, some of them also host routes.
const GATEWAYS: [&str; 6] = ["192.0.2.9", "10.1.1.9", "10.1.2.9", "10.2.0.9", "203.0.113.1", "10.1.1.1"];
const PREFIXES: [&str; 8] = [
    "10.1.1.9/32",
    "192.0.2.9/32",
    "10.1.1.0/24",
    "10.1.0.0/16",
    "10.0.0.0/8",
    "203.0.113.0/24",
    "0.0.0.0/0",
    "10.2.0.9/32",
];
const SUBNETS: [&str; 4] = ["10.1.1.1/24", "10.1.0.1/16", "10.2.0.1/30", "10.0.0.1/8"];

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        (1..5u64, 0..GATEWAYS.len()).prop_map(|(label, gateway)| Event::Put(label, gateway)),
        (0..PREFIXES.len(), 1..5u64).prop_map(|(prefix, label)| Event::Announce(prefix, label)),
        (0..PREFIXES.len()).prop_map(Event::Withdraw),
        (0..2usize, 0..16u8).prop_map(|(port, mask)| Event::Addresses(port, mask)),
    ]
}

fn two_ports() -> Control {
    let World { mut ports, .. } = World::new();
    let mut second = ports[0].clone();
    second.name = "p1".to_owned();
    second.mac = Mac([2, 0, 0, 0, 0, 2]);
    second.link.device = 1;
    second.addresses = vec!["198.51.100.1/24".parse().unwrap()];
    ports.push(second);
    let setup = Setup {
        ports,
        routes: Vec::new(),
        neighbors: Vec::new(),
        limits: Limits { max_routes: 1_000, ..Limits::default() },
        icmp: IcmpLimits::default(),
        allow_class_e: false,
        rings: vec![Rings::default()],
        counters: Vec::new(),
    };
    Control::new(setup, Instant::now()).unwrap()
}

/// Each group, resolved again from its definition, is what the table has.
fn assert_as_from_scratch(control: &Control, history: &[Event]) {
    let mut scratch = Recursion { wanted: control.recursion.wanted.clone(), ..Recursion::default() };
    scratch.again();
    let missing = scratch.resolve(&control.ports, &control.fib);
    assert!(missing.is_empty(), "{history:?}\n{missing:?}");
}

fn run(control: &mut Control, event: Event, serial: u64) {
    let now = Instant::now();
    let batch = |changes| Batch { changes, serial, number: 0, replaces: false };
    match event {
        Event::Put(label, gateway) => control.push(batch(vec![put(label, GATEWAYS[gateway])])),
        Event::Announce(prefix, label) => control.push(batch(vec![announce(PREFIXES[prefix], label)])),
        Event::Withdraw(prefix) => {
            let prefix = PREFIXES[prefix].parse().unwrap();
            control.push(batch(vec![Change::Withdraw { vrf: VrfId::DEFAULT, prefix }]));
        }
        Event::Addresses(port, mask) => {
            let chosen = SUBNETS.iter().enumerate().filter(|(at, _)| mask & 1 << at != 0);
            let addresses = chosen.map(|(_, subnet)| subnet.parse().unwrap()).collect();
            control.set_kernel_addresses(port, addresses, now);
        }
    }
    while control.pending() != 0 {
        control.turn(now);
        assert!(control.failure.is_none(), "{event:?}: {:?}", control.failure);
    }
    control.turn(now);
}

fn history(events: &[Event]) {
    let mut control = two_ports();
    for label in 1..5 {
        run(&mut control, Event::Put(label, 0), 1);
    }
    for (at, event) in events.iter().enumerate() {
        run(&mut control, *event, at as u64 + 2);
        assert_as_from_scratch(&control, &events[..=at]);
    }
}

#[test]
fn a_gateway_behind_a_host_route_by_itself_follows_the_subnets_that_appear_and_disappear() {
    // 10.1.1.9/32 via 10.1.1.9: the connected subnet of the gateway decides, whatever its length.
    let host_route = [Event::Put(1, 1), Event::Announce(0, 1)];
    for subnets in [&[0b0010, 0b0011, 0b0010, 0b1000, 0][..], &[0b1000, 0b1010, 0b1011, 0]] {
        let addresses = subnets.iter().enumerate().map(|(at, mask)| Event::Addresses(at % 2, *mask));
        history(&host_route.into_iter().chain(addresses).collect::<Vec<_>>());
    }
    // With a route to the same prefix, so that no route comes with the address.
    history(&[Event::Put(2, 0), Event::Announce(3, 2), host_route[0], host_route[1], Event::Addresses(0, 2)]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn whatever_changes_groups_are_what_a_resolution_from_scratch_gives(
        events in prop::collection::vec(event(), 1..25),
    ) {
        history(&events);
    }
}
