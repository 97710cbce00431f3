//! A thousand clients at one server: what they cost while they stand by, how long until all have the full table after they connect at
//! once, and what a storm of failovers moves. The server is a process of its own, the clients are [`Light`] ones of this process.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use fibcast_sync_proto::codec::Decoder;
use fibcast_sync_proto::{Change, GroupValue, Key, Label, RootDigest, Table as Copy, Value};
use fibcast_testbed::process::free_addresses;
use fibcast_testbed::tablegen::Rule;
use mio::{Events, Interest, Poll, Token};

use super::failover::routes;
use super::light::{Light, Then};
use super::server::{Server, write_mrt};
use crate::input::Table;
use crate::row::{Better, Row};
use crate::{Course, Failure, codec};

const NAME: &str = "fanout";
/// Clients; fewer only where the system allows fewer open files.
const CLIENTS: usize = 1_000;
/// Routes in which the server of the storm differs.
const DIFFER: usize = 1_000;

/// A table as the server makes it from `routes`.
fn copy_of(table: &Table, rule: &Rule) -> Result<Copy, Failure> {
    let mut copy = Copy::new(1);
    let all: Vec<_> = routes(table, rule, 0).collect();
    for part in all.chunks(10_000) {
        let changes = part.iter().flat_map(|&(prefix, via)| {
            let group = GroupValue::via(via);
            let label = Label::of(&group);
            [
                Change::Put(Key::Group(label), Value::Group(group)),
                Change::Put(Key::Route { vrf: 0, prefix }, Value::Route(label)),
            ]
        });
        copy.commit(changes)?;
    }
    Ok(copy)
}

/// Clients that connect at once, and what became of them.
struct Crowd {
    clients: Vec<Light>,
    took: f64,
}

impl Crowd {
    /// Runs until all of them are where `done` says.
    fn run(
        server: SocketAddr,
        then: Then,
        ours: &Copy,
        done: impl Fn(&Light) -> bool,
    ) -> Result<Self, Failure> {
        let mut poll = Poll::new()?;
        let mut events = Events::with_capacity(1024);
        let mut buffer = vec![0; 128 * 1024];
        let begin = Instant::now();
        let mut clients = Vec::new();
        for number in 0..CLIENTS {
            // One of them keeps the records, so that what all got is known to be the table.
            let mut client = Light::connect(server, format!("client-{number}"), then, number == 0)?;
            let interest = Interest::READABLE | Interest::WRITABLE;
            poll.registry().register(&mut client.stream, Token(number), interest)?;
            clients.push(client);
        }
        let mut left: Vec<bool> = vec![true; CLIENTS];
        let mut missing = CLIENTS;
        while missing > 0 {
            if begin.elapsed() > Duration::from_secs(120) {
                return Err(Failure::Net(format!("{missing} of {CLIENTS} clients got nowhere")));
            }
            poll.poll(&mut events, Some(Duration::from_millis(100)))?;
            for event in &events {
                let Token(number) = event.token();
                let client = &mut clients[number];
                client.turn(&mut buffer, ours).map_err(|e| Failure::Net(format!("client-{number}: {e}")))?;
                if left[number] && done(client) {
                    left[number] = false;
                    missing -= 1;
                }
            }
        }
        Ok(Self { clients, took: begin.elapsed().as_secs_f64() })
    }

    fn bytes(&self) -> u64 {
        self.clients.iter().map(|c| c.received).sum()
    }
}

/// Checks that all clients got one table: the first one's bytes are decoded whole, the others' have the same sum.
fn verify(crowd: &Crowd, expected: RootDigest) -> Result<(), Failure> {
    let Some(first) = crowd.clients.first() else { return Err(Failure::Copy) };
    let mut decoder = Decoder::new();
    let mut copy = Copy::new(2);
    for body in first.kept().unwrap_or_default() {
        let mut transaction = copy.begin();
        decoder.decode(body, |change| Ok::<(), Failure>(transaction.push(change)?))?;
        transaction.commit()?;
    }
    let same = |c: &Light| c.digest == Some(expected) && c.sum() == first.sum();
    if copy.digest() != expected || !crowd.clients.iter().all(same) {
        return Err(Failure::Copy);
    }
    Ok(())
}

/// All rows of this bench.
pub fn run(table: &Table, _: Course) -> Result<Vec<Row>, Failure> {
    fibcast_daemon::files::raise_limit();
    let folder = tempfile::tempdir()?;
    let rule = codec::rule()?;
    let [same, other] = ["same.mrt", "other.mrt"].map(|name| folder.path().join(name));
    write_mrt(&same, routes(table, &rule, 0))?;
    write_mrt(&other, routes(table, &rule, DIFFER))?;
    let ours = copy_of(table, &rule)?;
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);

    let [address, other_address] = free_addresses()?;
    let server = Server::start(folder.path(), "rs-a", address, &same)?;
    let empty = server.status()?.resident_bytes;
    let standing = Crowd::run(server.address, Then::Nothing, &ours, |c| c.registered)?;
    std::thread::sleep(Duration::from_secs(1));
    let state = server.status()?;
    if state.clients.len() != CLIENTS {
        return Err(Failure::Net(format!("expected {CLIENTS} clients, found {}", state.clients.len())));
    }
    let idle = state.resident_bytes.saturating_sub(empty) as f64 / 1024.0 / CLIENTS as f64;
    drop(standing);
    std::thread::sleep(Duration::from_millis(500));
    let copies = Crowd::run(server.address, Then::Copy, &ours, |c| c.digest.is_some())?;
    verify(&copies, ours.digest())?;
    let (all_synced, copied, peak) = (copies.took, copies.bytes(), server.status()?.resident_bytes);
    drop((copies, server));

    let server = Server::start(folder.path(), "rs-b", other_address, &other)?;
    let storm = Crowd::run(server.address, Then::Compare, &ours, |c| c.digest.is_some())?;
    let first = storm.clients.first().ok_or(Failure::Copy)?;
    // A route that differs is two records: ours, and theirs.
    let wrong = storm.clients.iter().filter(|c| c.differed != 2 * DIFFER || c.digest != first.digest).count();
    if wrong > 0 {
        return Err(Failure::Net(format!("{wrong} clients found another difference than {DIFFER} routes")));
    }
    let moved = storm.bytes();
    Ok(vec![
        Row::new(NAME, "clients", CLIENTS as f64, "clients"),
        Row::new(NAME, "all_synced", all_synced, "s"),
        Row::new(NAME, "idle_memory", idle, "KiB"),
        Row::new(NAME, "server_memory", mib(empty), "MiB"),
        Row::new(NAME, "server_memory_serving", mib(peak), "MiB"),
        Row::new(NAME, "storm", storm.took, "s"),
        Row::new(NAME, "storm_bytes", moved as f64, "bytes").beside(
            "full copies",
            copied as f64,
            Better::Less,
        ),
        Row::new(NAME, "storm_share", moved as f64 / copied as f64 * 100.0, "percent"),
    ])
}
