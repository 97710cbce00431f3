//! The example configurations of `packaging/examples` and `docs` pass `--check-config`, with their files in a folder of the test's.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use fibcast_mrt::Writer;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

/// Files that the examples name: certificates of a CA made here, a list of routes, a table.
fn files(folder: &Path, node: &str) {
    let pki = folder.join("etc/fibcast/pki");
    std::fs::create_dir_all(&pki).unwrap();
    std::fs::create_dir_all(folder.join("var/lib/fibcast")).unwrap();
    std::fs::write(folder.join("etc/fibcast/routes.txt"), "192.0.2.0/24 blackhole\n").unwrap();
    let mut table = Writer::new(Vec::new());
    let peer = "192.0.2.1".parse().unwrap();
    table.peer_index(1, "", peer).unwrap();
    table.rib(1, "203.0.113.0/24".parse().unwrap(), peer).unwrap();
    std::fs::write(folder.join("var/lib/fibcast/rib.mrt.gz"), table.into_inner()).unwrap();
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    std::fs::write(pki.join("ca.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
    let issuer = Issuer::new(params, key);
    let key = KeyPair::generate().unwrap();
    let certificate =
        CertificateParams::new(vec![node.to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
    std::fs::write(pki.join(format!("{node}.pem")), certificate.pem()).unwrap();
    std::fs::write(pki.join(format!("{node}.key")), key.serialize_pem()).unwrap();
    let digest_key = pki.join("digest.key");
    std::fs::write(&digest_key, "5a".repeat(32)).unwrap();
    std::fs::set_permissions(&digest_key, Permissions::from_mode(0o600)).unwrap();
}

fn check(name: &str, node: &str) {
    let folder = tempfile::tempdir().unwrap();
    files(folder.path(), node);
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name);
    // The group of the packages, which need not be installed where tests run.
    let mut text = std::fs::read_to_string(example).unwrap().replace("\"fibcast\"", "\"root\"");
    for root in ["/etc/fibcast", "/var/lib/fibcast", "/run/fibcast"] {
        text = text.replace(&format!("\"{root}"), &format!("\"{}{root}", folder.path().display()));
    }
    let config = folder.path().join("config.toml");
    std::fs::write(&config, text).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_fibcast-route-server"))
        .arg("--config")
        .arg(config)
        .arg("--check-config")
        .output();
    let output = output.unwrap();
    assert_eq!(
        (output.status.code(), String::from_utf8_lossy(&output.stderr).as_ref()),
        (Some(0), ""),
        "{name}"
    );
}

#[test]
fn route_servers_examples_are_right() {
    check("packaging/examples/route-server.toml", "rs-a");
    check("packaging/examples/route-server-tls.toml", "rs-a");
    check("packaging/examples/route-server-live.toml", "rs-a");
}

#[test]
fn files_of_the_documentation_are_right() {
    check("docs/frr/route-server.toml", "rs-a");
    check("docs/bird/route-server.toml", "rs-b");
}
