//! The file `route-server.toml`: what it may say, and what of it is wrong.

mod peer;
mod source;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::time::Duration;

use fibcast_daemon::config::{ConfigError, Loaded, load};
use fibcast_daemon::sections::{Limits, Node, Tls};
use fibcast_sync_agent::shell::tls::Security;
use fibcast_sync_proto::origins::LEASE;
use serde::Deserialize;

use crate::filter::Filter;
pub use peer::Peer;
use source::filter_of;
pub use source::{PaceKey, Source, SourcePlan};

/// The file as it is written.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// `[node]`
    pub node: Node,
    /// `[tls]`
    #[serde(default)]
    pub tls: Tls,
    /// `[limits]`
    #[serde(default)]
    pub limits: Limits,
    /// `[sync]`
    #[serde(default)]
    pub sync: Sync,
    /// `[rib]`
    #[serde(default)]
    pub rib: Rib,
    /// `[[source]]`
    #[serde(default)]
    pub source: Vec<Source>,
    /// `[[peer]]`
    #[serde(default)]
    pub peer: Vec<Peer>,
}

/// `[sync]`: connections to clients and peers.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sync {
    /// Distance of heartbeats; three missed, and the other side is taken for gone.
    pub heartbeat_ms: u64,
}

impl Default for Sync {
    fn default() -> Self {
        Self { heartbeat_ms: 300 }
    }
}

/// `[rib]`: how routes of several origins live together.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rib {
    /// Without a sign of life of an own origin for so long, other servers take it for dead.
    pub origin_lease_ms: u64,
    /// For so long the routes of another server's origin stay after its lease is over, ranked after all others.
    pub origin_hold_ms: u64,
    /// After this time the server is ready also without a source's or a peer's whole table.
    pub ready_timeout_ms: u64,
}

impl Default for Rib {
    fn default() -> Self {
        Self { origin_lease_ms: LEASE.as_millis() as u64, origin_hold_ms: 10_000, ready_timeout_ms: 60_000 }
    }
}

/// A configuration that was checked as far as that goes without starting.
#[derive(Debug, Clone)]
pub struct Checked {
    /// The file's content.
    pub config: Config,
    /// Its sources, in order.
    pub sources: Vec<SourcePlan>,
}

impl Checked {
    /// What of source `at` is let in.
    pub(crate) fn filter(&self, at: usize) -> Filter {
        // The file was checked: there is no error in it.
        self.config.source.get(at).and_then(|source| filter_of(source).ok()).unwrap_or_default()
    }

    /// See `[rib] origin_lease_ms`.
    pub(crate) fn origin_lease(&self) -> Duration {
        Duration::from_millis(self.config.rib.origin_lease_ms)
    }

    /// See `[rib] origin_hold_ms`.
    pub(crate) fn origin_hold(&self) -> Duration {
        Duration::from_millis(self.config.rib.origin_hold_ms)
    }
}

/// Reads and checks a file.
pub fn read(path: &Path) -> Result<Checked, ConfigError> {
    check(load(path)?)
}

fn check(loaded: Loaded<Config>) -> Result<Checked, ConfigError> {
    let config = &loaded.value;
    config.node.check(&loaded)?;
    let listen = config.node.listen.iter().copied();
    config.tls.check(&loaded, listen.chain(config.peer.iter().filter_map(|p| p.address.parse().ok())))?;
    config.tls.check_lists(&loaded, !config.node.listen.is_empty(), !config.peer.is_empty())?;
    config.limits.check(&loaded)?;
    Security::check(&config.tls, &config.node.name, &loaded)?;
    if !(50..=60_000).contains(&config.sync.heartbeat_ms) {
        let reason = format!("expected 50 to 60000 milliseconds, found {}", config.sync.heartbeat_ms);
        return Err(loaded.error(&["sync".into(), "heartbeat_ms".into()], reason));
    }
    if !(100..=600_000).contains(&config.rib.origin_lease_ms) {
        let reason = format!("expected 100 to 600000 milliseconds, found {}", config.rib.origin_lease_ms);
        return Err(loaded.error(&["rib".into(), "origin_lease_ms".into()], reason));
    }
    peer::check(&loaded, &config.peer, &config.node, &config.tls)?;
    let sources = source::check(&loaded, &config.source)?;
    Ok(Checked { config: config.clone(), sources })
}
