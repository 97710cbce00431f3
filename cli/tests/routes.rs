//! `show routes` of a table of a million: lines come while the daemon still has pages to answer, and nobody holds more than a page.

#![allow(clippy::unwrap_used)] // A test may fail where it stands.
use std::io::{BufRead, BufReader, Read};
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

use fibcast_control::protocol::{Answer, Request, RouteRequest};
use fibcast_control::tables::{Route, RouteList};
use fibcast_daemon::control::ControlServer;
use fibcast_daemon::routes::{RouteTable, page};
use ipnet::IpNet;

const ROUTES: u32 = 1_000_000;

/// A million /24 in VRF 0, of which every thousandth has another gateway.
struct Million;

fn prefix(number: u32) -> IpNet {
    IpNet::new(Ipv4Addr::from(number << 8).into(), 24).unwrap()
}

fn number(prefix: IpNet) -> u32 {
    match prefix {
        IpNet::V4(prefix) => u32::from(prefix.network()) >> 8,
        IpNet::V6(_) => ROUTES,
    }
}

impl RouteTable for Million {
    type Label = u8;

    fn vrfs(&self) -> impl Iterator<Item = u32> {
        [0].into_iter()
    }

    fn total(&self) -> u64 {
        ROUTES.into()
    }

    fn get(&self, _: u32, prefix: IpNet) -> Option<u8> {
        (prefix.prefix_len() == 24 && number(prefix) < ROUTES)
            .then(|| u8::from(number(prefix).is_multiple_of(1000)))
    }

    fn longest_match(&self, _: u32, address: IpAddr) -> Option<(IpNet, u8)> {
        let prefix = IpNet::new(address, 24).ok()?.trunc();
        Some((prefix, self.get(0, prefix)?))
    }

    fn after(&self, _: u32, after: Option<IpNet>) -> impl Iterator<Item = (IpNet, u8)> {
        let first = after.map_or(0, |after| number(after) + u32::from(after.prefix_len() >= 24));
        (first..ROUTES).map(|number| (prefix(number), u8::from(number % 1000 == 0)))
    }

    fn has_gateway(&self, label: u8, gateway: IpAddr) -> bool {
        gateway == IpAddr::from([192, 0, 2, label])
    }

    fn is_from(&self, _: u32, _: IpNet, _: &str) -> bool {
        true
    }

    fn show(&self, vrf: u32, prefix: IpNet, label: u8) -> Vec<Route> {
        let via = vec![format!("192.0.2.{label}")];
        vec![Route {
            vrf,
            prefix,
            via,
            label: "00000000000000aa".into(),
            age_ms: Some(61_000),
            ..Route::default()
        }]
    }
}

/// A daemon with a million routes, and how large its answers are.
struct Daemon {
    _folder: tempfile::TempDir,
    path: PathBuf,
    _server: ControlServer,
    largest: Arc<Mutex<(usize, usize)>>,
    /// With this gate closed it answers the first page only.
    gate: Sender<()>,
}

impl Daemon {
    fn start(gated: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.sock");
        let largest: Arc<Mutex<(usize, usize)>> = Arc::default();
        let (gate, opened): (Sender<()>, Receiver<()>) = channel();
        let (noted, opened) = (largest.clone(), Mutex::new(gated.then_some(opened)));
        let server = ControlServer::start(&path, move |request| {
            let Request::Routes(request): Request = request else { return Err("routes only".into()) };
            if request.after.is_some()
                && let Some(opened) = opened.lock().unwrap().take()
            {
                opened.recv().unwrap();
            }
            let list: RouteList = page(&Million, &request);
            let mut noted = noted.lock().unwrap();
            *noted = (noted.0.max(list.routes.len()), noted.1 + 1);
            Ok(Answer::Routes(list))
        });
        Self { _folder: folder, path, _server: server.unwrap(), largest, gate }
    }

