//! Protocols of the router itself: answers to ARP, ND and pings, requests for neighbors, and announcements.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use fibcast_fib::PortId;

use super::PortSetup;
use super::anycast;
use super::next_hops::owned_at;
use crate::neighbor::announce::Announcement;
use crate::neighbor::{Action, Evidence, Key, Table};
use crate::packet::ethernet::{self, Frame, Mac};
use crate::packet::icmp_error::{self, Error};
use crate::packet::{arp, echo, ipv4, ipv6, nd, upper_layer};
use crate::pipeline::host_frame::HostFrame;
use crate::pipeline::icmp_limit::{Kind, Limiter, Limits};

const TCP: u8 = 6;
const UDP: u8 = 17;

/// Interval between two log lines, and two defenses, about the same address conflict (RFC 5227 §1.1, DEFEND_INTERVAL).
const CONFLICT_PAUSE: Duration = Duration::from_secs(10);

/// State between frames.
#[derive(Debug)]
pub struct Host {
    limiter: Limiter,
    limited: [u64; Kind::COUNT],
    conflicts: HashMap<(u16, IpAddr), Instant>,
    seen: u64,
    /// Ports and own addresses to announce again.
    defended: Vec<(u16, IpAddr)>,
}

impl Host {
    /// For `ports` ports.
    pub fn new(icmp: Limits, ports: usize) -> Host {
        Host {
            limiter: Limiter::new(icmp, ports),
            limited: [0; Kind::COUNT],
            conflicts: HashMap::new(),
            seen: 0,
            defended: Vec::new(),
        }
    }

    /// Messages that were due but not sent because of the rate limit, by number of their kind.
    pub fn limited(&self) -> [u64; Kind::COUNT] {
        self.limited
    }

    /// Takes a token for a message about a packet of this port, or counts the message as not sent.
    fn allows(&mut self, port: u16, kind: Kind, now: Instant) -> bool {
        self.limiter.tick(now);
        let allowed = self.limiter.allows(port, kind);
        if let Some(count) = self.limited.get_mut(kind as usize) {
            *count += u64::from(!allowed);
        }
        allowed
    }

    /// Address conflicts seen: another station claimed an address of the router (RFC 5227 §2.4, RFC 4862 §5.4).
    pub fn conflicts(&self) -> u64 {
        self.seen
    }

    /// The own addresses that another station claimed since the last call, each once in [`CONFLICT_PAUSE`].
    pub fn take_defended(&mut self) -> Vec<(u16, IpAddr)> {
        std::mem::take(&mut self.defended)
    }

    fn conflict(&mut self, number: u16, port: &PortSetup, address: IpAddr, mac: Mac, now: Instant) {
        self.seen += 1;
        let quiet = self.conflicts.get(&(number, address)).is_some_and(|last| now < *last + CONFLICT_PAUSE);
        if !quiet {
            tracing::error!("port {}: {mac} claims {address}, which is an address of this router", port.name);
            self.conflicts.insert((number, address), now);
            self.defended.push((number, address));
        }
    }

    /// Learns neighbors from a frame addressed to the router, and answers it if an answer is due.
    pub fn handle(
        &mut self,
        frame: &HostFrame,
        ports: &[PortSetup],
        neighbors: &mut Table,
        now: Instant,
        actions: &mut Vec<Action>,
    ) -> Option<HostFrame> {
        let port = ports.get(usize::from(frame.port))?;
        let mut claimed = None;
        let answer = handle(frame, ports, port, neighbors, now, actions, &mut claimed);
        // Requests of another port on the same link come from the loopback as well.
        let is_own = |mac: &Mac| ports.iter().any(|port| port.mac == *mac);
        if let Some((address, mac)) = claimed.filter(|(_, mac)| !is_own(mac)) {
            self.conflict(frame.port, port, address, mac, now);
        }
        match answer {
            Some(answer) if echo::is_reply(answer.bytes()) => {
                self.allows(frame.port, Kind::EchoReply, now).then_some(answer)
            }
            Some(answer) => Some(answer),
            None => self.refuse(frame, ports, now),
        }
    }

