//! Packets of the fast path beside those that take another way, in the same burst: order, exits and counters.

use crate::stage::*;
use fibcast_dataplane::pipeline::port::Link;
use fibcast_dataplane::reason::Reason;
use proptest::prelude::*;
use std::time::Duration;

/// A packet of one flow with a number in its identification field.
fn numbered(number: u8, kind: u8) -> Vec<u8> {
    let mut packet = ipv4("10.1.2.3");
    packet[19] = number;
    match kind {
        // A header with options: the exception path.
        1 => {
            packet.splice(34..34, [1; 4]);
            packet[14] += 1;
            packet[17] += 4;
        }
        // Too short for the headers of both families.
        2 => {
            packet[17] = 30;
            packet.truncate(44);
        }
        // Behind it come bytes that are no part of it.
        3 => packet.resize(1_400, 0xee),
        _ => {}
    }
    seal(packet)
}

fn numbers(stage: &mut Stage, port: usize) -> Vec<u8> {
    std::iter::from_fn(|| stage.out(port)).map(|frame| frame[19]).collect()
}

fn fill(stage: &mut Stage, packets: impl Iterator<Item = Vec<u8>>) {
    packets.for_each(|packet| stage.rx[0].put(packet));
    while stage.worker.turn() != 0 {}
}

#[test]
fn a_flow_keeps_its_order_whichever_way_its_packets_take() {
    let mut stage = Stage::new();
    fill(&mut stage, (0..200).map(|number| numbered(number, number % 4)));
    assert_eq!(numbers(&mut stage, 1), (0..200).collect::<Vec<_>>());
}

#[test]
fn a_flow_keeps_its_order_and_its_sums_while_the_device_takes_no_more() {
    let mut stage = Stage::new();
    let length = |number| numbered(number, number % 3).len() as u64;
    let bytes = |count| (0..count).map(length).sum::<u64>();
    // Nothing, a part of a burst, of one that waited, of one behind it, then all.
    for (room, sent) in [(Some(0), 0), (Some(7), 7), (Some(60), 67), (Some(3), 70), (None, 150)] {
        stage.tx[1].limit(room);
        if room == Some(0) {
            fill(&mut stage, (0..150).map(|number| numbered(number, number % 3)));
        }
        stage.after(Duration::ZERO);
        let snapshot = stage.snapshot();
        assert_eq!((snapshot.sent, snapshot.held), (sent, 150 - sent));
        let port = &snapshot.ports[1];
        assert_eq!((port.tx_packets, port.tx_bytes), (sent, bytes(sent as u8)), "{room:?}");
    }
    assert_eq!(numbers(&mut stage, 1), (0..150).collect::<Vec<_>>());
}

#[test]
fn a_burst_leaves_by_many_ports_tagged_and_untagged() {
    const LAST: u16 = 90;
    let mut stage = Stage::with(|setup| {
        for vlan in 1..=LAST {
            let mut sub = setup.ports[1].clone();
            sub.name = format!("p1.{vlan}");
            sub.addresses = vec![format!("172.16.{vlan}.1/24").parse().unwrap()];
            sub.link = Link { device: 1, vlan: Some(vlan) };
            setup.ports.push(sub);
            setup.neighbors.push((
                usize::from(vlan) + 1,
                format!("172.16.{vlan}.9").parse().unwrap(),
                GATEWAY,
            ));
            setup.routes.push(route(&format!("10.200.{vlan}.0/24"), &format!("172.16.{vlan}.9")));
        }
    });
    let to = |vlan: u16| match vlan {
        0 => "10.1.2.3".to_owned(),
        vlan => format!("10.200.{vlan}.1"),
    };
    fill(&mut stage, (0..=LAST).chain(0..=LAST).map(|vlan| ipv4(&to(vlan))));
    let mut seen = vec![0; usize::from(LAST) + 1];
    while let Some(frame) = stage.out(1) {
        let tag = if frame[12] == 0x81 { u16::from_be_bytes([frame[14], frame[15]]) } else { 0 };
        let ip = if tag == 0 { 14 } else { 18 };
        assert_eq!((&frame[..6], frame[ip + 8]), (&GATEWAY.0[..], 63));
        assert_eq!(to(tag).split('.').nth(2).unwrap(), frame[ip + 18].to_string());
        seen[usize::from(tag)] += 1;
    }
    assert_eq!(seen, vec![2; usize::from(LAST) + 1]);
    let snapshot = stage.snapshot();
    assert_eq!(snapshot.ports[1].tx_packets, 2 * u64::from(LAST + 1));
    assert!(snapshot.ports[2..].iter().all(|port| (port.tx_packets, port.tx_bytes) == (2, 128)));
}

