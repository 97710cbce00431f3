//! When own certificate, CA and CRL of a daemon expire.

use std::time::{SystemTime, UNIX_EPOCH};

use fibcast_control::status::CertificateStatus;

use super::finding::{Finding, Grade};

const DAY: i64 = 24 * 3600;

pub fn findings(certificates: &[CertificateStatus]) -> Vec<Finding> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64);
    at(certificates, now)
}

fn at(certificates: &[CertificateStatus], now: i64) -> Vec<Finding> {
    let left = |certificate: &CertificateStatus| certificate.expires_unix_seconds.saturating_sub(now);
    let late =
        certificates.iter().filter(|certificate| left(certificate) <= CertificateStatus::WARNING_DAYS * DAY);
    let mut findings: Vec<Finding> = late.map(|certificate| one(certificate, left(certificate))).collect();
    if findings.is_empty()
        && let Some(first) = certificates.iter().min_by_key(|certificate| left(certificate))
    {
        let found = format!("tls.{} is the first to expire, in {} days", first.kind, left(first) / DAY);
        findings.push(Finding::fine("certificates", found));
    }
    findings
}

fn one(certificate: &CertificateStatus, left: i64) -> Finding {
    let CertificateStatus { kind, path, subject, .. } = certificate;
    let (grade, when) = match left {
        ..=0 => (Grade::Bad, format!("expired {} days ago", -left / DAY)),
        _ => (Grade::Warning, format!("expires in {} days", left / DAY)),
    };
    let advice = match kind.as_str() {
        "crl" => {
            "fibcast pki revoke writes a new one; copy it to every node and reload there (fibcast reload)"
        }
        "ca" => {
            "put a new CA into the file behind the old one on every node, then issue certificates by it, then remove the old one"
        }
        _ => "fibcast pki issue writes a new one; then fibcast reload",
    };
    Finding::of(grade, "certificates", format!("tls.{kind}: {path} ({subject}) {when}"), advice)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate(kind: &str, days: i64) -> CertificateStatus {
        CertificateStatus {
            kind: kind.into(),
            path: format!("/etc/{kind}.pem"),
            subject: "CN=n".into(),
            expires_unix_seconds: days * DAY,
        }
    }

    #[test]
    fn what_expires_soon_is_warned_about_and_what_has_expired_is_bad() {
        let today = 1_000;
        let look = |all: &[CertificateStatus]| at(all, today * DAY);
        let (soon, over) = (certificate("crl", today + 30), certificate("cert", today - 2));
        let found = look(&[soon, over, certificate("ca", today + 31)]);
        let grades: Vec<_> = found.iter().map(|finding| finding.grade).collect();
        assert_eq!(grades, [Grade::Warning, Grade::Bad]);
        assert_eq!(found[0].found, "tls.crl: /etc/crl.pem (CN=n) expires in 30 days");
        assert_eq!(found[1].found, "tls.cert: /etc/cert.pem (CN=n) expired 2 days ago");
        assert!(found[0].advice.contains("pki revoke") && found[1].advice.contains("pki issue"));
    }

    #[test]
    fn otherwise_the_first_to_expire_is_named_and_without_certificates_nothing_is_said() {
        let found = at(&[certificate("cert", 400), certificate("crl", 40)], 0);
        assert_eq!(found, [Finding::fine("certificates", "tls.crl is the first to expire, in 40 days")]);
        assert_eq!(at(&[], 0), []);
    }
}
