//! Streams of real zebras, and streams that no zebra sends.

use std::collections::BTreeMap;

use super::receiver::{FpmError, Receiver, Rules};
use super::*;
use crate::source::mirror::{How, Policy};
use fibcast_netlink::testing as wire;
use fibcast_sync_agent::agent::show::words;
use ipnet::IpNet;

const ROUTES: &[u8] = include_bytes!("fixtures/frr-8.4.4-routes.bin");
const GROUPS: &[u8] = include_bytes!("fixtures/frr-8.4.4-groups.bin");
pub(super) const SENTINEL: &str = "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128";

/// zebra's port of the first session.
pub(super) const PORT: u16 = 0xc820;

pub(super) fn rules() -> Rules {
    Rules {
        policy: Policy { vrfs: [(254, 0), (100, 7)].into(), ..Policy::default() },
        how: How::Either,
        quiet: Duration::from_secs(5),
        sentinel: Sentinel::default(),
        hold: Some(Duration::from_secs(300)),
    }
}

pub(super) fn receiver(rules: Rules) -> Receiver {
    let mut receiver = Receiver::new("bgp", rules);
    receiver.connected(Instant::now(), PORT);
    receiver
}

pub(super) fn frame(messages: &[Vec<u8>]) -> Vec<u8> {
    let content = messages.concat();
    let length = (content.len() + frame::HEADER) as u16;
    [&[1, 1][..], &length.to_be_bytes(), &content].concat()
}

pub(super) type Rib = BTreeMap<(u32, IpNet), String>;

pub(super) fn tell(receiver: &mut Receiver, rib: &mut Rib) -> usize {
    let mut n = 0;
    loop {
        let changes = receiver.changes(Instant::now(), 100);
        if changes.is_empty() {
            return n;
        }
        n += changes.len();
        for change in changes {
            match change.path {
                Some((group, metric)) => {
                    assert_eq!(metric, 0);
                    rib.insert((change.vrf, change.prefix), words(&group.value).join(", "));
                }
                None => {
                    rib.remove(&(change.vrf, change.prefix));
                }
            }
        }
    }
}

pub(super) fn lines(rib: &Rib) -> Vec<String> {
    rib.iter().map(|((vrf, prefix), via)| format!("{vrf} {prefix} {via}")).collect()
}

pub(super) fn counter(receiver: &Receiver, name: &str) -> u64 {
    receiver.counters().iter().find(|(n, _)| *n == name).unwrap().1
}

const BEFORE: [&str; 8] = [
    "0 198.51.100.0/24 10.0.0.2",
    "0 198.51.101.0/24 10.0.0.2, 10.0.0.3",
    "0 203.0.113.0/24 blackhole",
    "0 203.0.114.0/24 unreachable",
    "0 2001:db8:1::/48 2001:db8::2",
    "0 2001:db8:2::/48 2001:db8::2, 2001:db8::3",
    "0 2001:db8:3::/48 fe80::5 port p3",
    "0 2001:db8:4::/48 blackhole",
];

/// Offset of the stream's last changes: the update of 198.51.100.0/24 and what belongs to it.
fn last_changes(stream: &[u8]) -> usize {
    let mut at = 0;
    let mut starts = Vec::new();
    while let Some((_, length)) = frame::first(&stream[at..]).unwrap() {
        starts.push(at);
        at += length;
    }
    assert_eq!(at, stream.len());
    let back = if stream == GROUPS { 3 } else { 2 };
    starts[starts.len() - back]
}

#[test]
fn streams_of_frr_8_4_4_with_and_without_groups_give_the_same_table() {
    for stream in [ROUTES, GROUPS] {
        let mut rules = rules();
        rules.policy.ports = [("3".to_owned(), "p3".to_owned())].into();
        let connected = ["0 10.0.0.0/24 port p3", "0 192.0.3.0/24 port p3"];
        let (mut receiver, mut rib) = (receiver(rules), Rib::new());
        let cut = last_changes(stream);
        assert_eq!(receiver.take(&stream[..cut]), Ok(cut));
        assert_eq!(receiver.turn(Instant::now()), Turn::Nothing, "the sentinel of table 100 is missing");
        tell(&mut receiver, &mut rib);
        let table = lines(&rib);
        assert!(connected.iter().all(|line| table.iter().any(|l| l == line)), "{table:#?}");
        assert!(BEFORE.iter().all(|line| table.iter().any(|l| l == line)), "{table:#?}");
        // The connected networks of both families, fe80::/64 too.
        assert_eq!(table.len(), BEFORE.len() + connected.len() + 2, "{table:#?}");

        assert_eq!(receiver.take(&stream[cut..]), Ok(stream.len() - cut));
        assert_eq!(tell(&mut receiver, &mut rib), 2, "one route replaced, one withdrawn");
        assert_eq!(rib[&(0, "198.51.100.0/24".parse().unwrap())], "10.0.0.4");
        assert!(!rib.contains_key(&(0, "203.0.113.0/24".parse().unwrap())));
        assert_eq!(counter(&receiver, "routes_parked"), 0);
    }
}

