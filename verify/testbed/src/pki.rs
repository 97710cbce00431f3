//! A small certificate authority with its files in a folder: certificates of nodes, and a list of revoked ones that revokes none.

use std::fmt::Display;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, IsCa, Issuer, KeyIdMethod, KeyPair,
    KeyUsagePurpose, SerialNumber,
};
use time::{Duration, OffsetDateTime};

use crate::Failure;

/// How long everything has been valid.
const SINCE: Duration = Duration::days(200);

/// The authority.
#[derive(Debug)]
pub struct Authority {
    folder: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

fn failed(error: impl Display) -> Failure {
    Failure::io("certificate", std::io::Error::other(error.to_string()))
}

/// Half a day more than so many days from now, so that the number of whole days is certain for a while.
fn end(days: i64) -> OffsetDateTime {
    OffsetDateTime::now_utc() + Duration::days(days) + Duration::hours(12)
}

impl Authority {
    /// Writes `ca.pem`, valid for so many days.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn new(folder: &Path, days: i64) -> Result<Authority, Failure> {
        let mut params = CertificateParams::new(Vec::new()).map_err(failed)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        (params.not_before, params.not_after) = (OffsetDateTime::now_utc() - SINCE, end(days));
        let key = KeyPair::generate().map_err(failed)?;
        let certificate = params.self_signed(&key).map_err(failed)?;
        let authority = Authority { folder: folder.to_owned(), issuer: Issuer::new(params, key) };
        authority.write("ca.pem", &certificate.pem())?;
        Ok(authority)
    }

    /// Writes `NAME.pem` and `NAME.key`, valid for so many days. Returns `[tls]` of a node that has them, and for which every node of the
    /// authority may be server and client.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn issue(&self, name: &str, days: i64) -> Result<String, Failure> {
        let key = KeyPair::generate().map_err(failed)?;
        let mut params = CertificateParams::new(vec![name.to_owned()]).map_err(failed)?;
        (params.not_before, params.not_after) = (OffsetDateTime::now_utc() - SINCE, end(days));
        let certificate = params.signed_by(&key, &self.issuer).map_err(failed)?;
        self.write(&format!("{name}.pem"), &certificate.pem())?;
        self.write(&format!("{name}.key"), &key.serialize_pem())?;
        let path = |name: &str| self.folder.join(name).display().to_string();
        Ok(format!(
            "[tls]\nservers = [\"*\"]\nclients = [{{ name = \"*\" }}]\ncert = {:?}\nkey = {:?}\nca = {:?}\n",
            path(&format!("{name}.pem")),
            path(&format!("{name}.key")),
            path("ca.pem")
        ))
    }

    /// Writes `ca.crl`, to be replaced after so many days. Returns the key of `[tls]` that names it.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn crl(&self, days: i64) -> Result<String, Failure> {
        let params = CertificateRevocationListParams {
            this_update: OffsetDateTime::now_utc() - SINCE,
            next_update: end(days),
            crl_number: SerialNumber::from(1u64),
            issuing_distribution_point: None,
            revoked_certs: Vec::new(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let crl = params.signed_by(&self.issuer).and_then(|crl| crl.pem()).map_err(failed)?;
        self.write("ca.crl", &crl)?;
        Ok(format!("crl = {:?}\n", self.folder.join("ca.crl").display().to_string()))
    }

    fn write(&self, name: &str, text: &str) -> Result<(), Failure> {
        let path = self.folder.join(name);
        std::fs::write(&path, text).map_err(|error| Failure::io(path.display(), error))
    }
}
