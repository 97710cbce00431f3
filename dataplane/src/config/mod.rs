//! `dataplane.toml`: the sections that this daemon has beside those of all daemons, and what their types alone cannot say.

mod fib;
mod neighbor;
mod port;
mod route;
mod workers;

use std::net::IpAddr;

use fibcast_daemon::config::{ConfigError, Loaded};
use fibcast_daemon::sections::{Limits, Node, Tls};
use fibcast_sync_agent::agent::config::Sync;
use fibcast_sync_agent::shell::tls::Security;
use serde::Deserialize;

use crate::pipeline::icmp_error::Limits as IcmpLimits;
pub use fib::Fib;
pub use neighbor::StaticNeighbor;
pub use port::Port;
pub use route::{Route, Via};
pub use workers::{Spread, Workers};

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

/// VRFs that a table may have ([`fibcast_fib::Limits::max_vrfs`]).
pub(crate) const MAX_VRFS: u32 = 1_024;

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

    /// Place of the port of this name.
    pub fn port_of(&self, name: &str) -> Option<usize> {
        self.ports.iter().position(|port| port.name == name)
    }
}

/// An address that one host can have.
fn is_host(address: IpAddr) -> bool {
    let broadcast = matches!(address, IpAddr::V4(v4) if v4.is_broadcast());
    !(address.is_unspecified() || address.is_loopback() || address.is_multicast() || broadcast)
}

#[cfg(test)]
mod tests;
