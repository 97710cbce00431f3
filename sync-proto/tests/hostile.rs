//! Peers that take all they can get and give nothing: what they cost is counted in bytes, and the others are served meanwhile.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::time::Duration;

use common::{Net, Node, put, table};
use fibcast_sync_proto::client::{Action, Client, ClientConfig, ClientEvent};
use fibcast_sync_proto::frame::{Frame, Mode, Role, State};
use fibcast_sync_proto::server::{
    Limits, Permit, Served, Server, ServerEvent, SessionId, Tables, VIEWS_PER_CLIENT,
};
use fibcast_sync_proto::sketch::Symbol;
use fibcast_sync_proto::wire::ProtocolError;
use fibcast_sync_proto::{Change, DigestKey, Key, PrefixRange, RootDigest, Subset, Table, Value};

const MIB: usize = 1 << 20;

struct One(Table);

impl Tables for One {
    fn served(&self, name: &str) -> Option<Served<'_>> {
        ["fib", "rib"].contains(&name).then_some(Served { table: &self.0, ready: true, path: &[] })
    }
}

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn bytes(frames: &[Frame<'_>]) -> Vec<u8> {
    let mut out = Vec::new();
    frames.iter().for_each(|frame| frame.encode(&mut out));
    out
}

fn greet(name: &str, table: &str, subset: Subset, heartbeat_ms: u64) -> Vec<u8> {
    let (table, role, path) = (table.to_owned(), Role::Primary, Vec::new());
    let digest_key = DigestKey::PUBLIC.id();
    let register = Frame::Register { table, role, heartbeat_ms, path, subset, digest_key };
    bytes(&[Frame::Hello { name: name.into() }, register])
}

/// A server with a client that behaves, beside those that do not.
struct Stage {
    now: Duration,
    server: Server,
    tables: One,
    good: SessionId,
    client: Client,
    copy: Table,
    rounds: u32,
    held: usize,
    ended: Vec<(SessionId, ProtocolError)>,
}

impl Stage {
    fn new(table: Table) -> Self {
        let now = ms(1_000);
        let mut server = Server::new("rs");
        let good = server.accept(now);
        let mut config = ClientConfig::new("good", "fib", vec![Role::Primary]);
        config.pending = usize::MAX;
        let mut client = Client::new(config, now);
        assert_eq!(client.poll_action(), Some(Action::Connect(0)));
        client.handle_connected(now, 0);
        let (tables, copy) = (One(table), Table::new(77));
        let mut stage =
            Self { now, server, tables, good, client, copy, rounds: 0, held: 0, ended: Vec::new() };
        stage.serve_good();
        stage
    }

    fn join(&mut self, name: &str, subset: Subset) -> SessionId {
        let id = self.server.accept(self.now);
        self.say(id, &greet(name, "fib", subset, 60_000));
        id
    }

    /// Says something in the portions of a socket, as long as the server listens.
    fn say(&mut self, id: SessionId, all: &[u8]) -> usize {
        let mut sent = 0;
        for portion in all.chunks(32 * 1024) {
            if !self.server.listens(id) {
                break;
            }
            self.server.handle_bytes(self.now, id, portion, &self.tables);
            sent += portion.len();
        }
        self.note();
        sent
    }

    fn note(&mut self) {
        self.held = self.held.max(self.server.held_bytes());
        while let Some(event) = self.server.poll_event() {
            if let ServerEvent::Ended { session, error, .. } = event {
                self.ended.push((session, error));
            }
        }
    }

    /// A change reaches the client that behaves at once.
    fn serve_good(&mut self) {
        self.rounds += 1;
        self.tables.0.commit([put(self.rounds % 1_000, (self.rounds % 4) as u8)]).unwrap();
        self.server.pump(&self.tables);
        for _ in 0..100_000 {
            let up = self.client.transmit(0).to_vec();
            self.client.sent(0, up.len());
            self.server.handle_bytes(self.now, self.good, &up, &self.tables);
            let down = self.server.transmit(self.good).to_vec();
            self.server.sent(self.good, down.len());
            self.server.pump(&self.tables);
            self.client.handle_bytes(self.now, 0, &down, &mut self.copy);
            if up.is_empty() && down.is_empty() {
                break;
            }
        }
        self.note();
        assert_eq!(self.copy.digest(), self.tables.0.digest(), "the good client is not served");
    }

    fn pass(&mut self, by: Duration) {
        let end = self.now + by;
        while self.now < end {
            self.now += ms(100);
            self.server.handle_timeout(self.now, &self.tables);
            self.client.handle_timeout(self.now, &mut self.copy);
            self.serve_good();
        }
    }

    fn end_of(&self, id: SessionId) -> Option<String> {
        self.ended.iter().find(|(ended, _)| *ended == id).map(|(_, error)| error.to_string())
    }
}

fn part(n: u32) -> Subset {
    let prefix = ipnet::Ipv4Net::new((n << 12).into(), 20).unwrap();
    Subset::new(Vec::new(), None, vec![PrefixRange::within(prefix.into())])
}

fn activate(hash: u64, count: u64, copy: bool) -> Frame<'static> {
    let digest = RootDigest { hash: u128::from(hash) << 64 | 1, count };
    Frame::Activate { epoch: 0, serial: 0, digest, copy }
}

