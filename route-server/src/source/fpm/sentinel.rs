//! Routes that an operator's helper installs in zebra to say that its table is complete.

use std::net::Ipv6Addr;

use ipnet::{IpNet, Ipv6Net};

/// Sorts after all prefixes that are routed, and before `ff00::/8`.
const DEFAULT: Ipv6Addr = Ipv6Addr::new(0xfdff, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff);

/// The configured sentinel, `fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128`, and those of sessions,
/// `fdff:ffff:ffff:ffff:ffff:ffff:fffe:PORT/128`. PORT is zebra's TCP port of the session in hexadecimal, so what a file or a daemon
/// restored says nothing about a new session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sentinel(Ipv6Addr);

/// What a prefix means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meaning {
    /// What zebra had when the session began has arrived.
    Table,
    /// The routing daemons converged within the session with this port.
    Session(u16),
}

impl Default for Sentinel {
    fn default() -> Self {
        Self(DEFAULT)
    }
}

impl Sentinel {
    /// The sentinel with this prefix.
    ///
    /// # Errors
    /// What was expected, if it is not one IPv6 address.
    pub fn new(prefix: IpNet) -> Result<Self, String> {
        match prefix {
            IpNet::V6(net) if net.prefix_len() == 128 => Ok(Self(net.addr())),
            other => {
                Err(format!("expected one IPv6 address (/128) that sorts after all others, found {other}"))
            }
        }
    }

    /// The sentinel of a session.
    pub fn of_session(self, port: u16) -> Ipv6Net {
        let [a, b, c, d, e, f, g, _] = self.0.segments();
        Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, d, e, f, g ^ 1, port), 128)
    }

    /// What a prefix means; none: it is a destination.
    pub fn meaning(self, prefix: IpNet) -> Option<Meaning> {
        let IpNet::V6(net) = prefix else { return None };
        let port = net.addr().segments()[7];
        match net {
            _ if net.prefix_len() != 128 => None,
            _ if net.addr() == self.0 => Some(Meaning::Table),
            _ if net == self.of_session(port) => Some(Meaning::Session(port)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_the_sentinel_or_that_of_a_session_or_a_destination() {
        let sentinel = Sentinel::default();
        let meaning = |prefix: &str| sentinel.meaning(prefix.parse().unwrap());
        assert_eq!(meaning("fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128"), Some(Meaning::Table));
        assert_eq!(meaning("fdff:ffff:ffff:ffff:ffff:ffff:fffe:c820/128"), Some(Meaning::Session(0xc820)));
        assert_eq!(meaning("fdff:ffff:ffff:ffff:ffff:ffff:fffe:ffff/128"), Some(Meaning::Session(0xffff)));
        for destination in ["fdff:ffff:ffff:ffff:ffff:ffff:ffff:c820/128", "10.0.0.1/32", "::/0", "fdff::/16"]
        {
            assert_eq!(meaning(destination), None, "{destination}");
        }
        assert_eq!(sentinel.of_session(51232).to_string(), "fdff:ffff:ffff:ffff:ffff:ffff:fffe:c820/128");
    }

    #[test]
    fn only_one_ipv6_address_can_be_a_sentinel() {
        assert!(Sentinel::new("2001:db8::1/128".parse().unwrap()).is_ok());
        for prefix in ["2001:db8::/64", "192.0.2.1/32"] {
            assert!(Sentinel::new(prefix.parse().unwrap()).unwrap_err().contains(prefix));
        }
    }
}
