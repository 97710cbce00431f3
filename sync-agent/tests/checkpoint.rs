//! The table on disk: a restart forwards at once and asks for the difference; no accident leaves half a table.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::log::gather;
use common::*;
use fibcast_control::status::Role;
use fibcast_sync_agent::agent::config::{Sync, SyncServer};
use fibcast_sync_agent::agent::{Agent, AgentConfig, AgentHandle, NoSink, Sink, SinkError};
use fibcast_sync_agent::checkpoint::{Checkpoint, load};
use fibcast_sync_agent::shell::Limits;
use fibcast_sync_proto::{Batch, Change, DigestKey, DigestKeys, Key, Table, Value};

fn nic(path: &Path, server: SocketAddr, sink: Box<dyn Sink>) -> AgentHandle {
    let sync = Sync {
        servers: vec![SyncServer { address: server.to_string(), role: Role::Primary }],
        heartbeat_ms: 100,
        failback_s: 1,
        checkpoint: Some(path.to_owned()),
        checkpoint_interval_s: 1,
        ..Default::default()
    };
    let config = AgentConfig {
        name: "nh-1".into(),
        listen: Vec::new(),
        sync,
        security: None,
        digest_keys: Default::default(),
        scrub: None,
        limits: Limits::default(),
        acknowledge: None,
        budgets: Default::default(),
    };
    Agent::spawn(config, sink).unwrap()
}

/// An address at which nobody listens.
fn nowhere() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn digest(agent: &AgentHandle) -> String {
    agent.status().map(|s| s.table.digest).unwrap_or_default()
}

struct Counting(Arc<Mutex<usize>>);

impl Sink for Counting {
    fn apply(&mut self, batch: &Batch<'_>) -> Result<(), SinkError> {
        *self.0.lock().unwrap() += batch.changes().count();
        Ok(())
    }
}

/// Walks until a whole checkpoint is on disk.
fn write(checkpoint: &mut Checkpoint, table: &Table) {
    let begin = Instant::now();
    while checkpoint.status().serial != table.serial() {
        checkpoint.turn(begin.elapsed() + Duration::from_secs(1), table);
        assert!(begin.elapsed() < Duration::from_secs(30), "{:?}", checkpoint.status());
    }
}

fn written(folder: &tempfile::TempDir, routes: u32) -> PathBuf {
    let path = folder.path().join("table.ckpt");
    write(&mut Checkpoint::new(&path, "fib", Duration::ZERO), &table(1, routes));
    path
}

#[test]
fn restarted_host_has_its_routes_before_any_server_and_copies_only_the_difference() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("deep/table.ckpt");
    let a = TestServer::start("a", "127.0.0.1:0", table(10, 20_000));
    let first = nic(&path, a.address, Box::new(NoSink));
    until("first table", || digest(&first) == a.digest());
    let before = a.digest();
    first.stop();

    let applied = Arc::new(Mutex::new(0));
    let alone = nic(&path, nowhere(), Box::new(Counting(Arc::clone(&applied))));
    until("routes without a server", || digest(&alone) == before);
    // The sink gets its batch in the turn after the one that answers operators.
    until("the host forwards by what was on disk", || *applied.lock().unwrap() == 20_004);
    let status = alone.status().unwrap();
    assert!(status.stale && status.sync.unwrap().checkpoint.unwrap().loaded_records == 20_004);
    alone.stop();

    a.commit((0..10).map(|i| put(i, 3)).chain([Change::Delete(key(77))]));
    let second = nic(&path, a.address, Box::new(NoSink));
    until("the difference", || digest(&second) == a.digest());
    let sync = second.status().unwrap().sync.unwrap();
    assert_eq!(sync.routes_copied, 0);
    assert!(sync.routes_applied <= 11, "{}", sync.routes_applied);
    let bytes = sync.servers[0].received_bytes;
    assert!(bytes < 16_000, "{bytes} bytes for 11 of 20,000 routes");
}

#[test]
fn table_that_changes_all_the_while_is_written_as_of_one_commit() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("table.ckpt");
    let mut table = table(1, 50_000);
    let mut checkpoint = Checkpoint::new(&path, "fib", Duration::ZERO);
    let mut digests = std::collections::HashMap::new();
    for round in 0..20u32 {
        let begin = Instant::now();
        loop {
            // Routes come, go and change while the walk is on its way, groups with them.
            let (i, n) = (round * 1000 + table.serial() as u32 % 997, 10 + (table.serial() % 40) as u8);
            let gone = [Change::Delete(key(i)), Change::Delete(key(49_999 - i % 5000))];
            let changes = gone.into_iter().chain([group(n), put(i + 7, n), put(60_000 + i, n)]);
            let mut transaction = table.begin();
            transaction.push_all(changes).unwrap();
            transaction.commit_and_collect().unwrap();
            table.pin(checkpoint.pin());
            digests.insert(table.serial(), table.digest());
            checkpoint.turn(begin.elapsed(), &table);
            if checkpoint.status().written > u64::from(round) {
                break;
            }
            assert!(begin.elapsed() < Duration::from_secs(30));
        }
        let found = load(&path, "fib", 2, &DigestKeys::default()).unwrap().unwrap();
        assert_eq!(Some(&found.digest()), digests.get(&checkpoint.status().serial));
        assert!(found.is_sound());
    }
}

