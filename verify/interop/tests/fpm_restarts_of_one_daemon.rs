//! One daemon of FRR restarts, the others stay: no good route is withdrawn, and what is gone for good goes when FRR has converged.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use fibcast_interop::{Frr, Host, Lab, Process, RETAIN_S, always, eventually, route_server_toml};

/// Routes of the neighbor.
const ROUTES: u64 = 1_000;

fn source(end_of_table: &str) -> String {
    format!(
        "[[source]]\norigin = \"bgp\"\nkind = \"fpm\"\nlisten = \"127.0.0.1:2620\"\nprotocol = [\"bgp\", \"static\"]\n\
         end_of_table = \"{end_of_table}\"\n"
    )
}

const CONF: &str = "fpm address 127.0.0.1 port 2620\nno fpm use-next-hop-groups\nip route 203.0.113.0/24 blackhole\n\
    router bgp 65001\n no bgp ebgp-requires-policy\n neighbor 192.0.2.2 remote-as 65002\n";

fn upstream() -> String {
    let networks: String =
        (0..ROUTES).map(|n| format!("  network 10.{}.{}.0/24\n", n / 250, n % 250)).collect();
    format!(
        "router bgp 65002\n no bgp ebgp-requires-policy\n no bgp network import-check\n neighbor 192.0.2.1 remote-as 65001\n \
         address-family ipv4 unicast\n{networks}"
    )
}

fn sentinel(frr: &Frr) -> Process {
    let helper = concat!(env!("CARGO_MANIFEST_DIR"), "/../../packaging/frr/fibcast-sentinel");
    frr.sentinel(helper.as_ref(), &["--settle", "2"]).unwrap()
}

/// zebra is killed, and a new one knows nothing of what the old one had installed.
fn restart_zebra(host: &Host<'_>, frr: &Frr) {
    frr.kill("zebra");
    // Routes by next-hop objects go with these.
    host.sh(
        "ip nexthop flush; for p in 186 196; do ip -4 route flush proto $p; ip -6 route flush proto $p; done",
    );
    let left = host.sh("ip route show proto 186; ip route show proto 196");
    assert!(left.trim().is_empty(), "{left}");
    frr.start("zebra", RETAIN_S).unwrap();
    frr.conf(&["fpm address 127.0.0.1 port 2620", "no fpm use-next-hop-groups"]);
}

#[test]
fn a_zebra_that_restarts_alone_and_tells_a_static_route_and_its_sentinel_costs_no_bgp_route() {
    let Some(lab) = Lab::new(&["zebra", "staticd", "bgpd", "vtysh"]) else { return };
    let (a, up) = (lab.host("a"), lab.host("up"));
    lab.cable((&a, "eth0", &["192.0.2.1/24"]), (&up, "eth0", &["192.0.2.2/24"]));
    let upstream = up.frr(&["bgpd"], &upstream());
    let toml = route_server_toml(&a, "rs", "127.0.0.1:7830", &source("sentinel"));
    let server = a.ours("fibcast-route-server", "rs", &toml);
    let frr = a.frr(&["staticd", "bgpd"], CONF);
    let _helper = sentinel(&frr);
    eventually("complete", 60, || server.status().ready && server.source("bgp").state == "live");
    assert_eq!(server.source("bgp").end_of_table_by.as_deref(), Some("sentinel"));
    assert_eq!(server.count(), ROUTES + 1);

    // staticd tells the new zebra its route and the sentinels at once; bgpd of FRR 8.4 tells it nothing.
    restart_zebra(&a, &frr);
    eventually("another session", 30, || server.counter("bgp", "sessions") == 2);
    eventually("its end is not known", 30, || server.source("bgp").state == "incomplete");
    eventually("staticd is back", 60, || server.counter("bgp", "routes_stale") == ROUTES);
    always("no route is lost", 10, || server.count() == ROUTES + 1);
    assert_eq!((server.counter("bgp", "routes_stale"), server.counter("bgp", "routes_swept")), (ROUTES, 0));
    let origin = server.status().origins.into_iter().find(|origin| origin.name == "bgp").unwrap();
    assert_eq!(origin.state, "stale");

    // One of them is withdrawn meanwhile, which zebra never says. Then bgpd is restarted too.
    upstream.conf(&["router bgp 65002", "address-family ipv4 unicast", "no network 10.0.0.0/24"]);
    frr.kill("bgpd");
    frr.start("bgpd", RETAIN_S).unwrap();
    frr.configure().unwrap();
    eventually("the sentinel of the session", 90, || {
        server.source("bgp").state == "live" && server.counter("bgp", "routes_swept") == 1
    });
    assert_eq!((server.count(), server.counter("bgp", "routes_stale")), (ROUTES, 0));
    assert!(server.via("10.0.0.0/24").is_none());
    assert!(server.status().ready, "a server that was ready stays so");
}

#[test]
fn without_a_sentinel_a_quiet_zebra_makes_ready_and_withdraws_nothing() {
    let Some(lab) = Lab::new(&["zebra", "staticd", "bgpd", "vtysh"]) else { return };
    let (a, up) = (lab.host("a"), lab.host("up"));
    lab.cable((&a, "eth0", &["192.0.2.1/24"]), (&up, "eth0", &["192.0.2.2/24"]));
    let _upstream = up.frr(&["bgpd"], &upstream());
    let toml = route_server_toml(&a, "rs", "127.0.0.1:7830", &source("either"));
    let server = a.ours("fibcast-route-server", "rs", &toml);
    let frr = a.frr(&["staticd", "bgpd"], CONF);
    eventually("all routes", 60, || server.status().ready && server.count() == ROUTES + 1);
    assert_eq!(server.source("bgp").end_of_table_by.as_deref(), Some("quiet"));
    restart_zebra(&a, &frr);
    eventually("its end is not known", 60, || server.source("bgp").state == "incomplete");
    always("no route is lost", 10, || server.count() == ROUTES + 1);
    // What an operator does by hand, when bgpd is back: the helper, once.
    frr.kill("bgpd");
    frr.start("bgpd", RETAIN_S).unwrap();
    frr.configure().unwrap();
    let _helper = sentinel(&frr);
    eventually("live", 90, || server.source("bgp").state == "live");
    assert_eq!(server.count(), ROUTES + 1);
}
