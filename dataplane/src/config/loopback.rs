//! `[node] loopback` and `loopback_interface`: addresses of the router itself, and the TAP interface that has them in the kernel.

use fibcast_daemon::config::{ConfigError, Loaded};
use fibcast_fib::VrfId;
use std::collections::HashSet;

use super::{Config, Port, is_host};
use crate::exception_path::{self, PREFIX, name_of};

impl Config {
    /// Name of the TAP interface of the loopback.
    pub fn loopback_interface(&self) -> &str {
        self.node.loopback_interface.as_deref().unwrap_or(exception_path::LOOPBACK)
    }

    /// Its name is told from those of other programs' interfaces by its prefix, and is not that of a port's.
    fn check_loopback_interface(&self, loaded: &Loaded<Config>) -> Result<(), ConfigError> {
        let name = self.loopback_interface();
        if !name.starts_with(PREFIX) || name.len() > tap::MAX_NAME || name.contains(['/', ' ']) {
            let most = tap::MAX_NAME;
            let reason = format!(
                "expected a name that begins with {PREFIX:?} and has at most {most} bytes, found {name:?}"
            );
            return Err(loaded.error(&["node".into(), "loopback_interface".into()], reason));
        }
        let same = |port: &Port| port.exception_path && name_of(&port.name) == name;
        match self.ports.iter().position(same).filter(|_| !self.node.loopback.is_empty()) {
            Some(index) => {
                let reason = format!(
                    "the loopback's TAP interface has the name {name} already: another name here, or node.loopback_interface"
                );
                Err(loaded.error(&["port".into(), index.into(), "name".into()], reason))
            }
            None => Ok(()),
        }
    }

    /// Checks that they are addresses of one host each, and that no port of the default VRF has them.
    pub(super) fn check_loopback(&self, loaded: &Loaded<Config>) -> Result<(), ConfigError> {
        self.check_loopback_interface(loaded)?;
        let mut seen = HashSet::new();
        let ports = self.ports.iter().filter(|port| port.vrf == VrfId::DEFAULT.0);
        let of_ports: HashSet<_> = ports.flat_map(|port| &port.addresses).map(|own| own.addr()).collect();
        for (index, net) in self.node.loopback.iter().enumerate() {
            let wrong =
                |reason: String| loaded.error(&["node".into(), "loopback".into(), index.into()], reason);
            let address = net.addr();
            if net.prefix_len() != net.max_prefix_len() {
                let expected = net.max_prefix_len();
                return Err(wrong(format!("expected one address, {address}/{expected}, found {net}")));
            }
            // A link-local address belongs to a link (RFC 4291 §2.5.6, RFC 3927).
            let link_local = match address {
                std::net::IpAddr::V4(v4) => v4.is_link_local(),
                std::net::IpAddr::V6(v6) => v6.is_unicast_link_local(),
            };
            if !is_host(address) || link_local {
                return Err(wrong(format!("expected an address of a router, found {net}")));
            }
            if of_ports.contains(&address) || !seen.insert(address) {
                return Err(wrong(format!("{address} is configured twice")));
            }
        }
        Ok(())
    }
}
