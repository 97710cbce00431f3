//! Permission that is taken away ends live sessions within a second of the reload: a name, a table, a CA, a certificate in a CRL.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use common::log::gather;
use common::pki::{Pki, open, reload};
use common::*;
use fibcast_daemon::sections::{AllowedClient, Tls};
use fibcast_sync_agent::agent::config::Sync;
use fibcast_sync_agent::agent::{AgentHandle, NoSink};
use fibcast_sync_agent::shell::tls::Security;
use fibcast_sync_agent::shell::{Limits, Shell};
use fibcast_sync_proto::agent::{AgentConfig, AgentCore};
use fibcast_sync_proto::client::ClientConfig;
use fibcast_sync_proto::frame::Role;
use fibcast_sync_proto::node::Node;
use fibcast_sync_proto::{PrefixRange, Subset, Table};

fn server(name: &str, security: Arc<Security>) -> TestServer {
    TestServer::secure(name, table(10, 1000), Limits::default(), Some(security))
}

fn nic(name: &str, servers: &[&TestServer], tls: &Tls) -> AgentHandle {
    let addresses: Vec<_> = servers.iter().map(|server| server.address).collect();
    secure_agent(name, false, &addresses, Box::new(NoSink), open(tls, name))
}

fn synced(agent: &AgentHandle, server: &TestServer) -> bool {
    agent.status().is_ok_and(|s| s.ready && s.table.digest == server.digest())
}

/// The agent's own word about its first server.
fn error(agent: &AgentHandle) -> Option<String> {
    agent.status().ok()?.sync?.servers.first()?.last_error.clone()
}

fn allowed(name: &str, subsets: bool) -> AllowedClient {
    AllowedClient { name: name.into(), tables: vec!["fib".into()], subsets }
}

/// Reloads, and waits until the agent is told why it is not served any more.
fn loses(agent: &AgentHandle, security: &Security, tls: &Tls, says: &str) {
    let begin = Instant::now();
    reload(security, tls);
    until(says, || error(agent).is_some_and(|error| error.contains(says)));
    // A second, and some for a loaded machine.
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
}

#[test]
fn name_that_is_removed_from_the_list_ends_its_session_and_no_other() {
    let log = gather();
    let pki = Pki::new();
    let mut tls = pki.issue("rs-a", 24);
    tls.clients = ["nh-1", "nh-2"].map(|name| allowed(name, false)).to_vec();
    let security = open(&tls, "rs-a").unwrap();
    let a = server("rs-a", Arc::clone(&security));
    let (first, second) =
        (nic("nh-1", &[&a], &pki.issue("nh-1", 24)), nic("nh-2", &[&a], &pki.issue("nh-2", 24)));
    until("both have the table", || synced(&first, &a) && synced(&second, &a));
    tls.clients.truncate(1);
    loses(&second, &security, &tls, "its certificate is for nh-2, which tls.clients does not allow");
    assert!(log.line(&["client nh-2 (127.0.0.1:", "which tls.clients does not allow"]).is_some());
    a.commit([put(1, 2)]);
    until("the other one is served", || synced(&first, &a));
    assert_eq!(error(&first), None);
    // A file that cannot be used changes nothing.
    let ca = tls.ca.replace("/nowhere/ca.pem".into());
    assert!(security.read(&tls).unwrap_err().to_string().starts_with("tls.ca: /nowhere/ca.pem: "));
    tls.ca = ca;
    a.commit([put(2, 2)]);
    until("the other one is still served", || synced(&first, &a));
}

#[test]
fn table_that_is_removed_from_the_list_ends_the_session() {
    let pki = Pki::new();
    let mut tls = pki.issue("rs-a", 24);
    let security = open(&tls, "rs-a").unwrap();
    let a = server("rs-a", Arc::clone(&security));
    let agent = nic("nh-1", &[&a], &pki.issue("nh-1", 24));
    until("the table", || synced(&agent, &a));
    tls.clients[0].tables = vec!["rib".into()];
    loses(&agent, &security, &tls, "nh-1 may not have the table fib");
}

