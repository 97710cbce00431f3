//! Messages in the forms and orders in which the kernel sends them.

use std::collections::BTreeMap;

use fibcast_netlink::{Messages, flag, kind, testing as wire};
use fibcast_sync_agent::agent::show::words;
use ipnet::IpNet;

use super::*;

const QUIET: Duration = Duration::from_secs(5);

struct NetlinkWorld {
    follower: Follower,
    rib: BTreeMap<IpNet, String>,
}

impl NetlinkWorld {
    fn new() -> Self {
        let policy = Policy { vrfs: [(254, 0)].into(), protocols: vec![186], ..Policy::default() };
        let mut world = Self { follower: Follower::new("bird", policy, QUIET), rib: BTreeMap::new() };
        world.dump(&[]);
        world
    }

    fn hear(&mut self, dump: bool, messages: &[Vec<u8>]) {
        for message in Messages::new(&messages.concat()) {
            self.follower.hear(&message.unwrap(), dump);
        }
    }

    fn dump(&mut self, messages: &[Vec<u8>]) {
        self.follower.dump_begins(Instant::now());
        self.hear(true, messages);
        self.follower.dump_ended();
    }

    fn tell(&mut self) -> Vec<String> {
        for change in self.follower.changes(Instant::now(), 1000) {
            match change.path {
                Some((group, metric)) => self
                    .rib
                    .insert(change.prefix, format!("{} metric {metric}", words(&group.value).join(", "))),
                None => self.rib.remove(&change.prefix),
            };
        }
        self.rib.iter().map(|(prefix, via)| format!("{prefix} {via}")).collect()
    }
}

fn with(kind: u16, flags: u16, prefix: &str, via: &str, metric: u32) -> Vec<u8> {
    let mut bytes = wire::route_of(
        kind,
        prefix,
        254,
        1,
        &[wire::gateway(via), wire::output(3), wire::attribute(6, &metric.to_ne_bytes())],
    );
    bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
    bytes
}

const NEW: u16 = kind::NEW_ROUTE;
const DEL: u16 = kind::DEL_ROUTE;

#[test]
fn routes_for_some_packets_stand_beside_the_one_for_all() {
    let mut world = NetlinkWorld::new();
    let all = ["10.0.0.0/8 192.0.2.1 metric 20", "2001:db8::/32 2001:db8::1 metric 20"];
    world.hear(
        false,
        &[with(NEW, 0, "10.0.0.0/8", "192.0.2.1", 20), with(NEW, 0, "2001:db8::/32", "2001:db8::1", 20)],
    );
    assert_eq!(world.tell(), all);
    for kind in [NEW, DEL] {
        // By type of service (rtm_tos), and by source (rtm_src_len).
        let mut tos = with(kind, 0, "10.0.0.0/8", "192.0.2.9", 20);
        tos[19] = 0x10;
        let mut source = with(kind, 0, "2001:db8::/32", "2001:db8::9", 20);
        source[18] = 48;
        world.hear(false, &[tos, source]);
        assert_eq!(world.tell(), all);
    }
    assert!(!world.follower.needs_dump());
}

#[test]
fn of_two_metrics_the_lowest_counts_and_the_other_takes_over() {
    let mut world = NetlinkWorld::new();
    world.hear(
        false,
        &[with(NEW, 0, "10.0.0.0/8", "192.0.2.1", 32), with(NEW, 0, "10.0.0.0/8", "192.0.2.2", 20)],
    );
    assert_eq!(world.tell(), ["10.0.0.0/8 192.0.2.2 metric 20"]);
    world.hear(false, &[with(NEW, flag::REPLACE, "10.0.0.0/8", "192.0.2.3", 32)]);
    assert_eq!(world.tell(), ["10.0.0.0/8 192.0.2.2 metric 20"]);
    world.hear(false, &[with(DEL, 0, "10.0.0.0/8", "192.0.2.2", 20)]);
    assert_eq!(world.tell(), ["10.0.0.0/8 192.0.2.3 metric 32"]);
    world.hear(false, &[with(DEL, 0, "10.0.0.0/8", "192.0.2.3", 32)]);
    assert!(world.tell().is_empty());
    assert!(!world.follower.needs_dump());
}

