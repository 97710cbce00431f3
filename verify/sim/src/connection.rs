//! A virtual TCP connection: two pipes of bytes with delay, bounded room, and ends that learn of its death at different times.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use fibcast_sync_proto::codec::Decoder;
use fibcast_sync_proto::frame::{Frame, Inbox, Mode};
use fibcast_sync_proto::server::SessionId;
use fibcast_sync_proto::{Change, Key, Label, Value};

/// Direction of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    /// From client to server.
    Up,
    /// From server to client.
    Down,
}

/// Bytes on their way in one direction.
#[derive(Debug, Default)]
pub struct Pipe {
    segments: VecDeque<(Duration, Vec<u8>)>,
    /// How much of the first segment was read.
    at: usize,
    /// Bytes that the sender's system has taken and the reader has not.
    pub buffered: usize,
    /// Nothing arrives before this: bytes do not overtake each other.
    pub latest: Duration,
    /// The sender is gone: what the reader learns after the last byte, and when.
    pub end: Option<(Duration, &'static str)>,
    /// An event is waiting that will look at this pipe.
    pub scheduled: bool,
}

impl Pipe {
    /// Takes bytes that arrive at `at` or after all before them.
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

    /// Size of the portion that is next.
    pub fn next_len(&self) -> usize {
        self.segments.front().map_or(0, |(_, bytes)| bytes.len() - self.at)
    }

    /// When there is something to read, or the end.
    pub fn due(&self) -> Option<Duration> {
        self.segments.front().map(|(at, _)| *at).or(self.end.map(|(at, _)| at))
    }

    /// Whether all was read and only the end is left.
    pub fn is_drained(&self) -> bool {
        self.segments.is_empty()
    }

    /// Loses what is on its way.
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
    /// The client's end was told that it is connected.
    pub connected: bool,
    /// The server's end exists.
    pub server_open: bool,
    /// The server ends it as soon as its last bytes are sent.
    pub ending: bool,
    /// One end is dead without a word: bytes go nowhere.
    pub void: bool,
    /// Bytes to the server.
    pub up: Pipe,
    /// Bytes to the client.
    pub down: Pipe,
    /// Reads along.
    pub observer: Observer,
}

impl Connection {
    /// A connection that the client has begun to open.
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

/// Reads along what a server sends, and says what it must not.
#[derive(Debug, Default)]
pub struct Observer {
    up: Inbox,
    down: Inbox,
    activates: u64,
    welcomes: u64,
    batch: Option<(Mode, Decoder, BTreeSet<Label>)>,
    /// Frames with data, all together.
    pub data_frames: u64,
}

impl Observer {
    /// Bytes reached the server.
    pub fn to_server(&mut self, bytes: &[u8]) {
        self.up.push(bytes);
        while let Ok(Some(frame)) = self.up.next() {
            self.activates += u64::from(matches!(frame, Frame::Activate { .. }));
        }
    }

    /// The server sent bytes. Gives what is wrong with them.
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
                    return Err(format!("a server sent {} to a client that stands by", frame.name()));
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
                    return Err("a batch went downstream though nothing had changed".into());
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// In a whole copy every group comes before the first route that uses it.
    fn records(&mut self, body: &[u8]) -> Result<(), String> {
        let Some((mode, decoder, groups)) = &mut self.batch else { return Ok(()) };
        let whole = *mode == Mode::Snapshot;
        let mut early = None;
        decoder
            .decode(body, |change| match change {
                Change::Put(Key::Group(label), _) => {
                    groups.insert(label);
                }
                Change::Put(_, Value::Route(label) | Value::RibRoute { label, .. })
                    if whole && !groups.contains(&label) =>
                {
                    early = Some(label);
                }
                _ => {}
            })
            .map_err(|e| format!("a server sent records that cannot be read: {e}"))?;
        early.map_or(Ok(()), |label| Err(format!("a copy named a route before its group {label}")))
    }
}
