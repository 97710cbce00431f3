//! `dataplane.toml`: the sections that this daemon has beside those of all daemons, and what their types alone cannot say.

mod fib;

use std::collections::HashSet;
use std::net::IpAddr;

use fibcast_daemon::config::{ConfigError, Loaded, Step};
use fibcast_daemon::sections::{Limits, Node, Tls};
use fibcast_fib::{Group, Member, NextHop, PortId, VrfId};
use fibcast_sync_agent::agent::config::Sync;
use fibcast_sync_agent::shell::tls::Security;
use ipnet::IpNet;
use serde::{Deserialize, Deserializer};

use crate::control::PortSetup;
use crate::control::own_routes::StaticRoute;
use crate::host_path::name_of;
use crate::packet::ethernet::Mac;
use crate::pipeline::icmp_error::Limits as IcmpLimits;
use crate::pipeline::port::{Link, ReversePath};
use crate::worker::idle::Policy;
pub use fib::Fib;

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
    /// What the table may grow to.
    #[serde(default)]
    pub fib: Fib,
    /// DPDK's environment.
    #[serde(default)]
    pub eal: Eal,
    /// Poll-mode workers.
    pub workers: Workers,
    /// How many ICMP errors are sent.
    #[serde(default)]
    pub icmp: IcmpLimits,
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
    /// Flows of a port with fewer receive queues than there are workers.
    #[serde(default)]
    pub spread: Spread,
    /// Packets that wait for each transmit queue that takes no more.
    #[serde(default = "Workers::default_backlog")]
    pub tx_backlog: usize,
}

/// Whether the worker that polls a queue shares its flows with the others.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Spread {
    /// Where some worker would have no queue at all.
    #[default]
    Auto,
    /// Of each port that has fewer queues than there are workers.
    On,
    /// Never: a queue's packets are its worker's.
    Off,
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
    /// DPDK devargs or PCI address; none for a sub-interface.
    pub device: Option<String>,
    /// The port that this is a VLAN sub-interface of.
    pub parent: Option<String>,
    /// Its VLAN (IEEE 802.1Q), 1 to 4094.
    pub vlan: Option<u16>,
    /// Routing and forwarding instance.
    #[serde(default)]
    pub vrf: u32,
    /// Reverse-path check of sources: `off`, `loose` or `strict`.
    #[serde(default)]
    pub reverse_path: ReversePath,
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
    /// Routing and forwarding instance.
    #[serde(default)]
    pub vrf: u32,
    /// Gateway, or several that share the traffic.
    pub via: Option<Via>,
    /// Name of the gateways' port, where their addresses do not say it.
    pub port: Option<String>,
    /// Shares of the gateways, in their order; left out: equal.
    #[serde(default)]
    pub weights: Vec<u16>,
    /// Drop in silence.
    #[serde(default)]
    pub blackhole: bool,
    /// Drop, and say that the host is unreachable.
    #[serde(default)]
    pub unreachable: bool,
    /// Drop, and say that it is prohibited.
    #[serde(default)]
    pub prohibit: bool,
}

/// One gateway or several.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged, expecting = "expected an address or a list of addresses")]
pub enum Via {
    /// All traffic.
    One(IpAddr),
    /// By flow.
    Many(Vec<IpAddr>),
}