#[test]
fn without_ports_routes_by_an_interface_alone_are_skipped_and_counted() {
    let (mut receiver, mut rib) = (receiver(rules()), Rib::new());
    receiver.take(ROUTES).unwrap();
    tell(&mut receiver, &mut rib);
    assert!(!lines(&rib).iter().any(|line| line.contains("port")), "{rib:?}");
    assert_eq!((counter(&receiver, "skipped_no_gateway"), counter(&receiver, "skipped_link_local")), (4, 1));
}

#[test]
fn a_stream_may_be_cut_anywhere() {
    for size in [1, 3, 5, 64, 300] {
        let (mut receiver, mut rib) = (receiver(rules()), Rib::new());
        let mut buffer = Vec::new();
        for part in GROUPS.chunks(size) {
            buffer.extend_from_slice(part);
            let taken = receiver.take(&buffer).unwrap();
            buffer.drain(..taken);
        }
        assert!(buffer.is_empty());
        tell(&mut receiver, &mut rib);
        assert_eq!(counter(&receiver, "frames"), 30);
        assert!(lines(&rib).contains(&"0 198.51.100.0/24 10.0.0.4".to_owned()));
    }
}

#[test]
fn the_sentinel_in_every_table_ends_the_table_and_is_no_route() {
    let mut rules = rules();
    rules.policy.vrfs = [(254, 0)].into();
    let (mut receiver, mut rib) = (receiver(rules), Rib::new());
    receiver.take(&frame(&[wire::route("10.0.0.0/8", "192.0.2.1")])).unwrap();
    assert_eq!(receiver.turn(Instant::now()), Turn::Nothing);
    assert_eq!(receiver.state(), "loading");
    receiver.take(&frame(&[wire::route_of(24, SENTINEL, 254, 6, &[])])).unwrap();
    assert_eq!(receiver.turn(Instant::now()), Turn::Complete);
    assert_eq!(receiver.state(), "live");
    assert_eq!(tell(&mut receiver, &mut rib), 1);
}

/// The sentinel, and that of the session with this port.
fn sentinels(port: u16) -> [Vec<u8>; 2] {
    let of_session = Sentinel::default().of_session(port).to_string();
    [wire::route_of(24, SENTINEL, 254, 6, &[]), wire::route_of(24, &of_session, 254, 6, &[])]
}

/// A thousand routes from BGP and two static ones, complete; then zebra is lost. Returns the time of the loss.
fn lost_after_a_complete_table(receiver: &mut Receiver, rib: &mut Rib) -> Instant {
    for third in 0..250 {
        let routes =
            [0, 1, 2, 3].map(|second| wire::route(&format!("10.{second}.{third}.0/24"), "192.0.2.1"));
        receiver.take(&frame(&routes)).unwrap();
    }
    receiver.take(&frame(&STATICS.map(|prefix| wire::route(prefix, "192.0.2.9")))).unwrap();
    receiver.take(&frame(&sentinels(PORT))).unwrap();
    let now = Instant::now();
    let turns = [now, now + Duration::from_secs(6)].map(|now| receiver.turn(now));
    assert!(turns.contains(&Turn::Complete) || turns.contains(&Turn::Ready), "{turns:?}");
    tell(receiver, rib);
    assert_eq!(rib.len(), 1002);
    let now = Instant::now();
    receiver.disconnected(now);
    assert_eq!(receiver.state(), "disconnected");
    now
}

const STATICS: [&str; 2] = ["203.0.113.0/24", "2001:db8:1::/48"];

/// Rules with the main table only.
fn main_table(how: How) -> Rules {
    let mut rules = rules();
    rules.policy.vrfs = [(254, 0)].into();
    Rules { how, ..rules }
}