#[test]
fn ten_silent_clients_that_repeat_any_request_cost_a_queue_each_and_are_dropped() {
    for kind in 0..5u64 {
        let mut stage = Stage::new(table(5, 50_000));
        let count = stage.tables.0.len();
        let silent: Vec<_> = (0..10).map(|n| stage.join(&format!("silent{n}"), Subset::default())).collect();
        let words = |n: u64| match kind {
            0 => bytes(&[activate(n, 0, true)]),
            1 => bytes(&[activate(n, count, false)]),
            2 => bytes(&[activate(n, count, false), Frame::More { until: 8_000 }]),
            3 => bytes(&[Frame::Deactivate]),
            _ => bytes(&[activate(n, count, false), Frame::Want { last: true, ids: vec![n, n + 1] }]),
        };
        for round in 0..40 {
            for &id in &silent {
                let many: Vec<u8> = (0..4_000).flat_map(|n| words(round * 5_000 + n)).collect();
                stage.say(id, &many);
                assert!(stage.server.queued(id) < 2 * MIB, "{kind}: {} bytes", stage.server.queued(id));
            }
            stage.serve_good();
        }
        assert!(stage.held < 24 * MIB, "{kind}: {} bytes held", stage.held);
        stage.pass(Duration::from_secs(25));
        for &id in &silent {
            let end = stage.end_of(id).unwrap_or_default();
            assert!(end.contains("node.limits.progress_ms"), "{kind}: {end:?}");
            stage.server.close(id);
        }
        assert!(stage.server.held_bytes() < 2 * MIB, "{kind}: {} bytes left", stage.server.held_bytes());
    }
}

#[test]
fn reader_of_one_byte_a_second_is_dropped_and_a_slow_one_is_not() {
    let mut stage = Stage::new(table(5, 50_000));
    let (one, slow) = (stage.join("one", Subset::default()), stage.join("slow", Subset::default()));
    for id in [one, slow] {
        stage.say(id, &bytes(&[activate(1, 0, true)]));
    }
    for _ in 0..40 {
        stage.pass(ms(1_000));
        stage.server.sent(one, 1);
        stage.server.sent(slow, 100);
    }
    assert!(stage.end_of(one).unwrap_or_default().contains("took 1"), "{:?}", stage.end_of(one));
    assert_eq!(stage.end_of(slow), None);
}

fn opaque(n: u32) -> Change {
    Change::Put(Key::Opaque(n.to_be_bytes().into()), Value::Opaque(vec![n as u8; 16_000].into()))
}

#[test]
fn laggards_of_a_table_with_large_records_stay_within_the_budget_of_all() {
    let mut stage = Stage::new(table(5, 1_000));
    stage.tables.0.commit((0..4_000).map(opaque)).unwrap();
    stage.serve_good();
    let limits = Limits { held: 16 << 20, ..Limits::default() };
    stage.server.set_limits(limits);
    let mut silent = Vec::new();
    for n in 0..60u32 {
        // Each begins at another time, reads a little, and then nothing.
        let id = stage.join(&format!("silent{n}"), Subset::default());
        stage.say(id, &bytes(&[activate(1, 0, n % 2 == 0)]));
        stage.server.sent(id, 100_000);
        stage.tables.0.commit((0..300).map(|k| opaque((n * 37 + k) % 4_000))).unwrap();
        stage.server.pump(&stage.tables);
        stage.serve_good();
        silent.push(id);
    }
    assert!(stage.held <= 18 * MIB, "{} bytes held", stage.held);
    stage.pass(Duration::from_secs(25));
    assert!(silent.iter().all(|&id| stage.end_of(id).is_some()));
}

