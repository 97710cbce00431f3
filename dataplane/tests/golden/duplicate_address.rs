//! RFC 5227 §2.4, RFC 4862 §5.4: another station claims an address of the router. It is counted and logged, learned by nobody, and defended
//! by an answer where it was only a question.

use crate::stage::*;
use fibcast_dataplane::packet::ethernet::Mac;
use fibcast_dataplane::packet::{arp, checksum, nd};
use std::net::Ipv6Addr;
use std::time::Duration;

const OTHER: Mac = Mac([2, 0, 0, 0, 9, 9]);
const OWN: [u8; 4] = [192, 0, 2, 1];

fn conflicts(stage: &mut Stage) -> u64 {
    stage.after(Duration::ZERO);
    stage.control.forwarding().address_conflicts
}

/// A solicitation from no address, which therefore says nothing of a link-layer address (RFC 4861 §7.1.1).
fn probe(target: Ipv6Addr) -> Vec<u8> {
    let mut frame = nd::solicitation(OTHER, Ipv6Addr::UNSPECIFIED, target, None);
    frame.truncate(14 + 40 + 24);
    frame[18..20].copy_from_slice(&24u16.to_be_bytes());
    frame[56..58].fill(0);
    let group = Ipv6Addr::from(<[u8; 16]>::try_from(&frame[38..54]).unwrap());
    let field = checksum::pseudo_v6(Ipv6Addr::UNSPECIFIED, group, 58, &frame[54..]);
    frame[56..58].copy_from_slice(&field.to_be_bytes());
    frame
}

#[test]
fn a_gratuitous_claim_is_counted_and_not_believed() {
    let mut stage = Stage::new();
    let claim = arp::ArpPacket {
        operation: arp::Operation::Reply,
        sender_mac: OTHER,
        sender: OWN.into(),
        target_mac: Mac::BROADCAST,
        target: OWN.into(),
    };
    stage.send(0, claim.build(Mac::BROADCAST));
    assert_eq!(conflicts(&mut stage), 1);
    let known = stage.control.neighbor_list().neighbors;
    assert!(known.iter().all(|neighbor| neighbor.address != std::net::IpAddr::from(OWN)), "{known:?}");
}

#[test]
fn a_probe_of_an_own_address_is_answered_so_that_the_other_gives_way() {
    let mut stage = Stage::new();
    stage.send(0, arp::ArpPacket::request(OTHER, [0, 0, 0, 0].into(), OWN.into(), None));
    stage.after(Duration::ZERO);
    assert_eq!(stage.out(0).expect("an answer")[..6], OTHER.0);
    let own: Ipv6Addr = "2001:db8::1".parse().unwrap();
    stage.send(0, probe(own));
    stage.after(Duration::ZERO);
    assert_eq!(stage.out(0).expect("an advertisement to all")[..2], [0x33, 0x33]);
}

#[test]
fn an_advertisement_of_an_own_address_is_counted() {
    let mut stage = Stage::new();
    let own: Ipv6Addr = "2001:db8::1".parse().unwrap();
    stage.send(0, nd::advertisement(OTHER, own, Ipv6Addr::UNSPECIFIED, Mac([0x33, 0x33, 0, 0, 0, 1])));
    assert_eq!(conflicts(&mut stage), 1);
}
