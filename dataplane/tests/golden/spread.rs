//! One queue, several workers: flows are shared by software, each keeps its order, and every packet stays accounted for.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::stage::*;
use fibcast_dataplane::io::memory::Memory;
use fibcast_dataplane::reason::Reason;
use fibcast_dataplane::worker::spread::{RING, SoftwareRss, Spread, flow};

fn numbered(source_port: u16, number: u16) -> Vec<u8> {
    let mut packet = ipv4("10.1.2.3");
    packet[34..36].copy_from_slice(&source_port.to_be_bytes());
    packet[18..20].copy_from_slice(&number.to_be_bytes());
    seal(packet)
}

/// Two workers that share what comes into the first one's queues, as long as the ports are marked.
fn pair_on(ports: &SoftwareRss) -> (Stage, Stage) {
    let mut spreads = Spread::<Memory>::among(2, ports).into_iter();
    let (mut first, mut second) = (Stage::new(), Stage::new());
    first.share(spreads.next());
    second.share(spreads.next());
    (first, second)
}

fn pair() -> (Stage, Stage) {
    pair_on(&[true, true].map(AtomicBool::new).into())
}

#[test]
fn software_rss_begins_and_ends_while_workers_run() {
    let ports: SoftwareRss = [false, false].map(AtomicBool::new).into();
    let (mut first, mut second) = pair_on(&ports);
    let mut round = |on: bool| {
        ports[0].store(on, Ordering::Relaxed);
        let before = second.snapshot().received;
        for source_port in 0..50 {
            first.rx[0].put(numbered(source_port, 0));
        }
        first.worker.turn();
        second.worker.turn();
        second.snapshot().received - before
    };
    assert_eq!(round(false), 0);
    assert!(round(true) > 10);
    assert_eq!(round(false), 0);
}

#[test]
fn both_workers_forward_and_flows_keep_their_order() {
    let (mut first, mut second) = pair();
    for number in 0..40 {
        for source_port in 0..25 {
            first.rx[0].put(numbered(source_port, number));
        }
        first.worker.turn();
        second.worker.turn();
    }
    let mut by_worker = Vec::new();
    for stage in [&mut first, &mut second] {
        let mut flows: BTreeMap<u16, Vec<u16>> = BTreeMap::new();
        while let Some(out) = stage.out(1) {
            let word = |at: usize| u16::from_be_bytes([out[at], out[at + 1]]);
            flows.entry(word(34)).or_default().push(word(18));
        }
        for numbers in flows.values() {
            assert!(numbers.is_sorted() && numbers.len() == 40, "{numbers:?}");
        }
        by_worker.push(flows.into_keys().collect::<BTreeSet<_>>());
    }
    assert!(by_worker[0].is_disjoint(&by_worker[1]));
    assert_eq!(by_worker[0].len() + by_worker[1].len(), 25);
    assert!(by_worker.iter().all(|flows| flows.len() > 5), "{by_worker:?}");
    let (one, two) = (first.snapshot(), second.snapshot());
    assert_eq!((one.received + two.received, one.sent + two.sent), (1_000, 1_000));
}

#[test]
fn a_worker_that_does_not_keep_up_costs_its_own_flows_and_they_are_counted() {
    let (mut first, mut second) = pair();
    for number in 0..400 {
        for source_port in 0..25 {
            first.rx[0].put(numbered(source_port, number));
        }
    }
    while first.worker.turn() != 0 {}
    let one = first.snapshot();
    let lost = one.drops(Reason::SpreadFull);
    assert!(lost > 0, "{one:?}");
    assert_eq!(one.received + RING as u64, 10_000);
    while second.worker.turn() != 0 {}
    let two = second.snapshot();
    assert_eq!((two.received, two.sent), (RING as u64, RING as u64));
    assert_eq!(one.received + two.received, 10_000);
}

#[test]
fn packets_of_several_ports_keep_theirs() {
    let (mut first, mut second) = pair();
    let mut back = ipv4("192.0.2.7");
    back[..6].copy_from_slice(&PORT[1].0);
    for flow in 0..50u8 {
        back[26..30].copy_from_slice(&[198, 51, 100, 100 + flow]);
        first.rx[0].put(numbered(u16::from(flow), 0));
        first.rx[1].put(seal(back.clone()));
    }
    first.worker.turn();
    second.worker.turn();
    let (one, two) = (first.snapshot(), second.snapshot());
    for port in 0..2 {
        assert_eq!(one.ports[port].rx_packets + two.ports[port].rx_packets, 50);
    }
    assert!(two.ports[0].rx_packets > 10 && two.ports[1].rx_packets > 10, "{two:?}");
    assert_eq!(one.sent + two.sent, 100);
}

#[test]
fn all_pieces_of_a_packet_take_one_way_and_a_tag_changes_nothing() {
    let mut first = numbered(7, 1);
    first[20] = 0x20;
    let mut later = numbered(999, 1);
    later[20..22].copy_from_slice(&[0, 9]);
    assert_eq!(flow(&first), flow(&later));
    let plain = numbered(7, 1);
    assert_ne!(flow(&plain), flow(&numbered(8, 1)));
    let mut tagged = plain.clone();
    tagged.splice(12..12, [0x81, 0, 0, 5]);
    assert_eq!(flow(&plain), flow(&tagged));
    assert_ne!(flow(&ipv6("2001:db8:f::1")), flow(&ipv6("2001:db8:f::2")));
    for length in 0..60 {
        let _ = flow(&plain[..length.min(plain.len())]);
    }
}
