//! One neighbor: connects until it answers, sends the table, then each change when it is due; starts over after a loss.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::message::{self, HEADER, LARGEST, Speaker};
use crate::script::Script;

/// Pause between two attempts.
const AGAIN: Duration = Duration::from_millis(200);
/// Interval of checks for due changes.
const TICK: Duration = Duration::from_millis(5);
/// Longest wait for the answers that open a session.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of the table between two keepalives.
const PORTION: usize = 1 << 20;

/// State shared by all sessions.
#[derive(Debug)]
pub struct Stage {
    /// Who speaks.
    pub speaker: Speaker,
    /// The content.
    pub script: Script,
    /// Time of the first change in nanoseconds since 1970; `u64::MAX` while it is unknown.
    pub start_ns: AtomicU64,
    /// Everything ends.
    pub stop: Arc<AtomicBool>,
}

impl Stage {
    fn stops(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// Why a session ended.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("it sent something that is not BGP")]
    NotBgp,
    #[error("it refused: NOTIFICATION {0}/{1} (RFC 4271 §4.5)")]
    Refused(u8, u8),
    #[error("it closed the session")]
    Closed,
}

/// Reports the progress of a session, one line of JSON each on standard output.
pub fn say(neighbor: SocketAddr, event: &str, more: &str) {
    let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    let mut out = std::io::stdout().lock();
    // The reader may be gone; the sessions continue.
    let _ =
        writeln!(out, "{{\"at\":{at:.3},\"neighbor\":\"{}\",\"event\":\"{event}\"{more}}}", neighbor.ip());
    let _ = out.flush();
}

/// Serves a neighbor until the end.
pub fn serve(neighbor: SocketAddr, stage: &Stage) {
    while !stage.stops() {
        if let Ok(stream) = TcpStream::connect_timeout(&neighbor, Duration::from_secs(1)) {
            let outcome = session(&stream, neighbor, stage);
            let _ = stream.shutdown(Shutdown::Both);
            if let Err(error) = outcome {
                eprintln!("fibcast-bgp-player: {neighbor}: {error}");
            }
        }
        std::thread::sleep(AGAIN);
    }
}

fn session(mut stream: &TcpStream, neighbor: SocketAddr, stage: &Stage) -> Result<(), SessionError> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(OPEN_TIMEOUT))?;
    let mut bytes = Vec::new();
    message::open(&mut bytes, &stage.speaker);
    stream.write_all(&bytes)?;
    expect(stream, message::OPEN)?;
    stream.write_all(&keepalive())?;
    expect(stream, message::KEEPALIVE)?;
    say(neighbor, "established", "");

    // Reads during writes, so that the neighbor never blocks on us and its last messages are read.
    stream.set_read_timeout(None)?;
    let over = Arc::new(AtomicBool::new(false));
    let (reader, flag) = (stream.try_clone()?, over.clone());
    let listener = std::thread::spawn(move || {
        let outcome = listen(&reader);
        flag.store(true, Ordering::Relaxed);
        outcome
    });
    let written = tell(stream, neighbor, stage, &|| stage.stops() || over.load(Ordering::Relaxed));
    let _ = stream.shutdown(Shutdown::Both);
    match listener.join() {
        Ok(Err(error)) if !stage.stops() => Err(error),
        _ => written,
    }
}

fn tell(
    mut stream: &TcpStream,
    neighbor: SocketAddr,
    stage: &Stage,
    over: &dyn Fn() -> bool,
) -> Result<(), SessionError> {
    let script = &stage.script;
    for portion in script.table.chunks(PORTION) {
        if over() {
            return Ok(());
        }
        stream.write_all(portion)?;
    }
    say(neighbor, "table", &format!(",\"routes\":{}", script.routes));
    let beat = Duration::from_secs(u64::from(stage.speaker.hold) / 4);
    let mut said_at = Instant::now();
    let (mut next, mut bytes) = (0, Vec::new());
    let mut latest = 0;
    let mut finished = script.changes.is_empty();
    while !over() {
        bytes.clear();
        // Since the first change was due; none: not yet.
        let at_ns = || now_ns().checked_sub(stage.start_ns.load(Ordering::Relaxed));
        let oldest = script.changes.get(next).map_or(0, |change| change.after_ns);
        next += at_ns().map_or(0, |at| script.due(next, at, &mut bytes));
        let changes = !bytes.is_empty();
        if !changes && said_at.elapsed() >= beat {
            bytes = keepalive();
        }
        if !bytes.is_empty() {
            stream.write_all(&bytes)?;
            said_at = Instant::now();
        }
        if changes {
            latest = latest.max(at_ns().unwrap_or(0).saturating_sub(oldest));
        }
        if !finished && next == script.changes.len() {
            finished = true;
            say(neighbor, "changes", &format!(",\"changes\":{next},\"late_ms\":{}", latest / 1_000_000));
        }
        std::thread::sleep(TICK);
    }
    Ok(())
}

fn keepalive() -> Vec<u8> {
    let mut bytes = Vec::new();
    message::keepalive(&mut bytes);
    bytes
}

fn now_ns() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos() as u64
}

/// Reads one message: its type and body.
fn read(mut stream: &TcpStream, body: &mut Vec<u8>) -> Result<u8, SessionError> {
    let mut start = [0; HEADER];
    stream.read_exact(&mut start).map_err(|error| match error.kind() {
        std::io::ErrorKind::UnexpectedEof => SessionError::Closed,
        _ => error.into(),
    })?;
    let (kind, length) = message::header(&start).ok_or(SessionError::NotBgp)?;
    body.resize(length - HEADER, 0);
    stream.read_exact(body)?;
    match (kind, body.as_slice()) {
        (message::NOTIFICATION, &[code, subcode, ..]) => Err(SessionError::Refused(code, subcode)),
        _ => Ok(kind),
    }
}

fn expect(stream: &TcpStream, wanted: u8) -> Result<(), SessionError> {
    if read(stream, &mut Vec::with_capacity(LARGEST))? == wanted { Ok(()) } else { Err(SessionError::NotBgp) }
}

fn listen(stream: &TcpStream) -> Result<(), SessionError> {
    let mut body = Vec::with_capacity(LARGEST);
    loop {
        read(stream, &mut body)?;
    }
}
