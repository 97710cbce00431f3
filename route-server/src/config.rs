//! The configuration file `route-server.toml`: contents and checks.

mod peer;
mod reload;
mod source;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::time::Duration;

use fibcast_daemon::config::{ConfigError, Loaded, load};
use fibcast_daemon::log::LogKeys;
use fibcast_daemon::sections::{Limits, Node, Tls};
use fibcast_sync_agent::acknowledge::AcknowledgeKeys;
use fibcast_sync_agent::digest_key::KeyFile;
use fibcast_sync_agent::shell::tls::Security;
use fibcast_sync_proto::origins::LEASE;
use serde::Deserialize;

use crate::filter::Filter;
use crate::source::Content;
pub use peer::PeerKeys;
pub use reload::{Changes, SourceChange, changes};
use source::filter_of;
pub(crate) use source::read_content;
pub use source::{PaceKey, SourceKeys, SourcePlan};

/// The configuration file as written.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// `[node]`
    pub node: Node,
    /// `[log]`
    #[serde(default)]
    pub log: LogKeys,
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
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
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
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
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

/// The file with its text.
pub type LoadedConfig = Loaded<Config>;

/// A file that was read and checked, with the routes of its `static` sources.
pub struct File {
    /// The file as it is.
    pub loaded: LoadedConfig,
    /// What it means.
    pub checked: Checked,
    /// What was read of the sources' files, in the order of the sources.
    pub contents: Vec<Option<Content>>,
}

/// Reads and checks a file, and the files of routes that it names: those of `static` sources as a whole, of tables the beginning. What is wrong
/// with them is better known before the start than after it.
///
/// # Errors
/// [`ConfigError`] with file, line and key of what is wrong.
pub fn read(path: &Path) -> Result<File, ConfigError> {
    let loaded = load(path)?;
    let checked = check(&loaded)?;
    let contents = source::read_contents(&loaded, &checked.sources)?;
    Ok(File { loaded, checked, contents })
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
    for (at, SourcePlan { origin, kind, .. }) in checked.sources.iter().enumerate() {
        if let Some(content) = source::read_content(&loaded, at, kind)? {
            let found = kind.describe(&content);
            lines.extend(found.lines().map(|line| format!("source {origin:?}: {line}")));
        }
    }
    Ok(lines)
}

/// What a file means, without a look into the files of routes that it names.
///
/// # Errors
/// [`ConfigError`] with file, line and key of what is wrong.
pub fn check(loaded: &Loaded<Config>) -> Result<Checked, ConfigError> {
    let config = &loaded.value;
    config.node.check(loaded)?;
    config.log.check(loaded)?;
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
