//! `[kernel] next_hop`: which gateways the routes of the table get in this host's kernel.

use std::net::IpAddr;

use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// The next hop of routes of one family.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum NextHop {
    /// The gateways of the table.
    #[default]
    Keep,
    /// The address of the server that the agent is synchronised with (next-hop-self, seen from the other side).
    Server,
    /// This gateway.
    Address(IpAddr),
}

/// The next hops of both families.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NextHops {
    /// Of IPv4 routes.
    pub ipv4: NextHop,
    /// Of IPv6 routes.
    pub ipv6: NextHop,
}

const EXPECTED: &str = "\"keep\", \"server\" or the address of a gateway";

impl NextHops {
    /// Whether the address of the server is needed.
    pub fn need_server(&self) -> bool {
        [self.ipv4, self.ipv6].contains(&NextHop::Server)
    }
}

impl NextHop {
    fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("expected {EXPECTED}, found {text:?}");
        Ok(match text {
            "keep" => Self::Keep,
            "server" => Self::Server,
            _ => Self::Address(text.parse().ok().filter(is_gateway).ok_or_else(wrong)?),
        })
    }
}

/// Whether a packet can be sent there without the name of an interface.
fn is_gateway(address: &IpAddr) -> bool {
    let link_local = matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local());
    !(address.is_unspecified() || address.is_loopback() || address.is_multicast() || link_local)
}

impl<'de> Deserialize<'de> for NextHop {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        NextHop::parse(&String::deserialize(from)?).map_err(D::Error::custom)
    }
}

impl<'de> Deserialize<'de> for NextHops {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        // Not an untagged enum: its errors do not say what is wrong.
        from.deserialize_any(Either)
    }
}

struct Either;

impl<'de> Visitor<'de> for Either {
    type Value = NextHops;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{EXPECTED}, or {{ ipv4 = …, ipv6 = … }} with one of these each")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<NextHops, E> {
        let both = NextHop::parse(text).map_err(E::custom)?;
        Ok(NextHops { ipv4: both, ipv6: both })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<NextHops, A::Error> {
        let mut all = NextHops::default();
        while let Some(family) = map.next_key::<String>()? {
            match family.as_str() {
                "ipv4" => all.ipv4 = map.next_value()?,
                "ipv6" => all.ipv6 = map.next_value()?,
                other => return Err(A::Error::custom(format!("expected ipv4 or ipv6, found {other:?}"))),
            }
        }
        // An IPv4 route may have an IPv6 gateway (RFC 8950), but not the reverse.
        if matches!(all.ipv6, NextHop::Address(IpAddr::V4(_))) {
            return Err(A::Error::custom("expected an IPv6 gateway for IPv6 routes, found an IPv4 address"));
        }
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    struct File {
        next_hop: NextHops,
    }

    fn parse(value: &str) -> Result<NextHops, String> {
        let text = format!("next_hop = {value}\n");
        toml::from_str::<File>(&text).map(|file| file.next_hop).map_err(|e| e.message().to_owned())
    }

    #[test]
    fn one_for_all_routes_or_one_for_each_family() {
        let address = |text: &str| NextHop::Address(text.parse().unwrap());
        for (value, ipv4, ipv6) in [
            ("\"keep\"", NextHop::Keep, NextHop::Keep),
            ("\"server\"", NextHop::Server, NextHop::Server),
            ("\"192.0.2.1\"", address("192.0.2.1"), address("192.0.2.1")),
            ("{ ipv4 = \"server\" }", NextHop::Server, NextHop::Keep),
            (
                "{ ipv4 = \"192.0.2.1\", ipv6 = \"2001:db8::1\" }",
                address("192.0.2.1"),
                address("2001:db8::1"),
            ),
        ] {
            assert_eq!(parse(value), Ok(NextHops { ipv4, ipv6 }), "{value}");
        }
    }

    #[test]
    fn what_is_no_gateway_is_refused_with_what_was_expected() {
        for (value, expected) in [
            ("\"self\"", "expected \"keep\", \"server\" or the address of a gateway, found \"self\""),
            ("\"192.0.2.0/24\"", "found \"192.0.2.0/24\""),
            ("\"0.0.0.0\"", "found \"0.0.0.0\""),
            ("\"127.0.0.1\"", "found \"127.0.0.1\""),
            ("\"fe80::1\"", "found \"fe80::1\""),
            ("7", "expected \"keep\", \"server\" or the address of a gateway, or { ipv4 = …"),
            ("{ ipv5 = \"keep\" }", "expected ipv4 or ipv6, found \"ipv5\""),
            ("{ ipv6 = \"192.0.2.1\" }", "expected an IPv6 gateway for IPv6 routes"),
        ] {
            let error = parse(value).unwrap_err();
            assert!(error.contains(expected), "{value}: {error}");
        }
    }
}
