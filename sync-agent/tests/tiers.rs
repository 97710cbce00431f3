//! Route servers, a relay and tiers below it over real TCP on loopback.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::sync::{Arc, Mutex};

use common::*;
use fibcast_control::protocol::{RouteQuery, RouteRequest};
use fibcast_control::status::Role;
use fibcast_sync_agent::agent::{AgentHandle, NoSink, Sink, SinkError};
use fibcast_sync_proto::{Batch, Change};

fn digest(agent: &AgentHandle) -> String {
    agent.status().unwrap().table.digest
}

#[test]
fn chain_of_three_tiers_follows_fails_over_and_copies_nothing() {
    let a = TestServer::start("a", "127.0.0.1:0", table(10, 30_000));
    let b = TestServer::start("b", "127.0.0.1:0", table(20, 30_000));
    let relay = agent("relay", true, &[a.address, b.address], Box::new(NoSink));
    let leaf = agent("leaf", true, &[relay.addresses()[0]], Box::new(NoSink));
    let last = agent("last", false, &[leaf.addresses()[0]], Box::new(NoSink));
    until("the last tier has the table", || digest(&last) == a.digest());

    for i in 0..50 {
        a.commit([put(i, ((i + 1) % 4) as u8), Change::Delete(key(20_000 + i))]);
        b.commit([put(i, ((i + 1) % 4) as u8), Change::Delete(key(20_000 + i))]);
    }
    until("changes reach the last tier", || digest(&last) == a.digest());
    // The secondary is some records ahead when the primary dies.
    b.commit((0..25).map(|i| put(100 + i, ((i + 3) % 4) as u8)));
    let copied = last.status().unwrap().sync.unwrap().routes_copied;
    drop(a);
    until("the last tier is equal to the secondary", || digest(&last) == b.digest());

    let status = relay.status().unwrap();
    let sync = status.sync.unwrap();
    assert_eq!((sync.active, sync.failovers), (Some(Role::Secondary), 1));
    assert_eq!(sync.last_failover_routes_copied, 0);
    assert!(sync.routes_differing > 0 && sync.routes_differing <= 25, "{}", sync.routes_differing);
    assert!(!status.stale && status.clients.len() == 1);
    let sync = last.status().unwrap().sync.unwrap();
    assert_eq!((sync.routes_copied, sync.failovers), (copied, 0), "the tiers below get the difference only");
}

#[test]
fn primary_that_comes_back_is_used_again() {
    let a = TestServer::start("a", "127.0.0.1:0", table(10, 1000));
    let b = TestServer::start("b", "127.0.0.1:0", table(20, 1000));
    let nic = agent("nic", false, &[a.address, b.address], Box::new(NoSink));
    until("first table", || nic.status().unwrap().ready);
    let address = a.address.to_string();
    drop(a);
    until("failover", || nic.status().unwrap().sync.unwrap().active == Some(Role::Secondary));
    let a = TestServer::start("a", &address, table(11, 1000));
    until("failback", || nic.status().unwrap().sync.unwrap().active == Some(Role::Primary));
    a.commit([put(5, 3)]);
    until("the primary's change", || digest(&nic) == a.digest());
    drop(b);
}

#[test]
fn relay_without_servers_keeps_serving_and_says_stale() {
    let a = TestServer::start("a", "127.0.0.1:0", table(10, 1000));
    let relay = agent("relay", true, &[a.address], Box::new(NoSink));
    let leaf = agent("leaf", false, &[relay.addresses()[0]], Box::new(NoSink));
    until("first table", || leaf.status().unwrap().ready);
    let expected = digest(&leaf);
    drop(a);
    until("relay is stale", || relay.status().unwrap().stale);
    until("leaf knows", || !leaf.status().unwrap().sync.unwrap().servers[0].ready);
    assert_eq!((digest(&relay), digest(&leaf)), (expected.clone(), expected));
    // A node that comes now gets no table from a server that is not capable.
    let late = agent("late", false, &[relay.addresses()[0]], Box::new(NoSink));
    until("late is registered", || late.status().unwrap().sync.unwrap().servers[0].state == "standby");
    assert_eq!(late.status().unwrap().table.records, 0);
}

#[test]
fn unready_server_is_not_used() {
    let a = TestServer::start("a", "127.0.0.1:0", table(10, 1000));
    a.order(Order::Ready(false));
    let nic = agent("nic", false, &[a.address], Box::new(NoSink));
    until("registered", || nic.status().unwrap().sync.unwrap().servers[0].state == "standby");
    assert!(nic.status().unwrap().stale);
    a.order(Order::Ready(true));
    until("used", || nic.status().unwrap().ready);
    let query = RouteQuery::Address("0.0.7.1".parse().unwrap());
    let list = nic.routes(RouteRequest { query, ..RouteRequest::default() }).unwrap();
    assert_eq!((list.routes.len(), list.routes[0].origin.as_deref()), (1, Some("server a")));
    assert!(list.routes[0].age_ms.is_some_and(|age| age < 600_000));
}