    fn fibcast(&self, arguments: &str) -> Child {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fibcast"));
        command.arg("--socket").arg(&self.path).args(arguments.split_whitespace());
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// Standard output and error.
    fn output(&self, arguments: &str) -> (String, String) {
        let output = self.fibcast(arguments).wait_with_output().unwrap();
        assert!(output.status.success(), "{output:?}");
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
    }
}

/// The most memory that a process has had, in KiB.
fn peak_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn the_first_lines_come_before_the_second_page_and_a_million_take_no_memory() {
    for format in ["", "--json"] {
        let daemon = Daemon::start(true);
        let mut child = daemon.fibcast(&format!("{format} show routes --limit 0"));
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut first = String::new();
        // The second page is not answered before this was read.
        out.read_line(&mut first).unwrap();
        assert!(first.starts_with(if format.is_empty() {
            "vrf  prefix"
        } else {
            "{\"vrf\":0,\"prefix\":\"0.0.0.0/24\""
        }));
        daemon.gate.send(()).unwrap();
        let (mut lines, mut last, mut peak) = (0u32, String::new(), 0);
        let mut line = String::new();
        while out.read_line(&mut line).unwrap() > 0 {
            lines += 1;
            if lines == 900_000 {
                peak = peak_kib(child.id());
            }
            std::mem::swap(&mut last, &mut line);
            line.clear();
        }
        assert!(child.wait().unwrap().success());
        let rest = if format.is_empty() {
            assert_eq!(last, "1000000 shown, 1000000 in the table\n");
            1
        } else {
            assert!(last.contains("\"prefix\":\"15.66.63.0/24\"") && last.ends_with("}\n"), "{last}");
            0
        };
        // The heading, or the first route, was read before.
        assert_eq!(lines, ROUTES + rest - u32::from(!format.is_empty()));
        assert!(peak > 0 && peak < 48 * 1024, "{peak} KiB");
        assert!(daemon.largest.lock().unwrap().0 <= 4096, "routes in an answer");
    }
}

#[test]
fn what_was_cut_is_told_with_the_number_of_matches() {
    let daemon = Daemon::start(false);
    let (text, _) = daemon.output("show routes");
    assert_eq!(text.lines().count(), 102);
    let last = text.lines().last().unwrap();
    assert_eq!(last, "100 shown of 1000000 that match (--limit 100; 0 lists all), 1000000 in the table");
    assert_eq!(daemon.largest.lock().unwrap().1, 1, "the number of all is known");
    let (text, _) = daemon.output("show routes --next-hop 192.0.2.1 --limit 7");
    let last = text.lines().last().unwrap();
    assert_eq!(last, "7 shown of 1000 that match (--limit 7; 0 lists all), 1000000 in the table");
    let (text, _) = daemon.output("show routes 1.0.0.0/16 --orlonger --limit 256");
    assert_eq!(text.lines().last().unwrap(), "256 shown, 1000000 in the table");
    let (text, note) = daemon.output("--json show routes 1.0.0.0/16 --longer-than --limit 3");
    let prefixes: Vec<String> =
        text.lines().map(|line| serde_json::from_str::<Route>(line).unwrap().prefix.to_string()).collect();
    assert_eq!(prefixes, ["1.0.0.0/24", "1.0.1.0/24", "1.0.2.0/24"]);
    assert_eq!(note, "3 shown of 256 that match (--limit 3; 0 lists all)\n");
}

#[test]
fn a_reader_that_has_seen_enough_ends_it() {
    let daemon = Daemon::start(false);
    let mut child = daemon.fibcast("show routes --limit 0");
    let mut some = [0; 200];
    child.stdout.take().unwrap().read_exact(&mut some).unwrap();
    assert!(child.wait().unwrap().success());
    assert!(daemon.largest.lock().unwrap().1 < 200, "pages");
}

#[test]
fn wrong_selections_are_refused() {
    for (arguments, code, expected) in [
        ("show routes --orlonger", 2, "PREFIX|ADDRESS"),
        ("show routes 10.0.0.0/8 --orlonger --longer-than", 2, "cannot be used with"),
        ("show routes 10.0.0.1/8", 2, "did you mean 10.0.0.0/8"),
        ("show routes --family ipx", 2, "possible values: ipv4, ipv6"),
        ("show routes 10.0.0.1 --orlonger", 1, "10.0.0.1: expected a prefix with --orlonger"),
    ] {
        let daemon = Daemon::start(false);
        let output = daemon.fibcast(arguments).wait_with_output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{text}");
        assert!(text.contains(expected), "{text}");
    }
    let request: RouteRequest = serde_json::from_str("{}").unwrap();
    assert_eq!(request, RouteRequest::default());
}
