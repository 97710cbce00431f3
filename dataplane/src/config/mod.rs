//! `dataplane.toml`: the sections that this daemon has beside those of all daemons, and what their types alone cannot say.

use std::collections::HashSet;
use std::net::IpAddr;

use fibcast_daemon::config::{ConfigError, Loaded, Step};
use fibcast_daemon::sections::{Limits, Node, Tls};
use fibcast_sync_agent::agent::config::Sync;
use fibcast_sync_agent::shell::tls::Security;
use ipnet::IpNet;
use serde::{Deserialize, Deserializer};

use crate::control::own_routes::StaticRoute;
use crate::packet::ethernet::Mac;
use crate::worker::idle::Policy;

/// The whole file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Who it is and where it can be reached.
    pub node: Node,
    /// How connections between nodes are protected.
    #[serde(default)]
    pub tls: Tls,
    /// What peers may cost.
    #[serde(default)]
    pub limits: Limits,
    /// Who fills the table; left out: static routes only.
    pub sync: Option<Sync>,
    /// DPDK's environment.
    #[serde(default)]
    pub eal: Eal,
    /// Poll-mode workers.
    pub workers: Workers,
    /// Ports, in this order.
    #[serde(rename = "port")]
    pub ports: Vec<Port>,
    /// Neighbours that are never asked for.
    #[serde(default, rename = "static_neighbor")]
    pub neighbors: Vec<StaticNeighbor>,
    /// Routes that win over those from servers.
    #[serde(default, rename = "static_route")]
    pub routes: Vec<Route>,
}

/// `[eal]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Eal {
    /// Arguments of DPDK's environment, without a program name.
    #[serde(default)]
    pub args: Vec<String>,
}

/// `[workers]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Workers {
    /// One worker on each of these CPU cores.
    pub cores: Vec<usize>,
    /// What they do when nothing comes.
    #[serde(default)]
    pub idle: Policy,
    /// Packets that wait for each transmit queue that takes no more.
    #[serde(default = "Workers::default_backlog")]
    pub tx_backlog: usize,
}

impl Workers {
    fn default_backlog() -> usize {
        2_048
    }
}

/// `[[port]]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Port {
    /// Its name.
    pub name: String,
    /// DPDK devargs or PCI address.
    pub device: String,
    /// Own addresses, each with the length of its subnet.
    #[serde(default)]
    pub addresses: Vec<IpNet>,
    /// Largest IP packet in bytes.
    #[serde(default = "Port::default_mtu")]
    pub mtu: u16,
    /// A twin of the port in the kernel.
    #[serde(default)]
    pub host_path: bool,
    /// Descriptors of each receive queue.
    #[serde(default = "Port::default_descriptors")]
    pub rx_desc: u16,
    /// Descriptors of each transmit queue.
    #[serde(default = "Port::default_descriptors")]
    pub tx_desc: u16,
}

impl Port {
    fn default_mtu() -> u16 {
        1_500
    }

    fn default_descriptors() -> u16 {
        1_024
    }
}

/// `[[static_neighbor]]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StaticNeighbor {
    /// Name of its port.
    pub port: String,
    /// Its address.
    pub ip: IpAddr,
    /// Its MAC address.
    #[serde(deserialize_with = "mac")]
    pub mac: Mac,
}

/// `[[static_route]]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// Destination.
    pub prefix: IpNet,
    /// Gateway.
    pub via: Option<IpAddr>,
    /// Drop in silence.
    #[serde(default)]
    pub blackhole: bool,
}

fn mac<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Mac, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(|_| {
        serde::de::Error::custom(format!("expected a MAC address like 02:00:00:00:00:01, found {text:?}"))
    })
}

/// Least MTU: that of IPv6 (RFC 8200 §5).
const MIN_MTU: u16 = 1_280;
/// Most ports and workers; far beyond what one machine has.
const MAX_PORTS: usize = 256;
const MAX_WORKERS: usize = 64;

impl Config {
    /// Everything that can be found wrong without touching a device.
    pub fn check(loaded: &Loaded<Config>) -> Result<(), ConfigError> {
        let config = &loaded.value;
        config.node.check(loaded)?;
        config.tls.check(loaded, config.node.listen.iter().copied())?;
        match &config.sync {
            Some(sync) => {
                sync.check(loaded)?;
                sync.check_tls(&config.tls, loaded)?;
                config.tls.check_lists(loaded, !config.node.listen.is_empty(), true)?;
            }
            None if !config.node.listen.is_empty() => {
                let key = ["node".into(), "listen".into()];
                return Err(loaded.error(&key, "a relay needs servers of its own: [sync] is missing"));
            }
            None => {}
        }
        config.limits.check(loaded)?;
        Security::check(&config.tls, &config.node.name, loaded)?;
        config.check_workers(loaded)?;
        config.check_ports(loaded)?;
        config.check_neighbors(loaded)?;
        config.check_routes(loaded)
    }

    fn check_workers(&self, loaded: &Loaded<Config>) -> Result<(), ConfigError> {
        let cores = &self.workers.cores;
        let key = [Step::Key("workers"), Step::Key("cores")];
        if cores.is_empty() || cores.len() > MAX_WORKERS {
            let found = cores.len();
            return Err(loaded.error(&key, format!("expected 1 to {MAX_WORKERS} cores, found {found}")));
        }
        let mut seen = HashSet::new();
        if let Some(core) = cores.iter().find(|core| !seen.insert(**core)) {
            return Err(loaded.error(&key, format!("core {core} stands twice: each worker needs its own")));
        }
        if !(64..=65_536).contains(&self.workers.tx_backlog) {
            let found = self.workers.tx_backlog;
            return Err(loaded.error(
                &[Step::Key("workers"), Step::Key("tx_backlog")],
                format!("expected 64 to 65536 packets, found {found}"),
            ));
        }
        Ok(())
    }

