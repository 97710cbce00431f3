//! BGP messages as a speaker writes them (RFC 4271, RFC 4760, RFC 6793).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// Bytes of a message's header.
pub const HEADER: usize = 19;
/// Largest message (RFC 4271 §4.1).
pub const LARGEST: usize = 4096;

/// Message types (RFC 4271 §4.1).
pub const OPEN: u8 = 1;
/// Ends the session with a reason.
pub const NOTIFICATION: u8 = 3;
/// Nothing to say.
pub const KEEPALIVE: u8 = 4;
const UPDATE: u8 = 2;

const IPV6: u16 = 2;
const UNICAST: u8 = 1;
/// Stands for a four-byte AS number in a two-byte field (RFC 6793 §9).
const AS_TRANS: u16 = 23_456;

/// Parameters of the speaker.
#[derive(Debug, Clone, Copy)]
pub struct Speaker {
    /// Its AS number.
    pub own_as: u32,
    /// Its identifier.
    pub id: Ipv4Addr,
    /// Hold time in seconds.
    pub hold: u16,
}

/// Writes a message around what `body` writes.
fn message(out: &mut Vec<u8>, kind: u8, body: impl FnOnce(&mut Vec<u8>)) {
    let at = out.len();
    out.extend([0xff; 16]);
    out.extend([0, 0, kind]);
    body(out);
    set_length(out, at + 16, at);
}

/// Sets the two bytes at `at` to the number of bytes from `from` to the end.
fn set_length(out: &mut [u8], at: usize, from: usize) {
    let length = (out.len() - from) as u16;
    if let Some(field) = out.get_mut(at..at + 2) {
        field.copy_from_slice(&length.to_be_bytes());
    }
}

/// OPEN with the capabilities for both families and four-byte AS numbers.
pub fn open(out: &mut Vec<u8>, speaker: &Speaker) {
    message(out, OPEN, |out| {
        out.push(4);
        out.extend(u16::try_from(speaker.own_as).unwrap_or(AS_TRANS).to_be_bytes());
        out.extend(speaker.hold.to_be_bytes());
        out.extend(speaker.id.octets());
        let [a, b, c, d] = speaker.own_as.to_be_bytes();
        let capabilities = [1, 4, 0, 1, 0, 1, 1, 4, 0, 2, 0, 1, 65, 4, a, b, c, d];
        let length = capabilities.len() as u8;
        // One optional parameter, of type 2 (RFC 5492).
        out.extend([length + 2, 2, length]);
        out.extend(capabilities);
    });
}

/// KEEPALIVE.
pub fn keepalive(out: &mut Vec<u8>) {
    message(out, KEEPALIVE, |_| ());
}

/// The end of the table of both families (RFC 4724 §2).
pub fn end_of_rib(out: &mut Vec<u8>) {
    message(out, UPDATE, |out| out.extend([0; 4]));
    message(out, UPDATE, |out| out.extend([0, 0, 0, 6, 0x80, 15, 3, 0, 2, 1]));
}

/// Path attributes common to all prefixes of an UPDATE.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Path {
    /// NEXT_HOP, of the family of the prefixes.
    pub next_hop: IpAddr,
    /// AS_PATH, the speaker's own number first.
    pub through: [u32; 3],
}

/// An UPDATE that announces prefixes of one family. Prefixes that do not fit are left out: limit them to [`fitting`].
pub fn announce(out: &mut Vec<u8>, path: &Path, prefixes: &[IpNet]) {
    message(out, UPDATE, |out| {
        out.extend([0, 0]);
        let length_at = out.len();
        out.extend([0, 0]);
        // ORIGIN IGP; AS_PATH: one AS_SEQUENCE of four-byte numbers.
        out.extend([0x40, 1, 1, 0, 0x40, 2, 14, 2, 3]);
        path.through.iter().for_each(|number| out.extend(number.to_be_bytes()));
        match path.next_hop {
            IpAddr::V4(next_hop) => {
                out.extend([0x40, 3, 4]);
                out.extend(next_hop.octets());
                set_length(out, length_at, length_at + 2);
                prefixes.iter().for_each(|prefix| put_prefix(out, prefix));
            }
            IpAddr::V6(next_hop) => {
                reach(out, next_hop, prefixes);
                set_length(out, length_at, length_at + 2);
            }
        }
    });
}

/// MP_REACH_NLRI of IPv6 (RFC 4760 §3).
fn reach(out: &mut Vec<u8>, next_hop: Ipv6Addr, prefixes: &[IpNet]) {
    out.extend([0x90, 14, 0, 0]);
    let from = out.len();
    out.extend(IPV6.to_be_bytes());
    out.extend([UNICAST, 16]);
    out.extend(next_hop.octets());
    out.push(0);
    prefixes.iter().for_each(|prefix| put_prefix(out, prefix));
    set_length(out, from - 2, from);
}

/// How many prefixes certainly fit one UPDATE.
pub fn fitting() -> usize {
    (LARGEST - 128) / 17
}

