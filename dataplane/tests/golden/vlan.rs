//! IEEE 802.1Q sub-interfaces: the tag selects it, and is added again on output.

use crate::stage::*;
use fibcast_dataplane::packet::arp;
use fibcast_dataplane::pipeline::port::Link;
use fibcast_dataplane::reason::Reason;
use fibcast_fib::VrfId;
use std::time::Duration;

/// p1.100, 203.0.113.1/24, on port 1.
fn stage() -> Stage {
    Stage::with(|setup| {
        let mut sub = setup.ports[1].clone();
        sub.name = "p1.100".to_owned();
        sub.addresses = vec!["203.0.113.1/24".parse().unwrap()];
        sub.link = Link { device: 1, vlan: Some(100) };
        setup.ports.push(sub);
        setup.neighbors.push((2, "203.0.113.9".parse().unwrap(), GATEWAY));
    })
}

fn tagged(mut frame: Vec<u8>, tag: u16) -> Vec<u8> {
    let [high, low] = tag.to_be_bytes();
    frame.splice(12..12, [0x81, 0, high, low]);
    frame
}

/// A packet from the gateway's side to the host behind port 0.
fn back(tag: Option<u16>) -> Vec<u8> {
    let mut packet = ipv4("192.0.2.7");
    packet[..6].copy_from_slice(&PORT[1].0);
    packet[26..30].copy_from_slice(&[203, 0, 113, 9]);
    let packet = seal(packet);
    tag.map_or(packet.clone(), |tag| tagged(packet, tag))
}

#[test]
fn a_packet_to_a_sub_interface_leaves_with_its_tag() {
    let mut stage = stage();
    let out = stage.expect_forward(ipv4("203.0.113.9"));
    assert_eq!((&out[..6], &out[12..18]), (&GATEWAY.0[..], &[0x81, 0, 0, 100, 8, 0][..]));
    assert_eq!(stage.expect_forward(ipv4("10.1.2.3"))[12..14], [8, 0], "and to the port itself without");
    let snapshot = stage.snapshot();
    assert_eq!((snapshot.ports[1].tx_packets, snapshot.ports[2].tx_packets), (2, 1));
}

#[test]
fn a_tagged_packet_arrives_by_its_sub_interface_and_leaves_untagged() {
    let mut stage = stage();
    // The priority bits do not matter.
    for tag in [100, 0xe064] {
        stage.send(1, back(Some(tag)));
        let out = stage.out(0).expect("a packet");
        assert_eq!((&out[..6], &out[12..14], out[22]), (&HOST.0[..], &[8, 0][..], 63));
    }
    let snapshot = stage.snapshot();
    assert_eq!((snapshot.received, snapshot.ports[1].rx_packets, snapshot.ports[2].rx_packets), (2, 2, 2));
}

#[test]
fn a_tag_that_nobody_has_is_dropped() {
    let mut stage = stage();
    for tag in [7, 101, 4_095] {
        stage.send(1, back(Some(tag)));
    }
    assert_eq!(stage.snapshot().drops(Reason::UnknownVlan), 3);
    stage.expect_drop(tagged(ipv4("10.1.2.3"), 100), Reason::UnknownVlan);
    stage.expect_forward(tagged(ipv4("10.1.2.3"), 0));
}

#[test]
fn drops_count_at_the_sub_interface() {
    let mut stage = stage();
    let mut packet = back(None);
    packet[30..34].copy_from_slice(&[10, 66, 0, 1]);
    stage.send(1, tagged(seal(packet), 100));
    let snapshot = stage.snapshot();
    assert_eq!(snapshot.ports[2].drops[Reason::Blackhole as usize], 1);
}

#[test]
fn a_sub_interface_is_asked_for_its_own_address_with_its_tag() {
    let mut stage = stage();
    let request = arp::ArpPacket::request(GATEWAY, [203, 0, 113, 9].into(), [203, 0, 113, 1].into(), None);
    stage.send(1, tagged(request.clone(), 100));
    stage.after(Duration::ZERO);
    let answer = stage.out(1).expect("an answer");
    assert_eq!(answer[12..18], [0x81, 0, 0, 100, 8, 6]);
    stage.send(1, request);
    stage.after(Duration::ZERO);
    assert_eq!(stage.out(1), None, "the port itself does not have that address");
}

#[test]
fn one_burst_may_hold_packets_of_two_vrfs() {
    let mut stage = Stage::with(|setup| {
        let mut sub = setup.ports[0].clone();
        (sub.name, sub.vrf) = ("p0.5".to_owned(), VrfId(5));
        sub.addresses = vec!["172.20.0.1/16".parse().unwrap()];
        sub.link = Link { device: 0, vlan: Some(5) };
        setup.ports.push(sub);
    });
    stage.rx[0].put(ipv4("10.1.2.3"));
    stage.rx[0].put(tagged(ipv4("10.1.2.3"), 5));
    stage.rx[0].put(ipv4("10.1.2.3"));
    stage.worker.turn();
    let snapshot = stage.snapshot();
    assert_eq!((snapshot.sent, snapshot.drops(Reason::NoRoute)), (2, 1));
}
