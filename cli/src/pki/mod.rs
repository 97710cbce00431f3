//! `fibcast pki`: a small certification authority in a folder. A deployment needs `init` once, and `issue` for each node. `store` manages
//! files, with keys of mode 0600; `show` prints certificates, `revoke` writes a CRL.
//!
//! A node's certificate has its name as DNS name, and is valid for both ends of a connection (RFC 5280 §4.2.1.12).

mod digest_key;
mod revoke;
mod show;
mod store;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose,
};
use time::{Duration, OffsetDateTime};

use store::{PkiError, Store, read};

/// Command for certificates.
#[derive(Debug, Subcommand)]
pub enum Pki {
    /// Creates a CA and a digest key: ca.pem and digest.key for every node, ca.key to be kept secret.
    ///
    /// Into an older folder without a digest key only that is added.
    Init {
        /// Folder of the CA.
        #[arg(long, value_name = "FOLDER", default_value = store::FOLDER)]
        dir: PathBuf,
        /// Days of validity.
        #[arg(long, default_value_t = 3650, value_parser = clap::value_parser!(u32).range(1..=36_500))]
        days: u32,
    },
    /// Creates key and certificate of a node: NAME.key and NAME.pem.
    Issue {
        /// The node's name, as in `[node] name`.
        #[arg(value_name = "NAME", value_parser = node_name)]
        name: String,
        /// Folder of the CA.
        #[arg(long, value_name = "FOLDER", default_value = store::FOLDER)]
        dir: PathBuf,
        /// Days of validity.
        #[arg(long, default_value_t = 397, value_parser = clap::value_parser!(u32).range(1..=36_500))]
        days: u32,
        /// Replace existing files; the node reloads them at SIGHUP.
        #[arg(long)]
        renew: bool,
    },
    /// Revokes a node's certificate NAME.pem: adds it to ca.crl. Without a name renews ca.crl.
    Revoke {
        /// The node's name.
        #[arg(value_name = "NAME", value_parser = node_name)]
        name: Option<String>,
        /// Folder of the CA.
        #[arg(long, value_name = "FOLDER", default_value = store::FOLDER)]
        dir: PathBuf,
        /// Days until a newer CRL is due.
        #[arg(long, default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=36_500))]
        days: u32,
    },
    /// Replaces the digest key without an outage: add, switch, finish. Copy the file to every node and reload them after each step.
    DigestKey {
        /// The step.
        #[arg(value_name = "STEP")]
        step: digest_key::Step,
        /// Folder of the CA.
        #[arg(long, value_name = "FOLDER", default_value = store::FOLDER)]
        dir: PathBuf,
    },
    /// Shows certificates: those of the CA's folder, or of a file.
    Show {
        /// A certificate file, PEM.
        #[arg(value_name = "FILE")]
        file: Option<PathBuf>,
        /// Folder of the CA.
        #[arg(long, value_name = "FOLDER", default_value = store::FOLDER)]
        dir: PathBuf,
    },
}

fn node_name(text: &str) -> Result<String, String> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if text.is_empty() || text.len() > 64 || !text.bytes().all(fits) || text.starts_with('.') {
        return Err("expected 1 to 64 letters, digits, '-', '_' or '.', as in [node] name".to_owned());
    }
    if text == "ca" {
        return Err("\"ca\" is the name of the CA itself".to_owned());
    }
    Ok(text.to_owned())
}

/// Executes the command; returns the text for the operator.
pub fn run(command: &Pki) -> Result<String, PkiError> {
    match command {
        Pki::Init { dir, days } => init(&Store::new(dir), *days),
        Pki::Issue { name, dir, days, renew } => issue(&Store::new(dir), name, *days, *renew),
        Pki::Revoke { name, dir, days } => revoke::revoke(&Store::new(dir), name.as_deref(), *days),
        Pki::DigestKey { step, dir } => digest_key::step(&Store::new(dir), *step),
        Pki::Show { file: Some(file), .. } => show::one(file),
        Pki::Show { file: None, dir } => show::all(dir),
    }
}

fn valid(params: &mut CertificateParams, days: u32) {
    let now = OffsetDateTime::now_utc();
    // The clocks of nodes differ.
    params.not_before = now - Duration::hours(1);
    params.not_after = now + Duration::days(i64::from(days));
}

fn name(common: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::OrganizationName, "fibcast");
    name.push(DnType::CommonName, common);
    name
}

fn init(store: &Store, days: u32) -> Result<String, PkiError> {
    store.make_folder()?;
    let digest_key = store.path(digest_key::FILE);
    let new = !digest_key.exists();
    if new {
        store.write_new(digest_key::FILE, &(digest_key::random()? + "\n"), true)?;
    }
    let mut text = String::new();
    let _ = writeln!(text, "{}: for every node, as [node] digest_key; keep it secret", digest_key.display());
    if new && store.path("ca.pem").exists() {
        return Ok(text);
    }
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name = name("fibcast CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    valid(&mut params, days);
    let certificate = params.self_signed(&key)?;
    store.write_new("ca.key", &key.serialize_pem(), true)?;
    store.write_new("ca.pem", &certificate.pem(), false)?;
    let _ = writeln!(text, "{}: for every node, as [tls] ca", store.path("ca.pem").display());
    let _ = writeln!(text, "{}: keep it here and secret", store.path("ca.key").display());
    let _ = writeln!(text, "next: fibcast pki issue NAME, for each node");
    Ok(text)
}

/// The CA of the folder.
fn issuer(store: &Store) -> Result<Issuer<'static, KeyPair>, PkiError> {
    let ca = store.path("ca.pem");
    let (ca_text, ca_key) = (read(&ca)?, read(&store.path("ca.key"))?);
    let bad = |path: &Path, e: rcgen::Error| PkiError::File { path: path.to_owned(), reason: e.to_string() };
    let ca_key = KeyPair::from_pem(&ca_key).map_err(|e| bad(&store.path("ca.key"), e))?;
    Issuer::from_ca_cert_pem(&ca_text, ca_key).map_err(|e| bad(&ca, e))
}

fn issue(store: &Store, node: &str, days: u32, renew: bool) -> Result<String, PkiError> {
    let issuer = issuer(store)?;
    let ca = store.path("ca.pem");
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(vec![node.to_owned()])?;
    params.distinguished_name = name(node);
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    valid(&mut params, days);
    let certificate = params.signed_by(&key, &issuer)?;
    let (cert_name, key_name) = (format!("{node}.pem"), format!("{node}.key"));
    if renew {
        store.replace(&key_name, &key.serialize_pem(), true)?;
        store.replace(&cert_name, &certificate.pem(), false)?;
    } else {
        store.write_new(&key_name, &key.serialize_pem(), true)?;
        store.write_new(&cert_name, &certificate.pem(), false)?;
    }
    let (cert, key) = (store.path(&cert_name), store.path(&key_name));
    let mut text = String::new();
    let _ = writeln!(text, "# for the configuration of {node}, good for {days} days");
    let digest_key = store.path(digest_key::FILE);
    if digest_key.exists() {
        let _ = writeln!(text, "[node]\ndigest_key = {:?}", digest_key.display().to_string());
    }
    let _ = writeln!(text, "[tls]");
    for (field, path) in [("cert", &cert), ("key", &key), ("ca", &ca)] {
        let _ = writeln!(text, "{field} = {:?}", path.display().to_string());
    }
    Ok(text)
}

#[cfg(test)]
mod tests;
