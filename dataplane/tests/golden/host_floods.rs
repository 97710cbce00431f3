//! A flood to the router itself on one port costs the other ports nothing.

use std::net::Ipv4Addr;
use std::time::Duration;

use crate::echo::ping;
use crate::stage::*;
use fibcast_dataplane::packet::{arp, nd};
use fibcast_dataplane::pipeline::host_frame::HostFrame;
use fibcast_dataplane::pipeline::icmp_limit::Own;
use fibcast_dataplane::pipeline::rings::share_of_programs;
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

/// A burst of frames on port 0, more than the control thread may have from it, then some on port 1, before the control thread comes to it;
/// returns what came out of port 1.
fn flooded(stage: &mut Stage, flood: impl Fn(usize) -> Vec<u8>, wanted: &[Vec<u8>]) -> Vec<Vec<u8>> {
    for number in 0..FLOOD {
        stage.rx[0].put(flood(number));
    }
    while stage.worker.turn() != 0 {}
    for frame in wanted {
        stage.send(1, frame.clone());
    }
    // A worker that is busy with traffic takes none of the answers before all are there.
    stage.control.turn(stage.now);
    while stage.worker.turn() != 0 {}
    while stage.out(0).is_some() {}
    std::iter::from_fn(|| stage.out(1)).collect()
}

#[test]
fn answers_on_one_port_all_arrive_during_a_flood_on_another() {
    let mut stage = Stage::with(|setup| {
        let many = Some(1_000_000);
        setup.icmp.echo_reply = Own { per_port: many, total: many, burst: many };
    });
    stage.after(Duration::ZERO);
    while stage.out(1).is_some() {}
    let own: std::net::Ipv6Addr = "2001:db8::1".parse().unwrap();
    let stations = |number: usize| [192, 0, 2, 2 + (number % 200) as u8];
    type Flood<'f> = &'f dyn Fn(usize) -> Vec<u8>;
    let floods: [(&str, Flood<'_>); 3] = [
        ("ARP", &|number| request([192, 0, 2, 1], stations(number))),
        ("ND", &|number| {
            let from = format!("2001:db8::{:x}", 2 + number % 200).parse().unwrap();
            nd::solicitation(HOST, from, own, None)
        }),
        ("pings", &|_| ping(&[], 0)),
    ];
    for (what, flood) in floods {
        for round in 0..3 {
            let wanted: Vec<Vec<u8>> =
                (0..60).map(|number| request([198, 51, 100, 1], [198, 51, 100, 20 + number])).collect();
            let answers = flooded(&mut stage, flood, &wanted);
            let answers = answers.iter().filter(|frame| frame[12..14] == [8, 6] && frame[21] == 2).count();
            assert_eq!(answers, wanted.len(), "{what}, round {round}");
        }
        assert!(stage.snapshot().originate_failed > 0, "{what}: the flood did not fill its share");
    }
}

#[test]
fn what_programs_on_the_host_send_by_a_port_does_not_cost_the_port_its_arp() {
    let mut stage = Stage::new();
    stage.after(Duration::ZERO);
    stage.send(0, request([192, 0, 2, 1], [192, 0, 2, 2]));
    for _ in 0..FLOOD {
        let mut frame = HostFrame::new(0, &ipv4("10.1.2.3")).unwrap();
        frame.from = share_of_programs(0);
        let _ = stage.rings.originate.push(frame);
    }
    assert_eq!(stage.rings.originate.len(), 256);
    stage.control.turn(stage.now);
    while stage.worker.turn() != 0 {}
    let answered = std::iter::from_fn(|| stage.out(0)).filter(|frame| frame[12..14] == [8, 6]).count();
    assert_eq!(answered, 1);
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
