//! Packets wait for a neighbor's answer: a bounded number for each, the newest ones; then they are forwarded in order.

use crate::stage::*;
use fibcast_dataplane::packet::arp;
use fibcast_dataplane::packet::ethernet::{Frame, Mac};
use fibcast_dataplane::pipeline::hold::PER_NEXT_HOP;
use fibcast_dataplane::reason::Reason;
use std::time::Duration;

const MAC: Mac = Mac([2, 0, 0, 0, 3, 50]);

fn numbered(number: u8) -> Vec<u8> {
    let mut packet = ipv4("198.51.100.50");
    packet[19] = number;
    seal(packet)
}

fn answer(stage: &mut Stage) {
    stage.after(Duration::ZERO);
    let question = stage.out(1).expect("a question");
    let question = arp::ArpPacket::new_checked(Frame::new_checked(&question).unwrap().payload()).unwrap();
    stage.send(1, question.reply(MAC));
    stage.after(Duration::ZERO);
}

#[test]
fn the_first_packets_to_a_neighbor_arrive_when_it_answers() {
    let mut stage = Stage::new();
    (0..4).for_each(|number| stage.expect_held(numbered(number)));
    answer(&mut stage);
    for number in 0..4 {
        let frame = stage.out(1).expect("a packet that had waited");
        assert_eq!((&frame[..6], frame[19], frame[22]), (&MAC.0[..], number, 63));
    }
    let snapshot = stage.snapshot();
    assert_eq!((snapshot.sent, snapshot.held, snapshot.dropped()), (4, 0, 0));
}

#[test]
fn the_newest_are_kept_and_the_others_counted() {
    let mut stage = Stage::new();
    for number in 0..PER_NEXT_HOP as u8 + 5 {
        stage.send(0, numbered(number));
    }
    let snapshot = stage.snapshot();
    assert_eq!((snapshot.held as usize, snapshot.drops(Reason::HoldFull)), (PER_NEXT_HOP, 5));
    answer(&mut stage);
    assert_eq!(stage.out(1).unwrap()[19], 5, "the oldest that was kept");
    assert_eq!(stage.snapshot().sent as usize, PER_NEXT_HOP);
}

#[test]
fn what_waits_when_the_worker_stops_is_counted() {
    let mut stage = Stage::new();
    stage.expect_held(numbered(1));
    stage.worker.stop();
    let snapshot = stage.snapshot();
    assert_eq!((snapshot.held, snapshot.drops(Reason::Stopped)), (0, 1));
}

#[test]
fn packets_to_a_gateway_wait_as_those_to_a_host_do() {
    let mut stage = Stage::with_neighbors(Vec::new());
    stage.after(Duration::ZERO);
    stage.expect_held(ipv4("10.1.2.3"));
    let question = std::iter::from_fn(|| stage.out(1)).find(|frame| frame[12..14] == [8, 6]).unwrap();
    let question = arp::ArpPacket::new_checked(Frame::new_checked(&question).unwrap().payload()).unwrap();
    stage.send(1, question.reply(GATEWAY));
    stage.after(Duration::from_millis(100));
    let packet = std::iter::from_fn(|| stage.out(1)).find(|frame| frame[12..14] == [8, 0]);
    assert_eq!(packet.expect("the packet that had waited")[..6], GATEWAY.0);
    assert_eq!(stage.snapshot().held, 0);
}
