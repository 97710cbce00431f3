//! The gateway of a prefix.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::mix;

/// Prefixes that use the home gateway of the block around them, in percent.
const AT_HOME: u64 = 80;
/// Length of the blocks that have a home gateway.
const HOME_V4: u8 = 14;
const HOME_V6: u8 = 29;
/// Host number before the first gateway: 198.18.1.1 is the first of 198.18.0.0/16.
const BEFORE_FIRST: u32 = 256;

/// The gateways: as many in each subnet, subnet *n* of either family behind port *n*.
#[derive(Debug, Clone)]
pub struct Gateways {
    v4: Vec<Ipv4Net>,
    v6: Vec<Ipv6Net>,
    per_subnet: u32,
}

/// Why gateways cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum GatewaysError {
    /// No subnet, or different numbers for the two families.
    #[error("expected as many IPv4 as IPv6 subnets and at least one, found {v4} and {v6}")]
    Subnets {
        /// IPv4 subnets.
        v4: usize,
        /// IPv6 subnets.
        v6: usize,
    },
    /// A subnet cannot hold its gateways.
    #[error("{subnet} is too small for gateways numbered {first} to {last}")]
    TooSmall {
        /// The subnet.
        subnet: IpNet,
        /// Number of the first gateway in it.
        first: u32,
        /// Number of the last gateway in it.
        last: u64,
    },
}

impl Gateways {
    /// `per_subnet` gateways in each of these subnets.
    ///
    /// # Errors
    /// [`GatewaysError`] if the subnets do not match or are too small.
    pub fn new(v4: Vec<Ipv4Net>, v6: Vec<Ipv6Net>, per_subnet: u32) -> Result<Self, GatewaysError> {
        if v4.is_empty() || v4.len() != v6.len() || per_subnet == 0 {
            return Err(GatewaysError::Subnets { v4: v4.len(), v6: v6.len() });
        }
        let last = u64::from(BEFORE_FIRST) + u64::from(per_subnet);
        // The last address of an IPv4 subnet is its broadcast address.
        let fits = |host_bits: u8| host_bits >= 64 || last < (1u64 << host_bits) - 1;
        let subnets = v4.iter().map(|s| (IpNet::V4(*s), 32 - s.prefix_len()));
        let mut subnets = subnets.chain(v6.iter().map(|s| (IpNet::V6(*s), 128 - s.prefix_len())));
        if let Some((subnet, _)) = subnets.find(|(_, host_bits)| !fits(*host_bits)) {
            return Err(GatewaysError::TooSmall { subnet, first: BEFORE_FIRST + 1, last });
        }
        Ok(Self { v4, v6, per_subnet })
    }

    /// Number of ports with gateways.
    pub fn ports(&self) -> u64 {
        self.v4.len() as u64
    }

    /// Number of gateways of one family.
    pub fn count(&self) -> u64 {
        self.ports() * u64::from(self.per_subnet)
    }

    /// Address of gateway `number` of a family; they are numbered consecutively, port by port.
    pub fn address(&self, number: u64, of: IpNet) -> IpAddr {
        let (port, place) = (number / u64::from(self.per_subnet), number % u64::from(self.per_subnet));
        let host = BEFORE_FIRST + 1 + place as u32;
        match of {
            IpNet::V4(_) => {
                let subnet = self.v4.get(port as usize).copied().unwrap_or_default();
                IpAddr::V4(Ipv4Addr::from(u32::from(subnet.network()) + host))
            }
            IpNet::V6(_) => {
                let subnet = self.v6.get(port as usize).copied().unwrap_or_default();
                IpAddr::V6(Ipv6Addr::from(u128::from(subnet.network()) + u128::from(host)))
            }
        }
    }
}

/// The rule that assigns each prefix its gateway.
#[derive(Debug, Clone)]
pub struct Rule {
    /// The gateways.
    pub gateways: Gateways,
    /// Seed of the table.
    pub seed: u64,
}

impl Rule {
    /// Number of a prefix's gateway.
    pub fn gateway(&self, prefix: IpNet) -> u64 {
        let block = match prefix {
            IpNet::V4(p) => u128::from(u32::from(p.network()) >> (32 - HOME_V4)),
            IpNet::V6(p) => u128::from(p.network()) >> (128 - HOME_V6),
        };
        let own = self.draw(prefix);
        if own % 100 < AT_HOME {
            mix(self.seed ^ mix(block as u64 | family_bit(prefix))) % self.gateways.count()
        } else {
            mix(own) % self.gateways.count()
        }
    }

