//! Peers that do not behave: silent, slow, greedy, and floods. Each is a thread or two of this program.

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::net::{AddressFamily, SocketType, sockopt};

/// Between two turns of those that hold connections.
const TURN: Duration = Duration::from_millis(100);
/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(1);
/// Where they come from.
const STRANGER: ([u8; 4], u16) = ([127, 0, 0, 66], 0);
/// Threads of a flood.
const FLOODERS: usize = 2;

/// Where peers connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// How they misbehave.
#[derive(Debug, Clone)]
pub enum How {
    /// They say nothing, and come again when they are closed.
    Silent { connections: usize },
    /// They say this, a byte in each tenth of a second, and begin again at its end.
    Slow { connections: usize, text: Vec<u8> },
    /// They ask this over and over, and take no answer.
    Greedy { connections: usize, first: Vec<u8>, again: Vec<u8> },
    /// They come, say this as fast as they can, and go.
    Flood { text: Vec<u8>, of: &'static str },
}

impl fmt::Display for How {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            How::Silent { connections } => write!(f, "{connections} silent peers"),
            How::Slow { connections, .. } => write!(f, "{connections} slow peers (10 bytes/s)"),
            How::Greedy { connections, .. } => write!(f, "{connections} peers ask and take no answer"),
            How::Flood { of, .. } => write!(f, "a flood of connections with {of}"),
        }
    }
}

/// An attack, until it is dropped.
#[derive(Debug)]
pub struct Attack {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Attack {
    pub fn start(target: Target, how: How) -> Attack {
        let stop = Arc::<AtomicBool>::default();
        let threads = if matches!(how, How::Flood { .. }) { FLOODERS } else { 1 };
        let threads = (0..threads).map(|_| {
            let (target, how, stop) = (target.clone(), how.clone(), stop.clone());
            std::thread::spawn(move || run(&target, &how, &stop))
        });
        Attack { threads: threads.collect(), stop }
    }
}

impl Drop for Attack {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn run(target: &Target, how: &How, stop: &AtomicBool) {
    let goes_on = || !stop.load(Ordering::Relaxed);
    let connect = || Peer::connect(target).ok();
    match how {
        How::Silent { connections } => hold(*connections, goes_on, connect, |_| true),
        How::Slow { connections, text } => {
            hold(*connections, goes_on, connect, |peer| {
                let byte = text.get(peer.sent % text.len().max(1)).copied().unwrap_or(b'a');
                peer.say(&[byte])
            });
        }
        How::Greedy { connections, first, again } => hold(*connections, goes_on, connect, |peer| {
            if peer.sent == 0 && !peer.say(first) {
                return false;
            }
            (0..100).all(|_| peer.say(again))
        }),
        How::Flood { text, .. } => {
            while goes_on() {
                match connect() {
                    Some(mut peer) => _ = peer.say(text),
                    None => std::thread::sleep(Duration::from_millis(1)),
                }
            }
        }
    }
}

/// Holds so many connections; `turn` says whether one continues. Those that were closed come again.
fn hold(
    most: usize,
    goes_on: impl Fn() -> bool,
    connect: impl Fn() -> Option<Peer>,
    turn: impl Fn(&mut Peer) -> bool,
) {
    let mut peers: Vec<Peer> = Vec::new();
    while goes_on() {
        peers.retain_mut(|peer| !peer.is_closed() && turn(peer));
        while peers.len() < most && goes_on() {
            let Some(peer) = connect() else { break };
            peers.push(peer);
        }
        std::thread::sleep(TURN);
    }
}

/// A connection from another host than those who behave, as far as addresses tell.
fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None)?;
    sockopt::set_socket_timeout(&socket, sockopt::Timeout::Send, Some(CONNECT))?;
    rustix::net::bind(&socket, &SocketAddr::from(STRANGER))?;
    rustix::net::connect(&socket, &address)?;
    Ok(TcpStream::from(socket))
}

/// The attacker's end of a connection.
#[derive(Debug)]
struct Peer {
    stream: Stream,
    sent: usize,
}

#[derive(Debug)]
enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Peer {
    fn connect(target: &Target) -> io::Result<Peer> {
        let stream = match target {
            Target::Tcp(address) => {
                let stream = connect(*address)?;
                stream.set_nonblocking(true)?;
                Stream::Tcp(stream)
            }
            Target::Unix(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_nonblocking(true)?;
                Stream::Unix(stream)
            }
        };
        Ok(Peer { stream, sent: 0 })
    }

    /// Says what the other end takes at once. False: it has closed the connection.
    fn say(&mut self, text: &[u8]) -> bool {
        let written = match &mut self.stream {
            Stream::Tcp(stream) => stream.write(text),
            Stream::Unix(stream) => stream.write(text),
        };
        match written {
            Ok(n) => self.sent += n,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => return false,
        }
        true
    }

    /// Whether the other end has closed it. Takes one byte of what it says, to see that.
    fn is_closed(&mut self) -> bool {
        let read = match &mut self.stream {
            Stream::Tcp(stream) => stream.read(&mut [0; 1]),
            Stream::Unix(stream) => stream.read(&mut [0; 1]),
        };
        match read {
            Ok(n) => n == 0,
            Err(error) => error.kind() != ErrorKind::WouldBlock,
        }
    }
}
