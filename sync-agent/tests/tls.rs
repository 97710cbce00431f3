//! Certificates, allow lists and their absence, over real TCP: each refusal is a line that names the peer and the reason.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::sync::Arc;

use common::log::{Log, gather};
use common::pki::{Pki, open, reload};
use common::*;
use fibcast_daemon::sections::Tls;
use fibcast_sync_agent::agent::{AgentHandle, NoSink};
use fibcast_sync_agent::shell::tls::Security;
use fibcast_sync_agent::shell::{Limits, Shell};

fn server(name: &str, security: Option<Arc<Security>>) -> TestServer {
    TestServer::secure(name, table(10, 1000), Limits::default(), security)
}

fn nic(server: &TestServer, security: Option<Arc<Security>>) -> AgentHandle {
    secure_agent("nh-1", false, &[server.address], Box::new(NoSink), security)
}

fn synced(agent: &AgentHandle, server: &TestServer) -> bool {
    agent.status().is_ok_and(|s| s.ready && s.table.digest == server.digest())
}

/// Waits for a line of the log and for the client's own word about the server; the table must have stayed empty.
fn refused(log: &Log, agent: &AgentHandle, line: &[&str], client_says: &str) {
    until(&format!("log line {line:?}"), || log.line(line).is_some());
    let error = || agent.status().ok().and_then(|s| s.sync.unwrap().servers[0].last_error.clone());
    until(&format!("the client says {client_says:?}, and not {:?}", error()), || {
        error().is_some_and(|e| e.contains(client_says))
    });
    assert_eq!(agent.status().unwrap().table.records, 0);
}

#[test]
fn three_tiers_share_the_table_over_tls_and_show_whom_they_speak_with() {
    let pki = Pki::new();
    let a = server("rs-a", pki.node("rs-a"));
    let relay = secure_agent("relay", true, &[a.address], Box::new(NoSink), pki.node("relay"));
    let leaf = secure_agent("leaf", false, &[relay.addresses()[0]], Box::new(NoSink), pki.node("leaf"));
    until("table in the third tier", || synced(&leaf, &a));
    for i in 0..20 {
        a.commit([put(i, 3), put(20_000 + i, 1)]);
    }
    until("changes in the third tier", || synced(&leaf, &a));
    let status = relay.status().unwrap();
    assert_eq!(status.sync.unwrap().servers[0].certificate, ["rs-a"]);
    let client = &status.clients[0];
    assert_eq!((client.certificate.as_slice(), client.state.as_str()), (&["leaf".to_owned()][..], "active"));
    assert!(client.sent_bytes > 3_000 && client.received_bytes > 500, "{client:?}");
}

#[test]
fn certificate_of_another_ca_is_refused_by_either_side() {
    let log = gather();
    let (pki, other) = (Pki::new(), Pki::new());
    let a = server("rs-a", pki.node("rs-a"));
    let stranger = nic(&a, other.node("nh-1"));
    // The client is the first to see a certificate, and that is of another CA for it.
    refused(
        &log,
        &stranger,
        &[&format!("server {}", a.address), "its certificate is not signed by our CA (tls.ca)"],
        "not signed by our CA",
    );
    // A client that trusts the server's CA, but shows a certificate of another one.
    let tls = Tls { ca: pki.issue("x", 1).ca, ..other.issue("nh-1", 24) };
    let a = server("rs-a2", pki.node("rs-a2"));
    let stranger = nic(&a, open(&tls, "nh-1"));
    refused(
        &log,
        &stranger,
        &["client at 127.0.0.1:", "its certificate is not signed by our CA (tls.ca)"],
        "it refused our certificate: not signed by its CA",
    );
}

#[test]
fn expired_certificate_is_refused_by_either_side() {
    let log = gather();
    let pki = Pki::new();
    let a = server("rs-a", open(&pki.issue("rs-a", -1), "rs-a"));
    let line = format!("server {}", a.address);
    refused(&log, &nic(&a, pki.node("nh-1")), &[&line, "its certificate has expired"], "has expired");
    let b = server("rs-b", pki.node("rs-b"));
    let late = nic(&b, open(&pki.issue("nh-1", -1), "nh-1"));
    refused(
        &log,
        &late,
        &["client at 127.0.0.1:", "its certificate has expired"],
        "refused our certificate: expired",
    );
    assert!(log.line(&["nh-1.pem: peers will refuse our certificate"]).is_some());
}

#[test]
fn name_that_is_not_on_the_list_is_refused_by_either_side() {
    let log = gather();
    let pki = Pki::new();
    let mut tls = pki.issue("rs-a", 24);
    tls.clients[0].name = "edge-*".into();
    let a = server("rs-a", open(&tls, "rs-a"));
    refused(
        &log,
        &nic(&a, pki.node("nh-1")),
        &["client at 127.0.0.1:", "its certificate is for nh-1, which tls.clients does not allow"],
        "refused: its certificate is for nh-1, which tls.clients does not allow",
    );
    let b = server("rs-b", pki.node("rs-b"));
    let tls = Tls { servers: vec!["rs-a".into()], ..pki.issue("nh-1", 24) };
    let line = format!("server {}", b.address);
    refused(
        &log,
        &nic(&b, open(&tls, "nh-1")),
        &[&line, "its certificate is for rs-b, which tls.servers does not allow"],
        "which tls.servers does not allow",
    );
}

