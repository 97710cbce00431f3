//! Sections common to the files of several daemons: `[node]`, `[tls]`, `[limits]` and `[scrub]`.
//!
//! Keys of one daemon are in its own sections, so these read the same everywhere.

use ipnet::IpNet;
use serde::Deserialize;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::budgets::Budgets;
use crate::config::{ConfigError, Loaded};
use crate::control::group;

/// `[node]`: name and addresses of this node.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Node {
    /// Node name; unique among all nodes.
    pub name: String,
    /// Listen addresses for clients; empty: no clients.
    #[serde(default)]
    pub listen: Vec<SocketAddr>,
    /// File with the keys of digests, the same on all nodes; none: the public key of the protocol.
    pub digest_key: Option<PathBuf>,
    /// Path of the operator's unix socket.
    pub control: Option<PathBuf>,
    /// Group, by name or number, whose members may use that socket; without it only its owner and root may.
    pub control_group: Option<String>,
    /// Address for `/metrics`, `/healthz` and `/status.json`.
    pub http: Option<SocketAddr>,
    /// Allow `http` beyond loopback: anyone who reaches it can read it.
    #[serde(default)]
    pub http_remote: bool,
    /// Seconds without progress of a thread on the way of a route or a packet after which the process ends, so that its supervisor restarts
    /// it; 0: never.
    #[serde(default = "Node::default_stall_exit_s")]
    pub stall_exit_s: u32,
    /// Addresses of the router itself, which belong to no link: `/32` or `/128`. A key of dataplanes.
    #[serde(default)]
    pub loopback: Vec<IpNet>,
    /// Memory that peers may use.
    #[serde(default)]
    pub limits: Budgets,
    /// Name of the TAP interface in the kernel that has the loopback. A key of dataplanes.
    pub loopback_interface: Option<String>,
}

/// Longest node name in bytes; each registration carries it.
const MAX_NAME: usize = 64;

impl Node {
    fn default_stall_exit_s() -> u32 {
        30
    }

    /// `stall_exit_s`.
    pub fn stall_exit(&self) -> Duration {
        Duration::from_secs(self.stall_exit_s.into())
    }

    /// Checks what types cannot express, in the file of a daemon without ports.
    ///
    /// # Errors
    /// [`ConfigError`] with file, line and key of the first invalid value.
    pub fn check<T>(&self, loaded: &Loaded<T>) -> Result<(), ConfigError> {
        let of_dataplanes = [
            ("loopback", !self.loopback.is_empty()),
            ("loopback_interface", self.loopback_interface.is_some()),
        ];
        if let Some((key, _)) = of_dataplanes.into_iter().find(|(_, given)| *given) {
            let reason = "has no effect here: addresses belong to a dataplane";
            return Err(loaded.error(&["node".into(), key.into()], reason));
        }
        self.check_all_but_loopback(loaded)
    }

    /// The same without `loopback`, which a dataplane compares with its ports.
    ///
    /// # Errors
    /// [`ConfigError`] with file, line and key of the first invalid value.
    pub fn check_all_but_loopback<T>(&self, loaded: &Loaded<T>) -> Result<(), ConfigError> {
        let wrong = |key: &str, reason: String| Err(loaded.error(&["node".into(), key.into()], reason));
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if self.name.is_empty() || self.name.len() > MAX_NAME || !self.name.bytes().all(fits) {
            let expected = format!("expected 1 to {MAX_NAME} letters, digits, '-', '_' or '.'");
            return wrong("name", format!("{expected}, found {:?}", self.name));
        }
        if let Some(name) = &self.control_group {
            if self.control.is_none() {
                return wrong("control_group", "has no effect without control, the socket".into());
            }
            if let Err(reason) = group::find(name) {
                return wrong("control_group", reason);
            }
        }
        match self.http.filter(|http| !http.ip().to_canonical().is_loopback()) {
            Some(http) if !self.http_remote => {
                let reason = "is not on loopback, and has neither passwords nor encryption: expected 127.0.0.1 or [::1]";
                wrong("http", format!("{http} {reason}, or http_remote = true as well"))
            }
            None if self.http_remote => {
                wrong("http_remote", "has no effect: http does not name an address beyond loopback".into())
            }
            _ => self.limits.check(loaded),
        }
    }
}

/// `[tls]`: protection of connections between nodes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// Allow plain TCP to and from other machines.
    #[serde(default)]
    pub insecure: bool,
    /// Own certificate, PEM; its DNS names are the names of this node.
    pub cert: Option<PathBuf>,
    /// Private key, PEM.
    pub key: Option<PathBuf>,
    /// CA of the peers' certificates, PEM.
    pub ca: Option<PathBuf>,
    /// Revoked certificates: CRLs of the CA, PEM.
    pub crl: Option<PathBuf>,
    /// Nodes that may be this node's servers; `*` matches any characters.
    #[serde(default)]
    pub servers: Vec<String>,
    /// Nodes that may register here.
    #[serde(default)]
    pub clients: Vec<AllowedClient>,
}

