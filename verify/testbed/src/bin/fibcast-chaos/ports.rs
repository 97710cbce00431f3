//! A router of three ports on interfaces of this host, and the hosts around it: a flood on the first port, while packets go from the second to
//! the third without loss, and the other way to neighbors of the second that nobody knew before.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use fibcast_testbed::process::run;
use fibcast_testbed::wait::until;
use fibcast_testbed::{Failure, config};
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, bind, socket};

use crate::frames::{self, Mac};
use crate::subject::sync;

/// The router's addresses.
const ROUTER: [&[&str]; 3] = [&["10.9.0.1/16", "2001:db8:9::1/64"], &["172.16.0.1/16"], &["198.51.100.1/24"]];
const FLOODED: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 1);
/// A host behind the second port sends to one behind the third.
const SENDER: Ipv4Addr = Ipv4Addr::new(172, 16, 0, 2);
const RECEIVER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);
/// Between two packets that must not be lost.
const PACE: Duration = Duration::from_millis(2);
/// Between two packets to neighbors that are not known yet.
const NEWS: Duration = Duration::from_millis(250);
/// Packets of the flood in a row, and the pause after them: some 20,000 a second.
const BURST: u32 = 40;
/// How long a neighbor's first packet may take.
const FIRST: Duration = Duration::from_secs(2);
/// Time for packets that are under way.
const LAST: Duration = Duration::from_secs(1);

/// What comes in on the first port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flood {
    Arp,
    Solicitations,
    Echo,
    /// To hosts of that port's subnet that are not there.
    Scan,
    /// To hosts of another port's subnet that are not there.
    ScanOther,
    TimeExceeded,
}

impl Flood {
    pub const ALL: [Flood; 6] =
        [Flood::Arp, Flood::Solicitations, Flood::Echo, Flood::Scan, Flood::ScanOther, Flood::TimeExceeded];

    fn frame(self, to: Mac, number: u32) -> Vec<u8> {
        // All made up, and different for a long time.
        let mixed = number.wrapping_mul(0x9e37_79b1);
        let [a, b, c, d] = mixed.to_be_bytes();
        let from = [2, 9, a, b, c, d];
        let stranger = Ipv4Addr::new(10, 9, a | 1, b);
        match self {
            Flood::Arp => frames::arp([0xff; 6], from, [stranger, FLOODED], false),
            Flood::Solicitations => {
                let of_subnet =
                    |host: u32| Ipv6Addr::new(0x2001, 0xdb8, 9, 0, 0, 0, (host >> 16) as u16, host as u16);
                frames::solicitation(to, from, [of_subnet(mixed | 1 << 31), of_subnet(1)])
            }
            Flood::Echo => frames::echo(to, from, [stranger, FLOODED]),
            Flood::Scan => frames::udp(to, from, [stranger, Ipv4Addr::new(10, 9, c | 1, d)], 64, 0),
            Flood::ScanOther => frames::udp(to, from, [stranger, Ipv4Addr::new(172, 16, c | 128, d)], 64, 0),
            Flood::TimeExceeded => frames::udp(to, from, [stranger, RECEIVER], 1, 0),
        }
    }
}

impl fmt::Display for Flood {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Flood::Arp => "a flood of ARP requests from made-up hosts",
            Flood::Solicitations => "a flood of neighbor solicitations from made-up hosts",
            Flood::Echo => "a flood of echo requests from made-up hosts",
            Flood::Scan => "a scan of its own subnet",
            Flood::ScanOther => "a scan of another port's subnet",
            Flood::TimeExceeded => "a flood of packets whose time is exceeded",
        })
    }
}

/// Configuration of the router; makes the interfaces if they are not there yet.
///
/// # Errors
/// The kernel refuses.
pub fn router(folder: &Path, keys: &str, servers: &[String]) -> Result<String, Failure> {
    for port in 0..ROUTER.len() {
        if Link::open(&format!("r{port}")).is_ok() {
            continue;
        }
        run(
            "ip",
            &["link", "add", &format!("r{port}"), "type", "veth", "peer", "name", &format!("h{port}")],
        )?;
        for side in ["r", "h"] {
            let name = format!("{side}{port}");
            // The kernel has nothing to say there.
            let off = format!("/proc/sys/net/ipv6/conf/{name}/disable_ipv6");
            std::fs::write(&off, "1").map_err(|error| Failure::io(off, error))?;
            run("ip", &["link", "set", &name, "arp", "off", "up"])?;
        }
    }
    let prefix = format!("fc-chaos-{}", std::process::id());
    let ports = ROUTER.iter().enumerate().map(|(number, addresses)| config::veth_port(number, addresses, ""));
    let [a, b, c, d, e, f] = Link::open("h2")?.mac;
    Ok(config::node("subject", folder, keys)
        + &sync(folder, servers)
        + &config::workers(&prefix, 128, "0", "")
        + &ports.collect::<String>()
        + &format!(
            "[[static_neighbor]]\nport = \"p2\"\nip = \"{RECEIVER}\"\nmac = \"{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}\"\n"
        ))
}

