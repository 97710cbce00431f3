//! A sender's table in a mirror, step by step.

use std::time::{Duration, Instant};

use super::*;
use fibcast_netlink::testing as wire;
use fibcast_netlink::{Messages, NextHop, kind};

/// A mirror, and the RIB's knowledge from it.
struct World {
    mirror: Mirror,
    rib: std::collections::BTreeMap<IpNet, String>,
}

impl World {
    fn new() -> Self {
        let policy = Policy { vrfs: [(254, 0)].into(), ..Policy::default() };
        Self { mirror: Mirror::new(policy), rib: Default::default() }
    }

    fn hear(&mut self, messages: &[Vec<u8>]) {
        let bytes = messages.concat();
        for message in Messages::new(&bytes) {
            let message = message.unwrap();
            match message.kind {
                kind::NEW_NEXTHOP => {
                    let object = NextHop::read(&message).unwrap();
                    assert!(self.mirror.define(object.id, object.definition));
                }
                kind::DEL_NEXTHOP => self.mirror.undefine(NextHop::read(&message).unwrap().id, false),
                new => {
                    let mut route = Route::default();
                    assert!(route.read(&message).unwrap());
                    if new == kind::NEW_ROUTE {
                        self.mirror.set(0, &route, false);
                    } else {
                        self.mirror.remove(0, route.prefix);
                    }
                }
            }
        }
    }

    fn take(&mut self, changes: Vec<RouteChange>) -> usize {
        let n = changes.len();
        for change in changes {
            match change.path {
                Some((group, _)) => self
                    .rib
                    .insert(change.prefix, fibcast_sync_agent::agent::show::words(&group.value).join(", ")),
                None => self.rib.remove(&change.prefix),
            };
        }
        n
    }

    /// Passes all changes to the RIB; returns their number.
    fn tell(&mut self) -> usize {
        let mut n = 0;
        loop {
            let changes = self.mirror.changes(3);
            if changes.is_empty() {
                break;
            }
            n += self.take(changes);
        }
        n
    }

    fn via(&self, prefix: &str) -> &str {
        self.rib.get(&prefix.parse().unwrap()).map_or("-", String::as_str)
    }
}

#[test]
fn a_withdrawal_followed_by_the_same_route_is_no_change() {
    let mut world = World::new();
    world.hear(&[wire::route("10.0.0.0/8", "192.0.2.1"), wire::route("2001:db8::/32", "2001:db8::1")]);
    assert_eq!(world.tell(), 2);
    world.hear(&[wire::withdrawal("10.0.0.0/8"), wire::route("10.0.0.0/8", "192.0.2.1")]);
    assert_eq!(world.tell(), 0);
    world.hear(&[wire::withdrawal("10.0.0.0/8"), wire::route("10.0.0.0/8", "192.0.2.2")]);
    assert_eq!(world.tell(), 1);
    assert_eq!(world.via("10.0.0.0/8"), "192.0.2.2");
    world.hear(&[wire::withdrawal("10.0.0.0/8"), wire::withdrawal("10.9.0.0/16")]);
    assert_eq!(world.tell(), 1);
    assert_eq!(world.mirror.figures().live, 1);
    assert_eq!(world.mirror.shared.paths.len(), 1, "the path of the route that is left");
}

#[test]
fn what_is_not_heard_again_goes_with_the_sweep_and_not_before() {
    let mut world = World::new();
    let prefixes = ["10.0.0.0/8", "10.1.0.0/16", "2001:db8::/32"];
    let gateway = |p: &str| if p.contains(':') { "2001:db8::1" } else { "192.0.2.1" };
    world.hear(&prefixes.map(|p| wire::route(p, gateway(p))));
    world.tell();
    world.mirror.begin();
    assert_eq!((world.tell(), world.mirror.figures().stale), (0, 3));
    world.hear(&[wire::route("10.1.0.0/16", "192.0.2.1"), wire::route("10.2.0.0/16", "192.0.2.1")]);
    assert_eq!((world.tell(), world.mirror.figures().stale), (1, 2));
    assert_eq!(world.mirror.sweep(), 2);
    assert_eq!(world.tell(), 2);
    assert_eq!(world.rib.len(), 2);
    assert_eq!((world.mirror.figures().live, world.mirror.figures().stale), (2, 0));
    assert_eq!(world.mirror.sweep(), 0);
}