    /// RFC 1122 §3.2.2.1, RFC 4443 §3.1: nothing listens here; the sender gets port unreachable (traceroute relies on it).
    fn refuse(&mut self, frame: &HostFrame, ports: &[PortSetup], now: Instant) -> Option<HostFrame> {
        let ethernet = Frame::new_checked(frame.bytes()).ok()?;
        let (bytes, mut room) = (ethernet.payload(), Vec::new());
        let unreachable = |kind, code| Error { kind, code, argument: 0 };
        match ethernet.ethertype() {
            ethernet::IPV4 => {
                let header = ipv4::Ipv4Header::new_checked(bytes, bytes.len()).ok()?;
                let code = match header.protocol() {
                    1 => return None,
                    TCP | UDP => 3,
                    _ => 2,
                };
                if !icmp_error::may_answer_v4(&header) || !self.allows(frame.port, Kind::PortUnreachable, now)
                {
                    return None;
                }
                let own = header.destination();
                icmp_error::build_v4(&mut room, unreachable(3, code), own, &header, bytes);
            }
            ethernet::IPV6 => {
                let header = ipv6::Ipv6Header::new_checked(bytes, bytes.len()).ok()?;
                let own = answers_as(header.destination(), frame.port, ports)?;
                let error = upper_layer::refusal(&header)?;
                // An unrecognized header is a protocol that nothing here has, so no kind of message is sent by workers as well.
                if !icmp_error::may_answer_v6(&header, false)
                    || !self.allows(frame.port, Kind::PortUnreachable, now)
                {
                    return None;
                }
                icmp_error::build_v6(&mut room, error, own, &header, bytes);
            }
            _ => return None,
        }
        frame.answer(&room).map(HostFrame::routed)
    }
}

fn handle(
    frame: &HostFrame,
    ports: &[PortSetup],
    port: &PortSetup,
    neighbors: &mut Table,
    now: Instant,
    actions: &mut Vec<Action>,
    claimed: &mut Option<(IpAddr, Mac)>,
) -> Option<HostFrame> {
    let ethernet = Frame::new_checked(frame.bytes()).ok()?;
    let mut heard = |address: IpAddr, evidence: Evidence| {
        if port.owns(address) {
            *claimed = Some((address, evidence.mac.unwrap_or(ethernet.source())));
        }
        // A station that is not on this link cannot be its neighbor.
        let key = (PortId(frame.port), address);
        let on_link = port.is_on_link(address) || neighbors.get(&key).is_some();
        if on_link && !owned_at(key.0, address, ports) {
            neighbors.heard(key, evidence, now, actions);
        }
    };
    let bytes = ethernet.payload();
    let answer = match ethernet.ethertype() {
        ethernet::ARP => {
            let packet = arp::ArpPacket::new_checked(bytes).ok()?;
            let asks = packet.operation == arp::Operation::Request;
            let for_us = port.owns(packet.target.into());
            let to_us = ethernet.destination() == port.mac;
            let mac = packet.sender_mac;
            // RFC 826: update a known entry, add a new one if it asks for us. A reply confirms the way only if it is for us alone. RFC 5227:
            // a probe has no sender address yet.
            if !packet.sender.is_unspecified() {
                let evidence = match (asks, for_us) {
                    (true, true) => Evidence::request(mac),
                    (false, true) if to_us => Evidence::reply(mac),
                    _ => Evidence::gratuitous(mac),
                };
                heard(packet.sender.into(), evidence);
            }
            (for_us && asks && mac.is_unicast()).then(|| packet.reply(port.mac))
        }
        ethernet::IPV4 => {
            let header = ipv4::Ipv4Header::new_checked(bytes, bytes.len()).ok()?;
            echo::reply_v4(&ethernet, &header, port.mac, since_midnight())
        }
        ethernet::IPV6 => {
            let header = ipv6::Ipv6Header::new_checked(bytes, bytes.len()).ok()?;
            if let Some(own) = answers_as(header.destination(), frame.port, ports)
                && let Some(answer) = echo::reply_v6(&ethernet, &header, port.mac, own)
            {
                Some(answer)
            } else {
                neighbor_discovery(&header, ethernet.source(), port, heard)
            }
        }
        _ => None,
    }?;
    frame.answer(&answer)
}

