//! ARP and ND: own addresses are answered for, next hops are asked for and used when they answer.

use crate::stage::*;
use fibcast_dataplane::packet::ethernet::{Frame, Mac};
use fibcast_dataplane::packet::{arp, ipv6, nd};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

const NOW: Duration = Duration::ZERO;
const HOLD: Duration = Duration::from_millis(100);

fn read_arp(frame: &[u8]) -> arp::ArpPacket {
    arp::ArpPacket::new_checked(Frame::new_checked(frame).unwrap().payload()).unwrap()
}

fn read_nd(frame: &[u8]) -> nd::Message {
    let bytes = Frame::new_checked(frame).unwrap().payload();
    nd::Message::new_checked(&ipv6::Ipv6Header::new_checked(bytes, bytes.len()).unwrap()).unwrap()
}

/// Takes what the router asked on port 1 at its start: one question for each gateway.
fn questions(stage: &mut Stage) -> (Vec<u8>, Vec<u8>) {
    stage.after(NOW);
    let mut asked: Vec<_> = std::iter::from_fn(|| stage.out(1)).collect();
    assert_eq!(asked.len(), 2, "{asked:?}");
    asked.sort_by_key(|frame| frame[12..14].to_vec());
    let nd = asked.pop().unwrap();
    (asked.pop().unwrap(), nd)
}

#[test]
fn an_arp_request_for_an_own_address_is_answered_and_others_are_not() {
    let mut stage = Stage::new();
    let host = Ipv4Addr::new(192, 0, 2, 7);
    stage.send(0, arp::ArpPacket::request(HOST, host, [192, 0, 2, 1].into(), None));
    stage.send(0, arp::ArpPacket::request(HOST, host, [192, 0, 2, 77].into(), None));
    stage.after(NOW);
    let answer = stage.out(0).expect("an answer");
    assert_eq!(answer[..6], HOST.0);
    let answer = read_arp(&answer);
    assert_eq!((answer.operation, answer.sender_mac, answer.target), (arp::Operation::Reply, PORT[0], host));
    assert_eq!(stage.out(0), None);
    let snapshot = stage.snapshot();
    assert_eq!((snapshot.host, snapshot.originated), (2, 1));
}

#[test]
fn a_solicitation_for_an_own_address_is_answered() {
    let mut stage = Stage::new();
    let (host, own): (Ipv6Addr, Ipv6Addr) = ("2001:db8::7".parse().unwrap(), "2001:db8::1".parse().unwrap());
    for target in [own, PORT[0].link_local()] {
        stage.send(0, nd::solicitation(HOST, host, target, None));
        stage.after(NOW);
        let answer = stage.out(0).expect("an answer");
        assert_eq!(answer[..6], HOST.0);
        let nd::Message::Advertisement { target: announced, target_mac, solicited, .. } = read_nd(&answer)
        else {
            panic!("expected an advertisement");
        };
        assert_eq!((announced, target_mac, solicited), (target, Some(PORT[0]), true));
    }
}

#[test]
fn a_gateway_is_asked_for_as_soon_as_a_route_uses_it_and_used_when_it_answers() {
    let mut stage = Stage::with_neighbors(Vec::new());
    let (question, _) = questions(&mut stage);
    let question = read_arp(&question);
    assert_eq!((question.target, question.sender), ([198, 51, 100, 9].into(), [198, 51, 100, 1].into()));
    stage.expect_held(ipv4("10.1.2.3"));
    stage.send(1, question.reply(GATEWAY));
    // The other gateway has not answered: the first publication waits for it, but not for long.
    stage.after(HOLD);
    assert_eq!(stage.expect_forward(ipv4("10.1.2.3"))[..6], GATEWAY.0);
}

#[test]
fn an_ipv6_gateway_is_asked_for_and_used_when_it_answers() {
    let mut stage = Stage::with_neighbors(Vec::new());
    let (_, question) = questions(&mut stage);
    let gateway: Ipv6Addr = "2001:db8:1::9".parse().unwrap();
    assert_eq!(question[..6], Mac::of_group(nd::solicited_node(gateway)).0);
    assert_eq!(read_nd(&question), nd::Message::Solicitation { target: gateway, source_mac: Some(PORT[1]) });
    stage.send(1, nd::advertisement(GATEWAY, gateway, "2001:db8:1::1".parse().unwrap(), PORT[1]));
    stage.after(HOLD);
    assert_eq!(stage.expect_forward(ipv6("2001:db8:f::1"))[..6], GATEWAY.0);
}

#[test]
fn a_working_gateway_is_asked_again_by_unicast_and_never_dropped_meanwhile() {
    let mut stage = Stage::with_neighbors(Vec::new());
    let (question, _) = questions(&mut stage);
    stage.send(1, read_arp(&question).reply(GATEWAY));
    stage.after(HOLD);
    let mut asked = 0;
    for _ in 0..300 {
        stage.after(Duration::from_secs(1));
        while let Some(frame) = stage.out(1) {
            if frame[12..14] == [8, 6] {
                asked += 1;
                assert_eq!(frame[..6], GATEWAY.0, "asked where it was");
                stage.send(1, read_arp(&frame).reply(GATEWAY));
            }
        }
        stage.expect_forward(ipv4("10.1.2.3"));
    }
    assert!((9..=10).contains(&asked), "about every 30 s, not {asked} times in 300 s");
}

#[test]
fn a_stranger_on_another_subnet_teaches_us_nothing() {
    let mut stage = Stage::with_neighbors(Vec::new());
    questions(&mut stage);
    let lie = arp::ArpPacket {
        operation: arp::Operation::Reply,
        sender_mac: HOST,
        sender: [198, 51, 100, 9].into(),
        target_mac: PORT[0],
        target: [192, 0, 2, 1].into(),
    };
    stage.send(0, lie.build(PORT[0]));
    stage.after(NOW);
    stage.expect_held(ipv4("10.1.2.3"));
    assert!(stage.control.neighbor_list().neighbors.iter().all(|neighbor| neighbor.mac.is_none()));
}