#[test]
fn a_route_whose_object_comes_late_is_parked_and_told_when_it_comes() {
    let mut world = World::new();
    world.hear(&[
        wire::group(7, &[(1, 1), (2, 3)]),
        wire::object(1, "192.0.2.1"),
        wire::route_by("10.0.0.0/8", 7),
    ]);
    assert_eq!((world.tell(), world.mirror.parked()), (0, 1));
    world.hear(&[wire::object(2, "192.0.2.2")]);
    assert_eq!((world.tell(), world.mirror.parked()), (1, 0));
    assert_eq!(world.via("10.0.0.0/8"), "192.0.2.1, 192.0.2.2 weight 3");
}

#[test]
fn an_object_that_changes_changes_its_routes_and_those_of_its_groups_alone() {
    let mut world = World::new();
    world.hear(&[
        wire::object(1, "192.0.2.1"),
        wire::object(2, "192.0.2.2"),
        wire::group(7, &[(1, 1), (2, 1)]),
    ]);
    world.hear(&[
        wire::route_by("10.0.0.0/8", 7),
        wire::route_by("10.1.0.0/16", 1),
        wire::route_by("10.2.0.0/16", 2),
    ]);
    assert_eq!(world.tell(), 3);
    world.hear(&[wire::object(1, "192.0.2.1")]);
    assert_eq!(world.tell(), 0, "the same again");
    world.hear(&[wire::object(1, "192.0.2.9")]);
    assert_eq!(world.tell(), 2);
    assert_eq!(
        ["10.0.0.0/8", "10.1.0.0/16", "10.2.0.0/16"].map(|p| world.via(p)),
        ["192.0.2.2, 192.0.2.9", "192.0.2.9", "192.0.2.2"]
    );
    world.hear(&[wire::group(7, &[(2, 1)])]);
    assert_eq!((world.tell(), world.via("10.0.0.0/8")), (1, "192.0.2.2"));
    assert_eq!(world.mirror.shared.paths.len(), 2);
}

#[test]
fn what_the_rib_knows_of_a_parked_route_stays_for_some_seconds() {
    let mut world = World::new();
    let now = Instant::now();
    world.hear(&[wire::route("10.0.0.0/8", "192.0.2.1")]);
    world.tell();
    world.hear(&[wire::withdrawal("10.0.0.0/8"), wire::route_by("10.0.0.0/8", 7)]);
    assert_eq!(world.tell(), 0);
    assert!(world.mirror.turn(now).is_empty());
    assert!(world.mirror.turn(now + Duration::from_millis(9_900)).is_empty());
    let late = world.mirror.turn(now + Duration::from_secs(10));
    assert_eq!(world.take(late), 1);
    assert_eq!(world.via("10.0.0.0/8"), "-");
    world.hear(&[wire::object(7, "192.0.2.7")]);
    assert_eq!((world.tell(), world.via("10.0.0.0/8")), (1, "192.0.2.7"));
    world.hear(&[wire::no_object(7)]);
    assert_eq!((world.tell(), world.mirror.parked(), world.via("10.0.0.0/8")), (0, 1, "192.0.2.7"));
}

