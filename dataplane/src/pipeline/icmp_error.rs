//! ICMP errors about dropped packets. [`crate::packet::icmp_error`] decides which packets may cause one, [`super::icmp_limit`] how many are
//! sent.

use super::options;
use super::port::{PortFacts, error_source_v4, error_source_v6};
use crate::packet::ethernet::{self, Frame};
use crate::packet::icmp_error::{Error, build_v4, build_v6, may_answer_v4, may_answer_v6};
use crate::packet::icmp_kind::Kind;
use crate::packet::{ipv4, ipv6};
use crate::reason::Reason;

pub use super::icmp_limit::Limits;

/// Whether this drop reason causes an ICMP error.
#[inline]
pub fn is_told(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::TtlExceeded
            | Reason::NoRoute
            | Reason::Unreachable
            | Reason::Prohibited
            | Reason::NeighborUnreachable
            | Reason::TooBig
            | Reason::SourceRoute
            | Reason::BadOption
            | Reason::LinkLocal
    )
}

/// The kind of the error about a packet that was dropped for this reason.
pub fn kind_of(reason: Reason) -> Kind {
    match reason {
        Reason::TtlExceeded => Kind::TimeExceeded,
        Reason::TooBig => Kind::TooBig,
        Reason::BadOption => Kind::ParameterProblem,
        _ => Kind::Unreachable,
    }
}

/// RFC 792, RFC 1812 §4.3.3, §5.2.7.1.
fn error_v4(reason: Reason, mtu: u16, header: &ipv4::Ipv4Header<'_>) -> Option<Error> {
    let unreachable = |code| Error { kind: 3, code, argument: 0 };
    Some(match reason {
        Reason::TtlExceeded => Error { kind: 11, code: 0, argument: 0 },
        Reason::NoRoute => unreachable(0),
        Reason::Unreachable | Reason::NeighborUnreachable => unreachable(1),
        // RFC 1191 §4: the next hop's MTU in the low half.
        Reason::TooBig => Error { argument: mtu.into(), ..unreachable(4) },
        Reason::SourceRoute => unreachable(5),
        Reason::Prohibited => unreachable(13),
        Reason::BadOption => {
            let pointer = options::check(header).err().map_or(0, |refused| refused.pointer);
            Error { kind: 12, code: 0, argument: u32::from(pointer) << 24 }
        }
        _ => return None,
    })
}

/// RFC 4443 §3.
fn error_v6(reason: Reason, mtu: u16) -> Option<Error> {
    let unreachable = |code| Error { kind: 1, code, argument: 0 };
    Some(match reason {
        Reason::TtlExceeded => Error { kind: 3, code: 0, argument: 0 },
        Reason::NoRoute => unreachable(0),
        Reason::Prohibited => unreachable(1),
        // Beyond scope of source address.
        Reason::LinkLocal => unreachable(2),
        Reason::Unreachable | Reason::NeighborUnreachable => unreachable(3),
        Reason::TooBig => Error { kind: 2, code: 0, argument: mtu.into() },
        _ => return None,
    })
}

/// Writes the error about a frame that arrived on the port with index `port` into `room`, without MAC addresses; false if none is due.
pub fn write(
    room: &mut Vec<u8>,
    frame: &[u8],
    reason: Reason,
    mtu: u16,
    ports: &[PortFacts],
    port: u16,
) -> bool {
    let (Ok(frame), Some(facts)) = (Frame::new_checked(frame), ports.get(usize::from(port))) else {
        return false;
    };
    let bytes = frame.payload();
    match frame.ethertype() {
        ethernet::IPV4 => {
            let Ok(header) = ipv4::Ipv4Header::new_checked(bytes, usize::from(u16::MAX)) else {
                return false;
            };
            let Some(error) = error_v4(reason, mtu, &header).filter(|_| may_answer_v4(&header)) else {
                return false;
            };
            let source = error_source_v4(ports, facts, header.source());
            build_v4(room, error, source, &header, bytes);
            true
        }
        ethernet::IPV6 => {
            let Ok(header) = ipv6::Ipv6Header::new_checked(bytes, usize::MAX) else { return false };
            let to_groups = reason == Reason::TooBig;
            let Some(error) = error_v6(reason, mtu).filter(|_| may_answer_v6(&header, to_groups)) else {
                return false;
            };
            let source = error_source_v6(ports, facts, header.source());
            build_v6(room, error, source, &header, bytes);
            true
        }
        _ => false,
    }
}

/// Writes "too big" about a packet of this host itself into `room`, as [`write()`] does. Its source is the packet's destination: a kernel
/// drops packets from its own addresses.
pub fn write_to_self(room: &mut Vec<u8>, frame: &[u8], mtu: u16) -> bool {
    let Ok(frame) = Frame::new_checked(frame) else { return false };
    let bytes = frame.payload();
    match frame.ethertype() {
        ethernet::IPV4 => {
            let Ok(header) = ipv4::Ipv4Header::new_checked(bytes, bytes.len()) else { return false };
            let Some(error) = error_v4(Reason::TooBig, mtu, &header).filter(|_| may_answer_v4(&header))
            else {
                return false;
            };
            build_v4(room, error, header.destination(), &header, bytes);
            true
        }
        ethernet::IPV6 => {
            let Ok(header) = ipv6::Ipv6Header::new_checked(bytes, bytes.len()) else { return false };
            let Some(error) = error_v6(Reason::TooBig, mtu).filter(|_| may_answer_v6(&header, false)) else {
                return false;
            };
            build_v6(room, error, header.destination(), &header, bytes);
            true
        }
        _ => false,
    }
}
