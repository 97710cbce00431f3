//! Frames: the units of a session. All but `Records`, whose body is in [`crate::codec`].
//!
//! A frame is type (one byte), length of the body (three bytes, network order), body. Types from 128 on are optional:
//! who does not know them skips them. Bytes that follow the known fields of a known frame are skipped, too, so that
//! a later version may add fields.

use crate::sketch::{RootDigest, Symbol, expected_count};
use crate::wire::{
    HEADER, MAX_BODY, MAX_NAME, MAX_TEXT, ProtocolError, Reader, put_names, put_text, put_varint, unzigzag,
    zigzag,
};

/// Version of the protocol.
pub const VERSION: u64 = 1;
/// First bytes of a Hello body.
const MAGIC: [u8; 4] = *b"FIBC";
/// Most symbols in one frame.
pub const MAX_SYMBOLS: usize = 2048;
/// Most identities in one Want.
pub const MAX_WANT: usize = 8000;
/// Highest index of a coded symbol that may be asked for.
pub const MAX_SYMBOL_INDEX: u64 = 1 << 20;

/// What a client uses a server as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Its first choice.
    Primary,
    /// Its standby.
    Secondary,
}

/// How a batch is to be understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Net changes since the client's serial.
    Changes,
    /// The whole table; what is not in it does not exist.
    Snapshot,
    /// The records that the client asked for, and what changed since the sketch was taken.
    Reconcile,
}

/// A frame without its header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame<'a> {
    /// First frame of both sides.
    Hello {
        /// Node name.
        name: String,
    },
    /// The client says what it wants to be served.
    Register {
        /// Table by name.
        table: String,
        /// What this server is for the client.
        role: Role,
        /// Interval of heartbeats, both directions.
        heartbeat_ms: u64,
        /// The nodes that the client's own table comes through, nearest last.
        path: Vec<String>,
    },
    /// The server's answer: registered, standing by.
    Welcome(State),
    /// The client wants data, and says what it has.
    Activate {
        /// Epoch from which its table comes; 0 for none.
        epoch: u64,
        /// Serial within the epoch.
        serial: u64,
        /// Digest of its table.
        digest: RootDigest,
        /// It wants a copy whatever the digests say.
        copy: bool,
    },
    /// The client wants no more data.
    Deactivate,
    /// A batch begins.
    Begin {
        /// How to understand it.
        mode: Mode,
        /// Serial of the base: the client's, or that of the sketch.
        from: u64,
    },
    /// Part of a batch; see [`crate::codec`].
    Records(&'a [u8]),
    /// The batch is complete.
    Commit {
        /// The table's epoch.
        epoch: u64,
        /// Serial that the client is at once the batch is applied.
        serial: u64,
        /// Number of records in the batch.
        count: u64,
        /// Digest of the table at this serial.
        digest: RootDigest,
    },
    /// The client's table is equal to that of this serial: nothing to send.
    Equal {
        /// The table's epoch.
        epoch: u64,
        /// The serial.
        serial: u64,
    },
    /// Coded symbols `first..`; the first frame of them (first = 0) fixes the table that they describe.
    Symbols {
        /// Serial of the table that is described.
        serial: u64,
        /// Number of records in it.
        count: u64,
        /// Index of the first symbol.
        first: u64,
        /// The symbols.
        symbols: Vec<Symbol>,
    },
    /// The client has not decoded the difference yet and asks for symbols up to an index.
    More {
        /// First index not wanted.
        until: u64,
    },
    /// The records that the client lacks, by identity.
    Want {
        /// No other Want follows.
        last: bool,
        /// Identities.
        ids: Vec<u64>,
    },
    /// Alive; the server adds its state.
    Heartbeat(Option<State>),
    /// Why the session ends.
    Error {
        /// For people.
        text: String,
    },
}

/// State of a served table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// The table's epoch.
    pub epoch: u64,
    /// Its serial.
    pub serial: u64,
    /// Its digest.
    pub digest: RootDigest,
    /// The server has all that its table is made of: with alive, this is *capable*.
    pub ready: bool,
    /// The nodes that the table comes through, nearest last; the server itself is not in it.
    pub path: Vec<String>,
}

