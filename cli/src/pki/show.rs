//! Prints certificates: subject, issuer, validity.

use std::fmt::Write;
use std::path::Path;

use time::OffsetDateTime;
use x509_parser::extensions::GeneralName;
use x509_parser::pem::Pem;

use super::store::{PkiError, error};

/// The certificates of a file.
pub fn one(file: &Path) -> Result<String, PkiError> {
    let bytes = std::fs::read(file).map_err(|e| error(file, &e))?;
    let bad = |reason: String| PkiError::File { path: file.to_owned(), reason };
    let mut text = String::new();
    for block in Pem::iter_from_buffer(&bytes) {
        let block = block.map_err(|e| bad(format!("expected certificates in PEM: {e}")))?;
        if block.label != "CERTIFICATE" {
            return Err(bad(format!("expected certificates in PEM, found {:?}", block.label)));
        }
        let certificate = block.parse_x509().map_err(|e| bad(format!("expected a certificate: {e}")))?;
        let names = certificate.subject_alternative_name().ok().flatten().map(|san| {
            let names = san.value.general_names.iter().filter_map(|name| match name {
                GeneralName::DNSName(name) => Some((*name).to_owned()),
                _ => None,
            });
            names.collect::<Vec<_>>().join(", ")
        });
        let until = certificate.validity().not_after.to_datetime();
        let days = (until - OffsetDateTime::now_utc()).whole_days();
        let state =
            if until < OffsetDateTime::now_utc() { "expired".into() } else { format!("{days} days left") };
        let kind = if certificate.is_ca() { "CA" } else { "node" };
        let _ = writeln!(text, "{}: {kind}", file.display());
        let _ = writeln!(text, "  names    {}", names.unwrap_or_else(|| "-".into()));
        let _ = writeln!(text, "  subject  {}", certificate.subject());
        let _ = writeln!(text, "  issuer   {}", certificate.issuer());
        let _ = writeln!(text, "  until    {} ({state})", until.date());
    }
    if text.is_empty() {
        return Err(bad("expected certificates in PEM, found none".into()));
    }
    Ok(text)
}

/// All certificates of a folder.
pub fn all(folder: &Path) -> Result<String, PkiError> {
    let entries = std::fs::read_dir(folder).map_err(|e| error(folder, &e))?;
    let mut files: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    files.retain(|file| file.extension().is_some_and(|e| e == "pem"));
    files.sort();
    files.iter().map(|file| one(file)).collect()
}
