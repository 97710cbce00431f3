//! zebra killed, restarted and gone for good: nothing wrong while it is away, nothing stale left when it is back.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use fibcast_interop::{Lab, RETAIN_S, always, eventually, route_server_toml};

const FPM: &str = "[[source]]\norigin = \"static\"\nkind = \"fpm\"\nlisten = \"127.0.0.1:2620\"\n";

const CONF: &str = "fpm address 127.0.0.1 port 2620\nno fpm use-next-hop-groups\n\
    ip route 10.0.0.0/8 192.0.2.2\nip route 10.1.0.0/16 192.0.2.2\nip route 10.2.0.0/16 192.0.2.3\n\
    ip route 10.2.0.0/16 192.0.2.2\nip route 10.3.0.0/16 blackhole\nip route 10.4.0.0/16 reject\n\
    ipv6 route 2001:db8:1::/48 2001:db8::2\n";

#[test]
fn deletions_that_zebra_never_tells_are_swept_when_it_is_back() {
    let Some(lab) = Lab::new(&["zebra", "staticd", "vtysh"]) else { return };
    let (a, up) = (lab.host("a"), lab.host("up"));
    lab.cable(
        (&a, "eth0", &["192.0.2.1/24", "2001:db8::1/64"]),
        (&up, "eth0", &["192.0.2.2/24", "2001:db8::2/64"]),
    );
    let server = a.ours("fibcast-route-server", "rs", &route_server_toml(&a, "rs", "127.0.0.1:7830", FPM));
    let frr = a.frr(&["staticd"], CONF);
    let quiet = eventually("ready by the quiet time", 40, || server.status().ready);
    assert_eq!((server.count(), server.source("static").state.as_str()), (6, "live"));
    assert_eq!(server.source("static").end_of_table_by.as_deref(), Some("quiet"));
    // From here on the ends of tables are proved.
    let helper = concat!(env!("CARGO_MANIFEST_DIR"), "/../../packaging/frr/fibcast-sentinel");
    let _helper = frr.sentinel(helper.as_ref(), &["--settle", "2"]).unwrap();
    assert!(quiet.as_secs() >= 5, "no sentinel, so not before 5 s");
    assert_eq!(server.via("10.2.0.0/16").unwrap(), "192.0.2.2, 192.0.2.3");
    assert_eq!(server.via("10.3.0.0/16").unwrap(), "blackhole");
    assert_eq!(server.via("10.4.0.0/16").unwrap(), "unreachable");

    // zebra closes the connection; a route is deleted, one changed and one added, which it does not send.
    frr.conf(&["no fpm address"]);
    eventually("zebra is gone", 5, || server.source("static").state == "disconnected");
    frr.conf(&["no ip route 10.1.0.0/16 192.0.2.2", "no ip route 10.3.0.0/16 blackhole"]);
    frr.conf(&["ip route 10.3.0.0/16 192.0.2.3", "ip route 10.5.0.0/16 blackhole"]);
    always("nothing is lost while zebra is away", 3, || server.count() == 6);
    frr.conf(&["fpm address 127.0.0.1 port 2620"]);
    eventually("the deleted route is gone", 40, || server.via("10.1.0.0/16").is_none());
    eventually("live", 10, || server.source("static").state == "live");
    assert_eq!((server.count(), server.counter("static", "routes_stale")), (6, 0));
    assert_eq!(server.via("10.3.0.0/16").unwrap(), "192.0.2.3");
    assert_eq!(server.via("10.5.0.0/16").unwrap(), "blackhole");
    assert_eq!(server.counter("static", "routes_swept"), 1);

    // zebra is killed. A new one takes over from the kernel what the old one wrote, and gives it up when nobody claims it (-K).
    frr.kill("zebra");
    eventually("zebra is gone", 5, || server.source("static").state == "disconnected");
    frr.conf(&["no ip route 10.5.0.0/16 blackhole", "ip route 10.6.0.0/16 blackhole"]);
    always("nothing is lost while zebra is away", 3, || server.count() == 6);
    frr.start("zebra", RETAIN_S).unwrap();
    frr.conf(&["fpm address 127.0.0.1 port 2620", "no fpm use-next-hop-groups"]);
    eventually("one less, one more", 60, || {
        server.via("10.5.0.0/16").is_none() && server.via("10.6.0.0/16").is_some()
    });
    eventually("live", 40, || server.source("static").state == "live");
    assert_eq!((server.count(), server.counter("static", "routes_stale")), (6, 0));
    assert!(server.status().ready, "a server that was ready stays so");

    // With next-hop groups, which zebra renumbers, nothing is sent that is already known.
    let (changes, sessions) = (server.source("static").changes, server.counter("static", "sessions"));
    frr.conf(&["fpm use-next-hop-groups"]);
    eventually("another session", 20, || server.counter("static", "sessions") > sessions);
    eventually("live", 40, || server.source("static").state == "live");
    assert_eq!((server.count(), server.source("static").changes), (6, changes));
    assert!(server.counter("static", "next_hop_objects") > 0);
    frr.conf(&["no ip route 10.2.0.0/16 192.0.2.3"]);
    eventually("one next hop less", 10, || server.via("10.2.0.0/16").as_deref() == Some("192.0.2.2"));
}