    /// Number of the gateway that a prefix flaps to: behind the next port, so a changed route is a changed port.
    pub fn other_gateway(&self, prefix: IpNet) -> u64 {
        let per_subnet = u64::from(self.gateways.per_subnet);
        let port = (self.gateway(prefix) / per_subnet + 1) % self.gateways.ports();
        port * per_subnet + mix(!self.draw(prefix)) % per_subnet
    }

    fn draw(&self, prefix: IpNet) -> u64 {
        let bits = match prefix {
            IpNet::V4(p) => u128::from(u32::from(p.network())),
            IpNet::V6(p) => u128::from(p.network()),
        };
        let place = mix(bits as u64) ^ mix((bits >> 64) as u64 ^ 1);
        mix(self.seed ^ mix(place.wrapping_add(u64::from(prefix.prefix_len())) ^ family_bit(prefix)))
    }
}

fn family_bit(prefix: IpNet) -> u64 {
    u64::from(matches!(prefix, IpNet::V6(_))) << 63
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Two subnets of each family, as the program's defaults are.
    pub fn rule() -> Rule {
        let v4 = vec!["198.18.0.0/16".parse().unwrap(), "198.19.0.0/16".parse().unwrap()];
        let v6 = vec!["2001:2::/64".parse().unwrap(), "2001:2:0:1::/64".parse().unwrap()];
        Rule { gateways: Gateways::new(v4, v6, 64).unwrap(), seed: 1 }
    }

    fn prefixes() -> Vec<IpNet> {
        let v4 = (0..4096u32).map(|i| IpNet::V4(Ipv4Net::new((i << 12 | 10 << 24).into(), 20).unwrap()));
        let v6 =
            (0..4096u128).map(|i| IpNet::V6(Ipv6Net::new((0x2400 << 112 | i << 90).into(), 40).unwrap()));
        v4.chain(v6).collect()
    }

    #[test]
    fn gateways_lie_in_the_subnet_of_their_port() {
        let gateways = rule().gateways;
        let v4: IpNet = "10.0.0.0/8".parse().unwrap();
        let v6: IpNet = "2400::/16".parse().unwrap();
        let addresses: Vec<String> =
            [0, 63, 64, 127].iter().map(|n| gateways.address(*n, v4).to_string()).collect();
        assert_eq!(addresses, ["198.18.1.1", "198.18.1.64", "198.19.1.1", "198.19.1.64"]);
        assert_eq!(gateways.address(0, v6).to_string(), "2001:2::101");
        assert_eq!(gateways.address(64, v6).to_string(), "2001:2:0:1::101");
    }

    #[test]
    fn the_other_gateway_is_behind_another_port() {
        let rule = rule();
        for prefix in prefixes() {
            assert_ne!(rule.gateway(prefix) / 64, rule.other_gateway(prefix) / 64, "{prefix}");
        }
    }

    #[test]
    fn four_of_five_prefixes_of_a_block_share_a_gateway() {
        let rule = rule();
        let mut at_home = 0;
        let all = prefixes();
        for prefix in &all {
            let block = match prefix {
                IpNet::V4(p) => u128::from(u32::from(p.network()) >> 18),
                IpNet::V6(p) => u128::from(p.network()) >> 99,
            };
            let home = mix(rule.seed ^ mix(block as u64 | family_bit(*prefix))) % 128;
            at_home += usize::from(rule.gateway(*prefix) == home);
        }
        let share = at_home as f64 / all.len() as f64;
        assert!((0.78..0.83).contains(&share), "{share}");
    }

    #[test]
    fn subnets_that_cannot_hold_their_gateways_are_refused() {
        let v6 = vec!["2001:2::/64".parse().unwrap()];
        let small = Gateways::new(vec!["198.18.0.0/24".parse().unwrap()], v6.clone(), 1).unwrap_err();
        assert!(small.to_string().contains("198.18.0.0/24 is too small"), "{small}");
        assert!(Gateways::new(Vec::new(), v6, 1).is_err());
    }
}