#[test]
fn table_that_is_not_on_the_list_is_refused() {
    let log = gather();
    let pki = Pki::new();
    let mut tls = pki.issue("rs-a", 24);
    tls.clients[0].tables = vec!["rib".into()];
    let a = server("rs-a", open(&tls, "rs-a"));
    refused(
        &log,
        &nic(&a, pki.node("nh-1")),
        &["client nh-1 (127.0.0.1:", "nh-1 may not have the table fib: tls.clients does not allow it"],
        "nh-1 may not have the table fib",
    );
}

#[test]
fn node_that_takes_another_name_than_its_certificates_is_refused_by_either_side() {
    let log = gather();
    let pki = Pki::new();
    let a = server("rs-a", pki.node("rs-a"));
    // The agent calls itself nh-1.
    refused(
        &log,
        &nic(&a, pki.node("nh-2")),
        &["client nh-1 (127.0.0.1:", "it calls itself nh-1, but its certificate is for nh-2"],
        "it calls itself nh-1",
    );
    let shell = Shell::secure("rs-b", Limits::default(), pki.node("rs-c")).unwrap();
    let b = TestServer::with(shell, "rs-b", "127.0.0.1:0", table(10, 10));
    let line = format!("server {}", b.address);
    refused(
        &log,
        &nic(&b, pki.node("nh-1")),
        &[&line, "it calls itself rs-b, but its certificate is for rs-c"],
        "it calls itself rs-b",
    );
}

#[test]
fn plain_client_and_tls_server_say_what_is_missing() {
    let log = gather();
    let a = server("rs-a", Pki::new().node("rs-a"));
    refused(
        &log,
        &nic(&a, None),
        &["client at 127.0.0.1:", "it does not use TLS, but this node does"],
        "it speaks TLS, and this node plain TCP",
    );
}

#[test]
fn tls_client_and_plain_server_say_what_is_missing() {
    let log = gather();
    let a = server("rs-a", None);
    refused(
        &log,
        &nic(&a, Pki::new().node("nh-1")),
        &["client at 127.0.0.1:", "it speaks TLS, and this node plain TCP"],
        "speak TLS, as this node does",
    );
}

#[test]
fn certificates_that_are_read_again_count_for_new_connections_and_leave_live_ones_alone() {
    let log = gather();
    let pki = Pki::new();
    let security = pki.node("rs-a");
    let a = server("rs-a", security.clone());
    let early = nic(&a, pki.node("nh-1"));
    until("first table", || synced(&early, &a));
    // The server's certificate expires, as far as new connections are concerned.
    let security = security.unwrap();
    reload(&security, &pki.issue("rs-a", -1));
    let late = secure_agent("nh-2", false, &[a.address], Box::new(NoSink), pki.node("nh-2"));
    let line = format!("server {}", a.address);
    refused(&log, &late, &[&line, "its certificate has expired"], "has expired");
    a.commit([put(1, 2)]);
    until("a change on the live session", || synced(&early, &a));
    let sync = early.status().unwrap().sync.unwrap();
    assert_eq!((sync.servers[0].last_error.clone(), sync.failovers), (None, 0));
    // A file that cannot be used changes nothing.
    let broken = pki.issue("rs-a", 24);
    reload(&security, &broken);
    until("the renewed certificate is used", || synced(&late, &a));
    std::fs::write(broken.key.as_ref().unwrap(), "garbage").unwrap();
    let error = security.read(&broken).unwrap_err().to_string();
    assert!(error.starts_with("tls.key: ") && error.contains("expected a private key"), "{error}");
    let third = secure_agent("nh-3", false, &[a.address], Box::new(NoSink), pki.node("nh-3"));
    until("the last good certificate is used", || synced(&third, &a));
}

#[test]
fn files_that_cannot_be_used_are_named_with_their_key() {
    let pki = Pki::new();
    let good = pki.issue("rs-a", 24);
    let error = |tls: Tls, node: &str| Security::load(&tls, node).unwrap_err().to_string();
    let e = error(good.clone(), "rs-b");
    assert!(
        e.starts_with("tls.cert: ")
            && e.ends_with("expected a certificate for rs-b (node.name), found one for rs-a"),
        "{e}"
    );
    let e = error(Tls { key: pki.issue("rs-b", 24).key, ..good.clone() }, "rs-a");
    assert!(
        e.starts_with("tls.key: ") && e.ends_with("is not the key of the certificate in tls.cert"),
        "{e}"
    );
    let e = error(Tls { ca: Some("/nonexistent".into()), ..good.clone() }, "rs-a");
    assert_eq!(e, "tls.ca: /nonexistent: No such file or directory (os error 2)");
    let e = error(Tls { ca: good.key.clone(), ..good }, "rs-a");
    assert!(e.starts_with("tls.ca: ") && e.ends_with("expected a certificate in PEM, found none"), "{e}");
}
