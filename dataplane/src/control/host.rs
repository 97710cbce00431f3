//! Protocols of the router itself: answers to ARP, ND and pings, and requests for neighbors.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use fibcast_fib::PortId;

use super::PortSetup;
use super::next_hops::owned;
use crate::neighbor::{Action, Key, Table};
use crate::packet::ethernet::{self, Frame, Mac};
use crate::packet::icmp_error::{self, Error};
use crate::packet::{arp, echo, ipv4, ipv6, nd};
use crate::pipeline::host_frame::HostFrame;
use crate::pipeline::icmp_error::{Limiter, Limits};

const TCP: u8 = 6;
const UDP: u8 = 17;

/// Interval between two log lines about the same address conflict.
const CONFLICT_PAUSE: Duration = Duration::from_secs(10);

/// State between frames.
#[derive(Debug)]
pub struct Host {
    limiter: Limiter,
    conflicts: HashMap<IpAddr, Instant>,
    seen: u64,
}

impl Host {
    /// For `ports` ports.
    pub fn new(ports: usize) -> Host {
        Host { limiter: Limiter::new(Limits::default(), ports), conflicts: HashMap::new(), seen: 0 }
    }

    /// Address conflicts seen: another station claimed an address of the router (RFC 5227 §2.4, RFC 4862 §5.4).
    pub fn conflicts(&self) -> u64 {
        self.seen
    }

    fn conflict(&mut self, port: &PortSetup, address: IpAddr, mac: Mac, now: Instant) {
        self.seen += 1;
        let quiet = self.conflicts.get(&address).is_some_and(|last| now < *last + CONFLICT_PAUSE);
        if !quiet {
            tracing::error!("port {}: {mac} claims {address}, which is an address of this router", port.name);
            self.conflicts.insert(address, now);
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
            self.conflict(port, address, mac, now);
        }
        answer.or_else(|| self.refuse(frame, ports, now))
    }

    /// RFC 1122 §3.2.2.1, RFC 4443 §3.1: nothing listens here; the sender gets port unreachable (traceroute relies on it).
    fn refuse(&mut self, frame: &HostFrame, ports: &[PortSetup], now: Instant) -> Option<HostFrame> {
        self.limiter.refill(now);
        let ethernet = Frame::new_checked(frame.bytes()).ok()?;
        let (bytes, mut room) = (ethernet.payload(), Vec::new());
        let unreachable = |kind, code| Error { kind, code, argument: 0 };
        match ethernet.ethertype() {
            ethernet::IPV4 => {
                let header = ipv4::Header::new_checked(bytes, bytes.len()).ok()?;
                let code = match header.protocol() {
                    1 => return None,
                    TCP | UDP => 3,
                    _ => 2,
                };
                if !icmp_error::may_answer_v4(&header) || !self.limiter.allows(frame.port) {
                    return None;
                }
                let own = header.destination();
                icmp_error::build_v4(&mut room, unreachable(3, code), own, &header, bytes);
            }
            ethernet::IPV6 => {
                let header = ipv6::Header::new_checked(bytes, bytes.len()).ok()?;
                let own = header.destination();
                let vrf = ports.get(usize::from(frame.port))?.vrf;
                let known = owned(own.into(), vrf, ports);
                let upper = matches!(header.next_header(), TCP | UDP);
                if !known
                    || !upper
                    || !icmp_error::may_answer_v6(&header, false)
                    || !self.limiter.allows(frame.port)
                {
                    return None;
                }
                icmp_error::build_v6(&mut room, unreachable(1, 4), own, &header, bytes);
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
    let mut heard = |address: IpAddr, mac: Mac, create: bool| {
        if port.owns(address) {
            *claimed = Some((address, mac));
        }
        // A station that is not on this link cannot be its neighbor.
        let key = (PortId(frame.port), address);
        let on_link = port.is_on_link(address) || neighbors.get(&key).is_some();
        if on_link && !owned(address, port.vrf, ports) {
            neighbors.heard(key, mac, create, now, actions);
        }
    };
    let bytes = ethernet.payload();
    let answer = match ethernet.ethertype() {
        ethernet::ARP => {
            let packet = arp::ArpPacket::new_checked(bytes).ok()?;
            let for_us = port.owns(packet.target.into());
            // RFC 826: update a known entry, add a new one only if we are the target. RFC 5227: a probe has no sender address yet.
            if !packet.sender.is_unspecified() {
                heard(packet.sender.into(), packet.sender_mac, for_us);
            }
            (for_us && packet.operation == arp::Operation::Request && packet.sender_mac.is_unicast())
                .then(|| packet.reply(port.mac))
        }
        ethernet::IPV4 => {
            let header = ipv4::Header::new_checked(bytes, bytes.len()).ok()?;
            echo::reply_v4(&ethernet, &header, port.mac)
        }
        ethernet::IPV6 => {
            let header = ipv6::Header::new_checked(bytes, bytes.len()).ok()?;
            if owned(header.destination().into(), port.vrf, ports)
                && let Some(answer) = echo::reply_v6(&ethernet, &header, port.mac)
            {
                Some(answer)
            } else {
                neighbor_discovery(&header, port, heard)
            }
        }
        _ => None,
    }?;
    frame.answer(&answer)
}

fn neighbor_discovery(
    header: &ipv6::Header<'_>,
    port: &PortSetup,
    mut heard: impl FnMut(IpAddr, Mac, bool),
) -> Option<Vec<u8>> {
    match nd::Message::new_checked(header).ok()? {
        nd::Message::Solicitation { target, source_mac } => {
            if !port.owns(target.into()) {
                return None;
            }
            let source = header.source();
            if source.is_unspecified() {
                // RFC 4862 §5.4.3: another node probes our address; the answer tells it that the address is taken.
                return Some(nd::advertisement(port.mac, target, source, Mac::BROADCAST));
            }
            let mac = source_mac?;
            heard(source.into(), mac, true);
            Some(nd::advertisement(port.mac, target, source, mac))
        }
        nd::Message::Advertisement { target, target_mac, .. } => {
            // RFC 4861 §7.2.5: an unsolicited advertisement creates no entry.
            heard(target.into(), target_mac?, false);
            None
        }
    }
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
