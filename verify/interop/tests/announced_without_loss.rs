//! From the moment at which the neighbor hears a prefix, no packet to it is lost on any NIC host: bgpd announces what all of them forward by,
//! however slow or stopped they are in between. `[acknowledge]` of the route server, FRR of docs/frr.md, dataplanes with real packets.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use fibcast_interop::{
    Bird, Frr, Host, Lab, Ours, announcing_bird_conf, eventually, nic_toml, project, suppress_frr_conf,
    suppress_lab, veth_port,
};
use fibcast_testbed::config;
use fibcast_testbed::ptrace::{StoppedThread, threads};

/// Prefixes of one configuration of the announcing neighbor.
const AT_ONCE: usize = 32;
/// When packets to a prefix are sent, in milliseconds after it was heard.
const WHEN_MS: [u64; 10] = [0, 1, 2, 5, 10, 20, 50, 100, 200, 500];
const PORT: u16 = 4789;
/// How long a host is stopped. Shorter than a dataplane ends itself for (`stall_exit_s`), longer than the way of a change takes.
const PAUSE: Duration = Duration::from_millis(1500);

fn prefix(number: usize) -> String {
    format!("16.{}.{}.0/24", number / 256, number % 256)
}

fn address(number: usize) -> Ipv4Addr {
    Ipv4Addr::new(16, (number / 256) as u8, (number % 256) as u8, 1)
}

/// Prefixes that the neighbor has heard of, by their numbers; and how many it was told to forget.
#[derive(Debug, Default)]
struct Heard {
    announced: BTreeSet<usize>,
    withdrawn: usize,
}

/// A BGP neighbor that announces nothing, and tells each prefix to the senders the moment it has read it.
fn neighbor(host: &Host<'_>, heard: Arc<Mutex<Heard>>, senders: Vec<Sender<usize>>) {
    host.inside(move || {
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 179)).unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                // Ends with the connection; FRR connects again.
                let _ = session(stream, &heard, &senders);
            }
        });
    });
}

fn session(mut stream: TcpStream, heard: &Mutex<Heard>, senders: &[Sender<usize>]) -> std::io::Result<()> {
    // OPEN of AS 65002 without capabilities, which has IPv4 alone; a hold time of 0 wants no keepalives (RFC 4271 section 4.2).
    let open = [4, 0xfd, 0xea, 0, 0, 198, 51, 100, 2, 0];
    stream.write_all(&message(1, &open))?;
    stream.write_all(&message(4, &[]))?;
    loop {
        let mut head = [0; 19];
        stream.read_exact(&mut head)?;
        let mut body = vec![0; usize::from(u16::from_be_bytes([head[16], head[17]])) - 19];
        stream.read_exact(&mut body)?;
        if head[18] != 2 {
            continue;
        }
        let part = |at: usize| usize::from(u16::from_be_bytes([body[at], body[at + 1]]));
        let withdrawn = part(0);
        let attributes = part(2 + withdrawn);
        let gone = numbers(&body[2..2 + withdrawn]).len();
        let news = numbers(&body[4 + withdrawn + attributes..]);
        for &number in &news {
            senders.iter().for_each(|sender| _ = sender.send(number));
        }
        let mut heard = heard.lock().unwrap();
        heard.withdrawn += gone;
        heard.announced.extend(news);
    }
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = (19 + body.len()) as u16;
    [&[0xff; 16][..], &length.to_be_bytes(), &[kind], body].concat()
}

/// The numbers of our /24s in a list of prefixes (RFC 4271 section 4.3).
fn numbers(mut list: &[u8]) -> Vec<usize> {
    let mut found = Vec::new();
    while let Some((&length, rest)) = list.split_first() {
        let (bytes, rest) = rest.split_at(usize::from(length).div_ceil(8));
        if let (24, &[16, high, low]) = (length, bytes) {
            found.push(usize::from(high) * 256 + usize::from(low));
        }
        list = rest;
    }
    found
}

/// Packets: the number of a prefix, and a place in [`WHEN_MS`].
type Packets = BTreeSet<(usize, usize)>;
type Due = (Reverse<Instant>, usize, usize);

