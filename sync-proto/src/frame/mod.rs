//! Frames: the units of a session. All but `Records`, whose body is in [`crate::codec`].
//!
//! A frame is type (one byte), length of the body (three bytes, network order), body. Types from 128 on are optional:
//! who does not know them skips them. Bytes that follow the known fields of a known frame are skipped, too, so that
//! a later version may add fields. `body` writes and reads the fields, `inbox` cuts a stream into frames.

mod body;
mod inbox;

use crate::sketch::{RootDigest, Symbol};
use crate::subset::Subset;
use crate::wire::ProtocolError;
pub use inbox::Inbox;

/// Version of the protocol.
pub const VERSION: u64 = 1;
/// First bytes of a Hello body.
const MAGIC: [u8; 4] = *b"FIBC";
/// Type of the `Records` frame.
pub(crate) const RECORDS: u8 = 7;
/// Types of frames that each have a large answer of their own: More and Want. What an Activate asks for takes the place of what the one before
/// asked for.
pub(crate) const COSTLY: [u8; 2] = [11, 12];
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
        /// Which part of the table.
        subset: Subset,
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
    /// Nobody capable fills the server's table at the moment: it serves what it has. For people; it decides nothing.
    pub stale: bool,
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
