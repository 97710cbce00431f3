//! `[sync]` of the configuration of an agent or dataplane.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use fibcast_control::status::Role;
use fibcast_daemon::config::{ConfigError, Loaded};
use fibcast_daemon::sections::Tls;
use fibcast_sync_proto::Subset;
use serde::Deserialize;

use crate::checkpoint::{self, Checkpoint};
use crate::digest_key::KeyFile;

/// `[sync]`: the servers that fill the table.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sync {
    /// Servers, at most one of them the primary.
    pub servers: Vec<SyncServer>,
    /// Interval of heartbeats; a server that misses three is considered lost.
    pub heartbeat_ms: u64,
    /// A server that announces commits and brings no progress for this time in milliseconds is left for the next capable one.
    pub progress_ms: u64,
    /// Failback time in seconds: how long the primary must have been capable before it is used again; 0 for never.
    pub failback_s: u64,
    /// Routes are withdrawn from the forwarding plane after this many seconds without a capable server; 0 for never.
    pub expire_s: u64,
    /// The requested subset of the table; all of it by default.
    #[serde(deserialize_with = "super::subset::read")]
    pub subset: Subset,
    /// File in which the table is kept for the next start.
    pub checkpoint: Option<PathBuf>,
    /// Shortest interval in seconds between two checkpoints.
    pub checkpoint_interval_s: u64,
}

impl Default for Sync {
    /// What applies to keys that a file leaves out; no server.
    fn default() -> Self {
        Self {
            servers: Vec::new(),
            heartbeat_ms: 300,
            progress_ms: 3_000,
            failback_s: 30,
            expire_s: 0,
            subset: Subset::default(),
            checkpoint: None,
            checkpoint_interval_s: 30,
        }
    }
}

/// A server of `[sync]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SyncServer {
    /// `host:port`; a name is resolved at each connection.
    pub address: String,
    /// `primary` or `secondary`.
    pub role: Role,
}

impl Sync {
    /// Checks what types cannot express. `prefix` is the path of the section in the file.
    ///
    /// # Errors
    /// [`ConfigError`] with file, line and key of the first invalid value.
    pub fn check<T>(&self, loaded: &Loaded<T>) -> Result<(), ConfigError> {
        let error = |key: &str, reason: String| Err(loaded.error(&["sync".into(), key.into()], reason));
        if self.servers.is_empty() {
            return error("servers", "expected at least one server, found none".into());
        }
        if self.servers.len() > 8 {
            return error("servers", format!("expected at most 8 servers, found {}", self.servers.len()));
        }
        let primaries = self.servers.iter().filter(|s| s.role == Role::Primary).count();
        if primaries > 1 {
            return error("servers", format!("expected at most one primary, found {primaries}"));
        }
        for (i, server) in self.servers.iter().enumerate() {
            let port = server.address.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
            if port.is_none_or(|p| p == 0) {
                return Err(loaded.error(
                    &["sync".into(), "servers".into(), i.into(), "address".into()],
                    format!("expected host:port, found {:?}", server.address),
                ));
            }
            if self.servers.iter().take(i).any(|other| other.address == server.address) {
                return Err(loaded.error(
                    &["sync".into(), "servers".into(), i.into(), "address".into()],
                    format!("{} is listed twice", server.address),
                ));
            }
        }
        if !(50..=10_000).contains(&self.heartbeat_ms) {
            return error("heartbeat_ms", format!("expected 50 to 10000, found {}", self.heartbeat_ms));
        }
        if !(500..=600_000).contains(&self.progress_ms) {
            return error("progress_ms", format!("expected 500 to 600000, found {}", self.progress_ms));
        }
        if !(1..=86_400).contains(&self.checkpoint_interval_s) {
            let found = self.checkpoint_interval_s;
            return error("checkpoint_interval_s", format!("expected 1 to 86400 seconds, found {found}"));
        }
        if self.expire_s != 0 && !(10..=31_536_000).contains(&self.expire_s) {
            return error(
                "expire_s",
                format!("expected 0 for never, or 10 seconds to a year, found {}", self.expire_s),
            );
        }
        if let Some(path) = &self.checkpoint
            && (path.file_name().is_none() || path.is_dir())
        {
            return error("checkpoint", format!("expected a file, found {:?}", path.display().to_string()));
        }
        Ok(())
    }

    /// For `--check-config`: reads the checkpoint, and says what a start would find.
    ///
    /// # Errors
    /// [`ConfigError`] if it is no place for a file.
    pub fn inspect<T>(&self, keys: &KeyFile, loaded: &Loaded<T>) -> Result<Vec<String>, ConfigError> {
        let Some(path) = &self.checkpoint else { return Ok(Vec::new()) };
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        if let Some(file) = folder.filter(|folder| folder.exists() && !folder.is_dir()) {
            let reason = format!("expected a file in a folder, but {} is none", file.display());
            return Err(loaded.error(&["sync".into(), "checkpoint".into()], reason));
        }
        let line = match checkpoint::load(path, super::TABLE, 1, &keys.keys()) {
            Ok(Some(table)) => format!("checkpoint {}: {} records", path.display(), table.len()),
            Ok(None) => format!("checkpoint {}: none yet", path.display()),
            // It prevents no start.
            Err(error) => format!("warning: checkpoint {error}; the start is with an empty table"),
        };
        Ok(vec![line])
    }

    /// Servers in order of preference: the primary first.
    pub(super) fn ordered(&self) -> Vec<SyncServer> {
        let mut servers = self.servers.clone();
        servers.sort_by_key(|s| s.role == Role::Secondary);
        servers
    }

    /// What writes the checkpoint, if one is wanted.
    pub(super) fn checkpoint(&self, table: &str) -> Option<Checkpoint> {
        let interval = Duration::from_secs(self.checkpoint_interval_s);
        self.checkpoint.as_ref().map(|path| Checkpoint::new(path, table, interval))
    }

    /// The failback time as the client machine wants it.
    pub(super) fn failback(&self) -> Option<Duration> {
        (self.failback_s > 0).then(|| Duration::from_secs(self.failback_s))
    }

    /// When routes are withdrawn for want of a capable server.
    pub(super) fn expire(&self) -> Option<Duration> {
        (self.expire_s > 0).then(|| Duration::from_secs(self.expire_s))
    }

    /// Refuses plain TCP to servers beyond loopback without `insecure` (names count as beyond, except `localhost`), and certificates
    /// without a list of allowed servers.
    ///
    /// # Errors
    /// [`ConfigError`] with the address of the server, or the key of `[tls]` that is missing.
    pub fn check_tls<T>(&self, tls: &Tls, loaded: &Loaded<T>) -> Result<(), ConfigError> {
        let mut literal = Vec::new();
        for (i, server) in self.servers.iter().enumerate() {
            match server.address.parse::<SocketAddr>() {
                Ok(address) => literal.push(address),
                Err(_) if tls.is_on() || tls.insecure || server.address.starts_with("localhost:") => {}
                Err(_) => {
                    return Err(loaded.error(
                        &["sync".into(), "servers".into(), i.into(), "address".into()],
                        format!(
                            "{}: a server beyond loopback needs cert, key and ca in [tls], or insecure = true",
                            server.address
                        ),
                    ));
                }
            }
        }
        tls.check(loaded, literal)?;
        tls.check_lists(loaded, false, true)
    }
}
