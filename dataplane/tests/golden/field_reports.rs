//! Situations from public reports about other routers, by their kind.

use crate::stage::*;
use fibcast_dataplane::packet::{arp, nd};
use fibcast_dataplane::reason::Reason;
use std::net::Ipv6Addr;
use std::time::Duration;

fn address(text: &str) -> Ipv6Addr {
    text.parse().unwrap()
}

/// With a tag of VLAN 0, which has a priority only.
fn priority(mut frame: Vec<u8>) -> Vec<u8> {
    frame.splice(12..12, [0x81, 0, 0xa0, 0]);
    frame
}

fn answers(stage: &mut Stage) -> Vec<Vec<u8>> {
    stage.after(Duration::ZERO);
    std::iter::from_fn(|| stage.out(0)).filter(|frame| frame[..6] == HOST.0).collect()
}

#[test]
fn a_unicast_arp_request_is_answered() {
    // RFC 1122 §2.3.2.1: Linux confirms its neighbors so, and gives them up without an answer.
    let mut stage = Stage::new();
    answers(&mut stage);
    stage.send(0, arp::ArpPacket::request(HOST, [192, 0, 2, 7].into(), [192, 0, 2, 1].into(), Some(PORT[0])));
    assert_eq!(answers(&mut stage).len(), 1);
}

#[test]
fn frames_with_a_priority_tag_are_those_of_the_port() {
    // IEEE 802.1Q §9.6: ARP, neighbor discovery and packets alike, as some adapters send all of them.
    let mut stage = Stage::new();
    answers(&mut stage);
    stage
        .send(0, priority(arp::ArpPacket::request(HOST, [192, 0, 2, 7].into(), [192, 0, 2, 1].into(), None)));
    stage.send(0, priority(nd::solicitation(HOST, address("2001:db8::7"), address("2001:db8::1"), None)));
    let found = answers(&mut stage);
    assert_eq!(found.iter().map(|frame| [frame[12], frame[13]]).collect::<Vec<_>>(), [[8, 6], [0x86, 0xdd]]);
    stage.send(0, priority(ipv4("10.1.2.3")));
    assert_eq!(stage.out(1).expect("a packet")[12..14], [8, 0]);
    let mut martian = ipv4("10.1.2.3");
    martian[26..30].copy_from_slice(&[198, 51, 100, 1]);
    let before = stage.snapshot().drops(Reason::MartianSource);
    stage.send(0, priority(seal(martian)));
    assert_eq!(stage.snapshot().drops(Reason::MartianSource) - before, 1);
}

#[test]
fn a_solicitation_from_beyond_the_link_is_not_answered() {
    // RFC 4861 §7.1.1: a router has taken a hop from it.
    let mut stage = Stage::new();
    answers(&mut stage);
    let mut forwarded = nd::solicitation(HOST, address("2001:db8::7"), address("2001:db8::1"), None);
    forwarded[21] = 254;
    stage.send(0, forwarded);
    assert!(answers(&mut stage).is_empty());
}

#[test]
fn the_loopback_is_reached_by_every_sub_interface_of_its_vrf() {
    let mut stage = Stage::with(|setup| {
        let mut sub = setup.ports[1].clone();
        sub.name = "p1.9".to_owned();
        sub.link.vlan = Some(9);
        sub.addresses.clear();
        setup.ports.push(sub);
        for port in &mut setup.ports {
            port.loopback = vec!["203.0.113.1".parse().unwrap()];
            port.exception_path = true;
        }
    });
    let mut packet = ipv4("203.0.113.1");
    packet[..6].copy_from_slice(&PORT[1].0);
    packet.splice(12..12, [0x81, 0, 0, 9]);
    stage.send(1, packet);
    let frame = stage.rings.kernel.pop().expect("for the kernel");
    assert_eq!((frame.port, frame.bytes()[12]), (fibcast_dataplane::pipeline::delivery::LOOPBACK, 8));
}
