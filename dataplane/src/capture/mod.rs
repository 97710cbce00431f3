//! Packet captures: copies of packets in a bounded ring from the workers to an operator.
//!
//! Without a capture, a worker reads one flag per burst. With one, packets that do not fit into the ring are lost to the capture and
//! counted; forwarding never waits. [`Hub`] is shared by workers and operators, [`Session`] is one capture, [`filter`] selects its packets.

pub mod filter;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwapOption;
use crossbeam_queue::ArrayQueue;
use fibcast_control::capture::{Captured, CapturedPacket, Direction};

use crate::reason::Reason;
use filter::Filter;

/// Bytes kept of a packet (snapshot length).
pub const SNAP: usize = 1_600;
/// Packets that can wait for the operator.
const RING: usize = 2_048;
/// Most packets in one answer.
const CHUNK: usize = 512;
/// A capture that nobody reads for this long is ended.
const READ_TIMEOUT: Duration = Duration::from_secs(10);

/// A copy of a packet.
struct Copy {
    port: u16,
    direction: Direction,
    reason: Option<Reason>,
    time_ns: u64,
    length: u32,
    kept: u16,
    bytes: [u8; SNAP],
}

/// One capture.
pub struct Session {
    id: u64,
    port: Option<u16>,
    directions: Vec<Direction>,
    filter: Filter,
    ring: ArrayQueue<Copy>,
    lost: AtomicU64,
    read_at: Mutex<Instant>,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("id", &self.id).field("waiting", &self.ring.len()).finish()
    }
}

impl Session {
    /// Copies a packet into the ring if it matches and there is room.
    #[cold]
    pub fn offer(
        &self,
        direction: Direction,
        port: u16,
        reason: Option<Reason>,
        frame: &[u8],
        length: usize,
    ) {
        if !self.directions.contains(&direction)
            || self.port.is_some_and(|wanted| wanted != port)
            || !self.filter.matches(frame)
        {
            return;
        }
        if self.ring.is_full() {
            self.lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut copy = Copy {
            port,
            direction,
            reason,
            time_ns: since.as_nanos() as u64,
            length: length as u32,
            kept: frame.len().min(SNAP) as u16,
            bytes: [0; SNAP],
        };
        for (to, from) in copy.bytes.iter_mut().zip(frame) {
            *to = *from;
        }
        if self.ring.push(copy).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// What to capture.
#[derive(Debug, Clone)]
pub struct CaptureOptions {
    /// Name of the port; none for all ports.
    pub port: Option<String>,
    /// Directions; empty for both and for drops.
    pub directions: Vec<Direction>,
    /// Filter expression, see [`filter`]; empty for all packets.
    pub filter: String,
}

/// Entry point of workers and operators to the running capture.
#[derive(Debug, Default)]
pub struct Hub {
    active: AtomicBool,
    session: ArcSwapOption<Session>,
    ports: Vec<String>,
    next: AtomicU64,
    /// Ended captures that a worker may still hold. They are freed by the operator's thread, not by a worker.
    ended: Mutex<Vec<Arc<Session>>>,
}

impl Hub {
    /// A hub for ports with these names.
    pub fn new(ports: Vec<String>) -> Hub {
        Hub { ports, ..Hub::default() }
    }

    /// The running capture, if any. Workers ask once per burst.
    #[inline]
    pub fn session(&self) -> Option<Arc<Session>> {
        if !self.active.load(Ordering::Relaxed) {
            return None;
        }
        self.session.load_full()
    }

    /// Starts a capture.
    ///
    /// # Errors
    /// If a port or the filter is invalid, or another capture is running. The text says which.
    pub fn start(&self, wanted: &CaptureOptions) -> Result<Captured, String> {
        let port =
            match &wanted.port {
                Some(name) => {
                    let port_index = self.ports.iter().position(|port| port == name);
                    Some(port_index.ok_or_else(|| {
                        format!("expected one of {}, found {name:?}", self.ports.join(", "))
                    })?)
                }
                None => None,
            };
        let filter = wanted.filter.parse()?;
        if let Some(running) = self.session.load_full() {
            let read_at = *running.read_at.lock().unwrap_or_else(PoisonError::into_inner);
            if read_at.elapsed() < READ_TIMEOUT {
                return Err("another capture is running".to_owned());
            }
            self.end(&running);
        }
        let all = [Direction::In, Direction::Out, Direction::Drop];
        let session = Arc::new(Session {
            id: self.next.fetch_add(1, Ordering::Relaxed) + 1,
            port: port.map(|port_index| port_index as u16),
            directions: if wanted.directions.is_empty() { all.to_vec() } else { wanted.directions.clone() },
            filter,
            ring: ArrayQueue::new(RING),
            lost: AtomicU64::new(0),
            read_at: Mutex::new(Instant::now()),
        });
        let id = session.id;
        self.session.store(Some(session));
        self.active.store(true, Ordering::Release);
        Ok(Captured { id, ports: self.ports.clone(), ..Captured::default() })
    }

    /// The packets captured since the last read.
    ///
    /// # Errors
    /// If no capture with this id is running.
    pub fn read(&self, id: u64) -> Result<Captured, String> {
        let gone = || "this capture is over".to_owned();
        let session = self.session.load_full().filter(|session| session.id == id).ok_or_else(gone)?;
        *session.read_at.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        let packets = std::iter::from_fn(|| session.ring.pop()).take(CHUNK).map(|copy| CapturedPacket {
            port: copy.port,
            direction: copy.direction,
            reason: copy.reason.map(|reason| reason.name().to_owned()),
            time_ns: copy.time_ns,
            length: copy.length,
            bytes: hex(copy.bytes.get(..usize::from(copy.kept)).unwrap_or_default()),
        });
        Ok(Captured {
            id,
            ports: self.ports.clone(),
            packets: packets.collect(),
            lost: session.lost.load(Ordering::Relaxed),
        })
    }

    /// Ends a capture and returns its remaining packets.
    ///
    /// # Errors
    /// If no capture with this id is running.
    pub fn stop(&self, id: u64) -> Result<Captured, String> {
        let last = self.read(id)?;
        if let Some(session) = self.session.load_full() {
            self.end(&session);
        }
        Ok(last)
    }

    fn end(&self, session: &Arc<Session>) {
        self.active.store(false, Ordering::Release);
        self.session.store(None);
        let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        ended.retain(|session| Arc::strong_count(session) > 1);
        ended.push(session.clone());
    }
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| DIGITS.get(usize::from(nibble)).map_or('0', |digit| char::from(*digit));
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}