/// Sends packets to each prefix, from the moment on at which it is heard; what was sent.
fn sender(host: &Host<'_>, prefixes: Receiver<usize>, stop: Arc<AtomicBool>) -> JoinHandle<Packets> {
    host.inside(|| {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
        std::thread::spawn(move || {
            let (mut sent, mut due) = (Packets::new(), BinaryHeap::<Due>::new());
            while !(due.is_empty() && stop.load(Ordering::Relaxed)) {
                let now = Instant::now();
                let tick = Duration::from_millis(20);
                let wait =
                    due.peek().map_or(tick, |(Reverse(at), ..)| tick.min(at.saturating_duration_since(now)));
                if let Ok(number) = prefixes.recv_timeout(wait) {
                    let now = Instant::now();
                    let at = |&ms: &u64| Reverse(now + Duration::from_millis(ms));
                    due.extend(WHEN_MS.iter().enumerate().map(|(place, ms)| (at(ms), number, place)));
                }
                while let Some(&(Reverse(at), number, place)) = due.peek()
                    && at <= Instant::now()
                {
                    due.pop();
                    let text = format!("{number} {place}");
                    socket.send_to(text.as_bytes(), (address(number), PORT)).unwrap();
                    sent.insert((number, place));
                }
            }
            sent
        })
    })
}

/// Receives everything that a NIC host forwards to it.
fn receiver(host: &Host<'_>, stop: Arc<AtomicBool>) -> JoinHandle<Packets> {
    // All addresses of the prefixes are its own.
    host.ip("route add local 16.0.0.0/8 dev lo");
    host.inside(|| {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, PORT)).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        std::thread::spawn(move || {
            let (mut received, mut buffer) = (Packets::new(), [0; 64]);
            loop {
                match socket.recv(&mut buffer) {
                    Ok(n) => {
                        let text = std::str::from_utf8(&buffer[..n]).unwrap();
                        let (number, place) = text.split_once(' ').unwrap();
                        received.insert((number.parse().unwrap(), place.parse().unwrap()));
                    }
                    Err(_) if stop.load(Ordering::Relaxed) => return received,
                    Err(_) => {}
                }
            }
        })
    })
}

/// Ends the threads.
#[derive(Default)]
struct Stop {
    senders: Arc<AtomicBool>,
    receivers: Arc<AtomicBool>,
}

/// A NIC host with a sender on port p0 and a receiver, which is the next hop of all routes, on p1.
struct Nic<'h> {
    dataplane: Ours<'h>,
    sender: JoinHandle<Packets>,
    receiver: JoinHandle<Packets>,
}

impl<'h> Nic<'h> {
    fn new(
        [host, from, to]: [&'h Host<'h>; 3],
        name: &'static str,
        core: usize,
        fib: &str,
        prefixes: Receiver<usize>,
        stop: &Stop,
    ) -> Self {
        let none = "2001:db8:ff::1";
        let space = host.namespace();
        space
            .port(0, from.namespace(), "eth0", &["10.0.0.2/24", "2001:db8:ff::2/64"], ["10.0.0.1", none])
            .unwrap();
        space
            .port(
                1,
                to.namespace(),
                "eth0",
                &["192.0.2.2/24", "2001:db8:fe::2/64"],
                ["192.0.2.11", "2001:db8:fe::1"],
            )
            .unwrap();
        let ports = veth_port(0, &["10.0.0.1/24", "2001:db8:ff::1/64"], "")
            + &veth_port(1, &["192.0.2.11/24", "2001:db8:fe::1/64"], "");
        let toml = nic_toml(host, name, "", core, &ports) + fib + &config::sync(["10.255.0.1:7830"], "");
        let receiver = receiver(to, stop.receivers.clone());
        let sender = sender(from, prefixes, stop.senders.clone());
        Self { dataplane: host.ours("fibcast-dataplane", name, &toml), sender, receiver }
    }
}

/// FRR, its neighbors, a route server and two NIC hosts.
struct Bed<'h> {
    server: Ours<'h>,
    bird: Bird,
    _frr: Frr,
    nics: [Nic<'h>; 2],
    heard: Arc<Mutex<Heard>>,
    stop: Stop,
    announced: usize,
    withdrawn: usize,
}

