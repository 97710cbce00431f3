//! A million routes from a BGP speaker through FRR, and through the kernel: nothing missing, nothing stale, no reset for slow reading.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fmt::Write;
use std::time::{Duration, Instant};

use fibcast_interop::{Host, Lab, eventually, route_server_toml};

const ROUTES: u32 = 1_000_000;

/// Static routes of BIRD: /24s from 16.0.0.0 on.
fn routes(host: &Host<'_>, n: u32, how: &str) -> String {
    let mut text = String::new();
    for i in 0..n {
        let [_, a, b, c] = (0x10_0000 + i).to_be_bytes();
        writeln!(text, "route {a}.{b}.{c}.0/24 {how};").unwrap();
    }
    host.file("routes.conf", &text).display().to_string()
}

#[test]
fn a_million_routes_come_through_bgpd_and_zebra_and_are_told_again() {
    let Some(lab) = Lab::new(&["zebra", "bgpd", "staticd", "vtysh", "bird"]) else { return };
    let (a, up) = (lab.host("a"), lab.host("up"));
    lab.cable((&a, "eth0", &["192.0.2.1/24"]), (&up, "eth0", &["192.0.2.2/24"]));
    let file = routes(&up, ROUTES, "blackhole");
    let _bird = up.bird(&format!(
        "router id 192.0.2.2;\nprotocol device {{}}\nprotocol static {{ ipv4;\ninclude \"{file}\"; }}\n\
         protocol bgp {{ local as 65001; neighbor 192.0.2.1 as 65000; ipv4 {{ import none; export all; next hop self; }}; }}\n"
    ));
    let fpm = "[rib]\nready_timeout_ms = 600000\n\
        [[source]]\norigin = \"bgp\"\nkind = \"fpm\"\nlisten = \"127.0.0.1:2620\"\nprotocol = \"bgp\"\n";
    let server = a.ours("fibcast-route-server", "rs", &route_server_toml(&a, "rs", "127.0.0.1:7830", fpm));
    let frr = a.frr(
        &["staticd", "bgpd"],
        "fpm address 127.0.0.1 port 2620\nno fpm use-next-hop-groups\nrouter bgp 65000\n no bgp ebgp-requires-policy\n neighbor 192.0.2.2 remote-as 65001\n",
    );
    let million = || server.count() == u64::from(ROUTES);
    let first = Instant::now();
    eventually("a million routes", 170, million);
    println!("a million routes through bgpd and zebra: {:.1} s", first.elapsed().as_secs_f64());
    assert_eq!(frr.fpm_counter("Connection closes"), 0);

    // A new session: zebra tells all again, while the route server is stopped for 5 s and reads nothing.
    frr.fpm_to(2620);
    eventually("another session", 20, || server.counter("bgp", "sessions") >= 2);
    let (begin, closes) = (Instant::now(), frr.fpm_counter("Connection closes"));
    server.process().pause();
    std::thread::sleep(Duration::from_secs(5));
    server.process().resume();
    eventually("nothing is stale", 120, || server.counter("bgp", "routes_stale") == 0);
    println!("sent again by zebra alone, 5 s of them stopped: {:.1} s", begin.elapsed().as_secs_f64());
    assert!(million());
    assert_eq!(frr.fpm_counter("Connection closes"), closes, "no reset for slow reading");
    assert_eq!((server.counter("bgp", "messages_malformed"), server.counter("bgp", "sessions")), (0, 2));
    println!("resident: {} MiB", server.process().resident() >> 20);
}

#[test]
fn a_million_routes_come_through_the_kernel() {
    let Some(lab) = Lab::new(&["bird"]) else { return };
    let b = lab.host("b");
    let up = lab.host("up");
    lab.cable((&b, "eth0", &["192.0.2.1/24"]), (&up, "eth0", &["192.0.2.2/24"]));
    let netlink = "[rib]\nready_timeout_ms = 600000\n\
        [[source]]\norigin = \"bird\"\nkind = \"netlink\"\ntable = 100\nprotocol = \"bird\"\n";
    let mut server =
        b.ours("fibcast-route-server", "rs", &route_server_toml(&b, "rs", "127.0.0.1:7830", netlink));
    let file = routes(&b, ROUTES, "via 192.0.2.2");
    let mut bird = b.bird(&format!(
        "router id 192.0.2.1;\nprotocol device {{}}\nprotocol kernel {{ kernel table 100; persist; ipv4 {{ import none; export all; }}; }}\n\
         protocol static {{ ipv4;\ninclude \"{file}\"; }}\n"
    ));
    let begin = Instant::now();
    eventually("a million routes", 120, || server.count() == u64::from(ROUTES));
    println!("a million routes through the kernel: {:.1} s", begin.elapsed().as_secs_f64());
    server.kill();
    bird.kill();
    let begin = Instant::now();
    server.start();
    eventually("a million routes by a dump", 60, || server.count() == u64::from(ROUTES));
    println!("by a dump after a restart: {:.1} s", begin.elapsed().as_secs_f64());
    // The kernel drops them with their link, without a word.
    b.ip("link set eth0 down");
    eventually("none", 60, || server.count() == 0);
    println!(
        "lost messages: {}, dumps: {}",
        server.counter("bird", "messages_lost"),
        server.counter("bird", "dumps")
    );
}
