//! MLD queries, read in both versions, and the reports of a node, built (RFC 2710, RFC 3810, RFC 9777).

use std::net::Ipv6Addr;
use std::time::Duration;

use super::ethernet::{self, Mac, ipv6_at};
use super::membership::{self, Query, Record, Version, body, float};
use super::{checksum, ipv6, nd, put, take};

const QUERY: u8 = 130;
const V1_REPORT: u8 = 131;
const DONE: u8 = 132;
const V2_REPORT: u8 = 143;
/// Length of a query of version 1, and of what version 2 appends to (RFC 3810 §8.1).
const SHORT: usize = 24;
/// Hop-by-hop options: ICMPv6 follows; Router Alert for MLD (RFC 2711 §2.1); padding.
const HOP_BY_HOP: [u8; 8] = [nd::ICMPV6, 0, 5, 2, 0, 0, 1, 0];
/// RFC 2711 §2.1: option type and length of Router Alert, and its value for MLD.
const ROUTER_ALERT: [u8; 4] = [5, 2, 0, 0];
/// Next header of hop-by-hop options.
const HOP_BY_HOP_OPTIONS: u8 = 0;
/// RFC 3810 §5.2.14: where reports of version 2 go.
const V2_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x16);
/// RFC 2710 §3: where "done" goes.
const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// The ICMPv6 message behind hop-by-hop options with a Router Alert; `None` for anything else.
fn message<'a>(header: &ipv6::Ipv6Header<'a>) -> Option<&'a [u8]> {
    let bytes = header.payload();
    let &[next, units, ..] = take::<8>(bytes, 0)?;
    if header.next_header() != HOP_BY_HOP_OPTIONS || next != nd::ICMPV6 {
        return None;
    }
    let length = 8 + usize::from(units) * 8;
    let mut options = bytes.get(2..length)?;
    while let [kind, rest @ ..] = options {
        if options.starts_with(&ROUTER_ALERT) {
            return bytes.get(length..);
        }
        // RFC 8200 §4.2: Pad1 has neither length nor data.
        options = match (*kind, rest) {
            (0, _) => rest,
            (_, [length, rest @ ..]) => rest.get(usize::from(*length)..)?,
            _ => return None,
        };
    }
    None
}

/// Whether the packet is a query.
pub fn is_query(header: &ipv6::Ipv6Header<'_>) -> bool {
    message(header).is_some_and(|message| message.first() == Some(&QUERY))
}

/// Reads a query; `None` for anything else, and for what RFC 3810 §5.1.14 and §6.2 say to drop: a source that is not link-local, a hop limit
/// other than 1, no Router Alert.
pub fn query(header: &ipv6::Ipv6Header<'_>) -> Option<Query> {
    let bytes = message(header)?;
    let &[kind, _, _, _, high, low, ..] = take::<SHORT>(bytes, 0)?;
    let (source, destination) = (header.source(), header.destination());
    if kind != QUERY
        || header.hop_limit() != 1
        || !ipv6::is_link_local(source)
        || checksum::pseudo_v6(source, destination, nd::ICMPV6, bytes) != 0
    {
        return None;
    }
    let group = ipv6_at(bytes, 8);
    let general = group.is_unspecified();
    let expected = if general { ALL_NODES } else { group };
    if destination != expected || !(general || group.is_multicast()) {
        return None;
    }
    let group = (!general).then_some(group.into());
    let code = u16::from_be_bytes([high, low]);
    // §8.1: the version follows from the length.
    Some(match take::<4>(bytes, SHORT) {
        Some(&[flags, interval, _, _]) => Query {
            version: Version::Newest,
            group,
            response: Duration::from_millis(response(code).into()),
            robustness: flags & 7,
            interval: Duration::from_secs(float(interval).into()),
        },
        None if bytes.len() != SHORT => return None,
        None => Query::old(Version::Older, group, Duration::from_millis(code.into())),
    })
}

