//! `[sync]` of an agent's configuration, and the configuration file of `fibcast-agent`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use fibcast_control::status::Role;
use fibcast_daemon::config::{ConfigError, Loaded};
use fibcast_daemon::sections::{Limits, Node, Tls};
use fibcast_sync_proto::Subset;
use serde::Deserialize;

use crate::checkpoint::Checkpoint;
use crate::kernel::Kernel;
use crate::shell::tls::Security;

/// `[sync]`: the servers that fill the table.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sync {
    /// Servers, at most one of them the primary.
    pub servers: Vec<SyncServer>,
    /// Interval of heartbeats; a server that misses three is considered lost.
    #[serde(default = "heartbeat_ms")]
    pub heartbeat_ms: u64,
    /// Failback time in seconds: how long the primary must have been capable before it is used again; 0 for never.
    #[serde(default = "failback_s")]
    pub failback_s: u64,
    /// Routes are withdrawn from the forwarding plane after this many seconds without a capable server; 0 for never.
    #[serde(default)]
    pub expire_s: u64,
    /// The requested subset of the table; all of it by default.
    #[serde(default, deserialize_with = "super::subset::read")]
    pub subset: Subset,
    /// File in which the table is kept for the next start.
    pub checkpoint: Option<PathBuf>,
    /// Shortest interval in seconds between two checkpoints.
    #[serde(default = "checkpoint_interval_s")]
    pub checkpoint_interval_s: u64,
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

fn heartbeat_ms() -> u64 {
    300
}

fn checkpoint_interval_s() -> u64 {
    30
}

