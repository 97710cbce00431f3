//! A client and its servers on a virtual clock: what DESIGN §5 promises, one scenario per test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::time::Duration;

use common::*;
use fibcast_sync_proto::client::{Client, ClientConfig, ClientEvent, How};
use fibcast_sync_proto::codec::Encoder;
use fibcast_sync_proto::frame::{Frame, Inbox, Mode, Role, State};
use fibcast_sync_proto::server::{Limits, Server};
use fibcast_sync_proto::{Change, ChangeRef, Key, Table};

fn activations(net: &Net) -> Vec<(usize, How)> {
    net.events
        .iter()
        .filter_map(|e| match e {
            ClientEvent::Activated { link, how, .. } => Some((*link, *how)),
            _ => None,
        })
        .collect()
}

fn two(n: u32) -> Net {
    Net::new(vec![Node::new("a", table(10, n)), Node::new("b", table(20, n))])
}

#[test]
fn table_arrives_and_follows_whatever_the_portions() {
    for portion in [1, 2, 3, 7, 1000, usize::MAX] {
        let mut net = two(300);
        net.portion = portion;
        net.settle();
        assert!(net.equal_to(0), "portions of {portion}");
        net.nodes[0].commit([put(1, 2), Change::Delete(key(2)), group(9), put(7, 9)]);
        net.settle();
        assert!(net.equal_to(0) && !net.equal_to(1));
        net.nodes[0].commit([put(7, 1), Change::Delete(Key::Group(label(9)))]);
        net.settle();
        assert!(net.equal_to(0), "portions of {portion}");
        assert_eq!(activations(&net), [(0, How::Snapshot)]);
        assert_eq!(net.client.counters().digest_mismatches, 0);
    }
}

#[test]
fn empty_and_large_tables_arrive() {
    for n in [0, 1, 70_000] {
        let mut net = two(n);
        net.settle();
        assert!(net.equal_to(0) && net.client.is_synced(), "{n} routes");
    }
}

#[test]
fn secondary_carries_heartbeats_only() {
    let mut net = two(5000);
    net.settle();
    net.advance(Duration::from_secs(10));
    assert!(net.to_client[1] < 33 * 80, "{} bytes from the secondary in 10 s", net.to_client[1]);
    assert!(net.to_client[0] > 10_000);
}

#[test]
fn failover_to_an_equal_table_copies_nothing() {
    let mut net = two(5000);
    net.settle();
    let (before, serial) = (net.to_client[1], net.copy.serial());
    net.kill(0);
    assert_eq!(activations(&net), [(0, How::Snapshot), (1, How::Equal)]);
    assert_eq!(net.copy.serial(), serial, "nothing is applied and nothing passed on");
    let c = net.client.counters();
    assert_eq!((c.failovers, c.last_failover_routes_copied, c.routes_differing), (1, 0, 0));
    assert!(net.to_client[1] - before < 100);
    net.nodes[1].commit([put(3, 1)]);
    net.settle();
    assert!(net.equal_to(1));
}

#[test]
fn failover_to_a_differing_table_moves_exactly_the_difference() {
    let mut net = two(20_000);
    let changes = (0..40).map(|i| put(i * 100, ((i * 100 + 1) % 4) as u8));
    net.nodes[1].commit(changes.chain([Change::Delete(key(5)), put(30_000, 1), group(8), put(30_001, 8)]));
    net.settle();
    let before = net.to_client[1];
    net.kill(0);
    assert!(net.equal_to(1));
    assert_eq!(activations(&net).last(), Some(&(1, How::Reconcile)));
    let c = net.client.counters();
    assert_eq!((c.last_failover_routes_copied, c.routes_differing), (0, 43));
    assert!(net.to_client[1] - before < 8_000, "{} bytes", net.to_client[1] - before);
}

#[test]
fn a_thousand_differing_routes_cost_less_than_64_kib() {
    let mut net = two(100_000);
    net.nodes[1].commit((0..1000).map(|i| put(i * 97, ((i * 97 + 1) % 4) as u8)));
    net.settle();
    let before = net.to_client[1];
    net.kill(0);
    assert!(net.equal_to(1));
    assert_eq!(net.client.counters().routes_differing, 1000);
    let bytes = net.to_client[1] - before;
    assert!(bytes <= 64 * 1024, "{bytes} bytes");
}

#[test]
fn difference_beyond_the_sketch_falls_back_to_a_copy() {
    let mut net = two(20_000);
    net.nodes[1].commit((0..15_000).map(|i| put(i, ((i + 1) % 4) as u8)));
    net.settle();
    net.kill(0);
    assert!(net.equal_to(1));
    assert_eq!(activations(&net).last(), Some(&(1, How::Snapshot)));
    assert_eq!(net.client.counters().last_failover_routes_copied, 20_000);
    assert_eq!(net.client.counters().routes_differing, 15_000, "only the difference is applied");
}

