//! received = sent + dropped + host + held in whatever an operator is shown, looked at hundreds of times under load.

use crate::common::{ROUTE, Router, frame, wait_until};
use fibcast_control::{Answer, DataplaneRequest};

#[test]
fn the_sums_hold_in_every_answer_under_load() {
    let blackhole = "[[static_route]]\nprefix = \"10.66.0.0/16\"\nblackhole = true\n";
    let mut frames = Vec::new();
    for number in 0..32u8 {
        // Sent on, dropped in silence, dropped with a word to the source, too old, for a host that is not there, for the router itself.
        frames.push(frame([10, 1, 2, number], number.into(), 64));
        frames.push(frame([10, 66, 0, number], number.into(), 64));
        frames.push(frame([203, 0, 113, number], number.into(), 64));
        frames.push(frame([10, 1, 2, number], number.into(), 1));
        frames.push(frame([198, 51, 100, 100 + number], number.into(), 64));
        frames.push(frame([192, 0, 2, 1], number.into(), 64));
    }
    let router = Router::start(&frames, "0", "", &format!("{ROUTE}{blackhole}"));
    let (mut last, mut held) = (0, 0);
    for _ in 0..300 {
        let drops = router.drops();
        assert!(drops.received >= last);
        held = held.max(drops.held);
        last = drops.received;
    }
    let drops = router.drops();
    for reason in ["blackhole", "no_route", "ttl_exceeded", "hold_full"] {
        assert!(drops.drops.iter().any(|drop| drop.reason == reason), "{reason}: {drops:?}");
    }
    assert!(drops.sent > 10_000 && held > 0, "{drops:?}");
    let worker = router.workers().workers.remove(0);
    assert!(worker.busy_percent > 10.0, "{worker:?}");
    // Every port's own figures are of the same packets.
    let Ok(Answer::Ports(ports)) = router.ask(DataplaneRequest::Ports) else { panic!("no answer") };
    assert!(ports.ports[0].rx_packets >= drops.received && ports.ports[1].tx_packets >= drops.sent);
    let queue = &router.workers().workers[0].queues[0];
    assert!(queue.port == "p0" && queue.packets >= drops.received && queue.full_bursts > 0, "{queue:?}");
    wait_until("CPU use", || router.workers().workers[0].cpu_percent > 10.0);
}