#[test]
fn other_records_than_routes_are_kept_as_well() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.ckpt");
    let mut table = Table::new(1);
    let opaque = |n: u8| Change::Put(Key::Opaque(Box::from([n])), Value::Opaque(Box::from([n; 100])));
    table.commit((0..50).map(opaque)).unwrap();
    write(&mut Checkpoint::new(&path, "rib", Duration::ZERO), &table);
    assert_eq!(load(&path, "rib", 9, &DigestKeys::default()).unwrap().unwrap().digest(), table.digest());
}

#[test]
fn file_under_another_key_is_used_if_the_node_accepts_the_key_and_refused_by_name_if_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.ckpt");
    let [old, new] = [1, 2].map(|n| DigestKey::new([n; 32]));
    let mut written = table(1, 100);
    written.rekey(old, 1);
    write(&mut Checkpoint::new(&path, "fib", Duration::ZERO), &written);
    assert_eq!(load(&path, "fib", 2, &DigestKeys::new(old, [])).unwrap().unwrap().digest(), written.digest());
    let found = load(&path, "fib", 2, &DigestKeys::new(new, [old])).unwrap().unwrap();
    written.rekey(new, 3);
    assert_eq!((found.digest(), found.digest_key()), (written.digest(), new));
    assert!(found.is_sound());
    let error = load(&path, "fib", 2, &DigestKeys::new(new, [])).unwrap_err().to_string();
    let expected = format!("expected a file under digest key {}, found one under {}", new.id(), old.id());
    assert!(error.ends_with(&expected), "{error}");
}

#[test]
fn file_that_is_not_there_is_no_error() {
    assert!(load("/nonexistent/table.ckpt".as_ref(), "fib", 1, &DigestKeys::default()).unwrap().is_none());
}

#[test]
fn every_damage_is_refused_and_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = written(&folder, 3000);
    let good = std::fs::read(&path).unwrap();
    let refusal = |bytes: &[u8], table: &str| {
        std::fs::write(&path, bytes).unwrap();
        let text = load(&path, table, 1, &DigestKeys::default()).unwrap_err().to_string();
        text.strip_prefix(&format!("{}: ", path.display())).unwrap().to_owned()
    };
    for at in (0..good.len()).step_by(97) {
        let mut bytes = good.clone();
        bytes[at] ^= 0x40;
        let text = refusal(&bytes, "fib");
        assert!(text.contains("expected") || text.contains("corrupt"), "byte {at}: {text}");
        let text = refusal(&good[..at], "fib");
        assert!(text.contains("truncated"), "{at} bytes: {text}");
    }
    let mut newer = good.clone();
    newer[11] = 9;
    assert_eq!(refusal(&newer, "fib"), "expected version 2 of the file, found 9");
    assert_eq!(refusal(&good, "rib"), "expected the table \"rib\", found the table \"fib\"");
    assert_eq!(
        refusal(b"#!/bin/sh\necho this is a script", "fib"),
        "expected a checkpoint of fibcast, found something else"
    );
    std::fs::write(&path, &good).unwrap();
    assert_eq!(load(&path, "fib", 1, &DigestKeys::default()).unwrap().unwrap().counts().routes(), 3000);
}

#[test]
fn agent_with_a_broken_checkpoint_says_so_starts_empty_and_writes_a_good_one() {
    let log = gather();
    let folder = tempfile::tempdir().unwrap();
    let path = written(&folder, 3000);
    let good = std::fs::read(&path).unwrap();
    std::fs::write(&path, &good[..good.len() / 2]).unwrap();
    let a = TestServer::start("a", "127.0.0.1:0", table(10, 500));
    let agent = nic(&path, a.address, Box::new(NoSink));
    until("the server's table", || digest(&agent) == a.digest());
    assert!(log.line(&["table.ckpt", "truncated or corrupt; starting with an empty table"]).is_some());
    until("a good file", || agent.status().unwrap().sync.unwrap().checkpoint.unwrap().written > 0);
    assert_eq!(load(&path, "fib", 1, &DigestKeys::default()).unwrap().unwrap().counts().routes(), 500);
    assert_eq!(agent.status().unwrap().sync.unwrap().checkpoint.unwrap().last_error, None);
}

