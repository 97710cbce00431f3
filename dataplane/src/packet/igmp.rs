//! IGMP queries, read in all versions, and the reports and leaves of a host, built (RFC 1112, RFC 2236, RFC 3376, RFC 9776).

use std::net::Ipv4Addr;
use std::time::Duration;

use super::ethernet::{self, Mac, ipv4_at};
use super::membership::{Query, Record, Version, body, float};
use super::{checksum, ipv4, put, take};

/// IPv4 protocol number of IGMP.
pub const IGMP: u8 = 2;
const QUERY: u8 = 0x11;
const V1_REPORT: u8 = 0x12;
const V2_REPORT: u8 = 0x16;
const LEAVE: u8 = 0x17;
const V3_REPORT: u8 = 0x22;
/// RFC 3376 §4.1: queries of versions 1 and 2, and the fixed part of one of version 3.
const SHORT: usize = 8;
const LONG: usize = 12;
/// RFC 2236 §4: how long hosts may take to answer a query of version 1, which does not say.
const V1_RESPONSE: Duration = Duration::from_secs(10);
/// RFC 3376 §4.2.14: where reports of version 3 go.
const V3_ROUTERS: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 22);
/// RFC 2236 §9: where leaves go.
const ALL_ROUTERS: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 2);
/// RFC 2113 §2.1: the Router Alert option, which RFC 3376 §4 requires.
const ROUTER_ALERT: [u8; 4] = [0x94, 4, 0, 0];
/// RFC 3376 §4: precedence Internetwork Control.
const TOS: u8 = 0xc0;

/// Whether the packet is a query.
pub fn is_query(header: &ipv4::Ipv4Header<'_>) -> bool {
    header.protocol() == IGMP && header.payload().first() == Some(&QUERY)
}

/// Reads a query; `None` for anything else, and for what RFC 3376 §4.1.12 and §9.1 say to ignore.
pub fn query(header: &ipv4::Ipv4Header<'_>) -> Option<Query> {
    let bytes = header.payload();
    let &[kind, code, _, _, ..] = take::<SHORT>(bytes, 0)?;
    if header.protocol() != IGMP || kind != QUERY || header.is_fragment() || checksum::sum(bytes) != 0xffff {
        return None;
    }
    let group = ipv4_at(bytes, 4);
    let general = group.is_unspecified();
    // A general query goes to all systems; a specific one to the group.
    let expected = if general { Ipv4Addr::new(224, 0, 0, 1) } else { group };
    if header.destination() != expected || !(general || group.is_multicast()) {
        return None;
    }
    let group = (!general).then_some(group.into());
    let tenths = |count: u32| Duration::from_millis(u64::from(count) * 100);
    // §7.1: the version follows from the length and, of the short ones, from the code.
    Some(match take::<LONG>(bytes, 0) {
        Some(&[.., flags, interval, _, _]) => Query {
            version: Version::Newest,
            group,
            response: tenths(float(code)),
            robustness: flags & 7,
            interval: Duration::from_secs(u64::from(float(interval))),
        },
        None if bytes.len() != SHORT => return None,
        None if code == 0 => Query { group: None, ..Query::old(Version::Oldest, None, V1_RESPONSE) },
        None => Query::old(Version::Older, group, tenths(code.into())),
    })
}

/// RFC 3376 §4.2: a report of version 3.
pub fn report(mac: Mac, source: Ipv4Addr, records: &[(Record, Ipv4Addr)]) -> Vec<u8> {
    let message = body(V3_REPORT, records.iter().map(|(record, group)| (*record, group.octets())));
    build(mac, source, V3_ROUTERS, message)
}

/// RFC 2236 §2, RFC 1112 appendix I: a report of an older version about one group.
pub fn old_report(mac: Mac, source: Ipv4Addr, version: Version, group: Ipv4Addr) -> Vec<u8> {
    let kind = if version == Version::Oldest { V1_REPORT } else { V2_REPORT };
    build(mac, source, group, [&[kind, 0, 0, 0][..], &group.octets()].concat())
}

