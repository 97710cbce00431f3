//! Writes the corpus: `cargo run -p fibcast-fuzz-entries --example make-corpus` rewrites every file from golden inputs.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use fibcast_fuzz_entries::reload::SEPARATOR;
use fibcast_mrt::Writer;
use fibcast_sync_agent::checkpoint::Checkpoint;
use fibcast_sync_proto::codec::Encoder;
use fibcast_sync_proto::frame::{Frame, Mode, Role, State};
use fibcast_sync_proto::subset::{Family, Subset};
use fibcast_sync_proto::{Change, GroupValue, HopValue, Key, Label, OriginId, OriginValue, Table, Value};

fn main() -> std::io::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../corpus");
    let write = |target: &str, name: &str, bytes: &[u8]| {
        let folder: PathBuf = root.join(target);
        std::fs::create_dir_all(&folder)?;
        std::fs::write(folder.join(name), bytes)
    };
    for (name, bytes) in frames() {
        write("frames", name, &[&[255], bytes.as_slice()].concat())?;
        write("frames", &format!("{name}-in-portions"), &[&[3], bytes.as_slice()].concat())?;
    }
    write("records", "every-kind", &bodies(&changes()))?;
    write("records", "sorted-routes", &bodies(&many(300)))?;
    write("sketch", "equal", &[50, 0])?;
    write("sketch", "some-differ", &[&[200, 31][..], &(0..200).collect::<Vec<u8>>()].concat())?;
    write("sketch", "hostile", &[&[9, 3][..], &[3; 300]].concat())?;
    // Steps as `machines` reads them; each second link is op | 16.
    write("client", "snapshot", &[0, 0, 8, 0, 0, 0, 1, 8, 0, 3, 1, 0, 8, 0, 4, 0, 1])?;
    write(
        "client",
        "equal-then-changes",
        &[20, 0, 8, 0, 0, 0, 1, 8, 0, 5, 1, 8, 0, 3, 0, 1, 8, 0, 4, 0, 2, 5, 1, 0],
    )?;
    write(
        "client",
        "failover",
        &[20, 0, 16, 8, 0, 0, 0, 1, 24, 0, 0, 0, 1, 8, 0, 5, 1, 1, 24, 0, 5, 1, 5, 9, 0],
    )?;
    write("client", "sketch", &[30, 0, 8, 1, 0, 0, 1, 8, 0, 6, 0, 0, 0, 0, 0, 8, 0, 6, 4, 0, 1, 0, 0])?;
    write("client", "silence", &[9, 0, 8, 0, 0, 0, 1, 5, 4, 0, 5, 4, 0, 5, 4, 0])?;
    write("server", "snapshot", &[40, 0, 11, 0, 0, 11, 1, 4, 0, 8, 1, 0, 5, 3, 2, 8, 255, 255])?;
    write("server", "view", &[40, 0, 11, 0, 17, 4, 0, 1, 11, 1, 4, 0, 5, 3, 2, 5, 4, 3, 8, 255, 255])?;
    write("server", "sketch", &[40, 0, 11, 0, 0, 11, 1, 2, 3, 11, 3, 1, 0, 11, 4, 0, 9, 0, 8, 255, 255])?;
    write(
        "server",
        "two-clients",
        &[20, 0, 0, 11, 0, 0, 27, 0, 0, 11, 1, 3, 1, 27, 1, 2, 0, 5, 1, 2, 7, 4, 1, 0, 1],
    )?;
    write(
        "origins",
        "lease-and-loss",
        &[1, 4, 8, 0, 9, 0, 4, 4, 0, 10, 0, 8, 0, 11, 0, 40, 4, 8, 0, 9, 0, 255, 255, 0, 255, 255],
    )?;
    write(
        "origins",
        "own-and-strangers",
        &[5, 16, 255, 7, 5, 4, 0, 1, 5, 4, 0, 2, 2, 4, 0, 1, 3, 67, 0, 9, 9, 3, 131],
    )?;
    write("mrt", "table", &mrt(false))?;
    write("mrt", "updates", &mrt(true))?;
    let published = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../libs/mrt/tests/published");
    for entry in published.read_dir()? {
        let path = entry?.path();
        let (name, data) = (path.file_name().unwrap_or_default().to_string_lossy(), std::fs::read(&path)?);
        if data.len() <= 3000 && !name.ends_with(".md") {
            write("mrt", &name, &data)?;
            // Compressed ones are no rows of records.
            let records = mrt_records(&data);
            if !records.is_empty() {
                write("mrt_records", &name, &records)?;
            }
        }
    }
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../packaging/examples");
    for entry in examples.read_dir()? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == "toml") {
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            write("config", &name, &std::fs::read(&path)?)?;
        }
    }
    write("config", "small", b"[node]\nname = \"a\"\n[tls]\ninsecure = true\n[[source]]\norigin = \"x\"\nkind = \"static\"\npath = \"y\"\n")?;
    write("checkpoint", "table", &checkpoint())?;
    for (name, old, new) in reloads() {
        write("reload", name, &[old.as_bytes(), &[SEPARATOR], new.as_bytes()].concat())?;
    }
    let requests = [
        r#""status""#,
        r#"{"routes":{"query":"all","limit":5}}"#,
        r#"{"routes":{"query":{"address":"192.0.2.1"}}}"#,
        r#"{"routes":{"query":{"prefix":"2001:db8::/32"},"limit":10}}"#,
        r#"{"kv":{"get":{"key":"a"}}}"#,
        r#"{"kv":{"list":{"prefix":"","limit":3}}}"#,
        r#"{"dataplane":"drops"}"#,
    ];
    for (i, request) in requests.iter().enumerate() {
        write("control", &format!("request-{i}"), request.as_bytes())?;
    }
    let one = "GET /healthz HTTP/1.1\r\nHost: rs-a:9830\r\nUser-Agent: x\r\n\r\n";
    for (name, text) in [
        ("kept", one.to_owned()),
        ("pipelined", one.repeat(3)),
        (
            "old",
            "GET /metrics?x=1 HTTP/1.0\r\nConnection: keep-alive\r\n\r\nGET http://a/ HTTP/1.0\r\n\r\n"
                .to_owned(),
        ),
        ("body", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello".to_owned()),
        ("endless", format!("GET /{}", "a".repeat(9_000))),
        ("garbage", "\u{16}\u{3}\u{1} GET\r\n\r\n".to_owned()),
    ] {
        write("http", name, &[&[7], text.as_bytes()].concat())?;
    }
    // Steps as `http` reads them: pieces of a request, pauses, partial reads, the end of input.
    let piece = |text: &str| [&[3, text.len() as u8], text.as_bytes()].concat();
    let slow = [piece("GET / HTTP/1.1\r\n"), vec![0, 9, 0], piece("Host: a\r\n\r\n"), vec![1, 9, 0, 39, 17]]
        .concat();
    write("http", "slow", &[&[0], slow.as_slice(), &[1, 255], slow.as_slice(), &[250]].concat())?;
    let fixtures =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../route-server/src/source/fpm/fixtures");
    for name in ["frr-8.4.4-routes", "frr-8.4.4-groups"] {
        let stream = std::fs::read(fixtures.join(format!("{name}.bin")))?;
        for portion in [2u8, 255] {
            write("fpm", &format!("{name}-{portion}"), &[&[portion], stream.as_slice()].concat())?;
        }
        write("takeover", name, &takeover(&stream))?;
        write("netlink", name, &netlink(&stream))?;
    }
    for (name, packets) in packets() {
        let mut bytes = vec![0];
        for (how, packet) in packets {
            bytes.push(how);
            bytes.extend((packet.len() as u16).to_be_bytes());
            bytes.extend(packet);
        }
        write("packets", name, &bytes)?;
    }
    Ok(())
}