#[test]
fn numbers_of_objects_mean_nothing_after_the_sender_began_anew() {
    let mut world = World::new();
    world.hear(&[
        wire::object(1, "192.0.2.1"),
        wire::route_by("10.0.0.0/8", 1),
        wire::route_by("10.1.0.0/16", 2),
    ]);
    assert_eq!(world.tell(), 1);
    world.mirror.begin();
    world.hear(&[wire::object(1, "192.0.2.66")]);
    assert_eq!(
        (world.tell(), world.via("10.0.0.0/8")),
        (0, "192.0.2.1"),
        "the old route keeps the old meaning"
    );
    world.hear(&[wire::route_by("10.0.0.0/8", 1)]);
    assert_eq!((world.tell(), world.via("10.0.0.0/8")), (1, "192.0.2.66"));
    assert_eq!(
        (world.mirror.figures().live, world.mirror.figures().stale),
        (1, 0),
        "the parked one is forgotten"
    );
}

#[test]
fn a_route_that_becomes_unusable_is_withdrawn_and_counted_by_reason() {
    let mut world = World::new();
    world.hear(&[wire::route("10.0.0.0/8", "192.0.2.1")]);
    world.tell();
    let hops: Vec<String> = (0..257).map(|i| format!("10.9.{}.{}", i / 256, i % 256)).collect();
    let many: Vec<(&str, u8)> = hops.iter().map(|h| (h.as_str(), 1)).collect();
    let unusable = [
        (wire::route_of(24, "10.0.0.0/8", 254, 1, &[wire::output(3)]), Skip::NoGateway),
        (wire::route_of(24, "10.0.0.0/8", 254, 2, &[wire::output(1)]), Skip::Kind),
        (wire::route_of(24, "10.0.0.0/8", 254, 1, &[wire::multipath(&many)]), Skip::TooManyHops),
        (wire::route_with_flag("10.0.0.0/8", "169.254.0.1", 4), Skip::Unnumbered),
        (wire::route("10.0.0.0/8", "fe80::1"), Skip::LinkLocal),
    ];
    for (message, skip) in unusable {
        world.hear(&[message]);
        assert_eq!((world.tell(), world.via("10.0.0.0/8")), (1, "-"), "{skip:?}");
        assert!(world.mirror.counters().contains(&(skip.name(), 1)), "{:?}", world.mirror.counters());
        world.hear(&[wire::route("10.0.0.0/8", "192.0.2.1")]);
        world.tell();
    }
    let message = wire::route_of(24, "10.0.0.0/8", 254, 1, &[wire::multipath(&many[..256])]);
    world.hear(&[message]);
    assert_eq!(world.tell(), 1, "256 next hops are fine");
}

#[test]
fn random_messages_leave_the_rib_with_what_the_sender_has() {
    use std::collections::HashMap;
    let mut seed = 42u64;
    let mut random = |n: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % n
    };
    for _ in 0..50 {
        let mut world = World::new();
        let mut model: HashMap<u64, Option<u64>> = HashMap::new();
        for _ in 0..400 {
            let prefix = random(12);
            let text = format!("10.{prefix}.0.0/16");
            match random(12) {
                0..5 => {
                    let via = random(4);
                    world.hear(&[wire::route(&text, &format!("192.0.2.{}", via + 1))]);
                    model.insert(prefix, Some(via));
                }
                5..8 => {
                    let via = random(4);
                    world.hear(&[wire::object(via as u32 + 1, &format!("192.0.2.{}", via + 1))]);
                    world.hear(&[wire::route_by(&text, via as u32 + 1)]);
                    model.insert(prefix, Some(via));
                }
                8..10 => {
                    world.hear(&[wire::withdrawal(&text)]);
                    model.remove(&prefix);
                }
                10 => {
                    world.mirror.begin();
                    model.values_mut().for_each(|v| *v = None);
                }
                _ => {
                    world.tell();
                    if random(4) == 0 {
                        world.mirror.sweep();
                        model.retain(|_, v| v.is_some());
                    }
                }
            }
        }
        world.mirror.sweep();
        model.retain(|_, v| v.is_some());
        world.tell();
        let expected: std::collections::BTreeMap<IpNet, String> = model
            .iter()
            .map(|(p, v)| (format!("10.{p}.0.0/16").parse().unwrap(), format!("192.0.2.{}", v.unwrap() + 1)))
            .collect();
        assert_eq!(world.rib, expected);
        assert_eq!(world.mirror.figures().live, expected.len() as u64);
    }
}