#[test]
fn a_zebra_that_restarts_and_tells_its_static_routes_and_their_sentinel_costs_no_bgp_route() {
    for how in [How::Either, How::Sentinel, How::Quiet] {
        let (mut receiver, mut rib) = (receiver(main_table(how)), Rib::new());
        let now = lost_after_a_complete_table(&mut receiver, &mut rib);
        receiver.connected(now, PORT + 2);
        // What staticd kept: its routes, the sentinel, and that of the session before.
        receiver.take(&frame(&STATICS.map(|prefix| wire::route(prefix, "192.0.2.9")))).unwrap();
        receiver.take(&frame(&sentinels(PORT))).unwrap();
        for seconds in [0, 3, 5, 60, 86_400] {
            receiver.turn(now + Duration::from_secs(seconds));
            assert_eq!((tell(&mut receiver, &mut rib), rib.len()), (0, 1002), "{how:?}, {seconds} s");
        }
        assert_eq!((receiver.state(), receiver.end_of_table()), ("incomplete", Some("quiet")));
        assert_eq!((counter(&receiver, "routes_stale"), counter(&receiver, "routes_swept")), (1000, 0));
    }
}

#[test]
fn what_zebra_does_not_tell_again_is_withdrawn_at_the_proved_end_of_its_table() {
    let (mut receiver, mut rib) = (receiver(main_table(How::Either)), Rib::new());
    let now = lost_after_a_complete_table(&mut receiver, &mut rib);
    receiver.connected(now, PORT + 2);
    receiver.take(&frame(&[wire::route("10.1.0.0/24", "192.0.2.1")])).unwrap();
    receiver.take(&frame(&sentinels(PORT + 2))).unwrap();
    assert_eq!(receiver.turn(now), Turn::Nothing, "some may follow");
    assert_eq!((tell(&mut receiver, &mut rib), rib.len()), (0, 1002));
    assert_eq!(receiver.turn(now + Duration::from_secs(3)), Turn::Complete);
    assert_eq!(
        (tell(&mut receiver, &mut rib), lines(&rib)),
        (1001, vec!["0 10.1.0.0/24 192.0.2.1".to_owned()])
    );
    assert_eq!((receiver.state(), receiver.end_of_table()), ("live", Some("sentinel")));
}

#[test]
fn stale_routes_stay_until_zebra_replaces_or_withdraws_the_last_of_them() {
    let (mut receiver, mut rib) = (receiver(main_table(How::Either)), Rib::new());
    let both = [wire::route("10.0.0.0/8", "192.0.2.1"), wire::route("10.1.0.0/16", "192.0.2.1")];
    receiver.take(&frame(&both)).unwrap();
    tell(&mut receiver, &mut rib);
    let now = Instant::now();
    receiver.disconnected(now);
    receiver.connected(now, PORT + 2);
    receiver.take(&frame(&[wire::route("10.0.0.0/8", "192.0.2.2")])).unwrap();
    assert_eq!(receiver.turn(now), Turn::Nothing);
    assert_eq!(receiver.turn(now + Duration::from_secs(5)), Turn::Ready, "by a quiet time");
    assert_eq!((receiver.state(), counter(&receiver, "routes_stale")), ("incomplete", 1));
    receiver.take(&frame(&[wire::route_of(25, "10.1.0.0/16", 254, 1, &[])])).unwrap();
    assert_eq!(receiver.turn(now + Duration::from_secs(9)), Turn::Complete);
    assert_eq!((receiver.state(), receiver.end_of_table()), ("live", Some("refreshed")));
    tell(&mut receiver, &mut rib);
    assert_eq!(lines(&rib), ["0 10.0.0.0/8 192.0.2.2"]);
}

