//! Connected subnets: one subnet cannot be behind two ports of a VRF.

use std::collections::HashMap;

use fibcast_daemon::config::{ConfigError, Loaded};
use ipnet::IpNet;

use super::Config;
use crate::packet::ipv6::is_link_local;

impl Config {
    /// A host of a subnet is looked for behind one port, so a second port with the same subnet would reach none of them. Nested subnets are
    /// fine, the longest prefix decides. So are single addresses (/32, /128), and link-local subnets, which every link has (RFC 4291 §2.5.6).
    pub(super) fn check_subnets(&self, loaded: &Loaded<Config>) -> Result<(), ConfigError> {
        let mut seen: HashMap<(u32, IpNet), (usize, &str, IpNet)> = HashMap::new();
        for (port_index, port) in self.ports.iter().enumerate() {
            for address in port.addresses.iter().filter(|address| is_subnet(address)) {
                let this = (port_index, port.name.as_str(), *address);
                let (first, name, other) = *seen.entry((port.vrf, address.trunc())).or_insert(this);
                if first != port_index {
                    let reason = format!(
                        "{address} of port {} is in the subnet {} of port {name} ({other}): expected different subnets",
                        port.name,
                        address.trunc()
                    );
                    return Err(loaded.error(&["port".into(), port_index.into(), "addresses".into()], reason));
                }
            }
        }
        Ok(())
    }
}

/// Whether hosts are behind the port by this address.
fn is_subnet(address: &IpNet) -> bool {
    let link_local = matches!(address, IpNet::V6(v6) if is_link_local(v6.addr()));
    address.prefix_len() < address.max_prefix_len() && !link_local
}

#[cfg(test)]
mod tests {
    use super::*;
    use fibcast_daemon::config::parse;

    fn check(ports: [(&str, u32); 2]) -> Result<(), String> {
        let mut text = "[node]\nname = \"nh\"\n[workers]\ncores = [1]\n".to_owned();
        for (index, (addresses, vrf)) in ports.iter().enumerate() {
            text += &format!(
                "[[port]]\nname = \"p{index}\"\ndevice = \"net_null{index}\"\nvrf = {vrf}\naddresses = [{addresses}]\n"
            );
        }
        let loaded = parse::<Config>("x.toml".as_ref(), text).unwrap();
        Config::check(&loaded).map_err(|error| error.to_string())
    }

    #[test]
    fn one_subnet_on_two_ports_is_refused_by_both_names() {
        let error = check([("\"192.0.2.1/24\"", 0), ("\"192.0.2.2/24\"", 0)]).unwrap_err();
        assert_eq!(
            error,
            "x.toml:14: port[1].addresses: 192.0.2.2/24 of port p1 is in the subnet 192.0.2.0/24 of port p0 (192.0.2.1/24): expected different \
             subnets"
        );
        for (first, second) in [
            ("\"192.0.2.0/31\"", "\"192.0.2.1/31\""),
            ("\"2001:db8::1/64\"", "\"2001:db8:1::1/64\", \"2001:db8::2/64\""),
            ("\"2001:db8::/127\"", "\"2001:db8::1/127\""),
        ] {
            check([(first, 0), (second, 0)]).unwrap_err();
            check([(first, 0), (second, 1)]).unwrap();
        }
    }

    #[test]
    fn nested_subnets_and_single_addresses_are_fine() {
        for (first, second) in [
            ("\"192.0.2.1/24\"", "\"192.0.2.129/25\""),
            ("\"192.0.2.1/32\"", "\"192.0.2.2/32\", \"192.0.2.9/24\""),
            ("\"192.0.2.1/24\", \"192.0.2.2/24\"", "\"192.0.2.3/32\""),
            ("\"2001:db8::1/48\"", "\"2001:db8::2/64\", \"2001:db8::3/128\""),
        ] {
            assert_eq!(check([(first, 0), (second, 0)]), Ok(()), "{first} {second}");
        }
    }

    #[test]
    fn link_local_addresses_may_be_the_same_on_each_link() {
        check([("\"fe80::1/64\", \"2001:db8::1/64\"", 0), ("\"fe80::1/64\"", 0)]).unwrap();
        let error = check([("\"fe80::1/64\", \"fe80::1/10\"", 0), ("", 0)]).unwrap_err();
        assert!(error.contains("port[0].addresses: fe80::1 is configured twice"), "{error}");
        let error = check([("\"192.0.2.1/32\"", 0), ("\"192.0.2.1/32\"", 0)]).unwrap_err();
        assert!(error.contains("port[1].addresses: 192.0.2.1 is configured twice"), "{error}");
    }
}
