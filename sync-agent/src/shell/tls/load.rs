//! Loads certificates, keys, the CA and CRLs from files.

use std::path::Path;
use std::sync::Arc;

use fibcast_daemon::config::{ConfigError, Loaded};
use fibcast_daemon::sections::Tls;
use rustls::client::Resumption;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, UnixTime};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{ClientConfig, Error, RootCertStore, ServerConfig};
use webpki::{CertRevocationList, OwnedCertRevocationList};

use super::expiry::Expiry;
use super::trust::{End, Trust};
use super::{Identity, explain, names_of};

/// Plaintext bytes that a connection buffers.
pub(in crate::shell) const BUFFER: usize = 64 * 1024;

/// A file of `[tls]` that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("tls.{key}: {reason}")]
pub struct TlsError {
    /// `cert`, `key`, `ca` or `crl`.
    pub key: &'static str,
    /// The file, with what was expected and found.
    pub reason: String,
}

impl TlsError {
    /// The same with the line of the key in the configuration.
    pub fn within<T>(self, loaded: &Loaded<T>) -> ConfigError {
        loaded.error(&["tls".into(), self.key.into()], self.reason)
    }
}

fn wrong(key: &'static str, file: &Path, reason: impl std::fmt::Display) -> TlsError {
    TlsError { key, reason: format!("{}: {reason}", file.display()) }
}

/// All of a kind in a PEM file; at least one.
fn items<T: PemObject>(key: &'static str, what: &str, file: &Path) -> Result<Vec<T>, TlsError> {
    let read = std::fs::read(file).map_err(|e| wrong(key, file, e))?;
    let all: Result<Vec<_>, _> = T::pem_slice_iter(&read).collect();
    match all {
        Ok(all) if all.is_empty() => Err(wrong(key, file, format!("expected a {what} in PEM, found none"))),
        Ok(all) => Ok(all),
        Err(e) => Err(wrong(key, file, format!("expected {what}s in PEM: {e}"))),
    }
}

fn certificates(key: &'static str, file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    items(key, "certificate", file)
}

/// The CRLs, as connections and as [`Trust`] want them, and when newer ones are due.
type Crls = (Vec<CertificateRevocationListDer<'static>>, Vec<CertRevocationList<'static>>, Vec<Expiry>);

fn crls(file: Option<&Path>) -> Result<Crls, TlsError> {
    let Some(file) = file else { return Ok(Crls::default()) };
    let all: Vec<CertificateRevocationListDer<'static>> = items("crl", "CRL", file)?;
    let (mut parsed, mut expiries) = (Vec::new(), Vec::new());
    for crl in &all {
        let owned = OwnedCertRevocationList::from_der(crl)
            .map_err(|e| wrong("crl", file, format!("expected a CRL (RFC 5280): {e}")))?;
        parsed.push(owned.into());
        expiries.extend(Expiry::of_crl(file, crl).map_err(|e| wrong("crl", file, e))?);
    }
    Ok((all, parsed, expiries))
}

/// Loads the files named in `[tls]`; None if it names none.
pub(super) fn identity(tls: &Tls, node: &str) -> Result<Option<Identity>, TlsError> {
    let (Some(cert), Some(key), Some(ca)) = (&tls.cert, &tls.key, &tls.ca) else { return Ok(None) };
    let chain = certificates("cert", cert)?;
    let own = chain.first().ok_or_else(|| wrong("cert", cert, "expected a certificate, found none"))?;
    let names = names_of(own).map_err(|reason| wrong("cert", cert, reason))?;
    if !names.iter().any(|name| name == node) {
        let found = names.join(", ");
        return Err(wrong(
            "cert",
            cert,
            format!("expected a certificate for {node} (node.name), found one for {found}"),
        ));
    }
    let expiry = |key, file, certificate: &CertificateDer<'_>| {
        Expiry::of_certificate(key, file, certificate).map_err(|e| wrong(key, file, e))
    };
    let mut expiries = vec![expiry("cert", cert, own)?];
    let mut roots = RootCertStore::empty();
    for root in certificates("ca", ca)? {
        expiries.push(expiry("ca", ca, &root)?);
        roots.add(root).map_err(|e| wrong("ca", ca, format!("is no CA certificate: {e}")))?;
    }
    let (crl_files, crls, crl_expiries) = crls(tls.crl.as_deref())?;
    expiries.extend(crl_expiries);
    let (roots, provider) = (Arc::new(roots), Arc::new(ring::default_provider()));
    let trust = Arc::new(Trust { roots: Arc::clone(&roots), crls, provider: Arc::clone(&provider) });
    // Warns early about what every peer is going to refuse.
    if let Err(e) = trust.verify(&chain, End::Client, UnixTime::now()) {
        tracing::warn!("{}: peers will refuse our certificate: {}", cert.display(), explain(&e));
    }
    let secret = || {
        let read = std::fs::read(key).map_err(|e| wrong("key", key, e))?;
        PrivateKeyDer::from_pem_slice(&read)
            .map_err(|e| wrong("key", key, format!("expected a private key in PEM: {e}")))
    };
    let refused = |e: Error| match e {
        Error::InconsistentKeys(_) => wrong("key", key, "is not the key of the certificate in tls.cert"),
        other => wrong("key", key, other),
    };
    let internal = |e: &dyn std::fmt::Display| wrong("ca", ca, e);

    let clients = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(&provider))
        .with_crls(crl_files)
        .only_check_end_entity_revocation()
        .build()
        .map_err(|e| internal(&e))?;
    let mut server = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|e| internal(&e))?
        .with_client_cert_verifier(clients)
        .with_single_cert(chain.clone(), secret()?)
        .map_err(refused)?;
    server.session_storage = Arc::new(NoServerSessionStorage {});
    server.send_tls13_tickets = 0;

    let mut client = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|e| internal(&e))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::clone(&trust) as _)
        .with_client_auth_cert(chain, secret()?)
        .map_err(refused)?;
    client.resumption = Resumption::disabled();
    client.enable_sni = false;
    Ok(Some(Identity { server: Arc::new(server), client: Arc::new(client), trust, expiries }))
}
