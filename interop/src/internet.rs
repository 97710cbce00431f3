//! The real Internet's table through BGP: the speaker, the owners of its next hops, and zebra's view of it.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::ours::built;
use crate::{Host, Lab, Process, text};

/// Subnets of the next hops of [`Internet`]: behind port 0 and port 1.
pub const SUBNETS: [[&str; 2]; 2] = [["198.18.0.", "2001:2::"], ["198.19.0.", "2001:2:0:1::"]];

/// Real prefixes with next hops by a rule, and changes of next hops, in files.
#[derive(Debug)]
pub struct Internet {
    /// The table (MRT).
    pub table: PathBuf,
    /// The changes (MRT).
    pub updates: PathBuf,
}

/// Routes of an [`Internet`].
pub const ROUTES: u64 = 901_899 + 160_147;

impl Lab {
    /// The full table of both families, and changes at this rate (`500/s:30s`).
    pub fn internet(&self, phase: &str) -> Internet {
        let internet =
            Internet { table: self.folder().join("table.mrt"), updates: self.folder().join("updates.mrt") };
        let data = concat!(env!("CARGO_MANIFEST_DIR"), "/../data/full-table-2024.prefixes.txt.gz");
        let output = Command::new(built("fibcast-tablegen"))
            .args(["--prefixes", data, "--phase", phase, "--table"])
            .arg(&internet.table)
            .arg("--updates")
            .arg(&internet.updates)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", text(&output));
        internet
    }
}

impl Internet {
    /// A source with the same routes, to compare with; with the changes where they are wanted, as fast as they can be had.
    pub fn source(&self, changed: bool) -> String {
        let updates = match changed {
            true => format!("updates = \"{}\"\npace = 500000\n", self.updates.display()),
            false => String::new(),
        };
        format!(
            "[[source]]\norigin = \"oracle\"\nkind = \"mrt\"\npath = \"{}\"\n{updates}",
            self.table.display()
        )
    }
}

impl<'l> Host<'l> {
    /// An interface with the subnets of all next hops, so that a routing daemon finds them.
    pub fn gateways(&self) {
        self.ip("link add up0 type veth peer name up1");
        for [v4, v6] in SUBNETS {
            self.ip(&format!("address add {v4}254/16 dev up0"));
            self.ip(&format!("address add {v6}fe/64 dev up0 nodad"));
        }
        self.ip("link set up1 up");
        self.ip("link set up0 up");
    }

    /// A BGP speaker that dials these neighbors and tells them the table; [`Process::tell`] it a Unix time for the changes to begin.
    pub fn speaker(&self, internet: &Internet, neighbors: &[&str]) -> Process {
        let (table, updates) = (internet.table.display().to_string(), internet.updates.display().to_string());
        let mut arguments = vec!["--table", &table, "--updates", &updates];
        neighbors.iter().for_each(|neighbor| arguments.extend(["--neighbor", *neighbor]));
        self.start("speaker", &built("fibcast-bgp-player"), &arguments)
    }

    /// Runs something in this host's network.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let file = std::fs::File::open(format!("/run/netns/{}", self.namespace())).unwrap();
        let enter = move || {
            let network = rustix::thread::LinkNameSpaceType::Network;
            rustix::thread::move_into_link_name_space(std::os::fd::AsFd::as_fd(&file), Some(network))
                .unwrap();
            work()
        };
        std::thread::scope(|scope| scope.spawn(enter).join().unwrap())
    }
}

/// When the first and the last bytes of a zebra came, and how many there were.
#[derive(Debug, Clone, Copy, Default)]
pub struct Heard {
    /// Of the connection in use.
    pub bytes: u64,
    /// The first of them.
    pub first: Option<Instant>,
    /// The last of them.
    pub last: Option<Instant>,
}

impl Heard {
    /// From the first to the last.
    pub fn took(&self) -> Duration {
        self.last.zip(self.first).map_or(Duration::ZERO, |(last, first)| last - first)
    }
}

/// Something on a host's loopback that zebra connects to in place of the route server: it takes the time, and passes on what it
/// hears or throws it away.
#[derive(Debug, Clone)]
pub struct Tap(Arc<Mutex<Heard>>);

impl Tap {
    /// Listens on `port`, and passes on to `to` where there is one. Ends with the test.
    pub fn new(host: &Host<'_>, port: u16, to: Option<u16>) -> Tap {
        let heard = Tap(Arc::default());
        let here = heard.clone();
        // A thread that is started from within stays within.
        host.inside(move || {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
            std::thread::spawn(move || {
                for stream in listener.incoming().map_while(Result::ok) {
                    here.follow(stream, to);
                }
            });
        });
        heard
    }

    fn follow(&self, mut from: TcpStream, to: Option<u16>) {
        *self.0.lock().unwrap() = Heard::default();
        let mut out = to.map(|port| TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap());
        let mut buffer = vec![0; 1 << 18];
        while let Ok(n @ 1..) = from.read(&mut buffer) {
            let now = Instant::now();
            let mut heard = self.0.lock().unwrap();
            heard.bytes += n as u64;
            heard.first.get_or_insert(now);
            heard.last = Some(now);
            drop(heard);
            if let Some(out) = &mut out
                && out.write_all(&buffer[..n]).is_err()
            {
                break;
            }
        }
    }

    /// So far.
    pub fn heard(&self) -> Heard {
        *self.0.lock().unwrap()
    }
}
