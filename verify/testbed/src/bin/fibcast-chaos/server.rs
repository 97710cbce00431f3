//! A server that does not behave: it says that it is ready, and when a client wants its table, it does harm.

use std::any::Any;
use std::fmt;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use fibcast_sync_proto::ChangeRef;
use fibcast_sync_proto::RootDigest;
use fibcast_sync_proto::codec::Encoder;
use fibcast_sync_proto::frame::{Frame, Mode, State};
use fibcast_testbed::Failure;

use crate::peers::pause_server;
use crate::subject::{Running, Setup};
use crate::trial::Harm;

/// Between two heartbeats.
const HEARTBEAT: Duration = Duration::from_millis(100);
/// Type of the frame by which a client wants the table.
const ACTIVATE: u8 = 4;
/// Type of frames with records.
const RECORDS: u8 = 7;

/// What it says to a client that wants its table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Says {
    /// Heartbeats, and no table.
    Nothing,
    /// A copy that never ends, as fast as it can.
    RecordsWithoutEnd,
    /// A frame that never ends, a byte in each tenth of a second.
    OneByteAtATime,
}

/// Beside the real one, which is silent meanwhile.
#[derive(Debug)]
pub struct Hostile {
    says: Says,
    address: Option<SocketAddr>,
    /// It says that it is ready.
    active: Arc<AtomicBool>,
}

impl Hostile {
    /// Listens from now on, and is not ready.
    pub fn new(says: Says) -> Self {
        let active = Arc::<AtomicBool>::default();
        let listener = TcpListener::bind("127.0.0.1:0").ok();
        let address = listener.as_ref().and_then(|listener| listener.local_addr().ok());
        if let Some(listener) = listener {
            let active = active.clone();
            // Until the end of this program.
            std::thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    let active = active.clone();
                    std::thread::spawn(move || _ = converse(stream, says, &active));
                }
            });
        }
        Self { says, address, active }
    }
}

/// It is not ready any more, and hangs up.
struct Quiet(Arc<AtomicBool>, #[allow(dead_code, reason = "continues when dropped")] Box<dyn Any>);

impl Drop for Quiet {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

impl fmt::Display for Says {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Says::Nothing => "heartbeats and no table",
            Says::RecordsWithoutEnd => "records without end",
            Says::OneByteAtATime => "10 bytes/s",
        })
    }
}

impl Harm for Hostile {
    fn name(&self) -> String {
        format!("its primary is silent, its secondary brings {}", self.says)
    }

    fn setup(&self) -> Setup<'_> {
        Setup { second: self.address, ..Setup::default() }
    }

    fn strike(&self, running: &mut Running) -> Result<Box<dyn Any>, Failure> {
        self.active.store(true, Ordering::Relaxed);
        let paused = pause_server(running)?;
        Ok(Box::new(Quiet(self.active.clone(), paused)))
    }

    fn is_felt(&self, running: &Running) -> bool {
        crate::health::check(running.http).is_err()
    }
}

fn state(ready: bool) -> State {
    let digest = RootDigest { hash: 7, count: 9 };
    State { epoch: 5, serial: 9, digest, ready, stale: false, path: Vec::new() }
}

/// The server's end of one connection, until it was active and is not any more.
fn converse(mut stream: TcpStream, says: Says, active: &AtomicBool) -> std::io::Result<()> {
    let mut out = Vec::new();
    Frame::Hello { name: "hostile".to_owned() }.encode(&mut out);
    Frame::Welcome(state(active.load(Ordering::Relaxed))).encode(&mut out);
    stream.write_all(&out)?;
    stream.set_read_timeout(Some(Duration::from_millis(20)))?;
    let (mut heard, mut portion) = (Vec::new(), [0; 4096]);
    let (mut wanted, mut was_active, mut beat) = (false, false, Instant::now());
    loop {
        let is_active = active.load(Ordering::Relaxed);
        if was_active && !is_active {
            return Ok(());
        }
        was_active |= is_active;
        match stream.read(&mut portion) {
            Ok(0) => return Ok(()),
            Ok(n) => heard.extend_from_slice(portion.get(..n).unwrap_or_default()),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(error) => return Err(error),
        }
        wanted |= wants_table(&mut heard);
        if wanted && says != Says::Nothing {
            return harm(&mut stream, says, active);
        }
        if beat.elapsed() >= HEARTBEAT {
            beat = Instant::now();
            out.clear();
            Frame::Heartbeat(Some(state(is_active))).encode(&mut out);
            stream.write_all(&out)?;
        }
    }
}

/// Takes complete frames, and says whether one of them is an Activate.
fn wants_table(heard: &mut Vec<u8>) -> bool {
    let mut wanted = false;
    while let Some(&[kind, a, b, c]) = heard.first_chunk::<4>() {
        let length = 4 + u32::from_be_bytes([0, a, b, c]) as usize;
        if heard.len() < length {
            break;
        }
        heard.drain(..length);
        wanted |= kind == ACTIVATE;
    }
    wanted
}

fn harm(stream: &mut TcpStream, says: Says, active: &AtomicBool) -> std::io::Result<()> {
    let mut out = Vec::new();
    Frame::Begin { mode: Mode::Snapshot, from: 0 }.encode(&mut out);
    if says == Says::OneByteAtATime {
        out.extend([RECORDS, 0, 0xff, 0xff]);
    }
    stream.write_all(&out)?;
    let (mut encoder, mut number) = (Encoder::new(), 0u32);
    let value = vec![7; 8 << 10];
    while active.load(Ordering::Relaxed) {
        out.clear();
        if says == Says::OneByteAtATime {
            std::thread::sleep(HEARTBEAT);
            out.push(0);
        } else {
            let key = number.to_be_bytes();
            encoder.push(ChangeRef::Opaque { key: &key, value: Some(&value) }, &mut out);
            encoder.flush(&mut out);
            number += 1;
        }
        stream.write_all(&out)?;
    }
    Ok(())
}