/// One end of a cable.
#[derive(Debug)]
struct Link {
    socket: OwnedFd,
    mac: Mac,
}

impl Link {
    fn open(name: &str) -> Result<Link, Failure> {
        let failed = |error: nix::Error| Failure::io(format!("interface {name}"), error.into());
        let all = nix::ifaddrs::getifaddrs().map_err(failed)?;
        let of_link = |interface: nix::ifaddrs::InterfaceAddress| {
            let named = interface.interface_name == name;
            interface.address.filter(|_| named)?.as_link_addr().copied()
        };
        let address = all.filter_map(of_link).next();
        let address = address.ok_or_else(|| Failure::Missing(format!("interface {name}")))?;
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let socket =
            socket(AddressFamily::Packet, SockType::Raw, flags, SockProtocol::EthAll).map_err(failed)?;
        bind(socket.as_raw_fd(), &address).map_err(failed)?;
        let mac = address.addr().ok_or_else(|| Failure::Missing(format!("MAC address of {name}")))?;
        Ok(Link { socket, mac })
    }

    /// Sends a frame; false if there is no room.
    fn send(&self, frame: &[u8]) -> bool {
        rustix::io::write(&self.socket, frame).is_ok()
    }

    /// The next frame that has arrived.
    fn receive<'b>(&self, buffer: &'b mut [u8]) -> Option<&'b [u8]> {
        let length = rustix::io::read(&self.socket, &mut *buffer).ok()?;
        buffer.get(..length)
    }
}

/// What became of the packets of the other ports.
#[derive(Debug, Default)]
struct Figures {
    sent: AtomicU64,
    received: AtomicU64,
    /// Packets to new neighbors: when each was sent, and the times until they arrived.
    first: Mutex<Vec<Instant>>,
    took: Mutex<Vec<Duration>>,
}

/// Traffic and flood, until this is dropped.
#[derive(Debug)]
pub struct Traffic {
    flooding: Arc<AtomicBool>,
    going: Arc<AtomicBool>,
    figures: Arc<Figures>,
    threads: Vec<JoinHandle<()>>,
    /// Where the verdict goes.
    verdict: Arc<Mutex<Option<Result<String, String>>>>,
}