/// Refuses at first, fails once, and panics once.
struct Moody {
    calls: u32,
    taken: Arc<Mutex<std::collections::HashMap<fibcast_sync_proto::Key, Change>>>,
}

impl Sink for Moody {
    fn apply(&mut self, batch: &Batch<'_>) -> Result<(), SinkError> {
        self.calls += 1;
        match self.calls {
            1..=3 => return Err(SinkError::Busy),
            4 => return Err(SinkError::Failed("out of memory".into())),
            6 => panic!("the sink panics, once"),
            _ => {}
        }
        let mut taken = self.taken.lock().unwrap();
        for change in batch.changes() {
            match change.is_deletion() {
                true => taken.remove(&change.key()),
                false => taken.insert(change.key(), change.into()),
            };
        }
        Ok(())
    }
}

#[test]
fn sink_that_is_busy_fails_or_panics_misses_nothing() {
    let a = TestServer::start("a", "127.0.0.1:0", table(10, 500));
    let taken = Arc::new(Mutex::new(std::collections::HashMap::new()));
    let nic = agent("nic", false, &[a.address], Box::new(Moody { calls: 0, taken: Arc::clone(&taken) }));
    until("first table", || taken.lock().unwrap().len() == 504);
    a.commit([Change::Delete(key(1)), put(600, 1)]);
    until("the change", || taken.lock().unwrap().contains_key(&key(600)));
    assert!(!taken.lock().unwrap().contains_key(&key(1)));
    assert_eq!(taken.lock().unwrap().len(), 504);
    assert_eq!(nic.panics(), 1);
    until("digest", || nic.status().is_ok_and(|s| s.table.digest == a.digest()));
}

/// Records its batches and resets.
#[derive(Clone, Default)]
struct Notes(Arc<Mutex<(Vec<usize>, u32)>>);

impl Sink for Notes {
    fn apply(&mut self, batch: &Batch<'_>) -> Result<(), SinkError> {
        self.0.lock().unwrap().0.push(batch.changes().count());
        Ok(())
    }

    fn reset(&mut self) {
        self.0.lock().unwrap().1 += 1;
    }
}

#[test]
fn agent_that_nobody_asks_anything_connects_at_once() {
    let a = TestServer::start("a", "127.0.0.1:0", table(10, 100));
    let notes = Notes::default();
    let begin = std::time::Instant::now();
    let _nic = agent("nic", false, &[a.address], Box::new(notes.clone()));
    until("the table", || !notes.0.lock().unwrap().0.is_empty());
    // The loop's longest sleep is a second.
    assert!(begin.elapsed() < std::time::Duration::from_millis(700), "after {:?}", begin.elapsed());
}

#[test]
fn staleness_is_told_down_the_tiers_and_ends_with_the_loss() {
    let a = TestServer::start("a", "127.0.0.1:0", table(10, 1000));
    let relay = agent("relay", true, &[a.address], Box::new(NoSink));
    let leaf = agent("leaf", true, &[relay.addresses()[0]], Box::new(NoSink));
    let last = agent("last", false, &[leaf.addresses()[0]], Box::new(NoSink));
    until("first table", || !last.status().unwrap().stale);
    let address = a.address.to_string();
    drop(a);
    // At once, while the relay is still ready for a while.
    until("the last tier knows", || last.status().unwrap().stale);
    let server = last.status().unwrap().sync.unwrap().servers[0].clone();
    assert!(server.stale && server.ready, "{server:?}");
    let _a = TestServer::start("a", &address, table(11, 1000));
    until("all is well again", || !last.status().unwrap().stale);
    let sync = last.status().unwrap().sync.unwrap();
    assert!(!sync.servers[0].stale && sync.failovers == 0, "{sync:?}");
}

#[test]
fn routes_that_nobody_vouches_for_are_withdrawn_when_that_is_configured_and_come_back_from_the_table() {
    let a = TestServer::start("a", "127.0.0.1:0", table(10, 500));
    let notes = Notes::default();
    let sync = fibcast_sync_agent::agent::config::Sync { expire_s: 1, ..sync(&[a.address]) };
    let nic = spawn("nic", false, sync, Box::new(notes.clone()), None);
    until("first table", || notes.0.lock().unwrap().0 == [504]);
    let address = a.address.to_string();
    drop(a);
    until("expiry", || notes.0.lock().unwrap().1 == 1);
    until("the sink holds nothing", || notes.0.lock().unwrap().0 == [504, 0]);
    assert_eq!(nic.status().unwrap().table.records, 504, "the table stays, for the difference");
    let _a = TestServer::start("a", &address, table(11, 500));
    until("the routes are back", || notes.0.lock().unwrap().0 == [504, 0, 504]);
    assert_eq!(nic.status().unwrap().sync.unwrap().last_failover_routes_copied, 0);
    assert_eq!(nic.status().unwrap().sync.unwrap().routes_copied, 500, "by the first copy alone");
}

