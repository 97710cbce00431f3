//! Any bytes at all: no panic, and every packet ends in exactly one counter.

use crate::stage::*;
use fibcast_dataplane::pipeline::port::ReversePath;
use fibcast_fib::VrfId;
use proptest::prelude::*;
use std::time::Duration;

/// Good packets with some bytes changed reach deeper than random ones.
fn mutated() -> impl Strategy<Value = Vec<u8>> {
    let good = prop_oneof![
        Just(ipv4("10.1.2.3")),
        Just(ipv4("10.66.0.1")),
        Just(ipv4("192.0.2.1")),
        Just(ipv4("198.51.100.77")),
        Just(ipv6("2001:db8:f::1")),
        Just(ipv6("2001:db8::1")),
        Just(ipv6("ff02::1")),
        Just(tagged(ipv4("10.1.2.3"), 5)),
        Just(tagged(ipv6("2001:db8::1"), 5)),
        Just(options(&[7, 7, 4, 0, 0, 0, 0, 0])),
        Just(options(&[131, 7, 4, 1, 2, 3, 4, 0])),
        Just(fibcast_dataplane::packet::arp::ArpPacket::request(
            HOST,
            [192, 0, 2, 7].into(),
            [192, 0, 2, 1].into(),
            None
        )),
        Just(fibcast_dataplane::packet::nd::solicitation(
            HOST,
            "2001:db8::7".parse().unwrap(),
            "2001:db8::1".parse().unwrap(),
            None
        )),
    ];
    let changes = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4);
    (good, changes, any::<prop::sample::Index>(), any::<bool>()).prop_map(|(mut frame, changes, end, cut)| {
        for (at, byte) in changes {
            let at = at.index(frame.len());
            frame[at] = byte;
        }
        if cut {
            frame.truncate(end.index(frame.len() + 1));
        }
        frame
    })
}

fn tagged(mut frame: Vec<u8>, vlan: u8) -> Vec<u8> {
    frame.splice(12..12, [0x81, 0, 0, vlan]);
    frame
}

fn options(bytes: &[u8]) -> Vec<u8> {
    let mut frame = ipv4("10.1.2.3");
    frame.splice(34..34, bytes.iter().copied());
    frame[14] = 0x45 + (bytes.len() / 4) as u8;
    frame[17] += bytes.len() as u8;
    seal(frame)
}

fn anything() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![4 => mutated(), 1 => prop::collection::vec(any::<u8>(), 0..200)]
}

/// Everything that a port can have, in any combination.
fn with_features(features: u8) -> Stage {
    let has = |bit: u8| features >> bit & 1 == 1;
    Stage::with(|setup| {
        if has(0) {
            let mut sub = setup.ports[0].clone();
            sub.name += ".5";
            sub.link.vlan = Some(5);
            sub.vrf = VrfId(5);
            setup.ports.push(sub);
        }
        if has(1) {
            setup.ports[0].reverse_path = if has(2) { ReversePath::Strict } else { ReversePath::Loose };
        }
        if has(3) {
            setup.ports[1].mtu = 40;
        }
        if has(4) {
            setup.ports[0].exception_path = true;
        }
        if has(5) {
            // Recursive, and over a neighbor that nobody knows.
            setup.routes.push(route("10.1.0.0/16", "10.200.0.1"));
            setup.routes.push(route("10.200.0.0/16", "198.51.100.77"));
        }
        if has(6) {
            setup.neighbors.clear();
        }
        if has(7) {
            setup.allow_class_e = true;
            setup.routes.push(route("240.0.0.0/4", "198.51.100.9"));
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn no_panic_and_the_counters_add_up(
        frames in prop::collection::vec((0usize..2, anything()), 0..150),
        room in prop::option::of(0usize..60),
        features in any::<u8>(),
    ) {
        let mut stage = with_features(features);
        stage.tx[1].limit(room);
        let count = frames.len() as u64;
        for (port, frame) in frames {
            stage.rx[port].put(frame);
        }
        for _ in 0..4 {
            stage.after(Duration::from_secs(1));
            stage.snapshot();
        }
        let snapshot = stage.snapshot();
        prop_assert_eq!(snapshot.received, count);
        let out = (stage.tx[0].len() + stage.tx[1].len()) as u64;
        prop_assert_eq!(out, snapshot.sent + snapshot.originated);
        stage.worker.stop();
        let snapshot = stage.snapshot();
        prop_assert_eq!((snapshot.received, snapshot.held), (count, 0));
    }
}