/// An entry of `[tls] clients`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AllowedClient {
    /// Name of the node; `*` matches any characters.
    pub name: String,
    /// Tables that it may get.
    #[serde(default = "AllowedClient::default_tables")]
    pub tables: Vec<String>,
    /// It may ask for parts of them. The server keeps each part as a table of its own, in `node.limits.views_bytes` of memory.
    #[serde(default)]
    pub subsets: bool,
}

impl AllowedClient {
    fn default_tables() -> Vec<String> {
        vec!["fib".to_owned()]
    }
}

impl Tls {
    /// Whether connections use TLS.
    pub fn is_on(&self) -> bool {
        self.cert.is_some()
    }

    /// Whether a change to `new` needs a restart: anything but lists and files of connections that use TLS before and after.
    pub fn needs_restart(&self, new: &Tls) -> bool {
        self != new && !(self.is_on() && new.is_on())
    }

    /// Refuses an incomplete configuration, and plain TCP beyond loopback without `insecure`.
    ///
    /// # Errors
    /// [`ConfigError`] with file, line and key of what is missing.
    pub fn check<T>(
        &self,
        loaded: &Loaded<T>,
        addresses: impl IntoIterator<Item = SocketAddr>,
    ) -> Result<(), ConfigError> {
        let wrong = |key: &str, reason: String| Err(loaded.error(&["tls".into(), key.into()], reason));
        let files = [("cert", &self.cert), ("key", &self.key), ("ca", &self.ca)];
        let given = files.iter().find(|(_, file)| file.is_some());
        if let (Some((given, _)), Some((missing, _))) = (given, files.iter().find(|(_, f)| f.is_none())) {
            return wrong(given, format!("cert, key and ca go together, but {missing} is missing"));
        }
        if self.crl.is_some() && !self.is_on() {
            return wrong("crl", "has no effect without cert, key and ca".into());
        }
        if self.insecure && self.is_on() {
            return wrong("insecure", "has no effect with a certificate: connections use TLS".into());
        }
        for (i, name) in self.servers.iter().enumerate() {
            if let Err(reason) = check_pattern(name) {
                return Err(loaded.error(&["tls".into(), "servers".into(), i.into()], reason));
            }
        }
        for (i, client) in self.clients.iter().enumerate() {
            let key = |key| ["tls".into(), "clients".into(), i.into(), key];
            if let Err(reason) = check_pattern(&client.name) {
                return Err(loaded.error(&key("name".into()), reason));
            }
            if client.tables.is_empty() {
                return Err(loaded.error(&key("tables".into()), "expected the name of a table, found none"));
            }
        }
        if self.is_on() {
            return Ok(());
        }
        for (key, given) in [("servers", !self.servers.is_empty()), ("clients", !self.clients.is_empty())] {
            if given {
                return wrong(key, "has no effect without cert, key and ca: plain TCP has no names".into());
            }
        }
        match addresses.into_iter().find(|address| !address.ip().is_loopback()) {
            Some(address) if !self.insecure => {
                let reason = format!(
                    "{address} is not on loopback: expected cert, key and ca, or insecure = true for plain TCP"
                );
                wrong("insecure", reason)
            }
            _ => Ok(()),
        }
    }

    /// With certificates, requires the allow lists that a node needs to serve or register.
    ///
    /// # Errors
    /// [`ConfigError`] with the key that is missing.
    pub fn check_lists<T>(
        &self,
        loaded: &Loaded<T>,
        serves: bool,
        registers: bool,
    ) -> Result<(), ConfigError> {
        let missing = |key: &str, reason: &str| Err(loaded.error(&["tls".into(), key.into()], reason));
        if self.is_on() && serves && self.clients.is_empty() {
            return missing(
                "clients",
                "missing: who may register here, for example clients = [{ name = \"nh-*\", tables = [\"fib\"] }]",
            );
        }
        if self.is_on() && registers && self.servers.is_empty() {
            return missing(
                "servers",
                "missing: who may be this node's server, for example servers = [\"rs-*\"]",
            );
        }
        Ok(())
    }

    /// Logs at the start that connections are not protected.
    pub fn warn(&self) {
        if self.insecure {
            tracing::warn!(
                "tls.insecure = true: connections between nodes are plain TCP, readable and forgeable"
            );
        }
    }
}

