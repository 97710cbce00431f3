//! Selects the daemon: the named socket or node, that of `FIBCAST_SOCKET`, or the only one in the default folder on which a daemon listens.

use std::ffi::OsString;
use std::io::ErrorKind;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use fibcast_control::probe;

/// Default folder of the daemons' control sockets.
const FOLDER: &str = "/run/fibcast";

/// How the operator names the daemon; at most one of both.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Choice {
    /// The daemon's control socket; default: $FIBCAST_SOCKET, then the only one in /run/fibcast on which a daemon listens.
    #[arg(long, global = true, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// The daemon whose socket is /run/fibcast/NAME.sock.
    #[arg(long, global = true, value_name = "NAME", conflicts_with = "socket")]
    node: Option<String>,
}

impl Choice {
    /// The socket to use.
    pub fn socket(&self) -> Result<PathBuf, String> {
        self.socket_by(std::env::var_os("FIBCAST_SOCKET"), Path::new(FOLDER))
    }

    /// The socket that is named, or those of all daemons that run here; empty if none does.
    pub fn all(&self) -> Result<Vec<PathBuf>, String> {
        self.all_by(std::env::var_os("FIBCAST_SOCKET"), Path::new(FOLDER))
    }

    fn all_by(&self, environment: Option<OsString>, folder: &Path) -> Result<Vec<PathBuf>, String> {
        let named = self.socket.is_some() || self.node.is_some();
        if named || environment.as_ref().is_some_and(|path| !path.is_empty()) {
            return self.socket_by(environment, folder).map(|path| vec![path]);
        }
        // Without the folder no daemon has run since the machine's start.
        Ok(Sockets::in_folder(folder).map_or_else(|_| Vec::new(), |sockets| sockets.live))
    }

    /// What is named on the command line counts more than the environment.
    fn socket_by(&self, environment: Option<OsString>, folder: &Path) -> Result<PathBuf, String> {
        if let Some(path) = &self.socket {
            return Ok(path.clone());
        }
        if let Some(name) = &self.node {
            return Sockets::in_folder(folder)?.of(name);
        }
        match environment.filter(|path| !path.is_empty()) {
            Some(path) => Ok(path.into()),
            None => Sockets::in_folder(folder)?.only(),
        }
    }
}

/// The sockets of a folder.
struct Sockets<'a> {
    folder: &'a Path,
    /// A daemon listens on them.
    live: Vec<PathBuf>,
    /// Nobody listens: left behind by daemons that were killed.
    stale: Vec<PathBuf>,
}

impl<'a> Sockets<'a> {
    fn in_folder(folder: &'a Path) -> Result<Self, String> {
        let entries = std::fs::read_dir(folder).map_err(|error| {
            format!("{}: no daemon runs here ({error}); name one with --socket", folder.display())
        })?;
        let sockets = entries
            .flatten()
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_socket()))
            .map(|entry| entry.path());
        let (mut live, mut stale): (Vec<_>, Vec<_>) = sockets.partition(|path| is_live(path));
        live.sort();
        stale.sort();
        Ok(Self { folder, live, stale })
    }

    /// That of a node.
    fn of(&self, name: &str) -> Result<PathBuf, String> {
        let fits = |path: &&PathBuf| path.file_stem().is_some_and(|stem| stem == name);
        if let Some(path) = self.live.iter().find(fits) {
            return Ok(path.clone());
        }
        let why = match self.stale.iter().find(fits) {
            Some(path) => format!("{}: no daemon listens on this socket any more", path.display()),
            None => format!("{}: no node {name:?} here", self.folder.display()),
        };
        Err(format!("{why}; {}", self.what_is_there()))
    }

    /// The only one.
    fn only(&self) -> Result<PathBuf, String> {
        match self.live.as_slice() {
            [only] => Ok(only.clone()),
            [] => Err(format!(
                "{}: no daemon runs here; name one with --socket{}",
                self.folder.display(),
                self.and_stale()
            )),
            several => Err(format!(
                "several daemons run here, name one with --node or --socket: {}{}",
                listed(several),
                self.and_stale()
            )),
        }
    }

    fn what_is_there(&self) -> String {
        let names: Vec<_> = self.live.iter().filter_map(|path| path.file_stem()?.to_str()).collect();
        let running = if names.is_empty() {
            "no daemon runs here".into()
        } else {
            format!("running: {}", names.join(", "))
        };
        running + &self.and_stale()
    }

    fn and_stale(&self) -> String {
        if self.stale.is_empty() {
            return String::new();
        }
        format!(" (stale sockets, on which no daemon listens: {})", listed(&self.stale))
    }
}