#[test]
fn connections_do_not_restart_the_hold_time_and_a_zebra_that_stays_earns_it_back() {
    let s = Duration::from_secs;
    let (mut receiver, mut rib) = (receiver(main_table(How::Either)), Rib::new());
    let lost = lost_after_a_complete_table(&mut receiver, &mut rib);
    // Up for 1 s of each 11 s: 10 s away, of which 1 s is earned back. The 300 s are over after 34 rounds.
    let mut now = lost;
    for round in 1..=33 {
        now += s(10);
        receiver.connected(now, PORT + round);
        receiver.take(&frame(&[wire::route("10.1.0.0/24", "192.0.2.1")])).unwrap();
        receiver.turn(now);
        now += s(1);
        receiver.disconnected(now);
        receiver.turn(now);
        assert_eq!((tell(&mut receiver, &mut rib), rib.len()), (0, 1002), "round {round}");
    }
    receiver.turn(now + s(10));
    assert_eq!((tell(&mut receiver, &mut rib), rib.len()), (1002, 0));

    let (mut receiver, mut rib) = (self::receiver(main_table(How::Either)), Rib::new());
    let lost = lost_after_a_complete_table(&mut receiver, &mut rib);
    receiver.connected(lost + s(290), PORT + 2);
    receiver.turn(lost + s(290));
    // An hour with zebra, without a proof.
    receiver.disconnected(lost + s(3_890));
    receiver.turn(lost + s(3_890 + 299));
    assert_eq!((tell(&mut receiver, &mut rib), rib.len()), (0, 1002));
}

#[test]
fn routes_of_a_zebra_that_does_not_come_back_go_after_the_hold_time() {
    let (mut receiver, mut rib) = (receiver(rules()), Rib::new());
    receiver.take(&frame(&[wire::route("10.0.0.0/8", "192.0.2.1")])).unwrap();
    tell(&mut receiver, &mut rib);
    let now = Instant::now();
    receiver.disconnected(now);
    assert_eq!(receiver.turn(now + Duration::from_secs(299)), Turn::Nothing);
    assert_eq!(tell(&mut receiver, &mut rib), 0);
    assert_eq!(receiver.turn(now + Duration::from_secs(300)), Turn::Nothing);
    assert_eq!((tell(&mut receiver, &mut rib), rib.len()), (1, 0));
}

#[test]
fn a_frame_that_is_none_ends_the_session_with_the_byte_where() {
    let good = frame(&[wire::route("10.0.0.0/8", "192.0.2.1")]);
    let n = good.len();
    let bad: [(&[u8], String); 6] = [
        (&[2, 1, 0, 8], format!("byte {n} of the session: a frame of version 2, expected version 1 of FPM")),
        (&[0x16], format!("byte {n} of the session: a frame of version 22, expected version 1 of FPM")),
        (&[1, 2, 0, 8], format!("byte {n} of the session: a frame of type 2, expected type 1, netlink")),
        (&[1, 1, 0, 0], format!("byte {n} of the session: a frame of length 0, expected 4 to 65535")),
        (&[1, 1, 0, 3], format!("byte {n} of the session: a frame of length 3, expected 4 to 65535")),
        (
            &[1, 1, 0, 8, 1, 2, 3, 4],
            format!("byte {} of the session: expected a netlink header of 16 bytes, found the end", n + 4),
        ),
    ];
    for (bytes, expected) in bad {
        let (mut receiver, mut rib) = (receiver(rules()), Rib::new());
        let error: FpmError = receiver.take(&[&good, bytes].concat()).unwrap_err();
        assert!(error.to_string().starts_with(&expected), "{error}\n{expected}");
        assert_eq!(tell(&mut receiver, &mut rib), 1, "what came before it stays");
    }
}

#[test]
fn a_message_longer_than_its_frame_ends_the_session() {
    let mut bytes = frame(&[wire::route("10.0.0.0/8", "192.0.2.1")]);
    bytes[4..8].copy_from_slice(&200u32.to_ne_bytes());
    let error = receiver(rules()).take(&bytes).unwrap_err();
    assert_eq!(error.to_string(), "byte 4 of the session: a netlink message is longer than what holds it");
}

#[test]
fn the_longest_frame_is_taken_and_a_truncated_one_waits_for_its_rest() {
    let route = wire::route("10.0.0.0/8", "192.0.2.1");
    let padding = wire::message(99, 0, &vec![0; frame::LONGEST - frame::HEADER - route.len() - 16]);
    let mut bytes = frame(&[route, padding]);
    // Padding to four bytes does not fit any more.
    bytes.truncate(frame::LONGEST);
    bytes[2..4].copy_from_slice(&u16::MAX.to_be_bytes());
    let mut receiver = receiver(rules());
    assert_eq!(receiver.take(&bytes[..frame::LONGEST - 1]), Ok(0));
    assert_eq!(receiver.take(&bytes), Ok(frame::LONGEST));
    assert_eq!((counter(&receiver, "messages"), counter(&receiver, "messages_ignored")), (2, 1));
}

