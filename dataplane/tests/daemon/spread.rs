//! One queue and two workers: flows are shared by software, and nothing is unaccounted for.

use fibcast_dataplane::io::BURST;

use crate::common::{ROUTE, Router, frame, wait_until};

#[test]
fn a_worker_without_a_queue_gets_its_share_of_flows() {
    // p0 has one queue in and one out, of which both workers make use; the queues of p1 bring nothing.
    let frames: Vec<_> = (0..64).map(|flow| frame([10, 1, 2, 3], flow, 64)).collect();
    let router = Router::start(&frames, "0, 1", "spread = \"on\"", ROUTE);
    wait_until("both workers", || router.workers().workers.iter().all(|worker| worker.sent > 1_000));
    for _ in 0..50 {
        router.drops();
    }
    let list = router.workers().workers;
    // Asked for later: workers are looked at one after the other. The burst that was steered last may not be counted yet.
    let later = router.workers().workers;
    let handed: u64 = later.iter().flat_map(|worker| &worker.queues).map(|queue| queue.software_rss).sum();
    let polled = list.iter().position(|worker| worker.queues.iter().any(|queue| queue.port == "p0")).unwrap();
    let other = &list[1 - polled];
    assert!(handed + BURST as u64 >= other.received, "{handed} {list:?}");
    assert!(other.received > 1_000 && other.sent > 1_000, "{list:?}");
    let drops = router.drops();
    assert!(drops.drops.iter().all(|drop| drop.reason == "spread_full"), "{drops:?}");
}
