//! How fast zebra's stream is read: `cargo run --release -p fibcast-route-server --example fpm-decode [ROUTES]`.
//!
//! Makes a stream of IPv4 routes as zebra 8.4 writes them, with 3,771 next hops, and reads it three times: a first table, the same
//! again after a reconnect, and an update of every route (withdrawal and announcement in one frame).
#![allow(clippy::unwrap_used)]

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use fibcast_netlink::{Hop, Route, Writer, kind};
use fibcast_route_server::source::fpm::{Receiver, Rules, Sentinel};
use fibcast_route_server::source::mirror::{How, Policy};
use ipnet::Ipv4Net;

fn frame(stream: &mut Vec<u8>, writer: &mut Writer) {
    let length = (writer.bytes().len() + 4) as u16;
    stream.extend([1, 1]);
    stream.extend(length.to_be_bytes());
    stream.extend(writer.bytes());
    writer.clear();
}

fn route(writer: &mut Writer, new: bool, i: u32, shift: u32) {
    let gateway = Ipv4Addr::from_bits(0x0a00_0001 + (i + shift) % 3771);
    let (kind, hops) = match new {
        true => (kind::NEW_ROUTE, vec![Hop::new(Some(gateway.into()), 3, 1)]),
        false => (kind::DEL_ROUTE, Vec::new()),
    };
    let prefix = Ipv4Net::new_assert(Ipv4Addr::from_bits((0x10_0000 + i) << 8), 24).into();
    let route = Route { prefix, table: 254, protocol: 186, metric: 20, hops, ..Route::default() };
    route.write(writer, kind, 0x501, 0);
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
        sentinel: Sentinel::default(),
        hold: None,
    };
    let mut receiver = Receiver::new("bench", rules);
    for (what, stream) in [("first table", &table), ("sent again", &table), ("updates", &updates)] {
        if what != "updates" {
            receiver.connected(Instant::now(), 1);
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