/// RFC 2236 §3: leaves a group.
pub fn leave(mac: Mac, source: Ipv4Addr, group: Ipv4Addr) -> Vec<u8> {
    build(mac, source, ALL_ROUTERS, [&[LEAVE, 0, 0, 0][..], &group.octets()].concat())
}

fn build(mac: Mac, source: Ipv4Addr, destination: Ipv4Addr, mut message: Vec<u8>) -> Vec<u8> {
    const HEADER: usize = ipv4::HEADER + ROUTER_ALERT.len();
    let field = checksum::checksum(&message);
    put(&mut message, 2, &field.to_be_bytes());
    let mut packet = vec![0; HEADER];
    put(&mut packet, 0, &[0x46, TOS]);
    put(&mut packet, 2, &((HEADER + message.len()) as u16).to_be_bytes());
    // §4: a TTL of 1.
    put(&mut packet, 8, &[1, IGMP]);
    put(&mut packet, 12, &source.octets());
    put(&mut packet, 16, &destination.octets());
    put(&mut packet, ipv4::HEADER, &ROUTER_ALERT);
    let field = checksum::checksum(&packet);
    put(&mut packet, 10, &field.to_be_bytes());
    packet.extend(message);
    ethernet::build(Mac::of_group_v4(destination), mac, ethernet::IPV4, &packet)
}