/// `RTM_NEWLINK` or `RTM_DELLINK` of an interface, or `RTM_NEWADDR` or `RTM_DELADDR` of its subnet.
fn link(world: &mut World, kind: u16, index: u32, flags: u32) {
    let body = [0, index, flags, 0].map(u32::to_ne_bytes).concat();
    interface(world, &wire::message(kind, 0, &body));
}

fn address(world: &mut World, kind: u16, index: u32, subnet: &str) {
    let subnet: IpNet = subnet.parse().unwrap();
    let (family, octets) = match subnet.addr() {
        std::net::IpAddr::V4(a) => (2, a.octets().to_vec()),
        std::net::IpAddr::V6(a) => (10, a.octets().to_vec()),
    };
    let mut body = vec![family, subnet.prefix_len(), 0, 0];
    body.extend(index.to_ne_bytes());
    body.extend(wire::attribute(1, &octets));
    interface(world, &wire::message(kind, 0, &body));
}

fn interface(world: &mut World, bytes: &[u8]) {
    let message = Messages::new(bytes).next().unwrap().unwrap();
    world.mirror.hear_interface(&message);
}

const RUNNING: u32 = 0x41;

/// Routes by two next hops on interface 3 and one on interface 4: of their own, or by an object.
fn by_two_interfaces() -> World {
    let mut world = World::new();
    let member = |id, via, index| {
        let mut body = [vec![2, 0, 0, 0], vec![0; 4], wire::attribute(1, &u32::to_ne_bytes(id))].concat();
        let gateway: std::net::Ipv4Addr = via;
        body.extend(wire::attribute(6, &gateway.octets()));
        body.extend(wire::attribute(5, &u32::to_ne_bytes(index)));
        wire::message(kind::NEW_NEXTHOP, 0, &body)
    };
    world.hear(&[
        member(1, "192.0.2.1".parse().unwrap(), 3),
        member(2, "203.0.113.1".parse().unwrap(), 4),
        wire::group(10, &[(1, 1), (2, 1)]),
        wire::route_by("10.0.0.0/8", 10),
        wire::route_by("11.0.0.0/8", 2),
    ]);
    let route = |prefix, hops: &[(&str, u32)]| {
        let hop = |(via, index): &(&str, u32)| {
            let gateway = wire::gateway(via);
            let length = 8 + gateway.len() as u16;
            [&length.to_ne_bytes()[..], &[0, 0], &index.to_ne_bytes(), &gateway].concat()
        };
        let hops: Vec<u8> = hops.iter().flat_map(hop).collect();
        wire::route_of(kind::NEW_ROUTE, prefix, 254, 1, &[wire::attribute(9, &hops)])
    };
    world.hear(&[
        route("12.0.0.0/8", &[("192.0.2.1", 3), ("203.0.113.1", 4)]),
        route("13.0.0.0/8", &[("203.0.113.1", 4)]),
        route("14.0.0.0/8", &[("192.0.2.1", 3)]),
    ]);
    assert_eq!(world.tell(), 5);
    world
}

const BOTH: [&str; 5] =
    ["192.0.2.1, 203.0.113.1", "203.0.113.1", "192.0.2.1, 203.0.113.1", "203.0.113.1", "192.0.2.1"];
const ONE_LEFT: [&str; 5] = ["192.0.2.1", "-", "192.0.2.1", "-", "192.0.2.1"];

fn all(world: &World) -> [&str; 5] {
    ["10.0.0.0/8", "11.0.0.0/8", "12.0.0.0/8", "13.0.0.0/8", "14.0.0.0/8"].map(|prefix| world.via(prefix))
}