#[test]
fn other_ca_ends_sessions_of_the_old_one() {
    let (pki, other) = (Pki::new(), Pki::new());
    let mut tls = pki.issue("rs-a", 24);
    let security = open(&tls, "rs-a").unwrap();
    let a = server("rs-a", Arc::clone(&security));
    let agent = nic("nh-1", &[&a], &pki.issue("nh-1", 24));
    until("the table", || synced(&agent, &a));
    tls.ca = other.issue("x", 1).ca;
    loses(&agent, &security, &tls, "not signed by our CA");
}

#[test]
fn revoked_client_is_left_at_the_reload_and_not_let_in_again() {
    let log = gather();
    let pki = Pki::new();
    let mut tls = pki.issue("rs-c", 24);
    let (one, two) = (pki.issue("nh-7", 24), pki.issue("nh-8", 24));
    tls.crl = Some(pki.revoke(&[]));
    let security = open(&tls, "rs-c").unwrap();
    let a = server("rs-c", Arc::clone(&security));
    let (first, second) = (nic("nh-7", &[&a], &one), nic("nh-8", &[&a], &two));
    until("both have the table", || synced(&first, &a) && synced(&second, &a));
    pki.revoke(&["nh-8"]);
    loses(&second, &security, &tls, "its certificate is revoked (tls.crl)");
    until("it is refused in the handshake", || {
        error(&second).is_some_and(|error| error.contains("it refused our certificate: revoked"))
    });
    assert!(log.line(&["client at 127.0.0.1:", "its certificate is revoked (tls.crl)"]).is_some());
    a.commit([put(1, 2)]);
    until("the other one is served", || synced(&first, &a));
    assert_eq!(error(&first), None);
    // A broken CRL is named, and the old one stays in force.
    std::fs::write(tls.crl.as_ref().unwrap(), "garbage").unwrap();
    assert!(security.read(&tls).unwrap_err().to_string().starts_with("tls.crl: "));
    let third = nic("nh-8", &[&a], &two);
    until("it is still refused", || error(&third).is_some_and(|error| error.contains("revoked")));
}

#[test]
fn revoked_server_is_left_for_the_other_one() {
    let pki = Pki::new();
    let a = server("rs-a", pki.node("rs-a").unwrap());
    let b = server("rs-b", pki.node("rs-b").unwrap());
    let mut tls = pki.issue("nh-1", 24);
    tls.crl = Some(pki.revoke(&[]));
    let security = open(&tls, "nh-1").unwrap();
    let addresses = [a.address, b.address];
    let agent = secure_agent("nh-1", false, &addresses, Box::new(NoSink), Some(Arc::clone(&security)));
    until("the table", || synced(&agent, &a));
    pki.revoke(&["rs-a"]);
    loses(&agent, &security, &tls, "its certificate is revoked (tls.crl)");
    b.commit([put(1, 2)]);
    until("the other server is used", || synced(&agent, &b));
}

#[test]
fn server_that_is_removed_from_the_list_is_left() {
    let pki = Pki::new();
    let a = server("rs-a", pki.node("rs-a").unwrap());
    let mut tls = pki.issue("nh-1", 24);
    let security = open(&tls, "nh-1").unwrap();
    let agent = secure_agent("nh-1", false, &[a.address], Box::new(NoSink), Some(Arc::clone(&security)));
    until("the table", || synced(&agent, &a));
    tls.servers = vec!["rs-b".into()];
    loses(&agent, &security, &tls, "its certificate is for rs-a, which tls.servers does not allow");
}

fn part(n: u8) -> Subset {
    let part = ipnet::Ipv4Net::new([n, 0, 0, 0].into(), 8).unwrap();
    Subset::new(Vec::new(), None, vec![PrefixRange::within(part.into())])
}

