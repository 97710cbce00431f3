//! When the secondary takes over, only the difference is applied and passed on: nothing where it has the same table, exactly 1,000 routes where
//! it differs in exactly 1,000, and the tier below gets exactly those.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use fibcast_control::status::Role;
use fibcast_interop::{
    Host, Lab, Ours, agent_toml, always, eventually, mirror_of_table, route_server_toml, table,
};

const ROUTES: u32 = 20_000;

/// What two tiers count: changes of each one's table, routes that each applied, routes passed on, bytes to the tier below.
#[derive(Debug, Clone, Copy)]
struct Counters {
    changes: [u64; 2],
    applied: [u64; 2],
    passed_on: u64,
    bytes: u64,
}

fn counted(relay: &Ours<'_>, leaf: &Ours<'_>) -> Counters {
    let both = [relay.status(), leaf.status()];
    let applied = [0, 1].map(|n| both[n].sync.as_ref().unwrap().routes_applied);
    Counters {
        changes: [both[0].table.changes, both[1].table.changes],
        applied,
        passed_on: both[0].sync.as_ref().unwrap().routes_passed_on,
        bytes: both[1].sync.as_ref().unwrap().servers[0].received_bytes,
    }
}

#[track_caller]
fn moved(before: Counters, after: Counters, routes: u64) {
    let differences = |a: [u64; 2], b: [u64; 2]| [b[0] - a[0], b[1] - a[1]];
    assert_eq!(differences(before.changes, after.changes), [routes; 2], "records changed in tiers 2 and 3");
    assert_eq!(differences(before.applied, after.applied), [routes; 2], "routes applied in tiers 2 and 3");
    assert_eq!(after.passed_on - before.passed_on, routes, "routes passed on");
}

fn server_toml(host: &Host<'_>, name: &str) -> String {
    let rest = format!("[sync]\nheartbeat_ms = 100\n{}", mirror_of_table(name));
    route_server_toml(host, name, "0.0.0.0:7830", &rest)
}

#[test]
fn an_equal_secondary_moves_no_route_and_one_that_differs_in_1000_moves_1000() {
    let Some(lab) = Lab::new(&[]) else { return };
    let (a, b) = (lab.host("a"), lab.host("b"));
    let (r, l) = (lab.host("r"), lab.host("l"));
    let _network = lab.network(&[&a, &b, &r, &l]);
    // Not registered with each other, so that they can differ. Both use both next hops.
    for host in [&a, &b] {
        host.uplink();
        host.ip_batch(
            &(table("add", 0..ROUTES - 1, "192.0.2.2") + &table("add", ROUTES - 1..ROUTES, "192.0.2.3")),
        );
    }
    let mut primary = a.ours("fibcast-route-server", "rs-a", &server_toml(&a, "rs-a"));
    let secondary = b.ours("fibcast-route-server", "rs-b", &server_toml(&b, "rs-b"));
    let servers = ["10.255.0.1:7830", "10.255.0.2:7830"];
    let keys = "heartbeat_ms = 100\nfailback_s = 1\n";
    let relay =
        r.ours("fibcast-agent", "relay", &agent_toml(&r, "relay", Some("0.0.0.0:7830"), &servers, keys));
    let leaf = l.ours("fibcast-agent", "leaf", &agent_toml(&l, "leaf", None, &["10.255.0.3:7830"], keys));
    let primary_in_use = |primary: &Ours<'_>| {
        eventually("the primary in use, both ready, all tables equal", 40, || {
            relay.active() == Some(Role::Primary)
                && relay.server(Role::Primary).ready
                && relay.server(Role::Secondary).ready
                && relay.digest() == primary.digest()
                && leaf.digest() == primary.digest()
        });
    };
    primary_in_use(&primary);
    assert_eq!((leaf.count(), secondary.digest()), (u64::from(ROUTES), primary.digest()));

    let before = counted(&relay, &leaf);
    primary.kill();
    eventually("the secondary is in use", 10, || relay.active() == Some(Role::Secondary));
    always("nothing moves", 2, || leaf.count() == u64::from(ROUTES));
    let after = counted(&relay, &leaf);
    moved(before, after, 0);
    let sync = relay.sync();
    assert_eq!((sync.routes_differing, sync.last_failover_routes_copied), (0, 0));
    println!(
        "equal: 0 routes copied, applied and passed on; {} bytes from the secondary in all, {} to the tier below meanwhile",
        relay.server(Role::Secondary).received_bytes,
        after.bytes - before.bytes
    );

    primary.start();
    primary_in_use(&primary);
    moved(before, counted(&relay, &leaf), 0);

    // 300 less, 300 by the other next hop, 400 more; nothing is sent downstream while the primary is capable.
    b.ip_batch(
        &(table("del", 0..300, "192.0.2.2")
            + &table("replace", 300..600, "192.0.2.3")
            + &table("add", ROUTES..ROUTES + 400, "192.0.2.2")),
    );
    eventually("the secondary differs", 10, || secondary.count() == u64::from(ROUTES + 100));
    always("nothing is sent downstream", 2, || {
        relay.digest() == primary.digest() && leaf.digest() == primary.digest()
    });
    let before = counted(&relay, &leaf);
    moved(before, counted(&relay, &leaf), 0);
    let quiet = relay.server(Role::Secondary).received_bytes;
    primary.kill();
    eventually("both tiers have the secondary's table", 10, || {
        relay.active() == Some(Role::Secondary)
            && relay.digest() == secondary.digest()
            && leaf.digest() == secondary.digest()
    });
    let after = counted(&relay, &leaf);
    moved(before, after, 1000);
    let sync = relay.sync();
    assert_eq!((sync.routes_differing, sync.last_failover_routes_copied), (1000, 0));
    assert_eq!(leaf.count(), u64::from(ROUTES + 100));
    let bytes = relay.server(Role::Secondary).received_bytes - quiet;
    println!(
        "1,000 of {ROUTES} differ: 1,000 applied and passed on; {bytes} bytes from the secondary, {} to the tier below",
        after.bytes - before.bytes
    );
    assert!(bytes <= 64 << 10, "{bytes} bytes for 1,000 routes");
}