#[test]
fn next_hops_of_an_interface_that_is_not_running_are_left_out_until_it_is() {
    let mut world = by_two_interfaces();
    link(&mut world, kind::NEW_LINK, 3, RUNNING);
    link(&mut world, kind::NEW_LINK, 4, RUNNING);
    address(&mut world, kind::NEW_ADDRESS, 4, "203.0.113.0/24");
    assert_eq!((world.tell(), all(&world)), (0, BOTH));
    type Take = fn(&mut World);
    let events: [(Take, Take); 4] = [
        (|w| link(w, kind::NEW_LINK, 4, 1), |w| link(w, kind::NEW_LINK, 4, RUNNING)),
        (|w| link(w, kind::NEW_LINK, 4, 0), |w| link(w, kind::NEW_LINK, 4, RUNNING)),
        (
            |w| address(w, kind::DEL_ADDRESS, 4, "203.0.113.0/24"),
            |w| address(w, kind::NEW_ADDRESS, 4, "203.0.113.0/24"),
        ),
        (|w| link(w, kind::DEL_LINK, 4, 0), |w| link(w, kind::NEW_LINK, 4, RUNNING)),
    ];
    for (take, give) in events {
        take(&mut world);
        assert_eq!((world.tell(), all(&world)), (4, ONE_LEFT));
        // The sender may say the same again meanwhile.
        world.hear(&[wire::route_by("10.0.0.0/8", 10)]);
        assert_eq!((world.tell(), all(&world)), (0, ONE_LEFT));
        give(&mut world);
        assert_eq!((world.tell(), all(&world)), (4, BOTH));
    }
    assert_eq!(world.mirror.shared.paths.len(), 3, "no path is left over");
}

#[test]
fn what_the_sender_says_of_a_dead_interface_counts_once_that_is_back() {
    let mut world = by_two_interfaces();
    link(&mut world, kind::NEW_LINK, 4, 0);
    world.tell();
    // It takes one route away, and gives another one both next hops.
    world.hear(&[wire::withdrawal("13.0.0.0/8"), wire::route_by("14.0.0.0/8", 10)]);
    assert_eq!((world.tell(), all(&world)), (1, ONE_LEFT));
    link(&mut world, kind::NEW_LINK, 4, RUNNING);
    world.tell();
    assert_eq!(all(&world), [BOTH[0], BOTH[1], BOTH[2], "-", BOTH[0]]);
}

#[test]
fn an_on_link_gateway_and_an_unknown_interface_do_not_depend_on_subnets() {
    let mut world = by_two_interfaces();
    world.hear(&[wire::route_with_flag("15.0.0.0/8", "198.51.100.1", 4)]);
    address(&mut world, kind::NEW_ADDRESS, 4, "198.51.100.0/24");
    address(&mut world, kind::DEL_ADDRESS, 4, "198.51.100.0/24");
    // No address of interface 3 was ever seen, so none is missed.
    link(&mut world, kind::NEW_LINK, 3, RUNNING);
    world.tell();
    assert_eq!((all(&world), world.via("15.0.0.0/8")), (BOTH, "198.51.100.1"));
}

#[test]
fn after_lost_notifications_what_is_not_read_again_is_gone() {
    let mut world = by_two_interfaces();
    for index in [3, 4] {
        link(&mut world, kind::NEW_LINK, index, RUNNING);
    }
    address(&mut world, kind::NEW_ADDRESS, 3, "192.0.2.0/24");
    world.mirror.read_interfaces_again();
    link(&mut world, kind::NEW_LINK, 3, RUNNING);
    address(&mut world, kind::NEW_ADDRESS, 3, "192.0.2.0/24");
    world.mirror.interfaces_were_read();
    world.tell();
    assert_eq!(all(&world), ONE_LEFT);
    // A restart of the sender keeps what the RIB has, and follows on.
    world.mirror.begin();
    link(&mut world, kind::NEW_LINK, 4, RUNNING);
    world.tell();
    assert_eq!(all(&world)[2..], BOTH[2..]);
}