/// Files of a dataplane before and after a change.
fn reloads() -> Vec<(&'static str, String, String)> {
    let base = "[node]\nname = \"n\"\n[workers]\ncores = [1]\n[[port]]\nname = \"p0\"\ndevice = \"net_null0\"\naddresses = [\"192.0.2.1/24\"]\n\
                [[port]]\nname = \"p1\"\ndevice = \"net_null1\"\nvrf = 7\naddresses = [\"2001:db8::1/64\"]\n";
    let route = |prefix: &str, to: &str| format!("[[static_route]]\nprefix = \"{prefix}\"\n{to}\n");
    let neighbor = |ip: &str, mac: u8| {
        format!("[[static_neighbor]]\nport = \"p0\"\nip = \"{ip}\"\nmac = \"02:00:00:00:00:{mac:02x}\"\n")
    };
    let with = |parts: &[String]| format!("{base}{}", parts.concat());
    let (one, two) = (route("10.0.0.0/8", "via = \"192.0.2.7\""), route("10.1.0.0/16", "blackhole = true"));
    let other = route("10.0.0.0/8", "via = [\"192.0.2.7\", \"192.0.2.8\"]\nweights = [1, 3]");
    let in_vrf = route("10.0.0.0/8", "vrf = 7\nunreachable = true");
    vec![
        (
            "same",
            with(&[one.clone(), neighbor("192.0.2.7", 7)]),
            with(&[one.clone(), neighbor("192.0.2.7", 7)]),
        ),
        ("added", base.to_owned(), with(&[one.clone(), two.clone(), neighbor("192.0.2.7", 7)])),
        ("changed", with(&[one.clone(), neighbor("192.0.2.7", 7)]), with(&[other, neighbor("192.0.2.7", 9)])),
        ("order", with(&[one.clone(), two.clone(), in_vrf.clone()]), with(&[in_vrf, two, one.clone()])),
        (
            "restart",
            base.to_owned(),
            with(&[one]).replace("cores = [1]", "cores = [1, 2]") + "[ip]\nallow_class_e = true\n",
        ),
    ]
}

