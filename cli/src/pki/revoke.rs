//! Revokes certificates: a CRL that names them (RFC 5280 §5), signed by the CA.

use std::fmt::Write as _;

use rcgen::{CertificateRevocationListParams, KeyIdMethod, RevokedCertParams, SerialNumber};
use time::{Duration, OffsetDateTime};
use x509_parser::pem::Pem;

use super::issuer;
use super::store::{PkiError, Store, read};

/// The CRL in the folder of the CA.
const FILE: &str = "ca.crl";

/// Adds a node's certificate to the CRL, or renews the CRL without one.
pub fn revoke(store: &Store, node: Option<&str>, days: u32) -> Result<String, PkiError> {
    let issuer = issuer(store)?;
    let now = OffsetDateTime::now_utc();
    let (number, mut revoked) = if store.path(FILE).exists() { known(store)? } else { (0, Vec::new()) };
    if let Some(node) = node {
        let serial_number = serial_of(store, &format!("{node}.pem"))?;
        if revoked.iter().all(|entry: &RevokedCertParams| entry.serial_number != serial_number) {
            revoked.push(RevokedCertParams {
                serial_number,
                revocation_time: now,
                reason_code: None,
                invalidity_date: None,
            });
        }
    }
    let count = revoked.len();
    let params = CertificateRevocationListParams {
        // The clocks of nodes differ.
        this_update: now - Duration::hours(1),
        next_update: now + Duration::days(i64::from(days)),
        crl_number: SerialNumber::from(number + 1),
        issuing_distribution_point: None,
        revoked_certs: revoked,
        key_identifier_method: KeyIdMethod::Sha256,
    };
    store.replace(FILE, &params.signed_by(&issuer)?.pem()?, false)?;
    let file = store.path(FILE);
    let mut text = String::new();
    let _ = writeln!(text, "{}: {count} revoked, newer one due in {days} days", file.display());
    let _ = writeln!(text, "next: copy it to every node, with [tls] crl = {:?}, and reload there", file);
    Ok(text)
}

fn pem(store: &Store, name: &str) -> Result<Pem, PkiError> {
    let (path, text) = (store.path(name), read(&store.path(name))?);
    let first = Pem::iter_from_buffer(text.as_bytes()).next();
    let bad = |reason: String| PkiError::File { path: path.clone(), reason };
    first.ok_or_else(|| bad("expected PEM, found nothing".into()))?.map_err(|e| bad(e.to_string()))
}

fn serial_of(store: &Store, name: &str) -> Result<SerialNumber, PkiError> {
    let pem = pem(store, name)?;
    let certificate = pem.parse_x509().map_err(|e| PkiError::File {
        path: store.path(name),
        reason: format!("expected a certificate: {e}"),
    })?;
    Ok(SerialNumber::from_slice(certificate.raw_serial()))
}

/// Number and entries of the CRL.
fn known(store: &Store) -> Result<(u64, Vec<RevokedCertParams>), PkiError> {
    use x509_parser::prelude::{CertificateRevocationList, FromDer};
    let pem = pem(store, FILE)?;
    let bad = |reason: String| PkiError::File { path: store.path(FILE), reason };
    let (_, crl) = CertificateRevocationList::from_der(&pem.contents)
        .map_err(|e| bad(format!("expected a CRL: {e}")))?;
    let number = crl.crl_number().and_then(|number| u64::try_from(number).ok()).unwrap_or(0);
    let entries = crl.iter_revoked_certificates().map(|entry| RevokedCertParams {
        serial_number: SerialNumber::from_slice(entry.raw_serial()),
        revocation_time: entry.revocation_date.to_datetime(),
        reason_code: None,
        invalidity_date: None,
    });
    Ok((number, entries.collect()))
}
