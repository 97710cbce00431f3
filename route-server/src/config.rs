//! The configuration file `route-server.toml`: contents and checks.

mod peer;
mod source;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::time::Duration;

use fibcast_daemon::config::{ConfigError, Loaded, load};
use fibcast_daemon::sections::{Limits, Node, Tls};
use fibcast_sync_agent::acknowledge::AcknowledgeKeys;
use fibcast_sync_agent::digest_key::KeyFile;
use fibcast_sync_agent::shell::tls::Security;
use fibcast_sync_proto::origins::LEASE;
use serde::Deserialize;

use crate::filter::Filter;
pub use peer::PeerKeys;
use source::filter_of;
pub use source::{PaceKey, SourceKeys, SourcePlan};

/// The configuration file as written.
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
    /// `[acknowledge]`: tells FRR which routes the hosts forward by; without it FRR is told nothing.
    pub acknowledge: Option<AcknowledgeKeys>,
    /// `[[source]]`
    #[serde(default)]
    pub source: Vec<SourceKeys>,
    /// `[[peer]]`
    #[serde(default)]
    pub peer: Vec<PeerKeys>,
}

/// `[sync]`: connections to clients and peers.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sync {
    /// A peer that announces commits and brings no progress for this time in milliseconds is not in sync.
    pub progress_ms: u64,
    /// Interval of heartbeats in milliseconds; a peer that misses three is considered lost.
    pub heartbeat_ms: u64,
}

impl Default for Sync {
    fn default() -> Self {
        Self { heartbeat_ms: 300, progress_ms: 3_000 }
    }
}

/// `[rib]`: rules for the routes of several origins.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rib {
    /// Lease of an own origin in milliseconds: without a newer announcement, other servers consider it dead after this time.
    pub origin_lease_ms: u64,
    /// How long the routes of another server's origin stay after its lease has expired, in milliseconds. They rank after all others.
    pub origin_hold_ms: u64,
    /// The server becomes ready after this time in milliseconds even if a source's or peer's table is incomplete.
    pub ready_timeout_ms: u64,
}

impl Default for Rib {
    fn default() -> Self {
        Self { origin_lease_ms: LEASE.as_millis() as u64, origin_hold_ms: 10_000, ready_timeout_ms: 60_000 }
    }
}

/// A configuration that passed all checks possible without starting.
#[derive(Debug, Clone)]
pub struct Checked {
    /// Content of the file.
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
///
/// # Errors
/// [`ConfigError`] with file, line and key of what is wrong.
pub fn read(path: &Path) -> Result<Checked, ConfigError> {
    let loaded = load(path)?;
    let checked = check(&loaded)?;
    source::check_content(&loaded, &checked.sources)?;
    Ok(checked)
}

/// `[tls]` of a file, for a reload. The files of routes that it names do not matter.
///
/// # Errors
/// [`ConfigError`] with file, line and key of what is wrong.
pub fn tls(path: &Path) -> Result<Tls, ConfigError> {
    Ok(check(&load(path)?)?.config.tls)
}

/// For `--check-config`: checks a file, its certificates' expiry, and the files of routes that it names, all of them; says what these hold, a
/// line for each.
///
/// # Errors
/// [`ConfigError`] with file, line and key of what is wrong.
pub fn inspect(path: &Path) -> Result<Vec<String>, ConfigError> {
    let loaded = load(path)?;
    let checked = check(&loaded)?;
    Security::check_expiry(&loaded.value.tls, &loaded.value.node.name, &loaded)?;
    let mut lines = Vec::new();
    for (at, source) in checked.sources.iter().enumerate() {
        let found = source.kind.inspect().map_err(|reason| {
            loaded.error(&["source".into(), fibcast_daemon::config::Step::At(at), "path".into()], reason)
        })?;
        lines.extend(found.lines().map(|line| format!("source {:?}: {line}", source.origin)));
    }
    Ok(lines)
}

fn check(loaded: &Loaded<Config>) -> Result<Checked, ConfigError> {
    let config = &loaded.value;
    config.node.check(loaded)?;
    let listen = config.node.listen.iter().copied();
    config.tls.check(loaded, listen.chain(config.peer.iter().filter_map(|p| p.address.parse().ok())))?;
    config.tls.check_lists(loaded, !config.node.listen.is_empty(), !config.peer.is_empty())?;
    config.limits.check(loaded)?;
    Security::check(&config.tls, &config.node.name, loaded)?;
    KeyFile::check(&config.node, loaded)?;
    if !(50..=60_000).contains(&config.sync.heartbeat_ms) {
        let reason = format!("expected 50 to 60000 milliseconds, found {}", config.sync.heartbeat_ms);
        return Err(loaded.error(&["sync".into(), "heartbeat_ms".into()], reason));
    }
    if !(500..=600_000).contains(&config.sync.progress_ms) {
        let reason = format!("expected 500 to 600000 milliseconds, found {}", config.sync.progress_ms);
        return Err(loaded.error(&["sync".into(), "progress_ms".into()], reason));
    }
    if !(100..=600_000).contains(&config.rib.origin_lease_ms) {
        let reason = format!("expected 100 to 600000 milliseconds, found {}", config.rib.origin_lease_ms);
        return Err(loaded.error(&["rib".into(), "origin_lease_ms".into()], reason));
    }
    config.acknowledge.as_ref().map_or(Ok(()), |acknowledge| acknowledge.check(loaded))?;
    peer::check(loaded, &config.peer, &config.node, &config.tls)?;
    let sources = source::check(loaded, &config.source)?;
    Ok(Checked { config: config.clone(), sources })
}
