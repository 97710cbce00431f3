//! Selects the daemon: the named socket, or the only one in the default folder.

use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

/// Default folder of the daemons' control sockets.
const FOLDER: &str = "/run/fibcast";

/// The socket to use.
pub fn choose(named: Option<&Path>) -> Result<PathBuf, String> {
    match named {
        Some(path) => Ok(path.to_owned()),
        None => only_socket_in(Path::new(FOLDER)),
    }
}

fn only_socket_in(folder: &Path) -> Result<PathBuf, String> {
    let entries = std::fs::read_dir(folder).map_err(|error| {
        format!("{}: no daemon runs here ({error}); name one with --socket", folder.display())
    })?;
    let mut sockets: Vec<PathBuf> = entries
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_socket()))
        .map(|entry| entry.path())
        .collect();
    sockets.sort();
    match sockets.as_slice() {
        [only] => Ok(only.clone()),
        [] => Err(format!("{}: no daemon runs here; name one with --socket", folder.display())),
        several => {
            let names: Vec<_> = several.iter().map(|path| path.display().to_string()).collect();
            Err(format!("several daemons run here, name one with --socket: {}", names.join(", ")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::only_socket_in;
    use std::os::unix::net::UnixListener;

    #[test]
    fn the_only_socket_is_chosen_and_several_must_be_named() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("note.txt"), "").unwrap();
        assert!(only_socket_in(folder.path()).unwrap_err().contains("no daemon runs here"));
        let _a = UnixListener::bind(folder.path().join("a.sock")).unwrap();
        assert_eq!(only_socket_in(folder.path()).unwrap(), folder.path().join("a.sock"));
        let _b = UnixListener::bind(folder.path().join("b.sock")).unwrap();
        let error = only_socket_in(folder.path()).unwrap_err();
        assert!(error.contains("a.sock") && error.contains("b.sock"), "{error}");
    }
}
