//! Tables and updates from generated files.

use std::time::Instant;

use super::*;
use crate::source::Kind;
use crate::source::testing::{events, net_state};
use fibcast_mrt::Writer;

fn ip(s: &str) -> IpAddr {
    s.parse().unwrap()
}

fn net(s: &str) -> IpNet {
    s.parse().unwrap()
}

fn file(bytes: Vec<u8>) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    file
}

fn table_file() -> tempfile::NamedTempFile {
    let mut w = Writer::new(Vec::new());
    w.peer_index(1, "", ip("192.0.2.1")).unwrap();
    w.rib(1, net("10.0.0.0/8"), ip("198.18.1.1")).unwrap();
    w.rib(1, net("2001:db8::/32"), ip("2001:2::101")).unwrap();
    file(w.into_inner())
}

/// 10.0.0.0/8 goes to 198.19.1.1 at 0 ms, 198.19.1.2 at 100 ms, and away at 300 ms.
fn updates_file() -> tempfile::NamedTempFile {
    let mut w = Writer::new(Vec::new());
    let (peer, prefix) = (ip("192.0.2.1"), [net("10.0.0.0/8")]);
    w.announce(5_000_000, peer, ip("198.19.1.1"), &prefix).unwrap();
    w.announce(5_100_000, peer, ip("198.19.1.2"), &prefix).unwrap();
    w.withdraw(5_300_000, peer, &prefix).unwrap();
    file(w.into_inner())
}

fn options(table: &tempfile::NamedTempFile) -> MrtOptions {
    let path = table.path().to_owned();
    MrtOptions { path, updates: None, pace: Pace::Recorded, start_at_us: None, peer: None, vrf: 0 }
}

#[test]
fn a_table_is_handed_over_and_ends() {
    let table = table_file();
    let received = events(Kind::Mrt(options(&table)));
    assert!(matches!(received[..], [Event::Batch(_), Event::EndOfTable, Event::Finished]));
    let state = net_state(&received);
    assert!(state[0].starts_with("10.0.0.0/8") && state[0].contains("198.18.1.1"), "{state:?}");
    assert_eq!(state.len(), 2);
}

#[test]
fn updates_without_a_start_begin_when_the_table_was_handed_over() {
    let (table, updates) = (table_file(), updates_file());
    let options = MrtOptions { updates: Some(updates.path().to_owned()), ..options(&table) };
    let begin = Instant::now();
    let received = events(Kind::Mrt(options));
    assert!(begin.elapsed() >= Duration::from_millis(300));
    // The update at the instant of the start is part of the present already.
    let kinds: Vec<&str> = received
        .iter()
        .map(|e| match e {
            Event::Batch(_) => "batch",
            Event::EndOfTable => "end",
            Event::Quiet => "quiet",
            Event::Failed(_) => "failed",
            Event::Finished => "finished",
            Event::Report(_) => "report",
        })
        .collect();
    assert_eq!(kinds, ["batch", "batch", "end", "batch", "batch", "finished"]);
    assert_eq!(net_state(&received).len(), 1);
}

#[test]
fn a_source_that_starts_late_hands_over_the_present_before_the_end_of_the_table() {
    let (table, updates) = (table_file(), updates_file());
    let start_at_us = Some(now_us() - 10_000_000);
    let options = MrtOptions { updates: Some(updates.path().to_owned()), start_at_us, ..options(&table) };
    let received = events(Kind::Mrt(options));
    let [Event::Batch(_), Event::Batch(past), Event::EndOfTable, Event::Finished] = &received[..] else {
        panic!("{received:?}");
    };
    assert_eq!(past.len(), 1, "three updates of one prefix are one change by now");
    assert_eq!(net_state(&received).len(), 1);
}

#[test]
fn updates_in_the_future_come_after_the_end_of_the_table() {
    let (table, updates) = (table_file(), updates_file());
    let begin = now_us() + 200_000;
    let pace = Pace::PerSecond(1000.0);
    let start_at_us = Some(begin);
    let options =
        MrtOptions { updates: Some(updates.path().to_owned()), start_at_us, pace, ..options(&table) };
    let received = events(Kind::Mrt(options));
    assert!(now_us() >= begin + 2_000);
    assert!(matches!(&received[..2], [Event::Batch(_), Event::EndOfTable]));
    assert_eq!(net_state(&received).len(), 1);
}

#[test]
fn only_the_chosen_peers_routes_count() {
    let (table, updates) = (table_file(), updates_file());
    let start_at_us = Some(0);
    let peer = Some(ip("192.0.2.9"));
    let options =
        MrtOptions { updates: Some(updates.path().to_owned()), start_at_us, peer, ..options(&table) };
    assert!(net_state(&events(Kind::Mrt(options))).is_empty());
}

#[test]
fn a_truncated_table_never_reaches_its_end() {
    let table = table_file();
    let bytes = std::fs::read(table.path()).unwrap();
    std::fs::write(table.path(), &bytes[..bytes.len() - 2]).unwrap();
    let received = events(Kind::Mrt(options(&table)));
    assert!(
        matches!(received.last(), Some(Event::Failed(reason)) if reason.contains("truncated")),
        "{received:?}"
    );
    assert!(!received.iter().any(|e| matches!(e, Event::EndOfTable)));
}

#[test]
fn a_damaged_updates_file_fails_before_the_table_is_handed_over() {
    let (table, updates) = (table_file(), updates_file());
    let bytes = std::fs::read(updates.path()).unwrap();
    std::fs::write(updates.path(), &bytes[..bytes.len() - 2]).unwrap();
    let options = MrtOptions { updates: Some(updates.path().to_owned()), ..options(&table) };
    let received = events(Kind::Mrt(options));
    assert!(matches!(&received[..], [Event::Failed(reason)] if reason.contains("truncated")), "{received:?}");
}

#[test]
fn a_source_that_waits_stops_when_asked() {
    let (table, updates) = (table_file(), updates_file());
    let start_at_us = Some(now_us() + 3_600_000_000);
    let options = MrtOptions { updates: Some(updates.path().to_owned()), start_at_us, ..options(&table) };
    let (to, from) = crossbeam_channel::bounded(8);
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let outlet = Outlet::new(0, to, Arc::new(|| ()), stop.clone());
    let thread = crate::source::start(Kind::Mrt(options), outlet).unwrap();
    assert_eq!(from.iter().take(2).count(), 2);
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    thread.join().unwrap();
}
