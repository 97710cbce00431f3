//! Names in certificates, and patterns of allow lists.

use rustls::pki_types::CertificateDer;

/// Most names examined in one certificate.
const MAX_NAMES: usize = 32;

/// The DNS names of a certificate (RFC 5280 §4.2.1.6). The common name is ignored (RFC 6125 §6.4.4).
pub(crate) fn names_of(certificate: &CertificateDer<'_>) -> Result<Vec<String>, String> {
    let certificate = webpki::EndEntityCert::try_from(certificate)
        .map_err(|e| format!("its certificate cannot be read: {e}"))?;
    let names: Vec<String> = certificate.valid_dns_names().take(MAX_NAMES).map(str::to_owned).collect();
    if names.is_empty() { Err("its certificate has no DNS name".to_owned()) } else { Ok(names) }
}

/// Whether a pattern with at most one `*` matches a name, ignoring case as in DNS.
///
/// A `*` in the certificate itself matches nothing: a node has a name.
pub(super) fn matches(pattern: &str, name: &str) -> bool {
    if name.contains('*') {
        return false;
    }
    let (pattern, name) = (pattern.to_ascii_lowercase(), name.to_ascii_lowercase());
    match pattern.split_once('*') {
        None => pattern == name,
        Some((head, tail)) => {
            name.len() >= head.len() + tail.len() && name.starts_with(head) && name.ends_with(tail)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn a_star_stands_for_any_letters_and_nothing_else_does() {
        assert!(matches("rs-*", "rs-a") && matches("rs-*", "rs-") && matches("*", "x"));
        assert!(matches("rs-*-eu", "rs-1-eu") && matches("RS-a", "rs-A"));
        assert!(!matches("rs-*", "nh-1") && !matches("rs-a", "rs-ab") && !matches("ab*ba", "aba"));
        assert!(!matches("*", "*.example") && !matches("rs-a", "*"));
    }
}
