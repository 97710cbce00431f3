//! The codec: what is written is read, and nothing that is read from outside panics.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::net::IpAddr;

use fibcast_sync_proto::codec::{Decoder, Encoder};
use fibcast_sync_proto::frame::{Frame, Inbox, Mode, Role, State};
use fibcast_sync_proto::sketch::Symbol;
use fibcast_sync_proto::wire::ProtocolError;
use fibcast_sync_proto::{
    Change, ChangeRef, Family, GroupValue, HopValue, Key, KeyId, Label, OriginId, OriginValue, PrefixRange,
    RootDigest, Subset, Value,
};
use proptest::prelude::*;

fn prefix() -> impl Strategy<Value = ipnet::IpNet> {
    prop_oneof![
        (any::<u32>(), 0u8..=32).prop_map(|(a, l)| ipnet::Ipv4Net::new(a.into(), l).unwrap().trunc().into()),
        (any::<u128>(), 0u8..=128)
            .prop_map(|(a, l)| ipnet::Ipv6Net::new(a.into(), l).unwrap().trunc().into()),
    ]
}

fn group() -> impl Strategy<Value = GroupValue> {
    let hop = (any::<Option<IpAddr>>(), proptest::option::of("[a-z0-9]{1,15}"), 1u16..)
        .prop_map(|(gateway, port, weight)| HopValue { gateway, port, weight });
    prop_oneof![
        proptest::collection::vec(hop, 0..5).prop_map(GroupValue::Hops),
        Just(GroupValue::Blackhole),
        Just(GroupValue::Unreachable),
        Just(GroupValue::Prohibit),
        Just(GroupValue::Local),
    ]
}

