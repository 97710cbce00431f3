//! Tables and updates from generated files.

use std::sync::Arc;
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
    MrtOptions {
        path,
        updates: None,
        pace: Pace::Recorded,
        start_at_us: None,
        peer: None,
        bad_records: None,
        allow_empty: false,
        vrf: 0,
    }
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
            Event::Restarted(_) => "restarted",
            Event::Refreshed { .. } => "refreshed",
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

/// A table of messages: two peers with a prefix each and one in common.
fn two_peers() -> tempfile::NamedTempFile {
    let mut w = Writer::new(Vec::new());
    w.announce(1, ip("192.0.2.2"), ip("198.18.0.2"), &[net("10.0.0.0/8"), net("10.2.0.0/16")]).unwrap();
    w.announce(2, ip("192.0.2.1"), ip("198.18.0.1"), &[net("10.0.0.0/8"), net("10.1.0.0/16")]).unwrap();
    file(w.into_inner())
}

/// The end of a session: BGP4MP_STATE_CHANGE_AS4 of 192.0.2.`peer`, from Established to Idle.
fn session_end(peer: u8) -> Vec<u8> {
    let mut record = vec![0, 0, 0, 9, 0, 16, 0, 5, 0, 0, 0, 24, 0, 0, 252, 0, 0, 0, 252, 1, 0, 0, 0, 1];
    record.extend([192, 0, 2, peer, 192, 0, 2, 9, 0, 6, 0, 1]);
    record
}

fn after(table: &tempfile::NamedTempFile, updates: Vec<u8>) -> Vec<String> {
    let updates = file(updates);
    let options =
        MrtOptions { updates: Some(updates.path().to_owned()), start_at_us: Some(0), ..options(table) };
    net_state(&events(Kind::Mrt(options)))
}

fn hops(state: &[String]) -> Vec<(&str, &str)> {
    let hop = |line: &str| ["198.18.0.1", "198.18.0.2"].into_iter().find(|hop| line.contains(hop));
    state.iter().map(|line| (line.split(' ').next().unwrap(), hop(line).unwrap_or("-"))).collect()
}

#[test]
fn peers_do_not_overwrite_each_other() {
    let both = [("10.0.0.0/8", "198.18.0.1"), ("10.1.0.0/16", "198.18.0.1"), ("10.2.0.0/16", "198.18.0.2")];
    let table = two_peers();
    assert_eq!(hops(&net_state(&events(Kind::Mrt(options(&table))))), both, "the lowest peer address");

    let mut w = Writer::new(Vec::new());
    w.withdraw(3, ip("192.0.2.2"), &[net("10.0.0.0/8")]).unwrap();
    assert_eq!(hops(&after(&table, w.into_inner())), both, "the withdrawn route was not used");

    let mut w = Writer::new(Vec::new());
    w.withdraw(3, ip("192.0.2.1"), &[net("10.0.0.0/8")]).unwrap();
    let state = after(&table, w.into_inner());
    assert_eq!(hops(&state)[0], ("10.0.0.0/8", "198.18.0.2"), "the other peer has it still");

    let state = after(&table, session_end(1));
    assert_eq!(hops(&state), [("10.0.0.0/8", "198.18.0.2"), ("10.2.0.0/16", "198.18.0.2")]);
}

#[test]
fn only_the_chosen_peers_routes_count() {
    let table = two_peers();
    let peer = Some(ip("192.0.2.2"));
    let state = net_state(&events(Kind::Mrt(MrtOptions { peer, ..options(&table) })));
    assert_eq!(hops(&state), [("10.0.0.0/8", "198.18.0.2"), ("10.2.0.0/16", "198.18.0.2")]);
}

