//! `fibcast ping` and `fibcast traceroute` as a user meets them.

#![allow(clippy::unwrap_used, clippy::panic)] // A test may fail where it stands.
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use fibcast_control::probe::{ProbeAnswer, ProbeOutcome, ProbeRequest, Probed};
use fibcast_control::protocol::{Answer, DataplaneRequest, Request};
use fibcast_daemon::control::ControlServer;

/// Three routers away: 192.0.2.1, nobody, and the destination.
fn answer(request: &ProbeRequest) -> Option<ProbeAnswer> {
    let (from, outcome) = match request.ttl {
        1 => ("192.0.2.1".parse().unwrap(), ProbeOutcome::TimeExceeded),
        2 => return None,
        _ => (request.address, ProbeOutcome::Reply),
    };
    Some(ProbeAnswer { from, outcome, code: None, mtu: None, ttl: 62, bytes: request.size + 8, rtt_us: 500 })
}

fn serve() -> (tempfile::TempDir, PathBuf, ControlServer) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.sock");
    let server = ControlServer::start(&path, |request| match request {
        Request::Dataplane(DataplaneRequest::Probe(request)) if request.vrf == 0 => {
            let source = request.source.unwrap_or("192.0.2.7".parse().unwrap());
            let answer = answer(&request);
            Ok(Answer::Probed(Box::new(Probed { source, port: Some("p0".into()), answer })))
        }
        other => Err(format!("{other:?}: vrf: expected that of a port")),
    })
    .unwrap();
    (folder, path, server)
}

fn fibcast(arguments: &str) -> (Option<i32>, String, String) {
    let (_folder, socket, _server) = serve();
    let mut command = Command::new(env!("CARGO_BIN_EXE_fibcast"));
    let output = command.args(arguments.split(' ')).env("FIBCAST_SOCKET", &socket).output().unwrap();
    (
        output.status.code(),
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

#[test]
fn a_ping_ends_with_its_count_and_statistics() {
    let begun = Instant::now();
    let (code, text, _) = fibcast("ping 203.0.113.9 -c 3 -i 0.1 -s 100 -I 192.0.2.8");
    assert_eq!(code, Some(0), "{text}");
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "PING 203.0.113.9 (203.0.113.9) from 192.0.2.8 p0: 100(128) bytes of data.");
    assert_eq!(lines[3], "108 bytes from 203.0.113.9: icmp_seq=3 ttl=62 time=0.500 ms");
    assert!(lines[6].starts_with("3 packets transmitted, 3 received, 0% packet loss, time "), "{text}");
    assert_eq!(lines[7], "rtt min/avg/max/mdev = 0.500/0.500/0.500/0.000 ms");
    let lasted = begun.elapsed();
    assert!(lasted >= Duration::from_millis(200), "two intervals: {lasted:?}");
}

#[test]
fn a_ping_without_a_reply_fails_and_a_refusal_is_told() {
    let (code, text, error) = fibcast("ping 203.0.113.9 -c 1 -t 1");
    assert_eq!(code, Some(1));
    assert!(text.contains("From 192.0.2.1 icmp_seq=1 Time to live exceeded"), "{text}");
    assert!(text.contains("1 packets transmitted, 0 received, +1 errors, 100% packet loss"), "{text}");
    assert_eq!(error, "fibcast: 203.0.113.9 does not answer\n");
    let (code, text, error) = fibcast("ping 203.0.113.9 -c 1 --vrf 7");
    assert!(code == Some(1) && text.is_empty() && error.contains("vrf: expected"), "{error}");
    for wrong in ["ping nowhere", "ping 203.0.113.9 -c 0", "ping 203.0.113.9 -i 0", "ping 203.0.113.9 -t 0"] {
        assert_eq!(fibcast(wrong).0, Some(2), "{wrong}");
    }
}

#[test]
fn an_interrupted_ping_tells_its_statistics() {
    let (_folder, socket, _server) = serve();
    let mut command = Command::new(env!("CARGO_BIN_EXE_fibcast"));
    command.args(["ping", "203.0.113.9", "-i", "10"]).env("FIBCAST_SOCKET", &socket);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().unwrap()));
    assert!(lines.next().unwrap().unwrap().starts_with("PING"));
    assert!(lines.next().unwrap().unwrap().contains("icmp_seq=1"));
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let rest: Vec<String> = lines.map_while(Result::ok).collect();
    assert!(rest.iter().any(|line| line.starts_with("1 packets transmitted, 1 received")), "{rest:?}");
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_traceroute_has_a_line_for_each_hop_and_ends_at_the_destination() {
    let (code, text, _) = fibcast("traceroute 203.0.113.9 -q 2");
    let expected = "\
traceroute to 203.0.113.9 (203.0.113.9), 30 hops max, 60 byte packets
 1  192.0.2.1  0.500 ms  0.500 ms
 2  * *
 3  203.0.113.9  0.500 ms  0.500 ms
";
    assert_eq!((code, text.as_str()), (Some(0), expected));
    let (_, text, _) = fibcast("traceroute 203.0.113.9 -m 2 -q 1");
    assert_eq!(text.lines().count(), 3, "{text}");
}
