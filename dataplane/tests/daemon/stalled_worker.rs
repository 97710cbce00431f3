//! A worker's thread that is stopped by a debugger: status, metrics and health say so within two seconds, and again when it recovers.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use crate::common::{ROUTE, Router, frame, wait_until};
use fibcast_control::protocol::OwnRoute;
use fibcast_control::{Answer, DataplaneRequest, Request};
use fibcast_testbed::ptrace::{self, StoppedThread};

pub fn get(http: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(http).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

/// Stops the worker; none, with a line that says why, where this machine does not allow it.
fn stop_worker(router: &Router) -> Option<StoppedThread> {
    let worker = ptrace::threads(router.pid(), "worker-0").remove(0);
    StoppedThread::stop(worker).inspect_err(|error| eprintln!("skipped: {error}")).ok()
}

#[test]
fn a_stalled_worker_is_shown_until_it_recovers() {
    let http = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let frames = [frame([10, 1, 2, 3], 1, 64)];
    let router = Router::start_with_http(&frames, http, ROUTE);
    assert!(get(http, "/healthz").starts_with("HTTP/1.1 200"));
    let Some(stopped) = stop_worker(&router) else { return };
    let since = Instant::now();
    let stalled = || match router.ask(Request::Status) {
        Ok(Answer::Status(status)) => status.forwarding.unwrap().workers_stalled,
        other => panic!("{other:?}"),
    };
    wait_until("the stall to be seen", || stalled() == 1);
    let seen = since.elapsed();
    assert!(seen > Duration::from_millis(900) && seen < Duration::from_secs(3), "{seen:?}");
    assert!(router.workers().workers[0].stalled);
    let health = get(http, "/healthz");
    assert!(
        health.starts_with("HTTP/1.1 503") && health.contains("thread worker-0 has made no progress for "),
        "{health}"
    );
    let metrics = get(http, "/metrics");
    assert!(
        metrics.contains("fibcast_workers_stalled 1")
            && metrics.contains("fibcast_worker_stalled{worker=\"0\"} 1")
    );
    // The counters of a stalled worker do not change.
    let before = router.drops();
    assert_eq!(router.drops(), before);

    drop(stopped);
    wait_until("the worker to recover", || stalled() == 0);
    assert!(router.drops().received > before.received);
    assert!(get(http, "/healthz").starts_with("HTTP/1.1 200"));
}

#[test]
fn a_stalled_worker_delays_no_change_for_the_others_and_ends_the_process_in_the_end() {
    let http = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let frames = [frame([10, 1, 2, 3], 1, 64)];
    let router = Router::start_with_keys(&frames, &format!("http = \"{http}\"\nstall_exit_s = 20"), ROUTE);
    let forwarding = || match router.ask(Request::Status) {
        Ok(Answer::Status(status)) => status.forwarding.unwrap(),
        other => panic!("{other:?}"),
    };
    let Some(stopped) = stop_worker(&router) else { return };
    let (begin, before) = (Instant::now(), forwarding());
    // More generations than a bound by number once allowed.
    for number in 0..2_000u16 {
        if forwarding().published >= before.published + 100 {
            break;
        }
        let prefix = format!("10.2.{}.{}/32", number / 256, number % 256).parse().unwrap();
        let route = OwnRoute {
            prefix: Some(prefix),
            via: vec!["198.51.100.9".parse().unwrap()],
            ..OwnRoute::default()
        };
        router.ask(DataplaneRequest::RouteAdd(Box::new(route))).unwrap();
    }
    let after = forwarding();
    assert!(after.published >= before.published + 90 && after.retired >= 90, "{after:?}");
    assert!(after.retired_bytes > 0 && after.retired_bytes < after.retired_bytes_most, "{after:?}");
    wait_until("health to tell", || get(http, "/healthz").contains("worker-0"));
    wait_until("the end", || ptrace::has_ended(router.pid()));
    assert!(begin.elapsed() > Duration::from_secs(15), "{:?}", begin.elapsed());
    drop(stopped);
    let log = router.log();
    assert!(
        log.contains("thread worker-0 has made no progress for 20.") && log.contains("stall_exit_s"),
        "{log}"
    );
}
