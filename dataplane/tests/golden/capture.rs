//! Captures: each packet where it came in, went out or was dropped, and never at the cost of forwarding.

use crate::stage::*;
use fibcast_control::capture::Direction;
use fibcast_dataplane::capture::CaptureOptions;

fn wanted(filter: &str) -> CaptureOptions {
    CaptureOptions { port: None, directions: Vec::new(), filter: filter.to_owned() }
}

#[test]
fn a_packet_is_seen_coming_in_and_going_out_and_a_dropped_one_with_its_reason() {
    let mut stage = Stage::new();
    let id = stage.capture.start(&wanted("")).unwrap().id;
    stage.expect_forward(ipv4("10.1.2.3"));
    stage.send(0, ipv4("10.66.0.1"));
    let seen = stage.capture.read(id).unwrap();
    let seen: Vec<_> =
        seen.packets.iter().map(|packet| (packet.direction, packet.port, packet.reason.as_deref())).collect();
    assert_eq!(
        seen,
        [
            (Direction::In, 0, None),
            (Direction::Out, 1, None),
            (Direction::In, 0, None),
            (Direction::Drop, 0, Some("blackhole")),
        ]
    );
    stage.capture.stop(id).unwrap();
    stage.expect_forward(ipv4("10.1.2.3"));
    assert!(stage.capture.read(id).is_err());
}

#[test]
fn port_direction_and_filter_choose() {
    let mut stage = Stage::new();
    let wanted = CaptureOptions {
        port: Some("p1".to_owned()),
        directions: vec![Direction::Out],
        filter: "udp and dst net 10.0.0.0/8".to_owned(),
    };
    let id = stage.capture.start(&wanted).unwrap().id;
    stage.expect_forward(ipv4("10.1.2.3"));
    stage.expect_forward(ipv4("198.51.100.9"));
    stage.expect_forward(ipv6("2001:db8:f::1"));
    let seen = stage.capture.stop(id).unwrap().packets;
    assert_eq!(seen.len(), 1);
    // As it was given to the port: the gateway's MAC address in front, one hop less.
    assert!(seen[0].bytes.starts_with("020000000209"), "{seen:?}");
}

#[test]
fn what_nobody_takes_away_is_lost_to_the_capture_and_forwarded_all_the_same() {
    let mut stage = Stage::new();
    let id = stage.capture.start(&wanted("")).unwrap().id;
    for _ in 0..2_000 {
        stage.expect_forward(ipv4("10.1.2.3"));
    }
    let seen = stage.capture.stop(id).unwrap();
    assert_eq!(seen.lost, 4_000 - 2_048);
}

#[test]
fn one_capture_at_a_time_and_wrong_wishes_say_why() {
    let stage = Stage::new();
    let id = stage.capture.start(&wanted("")).unwrap().id;
    assert!(stage.capture.start(&wanted("")).unwrap_err().contains("another capture is running"));
    stage.capture.stop(id).unwrap();
    assert!(stage.capture.start(&wanted("nonsense")).is_err());
    let unknown = CaptureOptions { port: Some("p9".to_owned()), ..wanted("") };
    assert!(stage.capture.start(&unknown).unwrap_err().contains("expected one of p0, p1"));
}

#[test]
fn the_routers_own_packets_are_seen_too() {
    let mut stage = Stage::new();
    let id = stage.capture.start(&wanted("icmp")).unwrap().id;
    stage.send(0, ipv4("203.0.113.5"));
    let seen = stage.capture.stop(id).unwrap().packets;
    assert_eq!(seen.iter().map(|packet| packet.direction).collect::<Vec<_>>(), [Direction::Out]);
}