impl Via {
    /// The gateways.
    pub fn gateways(&self) -> &[IpAddr] {
        match self {
            Via::One(gateway) => std::slice::from_ref(gateway),
            Via::Many(gateways) => gateways,
        }
    }
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
/// As the table has them ([`fibcast_fib::Limits::max_vrfs`]).
const MAX_VRFS: u32 = 1_024;

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
        config.fib.check(loaded)?;
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
        let (mut tags, mut twins) = (HashSet::new(), HashSet::new());
        for (place, port) in self.ports.iter().enumerate() {
            let wrong =
                |key: &str, reason: String| loaded.error(&["port".into(), place.into(), key.into()], reason);
            if port.name.is_empty() || !names.insert(&port.name) {
                return Err(wrong("name", format!("expected a name of its own, found {:?}", port.name)));
            }
            match (&port.device, &port.parent, port.vlan) {
                (Some(device), None, None) => {
                    let device = device.split(',').next().unwrap_or_default();
                    if device.is_empty() || !devices.insert(device) {
                        return Err(wrong(
                            "device",
                            format!("expected a device of its own, found {device:?}"),
                        ));
                    }
                }
                (None, Some(parent), Some(vlan)) => {
                    let found = self.ports.iter().find(|port| port.name == *parent);
                    if found.is_none_or(|parent| parent.device.is_none()) {
                        return Err(wrong(
                            "parent",
                            format!("expected the name of a [[port]] with a device, found {parent:?}"),
                        ));
                    }
                    if !(1..=4_094).contains(&vlan) || !tags.insert((parent, vlan)) {
                        return Err(wrong(
                            "vlan",
                            format!("expected a VLAN from 1 to 4094 that {parent} has once, found {vlan}"),
                        ));
                    }
                    if found.is_some_and(|parent| parent.mtu < port.mtu) {
                        let reason = format!("expected at most that of {parent}, found {}", port.mtu);
                        return Err(wrong("mtu", reason));
                    }
                }
                _ => {
                    return Err(wrong(
                        "device",
                        "expected either a device, or parent and vlan of a sub-interface".to_owned(),
                    ));
                }
            }
            if port.vrf >= MAX_VRFS {
                return Err(wrong("vrf", format!("expected a number below {MAX_VRFS}, found {}", port.vrf)));
            }
            if port.mtu < MIN_MTU {
                return Err(wrong("mtu", format!("expected at least {MIN_MTU}, found {}", port.mtu)));
            }
            if port.host_path && !twins.insert(name_of(&port.name)) {
                let reason = format!("another port's twin is called {} already", name_of(&port.name));
                return Err(wrong("host_path", reason));
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
                if !addresses.insert((port.vrf, address.addr())) {
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
            let port = self.neighbor(neighbor).map_err(|(key, reason)| wrong(key, reason))?;
            if !seen.insert((port, neighbor.ip)) {
                return Err(wrong("ip", format!("{} stands twice", neighbor.ip)));
            }
        }
        Ok(())
    }

    /// The place of a static neighbour's port; what is wrong with it comes with its key.
    pub fn neighbor(&self, neighbor: &StaticNeighbor) -> Result<usize, (&'static str, String)> {
        let Some(port) = self.port_of(&neighbor.port) else {
            return Err(("port", format!("expected the name of a [[port]], found {:?}", neighbor.port)));
        };
        if !is_host(neighbor.ip) {
            return Err(("ip", format!("expected a host's address, found {}", neighbor.ip)));
        }
        if !neighbor.mac.is_unicast() {
            return Err(("mac", format!("expected the address of one station, found {}", neighbor.mac)));
        }
        Ok(port)
    }

    fn check_routes(&self, loaded: &Loaded<Config>) -> Result<(), ConfigError> {
        let mut seen = HashSet::new();
        for (place, route) in self.routes.iter().enumerate() {
            let wrong = |key: &str, reason: String| {
                loaded.error(&["static_route".into(), place.into(), key.into()], reason)
            };
            if !seen.insert((route.vrf, route.prefix)) {
                return Err(wrong("prefix", format!("{} stands twice", route.prefix)));
            }
            self.route(route).map_err(|(key, reason)| wrong(key, reason))?;
        }
        Ok(())
    }

    /// A route as the control side wants it; what is wrong with it comes with its key.
    pub fn route(&self, route: &Route) -> Result<StaticRoute, (&'static str, String)> {
        if route.prefix.trunc() != route.prefix {
            return Err(("prefix", format!("expected {}, found host bits set", route.prefix.trunc())));
        }
        if route.vrf >= MAX_VRFS {
            return Err(("vrf", format!("expected a number below {MAX_VRFS}, found {}", route.vrf)));
        }
        if let Some(name) = &route.port
            && self.port_of(name).is_none()
        {
            return Err(("port", format!("expected the name of a [[port]], found {name:?}")));
        }
        let gateways = route.via.as_ref().map_or(&[][..], Via::gateways);
        // RFC 8950: IPv4 packets may go to an IPv6 next hop, not the other way round.
        let unfit = |via: &&IpAddr| via.is_ipv4() && matches!(route.prefix, IpNet::V6(_)) || !is_host(**via);
        if let Some(via) = gateways.iter().find(unfit) {
            return Err(("via", format!("expected a gateway for {}, found {via}", route.prefix)));
        }
        if let Some(via) = gateways.iter().find(|via| is_link_local(**via) && route.port.is_none()) {
            return Err(("port", format!("every link has {via}: expected the port's name as well")));
        }
        if !route.weights.is_empty() && route.weights.len() != gateways.len() {
            let (expected, found) = (gateways.len(), route.weights.len());
            return Err(("weights", format!("expected one for each of {expected}, found {found}")));
        }
        let group = self.group_of(route).map_err(|reason| ("via", reason))?;
        Ok(StaticRoute { vrf: VrfId(route.vrf), prefix: route.prefix, group })
    }

    /// What a route of the file leads to.
    fn group_of(&self, route: &Route) -> Result<Group, String> {
        let port = route.port.as_ref().and_then(|name| self.port_of(name)).map(|place| PortId(place as u16));
        let groups = [
            (route.blackhole, Group::Blackhole),
            (route.unreachable, Group::Unreachable),
            (route.prohibit, Group::Prohibit),
        ];
        let mut chosen: Vec<Group> =
            groups.into_iter().filter(|(asked, _)| *asked).map(|(_, group)| group).collect();
        if let Some(via) = &route.via {
            let weights = route.weights.iter().copied().chain(std::iter::repeat(1));
            let member = |(gateway, weight): (&IpAddr, u16)| Member {
                next_hop: NextHop { gateway: Some(*gateway), port },
                weight,
            };
            let members = via.gateways().iter().zip(weights).map(member).collect();
            chosen.push(Group::hops(members).map_err(|error| error.to_string())?);
        }
        match (chosen.len(), chosen.pop()) {
            (1, Some(group)) => Ok(group),
            _ => Err("expected one of via, blackhole = true, unreachable = true, prohibit = true".to_owned()),
        }
    }

    /// Place of the port of this name.
    pub fn port_of(&self, name: &str) -> Option<usize> {
        self.ports.iter().position(|port| port.name == name)
    }

    /// `[[static_route]]` as the control side wants it.
    pub fn static_routes(&self) -> Vec<StaticRoute> {
        self.routes.iter().filter_map(|route| self.route(route).ok()).collect()
    }

    /// `[[port]]` as the control side wants it; `macs` are those of the devices, by place of the port.
    pub fn port_setups(&self, macs: &[Mac]) -> Vec<PortSetup> {
        let setup = |(place, port): (usize, &Port)| {
            let parent = port.parent.as_ref().and_then(|name| self.port_of(name));
            let device = parent.unwrap_or(place);
            PortSetup {
                name: port.name.clone(),
                mac: macs.get(device).copied().unwrap_or_default(),
                addresses: port.addresses.clone(),
                mtu: port.mtu,
                vrf: VrfId(port.vrf),
                link: Link { device: device as u16, vlan: port.vlan },
                reverse_path: port.reverse_path,
                host_path: port.host_path,
            }
        };
        self.ports.iter().enumerate().map(setup).collect()
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

fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(v6) if crate::packet::ipv6::is_link_local(v6))
}

#[cfg(test)]
mod tests;
