//! Captures: copies of packets in a bounded ring, from workers to an operator who takes them away.
//!
//! While nobody captures, a worker reads one flag per burst. While somebody does, what does not fit into the ring is lost to the capture and
//! counted; forwarding never waits. [`Hub`] is what workers and operators share, [`Session`] one capture, [`filter`] what it wants.

pub mod filter;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwapOption;
use crossbeam_queue::ArrayQueue;
use fibcast_control::capture::{Captured, CapturedPacket, Direction};

use crate::reason::Reason;
use filter::Filter;

/// Bytes that are kept of a packet.
pub const SNAP: usize = 1_600;
/// Packets that wait to be taken away.
const RING: usize = 2_048;
/// Packets in one answer.
const CHUNK: usize = 512;
/// A capture that nobody reads for so long is over: its operator has gone.
const PATIENCE: Duration = Duration::from_secs(10);

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
    /// Takes a copy, if the packet is wanted and there is room.
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

/// What is asked for.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Name of the port; none: all.
    pub port: Option<String>,
    /// Empty: all.
    pub directions: Vec<Direction>,
    /// See [`filter`]; empty: all.
    pub filter: String,
}

/// Where workers find the capture, if there is one, and operators begin and end it.
#[derive(Debug, Default)]
pub struct Hub {
    active: AtomicBool,
    session: ArcSwapOption<Session>,
    ports: Vec<String>,
    next: AtomicU64,
    /// Ended captures that a worker may still hold: freed here, not there.
    ended: Mutex<Vec<Arc<Session>>>,
}

impl Hub {
    /// For ports of these names.
    pub fn new(ports: Vec<String>) -> Hub {
        Hub { ports, ..Hub::default() }
    }

    /// The capture, if there is one: asked once per burst.
    #[inline]
    pub fn session(&self) -> Option<Arc<Session>> {
        if !self.active.load(Ordering::Relaxed) {
            return None;
        }
        self.session.load_full()
    }

    /// Begins a capture.
    pub fn start(&self, wanted: &Wanted) -> Result<Captured, String> {
        let port =
            match &wanted.port {
                Some(name) => {
                    let place = self.ports.iter().position(|port| port == name);
                    Some(place.ok_or_else(|| {
                        format!("expected one of {}, found {name:?}", self.ports.join(", "))
                    })?)
                }
                None => None,
            };
        let filter = wanted.filter.parse()?;
        if let Some(running) = self.session.load_full() {
            let read_at = *running.read_at.lock().unwrap_or_else(PoisonError::into_inner);
            if read_at.elapsed() < PATIENCE {
                return Err("another capture is running".to_owned());
            }
            self.end(&running);
        }
        let all = [Direction::In, Direction::Out, Direction::Drop];
        let session = Arc::new(Session {
            id: self.next.fetch_add(1, Ordering::Relaxed) + 1,
            port: port.map(|place| place as u16),
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

    /// What came since the last look.
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

    /// Ends a capture, with what it still has.
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