impl Frame<'_> {
    /// Name for errors.
    pub fn name(&self) -> &'static str {
        name_of(self.kind())
    }

    fn kind(&self) -> u8 {
        match self {
            Self::Hello { .. } => 1,
            Self::Register { .. } => 2,
            Self::Welcome(_) => 3,
            Self::Activate { .. } => 4,
            Self::Deactivate => 5,
            Self::Begin { .. } => 6,
            Self::Records(_) => 7,
            Self::Commit { .. } => 8,
            Self::Equal { .. } => 9,
            Self::Symbols { .. } => 10,
            Self::More { .. } => 11,
            Self::Want { .. } => 12,
            Self::Heartbeat(_) => 13,
            Self::Error { .. } => 14,
        }
    }

    /// Appends header and body.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let at = begin_frame(out, self.kind());
        match self {
            Self::Hello { name } => {
                out.extend_from_slice(&MAGIC);
                put_varint(out, VERSION);
                put_text(out, name, MAX_NAME);
            }
            Self::Register { table, role, heartbeat_ms, path } => {
                put_text(out, table, MAX_NAME);
                out.push(u8::from(*role == Role::Secondary));
                put_varint(out, *heartbeat_ms);
                put_names(out, path);
                // Subset: empty, the whole table. Views are a later version's.
                put_varint(out, 0);
            }
            Self::Welcome(state) | Self::Heartbeat(Some(state)) => put_state(out, state),
            Self::Heartbeat(None) | Self::Deactivate => {}
            Self::Activate { epoch, serial, digest, copy } => {
                out.extend_from_slice(&epoch.to_be_bytes());
                put_varint(out, *serial);
                put_digest(out, digest);
                out.push(u8::from(*copy));
            }
            Self::Begin { mode, from } => {
                out.push(match mode {
                    Mode::Changes => 0,
                    Mode::Snapshot => 1,
                    Mode::Reconcile => 2,
                });
                put_varint(out, *from);
            }
            Self::Records(body) => out.extend_from_slice(body),
            Self::Commit { epoch, serial, count, digest } => {
                out.extend_from_slice(&epoch.to_be_bytes());
                put_varint(out, *serial);
                put_varint(out, *count);
                put_digest(out, digest);
            }
            Self::Equal { epoch, serial } => {
                out.extend_from_slice(&epoch.to_be_bytes());
                put_varint(out, *serial);
            }
            Self::Symbols { serial, count, first, symbols } => {
                put_varint(out, *serial);
                put_varint(out, *count);
                put_varint(out, *first);
                put_varint(out, symbols.len() as u64);
                for (index, s) in (*first..).zip(symbols) {
                    out.extend_from_slice(&s.sum.to_be_bytes());
                    out.extend_from_slice(&s.check.to_be_bytes());
                    put_varint(out, zigzag(s.count.wrapping_sub(expected_count(*count, index))));
                }
            }
            Self::More { until } => put_varint(out, *until),
            Self::Want { last, ids } => {
                out.push(u8::from(*last));
                put_varint(out, ids.len() as u64);
                ids.iter().for_each(|id| out.extend_from_slice(&id.to_be_bytes()));
            }
            Self::Error { text } => put_text(out, text, MAX_TEXT),
        }
        end_frame(out, at);
    }

    fn decode(kind: u8, body: &[u8]) -> Result<Frame<'_>, ProtocolError> {
        let r = &mut Reader::new(name_of(kind), body);
        Ok(match kind {
            1 => {
                if r.array::<4>("magic")? != MAGIC {
                    return Err(not_fibcast(body));
                }
                let found = r.varint("version")?;
                if found != VERSION {
                    return Err(ProtocolError::Version { expected: VERSION, found });
                }
                Frame::Hello { name: r.text("name", MAX_NAME)? }
            }
            2 => {
                let table = r.text("table", MAX_NAME)?;
                let role = match r.u8("role")? {
                    0 => Role::Primary,
                    1 => Role::Secondary,
                    other => return Err(r.invalid("role", format!("expected 0 or 1, found {other}"))),
                };
                let heartbeat_ms = r.limited("heartbeat", 60_000)?;
                if heartbeat_ms < 10 {
                    return Err(
                        r.invalid("heartbeat", format!("expected at least 10 ms, found {heartbeat_ms}"))
                    );
                }
                let path = r.names("path")?;
                if r.varint("subset")? != 0 {
                    return Err(r.invalid("subset", "expected the whole table: subsets are not served yet"));
                }
                Frame::Register { table, role, heartbeat_ms, path }
            }
            3 => Frame::Welcome(state(r)?),
            4 => Frame::Activate {
                epoch: r.u64("epoch")?,
                serial: r.varint("serial")?,
                digest: digest(r)?,
                copy: r.u8("copy")? != 0,
            },
            5 => Frame::Deactivate,
            6 => {
                let mode = match r.u8("mode")? {
                    0 => Mode::Changes,
                    1 => Mode::Snapshot,
                    2 => Mode::Reconcile,
                    other => return Err(r.invalid("mode", format!("expected 0, 1 or 2, found {other}"))),
                };
                Frame::Begin { mode, from: r.varint("from")? }
            }
            7 => Frame::Records(body),
            8 => Frame::Commit {
                epoch: r.u64("epoch")?,
                serial: r.varint("serial")?,
                count: r.varint("count")?,
                digest: digest(r)?,
            },
            9 => Frame::Equal { epoch: r.u64("epoch")?, serial: r.varint("serial")? },
            10 => {
                let serial = r.varint("serial")?;
                let count = r.varint("count")?;
                let first = r.limited("first", MAX_SYMBOL_INDEX)?;
                let n = r.limited("symbols", MAX_SYMBOLS as u64)?;
                let mut symbols = Vec::with_capacity(n as usize);
                for index in first..first + n {
                    let sum = r.u64("sum")?;
                    let check = u32::from_be_bytes(r.array("check")?);
                    let by = unzigzag(r.varint("count of symbol")?);
                    symbols.push(Symbol { sum, check, count: expected_count(count, index).wrapping_add(by) });
                }
                Frame::Symbols { serial, count, first, symbols }
            }
            11 => Frame::More { until: r.limited("until", MAX_SYMBOL_INDEX)? },
            12 => {
                let last = r.u8("last")? != 0;
                let n = r.limited("identities", MAX_WANT as u64)?;
                let ids = (0..n).map(|_| r.u64("identity")).collect::<Result<_, _>>()?;
                Frame::Want { last, ids }
            }
            13 if r.is_empty() => Frame::Heartbeat(None),
            13 => Frame::Heartbeat(Some(state(r)?)),
            14 => Frame::Error { text: r.text("text", MAX_TEXT)? },
            other => return Err(ProtocolError::UnknownFrame(other)),
        })
    }
}

