//! Scenarios with a CA in a temporary folder.

use std::os::unix::fs::PermissionsExt;

use super::*;

fn made() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::new(&folder.path().join("pki"));
    init(&store, 10).unwrap();
    (folder, store)
}

fn mode(store: &Store, name: &str) -> u32 {
    std::fs::metadata(store.path(name)).unwrap().permissions().mode() & 0o777
}

#[test]
fn two_commands_make_what_a_node_needs_with_secret_keys() {
    let (_folder, store) = made();
    let text = issue(&store, "rs-a", 5, false).unwrap();
    for part in ["[node]\ndigest_key = ", "digest.key\"", "[tls]", "rs-a.pem\"", "rs-a.key\"", "ca.pem\""] {
        assert!(text.contains(part), "{text}");
    }
    assert_eq!([mode(&store, "ca.key"), mode(&store, "rs-a.key")], [0o600, 0o600]);
    assert_eq!(mode(&store, "digest.key"), 0o600);
    assert_eq!([mode(&store, "ca.pem"), mode(&store, "rs-a.pem")], [0o644, 0o644]);
    let shown = run(&Pki::Show { file: None, dir: store.path("") }).unwrap();
    assert!(shown.contains("ca.pem: CA") && shown.contains("names    rs-a\n"), "{shown}");
    assert!(shown.contains("(4 days left)"), "{shown}");
}

#[test]
fn nothing_is_overwritten_unasked_and_a_renewal_replaces_both_files() {
    let (_folder, store) = made();
    let again = init(&store, 10).unwrap_err().to_string();
    assert!(again.ends_with("ca.key: already exists"), "{again}");
    issue(&store, "nh-1", 5, false).unwrap();
    let read_both = || [read(&store.path("nh-1.pem")).unwrap(), read(&store.path("nh-1.key")).unwrap()];
    let before = read_both();
    assert!(issue(&store, "nh-1", 5, false).is_err());
    assert_eq!(read_both(), before);
    issue(&store, "nh-1", 5, true).unwrap();
    let after = read_both();
    assert!(before[0] != after[0] && before[1] != after[1]);
    assert_eq!(mode(&store, "nh-1.key"), 0o600);
}

#[test]
fn digest_key_is_replaced_in_three_steps() {
    let (_folder, store) = made();
    let keys = || {
        let text = read(&store.path("digest.key")).unwrap();
        text.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let step = |step| digest_key::step(&store, step);
    let first = keys();
    assert!(first.len() == 1 && first[0].len() == 64 && first[0].bytes().all(|b| b.is_ascii_hexdigit()));
    assert!(step(digest_key::Step::Switch).is_err() && step(digest_key::Step::Finish).is_err());
    assert!(step(digest_key::Step::Add).unwrap().contains("then: fibcast pki digest-key switch"));
    assert!(step(digest_key::Step::Add).is_err());
    let both = keys();
    assert!(both.len() == 2 && both[0] == first[0] && both[1] != first[0]);
    step(digest_key::Step::Switch).unwrap();
    assert_eq!(keys(), [both[1].clone(), both[0].clone()]);
    step(digest_key::Step::Finish).unwrap();
    assert_eq!(keys(), [both[1].clone()]);
    assert_eq!(mode(&store, "digest.key"), 0o600);
    // A folder of before digest keys gets one, and keeps its CA.
    std::fs::remove_file(store.path("digest.key")).unwrap();
    let ca = read(&store.path("ca.pem")).unwrap();
    init(&store, 10).unwrap();
    assert_eq!((keys().len(), read(&store.path("ca.pem")).unwrap()), (1, ca));
}

#[test]
fn names_that_no_node_can_have_are_refused() {
    for name in ["", "a b", "ca", "*", "../x", ".hidden"] {
        assert!(node_name(name).is_err(), "{name}");
    }
    assert_eq!(node_name("rs-a.pop_1").as_deref(), Ok("rs-a.pop_1"));
}

#[test]
fn missing_ca_and_wrong_files_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let error = issue(&Store::new(folder.path()), "a", 1, false).unwrap_err().to_string();
    assert!(
        error.contains("ca.pem: No such file") && error.ends_with("make a CA with fibcast pki init"),
        "{error}"
    );
    let file = folder.path().join("x.pem");
    std::fs::write(&file, "garbage").unwrap();
    let error = show::one(&file).unwrap_err().to_string();
    assert!(error.contains("x.pem: expected certificates in PEM"), "{error}");
}

#[test]
fn revoked_certificates_stay_in_the_crl_and_each_is_in_it_once() {
    use x509_parser::prelude::{CertificateRevocationList, FromDer};
    let (_folder, store) = made();
    for name in ["nh-1", "nh-2"] {
        issue(&store, name, 5, false).unwrap();
    }
    let serials = || {
        let text = read(&store.path("ca.crl")).unwrap();
        let (_, pem) = x509_parser::pem::parse_x509_pem(text.as_bytes()).unwrap();
        let (_, crl) = CertificateRevocationList::from_der(&pem.contents).unwrap();
        let number = u64::try_from(crl.crl_number().unwrap()).unwrap();
        let all: Vec<_> = crl.iter_revoked_certificates().map(|entry| entry.raw_serial().to_vec()).collect();
        (number, all)
    };
    let text = revoke::revoke(&store, Some("nh-1"), 30).unwrap();
    assert!(text.contains("ca.crl: 1 revoked") && text.contains("[tls] crl = "), "{text}");
    let (_, first) = serials();
    revoke::revoke(&store, Some("nh-2"), 30).unwrap();
    revoke::revoke(&store, Some("nh-1"), 30).unwrap();
    revoke::revoke(&store, None, 30).unwrap();
    let (number, all) = serials();
    assert_eq!((number, all.len(), &all[0]), (4, 2, &first[0]));
    let error = revoke::revoke(&store, Some("nh-9"), 30).unwrap_err().to_string();
    assert!(error.contains("nh-9.pem: No such file"), "{error}");
}
