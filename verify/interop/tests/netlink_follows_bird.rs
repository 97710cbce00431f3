//! A route server beside BIRD, configured as `docs/bird/` says, mirrors BIRD's kernel table: changes, restarts, links that go down.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use fibcast_interop::{Lab, always, eventually, project};

fn upstream(routes: &str) -> String {
    format!(
        "router id 192.0.2.2;\nprotocol device {{}}\n\
         protocol static {{ ipv4; {routes} }}\nprotocol static {{ ipv6; route 2001:db8:1::/48 blackhole; }}\n\
         template bgp t {{ local as 65001; ipv4 {{ import none; export all; next hop self; }}; ipv6 {{ import none; export all; next hop self; }}; }}\n\
         protocol bgp v4 from t {{ neighbor 192.0.2.1 as 65000; }}\n\
         protocol bgp v6 from t {{ neighbor 2001:db8::1 as 65000; }}\n"
    )
}

const ROUTES: &str = "route 10.0.0.0/8 blackhole; route 10.1.0.0/16 blackhole;";

#[test]
fn a_route_server_follows_bird_through_the_documented_configuration() {
    let Some(lab) = Lab::new(&["bird", "birdc"]) else { return };
    let (b, up) = (lab.host("b"), lab.host("up"));
    lab.cable(
        (&b, "eth0", &["192.0.2.1/24", "2001:db8::1/64"]),
        (&up, "eth0", &["192.0.2.2/24", "2001:db8::2/64"]),
    );
    let neighbor = up.bird(&upstream(ROUTES));
    let toml =
        project("docs/bird/route-server.toml").replace("/run/fibcast", &b.folder().display().to_string());
    let mut server = b.ours("fibcast-route-server", "rs-b", &toml);
    // Routes of others in the same table, and of BIRD's protocol in another, are not BIRD's.
    b.ip("route add 172.16.0.0/12 via 192.0.2.9 table 100");
    b.ip("route add 172.17.0.0/16 via 192.0.2.9 table 101 proto bird");
    let mut bird = b.bird(&project("docs/bird/bird.conf"));
    eventually("ready", 60, || server.status().ready);
    assert_eq!(server.count(), 3, "{:?}", server.source("bird"));
    assert_eq!(server.via("10.0.0.0/8").unwrap(), "192.0.2.2");
    assert_eq!(server.via("2001:db8:1::/48").unwrap(), "2001:db8::2");

    neighbor.configure(&upstream("route 10.0.0.0/8 blackhole; route 10.2.0.0/16 blackhole;"));
    eventually("one more, one less", 20, || {
        server.via("10.2.0.0/16").is_some() && server.via("10.1.0.0/16").is_none()
    });

    // BIRD dies and comes back: its routes stay in the kernel, and here.
    bird.kill();
    always("all routes", 2, || server.count() == 3);
    neighbor.configure(&upstream(ROUTES));
    bird.start();
    eventually("what changed meanwhile", 60, || {
        server.via("10.1.0.0/16").is_some() && server.via("10.2.0.0/16").is_none()
    });

    // The route server restarts and finds the table as it is.
    server.kill();
    server.start();
    eventually("ready again", 30, || server.status().ready);
    assert_eq!(server.count(), 3);

    // Multipath, weights, IPv4 over IPv6 and the special routes, from whoever writes them.
    b.ip("route add 10.7.0.0/16 table 100 proto bird nexthop via 192.0.2.2 weight 1 nexthop via 192.0.2.3 weight 3");
    b.ip("-6 route add 2001:db8:7::/48 table 100 proto bird nexthop via 2001:db8::2 nexthop via 2001:db8::3");
    b.ip("route add 10.8.0.0/16 via inet6 2001:db8::2 dev eth0 table 100 proto bird");
    b.ip("route add prohibit 10.9.0.0/16 table 100 proto bird");
    b.ip("nexthop add id 77 via 192.0.2.7 dev eth0");
    b.ip("route add 10.10.0.0/16 nhid 77 table 100 proto bird");
    eventually("five more", 5, || server.count() == 8);
    assert_eq!(server.via("10.7.0.0/16").unwrap(), "192.0.2.2, 192.0.2.3 weight 3");
    assert_eq!(server.via("2001:db8:7::/48").unwrap(), "2001:db8::2, 2001:db8::3");
    assert_eq!(server.via("10.8.0.0/16").unwrap(), "2001:db8::2");
    assert_eq!(server.via("10.9.0.0/16").unwrap(), "prohibit");
    assert_eq!(server.via("10.10.0.0/16").unwrap(), "192.0.2.7");
    b.ip("-6 route del 2001:db8:7::/48 table 100 proto bird nexthop via 2001:db8::2");
    eventually("one next hop left", 5, || server.via("2001:db8:7::/48").as_deref() == Some("2001:db8::3"));
    b.ip("nexthop replace id 77 via 192.0.2.8 dev eth0");
    eventually("the object changed", 5, || server.via("10.10.0.0/16").as_deref() == Some("192.0.2.8"));
    b.ip("nexthop del id 77");
    eventually("the object took its route along", 5, || server.via("10.10.0.0/16").is_none());

    // The kernel removes IPv4 routes over a link that goes down without a word.
    b.ip("link set eth0 down");
    eventually("only what needs no link is left", 10, || server.count() == 1);
    assert_eq!(server.via("10.9.0.0/16").unwrap(), "prohibit");
}
