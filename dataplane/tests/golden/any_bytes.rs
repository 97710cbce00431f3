//! Any bytes at all: no panic, and every packet ends in exactly one counter.

use crate::stage::*;
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
        Just(fibcast_dataplane::packet::arp::Packet::request(
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

fn anything() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![4 => mutated(), 1 => prop::collection::vec(any::<u8>(), 0..200)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn no_panic_and_the_counters_add_up(
        frames in prop::collection::vec((0usize..2, anything()), 0..150),
        room in prop::option::of(0usize..60),
    ) {
        let mut stage = Stage::new();
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
