//! What `--check-config` of a daemon says about certificates that expire: the same for all daemons, so their tests share it.

use std::path::Path;
use std::process::Command;

use crate::pki::Authority;
use crate::{Failure, config};

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
#[track_caller]
#[allow(clippy::unwrap_used, reason = "a test ends where it stands")]
pub fn check_config_tells_what_expires(program: &Path, rest: &str) {
    let check = |left: Left| check(program, left, rest).unwrap();
    let (code, text) = check(LONG);
    assert!(code == Some(0) && !text.contains("warning"), "{code:?} {text}");
    type Expires = fn(i64) -> Left;
    let kinds: [(&str, &str, Expires); 3] = [
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

/// Exit code, and what was printed without the folder of the files.
fn check(program: &Path, left: Left, rest: &str) -> Result<(Option<i32>, String), Failure> {
    let folder = tempfile::tempdir().map_err(|error| Failure::io("a temporary folder", error))?;
    let path = folder.path();
    let authority = Authority::new(path, left.ca)?;
    let tls = authority.issue("n", left.cert)? + &authority.crl(left.crl)?;
    let file = path.join("daemon.toml");
    let failed = |error| Failure::io(program.display(), error);
    std::fs::write(&file, config::node("n", path, "") + &tls + rest).map_err(failed)?;
    let output = Command::new(program).arg("--check-config").arg("--config").arg(&file).output();
    let output = output.map_err(failed)?;
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    Ok((output.status.code(), text.replace(&format!("{}/", path.display()), "")))
}
