//! Echo requests that the router itself sends, and what comes back for them: the reply, or an ICMP error that quotes the request (RFC 792; RFC 4443
//! §3, §4).

use std::net::IpAddr;

use super::ethernet::{self, Frame, Mac};
use super::{checksum, ipv4, ipv6, nd, put, take};

const ICMP: u8 = 1;
/// Header of an echo message.
const ECHO: usize = 8;

/// An echo request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    /// Own address.
    pub source: IpAddr,
    /// Destination, of the same family.
    pub destination: IpAddr,
    /// TTL or hop limit.
    pub ttl: u8,
    /// Identifier: the sender.
    pub id: u16,
    /// Sequence number.
    pub sequence: u16,
    /// Bytes of data behind the header.
    pub size: u16,
}

/// What came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The echo reply.
    Reply,
    /// TTL or hop limit exceeded in transit.
    TimeExceeded,
    /// Destination unreachable, with its code.
    Unreachable(u8),
    /// Fragmentation needed, or packet too big, with the MTU of the next link.
    TooBig(u32),
}

/// An answer to an echo request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// Who sent it.
    pub from: IpAddr,
    /// Its TTL or hop limit at arrival.
    pub ttl: u8,
    /// Identifier of the request.
    pub id: u16,
    /// Sequence number of the request.
    pub sequence: u16,
    /// Bytes of the ICMP message.
    pub bytes: u16,
    /// What it says.
    pub outcome: Outcome,
}

/// The frame of a request, whose MAC addresses the table supplies. `None` for addresses of two families, and one too large for a packet.
pub fn request(request: &Request) -> Option<Vec<u8>> {
    let mut message: Vec<u8> = (0..ECHO + usize::from(request.size)).map(|at| at as u8).collect();
    let kind = if request.destination.is_ipv4() { 8 } else { 128 };
    put(&mut message, 0, &[kind, 0, 0, 0]);
    put(&mut message, 4, &request.id.to_be_bytes());
    put(&mut message, 6, &request.sequence.to_be_bytes());
    let (ethertype, packet) = match (request.source, request.destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let field = checksum::checksum(&message);
            put(&mut message, 2, &field.to_be_bytes());
            let mut packet = vec![0; ipv4::HEADER];
            let total = u16::try_from(ipv4::HEADER + message.len()).ok()?;
            put(&mut packet, 0, &[0x45]);
            put(&mut packet, 2, &total.to_be_bytes());
            // RFC 6864 §4.1: fragments of two packets are told apart by it.
            put(&mut packet, 4, &request.sequence.to_be_bytes());
            put(&mut packet, 8, &[request.ttl, ICMP]);
            put(&mut packet, 12, &source.octets());
            put(&mut packet, 16, &destination.octets());
            let field = checksum::checksum(&packet);
            put(&mut packet, 10, &field.to_be_bytes());
            (ethernet::IPV4, [packet, message].concat())
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let field = checksum::pseudo_v6(source, destination, nd::ICMPV6, &message);
            put(&mut message, 2, &field.to_be_bytes());
            let mut packet = vec![0; ipv6::HEADER];
            put(&mut packet, 0, &[0x60]);
            put(&mut packet, 4, &u16::try_from(message.len()).ok()?.to_be_bytes());
            put(&mut packet, 6, &[nd::ICMPV6, request.ttl]);
            put(&mut packet, 8, &source.octets());
            put(&mut packet, 24, &destination.octets());
            (ethernet::IPV6, [packet, message].concat())
        }
        _ => return None,
    };
    Some(ethernet::build(Mac::default(), Mac::default(), ethertype, &packet))
}

/// Reads a frame as an answer; `None` for anything else.
pub fn answer(frame: &[u8]) -> Option<Answer> {
    let frame = Frame::new_checked(frame).ok()?;
    let bytes = frame.payload();
    match frame.ethertype() {
        ethernet::IPV4 => {
            let header = ipv4::Ipv4Header::measured(bytes, bytes.len()).ok()?;
            if header.protocol() != ICMP || header.is_fragment() {
                return None;
            }
            let message = header.payload();
            let &[kind, code, ..] = message.first_chunk::<ECHO>()?;
            let outcome = match (kind, code) {
                (0, _) => Outcome::Reply,
                (11, _) => Outcome::TimeExceeded,
                (3, 4) => Outcome::TooBig(u16::from_be_bytes(*take::<2>(message, 6)?).into()),
                (3, code) => Outcome::Unreachable(code),
                _ => return None,
            };
            let echo = if outcome == Outcome::Reply { message } else { quoted_v4(message.get(ECHO..)?)? };
            told(header.source().into(), header.ttl(), message, echo, outcome)
        }
        ethernet::IPV6 => {
            let header = ipv6::Ipv6Header::new_checked(bytes, bytes.len()).ok()?;
            if header.next_header() != nd::ICMPV6 {
                return None;
            }
            let message = header.payload();
            let &[kind, code, ..] = message.first_chunk::<ECHO>()?;
            let outcome = match kind {
                129 => Outcome::Reply,
                3 => Outcome::TimeExceeded,
                2 => Outcome::TooBig(u32::from_be_bytes(*take::<4>(message, 4)?)),
                1 => Outcome::Unreachable(code),
                _ => return None,
            };
            let echo = if outcome == Outcome::Reply { message } else { quoted_v6(message.get(ECHO..)?)? };
            told(header.source().into(), header.hop_limit(), message, echo, outcome)
        }
        _ => None,
    }
}

