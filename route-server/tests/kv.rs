//! Opaque records through three tiers: two route servers, a relay and a host behind it; a server dies, and only the difference travels.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, also in its helpers")]

mod common;

use std::net::SocketAddr;
use std::time::Duration;

use fibcast_control::kv::KvValue;
use fibcast_control::protocol::{Answer, KvRequest};
use fibcast_control::status::Role;
use fibcast_sync_agent::agent::config::{Sync, SyncServer};
use fibcast_sync_agent::agent::{Agent, AgentConfig, AgentHandle, NoSink};
use fibcast_sync_agent::shell::Limits;
use fibcast_testbed::wait::eventually;

use common::{Folder, Server, WAIT_LIMIT, free_addresses};

fn agent(name: &str, relay: bool, servers: &[SocketAddr]) -> AgentHandle {
    let servers = servers.iter().zip([Role::Primary, Role::Secondary]);
    let servers = servers.map(|(address, role)| SyncServer { address: address.to_string(), role });
    let sync = Sync {
        servers: servers.collect(),
        heartbeat_ms: 100,
        failback_s: 0,
        checkpoint: None,
        checkpoint_interval_s: 30,
        ..Default::default()
    };
    let listen = if relay { vec!["127.0.0.1:0".parse().unwrap()] } else { Vec::new() };
    let config = AgentConfig {
        name: name.into(),
        listen,
        sync,
        security: None,
        limits: Limits::default(),
        acknowledge: None,
        budgets: Default::default(),
        digest_keys: Default::default(),
        scrub: None,
    };
    Agent::spawn(config, Box::new(NoSink)).unwrap()
}

fn get(agent: &AgentHandle, key: &str) -> Option<String> {
    match agent.records(KvRequest::Get { key: key.into() }) {
        Ok(Answer::Kv(list)) => match list.entries.into_iter().next()?.value? {
            KvValue::Text(text) => Some(text),
            KvValue::Hex(digits) => Some(digits),
        },
        other => panic!("{other:?}"),
    }
}

fn put(server: &Server, key: &str, value: &str) {
    let request = KvRequest::Put { key: key.into(), value: KvValue::Text(value.into()) };
    assert!(matches!(server.ask(request), Some(Answer::Kv(_))), "put {key}");
}

#[test]
fn records_pass_three_tiers_outlive_their_server_and_only_the_difference_is_applied() {
    let folder = Folder::new();
    let [a, b] = free_addresses();
    let peer = |peer| format!("[sync]\nheartbeat_ms = 100\n[[peer]]\naddress = \"{peer}\"\n");
    folder.config("rs-a", Some(a), &peer(b));
    folder.config("rs-b", Some(b), &peer(a));
    let mut first = Server::start(&folder, "rs-a");
    let second = Server::start(&folder, "rs-b");
    for server in [&first, &second] {
        server.until("ready", |s| s.ready);
    }
    let relay = agent("relay", true, &[a, b]);
    let leaf = agent("leaf", false, &[relay.addresses()[0]]);
    for n in 0..200 {
        put(&first, &format!("site/{n:03}"), &format!("value {n}"));
    }
    put(&second, "motd", "written at the other server");
    eventually("all records in the third tier", WAIT_LIMIT.as_secs(), || {
        get(&leaf, "site/199").is_some() && get(&leaf, "motd").is_some()
    });
    let digests =
        |servers: &[&Server]| servers.iter().map(|s| s.status().unwrap().table.digest).collect::<Vec<_>>();
    eventually("equal tables", WAIT_LIMIT.as_secs(), || {
        let d = digests(&[&first, &second]);
        d[0] == d[1] && leaf.status().unwrap().table.digest == d[0]
    });

    // A watcher gets it at once.
    let status = leaf.status().unwrap();
    std::thread::scope(|scope| {
        let watch = KvRequest::Watch {
            prefix: "site/".into(),
            epoch: status.table.epoch,
            serial: status.table.serial,
        };
        let watcher = scope.spawn(|| leaf.records(watch).unwrap());
        std::thread::sleep(Duration::from_millis(50));
        assert!(matches!(first.ask(KvRequest::Delete { key: "site/007".into() }), Some(Answer::Kv(_))));
        let Answer::Kv(news) = watcher.join().unwrap() else { panic!() };
        assert_eq!(news.entries.len(), 1);
        assert_eq!(
            (news.entries[0].key.as_str(), &news.entries[0].value, news.whole),
            ("site/007", &None, false)
        );
    });

    // The primary falls silent; meanwhile the other server gets one record more.
    let before = (relay.status().unwrap(), leaf.status().unwrap());
    first.node.process.pause();
    put(&second, "site/new", "after the silence");
    eventually("the new record in the third tier", WAIT_LIMIT.as_secs(), || get(&leaf, "site/new").is_some());
    let after = (relay.status().unwrap(), leaf.status().unwrap());
    assert_eq!(after.0.sync.as_ref().unwrap().failovers, 1);
    for (before, after) in [(&before.0, &after.0), (&before.1, &after.1)] {
        assert_eq!(after.table.changes, before.table.changes + 1, "{}: only the difference", after.name);
    }
    assert_eq!(get(&leaf, "site/199").as_deref(), Some("value 199"));
    assert_eq!(get(&leaf, "site/007"), None);
    first.node.process.resume();
    first.kill();
    put(&second, "motd", "and on");
    eventually("a write at the server that lives", WAIT_LIMIT.as_secs(), || {
        get(&leaf, "motd").as_deref() == Some("and on")
    });

    // A restarted server gets all of them back from the other.
    let first = Server::start(&folder, "rs-a");
    first.until("equal again", |s| s.ready && s.table.digest == second.status().unwrap().table.digest);
}

#[test]
fn writing_at_an_agent_or_beyond_a_limit_says_why_not() {
    let folder = Folder::new();
    let [a] = free_addresses();
    folder.config("rs", Some(a), "");
    let server = Server::start(&folder, "rs");
    server.until("ready", |s| s.ready);
    let put = |key: &str, value: String| {
        let request = KvRequest::Put { key: key.into(), value: KvValue::Text(value) };
        fibcast_control::ask(&server.socket, &request.into(), Duration::from_secs(5)).unwrap_err().to_string()
    };
    assert_eq!(put("k", "x".repeat(16_001)), "value: expected at most 16000 bytes, found 16001");
    assert!(put(&"k".repeat(1025), String::new()).contains("expected 1 to 1024 bytes of text"));
    let gone = KvRequest::Delete { key: "nothing".into() };
    let error = fibcast_control::ask(&server.socket, &gone.into(), Duration::from_secs(5)).unwrap_err();
    assert_eq!(error.to_string(), "there is no record nothing");
    let nic = agent("nic", false, &[a]);
    let error = nic.records(KvRequest::Put { key: "k".into(), value: KvValue::Text("v".into()) });
    assert_eq!(error, Err("records are written at a route server, and read here".to_owned()));
}