#[test]
fn what_a_dump_does_not_tell_again_is_withdrawn_after_it() {
    let mut world = NetlinkWorld::new();
    world.hear(false, &[wire::route("10.0.0.0/8", "192.0.2.1"), wire::route("2001:db8::/32", "2001:db8::1")]);
    assert_eq!(world.tell().len(), 2);
    world.follower.lost();
    assert!(world.follower.needs_dump());
    world.dump(&[wire::route("10.0.0.0/8", "192.0.2.9")]);
    assert_eq!(world.tell(), ["10.0.0.0/8 192.0.2.9 metric 0"]);
    assert!(!world.follower.needs_dump());
}

#[test]
fn appended_ipv4_routes_wait_behind_the_first_and_a_dump_tells_who_is_next() {
    let mut world = NetlinkWorld::new();
    world.hear(
        false,
        &[with(NEW, 0, "10.0.0.0/8", "192.0.2.1", 0), with(NEW, flag::APPEND, "10.0.0.0/8", "192.0.2.2", 0)],
    );
    assert_eq!(world.tell(), ["10.0.0.0/8 192.0.2.1 metric 0"]);
    world.hear(false, &[with(DEL, 0, "10.0.0.0/8", "192.0.2.1", 0)]);
    assert!(world.follower.needs_dump());
    world.dump(&[with(NEW, 0, "10.0.0.0/8", "192.0.2.2", 0), with(NEW, 0, "10.0.0.0/8", "192.0.2.3", 0)]);
    assert_eq!(world.tell(), ["10.0.0.0/8 192.0.2.2 metric 0"], "a dump tells the first one first");
}

#[test]
fn an_ipv6_route_that_loses_one_of_its_next_hops_is_asked_for() {
    let mut world = NetlinkWorld::new();
    let hops = wire::multipath(&[("2001:db8::1", 1), ("2001:db8::2", 1)]);
    world.hear(false, &[wire::route_of(NEW, "2001:db8:1::/48", 254, 1, &[hops])]);
    assert_eq!(world.tell(), ["2001:db8:1::/48 2001:db8::1, 2001:db8::2 metric 0"]);
    world.hear(false, &[wire::route_of(DEL, "2001:db8:1::/48", 254, 1, &[wire::gateway("2001:db8::1")])]);
    assert!(world.follower.needs_dump());
    assert_eq!(world.tell().len(), 1, "the route is still there");
    world.dump(&[wire::route("2001:db8:1::/48", "2001:db8::2")]);
    assert_eq!(world.tell(), ["2001:db8:1::/48 2001:db8::2 metric 0"]);
}

#[test]
fn a_link_that_goes_down_and_an_address_that_comes_or_goes_ask_for_a_dump() {
    let (v4, v6) = (2, 10);
    for (kind, family, flags, asks) in [
        (16u16, 0, 0x41u32, false),
        (16, 0, 0x1, true),
        (17, 0, 0x41, true),
        (20, v4, 0, true),
        (20, v6, 0, false),
        (21, v4, 0, true),
        (21, v6, 0, true),
    ] {
        let mut world = NetlinkWorld::new();
        let body = [&[family, 0, 0, 0, 0, 0, 0, 0][..], &flags.to_ne_bytes(), &[0; 4]].concat();
        world.hear(false, &[wire::message(kind, 0, &body)]);
        assert_eq!(world.follower.needs_dump(), asks, "{kind} {flags}");
    }
}

#[test]
fn an_object_that_is_deleted_takes_its_routes_along() {
    let mut world = NetlinkWorld::new();
    world.hear(false, &[wire::object(7, "192.0.2.7"), wire::route_by("10.0.0.0/8", 7)]);
    assert_eq!(world.tell(), ["10.0.0.0/8 192.0.2.7 metric 0"]);
    world.hear(false, &[wire::no_object(7)]);
    assert!(world.tell().is_empty());
}

