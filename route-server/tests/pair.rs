//! Two route servers registered with each other, and peers that are not what they should be.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, also in its helpers")]

mod common;

use std::io::Write;
use std::net::TcpListener;
use std::time::Duration;

use fibcast_sync_proto::frame::Frame;

use common::{Folder, Server, free_addresses, mrt_table};

#[test]
fn two_servers_hold_both_origins_with_equal_tables_and_lose_a_dead_one_after_the_hold_time() {
    let folder = Folder::new();
    let [a, b] = free_addresses();
    let table =
        folder.write("bgp.mrt", mrt_table(&[("10.0.0.0/8", "192.0.2.1"), ("10.1.0.0/16", "192.0.2.1")]));
    let routes = folder.write("routes", "10.0.0.0/8 via 192.0.2.2\n2001:db8::/32 via 2001:2::1\n");
    let bgp = format!("[[source]]\norigin = \"bgp\"\nkind = \"mrt\"\npath = {table:?}\n");
    let ospf =
        format!("[[source]]\norigin = \"ospf\"\ndistance = 110\nkind = \"static\"\npath = {routes:?}\n");
    let peer = |address| {
        format!(
            "[sync]\nheartbeat_ms = 100\n[rib]\norigin_lease_ms = 1500\norigin_hold_ms = 500\n[[peer]]\naddress = \"{address}\"\n"
        )
    };
    folder.config("rs-a", Some(a), &(peer(b) + &bgp));
    folder.config("rs-b", Some(b), &(peer(a) + &ospf));
    let mut first = Server::start(&folder, "rs-a");
    let mut second = Server::start(&folder, "rs-b");

    let full =
        |s: &fibcast_control::status::Status| s.ready && s.table.ipv4_routes == 2 && s.table.ipv6_routes == 1;
    let digests = [&first, &second].map(|server| server.until("three routes and ready", full).table.digest);
    assert_eq!(digests[0], digests[1]);
    let expected = [
        "10.0.0.0/8 via 192.0.2.1 of bgp",
        "10.1.0.0/16 via 192.0.2.1 of bgp",
        "2001:db8::/32 via 2001:2::1 of ospf",
    ];
    assert_eq!(first.routes(), expected);
    assert_eq!(second.routes(), expected);

    first.kill();
    // At once: what both have goes by the one that lives; what only the dead one had stays for the hold time.
    second.until("stale", |s| s.peers[0].stale);
    assert!(second.routes().contains(&"10.1.0.0/16 via 192.0.2.1 of bgp".to_owned()));
    second.until("the dead one's routes are gone", |s| s.table.ipv4_routes == 1);
    assert_eq!(second.routes(), ["10.0.0.0/8 via 192.0.2.2 of ospf", "2001:db8::/32 via 2001:2::1 of ospf"]);

    let mut first = Server::start(&folder, "rs-a");
    let digests = [&first, &second].map(|server| server.until("back again", full).table.digest);
    assert_eq!(digests[0], digests[1]);
    assert_eq!((first.stop(), second.stop()), (0, 0));
    assert!(!first.socket.exists() && !second.socket.exists());
}

/// A server whose peer answers each connection with `answer`; it must say so, stay up and become ready in time.
fn with_a_strange_peer(answer: Vec<u8>, expected: &str) {
    let folder = Folder::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let _ = stream.write_all(&answer);
            std::thread::sleep(Duration::from_millis(100));
        }
    });
    let routes = folder.write("routes", "10.0.0.0/8 via 192.0.2.2\n");
    let more = format!(
        "[rib]\nready_timeout_ms = 1000\n[[source]]\norigin = \"s\"\nkind = \"static\"\npath = {routes:?}\n[[peer]]\naddress = \"{address}\"\n"
    );
    folder.config("rs", None, &more);
    let mut server = Server::start(&folder, "rs");
    let status =
        server.until("an error of the peer, and ready", |s| s.ready && s.peers[0].last_error.is_some());
    let error = status.peers[0].last_error.clone().unwrap();
    assert!(error.contains(expected), "{error}");
    assert_eq!(status.table.ipv4_routes, 1);
    assert_eq!(server.stop(), 0);
}

#[test]
fn a_peer_that_sends_garbage_is_reported_and_does_no_harm() {
    with_a_strange_peer(
        b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\nthis is a web server".to_vec(),
        "expected",
    );
}

#[test]
fn a_peer_that_hangs_up_at_once_is_reported_and_does_no_harm() {
    with_a_strange_peer(Vec::new(), "");
}

#[test]
fn a_peer_that_speaks_another_version_is_reported_with_both_versions() {
    let mut hello = Vec::new();
    Frame::Hello { name: "other".into() }.encode(&mut hello);
    let name = hello.windows(5).position(|w| w == b"other").unwrap();
    // Before the name come its length and, before that, the version.
    hello[name - 2] = 99;
    with_a_strange_peer(hello, "speaks another version of the protocol: expected 2, found 99");
}
