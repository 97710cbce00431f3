//! Echo replies for own addresses: ICMP echo (RFC 792) and ICMPv6 echo (RFC 4443 §4.2).

use std::net::Ipv6Addr;

use super::ethernet::{self, Frame, Mac};
use super::{checksum, ipv4, ipv6, nd, options, put};

const ICMP: u8 = 1;
const REQUEST: u8 = 8;
const REPLY: u8 = 0;
const REQUEST_V6: u8 = 128;
const REPLY_V6: u8 = 129;
/// Time to live of packets that the router itself sends (RFC 1700).
const TTL: u8 = 64;

/// The reply to an IPv4 echo request, to the frame's sender; `None` for anything else. `now` is the time in milliseconds since midnight UT,
/// for the timestamp option.
///
/// RFC 1812 §4.3.2.5, RFC 1122 §3.2.2.6: it has the type of service of the request. RFC 1812 §4.3.3.6: record route and timestamp options are
/// updated and returned, so that they cover both ways. A request with a source route or a broken option gets no reply.
pub fn reply_v4(frame: &Frame<'_>, header: &ipv4::Ipv4Header<'_>, mac: Mac, now: u32) -> Option<Vec<u8>> {
    let request = header.payload();
    // RFC 1122 §3.2.2.6: no reply to a broadcast. Fragments are not reassembled.
    if header.protocol() != ICMP || header.is_fragment() || frame.destination().is_multicast() {
        return None;
    }
    let message = answer(request, REQUEST, REPLY)?;
    let field = if checksum::sum(request) == 0xffff { checksum::checksum(&message) } else { return None };
    let options = options::returned(header, now)?;
    let start = ipv4::HEADER + options.len();
    let mut packet = vec![0; start + message.len()];
    put(&mut packet, 0, &[0x40 | (start / 4) as u8, header.tos()]);
    let total = u16::try_from(packet.len()).ok()?;
    put(&mut packet, 2, &total.to_be_bytes());
    put(&mut packet, 8, &[TTL, ICMP]);
    put(&mut packet, 12, &header.destination().octets());
    put(&mut packet, 16, &header.source().octets());
    put(&mut packet, ipv4::HEADER, &options);
    let header_field = checksum::checksum(packet.get(..start)?);
    put(&mut packet, 10, &header_field.to_be_bytes());
    put(&mut packet, start, &message);
    put(&mut packet, start + 2, &field.to_be_bytes());
    Some(ethernet::build(frame.source(), mac, ethernet::IPV4, &packet))
}

/// Like [`reply_v4`] for IPv6, with the traffic class of the request. `own` is the source of the reply: the destination of the request, or
/// an address of the router where that is an anycast address (RFC 4443 §4.2).
pub fn reply_v6(
    frame: &Frame<'_>,
    header: &ipv6::Ipv6Header<'_>,
    mac: Mac,
    own: Ipv6Addr,
) -> Option<Vec<u8>> {
    let request = header.payload();
    let (source, destination) = (header.source(), header.destination());
    if header.next_header() != nd::ICMPV6
        || destination.is_multicast()
        || source.is_multicast()
        || source.is_unspecified()
        || checksum::pseudo_v6(source, destination, nd::ICMPV6, request) != 0
    {
        return None;
    }
    let mut message = answer(request, REQUEST_V6, REPLY_V6)?;
    let field = checksum::pseudo_v6(own, source, nd::ICMPV6, &message);
    put(&mut message, 2, &field.to_be_bytes());
    let mut packet = vec![0; ipv6::HEADER + message.len()];
    let [version, flow] = [0x60 | header.traffic_class() >> 4, header.traffic_class() << 4];
    put(&mut packet, 0, &[version, flow]);
    put(&mut packet, 4, &u16::try_from(message.len()).ok()?.to_be_bytes());
    put(&mut packet, 6, &[nd::ICMPV6, TTL]);
    put(&mut packet, 8, &own.octets());
    put(&mut packet, 24, &source.octets());
    put(&mut packet, ipv6::HEADER, &message);
    Some(ethernet::build(frame.source(), mac, ethernet::IPV6, &packet))
}

/// Whether a frame of [`reply_v4`], [`reply_v6`] or another answer of the router is an echo reply.
pub fn is_reply(frame: &[u8]) -> bool {
    let Ok(frame) = Frame::new_checked(frame) else { return false };
    let bytes = frame.payload();
    match frame.ethertype() {
        ethernet::IPV4 => ipv4::Ipv4Header::measured(bytes, bytes.len())
            .is_ok_and(|header| header.protocol() == ICMP && header.payload().first() == Some(&REPLY)),
        ethernet::IPV6 => ipv6::Ipv6Header::new_checked(bytes, bytes.len()).is_ok_and(|header| {
            header.next_header() == nd::ICMPV6 && header.payload().first() == Some(&REPLY_V6)
        }),
        _ => false,
    }
}

/// Identifier, sequence number and data are returned; the checksum is left zero.
fn answer(request: &[u8], wanted: u8, reply: u8) -> Option<Vec<u8>> {
    let &[kind, code, ..] = request.first_chunk::<8>()?;
    if kind != wanted || code != 0 {
        return None;
    }
    let mut message = request.to_vec();
    put(&mut message, 0, &[reply, 0, 0, 0]);
    Some(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_echo_request_is_answered_with_its_own_data() {
        let mut icmp = vec![8, 0, 0, 0, 0x12, 0x34, 0, 7, b'h', b'e', b'y'];
        let field = checksum::checksum(&icmp);
        put(&mut icmp, 2, &field.to_be_bytes());
        let mut packet = vec![0x45, 0, 0, 31, 0, 1, 0, 0, 9, 1, 0, 0, 10, 0, 0, 2, 10, 0, 0, 1];
        let field = checksum::checksum(&packet);
        put(&mut packet, 10, &field.to_be_bytes());
        packet.extend(icmp);
        let bytes = ethernet::build(Mac([2; 6]), Mac([4; 6]), ethernet::IPV4, &packet);
        let frame = Frame::new_checked(&bytes).unwrap();
        let header = ipv4::Ipv4Header::new_checked(frame.payload(), frame.payload().len()).unwrap();
        let answer = reply_v4(&frame, &header, Mac([2; 6]), 0).unwrap();
        let frame = Frame::new_checked(&answer).unwrap();
        let header = ipv4::Ipv4Header::new_checked(frame.payload(), frame.payload().len()).unwrap();
        assert_eq!((frame.destination(), frame.source()), (Mac([4; 6]), Mac([2; 6])));
        assert_eq!(header.destination().octets(), [10, 0, 0, 2]);
        assert_eq!(checksum::sum(header.payload()), 0xffff);
        assert_eq!(header.payload()[..2], [0, 0]);
        assert_eq!(header.payload()[4..], [0x12, 0x34, 0, 7, b'h', b'e', b'y']);
    }
}
