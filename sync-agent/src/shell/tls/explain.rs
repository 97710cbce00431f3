//! Explains rustls errors to an operator.

use rustls::{AlertDescription, CertificateError, Error};

/// The reason for a failed handshake or broken connection; the peer is "it".
pub(in crate::shell) fn explain(error: &Error) -> String {
    match error {
        Error::InvalidMessage(_) | Error::InappropriateMessage { .. } => {
            "it does not use TLS, but this node does: does it have a [tls] section with cert, key and ca?"
                .into()
        }
        Error::NoCertificatesPresented => "it presented no certificate".into(),
        Error::InvalidCertificate(reason) => match reason {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "its certificate has expired".into()
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "its certificate is not valid yet: are the clocks right?".into()
            }
            CertificateError::Revoked => "its certificate is revoked (tls.crl)".into(),
            CertificateError::UnknownRevocationStatus => {
                "there is no CRL of its issuer in tls.crl, so it may be revoked".into()
            }
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                "its certificate is not signed by our CA (tls.ca)".into()
            }
            other => format!("its certificate is refused: {other:?}"),
        },
        Error::AlertReceived(alert) => match alert {
            AlertDescription::UnknownCA | AlertDescription::DecryptError => {
                "it refused our certificate: not signed by its CA".into()
            }
            AlertDescription::CertificateRevoked => "it refused our certificate: revoked".into(),
            AlertDescription::CertificateExpired => "it refused our certificate: expired".into(),
            AlertDescription::CertificateRequired => "it requires a certificate from us".into(),
            AlertDescription::BadCertificate | AlertDescription::CertificateUnknown => {
                "it refused our certificate".into()
            }
            other => format!("it ended the TLS session: {other:?}"),
        },
        Error::PeerIncompatible(reason) => {
            format!("it has no TLS version in common with this node (1.3): {reason:?}")
        }
        other => format!("TLS: {other}"),
    }
}

/// Whether the first bytes of a plain connection look like a TLS record (RFC 8446 §5.1).
pub(in crate::shell) fn looks_like_tls(first: &[u8]) -> bool {
    // Handshake or alert, legacy version 3.x; a fibcast peer starts with Hello, type 1.
    matches!(first, [0x15 | 0x16, 3, ..])
}
