//! Frames: the units of a session, except `Records`, whose body is in [`crate::codec`].
//!
//! A frame has a type (one byte), the length of its body (three bytes, network order) and the body. Types from 128 on are optional: a
//! receiver that does not know them skips them. Bytes after the known fields of a known frame are skipped as well, so later versions may
//! add fields. `body` encodes and decodes the fields, `inbox` splits a stream into frames.

mod body;
mod inbox;

use crate::digest::KeyId;
use crate::refusal::{Reason, RouteKey};
use crate::sketch::{RootDigest, Symbol};
use crate::subset::Subset;
use crate::wire::ProtocolError;
pub use inbox::Inbox;

/// Version of the protocol.
pub const VERSION: u64 = 2;
/// First bytes of a Hello body.
const MAGIC: [u8; 4] = *b"FIBC";
/// Type of the `Installed` frame, which is optional.
pub(crate) const INSTALLED: u8 = 128;
/// Type of the `Refused` frame, which is optional.
pub(crate) const REFUSED: u8 = 129;
/// Type of the `Records` frame.
pub(crate) const RECORDS: u8 = 7;
/// Types of frames that bring data: Begin, Records, Commit, Equal, Symbols.
pub(crate) const DATA: std::ops::RangeInclusive<u8> = 6..=10;
/// Types of frames that each cause a large answer: Activate, More and Want.
pub(crate) const COSTLY: [u8; 3] = [ACTIVATE, 11, 12];
pub(crate) const ACTIVATE: u8 = 4;
pub(crate) const DEACTIVATE: u8 = 5;
/// Most symbols in one frame.
pub const MAX_SYMBOLS: usize = 2048;
/// Most identities in one Want.
pub const MAX_WANT: usize = 8000;
/// Highest index of a coded symbol that may be requested.
pub const MAX_SYMBOL_INDEX: u64 = 1 << 20;

/// The role of a server for a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// First choice.
    Primary,
    /// Standby.
    Secondary,
}

/// Kind of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Net changes since the client's serial.
    Changes,
    /// The whole table; records that are not in it do not exist.
    Snapshot,
    /// The records that the client requested, and the changes since the sketch.
    Reconcile,
}

/// A decoded frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame<'a> {
    /// First frame in both directions.
    Hello {
        /// Node name.
        name: String,
    },
    /// The client names what it wants.
    Register {
        /// Name of the table.
        table: String,
        /// Role of this server for the client.
        role: Role,
        /// Interval of heartbeats, both directions.
        heartbeat_ms: u64,
        /// Name of the key of the client's digests.
        digest_key: KeyId,
        /// The nodes that the client's own table comes through, nearest last.
        path: Vec<String>,
        /// Subset of the table.
        subset: Subset,
    },
    /// The server's answer: registered, in standby.
    Welcome(State),
    /// The client requests data, and states what it has.
    Activate {
        /// Epoch from which its table comes; 0 for none.
        epoch: u64,
        /// Serial within the epoch.
        serial: u64,
        /// Digest of the client's table.
        digest: RootDigest,
        /// It requests a copy whatever the digests are.
        copy: bool,
    },
    /// The client wants no more data.
    Deactivate,
    /// A batch begins.
    Begin {
        /// Kind of the batch.
        mode: Mode,
        /// Base serial: the client's, or that of the sketch.
        from: u64,
    },
    /// Part of a batch; see [`crate::codec`].
    Records(&'a [u8]),
    /// The batch is complete.
    Commit {
        /// The table's epoch.
        epoch: u64,
        /// Serial of the client once it has applied the batch.
        serial: u64,
        /// Number of records in the batch.
        count: u64,
        /// Digest of the table at this serial.
        digest: RootDigest,
    },
    /// The client's table equals that of this serial: nothing to send.
    Equal {
        /// The table's epoch.
        epoch: u64,
        /// The serial.
        serial: u64,
    },
    /// Coded symbols from index `first` on; the first such frame (first = 0) fixes the table that they describe.
    Symbols {
        /// Serial of the described table.
        serial: u64,
        /// Number of records in it.
        count: u64,
        /// Index of the first symbol.
        first: u64,
        /// The symbols.
        symbols: Vec<Symbol>,
    },
    /// The client has not decoded the difference yet, and requests symbols up to an index.
    More {
        /// First index that it does not want.
        until: u64,
    },
    /// The records that the client lacks, by identity.
    Want {
        /// No other Want follows.
        last: bool,
        /// Identities.
        ids: Vec<u64>,
    },
    /// Heartbeat; the server adds its state.
    Heartbeat(Option<State>),
    /// Reason of the end of the session.
    Error {
        /// Text for people.
        text: String,
    },
    /// The client's sink forwards by everything up to a serial of the server's table. Optional: a server that does not know it skips it.
    Installed {
        /// The table's epoch.
        epoch: u64,
        /// The serial; none if the sink no longer forwards by what was reported before.
        serial: Option<u64>,
    },
    /// Routes that the client's sink does not forward by, as differences from what was said since the activation. Optional, before an
    /// Installed that covers them.
    Refused {
        /// The table's epoch.
        epoch: u64,
        /// Nothing of what was said before holds.
        whole: bool,
        /// Number of refused routes that the client does not name.
        more: u64,
        /// Routes with the reason; none: no longer refused.
        routes: Vec<(RouteKey, Option<Reason>)>,
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
    /// The server has everything that its table is made of. Alive and ready means *capable*.
    pub ready: bool,
    /// The server's table has no capable source at the moment; it serves what it has. For operators only: nothing depends on it.
    pub stale: bool,
    /// The nodes that the table comes through, nearest last; the server itself is not in it.
    pub path: Vec<String>,
}

impl Frame<'_> {
    /// Name for error messages.
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
            Self::Installed { .. } => INSTALLED,
            Self::Refused { .. } => REFUSED,
        }
    }
}

/// Whether this version reads frames of this type. Others are skipped if they are optional, and an error if not.
fn is_read(kind: u8) -> bool {
    kind < 128 || kind == INSTALLED || kind == REFUSED
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
    match kind {
        INSTALLED => "Installed",
        REFUSED => "Refused",
        _ => NAMES.get(usize::from(kind)).copied().unwrap_or("frame"),
    }
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
