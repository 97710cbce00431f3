//! What `fibcast capture` writes, as tshark reads it: ports, directions, times, and the reason of a drop as comment.

#![allow(clippy::unwrap_used, clippy::panic)] // A test may fail where it stands.
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fibcast_control::capture::{Captured, CapturedPacket, Direction};
use fibcast_control::protocol::{Answer, DataplaneRequest, Request};
use fibcast_daemon::control::ControlServer;

/// UDP 192.0.2.7:1000 to 203.0.113.5:53.
const FRAME: &str = "02000000010002000000020708004500001c000000004011\
f762c0000207cb00710503e8003500080000";

fn packet(port: u16, direction: Direction, reason: Option<&str>) -> CapturedPacket {
    CapturedPacket {
        port,
        direction,
        reason: reason.map(str::to_owned),
        time_ns: 1_700_000_000_123_456_789,
        length: 42,
        bytes: FRAME.to_owned(),
    }
}

/// A capture that goes on until a signal comes, as the daemon sees it: its requests in order, until it is stopped.
fn until(signal: &str) -> (Vec<&'static str>, std::process::Output) {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("x.sock");
    let (told, requests) = std::sync::mpsc::channel();
    let _server = ControlServer::start(&socket, move |request| {
        let name = match request {
            Request::Dataplane(DataplaneRequest::CaptureStart { until_closed: true, .. }) => "start",
            Request::Dataplane(DataplaneRequest::CaptureRead { .. }) => "read",
            Request::Dataplane(DataplaneRequest::CaptureStop { .. }) => "stop",
            other => panic!("{other:?}"),
        };
        told.send(name).unwrap();
        Ok(Answer::Captured(Captured { id: 1, ..Captured::default() }))
    })
    .unwrap();
    let file = folder.path().join("x.pcapng");
    let mut command = Command::new(env!("CARGO_BIN_EXE_fibcast"));
    command.args(["capture", "-w", file.to_str().unwrap()]).env("FIBCAST_SOCKET", &socket);
    let child = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut seen = vec![requests.recv().unwrap(), requests.recv().unwrap()];
    let sent = Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
    let output = child.wait_with_output().unwrap();
    while let Ok(name) = requests.recv_timeout(Duration::from_secs(5)) {
        seen.push(name);
        if name == "stop" {
            break;
        }
    }
    seen.dedup();
    (seen, output)
}

#[test]
fn ctrl_c_stops_the_capture_and_says_how_much_there_is() {
    let (seen, output) = until("-INT");
    assert_eq!(seen, ["start", "read", "stop"]);
    assert!(output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).starts_with("0 packets written"), "{output:?}");
}

#[test]
fn a_command_that_is_killed_leaves_no_capture_behind() {
    let (seen, output) = until("-KILL");
    assert_eq!(seen, ["start", "read", "stop"]);
    assert!(!output.status.success());
}

#[test]
fn tshark_reads_ports_times_and_the_reason_of_a_drop() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("x.sock");
    let given = AtomicBool::new(false);
    let _server = ControlServer::start(&socket, move |request| {
        let packets = match request {
            Request::Dataplane(DataplaneRequest::CaptureRead { .. })
                if !given.swap(true, Ordering::AcqRel) =>
            {
                vec![
                    packet(0, Direction::In, None),
                    packet(0, Direction::Drop, Some("no_route")),
                    packet(1, Direction::Out, None),
                ]
            }
            Request::Dataplane(
                DataplaneRequest::CaptureStart { .. }
                | DataplaneRequest::CaptureRead { .. }
                | DataplaneRequest::CaptureStop { .. },
            ) => vec![],
            other => panic!("{other:?}"),
        };
        Ok(Answer::Captured(Captured { id: 1, ports: vec!["p0".into(), "p1".into()], packets, lost: 0 }))
    })
    .unwrap();
    let file = folder.path().join("x.pcapng");
    let output = Command::new(env!("CARGO_BIN_EXE_fibcast"))
        .args(["--socket", socket.to_str().unwrap(), "capture", "--count", "3", "-w", file.to_str().unwrap()])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let fields =
        ["frame.interface_name", "frame.comment", "ip.dst", "udp.dstport", "frame.packet_flags_direction"];
    let mut tshark = Command::new("tshark");
    tshark.arg("-r").arg(&file).args(["-T", "fields", "-E", "separator=|"]);
    fields.iter().for_each(|field| _ = tshark.args(["-e", field]));
    tshark.args(["-e", "frame.time_epoch"]);
    let Ok(read) = tshark.output() else {
        eprintln!("skipped: tshark is not installed");
        return;
    };
    assert!(read.status.success(), "{}", String::from_utf8_lossy(&read.stderr));
    let text = String::from_utf8(read.stdout).unwrap();
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split('|').collect()).collect();
    assert_eq!(lines.len(), 3, "{text}");
    let words: Vec<(&str, &str)> = lines.iter().map(|line| (line[0], line[1])).collect();
    assert_eq!(words, [("p0", ""), ("p0", "dropped: no_route"), ("p1", "")]);
    assert!(lines.iter().all(|line| line[2] == "203.0.113.5" && line[3] == "53"), "{text}");
    let directions: Vec<u32> = lines
        .iter()
        .map(|line| {
            line[4]
                .strip_prefix("0x")
                .map_or_else(|| line[4].parse(), |hex| u32::from_str_radix(hex, 16))
                .unwrap()
        })
        .collect();
    assert_eq!(directions, [1, 1, 2]);
    assert!(lines.iter().all(|line| line[5].starts_with("1700000000.123456789")), "{text}");
}