#[test]
fn other_tables_and_protocols_are_passed_over() {
    let mut world = NetlinkWorld::new();
    let mut other = wire::route("10.0.0.0/8", "192.0.2.1");
    other[16 + 5] = 4;
    world.hear(false, &[other, wire::route_of(NEW, "10.0.0.0/8", 255, 1, &[wire::gateway("192.0.2.1")])]);
    assert!(world.tell().is_empty());
}

#[test]
fn malformed_messages_are_skipped_and_counted() {
    let mut world = NetlinkWorld::new();
    world.hear(
        false,
        &[
            wire::route_of(NEW, "10.0.0.0/8", 254, 1, &[wire::attribute(5, &[1; 5])]),
            wire::route("10.1.0.0/16", "192.0.2.1"),
        ],
    );
    assert_eq!(world.tell().len(), 1);
    assert!(world.follower.counters().contains(&("messages_malformed", 1)));
}

#[test]
fn the_table_ends_with_a_whole_dump_and_a_quiet_time() {
    let policy = Policy { vrfs: [(254, 0)].into(), ..Policy::default() };
    let mut follower = Follower::new("bird", policy, QUIET);
    let now = Instant::now();
    follower.dump_begins(now);
    let bytes = wire::route("10.0.0.0/8", "192.0.2.1");
    follower.hear(&Messages::new(&bytes).next().unwrap().unwrap(), true);
    assert!(!follower.turn(now + QUIET * 2), "the dump is not whole");
    follower.dump_ended();
    assert!(!follower.turn(now), "routes were heard just now");
    assert!(follower.turn(now + QUIET));
    assert_eq!(follower.state(), "live");
}

/// A table that this host does not have.
const EMPTY_TABLE: u32 = 78_300;

/// Does `trouble` to a source of the real kernel that has read its table, and runs it until this holds of its counters.
fn promised(trouble: impl FnOnce(&mut Reader<'_>), kept: impl Fn(&dyn Fn(&str) -> u64) -> bool) {
    let policy = Policy { vrfs: [(EMPTY_TABLE, 0)].into(), ..Policy::default() };
    let options = NetlinkOptions { origin: "bird".into(), table: EMPTY_TABLE, policy, quiet: QUIET };
    let (to, from) = crossbeam_channel::unbounded();
    let outlet = Outlet::new(0, to, std::sync::Arc::new(|| ()), std::sync::Arc::default());
    let mut reader = Reader::new(&options, Sockets::open().unwrap(), &outlet);
    reader.turn().unwrap();
    assert!(!reader.follower.needs_dump(), "the first dump was complete");
    trouble(&mut reader);
    let mut last = Report::default();
    let begin = Instant::now();
    loop {
        for message in from.try_iter() {
            if let crate::source::Event::Report(report) = message.event {
                last = report;
            }
        }
        let counter =
            |name: &str| last.counters.iter().find(|(known, _)| *known == name).map_or(0, |(_, n)| *n);
        if kept(&counter) && last.state != "failing" {
            return;
        }
        assert!(begin.elapsed() < Duration::from_secs(60), "{last:?}");
        reader.turn().unwrap();
    }
}

#[test]
fn a_socket_that_fails_is_opened_again_and_the_table_read_again() {
    let fails = |reader: &mut Reader<'_>| {
        reader.proceed(Err(End::Failed("netlink socket: gone".to_owned()))).unwrap();
        assert!(
            reader.last_error.as_deref().is_some_and(|text| text.contains("opening the socket again in 1 s"))
        );
        assert!(reader.follower.needs_dump());
    };
    promised(fails, |counter| counter("sockets_reopened") == 1 && counter("dumps") >= 2);
}

#[test]
fn after_an_overflow_the_table_is_read_again() {
    let overflows = |reader: &mut Reader<'_>| {
        reader.overflowed();
        assert!(reader.last_error.as_deref().is_some_and(|text| text.contains("reading the table again")));
    };
    promised(overflows, |counter| counter("messages_lost") == 1 && counter("dumps") >= 2);
}