impl<'h> Bed<'h> {
    /// `fib` is a section of the second host's configuration.
    fn new(hosts: &'h [Host<'h>; 9], acknowledge: &str, fib: &str) -> Self {
        let [a, up, down, n1, from1, to1, n2, from2, to2] = hosts;
        let lab = a.lab();
        lab.network(&[a, n1, n2]);
        lab.cable((a, "eth0", &["192.0.2.1/24", "2001:db8::1/64"]), (up, "eth0", &["192.0.2.2/24"]));
        lab.cable((a, "eth1", &["198.51.100.1/24"]), (down, "eth0", &["198.51.100.2/24"]));
        let toml = project("docs/frr/route-server.toml")
            .replace("/run/fibcast", &a.folder().display().to_string())
            .replace("127.0.0.1:7830", "0.0.0.0:7830")
            .replace("protocol = \"bgp\"", "ports = { eth0 = \"p9\" }\nprotocol = [\"bgp\", \"static\"]");
        let toml = toml + config::INSECURE + "[rib]\nready_timeout_ms = 2000\n[acknowledge]\n" + acknowledge;
        let server = a.ours("fibcast-route-server", "rs-a", &toml);
        let stop = Stop::default();
        let ((to_1, of_1), (to_2, of_2)) = (channel(), channel());
        let nics = [
            Nic::new([n1, from1, to1], "nh-1", 0, "", of_1, &stop),
            Nic::new([n2, from2, to2], "nh-2", 1, fib, of_2, &stop),
        ];
        let heard = Arc::default();
        neighbor(down, Arc::clone(&heard), vec![to_1, to_2]);
        let bird = up.bird(&announcing_bird_conf::<&str>(&[]));
        let frr =
            a.frr_with(&["staticd", "bgpd"], &suppress_frr_conf(), &["--asic-offload=notify_on_offload"]);
        eventually("both hosts are active", 60, || {
            server.status().clients.iter().filter(|client| client.active).count() == 2
        });
        Bed { server, bird, _frr: frr, nics, heard, stop, announced: 0, withdrawn: 0 }
    }

    /// The announcing neighbor has more prefixes.
    fn announce(&mut self) {
        self.announced += AT_ONCE;
        self.configure();
        eventually("the route server has them", 30, || {
            self.server.via(&prefix(self.announced - 1)).is_some()
        });
    }

    /// It has the first of those that are left no longer.
    fn withdraw(&mut self) {
        self.withdrawn += AT_ONCE;
        self.configure();
    }

    fn configure(&self) {
        let all: Vec<String> = (self.withdrawn..self.announced).map(prefix).collect();
        self.bird.configure(&announcing_bird_conf(&all));
    }

    fn heard(&self) -> usize {
        self.heard.lock().unwrap().announced.len()
    }

    #[track_caller]
    fn hears_all(&self) {
        eventually("all prefixes are announced", 60, || self.heard() >= self.announced);
    }

    /// The packets that were sent and did not arrive, on each host, and how many were sent in all.
    fn end(self) -> ([Packets; 2], usize) {
        {
            let heard = self.heard.lock().unwrap();
            assert_eq!((heard.announced.len(), heard.withdrawn), (self.announced, self.withdrawn));
        }
        self.stop.senders.store(true, Ordering::Relaxed);
        let mut total = 0;
        let nics = self.nics.map(|nic| (nic.sender.join().unwrap(), nic.receiver, nic.dataplane));
        // The last packets are on their way.
        std::thread::sleep(Duration::from_secs(1));
        self.stop.receivers.store(true, Ordering::Relaxed);
        let lost = nics.map(|(sent, receiver, _dataplane)| {
            total += sent.len();
            &sent - &receiver.join().unwrap()
        });
        (lost, total)
    }
}

fn hosts(lab: &Lab) -> [Host<'_>; 9] {
    ["a", "up", "down", "nh1", "from1", "to1", "nh2", "from2", "to2"].map(|name| lab.host(name))
}

fn lab() -> Option<Lab> {
    suppress_lab(&["zebra", "bgpd", "staticd", "vtysh", "bird", "ethtool", "nft"])
}