    fn check_ports(&self, loaded: &Loaded<Config>) -> Result<(), ConfigError> {
        if self.ports.is_empty() || self.ports.len() > MAX_PORTS {
            let found = self.ports.len();
            return Err(
                loaded.error(&["port".into()], format!("expected 1 to {MAX_PORTS} ports, found {found}"))
            );
        }
        let (mut names, mut devices, mut addresses) = (HashSet::new(), HashSet::new(), HashSet::new());
        for (place, port) in self.ports.iter().enumerate() {
            let wrong =
                |key: &str, reason: String| loaded.error(&["port".into(), place.into(), key.into()], reason);
            if port.name.is_empty() || !names.insert(&port.name) {
                return Err(wrong("name", format!("expected a name of its own, found {:?}", port.name)));
            }
            let device = port.device.split(',').next().unwrap_or_default();
            if device.is_empty() || !devices.insert(device) {
                return Err(wrong(
                    "device",
                    format!("expected a device of its own, found {:?}", port.device),
                ));
            }
            if port.mtu < MIN_MTU {
                return Err(wrong("mtu", format!("expected at least {MIN_MTU}, found {}", port.mtu)));
            }
            if port.host_path {
                return Err(wrong("host_path", "is not available in this version; leave it out".to_owned()));
            }
            for (key, found) in [("rx_desc", port.rx_desc), ("tx_desc", port.tx_desc)] {
                if !(32..=32_768).contains(&found) {
                    return Err(wrong(key, format!("expected 32 to 32768 descriptors, found {found}")));
                }
            }
            for address in &port.addresses {
                if !is_host(address.addr()) {
                    return Err(wrong("addresses", format!("expected a host's address, found {address}")));
                }
                if !addresses.insert(address.addr()) {
                    return Err(wrong("addresses", format!("{} stands twice", address.addr())));
                }
            }
        }
        Ok(())
    }

    fn check_neighbors(&self, loaded: &Loaded<Config>) -> Result<(), ConfigError> {
        let mut seen = HashSet::new();
        for (place, neighbor) in self.neighbors.iter().enumerate() {
            let wrong = |key: &str, reason: String| {
                loaded.error(&["static_neighbor".into(), place.into(), key.into()], reason)
            };
            let Some(port) = self.port_of(&neighbor.port) else {
                return Err(wrong(
                    "port",
                    format!("expected the name of a [[port]], found {:?}", neighbor.port),
                ));
            };
            if !is_host(neighbor.ip) || !seen.insert((port, neighbor.ip)) {
                return Err(wrong(
                    "ip",
                    format!("expected a host's address that stands once, found {}", neighbor.ip),
                ));
            }
            if !neighbor.mac.is_unicast() {
                return Err(wrong(
                    "mac",
                    format!("expected the address of one station, found {}", neighbor.mac),
                ));
            }
        }
        Ok(())
    }

    fn check_routes(&self, loaded: &Loaded<Config>) -> Result<(), ConfigError> {
        let mut seen = HashSet::new();
        for (place, route) in self.routes.iter().enumerate() {
            let wrong = |key: &str, reason: String| {
                loaded.error(&["static_route".into(), place.into(), key.into()], reason)
            };
            if route.prefix.trunc() != route.prefix {
                return Err(wrong(
                    "prefix",
                    format!("expected {}, found host bits set", route.prefix.trunc()),
                ));
            }
            if !seen.insert(route.prefix) {
                return Err(wrong("prefix", format!("{} stands twice", route.prefix)));
            }
            match (route.via, route.blackhole) {
                (Some(_), true) | (None, false) => {
                    return Err(wrong("via", "expected either via or blackhole = true".to_owned()));
                }
                (Some(via), _) if via.is_ipv4() != matches!(route.prefix, IpNet::V4(_)) => {
                    return Err(wrong(
                        "via",
                        format!("expected a gateway of the prefix's family, found {via}"),
                    ));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Place of the port of this name.
    pub fn port_of(&self, name: &str) -> Option<usize> {
        self.ports.iter().position(|port| port.name == name)
    }

    /// `[[static_route]]` as the control side wants it.
    pub fn static_routes(&self) -> Vec<StaticRoute> {
        self.routes.iter().map(|route| StaticRoute { prefix: route.prefix, via: route.via }).collect()
    }

    /// `[[static_neighbor]]` as the control side wants it.
    pub fn static_neighbors(&self) -> Vec<(usize, IpAddr, Mac)> {
        let place = |neighbor: &StaticNeighbor| {
            self.port_of(&neighbor.port).map(|place| (place, neighbor.ip, neighbor.mac))
        };
        self.neighbors.iter().filter_map(place).collect()
    }
}

/// An address that one host can have.
fn is_host(address: IpAddr) -> bool {
    let broadcast = matches!(address, IpAddr::V4(v4) if v4.is_broadcast());
    !(address.is_unspecified() || address.is_loopback() || address.is_multicast() || broadcast)
}

#[cfg(test)]
mod tests;
