//! What `--check-config` of a daemon says about certificates that expire: the same for all daemons, so their tests share it.

use std::path::Path;
use std::process::Command;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, IsCa, Issuer, KeyIdMethod, KeyPair,
    KeyUsagePurpose, SerialNumber,
};
use time::{Duration, OffsetDateTime};

use crate::config;

/// Days that are left of own certificate, CA and CRL.
#[derive(Debug, Clone, Copy)]
struct Left {
    cert: i64,
    ca: i64,
    crl: i64,
}

/// So many days that nobody has to be warned.
const LONG: Left = Left { cert: 100, ca: 100, crl: 100 };

/// Runs a daemon's `--check-config` with files that expire, one kind after the other, and checks exit code and words. `rest` is what its
/// configuration has beside `[node]` and `[tls]`.
///
/// # Panics
/// It says something else.
#[allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "only tests call this")]
pub fn check_config_tells_what_expires(program: &Path, rest: &str) {
    let check = |left: Left| {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("daemon.toml");
        std::fs::write(&file, config::node("n", folder.path(), "") + &files(folder.path(), left) + rest).unwrap();
        let output = Command::new(program).arg("--check-config").arg("--config").arg(&file).output().unwrap();
        let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        (output.status.code(), text.replace(&format!("{}/", folder.path().display()), ""))
    };
    let (code, text) = check(LONG);
    assert!(code == Some(0) && !text.contains("warning"), "{code:?} {text}");
    // Half a day more, so that the number of whole days is certain.
    let kinds: [(&str, &str, fn(i64) -> Left); 3] = [
        ("cert", "n.pem", |cert| Left { cert, ..LONG }),
        ("ca", "ca.pem", |ca| Left { ca, ..LONG }),
        ("crl", "ca.crl", |crl| Left { crl, ..LONG }),
    ];
    for (kind, file, left) in kinds {
        let (code, text) = check(left(31));
        assert!(code == Some(0) && !text.contains("warning"), "{kind}: {code:?} {text}");
        let (code, text) = check(left(20));
        let warned = text.contains(&format!("warning: tls.{kind}: {file} (")) && text.contains(" in 20 days");
        assert!(code == Some(0) && warned, "{kind}: {code:?} {text}");
        let (code, text) = check(left(-3));
        let (named, told) = (format!("tls.{kind}: {file} ("), "): expired 2 days ago: renew it");
        assert!(code == Some(2) && text.contains(&named) && text.contains(told), "{kind}: {code:?} {text}");
        assert!(text.contains("daemon.toml:"), "with file and line: {text}");
    }
}

/// Writes the files of a node `n`; returns the section that names them.
#[allow(clippy::unwrap_used, reason = "only tests call this")]
fn files(folder: &Path, left: Left) -> String {
    let now = OffsetDateTime::now_utc();
    let end = |days: i64| now + Duration::days(days) + Duration::hours(12);
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    (params.not_before, params.not_after) = (now - Duration::days(200), end(left.ca));
    let key = KeyPair::generate().unwrap();
    let ca = params.self_signed(&key).unwrap();
    let issuer = Issuer::new(params, key);
    let own = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["n".to_owned()]).unwrap();
    (params.not_before, params.not_after) = (now - Duration::days(200), end(left.cert));
    let certificate = params.signed_by(&own, &issuer).unwrap();
    let crl = CertificateRevocationListParams {
        this_update: now - Duration::days(200),
        next_update: end(left.crl),
        crl_number: SerialNumber::from(1u64),
        issuing_distribution_point: None,
        revoked_certs: Vec::new(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    let crl = crl.signed_by(&issuer).unwrap();
    let mut section = "[tls]\nservers = [\"*\"]\n".to_owned();
    for (key, name, text) in [
        ("cert", "n.pem", certificate.pem()),
        ("key", "n.key", own.serialize_pem()),
        ("ca", "ca.pem", ca.pem()),
        ("crl", "ca.crl", crl.pem().unwrap()),
    ] {
        std::fs::write(folder.join(name), text).unwrap();
        section += &format!("{key} = {:?}\n", folder.join(name).display().to_string());
    }
    section
}
