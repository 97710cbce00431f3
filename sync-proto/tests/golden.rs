//! Frames byte by byte: what goes over the wire stays what other nodes, perhaps older ones, read.
//!
//! Each `golden/NAME.bin` is one frame; `golden/NAME.txt` says what each byte means, after `PROTOCOL.md`. The code must write the
//! same bytes and read the same meaning. A change of these files is a change of the protocol.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;
use std::path::PathBuf;

use fibcast_sync_proto::codec::{Decoder, Encoder};
use fibcast_sync_proto::frame::{Frame, Inbox, Mode, Role, State};
use fibcast_sync_proto::refusal::Reason;
use fibcast_sync_proto::sketch::Symbol;
use fibcast_sync_proto::wire::ProtocolError;
use fibcast_sync_proto::{
    Change, ChangeRef, Family, GroupValue, HopValue, Key, KeyId, Label, OriginId, OriginValue, PrefixRange,
    RootDigest, Subset, Value,
};

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

/// The bytes of a file, which the text beside it explains one by one.
fn golden(name: &str) -> Vec<u8> {
    let bytes = std::fs::read(folder().join(format!("{name}.bin"))).unwrap();
    let text = std::fs::read_to_string(folder().join(format!("{name}.txt"))).unwrap();
    let hex = text.lines().skip(1).map(|line| line.split_once('|').expect("a bar after the bytes").0);
    let documented = hex.flat_map(|hex| hex.split_whitespace().map(|b| u8::from_str_radix(b, 16).unwrap()));
    assert_eq!(bytes, documented.collect::<Vec<u8>>(), "{name}.bin and {name}.txt differ");
    bytes
}

fn digest(count: u64) -> RootDigest {
    RootDigest { hash: 0x0011_2233_4455_6677_8899_aabb_ccdd_eeff, count }
}

fn state(serial: u64, records: u64, stale: bool, path: &[&str]) -> State {
    let path = path.iter().map(|&name| name.into()).collect();
    State { epoch: 9, serial, digest: digest(records), ready: true, stale, path }
}

fn frames() -> Vec<(&'static str, Frame<'static>)> {
    let range = PrefixRange::new("10.0.0.0/8".parse().unwrap(), 8, 24).unwrap();
    let symbol = |sum, check, count| Symbol { sum, check, count };
    vec![
        ("hello", Frame::Hello { name: "nh-1".into() }),
        (
            "register",
            Frame::Register {
                table: "fib".into(),
                role: Role::Secondary,
                heartbeat_ms: 300,
                digest_key: KeyId(0x1122_3344_5566_7788),
                path: vec!["ra".into(), "rb".into()],
                subset: Subset::new(vec![0, 300], Some(Family::V4), vec![range]),
            },
        ),
        (
            "welcome",
            Frame::Welcome(State { epoch: 0x0102_0304_0506_0708, ..state(300, 129, false, &["rs"]) }),
        ),
        ("activate", Frame::Activate { epoch: 9, serial: 5, digest: digest(3), copy: true }),
        ("deactivate", Frame::Deactivate),
        ("begin-changes", Frame::Begin { mode: Mode::Changes, from: 7 }),
        ("begin-snapshot", Frame::Begin { mode: Mode::Snapshot, from: 0 }),
        ("begin-reconcile", Frame::Begin { mode: Mode::Reconcile, from: 128 }),
        ("commit", Frame::Commit { epoch: 9, serial: 8, count: 2, digest: digest(4) }),
        ("equal", Frame::Equal { epoch: 9, serial: 8 }),
        (
            "symbols",
            Frame::Symbols {
                serial: 8,
                count: 3,
                first: 0,
                symbols: vec![symbol(0x0102_0304_0506_0708, 0x0a0b_0c0d, 3), symbol(u64::MAX, 1, 0)],
            },
        ),
        ("more", Frame::More { until: 512 }),
        ("want", Frame::Want { last: true, ids: vec![1, 0xffee_ddcc_bbaa_9988] }),
        ("heartbeat-of-a-client", Frame::Heartbeat(None)),
        ("heartbeat-of-a-server", Frame::Heartbeat(Some(state(8, 4, true, &[])))),
        ("error", Frame::Error { text: "bye".into() }),
        ("installed", Frame::Installed { epoch: 9, serial: Some(300) }),
        ("installed-nothing", Frame::Installed { epoch: 9, serial: None }),
        (
            "refused",
            Frame::Refused {
                epoch: 9,
                whole: true,
                more: 300,
                routes: vec![
                    ((0, "10.128.0.0/9".parse().unwrap()), Some(Reason::UnknownPort)),
                    ((300, "2001:db8::/32".parse().unwrap()), Some(Reason::Kernel)),
                    ((0, "0.0.0.0/0".parse().unwrap()), None),
                ],
            },
        ),
    ]
}

fn route(vrf: u32, prefix: &str, label: u64) -> Change {
    Change::Put(Key::Route { vrf, prefix: prefix.parse().unwrap() }, Value::Route(Label(label)))
}

fn no_route(vrf: u32, prefix: &str) -> Change {
    Change::Delete(Key::Route { vrf, prefix: prefix.parse().unwrap() })
}

