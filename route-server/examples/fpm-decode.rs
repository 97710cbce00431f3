//! How fast zebra's stream is read: `cargo run --release -p fibcast-route-server --example fpm-decode [ROUTES]`.
//!
//! Makes a stream of IPv4 routes as zebra 8.4 writes them, with 3,771 next hops, and reads it three times: a first table, the same
//! again after a reconnect, and an update of every route (withdrawal and announcement in one frame).
#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use fibcast_netlink::{Writer, kind};
use fibcast_route_server::source::fpm::{Receiver, Rules};
use fibcast_route_server::source::mirror::{How, Policy};

fn frame(stream: &mut Vec<u8>, writer: &mut Writer) {
    let length = (writer.bytes().len() + 4) as u16;
    stream.extend([1, 1]);
    stream.extend(length.to_be_bytes());
    stream.extend(writer.bytes());
    writer.clear();
}

fn route(writer: &mut Writer, new: bool, i: u32, shift: u32) {
    let kind = if new { kind::NEW_ROUTE } else { kind::DEL_ROUTE };
    writer.begin(kind, 0x501, 0, &[2, 24, 0, 0, 254, 186, 0, 1, 0, 0, 0, 0]);
    writer.attribute(1, &((0x10_0000 + i) << 8).to_be_bytes());
    writer.number(6, 20);
    if new {
        writer.attribute(5, &(0x0a00_0001 + (i + shift) % 3771).to_be_bytes());
        writer.number(4, 3);
    }
    writer.end();
}

fn main() {
    let routes: u32 = std::env::args().nth(1).map_or(1_000_000, |n| n.parse().unwrap());
    let (mut table, mut updates, mut writer) = (Vec::new(), Vec::new(), Writer::default());
    for i in 0..routes {
        route(&mut writer, true, i, 0);
        frame(&mut table, &mut writer);
        route(&mut writer, false, i, 0);
        route(&mut writer, true, i, 1);
        frame(&mut updates, &mut writer);
    }
    let rules = Rules {
        policy: Policy { vrfs: [(254, 0)].into(), ..Policy::default() },
        how: How::Either,
        quiet: Duration::from_secs(5),
        sentinel: "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128".parse().unwrap(),
        hold: None,
    };
    let mut receiver = Receiver::new("bench", rules);
    for (what, stream) in [("first table", &table), ("sent again", &table), ("updates", &updates)] {
        if what != "updates" {
            receiver.connected(Instant::now());
        }
        let begin = Instant::now();
        let mut changes = 0;
        let mut rest = stream.as_slice();
        while !rest.is_empty() {
            let portion = &rest[..rest.len().min(512 * 1024)];
            let taken = receiver.take(portion).unwrap();
            rest = &rest[taken..];
            loop {
                let batch = receiver.changes(begin, 4096);
                if batch.is_empty() {
                    break;
                }
                changes += batch.len();
            }
        }
        let seconds = begin.elapsed().as_secs_f64();
        println!(
            "{what:12} {:10.0} routes/s  {changes} changes for the RIB  {} bytes",
            f64::from(routes) / seconds,
            stream.len()
        );
    }
}
