//! Hosts on a connected subnet: asked for when a packet needs them, reached when they answer.

use crate::stage::*;
use fibcast_dataplane::packet::arp;
use fibcast_dataplane::packet::ethernet::{Frame, Mac};
use std::time::Duration;

#[test]
fn a_host_on_a_connected_subnet_is_asked_for_by_the_first_packet_and_reached_by_the_next() {
    let mut stage = Stage::new();
    stage.expect_held(ipv4("198.51.100.50"));
    stage.after(Duration::ZERO);
    let question = stage.out(1).expect("a question");
    let question = arp::ArpPacket::new_checked(Frame::new_checked(&question).unwrap().payload()).unwrap();
    assert_eq!(question.target.octets(), [198, 51, 100, 50]);
    let mac = Mac([2, 0, 0, 0, 3, 50]);
    stage.send(1, question.reply(mac));
    stage.after(Duration::ZERO);
    assert_eq!(stage.expect_forward(ipv4("198.51.100.50"))[..6], mac.0);
}

#[test]
fn a_host_that_asks_us_is_known_at_once() {
    let mut stage = Stage::new();
    let mac = Mac([2, 0, 0, 0, 3, 51]);
    stage.send(1, arp::ArpPacket::request(mac, [198, 51, 100, 51].into(), [198, 51, 100, 1].into(), None));
    stage.after(Duration::ZERO);
    assert!(stage.out(1).is_some(), "the answer");
    assert_eq!(stage.expect_forward(ipv4("198.51.100.51"))[..6], mac.0);
}

#[test]
fn a_host_that_does_not_answer_is_given_up_and_may_be_asked_again() {
    let mut stage = Stage::new();
    for _ in 0..2 {
        stage.expect_held(ipv4("198.51.100.50"));
        for _ in 0..5 {
            stage.after(Duration::from_secs(1));
        }
        assert_eq!(std::iter::from_fn(|| stage.out(1)).count(), 3);
        assert_eq!(stage.control.neighbor_list().neighbors.len(), 4, "the static ones");
    }
}
