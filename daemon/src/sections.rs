//! Sections that the files of all daemons have: `[node]` and `[tls]`.
//!
//! A daemon with keys of its own keeps them in sections of its own, so that these two read the same everywhere.

use serde::Deserialize;
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::config::{ConfigError, Loaded};

/// `[node]`: who it is and where it can be reached.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Node {
    /// Name in the network of tables; unique.
    pub name: String,
    /// Where clients register; empty: nobody can.
    #[serde(default)]
    pub listen: Vec<SocketAddr>,
    /// The operator's unix socket.
    pub control: Option<PathBuf>,
    /// `/metrics`, `/healthz` and `/status.json`.
    pub http: Option<SocketAddr>,
}

/// Longest node name in bytes; it goes over the wire with each registration.
const MAX_NAME: usize = 64;

impl Node {
    /// What the types alone cannot say.
    pub fn check<T>(&self, loaded: &Loaded<T>) -> Result<(), ConfigError> {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if self.name.is_empty() || self.name.len() > MAX_NAME || !self.name.bytes().all(fits) {
            return Err(loaded.error(
                &["node".into(), "name".into()],
                format!("expected 1 to {MAX_NAME} letters, digits, '-', '_' or '.', found {:?}", self.name),
            ));
        }
        Ok(())
    }
}

/// `[tls]`: how connections between nodes are protected.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// Plain TCP also to and from other machines.
    #[serde(default)]
    pub insecure: bool,
    /// Own certificate.
    pub cert: Option<PathBuf>,
    /// Its key.
    pub key: Option<PathBuf>,
    /// Who signs peers' certificates.
    pub ca: Option<PathBuf>,
}

impl Tls {
    /// Refuses what this version cannot do, and plain TCP beyond loopback that nobody asked for.
    pub fn check<T>(
        &self,
        loaded: &Loaded<T>,
        addresses: impl IntoIterator<Item = SocketAddr>,
    ) -> Result<(), ConfigError> {
        for (name, given) in [("cert", &self.cert), ("key", &self.key), ("ca", &self.ca)] {
            if given.is_some() {
                return Err(loaded.error(
                    &["tls".into(), name.into()],
                    "TLS is not available in this version; on a trusted network use insecure = true",
                ));
            }
        }
        match addresses.into_iter().find(|address| !address.ip().is_loopback()) {
            Some(address) if !self.insecure => Err(loaded.error(
                &["tls".into(), "insecure".into()],
                format!("{address} is not on loopback: plain TCP there needs insecure = true in [tls]"),
            )),
            _ => Ok(()),
        }
    }

    /// Says at the start that connections are not protected.
    pub fn warn(&self) {
        if self.insecure {
            tracing::warn!(
                "tls.insecure = true: connections between nodes are plain TCP, readable and forgeable"
            );
        }
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
    fn certificates_are_refused_rather_than_ignored() {
        let error = check("[node]\nname = \"a\"\n[tls]\ncert = \"/x\"\n").unwrap_err();
        assert!(error.starts_with("x.toml:4: tls.cert: TLS is not available"), "{error}");
    }

    #[test]
    fn a_name_that_cannot_travel_is_refused() {
        let error = check("[node]\nname = \"a b\"\n").unwrap_err();
        assert!(error.starts_with("x.toml:2: node.name: expected 1 to 64 letters"), "{error}");
    }
}
