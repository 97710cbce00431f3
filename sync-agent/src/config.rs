//! The configuration file of `fibcast-agent`.

use std::net::SocketAddr;

use fibcast_daemon::config::{ConfigError, Loaded};
use fibcast_daemon::log::LogKeys;
use fibcast_daemon::reload;
use fibcast_daemon::sections::{Limits, Node, Scrub, Tls};
use serde::Deserialize;

use crate::acknowledge::AcknowledgeKeys;
use crate::agent::config::Sync;
use crate::digest_key::KeyFile;
use crate::kernel::Kernel;
use crate::shell::tls::Security;

/// The file of `fibcast-agent`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentFile {
    /// Who it is.
    pub node: Node,
    /// What it logs, and where.
    #[serde(default)]
    pub log: LogKeys,
    /// Who fills the table.
    pub sync: Sync,
    /// How connections are protected.
    #[serde(default)]
    pub tls: Tls,
    /// What peers may cost.
    #[serde(default)]
    pub limits: Limits,
    /// Comparison of what forwards with the table.
    #[serde(default)]
    pub scrub: Scrub,
    /// The kernel table that the routes go to.
    pub kernel: Option<Kernel>,
    /// The clients downstream that must have installed what this node reports upstream; without it its own table alone decides.
    pub acknowledge: Option<AcknowledgeKeys>,
}

impl AgentFile {
    /// What types alone cannot say.
    ///
    /// # Errors
    ///
    /// The first key whose value cannot be used, with its line.
    pub fn check(loaded: &Loaded<Self>) -> Result<(), ConfigError> {
        let file = &loaded.value;
        file.node.check(loaded)?;
        file.log.check(loaded)?;
        file.sync.check(loaded)?;
        file.tls.check(loaded, file.node.listen.iter().copied())?;
        file.sync.check_tls(&file.tls, loaded)?;
        file.tls.check_lists(loaded, !file.node.listen.is_empty(), true)?;
        file.limits.check(loaded)?;
        file.scrub.check(loaded)?;
        file.kernel.as_ref().map_or(Ok(()), |kernel| kernel.check(loaded))?;
        file.acknowledge.as_ref().map_or(Ok(()), |acknowledge| acknowledge.check(loaded))?;
        Security::check(&file.tls, &file.node.name, loaded)?;
        KeyFile::check(&file.node, loaded)?;
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

    /// Whether a new version of the file differs only in what may change at work: the allow lists and files of `[tls]`.
    ///
    /// # Errors
    /// The keys that need a restart, with file and line.
    pub fn may_reload(new: &Loaded<Self>, before: &Loaded<Self>) -> Result<(), String> {
        // All fields: a section that is added later must not be left out here.
        let Self { node, log, sync, tls, limits, scrub, kernel, acknowledge } = &before.value;
        let other = &new.value;
        let fixed = [
            ("node", *node != other.node),
            ("sync", *sync != other.sync),
            ("tls", tls.needs_restart(&other.tls)),
            ("limits", *limits != other.limits),
            ("scrub", *scrub != other.scrub),
            ("kernel", *kernel != other.kernel),
            ("acknowledge", *acknowledge != other.acknowledge),
        ];
        reload::refuse(new, before, &[&fixed[..], &log.fixed(&other.log)].concat())
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
        kernel("table = 100\nnext_hop = { ipv4 = \"server\", ipv6 = \"2001:db8::1\" }").unwrap();
        for (lines, expected) in [
            ("table = 254", "agent.toml:6: kernel.table: expected a table of our own"),
            ("table = 0", "agent.toml:6: kernel.table: expected a table of our own"),
            ("table = 100\nmetric = 0", "agent.toml:7: kernel.metric: expected 1 or more, found 0"),
            ("table = 100\nvrfs = { red = 7 }", "agent.toml:7: kernel.vrfs: expected numbers of VRFs"),
            ("table = 100\nvrfs = { 7 = 100 }", "agent.toml:7: kernel.vrfs: 7: expected a table of its own"),
            (
                "table = 100\nnext_hop = \"self\"",
                "agent.toml:7: kernel.next_hop: expected \"keep\", \"server\" or the address of a gateway, found \"self\"",
            ),
            (
                "table = 100\nmetric = 7\nnext_hop = { ipv4 = \"192.0.2.0/24\" }",
                "agent.toml:8: kernel.next_hop.ipv4: expected \"keep\", \"server\" or the address of a gateway, found",
            ),
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
