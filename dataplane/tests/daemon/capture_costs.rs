//! A capture that nobody takes away, for instance because of a stalled disk: it loses its own packets, but no forwarded ones.

use std::time::Duration;

use crate::common::{ROUTE, Router, frame};
use fibcast_control::capture::{Captured, Direction};
use fibcast_control::client::Connection;
use fibcast_control::{Answer, DataplaneRequest};
use fibcast_testbed::wait::eventually;

fn captured(router: &Router, request: DataplaneRequest) -> Captured {
    match router.ask(request) {
        Ok(Answer::Captured(captured)) => captured,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_capture_that_is_not_taken_away_costs_captured_packets_only() {
    let frames: Vec<_> = (0..64).map(|flow| frame([10, 1, 2, 3], flow, 64)).collect();
    let router = Router::start(&frames, "0", "", ROUTE);
    let start = DataplaneRequest::CaptureStart {
        port: None,
        directions: vec![Direction::In],
        filter: "udp".into(),
        until_closed: false,
    };
    let id = captured(&router, start).id;
    let before = router.drops();
    std::thread::sleep(Duration::from_secs(1));
    let after = router.drops();
    let first = captured(&router, DataplaneRequest::CaptureRead { id });
    assert!(
        !first.packets.is_empty() && first.lost > 0,
        "{} packets, {} lost",
        first.packets.len(),
        first.lost
    );
    assert_eq!(after.dropped, before.dropped);
    assert!(after.sent - before.sent > 1_000, "{before:?} {after:?}");
    captured(&router, DataplaneRequest::CaptureStop { id });
}

#[test]
fn a_dropped_packet_is_captured_with_its_reason() {
    let frames = [frame([10, 1, 2, 3], 1, 64), frame([203, 0, 113, 1], 2, 64)];
    let router = Router::start(&frames, "0", "", ROUTE);
    let start = DataplaneRequest::CaptureStart {
        port: Some("p0".into()),
        directions: vec![Direction::Drop],
        filter: "dst host 203.0.113.1".into(),
        until_closed: false,
    };
    let id = captured(&router, start).id;
    std::thread::sleep(Duration::from_millis(100));
    let found = captured(&router, DataplaneRequest::CaptureStop { id });
    assert!(!found.packets.is_empty());
    assert!(found.packets.iter().all(|packet| packet.reason.as_deref() == Some("no_route")));
}

#[test]
fn a_capture_ends_at_once_with_the_command_that_reads_it() {
    let router = Router::start(&[frame([10, 1, 2, 3], 1, 64)], "0", "", ROUTE);
    let start = |until_closed| {
        let (port, directions, filter) = (None, Vec::new(), "udp or tcp".to_owned());
        DataplaneRequest::CaptureStart { port, directions, filter, until_closed }
    };
    let socket = router.socket();
    let mut connection = Connection::open(&socket, Duration::from_secs(5)).unwrap();
    let Ok(Answer::Captured(begun)) = connection.ask(&start(true).into()) else { panic!("no capture") };
    let error = router.ask(start(false)).unwrap_err();
    assert!(error.contains("another capture is running"), "{error}");
    drop(connection);
    // Long before a capture that is not read gives way to another one.
    eventually("the end of the capture", 3, || router.ask(start(false)).is_ok());
    let error = router.ask(DataplaneRequest::CaptureRead { id: begun.id }).unwrap_err();
    assert!(error.contains("this capture is over"), "{error}");
}