fn put_prefix(out: &mut Vec<u8>, prefix: &IpNet) {
    out.push(prefix.prefix_len());
    let used = usize::from(prefix.prefix_len()).div_ceil(8);
    match prefix {
        IpNet::V4(p) => out.extend(p.network().octets().iter().take(used)),
        IpNet::V6(p) => out.extend(p.network().octets().iter().take(used)),
    }
}

/// Parses a header: type and length of the whole message; none if it is not BGP.
pub fn header(bytes: &[u8; HEADER]) -> Option<(u8, usize)> {
    let (marker, rest) = bytes.split_at(16);
    let [high, low, kind] = rest else { return None };
    let length = usize::from(u16::from_be_bytes([*high, *low]));
    let good = marker.iter().all(|byte| *byte == 0xff) && (HEADER..=LARGEST).contains(&length);
    good.then_some((*kind, length))
}

#[cfg(test)]
mod tests {
    use super::*;
    use fibcast_mrt::{Event, Reader, Route};

    /// Reads messages with an independent reader.
    fn read(messages: &[u8]) -> Vec<Route> {
        let mut mrt = Vec::new();
        let mut rest = messages;
        while let Some(start) = rest.first_chunk::<HEADER>() {
            let (_, length) = header(start).unwrap();
            let (message, more) = rest.split_at(length);
            let mut record = vec![0; 4];
            record.extend([0, 0, 0xfd, 0xe8, 0, 0, 0xfd, 0xe8, 0, 0, 0, 1, 192, 0, 2, 1, 192, 0, 2, 2]);
            record.extend(message);
            mrt.extend(1u32.to_be_bytes());
            mrt.extend([0, 17, 0, 4]);
            mrt.extend((record.len() as u32).to_be_bytes());
            mrt.extend(record);
            rest = more;
        }
        assert!(rest.is_empty());
        Reader::from_read("test", std::io::Cursor::new(mrt)).unwrap().map(|route| route.unwrap()).collect()
    }

    fn nets(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn pairs(routes: &[Route]) -> Vec<(String, String)> {
        let next_hop = |route: &Route| match route.event {
            Event::Announce { next_hop, .. } => next_hop.to_string(),
            Event::Withdraw => "-".into(),
        };
        routes.iter().map(|route| (route.prefix.to_string(), next_hop(route))).collect()
    }

    #[test]
    fn announcements_of_both_families_are_read_as_they_were_meant() {
        let path = |next_hop: &str| Path { next_hop: next_hop.parse().unwrap(), through: [65_001, 7, 9] };
        let mut bytes = Vec::new();
        announce(&mut bytes, &path("198.18.1.1"), &nets(&["10.0.0.0/8", "0.0.0.0/0", "192.0.2.128/25"]));
        announce(&mut bytes, &path("2001:2::101"), &nets(&["2001:db8::/32", "2001:db8:1::/48"]));
        end_of_rib(&mut bytes);
        let expected = [
            ("10.0.0.0/8", "198.18.1.1"),
            ("0.0.0.0/0", "198.18.1.1"),
            ("192.0.2.128/25", "198.18.1.1"),
            ("2001:db8::/32", "2001:2::101"),
            ("2001:db8:1::/48", "2001:2::101"),
        ];
        assert_eq!(pairs(&read(&bytes)), expected.map(|(p, n)| (p.to_owned(), n.to_owned())));
    }

    #[test]
    fn as_many_prefixes_as_are_said_to_fit_do() {
        let path = Path { next_hop: "2001:2::101".parse().unwrap(), through: [u32::MAX; 3] };
        let prefixes = vec!["2001:db8::1/128".parse().unwrap(); fitting()];
        let mut bytes = Vec::new();
        announce(&mut bytes, &path, &prefixes);
        assert!(bytes.len() <= LARGEST, "{}", bytes.len());
        assert_eq!(read(&bytes).len(), fitting());
    }

    #[test]
    fn an_as_number_of_four_bytes_is_in_the_capability() {
        let mut bytes = Vec::new();
        open(&mut bytes, &Speaker { own_as: 4_200_000_000, id: Ipv4Addr::new(192, 0, 2, 1), hold: 180 });
        assert_eq!(header(bytes.first_chunk().unwrap()), Some((OPEN, bytes.len())));
        assert_eq!(bytes[20..22], AS_TRANS.to_be_bytes());
        assert_eq!(bytes[bytes.len() - 4..], 4_200_000_000u32.to_be_bytes());
    }

    #[test]
    fn what_is_not_bgp_has_no_header() {
        assert_eq!(header(&[0; HEADER]), None);
        let mut bytes = Vec::new();
        keepalive(&mut bytes);
        let mut bytes: [u8; HEADER] = bytes.try_into().unwrap();
        assert_eq!(header(&bytes), Some((KEEPALIVE, HEADER)));
        bytes[17] = 18;
        assert_eq!(header(&bytes), None, "shorter than itself");
    }
}