/// The source of answers to a packet for this address: the address itself if it is one of the router's own, or behind an anycast address.
fn answers_as(address: Ipv6Addr, port_index: u16, ports: &[PortSetup]) -> Option<Ipv6Addr> {
    if owned_at(PortId(port_index), address.into(), ports) {
        return Some(address);
    }
    let vrf = ports.get(usize::from(port_index))?.vrf;
    ports.iter().filter(|port| port.vrf == vrf).find_map(|port| anycast::behind(port, address))
}

/// The time of the timestamp option: milliseconds since midnight UT (RFC 791 §3.1).
fn since_midnight() -> u32 {
    const DAY: u128 = 24 * 60 * 60 * 1_000;
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |passed| (passed.as_millis() % DAY) as u32)
}

fn neighbor_discovery(
    header: &ipv6::Ipv6Header<'_>,
    sender: Mac,
    port: &PortSetup,
    mut heard: impl FnMut(IpAddr, Evidence),
) -> Option<Vec<u8>> {
    match nd::Message::new_checked(header).ok()? {
        nd::Message::Solicitation { target, source_mac } => {
            let source = header.source();
            if anycast::behind(port, target).is_some() && !port.owns(target.into()) {
                // RFC 4862 §5.4: nobody probes an anycast address for duplicates.
                if source.is_unspecified() {
                    return None;
                }
                if let Some(mac) = source_mac {
                    heard(source.into(), Evidence::request(mac));
                }
                let to = source_mac.unwrap_or(sender);
                return Some(nd::anycast_advertisement(port.mac, target, source, to));
            }
            if !port.owns(target.into()) {
                return None;
            }
            if source.is_unspecified() {
                // RFC 4862 §5.4.3: another node probes our address; the answer tells it that the address is taken.
                return Some(nd::advertisement(port.mac, target, source, Mac::BROADCAST));
            }
            if let Some(mac) = source_mac {
                heard(source.into(), Evidence::request(mac));
            }
            // RFC 4861 §7.2.4: a request by unicast may lack the option; it is answered to where the frame came from.
            Some(nd::advertisement(port.mac, target, source, source_mac.unwrap_or(sender)))
        }
        nd::Message::Advertisement { target, target_mac, solicited, overrides } => {
            heard(target.into(), Evidence::advertisement(target_mac, solicited, overrides));
            None
        }
    }
}

/// A frame about an own address, unasked (RFC 5227 §2.3, RFC 4861 §7.2.6, RFC 4862 §5.4.2).
pub fn announcement(
    number: u16,
    address: IpAddr,
    what: Announcement,
    ports: &[PortSetup],
) -> Option<HostFrame> {
    let mac = ports.get(usize::from(number))?.mac;
    let frame = match (address, what) {
        (IpAddr::V4(own), _) => arp::ArpPacket::request(mac, own, own, None),
        (IpAddr::V6(own), Announcement::Probe) => nd::probe(mac, own),
        (IpAddr::V6(own), Announcement::Announce) => {
            nd::advertisement(mac, own, Ipv6Addr::UNSPECIFIED, Mac::BROADCAST)
        }
    };
    HostFrame::new(number, &frame)
}

/// The request for a neighbor: ARP request or neighbor solicitation.
pub fn question(key: Key, known: Option<Mac>, ports: &[PortSetup]) -> Option<HostFrame> {
    let (PortId(number), target) = key;
    let port = ports.get(usize::from(number))?;
    let frame = match (target, port.source_for(target)) {
        (IpAddr::V4(target), IpAddr::V4(own)) => arp::ArpPacket::request(port.mac, own, target, known),
        (IpAddr::V6(target), IpAddr::V6(own)) => nd::solicitation(port.mac, own, target, known),
        _ => return None,
    };
    HostFrame::new(number, &frame)
}
