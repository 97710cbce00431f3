//! Tells the figures to others, on threads of its own, so that the packet loop never waits for a reader.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::report::Figures;

/// The latest figures, shared between the packet loop and those who tell them.
#[derive(Debug, Clone, Default)]
pub struct Board(Arc<Mutex<Figures>>);

impl Board {
    pub fn put(&self, figures: Figures) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = figures;
    }

    pub fn latest(&self) -> Figures {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn line(&self) -> String {
        serde_json::to_string(&self.latest()).unwrap_or_default()
    }
}

/// Prints the figures every 200 ms for as long as there is a reader.
pub fn print(board: Board) -> io::Result<()> {
    std::thread::Builder::new().name("print".into()).spawn(move || {
        while writeln!(io::stdout(), "{}", board.line()).is_ok() {
            std::thread::sleep(Duration::from_millis(200));
        }
    })?;
    Ok(())
}

/// A control socket; its file goes when this is dropped.
#[derive(Debug)]
pub struct Control {
    path: PathBuf,
}

impl Control {
    pub fn start(path: &Path, board: Board) -> io::Result<Self> {
        remove_stale(path)?;
        let listener = UnixListener::bind(path)?;
        let control = Self { path: path.to_path_buf() };
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
        std::thread::Builder::new().name("control".into()).spawn(move || {
            for stream in listener.incoming().flatten() {
                let board = board.clone();
                let _ =
                    std::thread::Builder::new().name("client".into()).spawn(move || answer(&stream, &board));
            }
        })?;
        Ok(control)
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Removes a socket that a killed process left behind. One that somebody answers at stays, and so does any
/// other file.
pub fn remove_stale(path: &Path) -> io::Result<()> {
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_socket());
    if is_socket
        && UnixStream::connect(path).is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
    {
        std::fs::remove_file(path)?;
    }
    Ok(())
}

fn answer(stream: &UnixStream, board: &Board) -> io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    for line in BufReader::new(stream).lines() {
        let request: Option<serde_json::Value> = serde_json::from_str(&line?).ok();
        let known = request.is_some_and(|request| request.get("show").is_some_and(|what| what == "pktgen"));
        let reply = if known { board.line() } else { r#"{"error":"expected {\"show\":\"pktgen\"}"}"#.into() };
        let mut stream = stream;
        stream.write_all(reply.as_bytes())?;
        stream.write_all(b"\n")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_socket_without_an_owner_is_removed() {
        let path = std::env::temp_dir().join(format!("fibcast-pktgen-stale-{}", std::process::id()));
        remove_stale(&path).unwrap();
        std::fs::write(&path, "somebody's file").unwrap();
        remove_stale(&path).unwrap();
        assert!(path.exists(), "a regular file");
        std::fs::remove_file(&path).unwrap();
        let owner = UnixListener::bind(&path).unwrap();
        remove_stale(&path).unwrap();
        assert!(path.exists(), "in use");
        drop(owner);
        remove_stale(&path).unwrap();
        assert!(!path.exists(), "left behind");
    }

    #[test]
    fn socket_answers_with_figures_and_names_what_it_does_not_know() {
        let path = std::env::temp_dir().join(format!("fibcast-pktgen-{}.sock", std::process::id()));
        let board = Board::default();
        let control = Control::start(&path, board.clone()).unwrap();
        board.put(Figures { sent: 42, ..Figures::default() });
        let mut stream = UnixStream::connect(&path).unwrap();
        stream.write_all(b"{\"show\":\"pktgen\"}\nnonsense\n").unwrap();
        let mut lines = BufReader::new(&stream).lines();
        let figures: serde_json::Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        assert_eq!((figures["sent"].as_u64(), figures["phase"].as_str()), (Some(42), Some("resolve")));
        assert!(lines.next().unwrap().unwrap().contains("error"));
        drop(control);
        assert!(!path.exists());
    }
}
