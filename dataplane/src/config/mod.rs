//! `dataplane.toml`: the sections of this daemon besides those common to all daemons, and the checks that their types cannot express.

mod fib;
mod loopback;
mod neighbor;
mod port;
mod route;
mod saved;
mod subnets;
mod workers;

use std::net::IpAddr;

use fibcast_daemon::config::{ConfigError, Loaded};
use fibcast_daemon::log::LogKeys;
use fibcast_daemon::reload;
use fibcast_daemon::sections::{Limits, Node, Scrub, Tls};
use fibcast_sync_agent::acknowledge::AcknowledgeKeys;
use fibcast_sync_agent::agent::config::Sync;
use fibcast_sync_agent::digest_key::KeyFile;
use fibcast_sync_agent::shell::tls::Security;
use serde::Deserialize;

use crate::pipeline::icmp_limit::Limits as IcmpLimits;
pub use fib::Fib;
pub use neighbor::StaticNeighbor;
pub use port::Port;
pub use route::{Route, Via};
pub use saved::{SavedRoutes, SavedRoutesKeys};
pub use workers::{SoftwareRssPolicy, Workers};

/// The whole file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Name and addresses of this node.
    pub node: Node,
    /// What is logged, and where.
    #[serde(default)]
    pub log: LogKeys,
    /// How connections between nodes are protected.
    #[serde(default)]
    pub tls: Tls,
    /// Limits on what peers may consume.
    #[serde(default)]
    pub limits: Limits,
    /// Where the table comes from; without it static routes only.
    pub sync: Option<Sync>,
    /// A relay's clients that must have installed what it reports upstream; without it its own workers alone decide.
    pub acknowledge: Option<AcknowledgeKeys>,
    /// Limits of the forwarding table.
    #[serde(default)]
    pub fib: Fib,
    /// Comparison of what forwards with the table.
    #[serde(default)]
    pub scrub: Scrub,
    /// DPDK's environment.
    #[serde(default)]
    pub eal: Eal,
    /// Poll-mode workers.
    pub workers: Workers,
    /// Rate limits of ICMP messages.
    #[serde(default)]
    pub icmp: IcmpLimits,
    /// Rules of forwarding for all ports.
    #[serde(default)]
    pub ip: Ip,
    /// Ports. Their order defines the port indices.
    #[serde(rename = "port")]
    pub ports: Vec<Port>,
    /// Static neighbors.
    #[serde(default, rename = "static_neighbor")]
    pub neighbors: Vec<StaticNeighbor>,
    /// Routes that take precedence over those from servers.
    #[serde(default, rename = "static_route")]
    pub routes: Vec<Route>,
    /// Where operators' own routes are saved.
    #[serde(default)]
    pub saved_routes: SavedRoutesKeys,
}

/// `[eal]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Eal {
    /// Arguments of DPDK's environment, without a program name.
    #[serde(default)]
    pub args: Vec<String>,
}

/// `[ip]`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Ip {
    /// Use class E (240.0.0.0/4 without 255.255.255.255) like other addresses, as Linux does. RFC 1112 §4 reserves it.
    pub allow_class_e: bool,
}

/// VRFs that a table may have ([`fibcast_fib::Limits::max_vrfs`]).
pub(crate) const MAX_VRFS: u32 = 1_024;

impl Config {
    /// All checks that need no device.
    ///
    /// # Errors
    /// [`ConfigError`] with file, line and key of the first invalid value.
    pub fn check(loaded: &Loaded<Config>) -> Result<(), ConfigError> {
        let config = &loaded.value;
        config.node.check_all_but_loopback(loaded)?;
        config.log.check(loaded)?;
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
        config.acknowledge.as_ref().map_or(Ok(()), |acknowledge| acknowledge.check(loaded))?;
        Security::check(&config.tls, &config.node.name, loaded)?;
        KeyFile::check(&config.node, loaded)?;
        config.fib.check(loaded)?;
        config.scrub.check(loaded)?;
        config.check_workers(loaded)?;
        config.check_ports(loaded)?;
        config.check_subnets(loaded)?;
        config.check_loopback(loaded)?;
        config.check_neighbors(loaded)?;
        config.check_routes(loaded)
    }

    /// Whether a new version of the file differs only in what may change at work: static routes, static neighbors, and the allow lists and
    /// files of `[tls]`.
    ///
    /// # Errors
    /// The keys that need a restart, with file and line.
    pub fn may_reload(new: &Loaded<Config>, before: &Loaded<Config>) -> Result<(), String> {
        // All fields: a section that is added later must not be left out here.
        let Config {
            node,
            log,
            tls,
            limits,
            sync,
            acknowledge,
            fib,
            scrub,
            eal,
            workers,
            icmp,
            ip,
            ports,
            neighbors: _,
            routes: _,
            saved_routes,
        } = &before.value;
        let other = &new.value;
        let fixed = [
            ("node", *node != other.node),
            ("tls", tls.needs_restart(&other.tls)),
            ("limits", *limits != other.limits),
            ("sync", *sync != other.sync),
            ("acknowledge", *acknowledge != other.acknowledge),
            ("fib", *fib != other.fib),
            ("scrub", *scrub != other.scrub),
            ("eal", *eal != other.eal),
            ("workers", *workers != other.workers),
            ("icmp", *icmp != other.icmp),
            ("ip", *ip != other.ip),
            ("port", *ports != other.ports),
            ("saved_routes", *saved_routes != other.saved_routes),
        ];
        reload::refuse(new, before, &[&fixed[..], &log.fixed(&other.log)].concat())
    }

    /// Index of the port of this name.
    pub fn port_of(&self, name: &str) -> Option<usize> {
        self.ports.iter().position(|port| port.name == name)
    }
}

/// Whether an address can belong to a single host.
fn is_host(address: IpAddr) -> bool {
    let broadcast = matches!(address, IpAddr::V4(v4) if v4.is_broadcast());
    !(address.is_unspecified() || address.is_loopback() || address.is_multicast() || broadcast)
}

#[cfg(test)]
mod tests;