fn check_pattern(name: &str) -> Result<(), String> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.*".contains(&byte);
    if name.is_empty() || name.len() > MAX_NAME || !name.bytes().all(fits) || name.matches('*').count() > 1 {
        return Err(format!("expected the name of a node, or one with one * in it, found {name:?}"));
    }
    Ok(())
}

/// `[scrub]`: comparison of what forwards with the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Scrub {
    /// Time for comparing everything once, in seconds; 0: never.
    pub pass_s: u64,
}

impl Default for Scrub {
    fn default() -> Self {
        Self { pass_s: 600 }
    }
}

impl Scrub {
    /// Checks what types cannot express.
    ///
    /// # Errors
    /// [`ConfigError`] with file, line and key of an invalid value.
    pub fn check<T>(&self, loaded: &Loaded<T>) -> Result<(), ConfigError> {
        if self.pass_s > 86_400 {
            let reason = format!("expected 0 for never, or at most 86400 seconds, found {}", self.pass_s);
            return Err(loaded.error(&["scrub".into(), "pass_s".into()], reason));
        }
        Ok(())
    }

    /// Time for a pass; none: never.
    pub fn pass(&self) -> Option<Duration> {
        (self.pass_s > 0).then(|| Duration::from_secs(self.pass_s))
    }
}

/// `[limits]`: what peers may consume before they are authenticated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Most accepted connections.
    pub connections: usize,
    /// Most accepted connections of one address.
    pub per_address: usize,
    /// Most accepted connections that have not registered yet.
    pub half_open: usize,
    /// Timeout of the TLS handshake.
    pub handshake_ms: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connections: 4_096, per_address: 1_024, half_open: 1_024, handshake_ms: 5_000 }
    }
}

