//! Serves the figures on threads of its own, so that the packet loop never waits for a reader.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::report::Figures;

/// The latest figures of each core, shared by the packet loops and the serving threads.
#[derive(Debug, Clone, Default)]
pub struct Board(Arc<Mutex<Vec<Figures>>>);

impl Board {
    /// Those of one core.
    pub fn put(&self, core: usize, figures: Figures) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() <= core {
            all.resize_with(core + 1, Figures::default);
        }
        if let Some(place) = all.get_mut(core) {
            *place = figures;
        }
    }

    /// Those of all cores together.
    pub fn put_all(&self, figures: Figures) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = vec![figures];
    }

    pub fn latest(&self) -> Figures {
        Figures::sum(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub fn line(&self) -> String {
        serde_json::to_string(&self.latest()).unwrap_or_default()
    }
}

/// A name, and where to return the number of changed routes.
type Order = (String, Sender<Option<usize>>);

/// Sends names of changes to the packet loops.
#[derive(Debug, Clone)]
pub struct Teller(Vec<Sender<Order>>);

/// A packet loop's receiver of changes.
#[derive(Debug)]
pub struct Orders(Receiver<Order>);

impl Teller {
    /// Of so many loops.
    pub fn new(loops: usize) -> (Self, Vec<Orders>) {
        let (senders, receivers) = (0..loops).map(|_| channel()).map(|(to, from)| (to, Orders(from))).unzip();
        (Self(senders), receivers)
    }

    /// Waits until all loops know the change, so that the caller can let it happen; returns the number of routes or an error.
    fn change(&self, name: &str) -> Result<usize, &'static str> {
        let (sender, receiver) = channel();
        for each in &self.0 {
            each.send((name.to_owned(), sender.clone())).map_err(|_| "no packets are sent any more")?;
        }
        let mut routes = None;
        for _ in &self.0 {
            let done = receiver.recv_timeout(Duration::from_secs(30));
            routes = done.map_err(|_| "no packets are sent yet")?;
        }
        routes.ok_or("expected a change of the scenario or of --change")
    }
}

impl Orders {
    /// Executes the changes since the last call.
    pub fn each(&self, mut change: impl FnMut(&str) -> Option<usize>) {
        while let Ok((name, done)) = self.0.try_recv() {
            // The sender may be gone.
            let _ = done.send(change(&name));
        }
    }
}

/// Prints the figures every 200 ms as long as there is a reader.
pub fn print(board: Board) -> io::Result<()> {
    std::thread::Builder::new().name("print".into()).spawn(move || {
        while writeln!(io::stdout(), "{}", board.line()).is_ok() {
            std::thread::sleep(Duration::from_millis(200));
        }
    })?;
    Ok(())
}

/// A control socket; its file is removed when this is dropped.
#[derive(Debug)]
pub struct Control {
    path: PathBuf,
}

impl Control {
    pub fn start(path: &Path, board: Board, teller: Teller) -> io::Result<Self> {
        remove_stale(path)?;
        let listener = UnixListener::bind(path)?;
        let control = Self { path: path.to_path_buf() };
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
        std::thread::Builder::new().name("control".into()).spawn(move || {
            for stream in listener.incoming().flatten() {
                let (board, teller) = (board.clone(), teller.clone());
                let client = std::thread::Builder::new().name("client".into());
                let _ = client.spawn(move || answer(&stream, &board, &teller));
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

/// Removes a socket that a killed process left behind. A socket with a listener stays, and so does any other file.
pub fn remove_stale(path: &Path) -> io::Result<()> {
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_socket());
    if is_socket
        && UnixStream::connect(path).is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
    {
        std::fs::remove_file(path)?;
    }
    Ok(())
}

fn answer(stream: &UnixStream, board: &Board, teller: &Teller) -> io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    for line in BufReader::new(stream).lines() {
        let request: Option<serde_json::Value> = serde_json::from_str(&line?).ok();
        let word = |key: &str| request.as_ref()?.get(key)?.as_str();
        let error = |what: &str| serde_json::json!({ "error": what }).to_string();
        let reply = match (word("show"), word("change")) {
            (Some("pktgen"), None) => board.line(),
            (None, Some(name)) => match teller.change(name) {
                Ok(routes) => serde_json::json!({ "change": name, "routes": routes }).to_string(),
                Err(what) => error(what),
            },
            _ => error(r#"expected {"show":"pktgen"} or {"change":"NAME"}"#),
        };
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
        let (teller, orders) = Teller::new(2);
        let control = Control::start(&path, board.clone(), teller).unwrap();
        board.put(1, Figures { sent: 40, ..Figures::default() });
        board.put(0, Figures { sent: 2, ..Figures::default() });
        let mut stream = UnixStream::connect(&path).unwrap();
        stream.write_all(b"{\"show\":\"pktgen\"}\nnonsense\n").unwrap();
        let mut lines = BufReader::new(&stream).lines();
        let figures: serde_json::Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        assert_eq!((figures["sent"].as_u64(), figures["phase"].as_str()), (Some(42), Some("resolve")));
        assert!(lines.next().unwrap().unwrap().contains("error"));
        stream.write_all(b"{\"change\":\"away\"}\n{\"change\":\"nowhere\"}\n").unwrap();
        let reader = std::thread::spawn({
            let stream = stream.try_clone().unwrap();
            move || BufReader::new(stream).lines().take(2).map(Result::unwrap).collect::<Vec<_>>()
        });
        while !reader.is_finished() {
            for orders in &orders {
                orders.each(|name| (name == "away").then_some(7));
            }
        }
        let [away, nowhere] = reader.join().unwrap().try_into().unwrap();
        assert_eq!(away, r#"{"change":"away","routes":7}"#);
        assert!(nowhere.contains("--change"), "{nowhere}");
        drop(control);
        assert!(!path.exists());
    }
}
