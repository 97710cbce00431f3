//! The example configurations of `packaging/examples` pass `--check-config`, with their files in a folder of the test's.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

/// Files that the examples name: certificates of a CA made here, a list of routes, a table.
fn files(folder: &Path, node: &str) {
    let pki = folder.join("etc/fibcast/pki");
    std::fs::create_dir_all(&pki).unwrap();
    std::fs::create_dir_all(folder.join("var/lib/fibcast")).unwrap();
    std::fs::write(folder.join("etc/fibcast/routes.txt"), "").unwrap();
    std::fs::write(folder.join("var/lib/fibcast/rib.mrt.gz"), "").unwrap();
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
    let output = Command::new(env!("CARGO_BIN_EXE_fibcast-agent"))
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
fn agents_examples_are_right() {
    check("packaging/examples/agent.toml", "relay-1");
    check("packaging/examples/agent-tls.toml", "relay-1");
    check("docs/kernel/agent.toml", "host-1");
}
