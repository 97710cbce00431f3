//! The real Internet's table through BGP: the speaker, the owners of its next hops, and zebra's view of it.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use fibcast_testbed::config::LANS;
use fibcast_testbed::{Internet, Process};

use crate::ours::programs;
use crate::{Host, Lab};

/// Files of real tables.
const DATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../data");

impl Lab {
    /// The full table of both families, and changes at this rate (`500/s:30s`).
    pub fn internet(&self, phase: &str) -> Internet {
        Internet::make(&programs(), Path::new(DATA), self.folder(), &[phase.to_owned()]).unwrap()
    }
}

/// A source with the same routes, to compare with; with the changes where they are wanted, as fast as they can be had.
pub fn oracle(internet: &Internet, changed: bool) -> String {
    let keys = match changed {
        true => format!("updates = \"{}\"\npace = 500000", internet.updates.display()),
        false => String::new(),
    };
    format!("[[source]]\norigin = \"oracle\"\n{}", internet.source(&keys))
}

impl<'l> Host<'l> {
    /// An interface with the subnets of all next hops, so that a routing daemon finds them.
    pub fn gateways(&self) {
        let own: Vec<String> = LANS.iter().flat_map(|lan| lan.addresses(254)).collect();
        self.namespace().uplink(&own.iter().map(String::as_str).collect::<Vec<_>>()).unwrap();
    }

    /// A BGP speaker that dials these neighbors and tells them the table; [`Process::tell`] it a Unix time for the changes to begin.
    pub fn speaker(&self, internet: &Internet, neighbors: &[&str]) -> Process {
        internet.speaker(&programs(), self.namespace(), self.folder(), neighbors).unwrap()
    }

    /// Runs something in this host's network.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let file = std::fs::File::open(Path::new("/run/netns").join(self.namespace().name())).unwrap();
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