/// Why the source failed, without the file's name.
fn failure(options: MrtOptions) -> String {
    let file = options.path.display().to_string();
    let reason_of_check = read(&options).err().unwrap();
    match &events(Kind::Mrt(options))[..] {
        [Event::Failed(reason)] => {
            assert_eq!(*reason, reason_of_check, "a check of the configuration says the same");
            reason.replace(&file, "FILE")
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_peer_that_is_not_in_the_file_is_an_error_that_names_those_that_are() {
    for (table, found) in [(two_peers(), "192.0.2.1, 192.0.2.2"), (table_file(), "192.0.2.1")] {
        let peer = Some(ip("192.0.2.9"));
        let reason = failure(MrtOptions { peer, ..options(&table) });
        assert_eq!(reason, format!("FILE: expected routes of peer 192.0.2.9, found those of {found}"));
    }
}

#[test]
fn a_table_without_routes_is_refused_unless_it_is_allowed() {
    let mut index_only = Writer::new(Vec::new());
    index_only.peer_index(1, "", ip("192.0.2.1")).unwrap();
    let mut withdrawn = Writer::new(Vec::new());
    withdrawn.announce(1, ip("192.0.2.1"), ip("198.18.0.1"), &[net("10.0.0.0/8")]).unwrap();
    withdrawn.withdraw(2, ip("192.0.2.1"), &[net("10.0.0.0/8")]).unwrap();
    let mut own_routes = Writer::new(Vec::new());
    own_routes.announce(1, ip("192.0.2.1"), ip("0.0.0.0"), &[net("10.0.0.0/8")]).unwrap();
    let cases = [
        (index_only, "1 records"),
        (withdrawn, "2 records"),
        (own_routes, "1 records, 1 entries without a next hop"),
    ];
    for (writer, found) in cases {
        let table = file(writer.into_inner());
        let reason = failure(options(&table));
        let expected = format!("FILE: a table without routes ({found}); allow_empty = true accepts it");
        assert_eq!(reason, expected);
        let received = events(Kind::Mrt(MrtOptions { allow_empty: true, ..options(&table) }));
        assert!(received.iter().any(|e| matches!(e, Event::EndOfTable)), "{received:?}");
    }
    // An empty file is none at all.
    let table = file(Vec::new());
    assert!(failure(MrtOptions { allow_empty: true, ..options(&table) }).contains("found an empty file"));
}

/// A record that frames well but cannot be decoded: TABLE_DUMP_V2 with a prefix of 33 bits.
const BAD: [u8; 22] = [0, 0, 0, 1, 0, 13, 0, 2, 0, 0, 0, 10, 0, 0, 0, 0, 33, 10, 0, 0, 0, 0];

#[test]
fn a_bad_record_stops_a_table_and_is_skipped_in_updates_unless_said_otherwise() {
    let with_bad =
        |whole: &tempfile::NamedTempFile| file([&BAD[..], &std::fs::read(whole.path()).unwrap()].concat());
    let (table, updates) = (table_file(), updates_file());
    let bad_table = with_bad(&table);
    let reason = failure(options(&bad_table));
    let place = "FILE: record 1, at byte 16: expected an IPv4 prefix length of at most 32, found 33";
    assert_eq!(reason, place);
    let skip = MrtOptions { bad_records: Some(BadRecords::Skip), ..options(&bad_table) };
    let received = events(Kind::Mrt(skip));
    assert_eq!(net_state(&received).len(), 2);
    let [Event::Report(report), ..] = &received[..] else { panic!("{received:?}") };
    assert_eq!(report.counters[0], ("records_skipped", 1));
    assert!(report.last_error.as_ref().unwrap().contains("record 1, at byte 16"), "{report:?}");

    let bad_updates = with_bad(&updates);
    let updates = Some(bad_updates.path().to_owned());
    let start_at_us = Some(0);
    let skip = MrtOptions { updates: updates.clone(), start_at_us, ..options(&table) };
    let received = events(Kind::Mrt(skip));
    assert!(matches!(&received[0], Event::Report(report) if report.counters[0].1 == 1), "{received:?}");
    assert_eq!(net_state(&received).len(), 1);
    let stop = MrtOptions { updates, bad_records: Some(BadRecords::Stop), ..options(&table) };
    assert!(failure(stop).contains("record 1, at byte 16"));
}

#[test]
fn updates_of_bad_records_only_are_no_updates() {
    let (table, updates) = (table_file(), file([BAD, BAD].concat()));
    let reason = failure(MrtOptions { updates: Some(updates.path().to_owned()), ..options(&table) });
    assert!(reason.contains("no record can be used") && reason.contains("record 1, at byte 16"), "{reason}");
}

#[test]
fn a_table_of_entries_and_messages_both_is_read_again_with_all_paths() {
    // Two entries of one prefix, of two peers; then a message of the better one withdraws it.
    let mut table = vec![0, 0, 0, 1, 0, 13, 0, 1, 0, 0, 0, 34, 0, 0, 0, 0, 0, 0, 0, 2];
    for peer in [1, 2] {
        table.extend([2, 0, 0, 0, 0, 192, 0, 2, peer, 0, 0, 252, peer]);
    }
    table.extend([0, 0, 0, 1, 0, 13, 0, 2, 0, 0, 0, 46, 0, 0, 0, 0, 8, 10, 0, 2]);
    for peer in [0, 1] {
        table.extend([0, peer, 0, 0, 0, 0, 0, 11, 0x40, 1, 1, 0, 0x40, 3, 4, 198, 18, 0, peer + 1]);
    }
    assert_eq!(
        hops(&net_state(&events(Kind::Mrt(options(&file(table.clone())))))),
        [("10.0.0.0/8", "198.18.0.1")]
    );
    let mut w = Writer::new(table);
    w.withdraw(5, ip("192.0.2.1"), &[net("10.0.0.0/8")]).unwrap();
    let state = net_state(&events(Kind::Mrt(options(&file(w.into_inner())))));
    assert_eq!(hops(&state), [("10.0.0.0/8", "198.18.0.2")]);
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
    let (thread, _) = crate::source::start("replay", Kind::Mrt(options), outlet).unwrap();
    assert_eq!(from.iter().take(2).count(), 2);
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    thread.join().unwrap();
}