#[test]
fn reader_whose_piece_of_a_copy_was_not_kept_gets_a_copy_of_its_own() {
    let mut stage = Stage::new(table(5, 1_000));
    stage.tables.0.commit((0..400).map(opaque)).unwrap();
    stage.server.set_limits(Limits { held: 1 << 20, queue: 64 << 10, ..Limits::default() });
    let slow = stage.join("slow", Subset::default());
    stage.say(slow, &bytes(&[activate(1, 0, true)]));
    // A faster one joins the copy and goes ahead until pieces are dropped.
    let fast = stage.join("fast", Subset::default());
    stage.say(fast, &bytes(&[activate(1, 0, true)]));
    for _ in 0..100_000 {
        let n = stage.server.transmit(fast).len();
        stage.server.sent(fast, n);
        stage.server.pump(&stage.tables);
        if n == 0 {
            break;
        }
    }
    assert!(stage.server.held_bytes() < MIB, "{} bytes", stage.server.held_bytes());
    // All that the slow one gets, with the copy that it had to give up.
    let (mut inbox, mut commits, mut begins) = (fibcast_sync_proto::frame::Inbox::default(), 0, 0);
    for _ in 0..100_000 {
        let portion = stage.server.transmit(slow).to_vec();
        stage.server.sent(slow, portion.len());
        stage.server.pump(&stage.tables);
        inbox.push(&portion);
        while let Some(frame) = inbox.next().unwrap() {
            begins += u32::from(matches!(frame, Frame::Begin { mode: Mode::Snapshot, .. }));
            commits += u32::from(matches!(frame, Frame::Commit { .. }));
        }
        if portion.is_empty() {
            break;
        }
    }
    assert_eq!((begins, commits), (2, 1));
}

#[test]
fn requests_that_are_never_complete_are_limited_for_all_sessions_together() {
    let mut stage = Stage::new(table(5, 50_000));
    stage.server.set_limits(Limits { held: 4 << 20, ..Limits::default() });
    let count = stage.tables.0.len();
    for n in 0..200u64 {
        let id = stage.join(&format!("half{n}"), Subset::default());
        stage.say(
            id,
            &bytes(&[activate(n, count, false), Frame::Want { last: false, ids: (0..8_000).collect() }]),
        );
        let half = bytes(&[Frame::Want { last: true, ids: (0..8_000).collect() }]);
        stage.say(id, &half[..half.len() / 2]);
    }
    assert!(stage.held < 8 * MIB, "{} bytes held", stage.held);
    assert!(stage.ended.iter().any(|(_, e)| e.to_string().contains("node.limits.clients_bytes")));
    // Before registration only short frames are accepted.
    let id = stage.server.accept(stage.now);
    stage.say(id, &bytes(&[Frame::Hello { name: "long".into() }]));
    stage.say(id, &[2, 1, 0, 0]);
    assert!(stage.end_of(id).unwrap().contains("expected at most 16384"), "{:?}", stage.end_of(id));
}

#[test]
fn one_client_does_not_take_all_views_and_one_with_several_gives_way() {
    let mut stage = Stage::new(table(5, 20_000));
    let greedy: Vec<_> = (0..20).map(|n| stage.join("greedy", part(n))).collect();
    assert_eq!(stage.server.views().count(), VIEWS_PER_CLIENT);
    let refused = greedy.iter().filter(|&&id| stage.end_of(id).is_some()).count();
    assert_eq!(refused, 20 - VIEWS_PER_CLIENT);
    for n in 0..9 {
        for k in 0..4 {
            stage.join(&format!("other{n}"), part(100 + n * 4 + k));
        }
    }
    assert_eq!(stage.server.views().count(), 16);
    let late = stage.join("late", part(99));
    stage.pass(ms(500));
    assert_eq!(stage.end_of(late), None);
    assert!(stage.ended.iter().any(|(_, e)| e.to_string().contains("gave way to another client's")));
    assert!(stage.server.views().any(|(_, subset, _)| *subset == part(99)));
    assert!(stage.server.views().count() <= 16);
}

