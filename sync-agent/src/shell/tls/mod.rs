//! TLS 1.3 between nodes: both sides present certificates of one CA, and names decide what a peer may do.
//!
//! [`Security`] holds a node's certificate, CA and allow lists. `load` reads the files, `names` matches the DNS names of a peer's
//! certificate against the lists, `explain` describes rustls errors to operators. The sync state machines are not involved: the shell
//! passes them bytes only once the peer is authenticated.
//!
//! Sessions are never resumed: each connection presents its certificates again. After a reload live connections are judged again as well,
//! by their certificates and the new lists, CA and CRLs (`trust`), on the loop's thread and some at a time; files are read on the thread
//! that asks for the reload. `expiry` tells what expires when.

mod expiry;
mod explain;
mod load;
mod names;
mod trust;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use fibcast_control::status::CertificateStatus;
use fibcast_daemon::config::{ConfigError, Loaded};
use fibcast_daemon::sections::{AllowedClient, Tls};
use fibcast_sync_proto::node::is_named;
use fibcast_sync_proto::server::Permit;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, Connection, ServerConfig, ServerConnection};

use super::context::ShellWaker;
use expiry::Expiry;
pub(super) use explain::{explain, looks_like_tls};
pub(super) use load::BUFFER;
pub use load::TlsError;
pub(super) use names::names_of;
pub(super) use trust::End;
use trust::Trust;

/// What was loaded from the files of `[tls]`.
#[derive(Debug)]
struct Identity {
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
    trust: Arc<Trust>,
    expiries: Vec<Expiry>,
}

/// Allow lists and certificates in use.
#[derive(Debug)]
struct Rules {
    lists: Tls,
    identity: Identity,
}

/// Allow lists and certificates that were read, and are not in force yet.
#[derive(Debug)]
pub struct NewRules(Rules);

/// How a node protects its connections.
pub struct Security {
    node: String,
    rules: RwLock<Arc<Rules>>,
    /// Incremented when the rules change.
    generation: AtomicU64,
    /// Loops that judge their connections again.
    wakers: Mutex<Vec<ShellWaker>>,
}

impl std::fmt::Debug for Security {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Security").field("node", &self.node).finish_non_exhaustive()
    }
}

impl Security {
    /// Loads the files named in `[tls]`. None if it names none: plain TCP.
    ///
    /// # Errors
    /// [`TlsError`] with the key and the file that cannot be used.
    pub fn load(tls: &Tls, node: &str) -> Result<Option<Arc<Self>>, TlsError> {
        let Some(identity) = load::identity(tls, node)? else { return Ok(None) };
        Ok(Some(Arc::new(Self {
            node: node.to_owned(),
            rules: RwLock::new(Arc::new(Rules { lists: tls.clone(), identity })),
            generation: AtomicU64::new(1),
            wakers: Mutex::default(),
        })))
    }

    /// Checks that the files can be used.
    ///
    /// # Errors
    /// [`ConfigError`] with the configuration's line and key.
    pub fn check<T>(tls: &Tls, node: &str, loaded: &Loaded<T>) -> Result<(), ConfigError> {
        load::identity(tls, node).map(|_| ()).map_err(|error| error.within(loaded))
    }

    /// For `--check-config`: prints what expires within 30 days.
    ///
    /// # Errors
    /// [`ConfigError`] with the key of the file that has expired. A daemon starts with it nevertheless: it may forward by what it has.
    pub fn check_expiry<T>(tls: &Tls, node: &str, loaded: &Loaded<T>) -> Result<(), ConfigError> {
        let identity = load::identity(tls, node).map_err(|error| error.within(loaded))?;
        let (all, now) = (identity.map(|identity| identity.expiries).unwrap_or_default(), expiry::today());
        if let Some(over) = expiry::expired(&all, now) {
            let text = over.warning(now).unwrap_or_default();
            let text = text.strip_prefix(&format!("tls.{}: ", over.key)).unwrap_or(&text).to_owned();
            return Err(TlsError { key: over.key, reason: text }.within(loaded));
        }
        all.iter().filter_map(|expiry| expiry.warning(now)).for_each(|text| eprintln!("warning: {text}"));
        Ok(())
    }

    /// Reads a new `[tls]` with its certificates, CA and CRLs. Nothing changes before [`Self::replace`]. Blocks while files are read.
    ///
    /// # Errors
    /// [`TlsError`] with the key and the file that cannot be used.
    pub fn read(&self, tls: &Tls) -> Result<NewRules, TlsError> {
        let none = || TlsError { key: "cert", reason: "missing: plain TCP needs a restart".to_owned() };
        let identity = load::identity(tls, &self.node)?.ok_or_else(none)?;
        Ok(NewRules(Rules { lists: tls.clone(), identity }))
    }

