//! A worker's thread that is stopped by a debugger: status, metrics and health say so within two seconds, and again when it recovers.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::common::{ROUTE, Router, frame, wait_until};
use fibcast_control::{Answer, Request};

/// Stops a thread until its standard input ends (PTRACE_SEIZE, PTRACE_INTERRUPT; the end of the tracer lets it go).
const STOP: &str = "
import ctypes, sys
ptrace = ctypes.CDLL(None, use_errno=True).ptrace
ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
for request in (0x4206, 0x4207):
    if ptrace(request, int(sys.argv[1]), None, None) != 0:
        sys.exit('ptrace: %d' % ctypes.get_errno())
print('stopped', flush=True)
sys.stdin.read()
";

fn worker_thread(pid: u32) -> String {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
    let name = |path: std::path::PathBuf| std::fs::read_to_string(path.join("comm")).unwrap_or_default();
    let task = tasks.map(|task| task.path()).find(|path| name(path.clone()).trim() == "worker-0").unwrap();
    task.file_name().unwrap().to_string_lossy().into_owned()
}

fn get(http: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(http).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn a_stalled_worker_is_shown_until_it_recovers() {
    let http = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let frames = [frame([10, 1, 2, 3], 1, 64)];
    let router = Router::start_with_http(&frames, http, ROUTE);
    assert!(get(http, "/healthz").starts_with("HTTP/1.1 200"));
    let tracer = Command::new("python3")
        .args(["-c", STOP, &worker_thread(router.pid())])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut tracer) = tracer else {
        eprintln!("skipped: no python3");
        return;
    };
    let mut line = [0; 7];
    if tracer.stdout.as_mut().unwrap().read_exact(&mut line).is_err() {
        let mut why = String::new();
        tracer.stderr.as_mut().unwrap().read_to_string(&mut why).unwrap();
        let _ = tracer.wait();
        eprintln!("skipped: {why}");
        return;
    }
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
    assert!(health.starts_with("HTTP/1.1 503") && health.contains("1 workers are stalled"), "{health}");
    let metrics = get(http, "/metrics");
    assert!(
        metrics.contains("fibcast_workers_stalled 1")
            && metrics.contains("fibcast_worker_stalled{worker=\"0\"} 1")
    );
    // The counters of a stalled worker do not change.
    let before = router.drops();
    assert_eq!(router.drops(), before);

    drop(tracer.stdin.take());
    assert!(tracer.wait().unwrap().success());
    wait_until("the worker to recover", || stalled() == 0);
    assert!(router.drops().received > before.received);
    assert!(get(http, "/healthz").starts_with("HTTP/1.1 200"));
}
