//! When own certificate, CA and CRL expire.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use fibcast_control::status::CertificateStatus;
use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{CertificateRevocationList, FromDer, X509Certificate};

const DAY: i64 = 24 * 3600;

/// A file of `[tls]`, and when what is in it expires.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Expiry {
    /// `cert`, `ca` or `crl`.
    pub key: &'static str,
    file: PathBuf,
    subject: String,
    /// Seconds since 1970.
    at: i64,
}

/// Seconds since 1970.
pub(super) fn today() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64)
}

impl Expiry {
    /// Of a certificate.
    ///
    /// # Errors
    /// Why it cannot be read.
    pub fn of_certificate(
        key: &'static str,
        file: &Path,
        certificate: &CertificateDer<'_>,
    ) -> Result<Self, String> {
        let (_, parsed) = X509Certificate::from_der(certificate).map_err(|e| e.to_string())?;
        let (subject, at) = (parsed.subject().to_string(), parsed.validity().not_after.timestamp());
        Ok(Self { key, file: file.to_owned(), subject, at })
    }

    /// Of a CRL: when the next one is due. None if it does not say.
    ///
    /// # Errors
    /// Why it cannot be read.
    pub fn of_crl(file: &Path, crl: &[u8]) -> Result<Option<Self>, String> {
        let (_, parsed) = CertificateRevocationList::from_der(crl).map_err(|e| e.to_string())?;
        let subject = parsed.issuer().to_string();
        let expiry = |at| Self { key: "crl", file: file.to_owned(), subject, at };
        Ok(parsed.next_update().map(|time| expiry(time.timestamp())))
    }

    /// What is to be done, if it expires soon or has expired.
    pub fn warning(&self, now: i64) -> Option<String> {
        let (file, subject) = (self.file.display(), &self.subject);
        let left = self.at.saturating_sub(now);
        let what = if self.key == "crl" { "a newer CRL is due" } else { "expires" };
        match left {
            ..=0 => Some(format!(
                "tls.{}: {file} ({subject}): expired {} days ago: renew it",
                self.key,
                -left / DAY
            )),
            _ if left <= CertificateStatus::WARNING_DAYS * DAY => {
                Some(format!("tls.{}: {file} ({subject}): {what} in {} days", self.key, left / DAY))
            }
            _ => None,
        }
    }

    pub fn is_over(&self, now: i64) -> bool {
        self.at <= now
    }

    pub fn status(&self) -> CertificateStatus {
        CertificateStatus {
            kind: self.key.to_owned(),
            path: self.file.display().to_string(),
            subject: self.subject.clone(),
            expires_unix_seconds: self.at,
        }
    }
}

/// The first that has expired. A file of several CAs has expired when all of them have.
pub(super) fn expired(all: &[Expiry], now: i64) -> Option<&Expiry> {
    let over = |key: &str| all.iter().filter(|expiry| expiry.key == key).all(|expiry| expiry.is_over(now));
    all.iter().find(|expiry| expiry.is_over(now) && (expiry.key != "ca" || over("ca")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expiry(key: &'static str, at: i64) -> Expiry {
        Expiry { key, file: "/x".into(), subject: "CN=x".into(), at }
    }

    #[test]
    fn warnings_begin_thirty_days_before() {
        let now = 1_000 * DAY;
        assert_eq!(expiry("cert", now + 31 * DAY).warning(now), None);
        let text = expiry("cert", now + 30 * DAY).warning(now).unwrap();
        assert_eq!(text, "tls.cert: /x (CN=x): expires in 30 days");
        let text = expiry("crl", now + DAY).warning(now).unwrap();
        assert_eq!(text, "tls.crl: /x (CN=x): a newer CRL is due in 1 days");
        let text = expiry("ca", now - 2 * DAY).warning(now).unwrap();
        assert_eq!(text, "tls.ca: /x (CN=x): expired 2 days ago: renew it");
    }

    #[test]
    fn old_ca_beside_a_new_one_is_no_failure() {
        let all = [expiry("ca", 5), expiry("ca", 50), expiry("cert", 40)];
        assert_eq!(expired(&all, 10), None);
        assert_eq!(expired(&all, 45).map(|e| e.key), Some("cert"));
        assert_eq!(expired(&all[..2], 60).map(|e| e.key), Some("ca"));
    }
}
