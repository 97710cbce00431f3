//! `fibcast-sentinel` with a vtysh that says what the test wants FRR to say: when does it install the route that means "complete"?
#![allow(clippy::unwrap_used)]

use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Answers from the file of the question's name, and notes when the sentinel is installed.
const VTYSH: &str = r#"#!/bin/bash
cd "$(dirname "$0")"
for question in "$@"; do
    question=${question% json}
    case $question in
    'show ipv6 route '*) grep -q "^${question#show ipv6 route } " installed 2>/dev/null && echo '"blackhole":true' ;;
    'show zebra client summary') cat clients 2>/dev/null ;;
    'show running-config') sed 's/^/ipv6 route /' installed 2>/dev/null ;;
    'show bgp summary') cat summary 2>/dev/null ;;
    'show bgp neighbors') cat neighbors 2>/dev/null ;;
    'show ip ospf interface') cat interfaces 2>/dev/null ;;
    'show ip ospf neighbor') cat adjacent 2>/dev/null ;;
    'show ip route summary') cat routes ;;
    'ipv6 route '*' blackhole')
        # FRR 10 says so for staticd, and ends well.
        if [ -e refuses ]; then cat refuses; else echo "${question#ipv6 route }" >>installed; fi ;;
    'no ipv6 route '*' blackhole') sed -i "\#^${question#no ipv6 route }\$#d" installed ;;
    esac
done
exit 0
"#;

/// FRR as it speaks when it has converged, and a sentinel that is not there yet.
struct Frr {
    folder: tempfile::TempDir,
}

impl Frr {
    fn new() -> Frr {
        let frr = Frr { folder: tempfile::tempdir().unwrap() };
        frr.says("vtysh", VTYSH);
        let vtysh = frr.folder.path().join("vtysh");
        std::fs::set_permissions(vtysh, std::fs::Permissions::from_mode(0o755)).unwrap();
        frr.has(1_000, 1_000);
        frr
    }

    fn says(&self, file: &str, text: &str) {
        // At once: it may be read at this moment.
        let new = self.folder.path().join(format!("{file}.new"));
        std::fs::write(&new, text).unwrap();
        std::fs::rename(new, self.folder.path().join(file)).unwrap();
    }

    fn has(&self, routes: u32, installed: u32) {
        self.says("routes", &format!("Totals {routes} {installed}\n"));
    }

    fn installed(&self) -> bool {
        self.folder.path().join("installed").exists()
    }

    fn sentinel(&self, options: &[&str]) -> Command {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../packaging/frr/fibcast-sentinel");
        let path = format!("{}:{}", self.folder.path().display(), std::env::var("PATH").unwrap_or_default());
        let mut command = Command::new(script);
        command.args(options).env("PATH", path).stdin(Stdio::null());
        command
    }

    /// Runs the sentinel, does `meanwhile` with FRR, and returns the seconds until it was installed.
    fn until_installed(&self, options: &[&str], meanwhile: impl FnOnce(&Frr)) -> f64 {
        let start = Instant::now();
        let mut child = self.sentinel(options).stdout(Stdio::null()).spawn().unwrap();
        meanwhile(self);
        assert!(child.wait().unwrap().success());
        assert!(self.installed());
        start.elapsed().as_secs_f64()
    }
}

/// A route server's end and zebra's end of an FPM session.
fn fpm_session(listener: &TcpListener) -> (TcpStream, TcpStream) {
    let zebra = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (zebra, listener.accept().unwrap().0)
}

/// The sentinels that are installed.
fn sentinels(frr: &Frr) -> Vec<String> {
    let text = std::fs::read_to_string(frr.folder.path().join("installed")).unwrap_or_default();
    text.lines().map(|line| line.trim_end_matches(" blackhole").to_owned()).collect()
}