/// RFC 3810 §5.1.3: milliseconds, large ones as a floating-point number.
fn response(code: u16) -> u32 {
    match code {
        0..0x8000 => code.into(),
        _ => (u32::from(code & 0x0fff) | 0x1000) << ((code >> 12 & 7) + 3),
    }
}

/// RFC 3810 §5.2: a report of version 2.
pub fn report(mac: Mac, source: Ipv6Addr, records: &[(Record, Ipv6Addr)]) -> Vec<u8> {
    let message = body(V2_REPORT, records.iter().map(|(record, group)| (*record, group.octets())));
    build(mac, source, V2_ROUTERS, message)
}

/// RFC 2710 §3: a report of version 1 about one group.
pub fn old_report(mac: Mac, source: Ipv6Addr, group: Ipv6Addr) -> Vec<u8> {
    build(mac, source, group, [&[V1_REPORT, 0, 0, 0, 0, 0, 0, 0][..], &group.octets()].concat())
}

/// RFC 2710 §3: leaves a group.
pub fn done(mac: Mac, source: Ipv6Addr, group: Ipv6Addr) -> Vec<u8> {
    build(mac, source, ALL_ROUTERS, [&[DONE, 0, 0, 0, 0, 0, 0, 0][..], &group.octets()].concat())
}

fn build(mac: Mac, source: Ipv6Addr, destination: Ipv6Addr, mut message: Vec<u8>) -> Vec<u8> {
    let field = checksum::pseudo_v6(source, destination, nd::ICMPV6, &message);
    put(&mut message, 2, &field.to_be_bytes());
    let length = HOP_BY_HOP.len() + message.len();
    let mut packet = vec![0; ipv6::HEADER];
    put(&mut packet, 0, &[0x60]);
    put(&mut packet, 4, &(length as u16).to_be_bytes());
    // RFC 3810 §5: a hop limit of 1 and a Router Alert.
    put(&mut packet, 6, &[HOP_BY_HOP_OPTIONS, 1]);
    put(&mut packet, 8, &source.octets());
    put(&mut packet, 24, &destination.octets());
    packet.extend(HOP_BY_HOP);
    packet.extend(message);
    ethernet::build(Mac::of_group(destination), mac, ethernet::IPV6, &packet)
}

