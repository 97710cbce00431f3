//! Whose certificates are accepted: those that a CA of ours has signed and that no CRL of it revokes (RFC 5280 §5, §6.3).

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, DigitallySignedStruct, Error, PeerMisbehaved, RootCertStore, SignatureScheme,
};
use webpki::{
    CertRevocationList, ExpirationPolicy, KeyUsage, RevocationCheckDepth, RevocationOptionsBuilder,
    UnknownStatusPolicy,
};

/// CA and CRLs. A TLS connection to a server verifies its certificate with this; names are checked against the allow list afterwards.
#[derive(Debug)]
pub(super) struct Trust {
    pub roots: Arc<RootCertStore>,
    pub crls: Vec<CertRevocationList<'static>>,
    pub provider: Arc<CryptoProvider>,
}

/// The end of a connection that shows a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::shell) enum End {
    Server,
    Client,
}

impl Trust {
    /// Verifies a chain, the peer's own certificate first.
    ///
    /// # Errors
    /// Why it is not accepted. With a CRL, a certificate whose issuer has none is not accepted either.
    pub fn verify(&self, chain: &[CertificateDer<'_>], end: End, now: UnixTime) -> Result<(), Error> {
        let (own, rest) = chain.split_first().ok_or(Error::NoCertificatesPresented)?;
        let own = webpki::EndEntityCert::try_from(own).map_err(|e| refused(&e))?;
        let crls: Vec<&CertRevocationList<'_>> = self.crls.iter().collect();
        // None without a CRL.
        let revocation = RevocationOptionsBuilder::new(&crls).ok().map(|options| {
            options
                .with_depth(RevocationCheckDepth::EndEntity)
                .with_status_policy(UnknownStatusPolicy::Deny)
                // A CRL that was not renewed in time must not cut off all nodes; its age is reported.
                .with_expiration_policy(ExpirationPolicy::Ignore)
                .build()
        });
        let usage = match end {
            End::Server => KeyUsage::server_auth(),
            End::Client => KeyUsage::client_auth(),
        };
        let algorithms = self.provider.signature_verification_algorithms.all;
        own.verify_for_usage(algorithms, &self.roots.roots, rest, now, usage, revocation, None)
            .map(|_| ())
            .map_err(|e| refused(&e))
    }
}

fn refused(error: &webpki::Error) -> Error {
    Error::InvalidCertificate(match error {
        webpki::Error::CertExpired { .. } => CertificateError::Expired,
        webpki::Error::CertNotValidYet { .. } => CertificateError::NotValidYet,
        webpki::Error::UnknownIssuer => CertificateError::UnknownIssuer,
        webpki::Error::CertRevoked => CertificateError::Revoked,
        webpki::Error::UnknownRevocationStatus => CertificateError::UnknownRevocationStatus,
        webpki::Error::InvalidSignatureForPublicKey => CertificateError::BadSignature,
        other => CertificateError::Other(rustls::OtherError(Arc::new(other.clone()))),
    })
}

impl ServerCertVerifier for Trust {
    fn verify_server_cert(
        &self,
        own: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let chain: Vec<CertificateDer<'_>> = std::iter::once(own).chain(rest).cloned().collect();
        self.verify(&chain, End::Server, now)?;
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