fn failback_s() -> u64 {
    30
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

    /// Servers in order of preference: the primary first.
    pub fn ordered(&self) -> Vec<SyncServer> {
        let mut servers = self.servers.clone();
        servers.sort_by_key(|s| s.role == Role::Secondary);
        servers
    }

    /// The checkpoint writer, if checkpoints are configured.
    pub fn checkpoint(&self, table: &str) -> Option<Checkpoint> {
        let interval = Duration::from_secs(self.checkpoint_interval_s);
        self.checkpoint.as_ref().map(|path| Checkpoint::new(path, table, interval))
    }

    /// The failback time for the client state machine.
    pub fn failback(&self) -> Option<Duration> {
        (self.failback_s > 0).then(|| Duration::from_secs(self.failback_s))
    }

    /// When routes are withdrawn because there is no capable server.
    pub fn expire(&self) -> Option<Duration> {
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

/// The configuration file of `fibcast-agent`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentFile {
    /// Name and addresses of this node.
    pub node: Node,
    /// The servers that fill the table.
    pub sync: Sync,
    /// Certificates and allow lists.
    #[serde(default)]
    pub tls: Tls,
    /// Limits on what peers may consume.
    #[serde(default)]
    pub limits: Limits,
    /// The kernel table for the routes.
    pub kernel: Option<Kernel>,
}

impl AgentFile {
    /// Checks what types cannot express.
    ///
    /// # Errors
    /// [`ConfigError`] with file, line and key of the first invalid value.
    pub fn check(loaded: &Loaded<Self>) -> Result<(), ConfigError> {
        let file = &loaded.value;
        file.node.check(loaded)?;
        file.sync.check(loaded)?;
        file.tls.check(loaded, file.node.listen.iter().copied())?;
        file.sync.check_tls(&file.tls, loaded)?;
        file.tls.check_lists(loaded, !file.node.listen.is_empty(), true)?;
        file.limits.check(loaded)?;
        file.kernel.as_ref().map_or(Ok(()), |kernel| kernel.check(loaded))?;
        Security::check(&file.tls, &file.node.name, loaded)?;
        for (i, server) in file.sync.servers.iter().enumerate() {
            let own = server.address.parse().is_ok_and(|a: SocketAddr| file.node.listen.contains(&a));
            if own {
                return Err(loaded.error(
                    &["sync".into(), "servers".into(), i.into(), "address".into()],
                    format!("{} is this node's own listen address", server.address),
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fibcast_daemon::config::parse;

    fn check(text: &str) -> Result<(), String> {
        let loaded = parse::<AgentFile>("agent.toml".as_ref(), text.to_owned()).map_err(|e| e.to_string())?;
        AgentFile::check(&loaded).map_err(|e| e.to_string())
    }

    fn with(sync: &str) -> Result<(), String> {
        check(&format!("[node]\nname = \"n\"\n[sync]\n{sync}\n"))
    }

    const ONE: &str = "servers = [{ address = \"127.0.0.1:7830\", role = \"primary\" }]";

    #[test]
    fn smallest_file_is_fine() {
        with(ONE).unwrap();
    }

    #[test]
    fn errors_name_file_line_and_key() {
        let e = with("servers = []").unwrap_err();
        assert_eq!(e, "agent.toml:4: sync.servers: expected at least one server, found none");
        let e = with(&format!("{ONE}\ncheckpoint = \"/\"")).unwrap_err();
        assert_eq!(e, "agent.toml:5: sync.checkpoint: expected a file, found \"/\"");
        let e = with(&format!("{ONE}\ncheckpoint_interval_s = 0")).unwrap_err();
        assert_eq!(e, "agent.toml:5: sync.checkpoint_interval_s: expected 1 to 86400 seconds, found 0");
        let e = with(&format!("{ONE}\nheartbeat_ms = 1")).unwrap_err();
        assert_eq!(e, "agent.toml:5: sync.heartbeat_ms: expected 50 to 10000, found 1");
        let e = with(&format!("{ONE}\nheartbeat = 1")).unwrap_err();
        assert!(e.starts_with("agent.toml:5: sync") && e.contains("heartbeat"), "{e}");
        let e = with("servers = [{ address = \"nowhere\", role = \"primary\" }]").unwrap_err();
        assert!(e.contains("sync.servers[0].address: expected host:port, found \"nowhere\""), "{e}");
        let e = with("servers = [{ address = \"192.0.2.1:7830\", role = \"primary\" }]").unwrap_err();
        assert!(e.contains("or insecure = true"), "{e}");
        let e = with("servers = [{ address = \"rs-a:7830\", role = \"primary\" }]").unwrap_err();
        assert!(e.contains("or insecure = true"), "{e}");
        let two = "servers = [{ address = \"127.0.0.1:1\", role = \"primary\" }, \
                   { address = \"127.0.0.1:2\", role = \"primary\" }]";
        assert!(with(two).unwrap_err().contains("expected at most one primary, found 2"));
    }

    #[test]
    fn the_kernel_table_is_one_of_our_own() {
        let kernel = |lines: &str| with(&format!("{ONE}\n[kernel]\n{lines}"));
        kernel("table = 100\nvrfs = { 7 = 107 }").unwrap();
        for (lines, expected) in [
            ("table = 254", "agent.toml:6: kernel.table: expected a table of our own"),
            ("table = 0", "agent.toml:6: kernel.table: expected a table of our own"),
            ("table = 100\nmetric = 0", "agent.toml:7: kernel.metric: expected 1 or more, found 0"),
            ("table = 100\nvrfs = { red = 7 }", "agent.toml:7: kernel.vrfs: expected numbers of VRFs"),
            ("table = 100\nvrfs = { 7 = 100 }", "agent.toml:7: kernel.vrfs: 7: expected a table of its own"),
            (
                "table = 100\nvrfs = { 7 = 8, 9 = 8 }",
                "agent.toml:7: kernel.vrfs: 7: expected a table of its own",
            ),
        ] {
            let e = kernel(lines).unwrap_err();
            assert!(e.starts_with(expected), "{e}");
        }
    }

    #[test]
    fn node_that_is_its_own_server_is_refused() {
        let e = check(&format!("[node]\nname = \"n\"\nlisten = [\"127.0.0.1:7830\"]\n[sync]\n{ONE}\n"));
        assert!(e.unwrap_err().contains("is this node's own listen address"));
    }
}