fn change() -> impl Strategy<Value = Change> {
    let label = (0u64..20).prop_map(|l| Label(l.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
    let origin = (0u64..3).prop_map(OriginId);
    let bytes = proptest::collection::vec(any::<u8>(), 0..20).prop_map(Vec::into_boxed_slice);
    prop_oneof![
        4 => (prefix(), 0u32..3, label.clone())
            .prop_map(|(prefix, vrf, l)| Change::Put(Key::Route { vrf, prefix }, Value::Route(l))),
        4 => (prefix(), origin.clone(), label.clone(), 0u8..3, 0u32..3).prop_map(
            |(prefix, origin, label, distance, metric)| Change::Put(
                Key::RibRoute { origin, vrf: 0, prefix },
                Value::RibRoute { label, distance, metric }
            )
        ),
        2 => (prefix(), any::<u32>()).prop_map(|(prefix, vrf)| Change::Delete(Key::Route { vrf, prefix })),
        2 => (prefix(), origin.clone())
            .prop_map(|(prefix, origin)| Change::Delete(Key::RibRoute { origin, vrf: 7, prefix })),
        1 => (label.clone(), group()).prop_map(|(l, g)| Change::Put(Key::Group(l), Value::Group(g))),
        1 => label.prop_map(|l| Change::Delete(Key::Group(l))),
        1 => (origin.clone(), "[a-z]{0,9}", any::<u64>(), any::<bool>()).prop_map(|(o, name, n, ready)| {
            let value = OriginValue {
                name,
                server: "rs".into(),
                epoch: n,
                sequence: n >> 9,
                ready,
                lease_ms: n as u32,
                stale: n & 1 == 1,
            };
            Change::Put(Key::Origin(o), Value::Origin(Box::new(value)))
        }),
        1 => origin.prop_map(|o| Change::Delete(Key::Origin(o))),
        1 => (bytes.clone(), bytes.clone())
            .prop_map(|(k, v)| Change::Put(Key::Opaque(k), Value::Opaque(v))),
        1 => bytes.prop_map(|k| Change::Delete(Key::Opaque(k))),
    ]
}

fn hello() -> Vec<u8> {
    let mut out = Vec::new();
    Frame::Hello { name: "x".into() }.encode(&mut out);
    out
}

/// All frames of a stream that comes in portions.
fn frames(bytes: &[u8], portion: usize, mut take: impl FnMut(Frame<'_>)) {
    let mut inbox = Inbox::default();
    for part in bytes.chunks(portion) {
        inbox.push(part);
        while let Some(frame) = inbox.next().unwrap() {
            take(frame);
        }
    }
}

proptest! {
    #[test]
    fn batches_are_read_as_written(changes in proptest::collection::vec(change(), 0..200), portion in 1usize..400) {
        let mut out = hello();
        let mut encoder = Encoder::new();
        changes.iter().filter_map(Change::view).for_each(|c| encoder.push(c, &mut out));
        encoder.flush(&mut out);
        prop_assert_eq!(encoder.count() as usize, changes.len());
        let mut read: Vec<Change> = Vec::new();
        let mut decoder = Decoder::new();
        frames(&out, portion, |f| {
            if let Frame::Records(body) = f {
                let take = |change: ChangeRef<'_>| {
                    read.push(change.into());
                    Ok::<(), ProtocolError>(())
                };
                decoder.decode(body, take).unwrap();
            }
        });
        prop_assert_eq!(read, changes);
    }

    #[test]
    fn garbage_in_records_is_an_error_or_changes_but_no_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = Decoder::new().decode(&bytes, |_| Ok::<(), ProtocolError>(()));
    }

    #[test]
    fn garbage_frames_are_an_error_or_frames_but_no_panic(
        kind in 0u8..20,
        bytes in proptest::collection::vec(any::<u8>(), 0..80),
    ) {
        let mut stream = hello();
        stream.extend_from_slice(&[kind, 0, 0, bytes.len() as u8]);
        stream.extend_from_slice(&bytes);
        let mut inbox = Inbox::default();
        inbox.push(&stream);
        while let Ok(Some(_)) = inbox.next() {}
    }

    #[test]
    fn cut_frames_are_truncated_not_misread(cut in 0usize..40) {
        let whole = Frame::Commit { epoch: 9, serial: 300, count: 7, digest: RootDigest { hash: 1 << 99, count: 12 } };
        let mut out = Vec::new();
        whole.encode(&mut out);
        let body = &out[4..];
        let cut = cut.min(body.len() - 1);
        let mut stream = hello();
        stream.extend_from_slice(&[8, 0, 0, cut as u8]);
        stream.extend_from_slice(&body[..cut]);
        let mut inbox = Inbox::default();
        inbox.push(&stream);
        inbox.next().unwrap();
        let error = inbox.next().unwrap_err().to_string();
        prop_assert!(error.starts_with("Commit: field"), "{}", error);
    }
}

#[test]
fn every_frame_is_read_as_written() {
    let digest = RootDigest { hash: u128::MAX - 5, count: 1_062_046 };
    let state = State {
        epoch: 5,
        serial: 1 << 40,
        digest,
        ready: true,
        stale: true,
        path: vec!["a".into(), "b".into()],
    };
    let symbols =
        vec![Symbol { sum: 1, check: 2, count: -3 }, Symbol { sum: u64::MAX, check: 0xffff_ffff, count: 9 }];
    let all = [
        Frame::Register {
            table: "fib".into(),
            role: Role::Secondary,
            heartbeat_ms: 50,
            digest_key: KeyId(u64::MAX - 7),
            path: vec!["x".into()],
            subset: Subset::new(
                vec![7],
                Some(Family::V4),
                vec![PrefixRange::within("10.0.0.0/8".parse().unwrap())],
            ),
        },
        Frame::Welcome(state.clone()),
        Frame::Activate { epoch: 1, serial: 2, digest, copy: true },
        Frame::Deactivate,
        Frame::Begin { mode: Mode::Changes, from: 0 },
        Frame::Begin { mode: Mode::Snapshot, from: 7 },
        Frame::Begin { mode: Mode::Reconcile, from: u64::MAX },
        Frame::Commit { epoch: 1, serial: 2, count: 3, digest },
        Frame::Equal { epoch: 1, serial: 2 },
        Frame::Symbols { serial: 4, count: 1000, first: 17, symbols },
        Frame::More { until: 4097 },
        Frame::Want { last: true, ids: vec![1, u64::MAX] },
        Frame::Heartbeat(None),
        Frame::Heartbeat(Some(state)),
        Frame::Error { text: "why".into() },
    ];
    let mut out = hello();
    all.iter().for_each(|f| f.encode(&mut out));
    for portion in [1, 5, 10_000] {
        let mut n = 0;
        frames(&out, portion, |f| {
            if n > 0 {
                assert_eq!(f, all[n - 1]);
            }
            n += 1;
        });
        assert_eq!(n, all.len() + 1);
    }
}

#[test]
fn counts_beyond_their_limit_are_refused_before_anything_is_allocated() {
    let refused = |kind: u8, body: &[u8]| {
        let mut stream = hello();
        stream.extend_from_slice(&[kind, 0, 0, body.len() as u8]);
        stream.extend_from_slice(body);
        let mut inbox = Inbox::default();
        inbox.push(&stream);
        inbox.next().unwrap();
        inbox.next().unwrap_err().to_string()
    };
    assert_eq!(
        refused(12, &[1, 0xff, 0xff, 0xff, 0x7f]),
        "Want: field identities: expected at most 8000, found 268435455"
    );
    assert_eq!(
        refused(10, &[1, 1, 0, 0xff, 0xff, 0x7f]),
        "Symbols: field symbols: expected at most 2048, found 2097151"
    );
    assert_eq!(refused(2, &[0xff, 0x7f]), "Register: field table: expected at most 64, found 16383");
    let body = [&[4u8][..], &[0; 8], &[0, 0xff, 0x7f]].concat();
    let error = Decoder::new().decode(&body, |_| Ok::<(), ProtocolError>(())).unwrap_err().to_string();
    assert_eq!(error, "Records: field hops: expected at most 256, found 16383");
}
