//! Peers that send garbage, stall, or come in thousands: they cost bounded memory and no other session.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::pki::Pki;
use common::*;
use fibcast_daemon::process::resident_bytes;
use fibcast_sync_agent::agent::config::Sync;
use fibcast_sync_agent::agent::{AgentHandle, NoSink};
use fibcast_sync_agent::shell::Limits;
use fibcast_sync_agent::shell::tls::Security;
use fibcast_sync_proto::frame::{Frame, Role};

/// These tests measure time: they take turns, so that none is judged by what another costs.
static TURN: std::sync::Mutex<()> = std::sync::Mutex::new(());

/// An agent that a busy machine does not make impatient.
fn patient(server: &TestServer, security: Option<Arc<Security>>) -> AgentHandle {
    let sync = Sync { heartbeat_ms: 1_000, progress_ms: 5_000, ..sync(&[server.address]) };
    spawn("nh-1", false, sync, Box::new(NoSink), security)
}

/// Commits a change and says how long it took to reach the agent.
fn round_trip(server: &TestServer, agent: &AgentHandle, n: u32) -> Duration {
    let begin = Instant::now();
    server.commit([put(n % 1000, (n % 4) as u8), put(n + 5000, 1)]);
    let expected = server.digest();
    until("the change", || agent.status().is_ok_and(|s| s.table.digest == expected));
    begin.elapsed()
}

fn undisturbed(server: &TestServer, agent: &AgentHandle, rounds: u32) {
    let failovers = |a: &AgentHandle| {
        let sync = a.status().unwrap().sync.unwrap();
        (sync.failovers, sync.servers[0].last_error.clone())
    };
    let worst = (0..rounds).map(|n| round_trip(server, agent, n)).max().unwrap();
    // Two seconds, and some for a machine that is busy with other things.
    assert!(worst < Duration::from_secs(5), "a change took {worst:?}");
    assert_eq!(failovers(agent), (0, None), "heartbeats of the good session were late");
}

#[test]
fn flood_of_connections_that_say_nothing_or_garbage_costs_no_other_session() {
    let _turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    fibcast_daemon::files::raise_limit();
    let files = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(20_000);
    // This process holds the far end of each, and as many near ends as the limits below let in.
    let flood = (files as usize).saturating_sub(4_000).min(10_000);
    let limits = Limits { connections: 600, per_address: 500, half_open: 300, handshake_ms: 500 };
    let pki = Pki::new();
    let server = TestServer::secure("rs-a", table(10, 1000), limits, pki.node("rs-a"));
    let good = patient(&server, pki.node("nh-1"));
    until("first table", || good.status().unwrap().ready);
    let before = resident_bytes();
    let mut streams = Vec::new();
    for n in 0..flood {
        let Ok(mut stream) = TcpStream::connect(server.address) else { continue };
        match n % 4 {
            0 => {}
            1 => drop(stream.write_all(&[0xff; 512])),
            // The begin of a ClientHello that never ends.
            2 => drop(stream.write_all(&[0x16, 3, 1, 0x40, 0, 1, 0, 0x3f, 0xfc, 3, 3])),
            _ => drop(stream.write_all(b"GET / HTTP/1.1\r\n\r\n")),
        }
        streams.push(stream);
        if n % 1000 == 0 {
            undisturbed(&server, &good, 3);
        }
    }
    undisturbed(&server, &good, 20);
    let grown = resident_bytes().saturating_sub(before);
    assert!(grown < 64 << 20, "{flood} connections cost {grown} bytes");
    // Those who say nothing give way to a newcomer, which does not wait for their time to end.
    let asked = Instant::now();
    let late = secure_agent("nh-2", false, &[server.address], Box::new(NoSink), pki.node("nh-2"));
    until("a newcomer in the flood", || late.status().unwrap().ready);
    println!("a newcomer in the flood is served in {:?}", asked.elapsed());
    drop(streams);
}