#[test]
fn disk_that_refuses_costs_nothing_but_the_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    // The folder of the checkpoint is a file.
    std::fs::write(folder.path().join("file"), "x").unwrap();
    let path = folder.path().join("file/table.ckpt");
    let a = TestServer::start("a", "127.0.0.1:0", table(10, 500));
    let agent = nic(&path, a.address, Box::new(NoSink));
    until("the server's table", || digest(&agent) == a.digest());
    let error = || agent.status().unwrap().sync.unwrap().checkpoint.unwrap().last_error;
    until("the error in status", || error().is_some());
    a.commit([put(3, 1)]);
    until("the next change", || digest(&agent) == a.digest());
    // The disk takes it again: what was promised is done, without any further change of the table.
    std::fs::remove_file(folder.path().join("file")).unwrap();
    let status = || agent.status().unwrap().sync.unwrap().checkpoint.unwrap();
    until("the file", || status().written > 0);
    assert_eq!(status().last_error, None);
    // An attempt that had begun before the change may have been the first to succeed.
    until("the change in the file", || {
        let written = load(&path, "fib", 1, &DigestKeys::default()).unwrap().unwrap();
        (written.counts().routes(), written.get(&key(3))) == (500, Some(Value::Route(label(1))))
    });
    agent.stop();
}

/// A pipe without a reader stands for a disk that does not answer: to open it takes for ever.
#[test]
fn disk_that_hangs_stops_neither_the_table_nor_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("table.ckpt");
    rustix::fs::mkfifoat(rustix::fs::CWD, folder.path().join("table.ckpt.new"), 0o600.into()).unwrap();
    let a = TestServer::start("a", "127.0.0.1:0", table(10, 30_000));
    let agent = nic(&path, a.address, Box::new(NoSink));
    until("the server's table", || digest(&agent) == a.digest());
    for round in 0..20 {
        a.commit([put(round, 1)]);
        agent.resync().unwrap();
        until("the next change", || digest(&agent) == a.digest());
    }
    let begin = std::time::Instant::now();
    agent.stop();
    assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", begin.elapsed());
}

const CHILD: &str = "FIBCAST_TEST_CHECKPOINT";

/// Not a test of its own: the process that is killed. Writes generation after generation and says which are complete.
#[test]
#[ignore = "is run by the test below"]
fn child_that_writes_checkpoints_without_end() {
    let Some(path) = std::env::var_os(CHILD) else { return };
    let mut table = match load(path.as_ref(), "fib", 1, &DigestKeys::default()) {
        Ok(Some(table)) => table,
        Ok(None) => table(1, 5_000),
        Err(e) => panic!("{e}"),
    };
    let generation = |t: &Table| (0..).take_while(|n| t.get(&key(100_000 + n)).is_some()).count() as u32;
    let mut n = generation(&table);
    let mut checkpoint = Checkpoint::new(path.as_ref(), "fib", Duration::ZERO);
    loop {
        table.commit([put(100_000 + n, 1)]).unwrap();
        n += 1;
        write(&mut checkpoint, &table);
        println!("complete {n}");
    }
}

#[test]
fn kill_at_any_instant_leaves_the_last_complete_checkpoint_or_the_one_after() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("table.ckpt");
    let (mut complete, mut kills) = (0, 0);
    let mut random = 0x2545_f491_4f6c_dd1du64;
    while kills < 60 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "--nocapture", "child_that_writes_checkpoints_without_end"])
            .env(CHILD, &path)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let reader = std::thread::spawn(move || {
            let lines =
                lines.map_while(Result::ok).filter_map(|l| l.strip_prefix("complete ")?.parse::<u32>().ok());
            lines.last()
        });
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        std::thread::sleep(Duration::from_micros(20_000 + (random >> 33) % 40_000));
        child.kill().unwrap();
        child.wait().unwrap();
        complete = reader.join().unwrap().unwrap_or(complete).max(complete);
        kills += 1;
        let found = load(&path, "fib", 1, &DigestKeys::default())
            .unwrap_or_else(|e| panic!("after {kills} kills: {e}"));
        let n = found.map_or(0, |t| (0..).take_while(|n| t.get(&key(100_000 + n)).is_some()).count() as u32);
        assert!(n == complete || n == complete + 1, "complete was {complete}, found {n}");
        complete = n;
    }
    assert!(complete > 60, "only {complete} checkpoints were written before {kills} kills");
}