/// Two zebras as steps of the `takeover` target: the second comes while the first is alive, and follows it; then half a frame, and silence.
fn takeover(stream: &[u8]) -> Vec<u8> {
    const SESSION: u8 = 8;
    let send = |to: u8, bytes: &[u8]| [&[1 | to][..], &(bytes.len() as u16).to_be_bytes(), bytes].concat();
    let (enter, close, wait, turn): (u8, u8, u8, u8) = (0, 5, 246, 7);
    [
        &[enter][..],
        &send(0, stream),
        &[turn, enter],
        &send(0, stream),
        &send(SESSION, stream.get(..100).unwrap_or_default()),
        &[close | SESSION, turn],
        &send(SESSION, stream),
        &[enter],
        &send(0, stream.get(..20).unwrap_or_default()),
        &[wait, turn, enter, wait, turn],
    ]
    .concat()
}

/// The messages in FPM frames as steps of the `netlink` target.
fn netlink(mut stream: &[u8]) -> Vec<u8> {
    let mut steps = Vec::new();
    let mut step = 0u8;
    while let Ok(Some((content, length))) = fibcast_route_server::source::fpm::frame::first(stream) {
        steps.push(step % 8);
        steps.extend((content.len() as u16).to_be_bytes());
        steps.extend(content);
        stream = &stream[length..];
        step += 1;
    }
    steps
}

fn group(last: u8) -> (Label, GroupValue) {
    let hop =
        |weight| HopValue { gateway: Some(IpAddr::from([192, 0, 2, last])), port: Some("p0".into()), weight };
    let value = GroupValue::Hops(vec![hop(1), hop(2)]);
    (Label::of(&value), value)
}

fn many(n: u32) -> Vec<Change> {
    let (label, value) = group(1);
    let routes = (0..n).map(|i| {
        let prefix = ipnet::Ipv4Net::new(Ipv4Addr::from(i << 10), 24).unwrap().into();
        Change::Put(Key::Route { vrf: 0, prefix }, Value::Route(label))
    });
    std::iter::once(Change::Put(Key::Group(label), Value::Group(value))).chain(routes).collect()
}