fn name_of(kind: u8) -> &'static str {
    const NAMES: [&str; 15] = [
        "frame",
        "Hello",
        "Register",
        "Welcome",
        "Activate",
        "Deactivate",
        "Begin",
        "Records",
        "Commit",
        "Equal",
        "Symbols",
        "More",
        "Want",
        "Heartbeat",
        "Error",
    ];
    NAMES.get(usize::from(kind)).copied().unwrap_or("frame")
}

fn put_digest(out: &mut Vec<u8>, d: &RootDigest) {
    out.extend_from_slice(&d.hash.to_be_bytes());
    put_varint(out, d.count);
}

fn digest(r: &mut Reader<'_>) -> Result<RootDigest, ProtocolError> {
    Ok(RootDigest { hash: r.u128("digest")?, count: r.varint("records")? })
}

fn put_state(out: &mut Vec<u8>, s: &State) {
    out.extend_from_slice(&s.epoch.to_be_bytes());
    put_varint(out, s.serial);
    put_digest(out, &s.digest);
    out.push(u8::from(s.ready));
    put_names(out, &s.path);
}

fn state(r: &mut Reader<'_>) -> Result<State, ProtocolError> {
    Ok(State {
        epoch: r.u64("epoch")?,
        serial: r.varint("serial")?,
        digest: digest(r)?,
        ready: r.u8("ready")? != 0,
        path: r.names("path")?,
    })
}

fn not_fibcast(bytes: &[u8]) -> ProtocolError {
    let found = bytes.iter().take(8).map(|b| format!("{b:02x}")).collect::<Vec<_>>().join(" ");
    ProtocolError::NotFibcast { found }
}

/// Writes a header whose length [`end_frame`] fills in.
pub(crate) fn begin_frame(out: &mut Vec<u8>, kind: u8) -> usize {
    out.extend_from_slice(&[kind, 0, 0, 0]);
    out.len()
}

pub(crate) fn end_frame(out: &mut [u8], body_at: usize) {
    let n = (out.len().saturating_sub(body_at) as u32).to_be_bytes();
    if let Some(length) = body_at.checked_sub(3).and_then(|at| out.get_mut(at..body_at)) {
        length.copy_from_slice(&n[1..]);
    }
}

/// Cuts a stream of bytes into frames, whatever the portions in which they come.
#[derive(Debug, Default)]
pub struct Inbox {
    buffer: Vec<u8>,
    at: usize,
    greeted: bool,
}

impl Inbox {
    /// Takes bytes as they came. Call [`Inbox::next`] until it gives none before adding more.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.at == self.buffer.len() {
            self.buffer.clear();
            self.at = 0;
        } else if self.at > MAX_BODY {
            self.buffer.drain(..self.at);
            self.at = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole frame. After an error the session is over.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Result<Option<Frame<'_>>, ProtocolError> {
        loop {
            let rest = self.buffer.get(self.at..).unwrap_or_default();
            // A peer that speaks something else is told apart at once, not when a "frame" is complete.
            if !self.greeted {
                let wrong = |i: usize, want: u8| rest.get(i).is_some_and(|&b| b != want);
                if wrong(0, 1) || wrong(1, 0) || (0..4).any(|i| wrong(HEADER + i, MAGIC[i])) {
                    return Err(not_fibcast(rest));
                }
            }
            let Some(&[kind, a, b, c]) = rest.first_chunk::<HEADER>() else { return Ok(None) };
            let n = u32::from_be_bytes([0, a, b, c]) as usize;
            if n > MAX_BODY {
                return Err(ProtocolError::TooLarge {
                    frame: name_of(kind),
                    field: "length",
                    limit: MAX_BODY as u64,
                    found: n as u64,
                });
            }
            if rest.len() < HEADER + n {
                return Ok(None);
            }
            let body_at = self.at + HEADER;
            self.at = body_at + n;
            self.greeted = true;
            if kind < 128 {
                let body = self.buffer.get(body_at..body_at + n).unwrap_or_default();
                return Frame::decode(kind, body).map(Some);
            }
        }
    }
}
