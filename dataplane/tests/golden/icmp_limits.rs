//! RFC 1812 §4.3.2.8, RFC 4443 §2.4 (f): each kind of ICMP message has limits of its own on each port, and what they suppress is counted by kind.

use crate::stage::*;
use fibcast_dataplane::packet::checksum;
use fibcast_dataplane::pipeline::icmp_limit::{Kind, Limits, Own};
use fibcast_dataplane::reason::Reason;
use std::time::Duration;

/// Five of each kind, and one per second.
fn stage() -> Stage {
    Stage::with(|setup| {
        setup.icmp =
            Limits { per_port: 1, total: 10, burst: 5, echo_reply: Own::default(), ..Limits::default() };
        setup.ports[1].mtu = 1_400;
    })
}

fn too_big() -> Vec<u8> {
    let mut packet = ipv4("10.1.2.3");
    packet.resize(14 + 1_401, 7);
    packet[16..18].copy_from_slice(&1_401u16.to_be_bytes());
    seal(packet)
}

fn expired() -> Vec<u8> {
    let mut packet = ipv4("10.1.2.3");
    packet[22] = 1;
    seal(packet)
}

fn broken_option() -> Vec<u8> {
    let mut packet = ipv4("10.1.2.3");
    packet.splice(34..34, [0x55, 9, 0, 0]);
    packet[14] = 0x46;
    packet[17] += 4;
    seal(packet)
}

fn ping() -> Vec<u8> {
    let mut packet = ipv4("192.0.2.1");
    packet[23] = 1;
    packet[34..42].copy_from_slice(&[8, 0, 0, 0, 0, 1, 0, 9]);
    let field = checksum::checksum(&packet[34..]);
    packet[36..38].copy_from_slice(&field.to_be_bytes());
    seal(packet)
}

#[test]
fn a_scan_starves_no_other_kind() {
    let mut stage = stage();
    let errors = [
        (ipv4("203.0.113.5"), Reason::NoRoute, Kind::Unreachable),
        (expired(), Reason::TtlExceeded, Kind::TimeExceeded),
        (broken_option(), Reason::BadOption, Kind::ParameterProblem),
        (too_big(), Reason::TooBig, Kind::TooBig),
    ];
    for (count, (packet, reason, kind)) in errors.into_iter().enumerate() {
        (0..5).for_each(|_| _ = stage.expect_error(packet.clone(), reason));
        (0..100).for_each(|_| stage.send(0, packet.clone()));
        let snapshot = stage.snapshot();
        assert_eq!(snapshot.icmp_limited_by[kind as usize], 100, "{}", kind.name());
        let kinds = count as u64 + 1;
        assert_eq!((snapshot.icmp_sent, snapshot.icmp_limited), (5 * kinds, 100 * kinds));
    }
}

#[test]
fn the_control_thread_keeps_the_configured_limits_too() {
    let mut stage = stage();
    for (packet, kind, message) in
        [(ipv4("192.0.2.1"), Kind::PortUnreachable, 3), (ping(), Kind::EchoReply, 0)]
    {
        (0..20).for_each(|_| stage.send(0, packet.clone()));
        stage.after(Duration::ZERO);
        let out: Vec<_> = std::iter::from_fn(|| stage.out(0)).collect();
        assert!(out.len() == 5 && out.iter().all(|frame| frame[34] == message), "{}", kind.name());
        assert_eq!(stage.control.icmp_limited()[kind as usize], 15);
    }
    assert_eq!(stage.control.icmp_limited().iter().sum::<u64>(), 30);
    stage.after(Duration::from_secs(1));
    (0..20).for_each(|_| stage.send(0, ping()));
    stage.after(Duration::ZERO);
    assert_eq!(std::iter::from_fn(|| stage.out(0)).count(), 1, "one per second");
}

#[test]
fn limits_of_one_kind_are_configured_by_its_name() {
    let mut stage = Stage::with(|setup| {
        let own = Own { burst: Some(2), ..Own::default() };
        setup.icmp = Limits { burst: 4, time_exceeded: own, port_unreachable: own, ..Limits::default() };
    });
    (0..10).for_each(|_| stage.send(0, expired()));
    (0..10).for_each(|_| stage.send(0, ipv4("203.0.113.5")));
    assert_eq!(stage.snapshot().icmp_sent, 2 + 4);
    while stage.out(0).is_some() {}
    (0..10).for_each(|_| stage.send(0, ipv4("192.0.2.1")));
    stage.after(Duration::ZERO);
    assert_eq!(std::iter::from_fn(|| stage.out(0)).count(), 2);
}

#[test]
fn each_port_has_buckets_of_its_own() {
    let mut stage = stage();
    (0..20).for_each(|_| stage.send(0, expired()));
    let mut packet = expired();
    packet[..6].copy_from_slice(&PORT[1].0);
    packet[26..30].copy_from_slice(&[198, 51, 100, 9]);
    let packet = seal(packet);
    (0..20).for_each(|_| stage.send(1, packet.clone()));
    // The sum of all ports has a burst of five too, which is used up: nothing for the second port until it refills.
    assert_eq!(stage.snapshot().icmp_sent, 5);
    stage.after(Duration::from_secs(1));
    stage.send(1, packet);
    assert_eq!(stage.snapshot().icmp_sent, 6);
}

#[test]
fn pings_of_monitoring_are_answered_by_default() {
    let mut stage = Stage::new();
    (0..200).for_each(|_| stage.send(0, ping()));
    stage.after(Duration::ZERO);
    for _ in 0..20 {
        stage.after(Duration::ZERO);
    }
    assert_eq!(std::iter::from_fn(|| stage.out(0)).count(), 200);
}