fn listed(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}

/// Whether somebody listens. A socket that one may not use is somebody's: the request will say so.
fn is_live(path: &Path) -> bool {
    probe(path).map_or_else(|error| error.kind() != ErrorKind::ConnectionRefused, |()| true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::{UnixListener, UnixStream};

    fn named(node: &str) -> Choice {
        Choice { socket: None, node: Some(node.to_owned()) }
    }

    #[test]
    fn the_only_socket_is_chosen_and_several_must_be_named() {
        let folder = tempfile::tempdir().unwrap();
        let chosen = || Choice::default().socket_by(None, folder.path());
        std::fs::write(folder.path().join("note.txt"), "").unwrap();
        assert!(chosen().unwrap_err().contains("no daemon runs here"));
        let _a = UnixListener::bind(folder.path().join("a.sock")).unwrap();
        assert_eq!(chosen().unwrap(), folder.path().join("a.sock"));
        let _b = UnixListener::bind(folder.path().join("b.sock")).unwrap();
        let error = chosen().unwrap_err();
        assert!(error.contains("a.sock") && error.contains("b.sock"), "{error}");
        assert_eq!(named("b").socket_by(None, folder.path()).unwrap(), folder.path().join("b.sock"));
        let error = named("c").socket_by(None, folder.path()).unwrap_err();
        assert!(error.ends_with("no node \"c\" here; running: a, b"), "{error}");
    }

    #[test]
    fn a_socket_on_which_nobody_listens_is_named_and_not_chosen() {
        let folder = tempfile::tempdir().unwrap();
        drop(UnixListener::bind(folder.path().join("old.sock")).unwrap());
        let chosen = || Choice::default().socket_by(None, folder.path());
        let error = chosen().unwrap_err();
        assert!(error.contains("no daemon runs here") && error.contains("old.sock"), "{error}");
        let error = named("old").socket_by(None, folder.path()).unwrap_err();
        assert!(error.contains("old.sock: no daemon listens on this socket any more"), "{error}");
        let _a = UnixListener::bind(folder.path().join("a.sock")).unwrap();
        assert_eq!(chosen().unwrap(), folder.path().join("a.sock"));
    }

    #[test]
    fn a_daemon_that_hangs_is_one_that_runs_and_delays_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.sock");
        let listener = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
        listener.bind(&socket2::SockAddr::unix(&path).unwrap()).unwrap();
        listener.listen(0).unwrap();
        // Nobody accepts: with the first one the backlog is full, and a connect that waits would wait for ever.
        let _first = UnixStream::connect(&path).unwrap();
        assert_eq!(Choice::default().socket_by(None, folder.path()).unwrap(), path);
    }

    #[test]
    fn all_are_those_that_run_unless_one_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let all = |choice: Choice, environment| choice.all_by(environment, folder.path());
        let none = Choice::default;
        assert_eq!(all(none(), None).unwrap(), Vec::<PathBuf>::new());
        assert_eq!(none().all_by(None, &path("missing")).unwrap(), Vec::<PathBuf>::new());
        let _b = UnixListener::bind(path("b.sock")).unwrap();
        let _a = UnixListener::bind(path("a.sock")).unwrap();
        drop(UnixListener::bind(path("old.sock")).unwrap());
        assert_eq!(all(none(), None).unwrap(), [path("a.sock"), path("b.sock")]);
        assert_eq!(all(named("b"), None).unwrap(), [path("b.sock")]);
        assert_eq!(all(none(), Some("/e.sock".into())).unwrap(), [PathBuf::from("/e.sock")]);
        assert!(all(named("c"), None).unwrap_err().contains("no node \"c\" here"));
    }

    #[test]
    fn the_environment_counts_unless_the_command_line_names_a_daemon() {
        let folder = tempfile::tempdir().unwrap();
        let _a = UnixListener::bind(folder.path().join("a.sock")).unwrap();
        let environment = || Some(OsString::from("/e.sock"));
        let by = |choice: Choice, environment| choice.socket_by(environment, folder.path()).unwrap();
        assert_eq!(by(Choice::default(), environment()), Path::new("/e.sock"));
        assert_eq!(by(Choice::default(), Some(OsString::new())), folder.path().join("a.sock"));
        assert_eq!(by(named("a"), environment()), folder.path().join("a.sock"));
        let choice = Choice { socket: Some("/s.sock".into()), node: None };
        assert_eq!(by(choice, environment()), Path::new("/s.sock"));
    }
}
