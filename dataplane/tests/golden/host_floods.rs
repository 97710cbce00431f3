//! A flood to the router itself on one port costs the other ports nothing.

use std::net::Ipv4Addr;
use std::time::Duration;

use crate::stage::*;
use fibcast_dataplane::packet::arp;
use fibcast_dataplane::reason::Reason;

const FLOOD: usize = 5_000;

fn request(own: [u8; 4], from: [u8; 4]) -> Vec<u8> {
    arp::ArpPacket::request(HOST, Ipv4Addr::from(from), own.into(), None)
}

/// A packet that arrives on port 1.
fn to_port_1(destination: &str) -> Vec<u8> {
    let mut frame = ipv4(destination);
    frame[..6].copy_from_slice(&PORT[1].0);
    frame
}

/// Packets for the router itself that did not fit, by port.
fn host_full(stage: &Stage) -> [u64; 2] {
    let snapshot = stage.snapshot();
    [0, 1].map(|port: usize| snapshot.ports[port].drops[Reason::HostFull as usize])
}

#[test]
fn arp_on_one_port_reaches_the_control_thread_during_a_flood_on_another() {
    let mut stage = Stage::new();
    stage.after(Duration::ZERO);
    while stage.out(1).is_some() {}
    for number in 0..FLOOD {
        stage.send(0, request([192, 0, 2, 1], [192, 0, 2, 2 + (number % 200) as u8]));
    }
    // The control thread has not come to it yet.
    stage.send(1, request([198, 51, 100, 1], [198, 51, 100, 77]));
    let [flooded, other] = host_full(&stage);
    assert!(flooded > 4_000 && other == 0, "{flooded} {other}");
}

#[test]
fn packets_to_the_tap_of_one_port_find_room_during_a_flood_of_pings_on_another() {
    let mut stage = Stage::with(|setup| setup.ports.iter_mut().for_each(|port| port.exception_path = true));
    for _ in 0..FLOOD {
        stage.send(0, ipv4("192.0.2.1"));
    }
    let waiting = stage.rings.kernel.len();
    stage.send(1, to_port_1("198.51.100.1"));
    assert_eq!(host_full(&stage)[1], 0);
    assert_eq!(stage.rings.kernel.len(), waiting + 1);
    assert!(host_full(&stage)[0] > 4_000);
    // Where the packets are for does not matter, but where they come from does.
    stage.send(1, to_port_1("192.0.2.1"));
    assert_eq!(stage.rings.kernel.len(), waiting + 2);
}

#[test]
fn a_scan_of_a_subnet_on_one_port_displaces_no_packet_that_waits_from_another() {
    let mut stage = Stage::new();
    stage.after(Duration::ZERO);
    stage.send(1, to_port_1("192.0.2.200"));
    let held = stage.snapshot().drops(Reason::HoldFull);
    for number in 0..FLOOD {
        stage.send(0, ipv4(&format!("198.51.100.{}", 2 + number % 250)));
    }
    let snapshot = stage.snapshot();
    assert_eq!((held, snapshot.ports[1].drops[Reason::HoldFull as usize]), (0, 0));
    assert!(snapshot.ports[0].drops[Reason::HoldFull as usize] > 0);
}