#[test]
fn views_are_limited_in_bytes() {
    let mut stage = Stage::new(table(5, 50_000));
    stage.server.set_limits(Limits { views: 2 << 20, ..Limits::default() });
    let wide = Subset::new(vec![0], None, Vec::new());
    let id = stage.join("wide", wide);
    stage.pass(ms(2_000));
    let end = stage.end_of(id).unwrap();
    assert!(end.contains("node.limits.views_bytes"), "{end}");
    stage.pass(ms(2_000));
    assert!(stage.server.view_bytes() < MIB, "{}", stage.server.view_bytes());
    let narrow = stage.join("narrow", part(1));
    stage.pass(ms(500));
    assert_eq!(stage.end_of(narrow), None);
}

#[derive(Debug)]
struct OnlyFib;

impl Permit for OnlyFib {
    fn check(&self, name: &str, table: &str, _part: bool) -> Result<(), String> {
        (table == "fib").then_some(()).ok_or_else(|| format!("{name} may not have the table {table}"))
    }
}

#[test]
fn client_without_permission_gets_no_view_and_learns_nothing_of_the_table() {
    let mut stage = Stage::new(table(5, 20_000));
    for (wanted, says) in [("rib", "may not have the table rib"), ("rib/0", "may not have the table rib/0")] {
        for n in 0..16 {
            let id = stage.server.accept_with(stage.now, Some(Box::new(OnlyFib)));
            stage.say(id, &greet("nic", wanted, part(n), 300));
            let end =
                stage.ended.iter().find(|(ended, _)| *ended == id).map(|(_, error)| error.clone()).unwrap();
            assert!(matches!(end, ProtocolError::NotAllowed(_)) && end.to_string().contains(says), "{end}");
        }
    }
    assert_eq!(stage.server.views().count(), 0);
    let id = stage.server.accept_with(stage.now, Some(Box::new(OnlyFib)));
    stage.say(id, &greet("nic", "fib", part(1), 300));
    assert_eq!((stage.end_of(id), stage.server.views().count()), (None, 1));
    // One that is refused for a loop costs no view either.
    let id = stage.server.accept(stage.now);
    let (table, role, path) = ("fib".into(), Role::Primary, vec!["rs".into()]);
    let (heartbeat_ms, subset, digest_key) = (300, part(2), DigestKey::PUBLIC.id());
    let register = Frame::Register { table, role, heartbeat_ms, path, subset, digest_key };
    stage.say(id, &bytes(&[Frame::Hello { name: "loop".into() }, register]));
    assert!(stage.end_of(id).unwrap().starts_with("loop:"));
    assert_eq!(stage.server.views().count(), 1);
}

#[derive(Debug)]
struct WholeTables;

impl Permit for WholeTables {
    fn check(&self, name: &str, table: &str, part: bool) -> Result<(), String> {
        (!part).then_some(()).ok_or_else(|| format!("{name} may not have a part of the table {table}"))
    }
}

#[test]
fn client_without_permission_for_parts_costs_no_memory_of_views_and_gets_the_whole_table() {
    let mut stage = Stage::new(table(5, 20_000));
    // Parts that are nearly the whole table, as one who wants memory would ask for, from many names.
    for n in 0..200u32 {
        let id = stage.server.accept_with(stage.now, Some(Box::new(WholeTables)));
        let nearly = Subset::new(vec![0, n + 1], None, Vec::new());
        stage.say(id, &greet(&format!("nic-{n}"), "fib", nearly, 300));
        let end = stage.end_of(id).unwrap();
        assert!(end.contains("may not have a part of the table fib"), "{end}");
    }
    stage.pass(ms(1_000));
    assert_eq!((stage.server.views().count(), stage.server.view_bytes()), (0, 0));
    let id = stage.server.accept_with(stage.now, Some(Box::new(WholeTables)));
    stage.say(id, &greet("nic", "fib", Subset::default(), 300));
    assert_eq!(stage.end_of(id), None);
}

/// A client of a primary that the test speaks for.
struct Victim {
    now: Duration,
    client: Client,
    copy: Table,
    most: usize,
}

fn state(serial: u64) -> State {
    let digest = RootDigest { hash: 7, count: 9 };
    State { epoch: 5, serial, digest, ready: true, stale: false, path: Vec::new() }
}

