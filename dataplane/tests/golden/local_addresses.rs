//! Packets for the router itself: pings are answered, the rest is counted as given to the host.

use crate::stage::*;
use fibcast_dataplane::packet::checksum;
use fibcast_dataplane::reason::Reason;
use std::net::Ipv6Addr;
use std::time::Duration;

fn ping(destination: &str) -> Vec<u8> {
    let mut packet = ipv4(destination);
    packet[23] = 1;
    packet[34..42].copy_from_slice(&[8, 0, 0, 0, 0, 1, 0, 9]);
    let field = checksum::checksum(&packet[34..]);
    packet[36..38].copy_from_slice(&field.to_be_bytes());
    seal(packet)
}

#[test]
fn a_ping_of_an_own_address_is_answered() {
    let mut stage = Stage::new();
    for own in ["192.0.2.1", "198.51.100.1"] {
        stage.send(0, ping(own));
        stage.after(Duration::ZERO);
        let answer = stage.out(0).expect("an answer");
        assert_eq!(answer[..12], [HOST.0, PORT[0].0].concat());
        assert_eq!((answer[34], answer[30..34].to_vec()), (0, vec![192, 0, 2, 7]));
        assert_eq!((checksum::sum(&answer[14..34]), checksum::sum(&answer[34..])), (0xffff, 0xffff));
    }
    let snapshot = stage.snapshot();
    assert_eq!((snapshot.host, snapshot.originated, snapshot.sent), (2, 2, 0));
}

#[test]
fn a_ping_over_ipv6_is_answered() {
    let mut stage = Stage::new();
    let mut packet = ipv6("2001:db8::1");
    packet[20] = 58;
    packet[54..].copy_from_slice(&[128, 0, 0, 0, 0, 1, 0, 9, 1, 2, 3, 4]);
    let (host, own): (Ipv6Addr, Ipv6Addr) = ("2001:db8::7".parse().unwrap(), "2001:db8::1".parse().unwrap());
    let field = checksum::pseudo_v6(host, own, 58, &packet[54..]);
    packet[56..58].copy_from_slice(&field.to_be_bytes());
    stage.send(0, packet);
    stage.after(Duration::ZERO);
    let answer = stage.out(0).expect("an answer");
    assert_eq!((answer[54], answer[58..66].to_vec()), (129, vec![0, 1, 0, 9, 1, 2, 3, 4]));
    assert_eq!(checksum::pseudo_v6(own, host, 58, &answer[54..66]), 0);
}

#[test]
fn a_flood_of_the_router_itself_is_bounded_and_counted() {
    let mut stage = Stage::new();
    for _ in 0..1_000 {
        stage.rx[0].put(ipv4("192.0.2.1"));
    }
    while stage.worker.turn() != 0 {}
    let snapshot = stage.snapshot();
    assert_eq!((snapshot.host, snapshot.drops(Reason::HostFull)), (512, 488));
}

#[test]
fn a_frame_too_large_for_the_control_thread_is_counted() {
    let mut packet = ipv4("192.0.2.1");
    packet.resize(2_033, 0);
    Stage::new().expect_drop(packet, Reason::HostTooBig);
}
