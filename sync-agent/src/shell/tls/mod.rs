//! TLS 1.3 between nodes: both sides present certificates of one CA, and names decide what a peer may do.
//!
//! [`Security`] holds a node's certificate, CA and allow lists. `load` reads the files, `names` matches the DNS names of a peer's
//! certificate against the lists, `explain` describes rustls errors to operators. The sync state machines are not involved: the shell
//! passes them bytes only once the peer is authenticated.
//!
//! Sessions are never resumed: each connection presents its certificates again, so new files, an expiry or another CA take effect at once.

mod explain;
mod load;
mod names;

use std::sync::{Arc, PoisonError, RwLock};

use fibcast_daemon::config::{ConfigError, Loaded};
use fibcast_daemon::exit::Failure;
use fibcast_daemon::sections::Tls;
use fibcast_daemon::signals;
use fibcast_sync_proto::node::is_named;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, Connection, ServerConfig, ServerConnection};

pub(super) use explain::{explain, looks_like_tls};
pub(super) use load::BUFFER;
pub use load::TlsError;
pub(super) use names::names_of;

/// Certificate, key and CA in use.
#[derive(Debug)]
struct Identity {
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
}

/// How a node protects its connections.
#[derive(Debug)]
pub struct Security {
    config: Tls,
    node: String,
    identity: RwLock<Arc<Identity>>,
}

impl Security {
    /// Loads the files named in `[tls]`. None if it names none: plain TCP.
    ///
    /// # Errors
    /// [`TlsError`] with the key and the file that cannot be used.
    pub fn load(tls: &Tls, node: &str) -> Result<Option<Arc<Self>>, TlsError> {
        let Some(identity) = load::identity(tls, node)? else { return Ok(None) };
        let identity = RwLock::new(Arc::new(identity));
        Ok(Some(Arc::new(Self { config: tls.clone(), node: node.to_owned(), identity })))
    }

    /// Checks that the files can be used.
    ///
    /// # Errors
    /// [`ConfigError`] with the configuration's line and key.
    pub fn check<T>(tls: &Tls, node: &str, loaded: &Loaded<T>) -> Result<(), ConfigError> {
        Self::load(tls, node)
            .map(|_| ())
            .map_err(|error| loaded.error(&["tls".into(), error.key.into()], error.reason))
    }

    /// Loads the files at a daemon's start, and again at each SIGHUP. Logs if connections are not protected.
    ///
    /// # Errors
    /// [`Failure`] if a file cannot be used, or SIGHUP cannot be handled.
    pub fn open(tls: &Tls, node: &str) -> Result<Option<Arc<Self>>, Failure> {
        tls.warn();
        let security = Self::load(tls, node).map_err(Failure::work)?;
        let reloaded = security.clone();
        signals::on_hangup(move || match &reloaded {
            Some(security) => security.reload(),
            None => tracing::info!("SIGHUP: there are no certificates to reload"),
        })
        .map_err(|error| Failure::work(format!("signals: {error}")))?;
        Ok(security)
    }

    /// Reloads the files. Open connections keep theirs; after an error nothing changes.
    pub fn reload(&self) {
        match load::identity(&self.config, &self.node) {
            Ok(Some(identity)) => {
                *self.identity.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(identity);
                tracing::info!("reloaded the certificates; new connections use them");
            }
            Ok(None) => {}
            Err(error) => {
                tracing::error!("cannot reload the certificates, keeping the old ones: {error}");
            }
        }
    }

    fn identity(&self) -> Arc<Identity> {
        Arc::clone(&self.identity.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The server end of a connection.
    pub(super) fn accept(&self) -> Result<Connection, String> {
        let server = ServerConnection::new(Arc::clone(&self.identity().server));
        server.map(Connection::Server).map_err(|e| explain(&e))
    }

    /// The client end of a connection.
    pub(super) fn connect(&self) -> Result<Connection, String> {
        // The server's identity follows from its certificate and the allow list, not from its address; no name is sent.
        let name = ServerName::IpAddress(std::net::Ipv4Addr::UNSPECIFIED.into());
        let client = ClientConnection::new(Arc::clone(&self.identity().client), name);
        client.map(Connection::Client).map_err(|e| explain(&e))
    }

    /// Whether nodes with these names may be this node's servers.
    pub(super) fn may_serve(&self, names: &[String]) -> Result<(), String> {
        if names.iter().any(|name| self.config.servers.iter().any(|p| names::matches(p, name))) {
            return Ok(());
        }
        Err(format!("its certificate is for {}, which tls.servers does not allow", names.join(", ")))
    }

    /// Whether nodes with these names may register here at all.
    pub(super) fn may_register(&self, names: &[String]) -> Result<(), String> {
        if names.iter().any(|name| self.config.clients.iter().any(|c| names::matches(&c.name, name))) {
            return Ok(());
        }
        Err(format!("its certificate is for {}, which tls.clients does not allow", names.join(", ")))
    }

    /// Whether the name that a node claims is in its certificate, and may have the table.
    pub(super) fn may_have(&self, names: &[String], name: &str, table: &str) -> Result<(), String> {
        is_named(names, name)?;
        let allowed = |c: &&fibcast_daemon::sections::AllowedClient| names::matches(&c.name, name);
        if self.config.clients.iter().filter(allowed).any(|c| c.tables.iter().any(|t| belongs(table, t))) {
            return Ok(());
        }
        Err(format!("{name} may not have the table {table}: tls.clients does not allow it"))
    }
}

/// Whether a table is the allowed one or below it: a node that may have `rib` may have the table of each origin, `rib/…`.
fn belongs(table: &str, allowed: &str) -> bool {
    table.strip_prefix(allowed).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The names in the peer's certificate of a connection.
pub(super) fn peer_names(connection: &Connection) -> Result<Vec<String>, String> {
    let certificate: &CertificateDer<'_> = connection
        .peer_certificates()
        .and_then(|chain| chain.first())
        .ok_or_else(|| "it presented no certificate".to_owned())?;
    names_of(certificate)
}

#[cfg(test)]
mod tests {
    use super::belongs;

    #[test]
    fn tables_of_origins_go_with_the_catalog_and_no_other_table_does() {
        assert!(belongs("fib", "fib") && belongs("rib", "rib") && belongs("rib/00112233", "rib"));
        assert!(!belongs("ribs", "rib") && !belongs("rib", "rib/0") && !belongs("fib", "rib"));
    }
}
