//! Certificates for tests: a CA, and nodes that it signs.

use std::path::PathBuf;
use std::sync::Arc;

use fibcast_daemon::sections::{AllowedClient, Tls};
use fibcast_sync_agent::shell::tls::Security;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber,
};
use time::{Duration, OffsetDateTime};

pub struct Pki {
    folder: tempfile::TempDir,
    issuer: Issuer<'static, KeyPair>,
}

impl Pki {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key).unwrap();
        std::fs::write(folder.path().join("ca.pem"), certificate.pem()).unwrap();
        Self { folder, issuer: Issuer::new(params, key) }
    }

    /// Writes a CRL with these certificates, and gives its file.
    pub fn revoke(&self, names: &[&str]) -> PathBuf {
        let now = OffsetDateTime::now_utc();
        let serial = |name: &&str| {
            let pem = std::fs::read(self.path(&format!("{name}.pem"))).unwrap();
            let (_, pem) = x509_parser::pem::parse_x509_pem(&pem).unwrap();
            SerialNumber::from_slice(pem.parse_x509().unwrap().raw_serial())
        };
        let revoked = names.iter().map(|name| RevokedCertParams {
            serial_number: serial(name),
            revocation_time: now,
            reason_code: None,
            invalidity_date: None,
        });
        let params = CertificateRevocationListParams {
            this_update: now - Duration::hours(1),
            next_update: now + Duration::days(20),
            crl_number: SerialNumber::from(1u64),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let file = self.path("ca.crl");
        std::fs::write(&file, params.signed_by(&self.issuer).unwrap().pem().unwrap()).unwrap();
        file
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a certificate for `name` that ends in so many hours, and gives the section that uses it.
    pub fn issue(&self, name: &str, hours: i64) -> Tls {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let now = OffsetDateTime::now_utc();
        params.not_before = now - Duration::hours(48);
        params.not_after = now + Duration::hours(hours);
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let (cert, secret) = (self.path(&format!("{name}.pem")), self.path(&format!("{name}.key")));
        std::fs::write(&cert, certificate.pem()).unwrap();
        std::fs::write(&secret, key.serialize_pem()).unwrap();
        Tls {
            insecure: false,
            cert: Some(cert),
            key: Some(secret),
            ca: Some(self.path("ca.pem")),
            crl: None,
            servers: vec!["*".into()],
            clients: vec![AllowedClient { name: "*".into(), tables: vec!["fib".into()], subsets: true }],
        }
    }

    pub fn node(&self, name: &str) -> Option<Arc<Security>> {
        open(&self.issue(name, 24), name)
    }
}

/// Puts a changed `[tls]` in force, as a daemon's reload does.
pub fn reload(security: &Security, tls: &Tls) {
    security.replace(security.read(tls).unwrap());
}

pub fn open(tls: &Tls, name: &str) -> Option<Arc<Security>> {
    Security::load(tls, name).unwrap()
}