#[test]
fn client_that_asks_for_everything_again_and_again_and_never_reads_costs_bounded_memory_and_no_other_session()
{
    let _turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let server = TestServer::start("rs-a", "127.0.0.1:0", table(10, 50_000));
    let good = patient(&server, None);
    until("first table", || good.status().unwrap().ready);
    let before = resident_bytes();
    let mut greedy = Vec::new();
    for n in 0..50 {
        let stream = TcpStream::connect(server.address).unwrap();
        stream.set_nonblocking(true).unwrap();
        let mut bytes = Vec::new();
        Frame::Hello { name: format!("greedy-{n}") }.encode(&mut bytes);
        let register = Frame::Register {
            table: "fib".into(),
            role: Role::Primary,
            heartbeat_ms: 60_000,
            digest_key: fibcast_sync_proto::DigestKey::PUBLIC.id(),
            path: vec![],
            subset: fibcast_sync_proto::Subset::default(),
        };
        register.encode(&mut bytes);
        for _ in 0..20_000 {
            let digest = fibcast_sync_proto::RootDigest::default();
            Frame::Activate { epoch: 0, serial: 0, digest, copy: true }.encode(&mut bytes);
        }
        greedy.push((stream, bytes, 0));
    }
    for round in 0..30 {
        for (stream, bytes, at) in &mut greedy {
            while let Ok(n) = stream.write(&bytes[*at..]) {
                *at += n;
                if n == 0 || *at >= bytes.len() {
                    break;
                }
            }
        }
        if round % 3 == 0 {
            undisturbed(&server, &good, 2);
        }
    }
    let grown = resident_bytes().saturating_sub(before);
    // 50 times 0.6 MB of input here, and what the sessions of a server may hold together.
    assert!(grown < (32 + 64) << 20, "50 greedy clients cost {grown} bytes");
    for (stream, ..) in greedy {
        let _ = stream.shutdown(Shutdown::Both);
    }
    undisturbed(&server, &good, 5);
}

/// What a client says that has a table of its own and wants the difference, over and over, as fast as it can, each time another one.
fn questions(n: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    for k in 0..2_000u64 {
        let hash = u128::from(n << 32 | k) << 64 | 1;
        let digest = fibcast_sync_proto::RootDigest { hash, count: 200_004 };
        Frame::Activate { epoch: 0, serial: 0, digest, copy: false }.encode(&mut bytes);
        Frame::More { until: 16_384 }.encode(&mut bytes);
        Frame::Want { last: true, ids: vec![n << 32 | k, k] }.encode(&mut bytes);
    }
    bytes
}

struct StopOnDrop<'a>(&'a std::sync::atomic::AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, std::sync::atomic::Ordering::Relaxed);
    }
}

#[test]
fn clients_that_ask_for_dear_answers_without_end_hold_up_no_other_session() {
    let _turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let server = TestServer::start("rs-a", "127.0.0.1:0", table(10, 200_000));
    let good = patient(&server, None);
    until("first table", || good.status().unwrap().ready);
    let before = resident_bytes();
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for n in 0..40u64 {
            let (stop, address) = (&stop, server.address);
            scope.spawn(move || {
                let mut stream = TcpStream::connect(address).unwrap();
                stream.set_nonblocking(true).unwrap();
                let mut hello = Vec::new();
                Frame::Hello { name: format!("greedy-{n}") }.encode(&mut hello);
                let register = Frame::Register {
                    table: "fib".into(),
                    role: Role::Primary,
                    heartbeat_ms: 60_000,
                    digest_key: fibcast_sync_proto::DigestKey::PUBLIC.id(),
                    path: vec![],
                    subset: fibcast_sync_proto::Subset::default(),
                };
                register.encode(&mut hello);
                let (bytes, mut at, mut sink) = ([hello, questions(n)].concat(), 0, vec![0; 1 << 16]);
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    at += stream.write(&bytes[at..]).unwrap_or(0);
                    // Half of them read what they get, the others nothing.
                    let read = if n % 2 == 0 { stream.read(&mut sink).unwrap_or(0) } else { 0 };
                    if read == 0 {
                        std::thread::sleep(Duration::from_millis(2));
                    }
                }
                // All that a client had to say, or as much as the server would hear: never so much that it gave up others for it.
                assert!(at > 0);
            });
        }
        // Also when an assertion fails: the scope waits for its threads.
        let _stop = StopOnDrop(&stop);
        let end = Instant::now() + Duration::from_secs(4);
        while Instant::now() < end {
            undisturbed(&server, &good, 2);
        }
        let grown = resident_bytes().saturating_sub(before);
        assert!(grown < 64 << 20, "40 greedy clients cost {grown} bytes");
    });
    undisturbed(&server, &good, 5);
}

#[test]
fn client_that_is_refused_and_does_not_hang_up_is_closed_in_time() {
    let _turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let server = TestServer::start("rs-a", "127.0.0.1:0", table(10, 10));
    let mut stream = TcpStream::connect(server.address).unwrap();
    stream.write_all(&[99; 64]).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let begin = Instant::now();
    let mut all = Vec::new();
    // Hello, Error, end of the connection.
    let _ = stream.read_to_end(&mut all);
    assert!(begin.elapsed() < Duration::from_secs(4), "open for {:?}", begin.elapsed());
    assert!(String::from_utf8_lossy(&all).contains("frame"), "{}", String::from_utf8_lossy(&all));
}