#[test]
fn each_session_gets_a_sentinel_with_zebras_port_and_the_one_before_goes() {
    let frr = Frr::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let options = ["--settle", "1", "--fpm", &port];
    let of = |zebra: &TcpStream| {
        format!("fdff:ffff:ffff:ffff:ffff:ffff:fffe:{:04x}/128", zebra.local_addr().unwrap().port())
    };
    const SENTINEL: &str = "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128";
    let (first, other_end) = fpm_session(&listener);
    frr.until_installed(&options, |_| ());
    assert_eq!(sentinels(&frr), [SENTINEL.to_owned(), of(&first)]);
    let gone = of(&first);
    drop((first, other_end));
    let (second, _other_end) = fpm_session(&listener);
    frr.until_installed(&options, |frr| assert!(sentinels(frr).contains(&gone)));
    assert_eq!(sentinels(&frr), [SENTINEL.to_owned(), of(&second)]);
}

#[test]
fn it_waits_for_a_bgpd_that_has_not_announced_its_routes_to_this_zebra() {
    let clients =
        |routes: &str| format!("Name Connect\n----\nstatic 00:00:26 2/0 2/0\nbgp 00:00:26 {routes}\n");
    for before in ["0/0 0/0", "400/0 0/0"] {
        waits_for(
            |frr| {
                frr.says("summary", "\"inq\":0,\"pfxRcd\":1000,\n\"pfxRcd\":7,");
                frr.says("clients", &clients(before));
            },
            |frr| frr.says("clients", &clients("900/0 100/0")),
        );
    }
}

#[test]
fn no_time_limit_makes_up_for_a_bgpd_that_announced_nothing() {
    let frr = Frr::new();
    frr.says("summary", "\"inq\":0,\"pfxRcd\":1000,");
    frr.says("clients", "bgp 00:00:26 0/0 0/0\n");
    frr.until_installed(&["--settle", "1", "--timeout", "1"], |frr| {
        std::thread::sleep(Duration::from_secs(6));
        assert!(!frr.installed());
        // Fewer than received, after the time limit: the others have next hops that cannot be reached.
        frr.says("clients", "bgp 00:00:26 900/0 0/0\n");
    });
}

fn neighbor(state: &str, families: &[bool]) -> String {
    let families =
        families.iter().map(|received| format!("\n\"endOfRibStatus\":{{\n\"endOfRibRecv\":{received}\n}}"));
    format!("\"bgpState\":\"{state}\",{}\n", families.collect::<String>())
}

#[test]
fn after_the_end_of_rib_of_all_neighbors_two_seconds_of_stillness_do() {
    let frr = Frr::new();
    frr.says("neighbors", &(neighbor("Established", &[true, true]) + &neighbor("Established", &[true])));
    // Without them it would be a minute.
    let took = frr.until_installed(&["--settle", "60"], |_| ());
    assert!((2.0..60.0).contains(&took), "{took} s");
}

#[test]
fn without_an_end_of_rib_it_takes_five() {
    for (what, families) in [("none says so", vec![]), ("one family is missing", vec![true, false])] {
        let frr = Frr::new();
        frr.says("neighbors", &(neighbor("Established", &[true]) + &neighbor("Established", &families)));
        let took = frr.until_installed(&[], |_| ());
        assert!(took >= 5.0, "{what}: {took} s");
    }
}

/// Whatever it is that FRR still has to do, no sentinel until it has done it.
fn waits_for(unfinished: impl FnOnce(&Frr), finish: impl FnOnce(&Frr)) {
    let frr = Frr::new();
    unfinished(&frr);
    frr.until_installed(&["--settle", "1"], |frr| {
        std::thread::sleep(Duration::from_secs(4));
        assert!(!frr.installed());
        finish(frr);
    });
}

#[test]
fn it_waits_for_messages_that_bgpd_has_not_looked_at() {
    waits_for(
        |frr| frr.says("summary", "\"inq\":0,\"inq\":7,"),
        |frr| frr.says("summary", "\"inq\":0,\"inq\":0,"),
    );
}