fn records() -> Vec<(&'static str, Vec<Change>)> {
    let group = |label, value| Change::Put(Key::Group(Label(label)), Value::Group(value));
    let hop = |gateway: Option<&str>, port: Option<&str>, weight| HopValue {
        gateway: gateway.map(|g| g.parse().unwrap()),
        port: port.map(Into::into),
        weight,
    };
    let hops =
        vec![hop(None, None, 1), hop(Some("192.0.2.1"), Some("p0"), 200), hop(Some("2001:db8::1"), None, 1)];
    let origin = OriginId(0xb67);
    let of_origin = |prefix: &str| Key::RibRoute { origin, vrf: 0, prefix: prefix.parse().unwrap() };
    let described = OriginValue {
        name: "bgp".into(),
        server: "rs".into(),
        epoch: 9,
        sequence: 300,
        ready: true,
        lease_ms: 3_000,
        stale: false,
    };
    let opaque = |bytes: &[u8]| -> Box<[u8]> { bytes.into() };
    vec![
        (
            "records-groups",
            vec![
                group(1, GroupValue::Hops(hops)),
                group(2, GroupValue::Blackhole),
                group(3, GroupValue::Unreachable),
                group(4, GroupValue::Prohibit),
                group(5, GroupValue::Local),
                Change::Delete(Key::Group(Label(6))),
            ],
        ),
        (
            "records-routes",
            vec![
                route(0, "10.0.0.0/8", 1),
                route(0, "10.1.0.0/16", 1),
                route(0, "10.2.1.0/24", 2),
                route(0, "10.1.0.0/16", 1),
                route(7, "2001:db8::/32", 2),
                route(7, "::/0", 2),
                no_route(0, "10.0.0.0/24"),
                no_route(0, "10.0.1.0/24"),
                no_route(0, "::1/128"),
            ],
        ),
        (
            "records-origin-routes",
            vec![
                Change::Put(
                    of_origin("10.0.0.0/8"),
                    Value::RibRoute { label: Label(1), distance: 20, metric: 300 },
                ),
                Change::Delete(of_origin("11.0.0.0/8")),
            ],
        ),
        (
            "records-origins",
            vec![
                Change::Put(Key::Origin(origin), Value::Origin(Box::new(described))),
                Change::Delete(Key::Origin(OriginId(0xb68))),
            ],
        ),
        (
            "records-opaque",
            vec![
                Change::Put(Key::Opaque(opaque(b"k")), Value::Opaque(opaque(&[0, 255]))),
                Change::Delete(Key::Opaque(opaque(b"x"))),
            ],
        ),
    ]
}

/// What a node has received, with a frame to be read next. The first of a connection is always Hello.
fn inbox_with(name: &str, bytes: &[u8]) -> Inbox {
    let mut inbox = Inbox::default();
    if name != "hello" {
        inbox.push(&golden("hello"));
        assert!(matches!(inbox.next(), Ok(Some(Frame::Hello { .. }))));
    }
    inbox.push(bytes);
    inbox
}

#[test]
fn frames_are_written_and_read_as_they_ever_were() {
    for (name, frame) in frames() {
        let bytes = golden(name);
        let mut written = Vec::new();
        frame.encode(&mut written);
        assert_eq!(written, bytes, "{name} is written otherwise");
        let mut inbox = inbox_with(name, &bytes);
        assert_eq!(inbox.next().unwrap().as_ref(), Some(&frame), "{name} is read otherwise");
    }
}

#[test]
fn records_are_written_and_read_as_they_ever_were() {
    for (name, changes) in records() {
        let bytes = golden(name);
        let (mut encoder, mut written) = (Encoder::new(), Vec::new());
        changes.iter().filter_map(Change::view).for_each(|change| encoder.push(change, &mut written));
        encoder.flush(&mut written);
        assert_eq!(written, bytes, "{name} is written otherwise");
        let mut inbox = inbox_with(name, &bytes);
        let Some(Frame::Records(body)) = inbox.next().unwrap() else { panic!("{name} is no Records frame") };
        let mut read: Vec<Change> = Vec::new();
        let take = |change: ChangeRef<'_>| {
            read.push(change.into());
            Ok::<(), ProtocolError>(())
        };
        Decoder::new().decode(body, take).unwrap();
        assert_eq!(read, changes, "{name} is read otherwise");
    }
}

#[test]
fn every_file_is_looked_at() {
    let names = frames().into_iter().map(|(name, _)| name).chain(records().into_iter().map(|(name, _)| name));
    let expected: BTreeSet<String> =
        names.flat_map(|name| [format!("{name}.bin"), format!("{name}.txt")]).collect();
    let found = std::fs::read_dir(folder()).unwrap().map(|f| f.unwrap().file_name().into_string().unwrap());
    assert_eq!(found.collect::<BTreeSet<String>>(), expected);
}

#[test]
fn an_optional_frame_of_a_later_version_is_skipped_and_a_mandatory_one_is_not() {
    let mut bytes = golden("hello");
    // Type 130 with a body, then type 255 without one.
    bytes.extend([130, 0, 0, 2, 7, 7, 255, 0, 0, 0]);
    bytes.extend(golden("installed"));
    let mut inbox = Inbox::default();
    inbox.push(&bytes);
    assert_eq!(inbox.next(), Ok(Some(Frame::Hello { name: "nh-1".into() })));
    assert_eq!(inbox.next(), Ok(Some(Frame::Installed { epoch: 9, serial: Some(300) })));
    inbox.push(&[127, 0, 0, 0]);
    assert_eq!(inbox.next(), Err(ProtocolError::UnknownFrame(127)));
}
