//! The kernel changes next hops in silence: a link goes down, loses its carrier or its address, and no route message says so. What routes say
//! follows it, by FPM and by netlink, with next-hop objects and without.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use fibcast_interop::{Host, Lab, Ours, always, eventually, route_server_toml};

/// Routes whose next hops are two neighbors on eth0 and one on eth1.
const ROUTES: usize = 50;
const ALL: &str = "192.0.2.2, 192.0.2.3, 203.0.113.2";
const ETH0: &str = "192.0.2.2, 192.0.2.3";

/// What takes eth1's next hop away and brings it back, each with the interface up at last.
const EVENTS: [(&str, &str, &str); 3] = [
    ("the link is set down", "a link set eth1 down", "a link set eth1 up"),
    ("the carrier is lost", "up link set eth1 down", "up link set eth1 up"),
    (
        "the address is removed",
        "a address del 203.0.113.1/24 dev eth1",
        "a address add 203.0.113.1/24 dev eth1",
    ),
];

fn prefix(number: usize) -> String {
    format!("10.0.{number}.0/24")
}

/// Whether all routes are there, by these next hops.
fn all_by(server: &Ours<'_>, via: &str) -> bool {
    let shown = server.cli("show routes --limit 1000");
    let routes = shown["routes"].as_array().unwrap();
    let words = |route: &serde_json::Value| {
        let hops = route["via"].as_array().unwrap();
        hops.iter().filter_map(|hop| hop.as_str()).collect::<Vec<_>>().join(", ")
    };
    routes.len() == ROUTES && routes.iter().all(|route| words(route) == via)
}

fn hosts(lab: &Lab) -> (Host<'_>, Host<'_>) {
    let (a, up) = (lab.host("a"), lab.host("up"));
    lab.cable((&a, "eth0", &["192.0.2.1/24"]), (&up, "eth0", &["192.0.2.2/24", "192.0.2.3/24"]));
    lab.cable((&a, "eth1", &["203.0.113.1/24"]), (&up, "eth1", &["203.0.113.2/24"]));
    (a, up)
}

fn server<'h>(a: &'h Host<'_>, source: &str) -> Ours<'h> {
    let source = format!("[[source]]\norigin = \"x\"\n{source}\n");
    a.ours("fibcast-route-server", "rs", &route_server_toml(a, "rs", "127.0.0.1:7830", &source))
}

/// Each event, and what routes say then.
fn events(a: &Host<'_>, up: &Host<'_>, server: &Ours<'_>) {
    let on = |command: &str| match command.split_once(' ').unwrap() {
        ("a", arguments) => a.ip(arguments),
        (_, arguments) => up.ip(arguments),
    };
    for (what, take, give) in EVENTS {
        on(take);
        let took = eventually(&format!("{what}: two next hops are left"), 20, || all_by(server, ETH0));
        println!("{what}: after {:.1} s", took.as_secs_f64());
        always("they stay", 2, || all_by(server, ETH0));
        on(give);
        eventually(&format!("{what}, and back: three"), 20, || all_by(server, ALL));
    }
}

fn by_fpm(groups: &str) {
    let Some(lab) = Lab::new(&["zebra", "staticd", "vtysh"]) else { return };
    let (a, up) = hosts(&lab);
    let server = server(&a, "kind = \"fpm\"\nlisten = \"127.0.0.1:2620\"\nprotocol = \"static\"");
    let line = |number: usize, via: &str| format!("ip route {} {via}\n", prefix(number));
    let lines: String =
        (0..ROUTES).flat_map(|number| ALL.split(", ").map(move |via| line(number, via))).collect();
    let _frr = a.frr(&["staticd"], &format!("fpm address 127.0.0.1 port 2620\n{groups}\n{lines}"));
    eventually("three next hops", 40, || all_by(&server, ALL));
    events(&a, &up, &server);
}

#[test]
fn zebra_with_next_hop_groups() {
    by_fpm("fpm use-next-hop-groups");
}

#[test]
fn zebra_without_next_hop_groups() {
    by_fpm("no fpm use-next-hop-groups");
}

#[test]
fn the_kernel_with_multipath_routes() {
    let Some(lab) = Lab::new(&["ip"]) else { return };
    let (a, up) = hosts(&lab);
    let hops: String = ALL.split(", ").map(|via| format!(" nexthop via {via}")).collect();
    (0..ROUTES).for_each(|number| drop(a.ip(&format!("route add {} proto 77{hops}", prefix(number)))));
    let server = server(&a, "kind = \"netlink\"\ntable = 254\nprotocol = 77");
    eventually("three next hops", 20, || all_by(&server, ALL));
    events(&a, &up, &server);
}

#[test]
fn the_kernel_with_next_hop_objects() {
    // The kernel keeps an object whose gateway has no subnet any more.
    for (what, take, _) in &EVENTS[..2] {
        let Some(lab) = Lab::new(&["ip"]) else { return };
        let (a, up) = hosts(&lab);
        for (id, via, interface) in
            [(1, "192.0.2.2", "eth0"), (2, "192.0.2.3", "eth0"), (3, "203.0.113.2", "eth1")]
        {
            a.ip(&format!("nexthop add id {id} via {via} dev {interface}"));
        }
        a.ip("nexthop add id 10 group 1/2/3");
        (0..ROUTES).for_each(|number| drop(a.ip(&format!("route add {} proto 77 nhid 10", prefix(number)))));
        let server = server(&a, "kind = \"netlink\"\ntable = 254\nprotocol = 77");
        eventually("three next hops", 20, || all_by(&server, ALL));
        match take.split_once(' ').unwrap() {
            ("a", arguments) => a.ip(arguments),
            (_, arguments) => up.ip(arguments),
        };
        // The kernel deletes such an object for good when its link goes down; the operator has to add it again.
        eventually(&format!("{what}: two next hops are left"), 20, || all_by(&server, ETH0));
    }
}