    /// Puts new rules in force: new connections use them, and live ones that they do not permit are closed.
    pub fn replace(&self, NewRules(rules): NewRules) {
        *self.rules.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(rules);
        self.generation.fetch_add(1, Ordering::AcqRel);
        tracing::info!("reloaded allow lists and certificates; live sessions are judged by them");
        self.warn_of_expiry();
        self.wakers.lock().unwrap_or_else(PoisonError::into_inner).iter().for_each(ShellWaker::wake);
    }

    /// A loop that is to judge its connections again after a reload.
    pub(super) fn add_waker(&self, waker: ShellWaker) {
        let mut wakers = self.wakers.lock().unwrap_or_else(PoisonError::into_inner);
        // Those of loops that have ended.
        wakers.retain(ShellWaker::is_used);
        wakers.push(waker);
    }

    /// Number of the rules in use.
    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    fn rules(&self) -> Arc<Rules> {
        Arc::clone(&self.rules.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Logs what expires soon or has expired.
    pub(super) fn warn_of_expiry(&self) {
        let now = expiry::today();
        let rules = self.rules();
        let warnings = rules.identity.expiries.iter().filter_map(|expiry| expiry.warning(now));
        warnings.for_each(|text| tracing::warn!("{text}"));
    }

    /// When own certificate, CA and CRL expire.
    pub fn certificates(&self) -> Vec<CertificateStatus> {
        self.rules().identity.expiries.iter().map(Expiry::status).collect()
    }

    /// The server end of a connection.
    pub(super) fn accept(&self) -> Result<Connection, String> {
        let server = ServerConnection::new(Arc::clone(&self.rules().identity.server));
        server.map(Connection::Server).map_err(|e| explain(&e))
    }

    /// The client end of a connection.
    pub(super) fn connect(&self) -> Result<Connection, String> {
        // The server's identity follows from its certificate and the allow list, not from its address; no name is sent.
        let name = ServerName::IpAddress(std::net::Ipv4Addr::UNSPECIFIED.into());
        let client = ClientConnection::new(Arc::clone(&self.rules().identity.client), name);
        client.map(Connection::Client).map_err(|e| explain(&e))
    }

    /// Whether a certificate that was accepted earlier is still accepted.
    pub(super) fn still_trusts(&self, chain: &[CertificateDer<'_>], end: End) -> Result<(), String> {
        self.rules().identity.trust.verify(chain, end, UnixTime::now()).map_err(|e| explain(&e))
    }

    /// Whether nodes with these names may be this node's servers.
    pub(super) fn may_serve(&self, names: &[String]) -> Result<(), String> {
        let rules = self.rules();
        if names.iter().any(|name| rules.lists.servers.iter().any(|p| names::matches(p, name))) {
            return Ok(());
        }
        Err(format!("its certificate is for {}, which tls.servers does not allow", names.join(", ")))
    }

    /// Whether nodes with these names may register here at all.
    pub(super) fn may_register(&self, names: &[String]) -> Result<(), String> {
        let rules = self.rules();
        if names.iter().any(|name| rules.lists.clients.iter().any(|c| names::matches(&c.name, name))) {
            return Ok(());
        }
        Err(format!("its certificate is for {}, which tls.clients does not allow", names.join(", ")))
    }

    /// Whether the name that a node claims is in its certificate, and may have the table, or a part of it.
    pub(super) fn may_have(
        &self,
        names: &[String],
        name: &str,
        table: &str,
        part: bool,
    ) -> Result<(), String> {
        is_named(names, name)?;
        let rules = self.rules();
        let has =
            |c: &&AllowedClient| names::matches(&c.name, name) && c.tables.iter().any(|t| belongs(table, t));
        let mut entries = rules.lists.clients.iter().filter(has).peekable();
        if entries.peek().is_none() {
            return Err(format!("{name} may not have the table {table}: tls.clients does not allow it"));
        }
        if part && !entries.any(|c| c.subsets) {
            return Err(format!(
                "{name} may not have a part of the table {table}: its entry in tls.clients has no subsets = true"
            ));
        }
        Ok(())
    }
}

/// What a client with these names in its certificate may have.
#[derive(Debug)]
pub(super) struct Named {
    pub security: Arc<Security>,
    pub names: Vec<String>,
}

impl Permit for Named {
    fn check(&self, name: &str, table: &str, part: bool) -> Result<(), String> {
        self.security.may_have(&self.names, name, table, part)
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