#[test]
fn changes_during_reconciliation_are_not_lost() {
    let mut net = two(20_000);
    net.nodes[1].commit((0..200).map(|i| put(i, ((i + 1) % 4) as u8)));
    net.settle();
    net.portion = 700;
    net.nodes[0].up = false;
    // The secondary changes while its sketch travels, byte portion by byte portion.
    net.client.handle_disconnected(net.now, 0, "reset", &mut net.copy);
    for round in 0..60u32 {
        net.nodes[1].commit([put(round, 3), put(round + 100, 2), Change::Delete(key(1000 + round))]);
        net.advance(Duration::from_micros(1));
    }
    net.settle();
    assert!(net.equal_to(1));
    assert_eq!(net.client.counters().digest_mismatches, 0);
}

#[test]
fn silent_primary_is_left_after_three_heartbeats() {
    let mut net = two(100);
    net.settle();
    net.nodes[0].silent = true;
    net.advance(Duration::from_millis(890));
    assert_eq!(net.client.active(), Some(0));
    net.advance(Duration::from_millis(350));
    assert_eq!(net.client.active(), Some(1));
    assert!(net.client.is_synced());
}

#[test]
fn unready_secondary_is_never_used_and_the_table_stays() {
    let mut net = two(100);
    net.nodes[1].ready = false;
    net.settle();
    let digest = net.copy.digest();
    net.kill(0);
    net.advance(Duration::from_secs(3));
    assert_eq!((net.client.active(), net.copy.digest()), (None, digest));
    net.nodes[1].ready = true;
    net.advance(Duration::from_millis(400));
    assert_eq!(net.client.active(), Some(1));
}

#[test]
fn primary_that_is_no_longer_ready_is_left_while_another_is() {
    let mut net = two(100);
    net.settle();
    net.nodes[0].ready = false;
    net.advance(Duration::from_millis(700));
    assert_eq!(net.client.active(), Some(1));
}

#[test]
fn primary_is_used_again_after_it_was_capable_for_a_while() {
    let mut net = two(1000);
    net.settle();
    net.kill(0);
    net.nodes[0] = Node::new("a", table(11, 1000));
    net.nodes[1].commit([put(1, 3)]);
    net.nodes[0].commit([put(1, 3)]);
    net.advance(Duration::from_secs(4));
    assert_eq!(net.client.active(), Some(1));
    net.advance(Duration::from_secs(3));
    assert_eq!(net.client.active(), Some(0));
    assert_eq!(activations(&net).last(), Some(&(0, How::Equal)));
    assert_eq!(net.client.counters().failovers, 2);
    net.nodes[0].commit([put(2, 3)]);
    net.settle();
    assert!(net.equal_to(0));
}

#[test]
fn reconnection_to_the_same_epoch_continues_from_the_serial() {
    let mut net = Net::new(vec![Node::new("a", table(10, 20_000))]);
    net.settle();
    net.kill(0);
    net.nodes[0].up = true;
    net.nodes[0].commit([put(1, 2), Change::Delete(key(9))]);
    let before = net.to_client[0];
    net.advance(Duration::from_secs(1));
    assert!(net.equal_to(0));
    assert_eq!(activations(&net).last(), Some(&(0, How::Changes)));
    assert!(net.to_client[0] - before < 1000);
}

#[test]
fn snapshot_while_the_table_changes_is_whole() {
    let mut net = Net::new(vec![Node::new("a", table(10, 60_000))]);
    net.portion = 5_000;
    for i in 0..400u32 {
        net.nodes[0].commit([
            put(i * 150, ((i + 1) % 4) as u8),
            Change::Delete(key(59_000 - i)),
            put(70_000 + i, 1),
            group(100 + (i % 50) as u8),
            put(i, 100 + (i % 50) as u8),
        ]);
        net.advance(Duration::from_micros(1));
    }
    // Many more changes than fit into one shared batch while a client is behind.
    net.nodes[0].commit((0..40_000).map(|i| put(i, ((i + 2) % 4) as u8)));
    net.nodes[0].commit((0..50).map(|i| Change::Delete(Key::Group(label(100 + i)))));
    net.settle();
    assert!(net.equal_to(0));
    assert_eq!(net.client.counters().digest_mismatches, 0);
}