/// Changes in a frame with a report of the kernel what would end the membership in a group that `keeps` names: a "done" becomes `false`,
/// which says not to send it; a record of version 2 says the contrary.
pub fn keep(frame: &mut [u8], keeps: impl Fn(Ipv6Addr) -> bool) -> bool {
    let Some(packet) = frame.get_mut(ethernet::HEADER..) else { return true };
    let Ok(header) = ipv6::Ipv6Header::new_checked(packet, packet.len()) else { return true };
    let (source, destination, whole) = (header.source(), header.destination(), header.total_length());
    let Some(length) = message(&header).map(<[u8]>::len) else { return true };
    let Some(message) = packet.get_mut(whole - length..whole) else { return true };
    match message.first() {
        Some(&DONE) => !keeps(ipv6_at(message, 8)),
        Some(&V2_REPORT) => {
            let named = |bytes: &[u8]| take::<16>(bytes, 0).is_some_and(|group| keeps((*group).into()));
            if membership::keep(message, named, 16) {
                put(message, 2, &[0, 0]);
                let field = checksum::pseudo_v6(source, destination, nd::ICMPV6, message);
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

    fn address(text: &str) -> Ipv6Addr {
        text.parse().unwrap()
    }

    fn header(frame: &[u8]) -> ipv6::Ipv6Header<'_> {
        let bytes = Frame::new_checked(frame).unwrap().payload();
        ipv6::Ipv6Header::new_checked(bytes, bytes.len()).unwrap()
    }

    fn asked(to: &str, group: &str, code: u16, more: &[u8], change: fn(&mut Vec<u8>)) -> Option<Query> {
        let mut bytes = vec![QUERY, 0, 0, 0];
        bytes.extend(code.to_be_bytes());
        bytes.extend([0, 0]);
        bytes.extend(address(group).octets());
        bytes.extend(more);
        let mut frame = build(MAC, address("fe80::9"), address(to), bytes);
        change(&mut frame);
        query(&header(&frame))
    }

    #[test]
    fn the_version_follows_from_the_length() {
        let v2 = asked("ff02::1", "::", 10_000, &[3, 125, 0, 0], |_| ()).unwrap();
        assert_eq!((v2.version, v2.group, v2.response), (Version::Newest, None, Duration::from_secs(10)));
        assert_eq!((v2.robustness, v2.interval), (3, Duration::from_secs(125)));
        let v1 = asked("ff02::1:ff00:1", "ff02::1:ff00:1", 1_000, &[], |_| ()).unwrap();
        assert_eq!((v1.version, v1.group), (Version::Older, Some(address("ff02::1:ff00:1").into())));
        let long = asked("ff02::1", "::", 0x8000, &[0, 0, 0, 0], |_| ()).unwrap();
        assert_eq!(long.response, Duration::from_millis(0x1000 << 3));
    }

    #[test]
    fn what_may_come_from_another_link_is_no_query() {
        let with = |change| asked("ff02::1", "::", 100, &[2, 125, 0, 0], change);
        assert!(with(|_| ()).is_some());
        assert_eq!(with(|frame| frame[14 + 7] = 64), None, "the hop limit");
        assert_eq!(with(|frame| frame[14 + 40 + 2] = 0x1e), None, "no Router Alert");
        assert_eq!(with(|frame| frame[14 + 48 + 5] ^= 1), None, "the checksum");
        assert_eq!(with(|frame| frame[14 + 8] = 0x20), None, "a global source");
        assert_eq!(asked("ff02::1", "ff02::2", 100, &[], |_| ()), None, "not to its group");
        assert_eq!(asked("ff02::1", "::", 100, &[0], |_| ()), None, "25 bytes are no version");
    }

    #[test]
    fn reports_are_as_rfc_3810_and_rfc_2710_say() {
        let (source, group) = (MAC.link_local(), address("ff02::1:ff00:1"));
        let frame = report(MAC, source, &[(Record::ToExclude, group)]);
        let ip = header(&frame);
        assert_eq!(frame[..6], [0x33, 0x33, 0, 0, 0, 0x16]);
        assert_eq!((ip.next_header(), ip.hop_limit(), ip.destination()), (0, 1, V2_ROUTERS));
        let body = message(&ip).unwrap();
        assert_eq!(checksum::pseudo_v6(source, V2_ROUTERS, 58, body), 0);
        assert_eq!(body[..12], [143, 0, body[2], body[3], 0, 0, 0, 1, 4, 0, 0, 0]);
        assert_eq!(body[12..], group.octets());
        let frame = old_report(MAC, source, group);
        assert_eq!((message(&header(&frame)).unwrap()[0], header(&frame).destination()), (131, group));
        let frame = done(MAC, source, group);
        assert_eq!((message(&header(&frame)).unwrap()[0], header(&frame).destination()), (132, ALL_ROUTERS));
    }

    #[test]
    fn the_kernel_does_not_leave_what_the_router_keeps() {
        let (own, other) = (address("ff02::1:ff00:1"), address("ff02::fb"));
        let keeps = |group| group == own;
        let mut frame =
            report(MAC, address("fe80::1"), &[(Record::ToInclude, own), (Record::ToInclude, other)]);
        assert!(keep(&mut frame, keeps));
        let ip = header(&frame);
        let body = message(&ip).unwrap();
        assert_eq!((body[8], body[28]), (4, 3));
        assert_eq!(checksum::pseudo_v6(ip.source(), ip.destination(), 58, body), 0);
        assert!(!keep(&mut done(MAC, address("fe80::1"), own), keeps));
        assert!(keep(&mut done(MAC, address("fe80::1"), other), keeps));
        assert!(keep(&mut [0; 60], keeps) && keep(&mut [], keeps));
    }
}