#[test]
fn no_packet_to_an_announced_prefix_is_lost_however_slow_the_hosts_are() {
    let Some(lab) = lab() else { return };
    let hosts = hosts(&lab);
    let mut bed = Bed::new(&hosts, "timeout_ms = 0\ngrace_ms = 8000\n", "");
    bed.announce();
    bed.hears_all();
    for round in 0..3 {
        // Nothing is in the way.
        bed.announce();
        bed.hears_all();
        // A thread on the way of a route is stopped on one host, while its workers forward what is announced already.
        for (nic, thread) in [(0, "control"), (1, "agent"), (round % 2, "control")] {
            let before = bed.heard();
            let id = threads(bed.nics[nic].dataplane.process().pid(), thread);
            let stopped = StoppedThread::stop(id[0]).unwrap();
            bed.announce();
            std::thread::sleep(PAUSE);
            assert_eq!(bed.heard(), before, "{thread} of host {nic} is stopped");
            drop(stopped);
            bed.hears_all();
        }
        // A whole host is stopped; nothing is on its way to it any more.
        std::thread::sleep(Duration::from_millis(WHEN_MS[WHEN_MS.len() - 1]));
        let before = bed.heard();
        bed.nics[round % 2].dataplane.process().pause();
        bed.announce();
        std::thread::sleep(PAUSE);
        assert_eq!(bed.heard(), before, "host {} is stopped", round % 2);
        bed.nics[round % 2].dataplane.process().resume();
        bed.hears_all();
    }
    let announced = bed.announced;
    let (lost, sent) = bed.end();
    println!(
        "{announced} prefixes, {sent} packets by two hosts, lost: {} and {}",
        lost[0].len(),
        lost[1].len()
    );
    assert_eq!(sent, announced * WHEN_MS.len() * 2);
    assert_eq!(lost, [Packets::new(), Packets::new()]);
}

/// The same where bgpd does not wait for the hosts: what this file measures can be lost.
#[test]
fn packets_are_lost_on_a_host_that_bgpd_does_not_wait_for() {
    let Some(lab) = lab() else { return };
    let hosts = hosts(&lab);
    let mut bed = Bed::new(&hosts, "timeout_ms = 0\ngrace_ms = 3000\nrequire = [\"nh-2\"]\n", "");
    bed.announce();
    bed.hears_all();
    let id = threads(bed.nics[0].dataplane.process().pid(), "control");
    let stopped = StoppedThread::stop(id[0]).unwrap();
    bed.announce();
    bed.hears_all();
    std::thread::sleep(PAUSE);
    drop(stopped);
    let (lost, sent) = bed.end();
    println!("{sent} packets by two hosts, lost: {} and {}", lost[0].len(), lost[1].len());
    assert_eq!(lost[1], Packets::new(), "a host that is waited for");
    assert!(lost[0].len() > AT_ONCE, "a host that is not");
}

/// With `on_timeout = "announce"` too: a refusal is no delay.
#[test]
fn a_prefix_for_which_a_host_has_no_room_is_announced_once_there_is_room() {
    let Some(lab) = lab() else { return };
    let hosts = hosts(&lab);
    // Room for what two announcements bring beside the host's own routes, and not for a third one.
    let (limit, own) = (1000, 1000 - 3 * AT_ONCE);
    let routes = (0..own).map(|n| {
        format!("[[static_route]]\nprefix = \"18.{}.{}.0/24\"\nblackhole = true\n", n / 256, n % 256)
    });
    let fib = format!("[fib]\nmax_routes = {limit}\n{}", routes.collect::<String>());
    let mut bed = Bed::new(&hosts, "timeout_ms = 1000\ngrace_ms = 3000\n", &fib);
    bed.announce();
    bed.announce();
    bed.hears_all();
    bed.announce();
    let full = |bed: &Bed<'_>| {
        let client = bed.server.status().clients.into_iter().find(|client| client.name == "nh-2").unwrap();
        let reason = client.refused_first.first().map(|route| route.reason.clone());
        (client.refused as usize, reason)
    };
    eventually("the host has no room", 30, || bed.heard() + full(&bed).0 == bed.announced);
    assert_eq!(full(&bed).1.as_deref(), Some("table full"));
    let before = bed.heard();
    assert!(before < bed.announced);
    eventually("zebra is told", 10, || {
        bed.server.counter("bgp", "acknowledged_failed") as usize >= bed.announced - before
    });
    std::thread::sleep(2 * PAUSE);
    assert_eq!(bed.heard(), before, "the host forwards by no more");
    bed.withdraw();
    bed.hears_all();
    assert_eq!(full(&bed), (0, None));
    let (lost, sent) = bed.end();
    println!("{sent} packets by two hosts, lost: {} and {}", lost[0].len(), lost[1].len());
    assert_eq!(lost, [Packets::new(), Packets::new()]);
}
