//! Connections of zebra in the metrics, as Prometheus reads them.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, also in its helpers")]

mod common;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use fibcast_netlink::testing as wire;
use fibcast_testbed::wait::eventually;

use common::{Folder, Server, free_addresses};

/// The value of a metric of the listener.
fn of_listener(http: SocketAddr, name: &str) -> Option<u64> {
    let mut stream = TcpStream::connect(http).ok()?;
    write!(stream, "GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    let row = format!("fibcast_listener_{name}{{listener=\"fpm\"}} ");
    text.lines().find_map(|line| line.strip_prefix(&row)?.trim().parse().ok())
}

fn route(prefix: &str) -> Vec<u8> {
    let message = wire::route_of(24, prefix, 254, 1, &[wire::gateway("192.0.2.1")]);
    let mut frame = vec![1, 1];
    frame.extend(((message.len() + 4) as u16).to_be_bytes());
    frame.extend(message);
    frame
}

#[test]
fn connections_of_zebra_and_of_strangers_are_counted() {
    let folder = Folder::new();
    let [http, fpm] = free_addresses();
    let own = rustix::process::geteuid().as_raw();
    let source =
        format!("[[source]]\norigin = \"bgp\"\nkind = \"fpm\"\nlisten = \"{fpm}\"\nusers = [{own}]\n");
    folder.config("rs", None, &format!("http = \"{http}\"\n{source}"));
    let server = Server::start(&folder, "rs");
    let has =
        |wanted: &[(&str, u64)]| wanted.iter().all(|(name, value)| of_listener(http, name) == Some(*value));
    eventually("the metric is there", 30, || has(&[("connections", 0), ("accepted_total", 0)]));
    let mut zebra = TcpStream::connect(fpm).unwrap();
    eventually("half open", 30, || has(&[("connections", 1), ("half_open", 1), ("accepted_total", 1)]));
    zebra.write_all(&route("10.0.0.0/8")).unwrap();
    eventually("the session is not", 30, || has(&[("connections", 1), ("half_open", 0)]));
    // One may wait beside the session; others are refused while it has its chance.
    let waiting = TcpStream::connect(fpm).unwrap();
    eventually("two", 30, || has(&[("connections", 2), ("half_open", 1), ("accepted_total", 2)]));
    let refused: Vec<_> = (0..5).map(|_| TcpStream::connect(fpm).unwrap()).collect();
    eventually("a bound", 30, || of_listener(http, "turned_away_total").is_some_and(|n| n >= 1));
    // Silent for two seconds: it gives way to the next.
    eventually("gives way", 30, || {
        drop(TcpStream::connect(fpm));
        of_listener(http, "gave_way_total").is_some_and(|n| n >= 1)
    });
    drop((zebra, waiting, refused));
    eventually("all are gone", 30, || has(&[("connections", 0), ("half_open", 0)]));
    drop(server);
}