#[test]
fn attributes_that_lie_about_their_length_cost_their_message_alone() {
    let lie = |length: u16| {
        let mut attribute = wire::gateway("192.0.2.1");
        attribute[..2].copy_from_slice(&length.to_ne_bytes());
        wire::route_of(24, "10.1.0.0/16", 254, 1, &[attribute])
    };
    // A next hop that exceeds its list, one shorter than itself, addresses of 5 bytes, /33.
    let mut overlapping = wire::multipath(&[("192.0.2.1", 1)]);
    overlapping[4..6].copy_from_slice(&40u16.to_ne_bytes());
    let mut short = overlapping.clone();
    short[4..6].copy_from_slice(&4u16.to_ne_bytes());
    let mut long_prefix = wire::route("10.1.0.0/16", "192.0.2.1");
    long_prefix[17] = 33;
    let bad = [
        lie(0),
        lie(3),
        lie(200),
        wire::route_of(24, "10.1.0.0/16", 254, 1, &[overlapping]),
        wire::route_of(24, "10.1.0.0/16", 254, 1, &[short]),
        wire::route_of(24, "10.1.0.0/16", 254, 1, &[wire::attribute(5, &[1, 2, 3, 4, 5])]),
        wire::route_of(24, "10.1.0.0/16", 254, 1, &[wire::attribute(1, &[0; 16])]),
        wire::route_of(24, "10.1.0.0/16", 254, 1, &[wire::attribute(30, &[0; 2])]),
        long_prefix,
        wire::message(24, 0, &[2, 8]),
        wire::message(104, 0, &[0; 8]),
        wire::message(104, 0, &[0; 3]),
    ];
    let (mut receiver, mut rib) = (receiver(rules()), Rib::new());
    let n = bad.len() as u64;
    for message in bad {
        receiver.take(&frame(&[message, wire::route("10.0.0.0/8", "192.0.2.1")])).unwrap();
    }
    assert_eq!((tell(&mut receiver, &mut rib), counter(&receiver, "messages_malformed")), (1, n));
    assert_eq!(lines(&rib), ["0 10.0.0.0/8 192.0.2.1"]);
}

#[test]
fn routes_of_unknown_tables_are_skipped_and_counted() {
    let mut receiver = receiver(rules());
    let table = wire::attribute(15, &70_000u32.to_ne_bytes());
    let route = wire::route_of(24, "10.0.0.0/8", 0, 1, &[table, wire::gateway("192.0.2.1")]);
    receiver.take(&frame(&[route, wire::route_of(24, "10.0.0.0/8", 255, 1, &[])])).unwrap();
    assert_eq!((tell(&mut receiver, &mut Rib::new()), counter(&receiver, "skipped_table")), (0, 2));
}

#[test]
fn a_route_replaced_by_one_of_a_protocol_that_is_not_wanted_is_withdrawn() {
    let mut rules = rules();
    rules.policy.protocols = vec![186];
    let (mut receiver, mut rib) = (receiver(rules), Rib::new());
    receiver.take(&frame(&[wire::route("10.0.0.0/8", "192.0.2.1")])).unwrap();
    assert_eq!(tell(&mut receiver, &mut rib), 1);
    let mut ospf = wire::route("10.0.0.0/8", "192.0.2.2");
    ospf[16 + 5] = 188;
    receiver.take(&frame(&[ospf])).unwrap();
    assert_eq!((tell(&mut receiver, &mut rib), rib.len()), (1, 0));
    assert_eq!(counter(&receiver, "skipped_protocol"), 1);
}

#[test]
fn ipv4_by_an_ipv6_next_hop_is_taken_in_both_forms() {
    let (mut receiver, mut rib) = (receiver(rules()), Rib::new());
    let address: std::net::Ipv6Addr = "2001:db8::7".parse().unwrap();
    let via = wire::attribute(18, &[&10u16.to_ne_bytes()[..], &address.octets()].concat());
    let by_via = wire::route_of(24, "10.0.0.0/8", 254, 1, &[via, wire::output(3)]);
    receiver
        .take(&frame(&[by_via, wire::object(5, "2001:db8::7"), wire::route_by("10.1.0.0/16", 5)]))
        .unwrap();
    tell(&mut receiver, &mut rib);
    assert_eq!(lines(&rib), ["0 10.0.0.0/8 2001:db8::7", "0 10.1.0.0/16 2001:db8::7"]);
}
