//! What is wrong is one line and an exit code: 2 for options and files, 1 for work.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::path::Path;

use common::{run, words};

const P0: &str = "name=p0,subnet4=198.18.0.0/16,peer4=198.18.0.1,mtu=1500,device=net_null0";
const PLUG: [&str; 6] = ["--dut", "loopback", "--port", "device=net_ring0", "--prefixes", "9.0.0.0/8"];

fn fails(folder: &Path, code: i32, arguments: &[&str], expected: &str) {
    let output = run(folder, arguments);
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", words(&output));
    // Lines of DPDK's own may be among them.
    let line = error.lines().find(|line| line.contains(expected));
    assert!(line.is_some(), "{arguments:?}: expected {expected:?} in\n{error}");
    assert!(!error.contains("panicked"), "{error}");
}

#[test]
fn options_and_files_that_are_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let write = |name: &str, content: &[u8]| std::fs::write(folder.join(name), content).unwrap();
    write("table.txt", b"9.0.0.0/8 via 198.18.0.2\n");
    write("nowhere.txt", b"9.0.0.0/8 via 192.0.2.1\n");
    write("bare.txt", b"9.0.0.0/8\n");
    let capture = fibcast_testbed::pcap::write([[0u8; 80]]);
    write("cut.pcap", &capture[..capture.len() - 1]);
    write("unknown.toml", b"[traffic]\nsize = 64\n");
    let table = ["--port", P0, "--table"];
    let with = |more: &[&'static str]| [&table[..], more].concat();
    for (arguments, expected) in [
        (vec!["--scenario", "unknown.toml"], "unknown.toml: line 2: unknown field `size`"),
        (vec!["--scenario", "missing.toml"], "missing.toml: "),
        (vec![], "no port"),
        (vec!["--port", P0], "a router needs --table"),
        (with(&["missing.txt"]), "missing.txt"),
        (with(&["bare.txt"]), "bare.txt"),
        (with(&["nowhere.txt"]), "9.0.0.0/8 via 192.0.2.1: no port's subnet holds this next hop"),
        (with(&["table.txt", "--rate", "0"]), "expected a number above 0"),
        (with(&["table.txt", "--sizes", "9000"]), "need an MTU of 8982, port p0 has 1500"),
        (with(&["table.txt", "--sizes", "12"]), "expected 64 to 9216 bytes"),
        (with(&["table.txt", "--prefixes", "7.0.0.0/8"]), "7.0.0.0/8: the table has no route for it"),
        (with(&["table.txt", "--direction", "unidirectional"]), "one port has no other"),
        (with(&["table.txt", "--pcap", "cut.pcap"]), "cut.pcap: record 1 at byte 24 is cut off or damaged"),
        (with(&["table.txt", "--pcap", "table.txt"]), "table.txt: expected a pcap file"),
        ([&PLUG[..], &["--rate", "50%", "--duration", "0.1"]].concat(), "line_rate"),
        ([&PLUG[..], &["--test", "throughput"]].concat(), "the largest rate is missing"),
        (
            [&PLUG[..], &["--test", "throughput", "--max-rate", "1k", "--min-rate", "2k"]].concat(),
            "not below the largest rate",
        ),
        (
            [&PLUG[..], &["--test", "throughput", "--window", "5"]].concat(),
            "a closed loop cannot be searched",
        ),
        ([&PLUG[..], &["--cores", "900"]].concat(), "core 900: there is no such core"),
        ([&PLUG[..], &["--cores", "0,0"]].concat(), "cores: one is there twice"),
        ([&PLUG[..], &["--cores", "x"]].concat(), "--cores"),
        ([&PLUG[..], &["--cores", "0,1"]].concat(), "2 cores: no destination is left for one of them"),
        (
            vec![
                "--dut",
                "loopback",
                "--port",
                "name=p0,device=net_vhost0,iface=p0.sock,queues=1",
                "--prefixes",
                "9.0.0.0/8",
                "--cores",
                "0,1",
            ],
            "port p0: 2 cores need as many queues, the device has 1: expected fewer cores, or queues=2",
        ),
        (with(&["table.txt", "--churn", "10"]), "churn: expected updates"),
        (with(&["table.txt", "--updates", "u.mrt"]), "updates: expected start_at"),
        (
            with(&["table.txt", "--churn", "10", "--updates", "u.mrt", "--start-at", "1"]),
            "no route has another next hop to change to",
        ),
        (
            with(&["table.txt", "--churn=-3", "--updates", "u.mrt", "--start-at", "1"]),
            "churn = -3: expected a number above 0",
        ),
        ([&PLUG[..], &["--event", "soon:true"]].concat(), "expected SECONDS:COMMAND"),
        ([&PLUG[..], &["--outage-ms", "5"]].concat(), "outage_ms: expected 10 to 1000"),
    ] {
        fails(folder, 2, &arguments, expected);
    }
}

#[test]
fn device_that_is_silent_or_absent() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    std::fs::write(folder.join("table.txt"), "9.0.0.0/8 via 198.18.0.2\n").unwrap();
    // net_null receives garbage without end and forwards nothing; without traffic, nothing.
    let silent = "name=p0,subnet4=198.18.0.0/16,peer4=198.18.0.1,device=net_ring0";
    let arguments = ["--port", silent, "--table", "table.txt", "--silence-timeout", "1"];
    fails(folder, 1, &arguments, "the device is silent for 1 s: ARP unanswered on p0 (");
    let absent =
        "name=p0,subnet4=198.18.0.0/16,peer4=198.18.0.1,device=net_virtio_user0,path=/nonexistent/p0";
    let arguments = ["--port", absent, "--table", "table.txt", "--wait", "1"];
    fails(folder, 1, &arguments, "port p0: net_virtio_user0,path=/nonexistent/p0 did not come up within 1 s");
    let unknown = ["--dut", "loopback", "--port", "device=net_nonsense0", "--prefixes", "9.0.0.0/8"];
    fails(folder, 1, &unknown, "net_nonsense0");
}
