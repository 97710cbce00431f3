//! The HTTP port that monitoring reads.

#![allow(clippy::unwrap_used)] // A test may fail where it stands.
use fibcast_control::protocol::{Answer, DataplaneRequest, Request};
use fibcast_control::status::{ForwardingStatus, ScrubStatus};
use fibcast_control::status::{Kind, Status, TableStatus};
use fibcast_control::tables::{DropCount, DropList, PortList};
use fibcast_daemon::http::HttpServer;
use fibcast_daemon::threads::{self, Task};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

fn get(address: SocketAddr, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    (text.split(' ').nth(1).unwrap().parse().unwrap(), text)
}

fn dataplane(stale: bool) -> Status {
    // As every thread of a daemon has one.
    let heartbeat = threads::register(Task::essential("control"));
    let status = fibcast_daemon::process::status("nh-1", Kind::Dataplane, Duration::ZERO);
    drop(heartbeat);
    Status {
        ready: true,
        forwarding: Some(ForwardingStatus::default()),
        stale,
        table: TableStatus { ipv4_routes: 901_899, serial: 7, ..TableStatus::default() },
        ..status
    }
}

#[test]
fn health_follows_the_state_and_metrics_hold_the_figures() {
    let stale = Arc::new(AtomicBool::new(false));
    let flag = stale.clone();
    let server = HttpServer::start("127.0.0.1:0".parse().unwrap(), move |request| match request {
        Request::Status => Ok(Answer::Status(Box::new(dataplane(flag.load(Ordering::Relaxed))))),
        Request::Dataplane(DataplaneRequest::Ports) => Ok(Answer::Ports(PortList::default())),
        Request::Dataplane(DataplaneRequest::Drops) => Ok(Answer::Drops(DropList {
            drops: vec![DropCount { port: "p0".into(), reason: "no_route".into(), packets: 5 }],
            ..DropList::default()
        })),
        _ => Err("no".into()),
    })
    .unwrap();
    let address = server.address();
    assert_eq!(get(address, "/healthz").0, 200);
    let (code, text) = get(address, "/metrics");
    assert_eq!(code, 200);
    assert!(text.contains("fibcast_thread_heartbeat_age_seconds{thread=\"control\"} 0"), "{text}");
    assert!(text.contains("fibcast_thread_stalled{thread=\"control\"} 0"), "{text}");
    assert!(text.contains("fibcast_routes{family=\"ipv4\"} 901899"), "{text}");
    assert!(text.contains("fibcast_dropped_packets_total{port=\"p0\",reason=\"no_route\"} 5"), "{text}");
    assert!(get(address, "/status.json").1.contains("\"serial\": 7"));
    assert_eq!(get(address, "/etc/passwd").0, 404);
    stale.store(true, Ordering::Relaxed);
    let (code, text) = get(address, "/healthz");
    assert!(code == 503 && text.contains("stale"), "{text}");
}

#[test]
fn a_batch_that_cannot_be_applied_is_told_by_health_and_metrics() {
    let forwarding = ForwardingStatus {
        pending_batches: 1,
        apply_error: Some("serial 5: expected at most 3 routes".into()),
        scrub_tries: ScrubStatus { differences: 3, pass_age_ms: Some(7_900), ..ScrubStatus::default() },
        ..ForwardingStatus::default()
    };
    let server = HttpServer::start("127.0.0.1:0".parse().unwrap(), move |request| match request {
        Request::Status => {
            Ok(Answer::Status(Box::new(Status { forwarding: Some(forwarding.clone()), ..dataplane(false) })))
        }
        _ => Err("no".into()),
    })
    .unwrap();
    let address = server.address();
    let (code, text) = get(address, "/healthz");
    assert!(code == 503 && text.contains("serial 5: expected at most 3 routes"), "{text}");
    let (_, text) = get(address, "/metrics");
    assert!(text.contains("fibcast_forwarding_pending_batches 1\n"), "{text}");
    assert!(text.contains("fibcast_forwarding_apply_failed 1\n"), "{text}");
    assert!(text.contains("fibcast_scrub_differences_total{of=\"tries\"} 3\n"), "{text}");
    assert!(text.contains("fibcast_scrub_pass_age_seconds{of=\"tries\"} 7\n"), "{text}");
    assert!(text.contains("fibcast_scrub_pass_age_seconds{of=\"table\"} -1\n"), "{text}");
}

#[test]
fn a_port_in_use_is_one_clear_line() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let error = HttpServer::start(address, |_| Err(String::new())).unwrap_err().to_string();
    assert!(error.starts_with(&format!("http {address}: cannot listen")), "{error}");
}
