//! A simulated TCP connection: two pipes of bytes with delay and limited capacity, whose ends detect its loss at different times.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use fibcast_sync_proto::codec::Decoder;
use fibcast_sync_proto::frame::{Frame, Inbox, Mode};
use fibcast_sync_proto::server::SessionId;
use fibcast_sync_proto::wire::ProtocolError;
use fibcast_sync_proto::{ChangeRef, Label};

/// Direction of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    /// From client to server.
    Up,
    /// From server to client.
    Down,
}

/// Bytes in flight in one direction.
#[derive(Debug, Default)]
pub struct Pipe {
    segments: VecDeque<(Duration, Vec<u8>)>,
    /// Read bytes of the first segment.
    at: usize,
    /// Bytes that the sender's system has accepted and the reader has not read.
    pub buffered: usize,
    /// Nothing arrives before this: bytes do not overtake each other.
    pub latest: Duration,
    /// The sender is gone: what the reader sees after the last byte, and when.
    pub end: Option<(Duration, &'static str)>,
    /// An event that will examine this pipe is queued.
    pub scheduled: bool,
}

impl Pipe {
    /// Adds bytes that arrive at `at`, or after all previous ones.
    pub fn send(&mut self, at: Duration, bytes: &[u8]) {
        self.latest = self.latest.max(at);
        self.buffered += bytes.len();
        self.segments.push_back((self.latest, bytes.to_vec()));
    }

    /// Up to `limit` bytes that have arrived.
    pub fn read(&mut self, now: Duration, limit: usize) -> Vec<u8> {
        let Some((_, bytes)) = self.segments.front().filter(|(at, _)| *at <= now) else { return Vec::new() };
        let rest = bytes.get(self.at..).unwrap_or_default();
        let part = rest.get(..limit.min(rest.len())).unwrap_or_default().to_vec();
        self.at += part.len();
        if self.at >= bytes.len() {
            self.at = 0;
            self.segments.pop_front();
        }
        self.buffered -= part.len();
        part
    }

    /// Size of the next portion.
    pub fn next_len(&self) -> usize {
        self.segments.front().map_or(0, |(_, bytes)| bytes.len() - self.at)
    }

    /// When there is something to read, or the end.
    pub fn due(&self) -> Option<Duration> {
        self.segments.front().map(|(at, _)| *at).or(self.end.map(|(at, _)| at))
    }

    /// Whether everything was read and only the end is left.
    pub fn is_drained(&self) -> bool {
        self.segments.is_empty()
    }

    /// Loses the bytes in flight.
    pub fn clear(&mut self) {
        self.segments.clear();
        self.at = 0;
        self.buffered = 0;
    }
}

/// A connection between a link of a client and a server.
#[derive(Debug)]
pub struct Connection {
    /// The client's node.
    pub client: usize,
    /// Which of the node's clients.
    pub slot: usize,
    /// Which of the client's servers.
    pub link: usize,
    /// The server's node.
    pub server: usize,
    /// The server's session, once accepted.
    pub session: Option<SessionId>,
    /// The client's end exists, also before it is connected.
    pub client_open: bool,
    /// The client's end knows that it is connected.
    pub connected: bool,
    /// The server's end exists.
    pub server_open: bool,
    /// The server closes it as soon as its last bytes are sent.
    pub ending: bool,
    /// One end is dead without a notification: bytes are lost.
    pub void: bool,
    /// Bytes to the server.
    pub up: Pipe,
    /// Bytes to the client.
    pub down: Pipe,
    /// Checks the traffic.
    pub observer: Observer,
}

impl Connection {
    /// A connection that the client has started to open.
    pub fn new(client: usize, slot: usize, link: usize, server: usize) -> Self {
        Self {
            client,
            slot,
            link,
            server,
            session: None,
            client_open: true,
            connected: false,
            server_open: false,
            ending: false,
            void: false,
            up: Pipe::default(),
            down: Pipe::default(),
            observer: Observer::default(),
        }
    }

    /// The pipe of a direction.
    pub fn pipe(&mut self, way: Way) -> &mut Pipe {
        match way {
            Way::Up => &mut self.up,
            Way::Down => &mut self.down,
        }
    }
}

/// Monitors what a server sends, and detects violations of the protocol.
#[derive(Debug, Default)]
pub struct Observer {
    up: Inbox,
    down: Inbox,
    activates: u64,
    welcomes: u64,
    batch: Option<(Mode, Decoder, BTreeSet<Label>)>,
    /// Number of data frames.
    pub data_frames: u64,
}

impl Observer {
    /// The server received bytes.
    pub fn to_server(&mut self, bytes: &[u8]) {
        self.up.push(bytes);
        while let Ok(Some(frame)) = self.up.next() {
            self.activates += u64::from(matches!(frame, Frame::Activate { .. }));
        }
    }

    /// The server sent bytes. Returns a violation.
    ///
    /// # Errors
    /// A violation of the protocol, as text.
    pub fn to_client(&mut self, bytes: &[u8]) -> Result<(), String> {
        let mut inbox = std::mem::take(&mut self.down);
        inbox.push(bytes);
        let result = loop {
            match inbox.next() {
                Ok(None) => break Ok(()),
                Ok(Some(frame)) => {
                    if let Err(e) = self.frame(&frame) {
                        break Err(e);
                    }
                }
                Err(e) => break Err(format!("a server sent what cannot be read: {e}")),
            }
        };
        self.down = inbox;
        result
    }

    fn frame(&mut self, frame: &Frame<'_>) -> Result<(), String> {
        match frame {
            Frame::Welcome(_) => self.welcomes += 1,
            Frame::Begin { .. }
            | Frame::Records(_)
            | Frame::Commit { .. }
            | Frame::Equal { .. }
            | Frame::Symbols { .. } => {
                self.data_frames += 1;
                // The first Welcome answers Register, each later one a Deactivate.
                if self.activates < self.welcomes {
                    return Err(format!("a server sent {} to a client in standby", frame.name()));
                }
            }
            _ => {}
        }
        match frame {
            Frame::Begin { mode, .. } => self.batch = Some((*mode, Decoder::new(), BTreeSet::new())),
            Frame::Records(body) => self.records(body)?,
            Frame::Commit { count, .. } => {
                let mode = self.batch.take().map(|(mode, ..)| mode);
                if mode == Some(Mode::Changes) && *count == 0 {
                    return Err("a batch was sent downstream without a change".into());
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// In a full copy every group precedes the first route that uses it.
    fn records(&mut self, body: &[u8]) -> Result<(), String> {
        let Some((mode, decoder, groups)) = &mut self.batch else { return Ok(()) };
        let whole = *mode == Mode::Snapshot;
        let mut early = None;
        decoder
            .decode(body, |change| {
                match change {
                    ChangeRef::Group { label, value: Some(_) } => _ = groups.insert(label),
                    change => early = early.or(change.label().filter(|l| whole && !groups.contains(l))),
                }
                Ok::<(), ProtocolError>(())
            })
            .map_err(|e| format!("a server sent records that cannot be read: {e}"))?;
        early.map_or(Ok(()), |label| Err(format!("a copy named a route before its group {label}")))
    }
}
