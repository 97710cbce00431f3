//! RFC 5227 §2.4, RFC 4862 §5.4: another station claims an address of the router. It is counted and logged, learned by nobody, and defended
//! by an answer where it was only a question.

use crate::stage::*;
use fibcast_dataplane::packet::ethernet::Mac;
use fibcast_dataplane::packet::{arp, nd};
use std::net::Ipv6Addr;
use std::time::Duration;

const OTHER: Mac = Mac([2, 0, 0, 0, 9, 9]);
const OWN: [u8; 4] = [192, 0, 2, 1];

fn conflicts(stage: &mut Stage) -> u64 {
    stage.after(Duration::ZERO);
    stage.control.forwarding().address_conflicts
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
    // Defended at once, and not more often than every 10 s: two stations must not shout each other down.
    let announced =
        |stage: &mut Stage| std::iter::from_fn(|| stage.out(0)).filter(|f| f[12..14] == [8, 6]).count();
    assert_eq!(announced(&mut stage), 1);
    for _ in 0..9 {
        stage.send(0, claim.build(Mac::BROADCAST));
        stage.after(Duration::from_secs(1));
    }
    assert_eq!((announced(&mut stage), conflicts(&mut stage)), (0, 10));
    stage.after(Duration::from_secs(2));
    stage.send(0, claim.build(Mac::BROADCAST));
    assert_eq!((conflicts(&mut stage), announced(&mut stage)), (11, 1));
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
    stage.send(0, nd::probe(OTHER, own));
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