fn changes() -> Vec<Change> {
    let (label, value) = group(1);
    let v6: ipnet::IpNet = "2001:db8::/32".parse().unwrap();
    let v4: ipnet::IpNet = "10.0.0.0/8".parse().unwrap();
    let origin = OriginId::of("bgp");
    let described = OriginValue {
        name: "bgp".into(),
        server: "rs".into(),
        epoch: 7,
        sequence: 2,
        ready: true,
        lease_ms: 1_000,
        stale: false,
    };
    let mut all = vec![
        Change::Put(Key::Group(label), Value::Group(value)),
        Change::Put(Key::Group(Label(5)), Value::Group(GroupValue::Blackhole)),
        Change::Put(Key::Origin(origin), Value::Origin(Box::new(described))),
        Change::Put(Key::Opaque(b"key".as_slice().into()), Value::Opaque(b"value".as_slice().into())),
        Change::Delete(Key::Opaque(b"old".as_slice().into())),
        Change::Delete(Key::Group(Label(9))),
        Change::Delete(Key::Origin(OriginId(3))),
    ];
    for (vrf, prefix) in [(0, v4), (3, v4), (0, v6)] {
        all.push(Change::Put(Key::Route { vrf, prefix }, Value::Route(label)));
        let path = Value::RibRoute { label, distance: 20, metric: 100 };
        all.push(Change::Put(Key::RibRoute { origin, vrf, prefix }, path));
        all.push(Change::Delete(Key::Route { vrf: vrf + 1, prefix }));
        all.push(Change::Delete(Key::RibRoute { origin, vrf: vrf + 1, prefix }));
    }
    all
}

/// Frames of Records, with headers.
fn encoded(changes: &[Change]) -> Vec<u8> {
    let (mut out, mut encoder) = (Vec::new(), Encoder::new());
    changes.iter().filter_map(Change::view).for_each(|change| encoder.push(change, &mut out));
    encoder.flush(&mut out);
    out
}

/// Two bytes of length and the body, for each Records frame.
fn bodies(changes: &[Change]) -> Vec<u8> {
    let (frames, mut out, mut at) = (encoded(changes), Vec::new(), 0);
    while let Some(&[_, a, b, c]) = frames.get(at..at + 4) {
        let n = u32::from_be_bytes([0, a, b, c]) as usize;
        out.extend((n as u16).to_be_bytes());
        out.extend(&frames[at + 4..at + 4 + n]);
        at += 4 + n;
    }
    out
}

fn frames() -> Vec<(&'static str, Vec<u8>)> {
    let mut table = Table::new(1);
    table.commit(many(30)).unwrap();
    let digest = table.digest();
    let state = State {
        epoch: 1,
        serial: 3,
        digest,
        ready: true,
        stale: false,
        path: vec!["rs".into(), "relay".into()],
    };
    let stream = |all: &[Frame<'_>]| {
        let mut out = Vec::new();
        all.iter().for_each(|frame| frame.encode(&mut out));
        out
    };
    let hello = Frame::Hello { name: "nic".into() };
    let register = |subset| Frame::Register {
        table: "fib".into(),
        role: Role::Secondary,
        heartbeat_ms: 300,
        digest_key: fibcast_sync_proto::DigestKey::PUBLIC.id(),
        path: vec!["a".into()],
        subset,
    };
    let part = Subset::new(vec![0, 9], Some(Family::V4), Vec::new());
    let symbols = table.sketch().symbols_from(0).take(64).collect();
    let mut snapshot = stream(&[hello.clone(), Frame::Begin { mode: Mode::Snapshot, from: 0 }]);
    snapshot.extend(encoded(&changes()));
    Frame::Commit { epoch: 1, serial: 4, count: 9, digest }.encode(&mut snapshot);
    vec![
        (
            "client",
            stream(&[
                hello.clone(),
                register(Subset::default()),
                Frame::Activate { epoch: 1, serial: 2, digest, copy: false },
                Frame::More { until: 300 },
                Frame::Want { last: true, ids: vec![1, 2, u64::MAX] },
                Frame::Heartbeat(None),
                Frame::Deactivate,
            ]),
        ),
        ("client-part", stream(&[hello.clone(), register(part)])),
        (
            "server",
            stream(&[
                hello.clone(),
                Frame::Welcome(state.clone()),
                Frame::Heartbeat(Some(state)),
                Frame::Equal { epoch: 1, serial: 3 },
                Frame::Symbols { serial: 3, count: 31, first: 0, symbols },
                Frame::Error { text: "no table x is served here".into() },
            ]),
        ),
        ("snapshot", snapshot),
        ("optional", [stream(&[hello]), vec![200, 0, 0, 2, 1, 2, 13, 0, 0, 0]].concat()),
    ]
}

