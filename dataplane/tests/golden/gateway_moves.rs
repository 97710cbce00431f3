//! A gateway's change touches its adjacency and no trie, and traffic moves only to a gateway that can be sent to.

use crate::stage::*;
use fibcast_dataplane::packet::arp;
use fibcast_dataplane::packet::ethernet::{Frame, Mac};
use std::time::Duration;

const MOVED: Mac = Mac([2, 0, 0, 0, 4, 9]);

fn answer(stage: &mut Stage, mac: Mac) {
    let question = stage.out(1).expect("a question");
    let question = arp::ArpPacket::new_checked(Frame::new_checked(&question).unwrap().payload()).unwrap();
    stage.send(1, question.reply(mac));
    stage.after(Duration::ZERO);
}

#[test]
fn a_gateway_with_a_new_mac_address_flips_its_adjacency_without_a_batch() {
    let mut stage = Stage::new();
    stage.batch(vec![put(7, "198.51.100.20"), announce("172.16.0.0/12", 7)]);
    answer(&mut stage, HOST);
    assert_eq!(stage.expect_forward(ipv4("172.16.0.1"))[..6], HOST.0);
    let before = stage.control.forwarding();
    let gratuitous = arp::ArpPacket {
        operation: arp::Operation::Reply,
        sender_mac: MOVED,
        sender: [198, 51, 100, 20].into(),
        target_mac: Mac::BROADCAST,
        target: [198, 51, 100, 20].into(),
    };
    stage.send(1, gratuitous.build(Mac::BROADCAST));
    stage.after(Duration::ZERO);
    assert_eq!(stage.expect_forward(ipv4("172.16.0.1"))[..6], MOVED.0);
    let after = stage.control.forwarding();
    // One publication for one change, under the serial of the same batch.
    assert_eq!((after.serial, after.routes), (before.serial, before.routes));
    assert_eq!(after.published, before.published + 1);
}

#[test]
fn traffic_stays_on_the_old_gateway_until_the_new_one_answers() {
    let mut stage = Stage::new();
    stage.batch(vec![put(7, "198.51.100.9"), announce("172.16.0.0/12", 7)]);
    assert_eq!(stage.expect_forward(ipv4("172.16.0.1"))[..6], GATEWAY.0);
    stage.batch(vec![put(7, "198.51.100.20")]);
    stage.after(Duration::from_millis(50));
    assert_eq!(stage.tx[1].len(), 1, "a question");
    let question = stage.out(1).unwrap();
    assert_eq!(stage.expect_forward(ipv4("172.16.0.1"))[..6], GATEWAY.0, "still");
    let question = arp::ArpPacket::new_checked(Frame::new_checked(&question).unwrap().payload()).unwrap();
    stage.send(1, question.reply(MOVED));
    stage.after(Duration::ZERO);
    assert_eq!(stage.expect_forward(ipv4("172.16.0.1"))[..6], MOVED.0);
}

#[test]
fn a_gateway_that_never_answers_delays_a_batch_by_a_bounded_time_only() {
    let mut stage = Stage::new();
    let serial = stage.control.forwarding().serial;
    stage.batch(vec![put(7, "198.51.100.20"), announce("172.16.0.0/12", 7)]);
    assert_eq!(stage.control.forwarding().serial, serial, "waits for the first answer");
    stage.after(Duration::from_millis(100));
    assert_eq!(stage.control.forwarding().serial, serial + 1);
    assert_eq!(stage.control.forwarding().next_hops_unresolved, 1);
}

#[test]
fn a_gateway_on_no_connected_subnet_is_counted_and_delays_nothing() {
    let mut stage = Stage::new();
    stage.batch(vec![put(7, "203.0.113.1"), announce("172.16.0.0/12", 7)]);
    let forwarding = stage.control.forwarding();
    assert_eq!((forwarding.serial, forwarding.next_hops_unresolved), (1, 1));
    stage.expect_held(ipv4("172.16.0.1"));
}
