//! Hosts on a link are asked again while packets go to them, and forgotten when none do.

use crate::stage::*;
use fibcast_dataplane::packet::arp;
use fibcast_dataplane::packet::ethernet::{Frame, Mac};
use std::time::Duration;

const MAC: Mac = Mac([2, 0, 0, 0, 3, 50]);
const SECOND: Duration = Duration::from_secs(1);

fn question(stage: &mut Stage) -> Option<arp::ArpPacket> {
    let frame = std::iter::from_fn(|| stage.out(1)).find(|frame| frame[12..14] == [8, 6])?;
    arp::ArpPacket::new_checked(Frame::new_checked(&frame).unwrap().payload()).ok()
}

/// A host that answered once.
fn stage() -> Stage {
    let mut stage = Stage::new();
    stage.send(0, ipv4("198.51.100.50"));
    stage.after(Duration::ZERO);
    let asked = question(&mut stage).expect("a question");
    stage.send(1, asked.reply(MAC));
    stage.after(Duration::ZERO);
    while stage.out(1).is_some() {}
    stage
}

fn state(stage: &Stage) -> Option<String> {
    let found = stage.control.neighbor_list().neighbors;
    found.into_iter().find(|entry| entry.address.to_string() == "198.51.100.50").map(|entry| entry.state)
}

#[test]
fn a_host_that_packets_go_to_is_asked_by_unicast_and_stays() {
    let mut stage = stage();
    for _ in 0..3 {
        let mut asked = None;
        for _ in 0..36 {
            stage.send(0, ipv4("198.51.100.50"));
            stage.after(SECOND);
            asked = asked.or(question(&mut stage));
        }
        let asked = asked.expect("a question while it is used");
        assert_eq!(asked.target.octets(), [198, 51, 100, 50]);
        stage.send(1, asked.reply(MAC));
        stage.after(Duration::ZERO);
        assert_eq!(state(&stage).as_deref(), Some("reachable"));
    }
    assert_eq!(stage.snapshot().held, 0);
}

#[test]
fn a_host_that_no_packet_goes_to_is_not_asked_and_forgotten() {
    let mut stage = stage();
    // What went to it at first is good for one question.
    let mut asked = 0;
    for _ in 0..100 {
        stage.after(SECOND);
        if let Some(question) = question(&mut stage) {
            asked += 1;
            stage.send(1, question.reply(MAC));
            stage.after(Duration::ZERO);
        }
    }
    assert!(asked <= 1, "{asked} questions about a host that nobody sends to");
    assert_eq!(state(&stage).as_deref(), Some("stale"));
    assert!(question(&mut stage).is_none());
    // Still good for a packet, after which it is probed: within 5 s it is seen, and 5 s later (RFC 4861 §10, DELAY_FIRST_PROBE_TIME).
    assert_eq!(stage.expect_forward(ipv4("198.51.100.50"))[..6], MAC.0);
    (0..11).for_each(|_| stage.after(SECOND));
    assert!(question(&mut stage).is_some());
}

#[test]
fn a_gateway_of_a_route_is_asked_whether_or_not_packets_use_it() {
    let mut stage = Stage::new();
    stage.batch(vec![put(7, "198.51.100.20"), announce("172.16.0.0/12", 7)]);
    let asked = question(&mut stage).expect("a question");
    stage.send(1, asked.reply(MAC));
    for _ in 0..31 {
        stage.after(SECOND);
    }
    assert!(question(&mut stage).is_some());
}

#[test]
fn a_scan_of_a_large_subnet_leaves_room_for_hosts_that_are_there() {
    let mut stage = Stage::with(|setup| setup.ports[1].addresses.push("10.32.0.1/11".parse().unwrap()));
    for host in 2..6_000u32 {
        stage.send(0, ipv4(&std::net::Ipv4Addr::from(0x0a20_0000 + host).to_string()));
        if host % 100 == 0 {
            stage.after(Duration::from_millis(1));
            while stage.out(1).is_some() {}
        }
    }
    let count = stage.control.neighbor_list().neighbors.len();
    assert!(count <= 4 + UNPROVEN_LIMIT, "{count}");
    stage.send(0, ipv4("10.33.1.1"));
    let mut found = None;
    for _ in 0..60 {
        stage.after(Duration::from_millis(10));
        found = found.or(std::iter::from_fn(|| stage.out(1)).find_map(|frame| {
            let asked = arp::ArpPacket::new_checked(Frame::new_checked(&frame).ok()?.payload()).ok()?;
            (asked.target.octets() == [10, 33, 1, 1]).then_some(asked)
        }));
    }
    stage.send(1, found.expect("a question").reply(MAC));
    stage.after(Duration::ZERO);
    while stage.out(1).is_some() {}
    assert_eq!(stage.expect_forward(ipv4("10.33.1.1"))[..6], MAC.0);
}
