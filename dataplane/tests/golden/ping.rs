//! Pings that an operator asks for: out of the port that the table chooses, and back as an answer with its time.

use std::time::Duration;

use crate::stage::*;
use fibcast_control::probe::ProbeRequest;
use fibcast_dataplane::control::probes::Sent;
use fibcast_dataplane::packet::ethernet::{self, Frame};
use fibcast_dataplane::packet::probe::Outcome;
use fibcast_dataplane::packet::{echo, icmp_error, ipv4, ipv6};

fn wanted(address: &str) -> ProbeRequest {
    let address = address.parse().unwrap();
    ProbeRequest { address, source: None, vrf: 0, size: 56, ttl: 64, timeout_ms: 1_000 }
}

fn ask(stage: &mut Stage, wanted: &ProbeRequest) -> Result<Sent, String> {
    stage.control.probe(wanted, 1, stage.now)
}

/// The request, out of this port.
fn out(stage: &mut Stage, port: usize) -> Vec<u8> {
    stage.worker.turn();
    stage.out(port).expect("a request")
}

/// What the destination replies.
fn reply(request: &[u8]) -> Vec<u8> {
    let frame = Frame::new_checked(request).unwrap();
    let bytes = frame.payload();
    if frame.ethertype() == ethernet::IPV4 {
        let header = ipv4::Ipv4Header::new_checked(bytes, bytes.len()).unwrap();
        return echo::reply_v4(&frame, &header, GATEWAY, 0).unwrap();
    }
    let header = ipv6::Ipv6Header::new_checked(bytes, bytes.len()).unwrap();
    echo::reply_v6(&frame, &header, GATEWAY, header.destination()).unwrap()
}

#[test]
fn a_reply_is_the_answer_with_the_time_that_it_took() {
    for (address, source) in [("10.1.2.3", "198.51.100.1"), ("2001:db8:f::1", "2001:db8:1::1")] {
        let mut stage = Stage::new();
        let sent = ask(&mut stage, &wanted(address)).unwrap();
        assert_eq!((sent.source, sent.port.as_deref()), (source.parse().unwrap(), Some("p1")));
        let request = out(&mut stage, 1);
        assert_eq!((&request[..6], &request[6..12]), (&GATEWAY.0[..], &PORT[1].0[..]));
        assert!(sent.heard.is_empty());
        stage.send(1, reply(&request));
        stage.after(Duration::from_millis(3));
        let (answer, time) = sent.heard.try_recv().unwrap();
        assert_eq!((answer.outcome, time), (Outcome::Reply, Duration::from_millis(3)));
        assert_eq!((answer.from, answer.ttl, answer.bytes), (address.parse().unwrap(), 64, 64));
        // A second one is of no interest.
        stage.send(1, reply(&request));
        stage.after(Duration::ZERO);
        assert!(sent.heard.try_recv().is_err());
    }
}

#[test]
fn a_router_on_the_way_is_named_by_its_error() {
    let mut stage = Stage::new();
    let sent = ask(&mut stage, &ProbeRequest { ttl: 1, ..wanted("10.1.2.3") }).unwrap();
    let request = out(&mut stage, 1);
    let bytes = &request[ethernet::HEADER..];
    let header = ipv4::Ipv4Header::new_checked(bytes, bytes.len()).unwrap();
    assert_eq!(header.ttl(), 1);
    let mut error = Vec::new();
    let exceeded = icmp_error::Error { kind: 11, code: 0, argument: 0 };
    icmp_error::build_v4(&mut error, exceeded, [203, 0, 113, 9].into(), &header, bytes);
    let frame = ethernet::build(PORT[1], GATEWAY, ethernet::IPV4, &error[ethernet::HEADER..]);
    stage.send(1, frame);
    stage.after(Duration::from_millis(1));
    let (answer, _) = sent.heard.try_recv().unwrap();
    assert_eq!((answer.from, answer.outcome), ("203.0.113.9".parse().unwrap(), Outcome::TimeExceeded));
}

#[test]
fn replies_of_others_and_to_others_are_no_answers() {
    let mut stage = Stage::new();
    let sent = ask(&mut stage, &wanted("10.1.2.3")).unwrap();
    let request = out(&mut stage, 1);
    // The identifier is another program's.
    let mut other = reply(&request);
    other[ethernet::HEADER + 24] ^= 1;
    other[ethernet::HEADER + 22] ^= 1;
    stage.send(1, other);
    // The source is not who was asked.
    let mut other = reply(&request);
    other[ethernet::HEADER + 15] = 4;
    stage.send(1, seal(other));
    stage.after(Duration::ZERO);
    assert!(sent.heard.try_recv().is_err());
    stage.send(1, reply(&request));
    stage.after(Duration::ZERO);
    assert!(sent.heard.try_recv().is_ok());
}

#[test]
fn what_cannot_be_sent_says_why() {
    let mut stage = Stage::new();
    let mut refused = |change: ProbeRequest| ask(&mut stage, &change).unwrap_err();
    assert!(refused(wanted("10.66.0.1")).contains("10.66.0.1 is not sent to: blackhole"));
    assert!(refused(wanted("172.16.0.1")).contains("no_route"));
    assert!(refused(wanted("192.0.2.1")).contains("is an address of this router itself"));
    let vrf = ProbeRequest { vrf: 7, ..wanted("10.1.2.3") };
    assert_eq!(refused(vrf), "vrf: expected that of a port, found 7");
    let foreign = ProbeRequest { source: "192.0.2.9".parse().ok(), ..wanted("10.1.2.3") };
    assert!(refused(foreign).contains("source: expected an IPv4 address of this router"));
    let family = ProbeRequest { source: "2001:db8::1".parse().ok(), ..wanted("10.1.2.3") };
    assert!(refused(family).contains("expected an IPv4 address"));
    let large = ProbeRequest { size: 8_900, ..wanted("10.1.2.3") };
    assert!(refused(large).contains("size: expected one that fits"));
    let own = ProbeRequest { source: "192.0.2.1".parse().ok(), ..wanted("10.1.2.3") };
    assert_eq!(ask(&mut stage, &own).unwrap().source, "192.0.2.1".parse::<std::net::IpAddr>().unwrap());
}