#[test]
fn node_with_a_part_of_the_table_gets_and_serves_that_alone() {
    use fibcast_sync_proto::subset::{PrefixRange, Subset};
    let a = TestServer::start("a", "127.0.0.1:0", table(10, 1000));
    let range = PrefixRange::within("0.1.0.0/16".parse().unwrap());
    let subset = Subset::new(Vec::new(), None, vec![range]);
    let part = fibcast_sync_agent::agent::config::Sync { subset: subset.clone(), ..sync(&[a.address]) };
    let relay = spawn("relay", true, part, Box::new(NoSink), None);
    until("the part", || relay.status().unwrap().table.ipv4_routes == 256);
    let same = fibcast_sync_agent::agent::config::Sync { subset, ..sync(&[relay.addresses()[0]]) };
    let leaf = spawn("leaf", false, same, Box::new(NoSink), None);
    until("the part below", || leaf.status().unwrap().table.ipv4_routes == 256);
    let all = agent("all", false, &[relay.addresses()[0]], Box::new(NoSink));
    let error = |a: &AgentHandle| a.status().unwrap().sync.unwrap().servers[0].last_error.clone();
    until("refusal", || error(&all).is_some_and(|e| e.contains("holds only a part of table fib")));
    a.commit([put(256, 3), put(5, 3)]);
    until("a change of the part", || {
        digest(&leaf) == digest(&relay) && leaf.status().unwrap().table.serial > 1
    });
}

#[test]
fn agent_that_is_its_own_server_is_told_so() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let config = fibcast_sync_agent::agent::AgentConfig {
        name: "nic".into(),
        listen: vec![port],
        sync: sync(&[port]),
        security: None,
        digest_keys: Default::default(),
        scrub: None,
        limits: fibcast_sync_agent::shell::Limits::default(),
        acknowledge: None,
        budgets: Default::default(),
    };
    let nic = fibcast_sync_agent::agent::Agent::spawn(config, Box::new(NoSink)).unwrap();
    let error = || nic.status().unwrap().sync.unwrap().servers[0].last_error.clone();
    until("refusal", || error().is_some_and(|e| e.contains("is its own server")));
}

#[test]
fn name_with_several_addresses_is_tried_by_all_of_them() {
    use std::net::ToSocketAddrs;
    let addresses: Vec<_> = "localhost:0".to_socket_addrs().unwrap().collect();
    assert!(!addresses.is_empty());
    // Each time another one is the only address at which a server answers.
    for address in addresses {
        let a = TestServer::start("rs-a", &address.to_string(), table(10, 100));
        let mut sync = sync(&[a.address]);
        sync.servers[0].address = format!("localhost:{}", a.address.port());
        let agent = spawn("nh-1", false, sync, Box::new(NoSink), None);
        until("the table, by any address", || agent.status().is_ok_and(|s| s.table.digest == a.digest()));
    }
}

#[test]
fn stalled_server_is_left_and_the_status_says_so() {
    let log = common::log::gather();
    let gray = |name: &str| {
        let shell = fibcast_sync_agent::shell::Shell::new(name).unwrap();
        TestServer::gray(shell, name, table(10, 100))
    };
    let a = gray("rs-gray");
    let only = spawn("nh-1", false, sync(&[a.address]), Box::new(NoSink), None);
    until("registered", || only.status().is_ok_and(|s| s.sync.unwrap().servers[0].name.is_some()));
    let stalled = || only.status().ok().and_then(|s| Some((s.ready, s.stale, s.sync?.stalled?)));
    until("the only server is stalled", || stalled().is_some_and(|(ready, stale, _)| !ready && stale));
    assert!(log.line(&["server 127.0.0.1:", "stalled: it announces", "no other is capable"]).is_some());
    let b = TestServer::start("rs-b", "127.0.0.1:0", table(10, 100));
    let other = spawn("nh-2", false, sync(&[a.address, b.address]), Box::new(NoSink), None);
    until("the other server is used", || {
        other.status().is_ok_and(|s| s.ready && s.table.digest == b.digest() && s.sync.unwrap().stalls == 1)
    });
}