impl Traffic {
    /// Starts the traffic, and when that arrives the flood.
    ///
    /// # Errors
    /// Packets do not arrive without a flood.
    pub fn start(
        flood: Flood,
        verdict: Arc<Mutex<Option<Result<String, String>>>>,
    ) -> Result<Traffic, Failure> {
        let (flooding, going) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicBool::new(true)));
        let figures = Arc::<Figures>::default();
        let mut traffic = Traffic { flooding, going, figures, threads: Vec::new(), verdict };
        let router = |port: usize| Link::open(&format!("r{port}")).map(|link| link.mac);
        let [p0, p1, p2] = [router(0)?, router(1)?, router(2)?];
        let (h1, h2) = (Link::open("h1")?, Link::open("h2")?);
        traffic.spawn(move |going, figures| steady(&h1, p1, going, figures));
        traffic.spawn(move |going, figures| count(&h2, going, figures));
        let (news, answers) = (Link::open("h2")?, Link::open("h1")?);
        traffic.spawn(move |going, figures| news_to(&news, p2, going, figures));
        traffic.spawn(move |going, figures| neighbors(&answers, going, figures));
        let figures = traffic.figures.clone();
        until("packets arrive without a flood", Duration::from_secs(10), || {
            Ok::<_, Failure>(figures.received.load(Ordering::Relaxed) > 50)
        })?;
        let (h0, flooding) = (Link::open("h0")?, traffic.flooding.clone());
        traffic.threads.push(std::thread::spawn(move || {
            let mut number = 0;
            while flooding.load(Ordering::Relaxed) {
                for _ in 0..BURST {
                    h0.send(&flood.frame(p0, number));
                    number = number.wrapping_add(1);
                }
                std::thread::sleep(PACE);
            }
        }));
        Ok(traffic)
    }

    fn spawn(&mut self, run: impl FnOnce(&AtomicBool, &Figures) + Send + 'static) {
        let (going, figures) = (self.going.clone(), self.figures.clone());
        self.threads.push(std::thread::spawn(move || run(&going, &figures)));
    }

    fn judge(&self) -> Result<String, String> {
        let Figures { sent, received, first, took } = &*self.figures;
        let (sent, received) = (sent.load(Ordering::Relaxed), received.load(Ordering::Relaxed));
        let asked = first.lock().unwrap_or_else(PoisonError::into_inner).len();
        let took = took.lock().unwrap_or_else(PoisonError::into_inner);
        let slowest = took.iter().max().copied().unwrap_or_default();
        let text = format!(
            "{sent} packets of other ports, {} lost; {} of {asked} new neighbors of another port reached, the slowest in {:.2} s",
            sent.saturating_sub(received),
            took.len(),
            slowest.as_secs_f64()
        );
        // The last one may have been asked for just now.
        let fine = sent == received && took.len() + 1 >= asked && slowest <= FIRST;
        if fine { Ok(text) } else { Err(text) }
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.flooding.store(false, Ordering::Relaxed);
        std::thread::sleep(LAST);
        self.going.store(false, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
        *self.verdict.lock().unwrap_or_else(PoisonError::into_inner) = Some(self.judge());
    }
}

/// Sends numbered packets to the third port.
fn steady(link: &Link, router: Mac, going: &AtomicBool, figures: &Figures) {
    let mut number = 0;
    while going.load(Ordering::Relaxed) {
        if link.send(&frames::udp(router, link.mac, [SENDER, RECEIVER], 64, number)) {
            number += 1;
            figures.sent.store(number, Ordering::Relaxed);
        }
        std::thread::sleep(PACE);
    }
}

/// Counts them, each once, also a moment longer.
fn count(link: &Link, going: &AtomicBool, figures: &Figures) {
    let (mut buffer, mut next, mut ended) = ([0; 2048], 0, None);
    while ended.is_none_or(|since: Instant| since.elapsed() < LAST) {
        if !going.load(Ordering::Relaxed) {
            ended.get_or_insert_with(Instant::now);
        }
        match link.receive(&mut buffer) {
            // The router keeps the order of a flow.
            Some(frame) => {
                if let Some((RECEIVER, number)) = frames::number(frame).filter(|(_, number)| *number >= next)
                {
                    next = number + 1;
                    figures.received.fetch_add(1, Ordering::Relaxed);
                }
            }
            None => std::thread::sleep(Duration::from_millis(1)),
        }
    }
}

/// Sends to a neighbor behind the second port that the router does not know, again and again to another one.
fn news_to(link: &Link, router: Mac, going: &AtomicBool, figures: &Figures) {
    let mut number = 0u8;
    while going.load(Ordering::Relaxed) && number < 250 {
        let to = Ipv4Addr::new(172, 16, 1, number);
        figures.first.lock().unwrap_or_else(PoisonError::into_inner).push(Instant::now());
        link.send(&frames::udp(router, link.mac, [RECEIVER, to], 64, number.into()));
        number += 1;
        std::thread::sleep(NEWS);
    }
}

/// Is these neighbors: answers when it is asked, and notes what arrives.
fn neighbors(link: &Link, going: &AtomicBool, figures: &Figures) {
    let mut buffer = [0; 2048];
    while going.load(Ordering::Relaxed) {
        let Some(frame) = link.receive(&mut buffer) else {
            std::thread::sleep(Duration::from_millis(1));
            continue;
        };
        if let Some((router, [asking, about])) = frames::asked(frame) {
            if about.octets()[..3] == [172, 16, 1] {
                link.send(&frames::arp(router, link.mac, [about, asking], true));
            }
        } else if let Some((to, number)) = frames::number(frame)
            && to.octets()[..3] == [172, 16, 1]
        {
            let first = figures.first.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(sent) = first.get(number as usize) {
                figures.took.lock().unwrap_or_else(PoisonError::into_inner).push(sent.elapsed());
            }
        }
    }
}