#[test]
fn a_link_that_is_down_stops_its_own_packets_only() {
    let mut stage = Stage::with(|setup| setup.routes.push(route("10.50.0.0/16", "192.0.2.7")));
    let frame = |number: u8| {
        let mut packet = ipv4(if number.is_multiple_of(3) { "10.50.0.1" } else { "10.1.2.3" });
        packet[19] = number;
        seal(packet)
    };
    let is_held = |number: &u8| number.is_multiple_of(3);
    stage.rings.links.set(0, false);
    fill(&mut stage, (0..45).map(frame));
    assert_eq!(numbers(&mut stage, 1), (0..45).filter(|number| !is_held(number)).collect::<Vec<_>>());
    assert_eq!(stage.snapshot().held, 15);
    stage.rings.links.set(0, true);
    stage.after(Duration::from_millis(50));
    stage.after(Duration::from_millis(50));
    assert_eq!(numbers(&mut stage, 0), (0..45).filter(is_held).collect::<Vec<_>>());
    assert_eq!((stage.snapshot().held, stage.snapshot().sent), (0, 45));
}

/// Packets of every way through the router.
fn any_packet() -> impl Strategy<Value = Vec<u8>> {
    let four = prop::sample::select(vec![
        "10.1.2.3",
        "10.66.0.1",
        "172.31.0.1",
        "192.0.2.1",
        "198.51.100.9",
        "224.0.0.5",
    ]);
    let six =
        prop::sample::select(vec!["2001:db8:f::1", "2001:db8:e::1", "2001:db8::1", "fe80::1", "ff02::5"]);
    let changes = prop::collection::vec((0usize..60, any::<u8>()), 0..2);
    let packet = prop_oneof![
        3 => (four, 0u8..3).prop_map(|(to, ttl)| {
            let mut packet = ipv4(to);
            packet[22] = 62 + ttl * ttl;
            seal(packet)
        }),
        3 => six.prop_map(ipv6),
        1 => (0u8..4).prop_map(|kind| numbered(7, kind)),
        1 => prop::sample::select(vec![0x0806u16, 0x88cc, 0x8100]).prop_map(|ethertype| frame(ethertype, &[0; 46])),
    ];
    (packet, changes, prop::bool::weighted(0.1), 0usize..1_600).prop_map(
        |(mut packet, changes, expires, size)| {
            for (at, byte) in changes {
                packet.get_mut(at).into_iter().for_each(|slot| *slot = byte);
            }
            if expires && packet.len() > 34 && packet[12..14] == [8, 0] {
                packet[22] = 1;
                packet = seal_if_plain(packet);
            }
            if size > 1_500 {
                packet.resize(size, 0);
            }
            packet
        },
    )
}

fn seal_if_plain(packet: Vec<u8>) -> Vec<u8> {
    if packet[14] == 0x45 { seal(packet) } else { packet }
}

/// Everything that a test can see of a router.
fn seen(stage: &mut Stage) -> (Vec<Vec<u8>>, Vec<Vec<u8>>, String) {
    let snapshot = stage.snapshot();
    let ports: Vec<_> = snapshot
        .ports
        .iter()
        .map(|port| (port.rx_packets, port.rx_bytes, port.tx_packets, port.tx_bytes, port.drops))
        .collect();
    let sums = (snapshot.received, snapshot.sent, snapshot.host, snapshot.held, snapshot.originated);
    let groups: Vec<_> = (0..40).filter_map(|group| stage.counters.of_group(group)).collect();
    let drops = Reason::COUNT;
    let mut out = |port| std::iter::from_fn(|| stage.out(port)).collect::<Vec<_>>();
    (out(0), out(1), format!("{sums:?} {ports:?} {groups:?} {drops}"))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// A burst of one packet has no neighbor whose way could matter.
    #[test]
    fn a_burst_fares_as_its_packets_do_one_by_one(burst in prop::collection::vec(any_packet(), 1..64), down in any::<bool>()) {
        let (mut together, mut alone) = (Stage::new(), Stage::new());
        for stage in [&mut together, &mut alone] {
            // Of a port that nothing leaves by.
            stage.rings.links.set(99, !down);
        }
        burst.iter().for_each(|packet| together.rx[0].put(packet.clone()));
        together.worker.turn();
        for packet in &burst {
            alone.rx[0].put(packet.clone());
            alone.worker.turn();
        }
        let (mut together, mut alone) = (seen(&mut together), seen(&mut alone));
        // The router answers after the burst, so answers come behind the packets that are forwarded.
        for frames in [&mut together.0, &mut together.1, &mut alone.0, &mut alone.1] {
            frames.sort();
        }
        prop_assert_eq!(together, alone);
    }
}
