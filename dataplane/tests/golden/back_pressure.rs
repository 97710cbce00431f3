//! A device that takes no more: packets wait, in order and bounded; what does not fit is counted.

use crate::stage::*;
use fibcast_dataplane::io::BURST;
use fibcast_dataplane::reason::Reason;
use std::time::Duration;

fn fill(stage: &mut Stage, packets: usize) {
    for number in 0..packets {
        let [_, _, high, low] = (number as u32).to_be_bytes();
        stage.rx[0].put(ipv4(&format!("10.0.{high}.{low}")));
    }
    while stage.worker.turn() != 0 {}
}

#[test]
fn packets_wait_for_room_and_go_out_in_order() {
    let mut stage = Stage::new();
    stage.tx[1].limit(Some(10));
    fill(&mut stage, 110);
    let snapshot = stage.snapshot();
    assert_eq!((snapshot.sent, snapshot.held, snapshot.dropped()), (10, 100, 0));
    stage.tx[1].limit(None);
    stage.after(Duration::ZERO);
    let snapshot = stage.snapshot();
    assert_eq!((snapshot.sent, snapshot.held, snapshot.dropped()), (110, 0, 0));
    for number in 0..110 {
        assert_eq!(stage.out(1).unwrap()[33], number);
    }
}

#[test]
fn excess_is_counted_and_the_other_port_keeps_forwarding() {
    let mut stage = Stage::new();
    stage.tx[1].limit(Some(0));
    fill(&mut stage, 300);
    let snapshot = stage.snapshot();
    assert_eq!(snapshot.held as usize, BACKLOG + BURST);
    assert_eq!(snapshot.drops(Reason::TxFull) as usize, 300 - BACKLOG - BURST);
    stage.batch(vec![put(7, "192.0.2.77"), announce("172.16.0.0/12", 7)]);
    stage.after(Duration::from_millis(100));
    assert!(stage.out(0).is_some(), "a question, on a port that takes packets");
}

#[test]
fn what_waits_when_the_worker_stops_is_counted() {
    let mut stage = Stage::new();
    stage.tx[1].limit(Some(0));
    fill(&mut stage, 20);
    stage.worker.stop();
    let snapshot = stage.snapshot();
    assert_eq!((snapshot.drops(Reason::Stopped), snapshot.held), (20, 0));
}