fn mrt(updates: bool) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    let net = |text: &str| text.parse::<ipnet::IpNet>().unwrap();
    let (v4, v6): (IpAddr, IpAddr) = ("192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap());
    if updates {
        writer.announce(1_000_000, v4, v4, &[net("10.0.0.0/8"), net("10.1.0.0/16")]).unwrap();
        writer.withdraw(2_000_000, v4, &[net("10.0.0.0/8")]).unwrap();
        writer.announce(3_000_000, v6, v6, &[net("2001:db8::/32")]).unwrap();
    } else {
        writer.peer_index(1, "view", v4).unwrap();
        writer.rib(1, net("10.0.0.0/8"), v4).unwrap();
        writer.rib(1, net("2001:db8::/32"), v6).unwrap();
    }
    writer.into_inner()
}

/// The records of an MRT file as steps of the target: number of the type, subtype, length, body.
fn mrt_records(file: &[u8]) -> Vec<u8> {
    let (mut rest, mut out) = (file, Vec::new());
    while let [_, _, _, _, 0, kind, 0, subtype, 0, 0, high, low, tail @ ..] = rest {
        let Some((body, tail)) = tail.split_at_checked(usize::from(*high) << 8 | usize::from(*low)) else {
            break;
        };
        let kind = [5, 12, 13, 16, 17].iter().position(|k| k == kind).unwrap_or(0) as u8;
        out.extend([kind, *subtype, *high, *low]);
        out.extend(body);
        rest = tail;
    }
    out
}

fn checkpoint() -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("table.ckpt");
    let mut table = Table::new(1);
    table.commit(many(20)).unwrap();
    let mut checkpoint = Checkpoint::new(&path, "fib", Duration::from_secs(1));
    checkpoint.finish(&table);
    std::fs::read(&path).expect("a checkpoint was written")
}

/// How a packet comes in, and its bytes; see `packets`.
type Packet = (u8, Vec<u8>);

fn packets() -> Vec<(&'static str, Vec<Packet>)> {
    let ipv4 = |destination: [u8; 4], ttl: u8| {
        let mut p = vec![0x45, 0, 0, 46, 0x12, 0x34, 0x40, 0, ttl, 17, 0, 0, 192, 0, 2, 7];
        p.extend(destination);
        let sum = fibcast_dataplane::packet::checksum::checksum(&p);
        p[10..12].copy_from_slice(&sum.to_be_bytes());
        p.extend([0x30, 0x39, 0, 53, 0, 26, 0, 0]);
        p.extend(1..=18);
        p
    };
    let ipv6 = |destination: &str| {
        let mut p = vec![0x60, 0, 0, 0, 0, 12, 17, 64];
        let octets = |text: &str| text.parse::<std::net::Ipv6Addr>().unwrap().octets();
        p.extend(octets("2001:db8::7"));
        p.extend(octets(destination));
        p.extend([0x30, 0x39, 0, 53, 0, 12, 0xab, 0xcd, 1, 2, 3, 4]);
        p
    };
    let arp = {
        let mut p = vec![255; 6];
        p.extend([2, 0, 0, 0, 2, 7, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 2, 7, 192, 0, 2, 7]);
        p.extend([0, 0, 0, 0, 0, 0, 192, 0, 2, 1]);
        p
    };
    vec![
        ("forward-ipv4", vec![(2, ipv4([10, 1, 2, 3], 64)), (2, ipv4([10, 1, 2, 4], 1))]),
        ("forward-ipv6", vec![(6, ipv6("2001:db8:f::1"))]),
        ("to-the-router", vec![(2, ipv4([192, 0, 2, 1], 64)), (0x86, ipv6("2001:db8::1"))]),
        ("unknown-neighbor", vec![(2, ipv4([198, 51, 100, 77], 64)), (0x82, ipv4([198, 51, 100, 77], 64))]),
        ("blackhole", vec![(2, ipv4([10, 66, 0, 1], 64)), (2, ipv4([203, 0, 113, 1], 64))]),
        ("arp", vec![(0, arp)]),
    ]
}