impl Victim {
    fn new() -> Self {
        let now = ms(1_000);
        let mut client = Client::new(ClientConfig::new("nic", "fib", vec![Role::Primary]), now);
        client.poll_action();
        client.handle_connected(now, 0);
        let mut victim = Self { now, client, copy: Table::new(9), most: 0 };
        victim.hear(&[Frame::Hello { name: "evil".into() }, Frame::Welcome(state(1))]);
        victim
    }

    fn hear(&mut self, frames: &[Frame<'_>]) {
        self.client.handle_bytes(self.now, 0, &bytes(frames), &mut self.copy);
        self.most = self.most.max(self.client.pending_bytes());
    }

    fn error(&self) -> Option<String> {
        self.client.links()[0].last_error.clone()
    }
}

/// Body of a Records frame with one opaque record.
fn body(n: u32, size: usize) -> Vec<u8> {
    let mut body = vec![8, 4];
    body.extend_from_slice(&n.to_be_bytes());
    body.extend([(size & 0x7f | 0x80) as u8, (size >> 7 & 0x7f | 0x80) as u8, (size >> 14) as u8]);
    body.resize(body.len() + size, n as u8);
    body
}

#[test]
fn unfinished_batch_is_limited_in_bytes_of_memory_whatever_is_in_it() {
    for mode in [Mode::Changes, Mode::Snapshot, Mode::Reconcile] {
        for size in [16_000, 200, 1] {
            let mut victim = Victim::new();
            victim.hear(&[Frame::Begin { mode, from: 0 }]);
            for n in 0..60_000_000u32 / (size as u32 + 60) {
                victim.hear(&[Frame::Records(&body(n, size))]);
                if victim.error().is_some() {
                    break;
                }
            }
            assert!(victim.most <= 49 * MIB, "{mode:?} of {size}: {} bytes", victim.most);
            if size > 1 {
                let error = victim.error().unwrap_or_default();
                assert!(error.contains("node.limits.pending_bytes"), "{mode:?} of {size}: {error:?}");
                assert!(victim.client.pending_bytes() < MIB);
            }
        }
    }
}

#[test]
fn complete_copy_beyond_half_of_the_memory_is_applied_like_any_other() {
    let source = table(5, 300_000);
    let mut net = Net::new(vec![Node::new("a", source)]);
    let mut config = ClientConfig::new("nic", "fib", vec![Role::Primary]);
    config.pending = 6 << 20;
    net = Net::with(std::mem::take(&mut net.nodes), config, Table::new(99));
    net.settle();
    assert!(net.equal_to(0) && net.client.is_synced());
    assert_eq!(net.client.counters().routes_copied, 300_000);
}

#[test]
fn symbols_for_ever_end_the_session() {
    let some = |first: u64| Frame::Symbols {
        serial: 1,
        count: 9,
        first,
        symbols: vec![Symbol { sum: first + 1, check: 2, count: 3 }; 256],
    };
    for again in [some(0), Frame::Symbols { serial: 1, count: 9, first: 256, symbols: Vec::new() }] {
        let mut victim = Victim::new();
        victim.hear(&[some(0)]);
        assert_eq!(victim.error(), None);
        victim.hear(&[again]);
        assert!(victim.error().unwrap().contains("Symbols: expected"), "{:?}", victim.error());
    }
    // New ones until there are none left.
    let mut victim = Victim::new();
    (0..80).for_each(|n| victim.hear(&[some(n * 256)]));
    assert!(victim.error().is_some() && victim.most < 2 * MIB, "{} bytes", victim.most);
}

#[test]
fn flood_of_heartbeats_costs_nothing() {
    let mut victim = Victim::new();
    victim.hear(&[Frame::Begin { mode: Mode::Changes, from: 0 }]);
    let beats: Vec<_> = (0..1_000).map(|n| Frame::Heartbeat(Some(state(n)))).collect();
    for _ in 0..200 {
        victim.hear(&beats);
    }
    assert!(victim.error().is_none() && victim.most < MIB, "{} bytes", victim.most);
}

/// Heartbeats pass, data does not.
fn gray(net: &mut Net, at: usize, gray: bool) {
    let queue = if gray { 0 } else { Limits::default().queue };
    net.nodes[at].server.set_limits(Limits { queue, ..Limits::default() });
}

fn two(failback: Duration) -> Net {
    let nodes = vec![Node::new("a", table(10, 3_000)), Node::new("b", table(20, 3_000))];
    let mut config = ClientConfig::new("nic", "fib", vec![Role::Primary, Role::Secondary]);
    config.failback = Some(failback);
    let mut net = Net::with(nodes, config, Table::new(99));
    net.advance(ms(3_000));
    assert_eq!(net.client.active(), Some(0));
    net
}

fn change_both(net: &mut Net, n: u32) {
    for node in &mut net.nodes {
        node.commit([put(n % 3_000, (n % 4) as u8), put(4_000 + n, 1)]);
    }
}

#[test]
fn server_that_announces_commits_and_sends_none_is_left_for_the_next_and_avoided_for_a_while() {
    let mut net = two(ms(1_000));
    gray(&mut net, 0, true);
    change_both(&mut net, 1);
    net.advance(ms(2_500));
    assert_eq!(net.client.active(), Some(0));
    net.advance(ms(1_500));
    assert_eq!(net.client.active(), Some(1), "{:?}", net.client.links());
    assert!(net.client.is_synced() && net.equal_to(1));
    assert_eq!(net.client.counters().stalls, 1);
    let stalled =
        |e: &&ClientEvent| matches!(e, ClientEvent::Stalled { link: 0, behind: Some(1), left: true });
    assert_eq!(net.events.iter().filter(stalled).count(), 1);
    // It is well and capable all the time, and yet not used for 10 s.
    gray(&mut net, 0, false);
    change_both(&mut net, 2);
    net.advance(ms(8_000));
    assert_eq!(net.client.active(), Some(1));
    net.advance(ms(4_000));
    assert_eq!(net.client.active(), Some(0));
    assert!(net.client.is_synced() && net.equal_to(0));
    // The second time it is avoided for longer.
    gray(&mut net, 0, true);
    change_both(&mut net, 3);
    net.advance(ms(4_000));
    assert_eq!(net.client.active(), Some(1));
    gray(&mut net, 0, false);
    net.advance(ms(15_000));
    assert_eq!(net.client.active(), Some(1));
    net.advance(ms(8_000));
    assert_eq!(net.client.active(), Some(0));
}

#[test]
fn only_server_that_is_stalled_keeps_its_client_which_says_so() {
    let mut net = Net::new(vec![Node::new("a", table(10, 3_000))]);
    net.advance(ms(1_000));
    gray(&mut net, 0, true);
    net.nodes[0].commit([put(1, 2), put(4_000, 1)]);
    net.advance(ms(4_000));
    assert!(net.client.is_stalled() && !net.client.is_synced() && net.client.is_stale());
    assert_eq!(net.client.links()[0].state, "stalled");
    assert_eq!((net.client.active(), net.copy.len()), (Some(0), 3_004));
    net.advance(ms(20_000));
    assert_eq!((net.client.counters().stalls, net.client.links()[0].last_error.clone()), (1, None));
    gray(&mut net, 0, false);
    net.nodes[0].commit([put(2, 1)]);
    net.advance(ms(1_000));
    assert!(net.client.is_synced() && net.equal_to(0));
}

#[test]
fn stalled_server_is_left_as_soon_as_another_one_is_capable() {
    let mut net = two(ms(1_000));
    net.kill(1);
    gray(&mut net, 0, true);
    change_both(&mut net, 1);
    net.advance(ms(4_000));
    assert_eq!((net.client.active(), net.client.is_stalled()), (Some(0), true));
    net.nodes[1].up = true;
    net.advance(ms(4_000));
    assert_eq!(net.client.active(), Some(1));
    assert!(net.client.is_synced() && net.equal_to(1));
}

#[test]
fn slow_link_with_real_progress_keeps_its_server() {
    let mut net = two(ms(1_000));
    // 300 bytes every 250 ms: the batch takes much longer than a stalled server is given.
    net.nodes[0].commit((0..2_900).map(|i| put(i * 7_919 % 100_000, ((i + 1) % 4) as u8)));
    net.portion = 300;
    let mut seconds = 0;
    while !net.equal_to(0) {
        net.now += ms(250);
        net.wake_all();
        net.step();
        seconds += 1;
        assert!(seconds < 400 && net.client.active() == Some(0), "after {seconds} quarters");
    }
    assert!(seconds > 4 * 4, "{seconds} quarters: the link was not slow");
    assert_eq!(net.client.counters().stalls, 0);
}