impl Limits {
    /// Checks what types cannot express.
    ///
    /// # Errors
    /// [`ConfigError`] with file, line and key of the first invalid value.
    pub fn check<T>(&self, loaded: &Loaded<T>) -> Result<(), ConfigError> {
        let counts = [
            ("connections", self.connections as u64, 1, 65_536),
            ("per_address", self.per_address as u64, 1, 65_536),
            ("half_open", self.half_open as u64, 1, 65_536),
            ("handshake_ms", self.handshake_ms, 100, 60_000),
        ];
        for (key, found, least, most) in counts {
            if !(least..=most).contains(&found) {
                let reason = format!("expected {least} to {most}, found {found}");
                return Err(loaded.error(&["limits".into(), key.into()], reason));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct File {
        node: Node,
        #[serde(default)]
        tls: Tls,
        #[serde(default)]
        limits: Limits,
    }

    fn check(text: &str) -> Result<(), String> {
        let loaded = parse::<File>("x.toml".as_ref(), text.to_owned()).map_err(|error| error.to_string())?;
        let file = &loaded.value;
        file.node.check(&loaded).map_err(|error| error.to_string())?;
        file.tls.check(&loaded, file.node.listen.iter().copied()).map_err(|error| error.to_string())
    }

    #[test]
    fn loopback_needs_no_word_about_tls() {
        check("[node]\nname = \"a\"\nlisten = [\"127.0.0.1:7830\", \"[::1]:7830\"]\n").unwrap();
    }

    #[test]
    fn plain_tcp_to_others_must_be_asked_for() {
        let text = "[node]\nname = \"a\"\nlisten = [\"0.0.0.0:7830\"]\n";
        let error = check(text).unwrap_err();
        assert!(error.contains("tls.insecure: 0.0.0.0:7830 is not on loopback"), "{error}");
        check(&format!("{text}[tls]\ninsecure = true\n")).unwrap();
    }

    #[test]
    fn http_beyond_loopback_must_be_asked_for() {
        for here in ["127.0.0.1:9830", "127.1.2.3:9830", "[::1]:9830", "[::ffff:127.0.0.1]:9830"] {
            check(&format!("[node]\nname = \"a\"\nhttp = \"{here}\"\n")).unwrap();
        }
        for there in ["0.0.0.0:9830", "192.0.2.1:9830", "[::]:9830", "[::ffff:192.0.2.1]:9830"] {
            let text = format!("[node]\nname = \"a\"\nhttp = \"{there}\"\n");
            let error = check(&text).unwrap_err();
            assert!(
                error.starts_with(&format!("x.toml:3: node.http: {there} is not on loopback")),
                "{error}"
            );
            assert!(error.ends_with("or http_remote = true as well"), "{error}");
            check(&format!("{text}http_remote = true\n")).unwrap();
        }
        for local in ["", "http = \"127.0.0.1:9830\"\n"] {
            let error = check(&format!("[node]\nname = \"a\"\nhttp_remote = true\n{local}")).unwrap_err();
            assert!(error.starts_with("x.toml:3: node.http_remote: has no effect"), "{error}");
        }
    }

    const FILES: &str = "cert = \"/c\"\nkey = \"/k\"\nca = \"/a\"\n";

    #[test]
    fn half_a_certificate_is_refused() {
        let error = check("[node]\nname = \"a\"\n[tls]\ncert = \"/x\"\n").unwrap_err();
        assert_eq!(error, "x.toml:4: tls.cert: cert, key and ca go together, but key is missing");
    }

    #[test]
    fn certificates_allow_any_address_and_make_insecure_pointless() {
        let text = format!("[node]\nname = \"a\"\nlisten = [\"0.0.0.0:7830\"]\n[tls]\n{FILES}");
        check(&text).unwrap();
        let error = check(&format!("{text}insecure = true\n")).unwrap_err();
        assert!(error.starts_with("x.toml:8: tls.insecure: has no effect with a certificate"), "{error}");
    }

    #[test]
    fn allow_lists_are_checked_and_need_certificates() {
        let error = check("[node]\nname = \"a\"\n[tls]\nservers = [\"rs-*\"]\n").unwrap_err();
        assert!(error.starts_with("x.toml:4: tls.servers: has no effect without cert"), "{error}");
        let with = |list: &str| check(&format!("[node]\nname = \"a\"\n[tls]\n{FILES}{list}\n")).unwrap_err();
        let error = with("servers = [\"rs-a\", \"*-*\"]");
        assert!(error.starts_with("x.toml:7: tls.servers[1]: expected the name of a node"), "{error}");
        let error = with("clients = [{ name = \"a b\" }]");
        assert!(error.starts_with("x.toml:7: tls.clients[0].name: expected the name of a node"), "{error}");
        let error = with("clients = [{ name = \"a\", tables = [] }]");
        assert!(
            error.starts_with("x.toml:7: tls.clients[0].tables: expected the name of a table"),
            "{error}"
        );
    }

    #[test]
    fn a_node_with_certificates_must_say_whom_it_trusts() {
        let text = format!("[node]\nname = \"a\"\n[tls]\n{FILES}");
        let loaded = parse::<File>("x.toml".as_ref(), text).unwrap();
        let error = loaded.value.tls.check_lists(&loaded, true, false).unwrap_err().to_string();
        assert!(error.contains("tls.clients: missing: who may register here"), "{error}");
        let error = loaded.value.tls.check_lists(&loaded, false, true).unwrap_err().to_string();
        assert!(error.contains("tls.servers: missing: who may be this node's server"), "{error}");
    }

    #[test]
    fn limits_out_of_range_are_named() {
        let text = "[node]\nname = \"a\"\n[limits]\nhalf_open = 0\n";
        let loaded = parse::<File>("x.toml".as_ref(), text.to_owned()).unwrap();
        let error = loaded.value.limits.check(&loaded).unwrap_err().to_string();
        assert_eq!(error, "x.toml:4: limits.half_open: expected 1 to 65536, found 0");
    }

    #[test]
    fn budgets_out_of_range_are_named() {
        check("[node]\nname = \"a\"\n[node.limits]\nclients_bytes = 100000000\n").unwrap();
        let error = check("[node]\nname = \"a\"\n[node.limits]\npending_bytes = 48\n").unwrap_err();
        assert!(error.starts_with("x.toml:4: node.limits.pending_bytes: expected 8388608 to"), "{error}");
    }

    #[test]
    fn a_daemon_without_ports_has_no_loopback_of_its_own() {
        let error = check("[node]\nname = \"a\"\nloopback = [\"192.0.2.1/32\"]\n").unwrap_err();
        assert_eq!(error, "x.toml:3: node.loopback: has no effect here: addresses belong to a dataplane");
    }

    #[test]
    fn a_group_for_the_socket_must_exist_and_needs_a_socket() {
        let text = "[node]\nname = \"a\"\ncontrol = \"/run/a.sock\"\n";
        check(&format!("{text}control_group = \"root\"\n")).unwrap();
        let error = check(&format!("{text}control_group = \"no-such-group\"\n")).unwrap_err();
        assert!(error.starts_with("x.toml:4: node.control_group: no group \"no-such-group\""), "{error}");
        let error = check("[node]\nname = \"a\"\ncontrol_group = \"root\"\n").unwrap_err();
        assert_eq!(error, "x.toml:3: node.control_group: has no effect without control, the socket");
    }

    #[test]
    fn a_name_that_cannot_travel_is_refused() {
        let error = check("[node]\nname = \"a b\"\n").unwrap_err();
        assert!(error.starts_with("x.toml:2: node.name: expected 1 to 64 letters"), "{error}");
    }
}