#[test]
fn slow_reader_of_a_table_that_never_rests_gets_its_commit() {
    let mut net = Net::new(vec![Node::new("a", table(10, 3_000))]);
    let limits = Limits { queue: 512, shared: 50, portion: 100, ..Limits::default() };
    net.nodes[0].server = Server::new("a").with_limits(limits);
    net.portion = 200;
    let mut queued = 0;
    for round in 0..400u32 {
        // Much more changes in each step than the reader takes.
        let changes = (0..1_200).map(|i| put((round * 577 + i * 7) % 3_000, ((round + i) % 4) as u8));
        net.nodes[0].commit(changes.chain([put(9_000 + round, 1), Change::Delete(key(9_000 + round / 2))]));
        for _ in 0..3 {
            net.step();
        }
        queued = queued.max(net.nodes[0].server.sessions().iter().map(|s| s.queued_bytes).max().unwrap_or(0));
        if net.client.is_synced() {
            break;
        }
    }
    assert!(net.client.is_synced(), "no commit after {} bytes", net.to_client[0]);
    assert!(queued < 32 * 1024, "{queued} bytes waited");
    assert!(net.to_client[0] < 64 * 1024, "{} bytes", net.to_client[0]);
    net.settle();
    assert!(net.equal_to(0));
    assert_eq!(net.client.counters().digest_mismatches, 0);
}

#[test]
fn copy_of_a_table_that_forgets_its_deletions_ends_in_no_other_table() {
    for deletions in 1..40u32 {
        let forgetful = table(10, 3_000).with_tombstone_limit(60);
        let mut net = Net::new(vec![Node::new("a", forgetful)]);
        let limits = Limits { queue: 512, shared: 5, portion: 100, ..Limits::default() };
        net.nodes[0].server = Server::new("a").with_limits(limits);
        net.portion = 200;
        for round in 0..120u32 {
            let gone = (0..deletions).map(|i| Change::Delete(key((round * 977 + i * 31) % 3_000)));
            net.nodes[0].commit(gone.chain((0..20).map(|i| put((round * 577 + i * 7) % 3_000, 1))));
            for _ in 0..4 {
                net.step();
            }
        }
        net.settle();
        assert!(net.equal_to(0), "{deletions} deletions at a time");
        assert_eq!(net.client.counters().digest_mismatches, 0, "{deletions} deletions at a time");
    }
}

#[test]
fn laggard_gets_the_net_state_and_memory_stays_bounded() {
    let mut net = Net::new(vec![Node::new("a", table(10, 50_000))]);
    net.settle();
    net.nodes[0].silent = true;
    for round in 0..20u8 {
        net.nodes[0].commit((0..30_000).map(|i| put(i, round % 4)));
    }
    let queued: u64 = net.nodes[0].server.sessions().iter().map(|s| s.queued_bytes).sum();
    assert!(queued < 1 << 20, "{queued} bytes wait for a client that does not read");
    net.nodes[0].silent = false;
    net.settle();
    assert!(net.equal_to(0));
    assert_eq!(activations(&net), [(0, How::Snapshot)]);
}

#[test]
fn corrupted_copy_is_found_by_the_heartbeat_and_repaired() {
    let mut net = two(1000);
    net.settle();
    // Somebody else writes into the client's table, which nobody may.
    net.copy.commit([put(3, 1), Change::Delete(key(4))]).unwrap();
    net.advance(Duration::from_millis(700));
    assert!(net.equal_to(0));
    assert_eq!(net.client.counters().digest_mismatches, 1);
    assert_eq!(net.client.active(), Some(0));
}

/// A server without machinery: it answers each Activate so that all is well, and says another digest in each heartbeat.
struct Liar {
    served: Table,
    inbox: Inbox,
    activations: Vec<bool>,
}

impl Liar {
    fn state(&self, lie: bool) -> State {
        let mut digest = self.served.digest();
        digest.hash ^= u128::from(lie);
        State { epoch: 10, serial: 1, digest, ready: true, stale: false, path: Vec::new() }
    }

    fn answer(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        self.inbox.push(bytes);
        let mut inbox = std::mem::take(&mut self.inbox);
        while let Some(frame) = inbox.next().unwrap() {
            match frame {
                Frame::Register { .. } | Frame::Deactivate => {
                    Frame::Welcome(self.state(false)).encode(&mut out)
                }
                Frame::Activate { digest, copy, .. } => {
                    self.activations.push(copy);
                    if digest == self.served.digest() && !copy {
                        Frame::Equal { epoch: 10, serial: 1 }.encode(&mut out);
                        continue;
                    }
                    Frame::Begin { mode: Mode::Snapshot, from: 0 }.encode(&mut out);
                    let mut encoder = Encoder::new();
                    for (key, value) in self.served.iter() {
                        encoder.push(ChangeRef::put(&key, &value).unwrap(), &mut out);
                    }
                    encoder.flush(&mut out);
                    let (count, digest) = (encoder.count(), self.served.digest());
                    Frame::Commit { epoch: 10, serial: 1, count, digest }.encode(&mut out);
                }
                _ => {}
            }
        }
        self.inbox = inbox;
        out
    }
}

