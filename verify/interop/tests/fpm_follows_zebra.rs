//! A route server beside FRR, configured as `docs/frr/` says, has what bgpd has: routes of both families, changes and withdrawals.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::Duration;

use fibcast_interop::{Lab, always, eventually, project};

/// A neighbor that announces some routes; `more` are further ones.
fn upstream(more: &str) -> String {
    format!(
        "router id 192.0.2.2;\nprotocol device {{}}\n\
         protocol static {{ ipv4; route 10.0.0.0/8 blackhole; route 10.1.0.0/16 blackhole; {more} }}\n\
         protocol static {{ ipv6; route 2001:db8:1::/48 blackhole; }}\n\
         template bgp t {{ local as 65001; }}\n\
         protocol bgp v4 from t {{ neighbor 192.0.2.1 as 65000; ipv4 {{ import none; export all; next hop self; }}; }}\n\
         protocol bgp v6 from t {{ neighbor 2001:db8::1 as 65000; ipv6 {{ import none; export all; next hop self; }}; }}\n"
    )
}

#[test]
fn a_route_server_follows_bgpd_through_the_documented_configuration() {
    let Some(lab) = Lab::new(&["zebra", "bgpd", "staticd", "vtysh", "bird"]) else { return };
    let (a, up) = (lab.host("a"), lab.host("up"));
    lab.cable(
        (&a, "eth0", &["192.0.2.1/24", "2001:db8::1/64"]),
        (&up, "eth0", &["192.0.2.2/24", "2001:db8::2/64"]),
    );
    let bird = up.bird(&upstream(""));
    let toml =
        project("docs/frr/route-server.toml").replace("/run/fibcast", &a.folder().display().to_string());
    let server = a.ours("fibcast-route-server", "rs-a", &toml);
    eventually("waiting for zebra", 5, || server.source("bgp").state == "waiting");
    let frr = a.frr(&["staticd", "bgpd"], &project("docs/frr/frr.conf"));

    eventually("three routes", 30, || server.count() == 3);
    assert_eq!(server.via("10.0.0.0/8").unwrap(), "192.0.2.2");
    assert_eq!(server.via("2001:db8:1::/48").unwrap(), "2001:db8::2");
    assert!(!server.status().ready, "the end of the table has not been signalled");

    // The helper of packaging/ says so.
    let sentinel = format!("{}/../../packaging/frr/fibcast-sentinel", env!("CARGO_MANIFEST_DIR"));
    let output = a.sh(&format!("{sentinel} --settle 2 --vty_socket {}", frr.folder().display()));
    assert!(output.contains("sentinel installed"), "{output}");
    eventually("ready", 5, || server.status().ready);
    assert_eq!(server.count(), 3, "the sentinel is no route");
    assert_eq!(server.source("bgp").state, "live");

    bird.configure(&upstream("route 10.2.0.0/16 blackhole;").replace("route 10.1.0.0/16 blackhole;", ""));
    eventually("one route more and one less", 20, || {
        server.via("10.2.0.0/16").is_some() && server.via("10.1.0.0/16").is_none()
    });
    assert_eq!(server.count(), 3);
    let shown = server.cli("show routes 10.2.0.0/16");
    assert_eq!(shown["routes"][0]["origin"], "bgp", "{shown}");

    // A zebra that is stopped is not gone, and misses nothing.
    frr.pause("zebra", Duration::from_secs(20));
    assert_eq!((server.count(), frr.fpm_counter("Connection closes")), (3, 0));
    always("all routes", 2, || server.count() == 3);
}