/// Changes in a frame with a report of the kernel what would end the membership in a group that `keeps` names: a leave becomes `false`,
/// which says not to send it; a record of version 3 says the contrary.
pub fn keep(frame: &mut [u8], keeps: impl Fn(Ipv4Addr) -> bool) -> bool {
    let Some(packet) = frame.get_mut(ethernet::HEADER..) else { return true };
    let Ok(header) = ipv4::Ipv4Header::measured(packet, packet.len()) else { return true };
    let (start, length) = (header.header_length(), header.payload().len());
    if header.protocol() != IGMP {
        return true;
    }
    let Some(message) = packet.get_mut(start..start + length) else { return true };
    match message.first() {
        Some(&LEAVE) => !keeps(ipv4_at(message, 4)),
        Some(&V3_REPORT) => {
            if super::membership::keep(
                message,
                |bytes| take::<4>(bytes, 0).is_some_and(|group| keeps((*group).into())),
                4,
            ) {
                put(message, 2, &[0, 0]);
                let field = checksum::checksum(message);
                put(message, 2, &field.to_be_bytes());
            }
            true
        }
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::ethernet::Frame;

    const MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);

    fn header(frame: &[u8]) -> ipv4::Ipv4Header<'_> {
        let bytes = Frame::new_checked(frame).unwrap().payload();
        ipv4::Ipv4Header::new_checked(bytes, bytes.len()).unwrap()
    }

    fn asked(destination: [u8; 4], message: &[u8]) -> Option<Query> {
        let frame = build(MAC, [192, 0, 2, 9].into(), destination.into(), message.to_vec());
        query(&header(&frame))
    }

    const ALL: [u8; 4] = [224, 0, 0, 1];

    #[test]
    fn the_version_follows_from_length_and_code() {
        let v3 = asked(ALL, &[0x11, 100, 0, 0, 0, 0, 0, 0, 2, 125, 0, 0]).unwrap();
        assert_eq!((v3.version, v3.group, v3.response), (Version::Newest, None, Duration::from_secs(10)));
        assert_eq!((v3.robustness, v3.interval), (2, Duration::from_secs(125)));
        let v2 = asked(ALL, &[0x11, 10, 0, 0, 0, 0, 0, 0]).unwrap();
        assert_eq!((v2.version, v2.response), (Version::Older, Duration::from_secs(1)));
        let v1 = asked(ALL, &[0x11, 0, 0, 0, 0, 0, 0, 0]).unwrap();
        assert_eq!((v1.version, v1.response), (Version::Oldest, Duration::from_secs(10)));
        // (0 | 0x10) << 3 = 128 tenths.
        let long = asked(ALL, &[0x11, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]).unwrap();
        assert_eq!(long.response, Duration::from_millis(12_800));
    }

    #[test]
    fn a_query_goes_to_all_systems_or_to_its_group() {
        let specific = [0x11, 10, 0, 0, 224, 0, 0, 2];
        assert_eq!(asked([224, 0, 0, 2], &specific).unwrap().group, Some([224, 0, 0, 2].into()));
        assert_eq!(asked(ALL, &specific), None);
        assert_eq!(asked([224, 0, 0, 2], &[0x11, 10, 0, 0, 0, 0, 0, 0]), None);
        assert_eq!(asked(ALL, &[0x16, 10, 0, 0, 0, 0, 0, 0]), None, "a report");
        assert_eq!(asked(ALL, &[0x11, 10, 0, 0, 0, 0, 0, 0, 0]), None, "9 bytes are no version");
        let mut frame = build(MAC, [0; 4].into(), ALL.into(), vec![0x11, 10, 0, 0, 0, 0, 0, 0]);
        assert!(query(&header(&frame)).is_some(), "a snooping switch has no address");
        frame[14 + 24 + 1] ^= 1;
        assert_eq!(query(&header(&frame)), None, "the checksum");
    }

    #[test]
    fn reports_are_as_rfc_3376_and_rfc_2236_say() {
        let group = Ipv4Addr::new(239, 129, 2, 3);
        let frame = report(MAC, [192, 0, 2, 1].into(), &[(Record::ToExclude, group)]);
        let ip = header(&frame);
        assert_eq!(frame[..6], [1, 0, 0x5e, 0, 0, 0x16]);
        assert_eq!((ip.destination(), ip.ttl(), ip.tos(), ip.header_length()), (V3_ROUTERS, 1, 0xc0, 24));
        assert_eq!(ip.bytes()[20..], ROUTER_ALERT);
        assert_eq!(checksum::sum(ip.payload()), 0xffff);
        assert_eq!(ip.payload()[4..], [0, 0, 0, 1, 4, 0, 0, 0, 239, 129, 2, 3]);
        let frame = old_report(MAC, [192, 0, 2, 1].into(), Version::Older, group);
        assert_eq!((&frame[..6], header(&frame).destination()), (&[1, 0, 0x5e, 1, 2, 3][..], group));
        assert_eq!((header(&frame).payload()[0], header(&frame).payload()[4]), (0x16, 239));
        let frame = old_report(MAC, [192, 0, 2, 1].into(), Version::Oldest, group);
        assert_eq!(header(&frame).payload()[0], 0x12);
        let frame = leave(MAC, [192, 0, 2, 1].into(), group);
        assert_eq!((header(&frame).destination(), header(&frame).payload()[0]), (ALL_ROUTERS, 0x17));
    }

    #[test]
    fn the_kernel_does_not_leave_what_the_router_keeps() {
        let (own, other) = (Ipv4Addr::new(224, 0, 0, 2), Ipv4Addr::new(239, 0, 0, 1));
        let keeps = |group| group == own;
        let records = [(Record::ToInclude, own), (Record::ToInclude, other), (Record::IsExclude, own)];
        let mut frame = report(MAC, [192, 0, 2, 1].into(), &records);
        assert!(keep(&mut frame, keeps));
        let message = header(&frame).payload();
        assert_eq!((message[8], message[16], message[24]), (4, 3, 2));
        assert_eq!(checksum::sum(message), 0xffff);
        assert!(!keep(&mut leave(MAC, [192, 0, 2, 1].into(), own), keeps));
        assert!(keep(&mut leave(MAC, [192, 0, 2, 1].into(), other), keeps));
    }
}
