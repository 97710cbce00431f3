//! The digest key of route servers and agents: two keys end in one clear message, and a key is replaced while everything runs.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, also in its helpers")]

mod common;

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use common::{Folder, Server, WAIT_LIMIT, free_addresses};
use fibcast_control::status::{Role, Status};
use fibcast_sync_agent::agent::config::{Sync, SyncServer};
use fibcast_sync_agent::agent::{Agent, AgentConfig, AgentHandle, NoSink};
use fibcast_sync_agent::digest_key::KeyFile;
use fibcast_sync_agent::shell::Limits;

/// Writes a key file with these keys, each a repeated digit.
fn keys(folder: &Folder, node: &str, digits: &str) -> std::path::PathBuf {
    let text: Vec<String> = digits.chars().map(|digit| digit.to_string().repeat(64)).collect();
    let path = folder.write(&format!("{node}.new"), text.join("\n"));
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    let place = folder.path(&format!("{node}.digest"));
    std::fs::rename(path, &place).unwrap();
    place
}

/// A server with an origin of its own, beside a peer.
fn server(folder: &Folder, name: &str, own: SocketAddr, peer: SocketAddr, route: &str, key: &Path) -> Server {
    let routes = folder.write(&format!("{name}.routes"), route);
    let text = format!(
        "digest_key = {key:?}\n[sync]\nheartbeat_ms = 100\n[rib]\norigin_lease_ms = 10000\norigin_hold_ms = 10000\n\
         ready_timeout_ms = 60000\n[[peer]]\naddress = \"{peer}\"\n\
         [[source]]\norigin = \"{name}\"\nkind = \"static\"\npath = {routes:?}\n"
    );
    folder.config(name, Some(own), &text);
    Server::start(folder, name)
}

fn agent(servers: &[SocketAddr], key: &Path) -> (AgentHandle, KeyFile) {
    let digest_keys = KeyFile::load(Some(key)).unwrap();
    let role = |at| if at == 0 { Role::Primary } else { Role::Secondary };
    let servers = servers.iter().enumerate();
    let sync = Sync {
        servers: servers.map(|(at, a)| SyncServer { address: a.to_string(), role: role(at) }).collect(),
        heartbeat_ms: 100,
        failback_s: 1,
        checkpoint: None,
        checkpoint_interval_s: 30,
        ..Default::default()
    };
    let config = AgentConfig {
        acknowledge: None,
        budgets: Default::default(),
        name: "nic".into(),
        listen: Vec::new(),
        sync,
        security: None,
        digest_keys: digest_keys.clone(),
        scrub: None,
        limits: Limits::default(),
    };
    (Agent::spawn(config, Box::new(NoSink)).unwrap(), digest_keys)
}

fn until(what: &str, agent: &AgentHandle, pleases: impl Fn(&Status) -> bool) -> Status {
    let end = std::time::Instant::now() + WAIT_LIMIT;
    loop {
        let status = agent.status().unwrap();
        if pleases(&status) {
            return status;
        }
        assert!(std::time::Instant::now() < end, "waited in vain: {what}: {status:#?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn hang_up(server: &Server) {
    let pid = server.node.process.pid().to_string();
    assert!(Command::new("kill").args(["-HUP", &pid]).status().unwrap().success());
}

#[test]
fn nodes_with_two_keys_name_each_other_and_both_keys() {
    let folder = Folder::new();
    let [a, b] = free_addresses();
    let (one, two) = (keys(&folder, "rs-a", "1"), keys(&folder, "rs-b", "2"));
    let first = server(&folder, "rs-a", a, b, "10.0.0.0/8 via 192.0.2.1\n", &one);
    let _second = server(&folder, "rs-b", b, a, "10.1.0.0/16 via 192.0.2.1\n", &two);
    let told = |error: &Option<String>, text: &str| error.as_ref().is_some_and(|e| e.contains(text));
    first.until("the peer's refusal", |s| {
        told(&s.peers[0].last_error, "rs-a uses digest key ") && told(&s.peers[0].last_error, "but rs-b has ")
    });
    let (nic, _) = agent(&[a], &two);
    until("the refusal", &nic, |s| {
        told(&s.sync.as_ref().unwrap().servers[0].last_error, "nic uses digest key ")
    });
    assert_eq!(nic.status().unwrap().sync.unwrap().digest_mismatches, 0);
}

#[test]
fn key_is_replaced_node_by_node_while_routes_stay_and_nothing_is_copied() {
    let folder = Folder::new();
    let [a, b] = free_addresses();
    let files = ["rs-a", "rs-b", "nic"];
    let [one, two, three] = files.map(|node| keys(&folder, node, "1"));
    let first = server(&folder, "rs-a", a, b, "10.0.0.0/8 via 192.0.2.1\n", &one);
    let second = server(&folder, "rs-b", b, a, "10.1.0.0/16 via 192.0.2.1\n", &two);
    let (nic, nic_keys) = agent(&[a, b], &three);
    let whole = |s: &Status| s.ready && s.table.ipv4_routes == 2;
    first.until("both routes", whole);
    second.until("both routes", whole);
    let before = until("both routes", &nic, whole);

    // Which node gets which file, step by step: all add, then each switches, then all finish.
    let steps =
        [("rs-a", "12"), ("rs-b", "12"), ("nic", "12"), ("rs-a", "21"), ("nic", "21"), ("rs-b", "21")];
    for (node, digits) in steps.into_iter().chain(files.map(|node| (node, "2"))) {
        keys(&folder, node, digits);
        let served = |server: &Server| server.status().unwrap().table.digest;
        let was = [served(&first), served(&second), nic.status().unwrap().table.digest];
        match node {
            "rs-a" => hang_up(&first),
            "rs-b" => hang_up(&second),
            _ => _ = nic_keys.replace(nic_keys.read().unwrap()),
        }
        if digits == "21" {
            let at = files.iter().position(|n| *n == node).unwrap();
            let changed = |s: &Status| s.table.digest != was[at];
            match at {
                0 => _ = first.until("the new key", changed),
                1 => _ = second.until("the new key", changed),
                _ => _ = until("the new key", &nic, changed),
            }
        }
        let what = format!("{node}: {digits}");
        for server in [&first, &second] {
            server.until(&what, whole);
            assert_eq!(server.routes().len(), 2, "{what}");
        }
        let status = until(&what, &nic, |s| s.ready);
        assert_eq!((status.table.ipv4_routes, status.sync.unwrap().digest_mismatches), (2, 0), "{what}");
    }
    let digest = |s: &Server| s.status().unwrap().table.digest;
    assert_eq!(digest(&first), digest(&second));
    let status = until("one digest", &nic, |s| s.ready && s.table.digest == digest(&first));
    assert_ne!(status.table.digest, before.table.digest);
    // It counts from the new connections on.
    assert_eq!(status.sync.unwrap().routes_copied, 0, "no route was copied for it");
}
