//! Builds messages for tests and fuzzers.
#![allow(clippy::unwrap_used)]

use std::net::IpAddr;

use crate::Writer;

/// A message with its header, padded.
pub fn message(kind: u16, flags: u16, body: &[u8]) -> Vec<u8> {
    let mut writer = Writer::default();
    writer.begin(kind, flags, 0, body);
    writer.end();
    let mut bytes = writer.bytes().to_vec();
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// An attribute, padded.
pub fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut writer = Writer::default();
    writer.attribute(kind, value);
    writer.bytes().to_vec()
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(a) => a.octets().to_vec(),
        IpAddr::V6(a) => a.octets().to_vec(),
    }
}

/// A route with attributes of the caller's, of type `rtm_type`.
///
/// # Panics
/// If an address or prefix cannot be parsed.
pub fn route_of(kind: u16, prefix: &str, table: u8, rtm_type: u8, more: &[Vec<u8>]) -> Vec<u8> {
    let prefix: ipnet::IpNet = prefix.parse().unwrap();
    let family = if prefix.addr().is_ipv4() { 2 } else { 10 };
    let mut body = vec![family, prefix.prefix_len(), 0, 0, table, 186, 0, rtm_type, 0, 0, 0, 0];
    body.extend(attribute(1, &octets(prefix.addr())));
    more.iter().for_each(|a| body.extend(a));
    message(kind, 0x501, &body)
}

/// An interface.
pub fn output(index: u32) -> Vec<u8> {
    attribute(4, &index.to_ne_bytes())
}

/// A gateway.
///
/// # Panics
/// If an address or prefix cannot be parsed.
pub fn gateway(address: &str) -> Vec<u8> {
    attribute(5, &octets(address.parse().unwrap()))
}

/// A route by one gateway.
pub fn route(prefix: &str, via: &str) -> Vec<u8> {
    route_of(24, prefix, 254, 1, &[gateway(via), output(3)])
}

/// The same with a flag of next hops (`RTNH_F_…`).
pub fn route_with_flag(prefix: &str, via: &str, flag: u8) -> Vec<u8> {
    let mut bytes = route(prefix, via);
    // `rtm_flags`, after the header of the message.
    if let Some(flags) = bytes.get_mut(24) {
        *flags |= flag;
    }
    bytes
}

/// A withdrawal.
pub fn withdrawal(prefix: &str) -> Vec<u8> {
    route_of(25, prefix, 254, 0, &[])
}

/// A route by a next-hop object.
pub fn route_by(prefix: &str, id: u32) -> Vec<u8> {
    route_of(24, prefix, 254, 1, &[attribute(30, &id.to_ne_bytes())])
}

/// A list of next hops for a route: gateway and weight.
pub fn multipath(hops: &[(&str, u8)]) -> Vec<u8> {
    let mut list = Vec::new();
    for (via, weight) in hops {
        let inner = gateway(via);
        list.extend(((8 + inner.len()) as u16).to_ne_bytes());
        list.extend([0, weight - 1]);
        list.extend(3u32.to_ne_bytes());
        list.extend(inner);
    }
    attribute(9 | 0x8000, &list)
}

/// A next-hop object with one gateway.
///
/// # Panics
/// If an address or prefix cannot be parsed.
pub fn object(id: u32, via: &str) -> Vec<u8> {
    let mut body = vec![2, 0, 11, 0, 0, 0, 0, 0];
    body.extend(attribute(1, &id.to_ne_bytes()));
    body.extend(attribute(6, &octets(via.parse().unwrap())));
    body.extend(attribute(5, &3u32.to_ne_bytes()));
    message(104, 0x501, &body)
}

/// A next-hop object that is a group.
pub fn group(id: u32, members: &[(u32, u8)]) -> Vec<u8> {
    let mut body = vec![0, 0, 11, 0, 0, 0, 0, 0];
    body.extend(attribute(1, &id.to_ne_bytes()));
    let list: Vec<u8> = members
        .iter()
        .flat_map(|(id, weight)| [&id.to_ne_bytes()[..], &[weight - 1, 0, 0, 0]].concat())
        .collect();
    body.extend(attribute(2, &list));
    message(104, 0x501, &body)
}

/// The deletion of a next-hop object.
pub fn no_object(id: u32) -> Vec<u8> {
    let mut body = vec![0; 8];
    body.extend(attribute(1, &id.to_ne_bytes()));
    message(105, 0, &body)
}
