//! Who on the host gets a packet for the router itself: chosen by its destination, not by the port that it arrived on.
//!
//! An address belongs to a port. A packet to it goes to the TAP interface of that port, whichever port it arrives on (the weak host model,
//! RFC 1122 §3.3.4.2), or to the control thread if that port has no TAP interface. What has no owner, as link-local addresses, groups and
//! broadcasts, belongs to the port of arrival. Addresses of the loopback belong to its own TAP interface, if there is one.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use fibcast_fib::VrfId;

use super::Verdict;
use super::port::{PortFacts, subnet_router_anycast};
use super::punt;
use super::tap_state::TapState;
use crate::packet::ethernet::{self, Frame};
use crate::packet::{ipv4, ipv6};
use crate::reason::Reason;

/// Names the TAP interface of the loopback, where others are named by the index of their port.
pub const LOOPBACK: u16 = u16::MAX;

/// Receivers of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Receiver {
    /// The control thread.
    Control,
    /// The TAP interface of the port with this index, or of the [`LOOPBACK`].
    Kernel(u16),
    /// Both.
    Both(u16),
}

/// The owners of addresses, and the ports with a TAP interface.
#[derive(Debug)]
pub struct Delivery {
    owners: HashMap<(VrfId, IpAddr), u16>,
    /// Subnet-router anycast addresses, which the router itself answers for: the kernel has them only while it forwards.
    anycast: HashSet<(VrfId, IpAddr)>,
    /// By port index: VRF, and whether there is a TAP interface.
    ports: Box<[(VrfId, bool)]>,
}

impl Delivery {
    /// For these ports, by port index.
    pub fn new(ports: &[PortFacts]) -> Delivery {
        let addresses = ports.iter().enumerate().flat_map(|(port_index, port)| {
            port.addresses.iter().map(move |own| ((port.vrf, own.addr()), port_index as u16))
        });
        let with_tap = |vrf: VrfId| ports.iter().any(|port| port.vrf == vrf && port.exception_path);
        let loopback = ports
            .iter()
            .filter(|port| with_tap(port.vrf))
            .flat_map(|port| port.loopback.iter().map(move |own| ((port.vrf, *own), LOOPBACK)));
        let anycast = ports.iter().flat_map(|port| {
            port.addresses
                .iter()
                .filter_map(subnet_router_anycast)
                .map(move |address| (port.vrf, address.into()))
        });
        Delivery {
            owners: addresses.chain(loopback).collect(),
            anycast: anycast.collect(),
            ports: ports.iter().map(|port| (port.vrf, port.exception_path)).collect(),
        }
    }

    /// A packet that arrived on `port` is about to be dropped for this reason; whether a DHCP client on its TAP interface waits for it.
    #[cold]
    pub fn is_for_dhcp_client(&self, reason: Reason, port: u16, frame: &[u8]) -> bool {
        matches!(reason, Reason::NoRoute | Reason::Blackhole | Reason::Unreachable | Reason::Prohibited)
            && self.has_tap(port)
            && punt::is_dhcp_offer(frame)
    }

    fn has_tap(&self, owner: u16) -> bool {
        owner == LOOPBACK || self.ports.get(usize::from(owner)).is_some_and(|(_, tap)| *tap)
    }

    /// The receivers of a frame that arrived on `port`.
    ///
    /// # Errors
    /// The drop reason if nobody on this host wants it.
    #[cold]
    pub fn receiver(
        &self,
        verdict: Verdict,
        port: u16,
        frame: &[u8],
        taps: &TapState,
    ) -> Result<Receiver, Reason> {
        match verdict {
            Verdict::Host => Ok(self.of_host(port, frame, taps)),
            Verdict::PuntMulticast if !self.has_tap(port) => Err(Reason::Multicast),
            Verdict::PuntMulticast => match destination(frame) {
                // A flood to a group that no program has joined must not keep out routing protocols.
                Some(group) if !is_of_link(group) && !taps.groups.contains(&(port, group)) => {
                    Err(Reason::Multicast)
                }
                _ => Ok(Receiver::Kernel(port)),
            },
            Verdict::Kernel if self.has_tap(port) => Ok(Receiver::Kernel(port)),
            Verdict::PuntBoth if self.has_tap(port) => Ok(Receiver::Both(port)),
            _ => Ok(Receiver::Control),
        }
    }

    fn of_host(&self, port: u16, frame: &[u8], taps: &TapState) -> Receiver {
        let Some(destination) = destination(frame) else { return Receiver::Control };
        if is_neighbor_discovery(frame) {
            return Receiver::Control;
        }
        let owner = match (destination, self.ports.get(usize::from(port))) {
            // RFC 4291 §2.5.6: every link has these addresses.
            (IpAddr::V6(v6), _) if ipv6::is_link_local(v6) => port,
            (_, Some((vrf, _))) => {
                let key = (*vrf, destination);
                if self.anycast.contains(&key) && !self.owners.contains_key(&key) {
                    return Receiver::Control;
                }
                self.owners.get(&key).or_else(|| taps.addresses.get(&key)).copied().unwrap_or(port)
            }
            _ => port,
        };
        if self.has_tap(owner) { Receiver::Kernel(owner) } else { Receiver::Control }
    }
}

/// RFC 5771 §4, RFC 4291 §2.7: groups of the link, which routing protocols use, joined or not.
fn is_of_link(group: IpAddr) -> bool {
    match group {
        IpAddr::V4(v4) => v4.octets().starts_with(&[224, 0, 0]),
        IpAddr::V6(v6) => v6.octets().get(1).is_some_and(|scope| scope & 0x0f == 2),
    }
}

fn destination(frame: &[u8]) -> Option<IpAddr> {
    let frame = Frame::new_checked(frame).ok()?;
    let bytes = frame.payload();
    match frame.ethertype() {
        ethernet::IPV4 => {
            ipv4::Ipv4Header::measured(bytes, usize::from(u16::MAX)).ok().map(|ip| ip.destination().into())
        }
        ethernet::IPV6 => {
            ipv6::Ipv6Header::new_checked(bytes, usize::MAX).ok().map(|ip| ip.destination().into())
        }
        _ => None,
    }
}

/// RFC 4861 §7.2.4: answers to the router's own solicitations arrive at its global addresses.
pub fn is_neighbor_discovery(frame: &[u8]) -> bool {
    let Ok(frame) = Frame::new_checked(frame) else { return false };
    frame.ethertype() == ethernet::IPV6
        && ipv6::Ipv6Header::new_checked(frame.payload(), usize::MAX)
            .is_ok_and(|header| punt::neighbor_discovery(&header).is_some())
}
