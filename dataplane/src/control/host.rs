//! What the router says for itself: answers to ARP, ND and pings, and questions about neighbours.

use std::net::IpAddr;
use std::time::Instant;

use fibcast_fib::PortId;

use super::PortSetup;
use crate::neighbor::{Action, Key, Table};
use crate::packet::ethernet::{self, Frame, Mac};
use crate::packet::{arp, echo, ipv4, ipv6, nd};
use crate::pipeline::output::HostFrame;

/// Learns from a frame that was given to the router itself, and answers it where an answer is due.
pub fn handle(
    frame: &HostFrame,
    ports: &[PortSetup],
    neighbors: &mut Table,
    now: Instant,
    actions: &mut Vec<Action>,
) -> Option<HostFrame> {
    let port = ports.get(usize::from(frame.port))?;
    let ethernet = Frame::new_checked(frame.bytes()).ok()?;
    let mut heard = |address: IpAddr, mac: Mac, create: bool| {
        // Who is not on this link cannot be its neighbour.
        if port.source_for(address).is_some() && !ports.iter().any(|port| port.owns(address)) {
            neighbors.heard((PortId(frame.port), address), mac, create, now, actions);
        }
    };
    let bytes = ethernet.payload();
    let answer = match ethernet.ethertype() {
        ethernet::ARP => {
            let packet = arp::Packet::new_checked(bytes).ok()?;
            let for_us = port.owns(packet.target.into());
            // RFC 826: merge what is known, add only if we are the target. RFC 5227: a probe has no sender yet.
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
            if ports.iter().any(|port| port.owns(header.destination().into()))
                && let Some(answer) = echo::reply_v6(&ethernet, &header, port.mac)
            {
                Some(answer)
            } else {
                neighbor_discovery(&header, port, heard)
            }
        }
        _ => None,
    }?;
    HostFrame::new(frame.port, &answer)
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
                // RFC 4862 §5.4.3: somebody else wants our address; it learns that it is taken.
                return Some(nd::advertisement(port.mac, target, source, Mac::BROADCAST));
            }
            let mac = source_mac?;
            heard(source.into(), mac, true);
            Some(nd::advertisement(port.mac, target, source, mac))
        }
        nd::Message::Advertisement { target, target_mac, .. } => {
            // RFC 4861 §7.2.5: who was not asked for is not added.
            heard(target.into(), target_mac?, false);
            None
        }
    }
}

/// The frame that asks for a neighbour.
pub fn question(key: Key, known: Option<Mac>, ports: &[PortSetup]) -> Option<HostFrame> {
    let (PortId(number), target) = key;
    let port = ports.get(usize::from(number))?;
    let frame = match (target, port.source_for(target)?) {
        (IpAddr::V4(target), IpAddr::V4(own)) => arp::Packet::request(port.mac, own, target, known),
        (IpAddr::V6(target), IpAddr::V6(own)) => nd::solicitation(port.mac, own, target, known),
        _ => return None,
    };
    HostFrame::new(number, &frame)
}