fn told(from: IpAddr, ttl: u8, message: &[u8], echo: &[u8], outcome: Outcome) -> Option<Answer> {
    let field = |at| take::<2>(echo, at).map(|bytes| u16::from_be_bytes(*bytes));
    let bytes = u16::try_from(message.len()).ok()?;
    Some(Answer { from, ttl, id: field(4)?, sequence: field(6)?, bytes, outcome })
}

/// The request that an error quotes: a whole header and at least 8 bytes (RFC 792).
fn quoted_v4(packet: &[u8]) -> Option<&[u8]> {
    let length = usize::from(packet.first()? & 0x0f) * 4;
    let echo = packet.get(length..)?;
    (packet.get(9) == Some(&ICMP) && echo.first() == Some(&8)).then_some(echo)
}

fn quoted_v6(packet: &[u8]) -> Option<&[u8]> {
    let echo = packet.get(ipv6::HEADER..)?;
    (packet.get(6) == Some(&nd::ICMPV6) && echo.first() == Some(&128)).then_some(echo)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::{echo, icmp_error};
    use proptest::prelude::*;

    fn asked(source: &str, destination: &str) -> Request {
        let (source, destination) = (source.parse().unwrap(), destination.parse().unwrap());
        Request { source, destination, ttl: 9, id: 0x1234, sequence: 7, size: 56 }
    }

    #[test]
    fn what_a_host_replies_is_the_answer_to_the_request() {
        let v4 = request(&asked("10.0.0.1", "10.0.0.2")).unwrap();
        assert_eq!(v4.len(), ethernet::HEADER + 84);
        let frame = Frame::new_checked(&v4).unwrap();
        let header = ipv4::Ipv4Header::new_checked(frame.payload(), frame.payload().len()).unwrap();
        assert_eq!(header.ttl(), 9);
        let reply = echo::reply_v4(&frame, &header, Mac([2; 6]), 0).unwrap();
        let found = answer(&reply).unwrap();
        assert_eq!((found.from, found.id, found.sequence), ("10.0.0.2".parse().unwrap(), 0x1234, 7));
        assert_eq!((found.outcome, found.ttl, found.bytes), (Outcome::Reply, 64, 64));
        let v6 = request(&asked("2001:db8::1", "2001:db8::2")).unwrap();
        let frame = Frame::new_checked(&v6).unwrap();
        let header = ipv6::Ipv6Header::new_checked(frame.payload(), frame.payload().len()).unwrap();
        let reply = echo::reply_v6(&frame, &header, Mac([2; 6]), header.destination()).unwrap();
        let found = answer(&reply).unwrap();
        assert_eq!(
            (found.from, found.id, found.outcome),
            ("2001:db8::2".parse().unwrap(), 0x1234, Outcome::Reply)
        );
        assert_eq!(answer(&v4), None, "a request is no answer");
        assert_eq!(request(&asked("10.0.0.1", "2001:db8::2")), None);
    }

    #[test]
    fn an_error_is_the_answer_to_the_request_that_it_quotes() {
        let error = |kind, code, argument| icmp_error::Error { kind, code, argument };
        let v4 = request(&asked("10.0.0.1", "10.0.0.2")).unwrap();
        let bytes = &v4[ethernet::HEADER..];
        let header = ipv4::Ipv4Header::new_checked(bytes, bytes.len()).unwrap();
        for (sent, outcome) in [
            (error(11, 0, 0), Outcome::TimeExceeded),
            (error(3, 1, 0), Outcome::Unreachable(1)),
            (error(3, 4, 1_400), Outcome::TooBig(1_400)),
        ] {
            let mut frame = Vec::new();
            icmp_error::build_v4(&mut frame, sent, [192, 0, 2, 9].into(), &header, bytes);
            let found = answer(&frame).unwrap();
            assert_eq!((found.from, found.outcome), ("192.0.2.9".parse().unwrap(), outcome));
            assert_eq!((found.id, found.sequence), (0x1234, 7));
        }
        let v6 = request(&asked("2001:db8::1", "2001:db8::2")).unwrap();
        let bytes = &v6[ethernet::HEADER..];
        let header = ipv6::Ipv6Header::new_checked(bytes, bytes.len()).unwrap();
        for (sent, outcome) in [
            (error(3, 0, 0), Outcome::TimeExceeded),
            (error(1, 0, 0), Outcome::Unreachable(0)),
            (error(2, 0, 1_400), Outcome::TooBig(1_400)),
        ] {
            let mut frame = Vec::new();
            icmp_error::build_v6(&mut frame, sent, "2001:db8::9".parse().unwrap(), &header, bytes);
            let found = answer(&frame).unwrap();
            assert_eq!((found.id, found.sequence, found.outcome), (0x1234, 7, outcome));
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(mut bytes in prop::collection::vec(any::<u8>(), 0..120), v6: bool) {
            let _ = answer(&bytes);
            if bytes.len() > 14 {
                let kind = if v6 { ethernet::IPV6 } else { ethernet::IPV4 };
                bytes[12..14].copy_from_slice(&kind.to_be_bytes());
                bytes[14] = if v6 { 0x60 } else { 0x45 };
                let _ = answer(&bytes);
            }
        }
    }
}
