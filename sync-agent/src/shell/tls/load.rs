//! Loads certificates, keys and the CA from files.

use std::path::Path;
use std::sync::Arc;

use fibcast_daemon::sections::Tls;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, verify_server_cert_signed_by_trust_anchor};
use rustls::crypto::{CryptoProvider, ring, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::{NoServerSessionStorage, ParsedCertificate, WebPkiClientVerifier};
use rustls::{
    ClientConfig, DigitallySignedStruct, Error, PeerMisbehaved, RootCertStore, ServerConfig, SignatureScheme,
};

use super::{Identity, names_of};

/// Plaintext bytes that a connection buffers.
pub(in crate::shell) const BUFFER: usize = 64 * 1024;

/// A file of `[tls]` that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("tls.{key}: {reason}")]
pub struct TlsError {
    /// `cert`, `key` or `ca`.
    pub key: &'static str,
    /// The file, with what was expected and found.
    pub reason: String,
}

fn wrong(key: &'static str, file: &Path, reason: impl std::fmt::Display) -> TlsError {
    TlsError { key, reason: format!("{}: {reason}", file.display()) }
}

fn certificates(key: &'static str, file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let read = std::fs::read(file).map_err(|e| wrong(key, file, e))?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read).collect();
    match all {
        Ok(all) if all.is_empty() => Err(wrong(key, file, "expected a certificate in PEM, found none")),
        Ok(all) => Ok(all),
        Err(e) => Err(wrong(key, file, format!("expected certificates in PEM: {e}"))),
    }
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
    let mut roots = RootCertStore::empty();
    for root in certificates("ca", ca)? {
        roots.add(root).map_err(|e| wrong("ca", ca, format!("is no CA certificate: {e}")))?;
    }
    let (roots, provider) = (Arc::new(roots), Arc::new(ring::default_provider()));
    check_own(&chain, &roots, &provider, cert);
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

    let clients = WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider))
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

    let servers = Arc::new(BySignature { roots, provider: Arc::clone(&provider) });
    let mut client = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|e| internal(&e))?
        .dangerous()
        .with_custom_certificate_verifier(servers)
        .with_client_auth_cert(chain, secret()?)
        .map_err(refused)?;
    client.resumption = Resumption::disabled();
    client.enable_sni = false;
    Ok(Some(Identity { server: Arc::new(server), client: Arc::new(client) }))
}

/// Warns early about what every peer is going to refuse.
fn check_own(chain: &[CertificateDer<'_>], roots: &RootCertStore, provider: &CryptoProvider, file: &Path) {
    let Some((own, rest)) = chain.split_first() else { return };
    let algorithms = provider.signature_verification_algorithms.all;
    let outcome = ParsedCertificate::try_from(own).and_then(|own| {
        verify_server_cert_signed_by_trust_anchor(&own, roots, rest, UnixTime::now(), algorithms)
    });
    if let Err(e) = outcome {
        tracing::warn!("{}: peers will refuse our certificate: {e}", file.display());
    }
}

/// Accepts a server whose certificate the CA signed. Its names are checked against the allow list after the handshake.
#[derive(Debug)]
struct BySignature {
    roots: Arc<RootCertStore>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for BySignature {
    fn verify_server_cert(
        &self,
        own: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let own = ParsedCertificate::try_from(own)?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&own, &self.roots, rest, now, algorithms)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::PeerMisbehaved(PeerMisbehaved::SelectedUnofferedCipherSuite))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
