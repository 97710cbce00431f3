//! A changed configuration file of a dataplane that runs: whether it may be taken over without a restart.

use std::path::Path;

use fibcast_daemon::config::{Loaded, parse};
use fibcast_dataplane::config::Config;

/// Between the two files of an input: a byte that is in no UTF-8 text.
pub const SEPARATOR: u8 = 0xff;

/// A valid file; what it names on disk is left out, since an input must not depend on it.
fn config(bytes: &[u8]) -> Option<Loaded<Config>> {
    let text = std::str::from_utf8(bytes).ok()?;
    let loaded = parse::<Config>(Path::new("daemon.toml"), text.to_owned()).ok()?;
    if loaded.value.tls.is_on() || loaded.value.node.digest_key.is_some() {
        return None;
    }
    Config::check(&loaded).ok()?;
    Some(loaded)
}

/// The file in force and the one that takes its place, with [`SEPARATOR`] between them. What may change at work may change back, the same file
/// may always be read again, and a refusal names the file.
pub fn reload(data: &[u8]) {
    let Some(at) = data.iter().position(|byte| *byte == SEPARATOR) else { return };
    let (Some(old), Some(new)) = (data.get(..at).and_then(config), data.get(at + 1..).and_then(config))
    else {
        return;
    };
    assert_eq!(Config::may_reload(&old, &old), Ok(()), "the same file");
    match (Config::may_reload(&new, &old), Config::may_reload(&old, &new)) {
        (Ok(()), Ok(())) => {}
        (Err(there), Err(back)) => {
            assert!(there.contains("daemon.toml") && back.contains("daemon.toml"), "{there}; {back}");
        }
        (there, back) => panic!("allowed one way and refused the other: {there:?} {back:?}"),
    }
}