#[test]
fn server_whose_digest_no_resync_mends_is_left_for_the_secondary() {
    let mut liar = Liar { served: table(10, 500), inbox: Inbox::default(), activations: Vec::new() };
    let mut net = two(500);
    // The bytes of the first choice are the liar's.
    net.nodes[0].silent = true;
    net.settle();
    let mut frames = Vec::new();
    Frame::Hello { name: "a".into() }.encode(&mut frames);
    let mut beats_in_use = 0;
    for _ in 0..30 {
        let words = net.client.transmit(0).to_vec();
        net.client.sent(0, words.len());
        frames.extend(liar.answer(&words));
        if net.client.active() == Some(0) {
            beats_in_use += 1;
            Frame::Heartbeat(Some(liar.state(true))).encode(&mut frames);
        }
        net.client.handle_bytes(net.now, 0, &std::mem::take(&mut frames), &mut net.copy);
        net.advance(Duration::from_millis(100));
        if beats_in_use > 0 && net.client.active() == Some(1) {
            break;
        }
    }
    assert!(net.client.is_synced() && net.client.active() == Some(1), "{:?}", net.client.links());
    assert!(net.equal_to(1));
    assert_eq!(liar.activations, [false, false, true, true], "copied, compared again, copied twice, left");
    assert!(beats_in_use <= 12, "{beats_in_use} heartbeats");
    let error = net.client.links()[0].last_error.clone().unwrap();
    assert!(error.contains("its table does not lead to its digest"), "{error}");
    assert_eq!(net.client.counters().digest_mismatches, 4);
}

#[test]
fn client_that_is_its_own_server_is_refused() {
    let mut net = Net::new(vec![Node::new("nic", table(10, 10))]);
    net.settle();
    assert!(matches!(
        &net.events[0],
        ClientEvent::Lost { error, .. } if error.to_string() == "node nic is its own server"
    ));
}

#[test]
fn loop_through_the_path_is_refused() {
    let mut net = two(10);
    net.nodes[0].path = vec!["x".into(), "nic".into()];
    net.advance(Duration::from_secs(3));
    let error = net.client.links()[0].last_error.clone().unwrap();
    assert!(error.contains("loop: the table of a comes through nic: x > nic"), "{error}");
    assert_eq!(net.client.active(), Some(1));
}

/// Gives bytes to a fresh client as its server's first words, and returns why the client hung up.
fn say(bytes: &[u8]) -> String {
    let now = Duration::from_secs(1);
    let mut table = Table::new(1);
    let mut client = Client::new(ClientConfig::new("nic", "fib", vec![Role::Primary]), now);
    client.handle_connected(now, 0);
    client.handle_bytes(now, 0, bytes, &mut table);
    client.links()[0].last_error.clone().unwrap_or_default()
}

#[test]
fn other_versions_and_garbage_end_with_one_clear_error() {
    let mut hello = Vec::new();
    Frame::Hello { name: "a".into() }.encode(&mut hello);
    hello[8] = 1;
    assert_eq!(say(&hello), "speaks another version of the protocol: expected 2, found 1");
    assert!(say(b"HTTP/1.1 400 Bad Request\r\n").starts_with("does not speak fibcast"));
    assert!(say(b"\x01\xff\xff").starts_with("does not speak fibcast"));
    let mut ok = Vec::new();
    Frame::Hello { name: "a".into() }.encode(&mut ok);
    let with = |more: &[u8]| say(&[ok.as_slice(), more].concat());
    assert_eq!(with(&[7, 0xff, 0xff, 0xff]), "Records: field length: expected at most 65536, found 16777215");
    assert_eq!(
        with(&[99, 0, 0, 0]),
        "expected a known frame type (1 to 14) or an optional one (from 128), found 99"
    );
    assert_eq!(with(&[200, 0, 0, 1, 7]), "", "optional frames are skipped");
    assert_eq!(
        with(&[3, 0, 0, 2, 1, 2]),
        "Welcome: field epoch: expected more bytes, found the end of the frame"
    );
    assert_eq!(with(&[8, 0, 0, 0]), "Commit: field epoch: expected more bytes, found the end of the frame");
    assert_eq!(with(&[5, 0, 0, 0]), "Deactivate: not expected in state greeting");
}
