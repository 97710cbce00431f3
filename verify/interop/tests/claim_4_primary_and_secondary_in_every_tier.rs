//! In every tier there is a second way: a route server hears of a protocol through another route server, a NIC host goes over from its primary
//! route server to its secondary, and a host behind NIC hosts from one NIC host to the other. Each time nobody else hears of it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use fibcast_control::status::Role;
use fibcast_interop::{Lab, Ours, agent_toml, eventually, mirror_of_table, route_server_toml, table};

const ROUTES: u32 = 1_000;

#[track_caller]
fn equal(what: &str, copies: &[&Ours<'_>], routes: u32) {
    eventually(what, 20, || {
        copies.iter().all(|copy| {
            let table = copy.status().table;
            table.ipv4_routes == u64::from(routes) && table.digest == copies[0].digest()
        })
    });
}

#[test]
fn each_tier_continues_with_its_secondary() {
    let Some(lab) = Lab::new(&["nft"]) else { return };
    let (a, b, c) = (lab.host("a"), lab.host("b"), lab.host("c"));
    let (r1, r2, l) = (lab.host("r1"), lab.host("r2"), lab.host("l"));
    let _network = lab.network(&[&a, &b, &c, &r1, &r2, &l]);
    for host in [&a, &b] {
        host.uplink();
        host.ip_batch(&table("add", 0..ROUTES, "192.0.2.2"));
    }
    // A and B each have the protocol's routes; C has none of its own, and is a client of both.
    let peer = |n: u32| format!("[[peer]]\naddress = \"10.255.0.{n}:7830\"\n");
    let beat = "[sync]\nheartbeat_ms = 100\n";
    let program = "fibcast-route-server";
    let rest_a = format!("{beat}{}{}", mirror_of_table("a"), peer(2));
    let rest_b = format!("{beat}{}{}", mirror_of_table("b"), peer(1));
    let rest_c = format!("{beat}{}{}", peer(1), peer(2));
    let mut rs_a = a.ours(program, "rs-a", &route_server_toml(&a, "rs-a", "0.0.0.0:7830", &rest_a));
    let rs_b = b.ours(program, "rs-b", &route_server_toml(&b, "rs-b", "0.0.0.0:7830", &rest_b));
    let rs_c = c.ours(program, "rs-c", &route_server_toml(&c, "rs-c", "0.0.0.0:7830", &rest_c));
    let keys = "heartbeat_ms = 100\nfailback_s = 1\n";
    let relay = |host, name| {
        let servers = ["10.255.0.1:7830", "10.255.0.2:7830"];
        agent_toml(host, name, Some("0.0.0.0:7830"), &servers, keys)
    };
    let mut relay_1 = r1.ours("fibcast-agent", "relay-1", &relay(&r1, "relay-1"));
    let relay_2 = r2.ours("fibcast-agent", "relay-2", &relay(&r2, "relay-2"));
    let servers = ["10.255.0.4:7830", "10.255.0.5:7830"];
    let leaf = l.ours("fibcast-agent", "leaf", &agent_toml(&l, "leaf", None, &servers, keys));
    equal("six equal tables", &[&rs_a, &rs_b, &rs_c, &relay_1, &relay_2, &leaf], ROUTES);
    eventually("primaries in use, secondaries ready", 30, || {
        [&relay_1, &relay_2, &leaf].iter().all(|client| {
            client.active() == Some(Role::Primary)
                && client.server(Role::Primary).ready
                && client.server(Role::Secondary).ready
        })
    });

    // Tier 1: between A and C nothing passes any more; what A's protocol says gets to C by B.
    c.deafen("10.255.0.1");
    a.deafen("10.255.0.3");
    a.ip_batch(&table("add", ROUTES..ROUTES + 10, "192.0.2.2"));
    equal("A's news at C, by B", &[&rs_b, &rs_c, &leaf], ROUTES + 10);
    let origin = |server: &Ours<'_>| server.status().origins.into_iter().find(|o| o.name == "a").unwrap();
    eventually("by way of B", 10, || origin(&rs_c).path.last().map(String::as_str) == Some("rs-b"));
    c.hear();
    a.hear();
    b.ip_batch(&table("add", ROUTES..ROUTES + 10, "192.0.2.2"));
    eventually("both origins have them", 10, || origin(&rs_b).routes == rs_b.count());
    let own = |server: &Ours<'_>, origin: &str| server.source(origin).routes;
    eventually("B's own, too", 10, || own(&rs_b, "b") == u64::from(ROUTES + 10));

    // Tier 3: NIC host 1 is killed, and the host behind it goes over to NIC host 2.
    let failovers = leaf.sync().failovers;
    let changes = leaf.status().table.changes;
    relay_1.kill();
    eventually("tier 3 on its secondary", 5, || leaf.active() == Some(Role::Secondary));
    assert_eq!((leaf.sync().failovers, leaf.sync().routes_differing), (failovers + 1, 0));
    assert_eq!(leaf.status().table.changes, changes, "the same table: nothing moved");

    // Tier 2: route server A is killed, and NIC host 2 goes over to B; the tier below does not notice.
    let before = relay_2.sync().routes_passed_on;
    rs_a.kill();
    eventually("tier 2 on its secondary", 5, || relay_2.active() == Some(Role::Secondary));
    let sync = relay_2.sync();
    assert_eq!((sync.routes_differing, sync.routes_passed_on), (0, before));
    assert_eq!((leaf.status().table.changes, leaf.active()), (changes, Some(Role::Secondary)));

    // What B's protocol says now passes all tiers by their secondaries.
    b.ip_batch(&table("add", 2 * ROUTES..2 * ROUTES + 5, "192.0.2.2"));
    equal("news by the secondaries", &[&rs_b, &rs_c, &relay_2, &leaf], ROUTES + 15);
    assert_eq!(leaf.status().table.changes, changes + 5);

    // All are back, and in use again.
    a.ip_batch(&table("add", 2 * ROUTES..2 * ROUTES + 5, "192.0.2.2"));
    rs_a.start();
    relay_1.start();
    eventually("primaries in use again", 40, || {
        [&relay_1, &relay_2, &leaf].iter().all(|client| client.active() == Some(Role::Primary))
    });
    equal("six equal tables again", &[&rs_a, &rs_b, &rs_c, &relay_1, &relay_2, &leaf], ROUTES + 15);
    assert_eq!(leaf.status().table.changes, changes + 5, "nothing moved for it");
}