/// A summary of neighbors by these names and states.
fn summary(neighbors: &[(&str, &str)]) -> String {
    let neighbor = |(name, state): &(&str, &str)| {
        format!("\"{name}\":{{\n\"inq\":0,\n\"pfxRcd\":0,\n\"state\":\"{state}\"\n}},\n")
    };
    neighbors.iter().map(neighbor).collect()
}

#[test]
fn it_waits_for_a_neighbor_that_is_not_established_whatever_its_name_is() {
    let other = ("198.18.0.3", "Established");
    for (name, state) in [("198.18.0.2", "Connect"), ("2001:db8::2", "Idle"), ("eth0", "Active")] {
        waits_for(
            |frr| frr.says("summary", &summary(&[other, (name, state)])),
            |frr| frr.says("summary", &summary(&[other, (name, "Established")])),
        );
    }
}

#[test]
fn it_does_not_wait_for_a_neighbor_that_is_shut_down() {
    let frr = Frr::new();
    let neighbors = [("198.18.0.2", "Idle (Admin)"), ("eth0", "Idle (Admin)"), ("eth1", "Established")];
    frr.says("summary", &summary(&neighbors));
    // It would wait for as long as it may.
    let took = frr.until_installed(&["--settle", "1", "--timeout", "600"], |_| ());
    assert!(took < 60.0, "{took} s");
}

#[test]
fn it_waits_for_an_ospf_neighbor_on_its_way_and_for_the_first_one() {
    let interfaces = |frr: &Frr| frr.says("interfaces", "  Hello due in 0.5 s\n");
    let full = |frr: &Frr| frr.says("adjacent", "198.19.0.2 1 Full/DR\n");
    waits_for(interfaces, full);
    waits_for(
        |frr| {
            interfaces(frr);
            frr.says("adjacent", "198.19.0.2 1 Full/DR\n198.19.0.3 1 Exchange/DROther\n");
        },
        full,
    );
}

#[test]
fn it_does_not_wait_for_a_neighbor_longer_than_it_is_told() {
    let frr = Frr::new();
    frr.says("summary", &summary(&[("198.18.0.2", "Active")]));
    let took = frr.until_installed(&["--settle", "1", "--timeout", "3"], |_| ());
    assert!(took >= 3.0, "{took} s");
}

#[test]
fn it_waits_while_zebra_installs_what_it_has() {
    let frr = Frr::new();
    frr.until_installed(&["--settle", "2"], |frr| {
        for installed in 0..8 {
            frr.has(1_000, installed);
            assert!(!frr.installed());
            std::thread::sleep(Duration::from_millis(600));
        }
    });
}

#[test]
fn a_route_that_zebra_does_not_get_is_an_error_with_the_words_of_frr() {
    let frr = Frr::new();
    frr.says("refuses", "mgmtd is not running\n");
    let output = frr.sentinel(&["--settle", "1"]).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("zebra does not have fdff:") && told.contains("mgmtd is not running"), "{told}");
    assert!(output.stdout.is_empty() && !frr.installed());
}

#[test]
fn a_route_server_that_has_not_seen_the_end_is_an_error_too() {
    let frr = Frr::new();
    let says = |end: bool| {
        format!("#!/bin/sh\necho '{{\"kind\": \"fpm\", \"routes\": 7, \"end_of_table\": {end}}}'\n")
    };
    let path = frr.folder.path().join("fibcast");
    for (end, code) in [(true, 0), (false, 1)] {
        frr.says("fibcast", &says(end));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        let _ = std::fs::remove_file(frr.folder.path().join("installed"));
        let output = frr.sentinel(&["--settle", "1", "--socket", "/run/rs.sock"]).output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{told}");
        assert_eq!(told.contains("the route server at /run/rs.sock has not seen the end"), !end, "{told}");
    }
}