/// A node that registers for a part of `rib`, until `stop`.
fn rib_client(server: &TestServer, name: &str, n: u8, tls: &Tls, stop: &Arc<AtomicBool>) -> JoinHandle<()> {
    let mut shell = Shell::secure(name, Limits::default(), open(tls, name)).unwrap();
    shell.set_servers(vec![server.address.to_string()]);
    let mut client = ClientConfig::new(name, "rib", vec![Role::Primary]);
    client.subset = part(n);
    let core =
        AgentCore::new(AgentConfig { client, serves: false, expire: None, acknowledge: None }, Table::new(9));
    let upstream = core.config().upstream();
    let (mut node, stop) = (Node::new(name, shell.now(), core, [upstream]), Arc::clone(stop));
    std::thread::spawn(move || shell.run(&mut node, &mut (), &stop).unwrap())
}

#[test]
fn client_that_may_have_one_table_takes_no_view_of_another() {
    let log = gather();
    let pki = Pki::new();
    let a = server("rs-a", pki.node("rs-a").unwrap());
    let stop = Arc::<AtomicBool>::default();
    let tls = pki.issue("nh-rib", 24);
    let greedy: Vec<_> = (1..=16).map(|n| rib_client(&a, "nh-rib", n, &tls, &stop)).collect();
    until("it is refused", || log.line(&["client nh-rib (", "nh-rib may not have the table rib"]).is_some());
    std::thread::sleep(Duration::from_millis(500));
    // All views are there for those who may have `fib`.
    let agents: Vec<_> = (1..=16u8)
        .map(|n| {
            let (name, sync) = (format!("nh-{n}"), Sync { subset: part(n), ..sync(&[a.address]) });
            let security = pki.node(&name);
            spawn(&name, false, sync, Box::new(NoSink), security)
        })
        .collect();
    until("all have their part", || agents.iter().all(|agent| agent.status().is_ok_and(|s| s.ready)));
    stop.store(true, Ordering::Release);
    greedy.into_iter().for_each(|thread| thread.join().unwrap());
}

#[test]
fn parts_need_a_permission_which_can_be_taken_away() {
    let log = gather();
    let pki = Pki::new();
    let mut tls = pki.issue("rs-a", 24);
    tls.clients = vec![allowed("nh-whole", false), allowed("nh-part", true), allowed("nh-none", false)];
    let security = open(&tls, "rs-a").unwrap();
    let a = server("rs-a", Arc::clone(&security));
    let with_part = |name: &str, n| {
        let sync = Sync { subset: part(n), ..sync(&[a.address]) };
        spawn(name, false, sync, Box::new(NoSink), pki.node(name))
    };
    let whole = nic("nh-whole", &[&a], &pki.issue("nh-whole", 24));
    let (one, none) = (with_part("nh-part", 1), with_part("nh-none", 2));
    until("the two that may", || synced(&whole, &a) && one.status().is_ok_and(|s| s.ready));
    let says = "nh-none may not have a part of the table fib: its entry in tls.clients has no subsets = true";
    until(says, || error(&none).is_some_and(|error| error.contains(says)));
    assert!(log.line(&["client nh-none (127.0.0.1:", says]).is_some());
    tls.clients[1].subsets = false;
    loses(&one, &security, &tls, "nh-part may not have a part of the table fib");
    assert_eq!(error(&whole), None);
}

#[test]
fn expiry_of_certificate_ca_and_crl_is_in_the_status() {
    let pki = Pki::new();
    let mut tls = pki.issue("nh-1", 24);
    tls.crl = Some(pki.revoke(&[]));
    let a = server("rs-a", pki.node("rs-a").unwrap());
    let agent = nic("nh-1", &[&a], &tls);
    let certificates = agent.status().unwrap().certificates;
    let kinds: Vec<_> = certificates.iter().map(|c| c.kind.as_str()).collect();
    assert_eq!(kinds, ["cert", "ca", "crl"]);
    let now = time::OffsetDateTime::now_utc().unix_timestamp();
    let hours = |at: usize| (certificates[at].expires_unix_seconds - now) as f64 / 3600.0;
    assert!((hours(0) - 24.0).abs() < 1.0 && (hours(2) - 480.0).abs() < 1.0, "{certificates:?}");
}
