//! What a server exchanges with its owner: limits, tables, events, states.

use std::time::Duration;

use crate::frame::Role;
use crate::refusal::{Reason, RouteKey};
use crate::subset::Subset;
use crate::table::Table;
use crate::wire::ProtocolError;

/// Id of a session.
pub type SessionId = u64;

/// Limits on what a server holds and does for its sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes up to which a session's queue is filled.
    pub queue: usize,
    /// Most bytes of a batch, or of an answer to a sketch, that is encoded at once. Larger ones are sent piece by piece.
    pub batch: usize,
    /// Most bytes that are held for all sessions: queues, encoded batches and copies, sketches, received requests. Bytes that several
    /// sessions send count once.
    pub held: usize,
    /// Most bytes of memory of all views.
    pub views: usize,
    /// A session ends when its client takes none of the bytes in its queue for this time.
    pub progress: Duration,
    /// Most changes of a batch that is encoded at once and shared by sessions.
    pub shared: usize,
    /// Most records that one call examines, so that a walk through unchanged ones does not delay other sessions.
    pub portion: usize,
}

impl Limits {
    /// Bytes in a session's queue from which on nothing is read from its client: what is sent unasked stays below.
    pub(super) fn ceiling(&self) -> usize {
        self.queue.saturating_mul(2).saturating_add(self.batch)
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            queue: 192 * 1024,
            batch: 1 << 20,
            held: 48 << 20,
            views: 256 << 20,
            progress: Duration::from_secs(10),
            shared: 16 * 1024,
            portion: 64 * 1024,
        }
    }
}

/// What the client at the other end of a connection may have. A session asks when the client registers, before it allocates anything.
pub trait Permit: std::fmt::Debug + Send + Sync {
    /// Whether the client may call itself `name` and get this table; with `part`, a part of it, for which the server makes a view.
    ///
    /// # Errors
    /// Why not, for operators of both ends.
    fn check(&self, name: &str, table: &str, part: bool) -> Result<(), String>;
}

/// A served table.
#[derive(Debug, Clone, Copy)]
pub struct Served<'t> {
    /// The table.
    pub table: &'t Table,
    /// It has everything that it is made of. Only then do clients use it.
    pub ready: bool,
    /// The nodes that it comes through, nearest last; without this one.
    pub path: &'t [String],
}

/// Tables by name. The owner lends them for each call.
pub trait Tables {
    /// The table of this name.
    fn served(&self, name: &str) -> Option<Served<'_>>;

    /// The subset that the named table itself is, if it is not complete. Clients can get no more than that.
    fn subset(&self, _name: &str) -> Option<&Subset> {
        None
    }

    /// Whether the named table has no capable source at the moment. Clients get it, for their operators.
    fn is_stale(&self, _name: &str) -> bool {
        false
    }

    /// Allow loops: whether nodes relay the named table in a cycle, as route servers do with origins. A client through which it comes is
    /// sent "not ready" then; otherwise it is refused.
    fn allow_loops(&self, _name: &str) -> bool {
        false
    }
}

/// What a session's client did that matters to acknowledgements.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionChange {
    /// It activated this server, with an empty table or another one.
    Activated {
        /// It has no record.
        empty: bool,
    },
    /// Its sink forwards by everything up to this serial of the table.
    Installed(u64),
    /// Its sink does not forward by these routes, or does again; see [`crate::frame::Frame::Refused`].
    Refused {
        /// Nothing of what it said before holds.
        whole: bool,
        /// Number of refused routes that it does not name.
        more: u64,
        /// Routes with the reason; none: no longer refused.
        routes: Vec<(RouteKey, Option<Reason>)>,
    },
    /// It left for another server.
    Deactivated,
    /// The session of an active client ended.
    Closed,
}

/// A report about a session's client; see [`crate::acknowledge`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionReport {
    /// The session.
    pub session: SessionId,
    /// Its table.
    pub table: String,
    /// Name of the client.
    pub name: String,
    /// Role of this server for it.
    pub role: Role,
    /// What it did.
    pub change: SessionChange,
}

/// Events for the owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServerEvent {
    /// A client registered.
    Registered {
        /// The session.
        session: SessionId,
        /// The client's name.
        name: String,
        /// The table.
        table: String,
        /// It has a part of it, in a view.
        part: bool,
        /// Role of this server.
        role: Role,
    },
    /// A client activated this server.
    Activated {
        /// The session.
        session: SessionId,
        /// How it is brought up to date, in a few words.
        how: &'static str,
    },
    /// The session ended: send what [`Server::transmit`] still has, then close the connection.
    Ended {
        /// The session.
        session: SessionId,
        /// The client's name, once known.
        name: Option<String>,
        /// Why.
        error: ProtocolError,
    },
}

/// State of a session, for operators.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionStatus {
    /// The session.
    pub session: SessionId,
    /// The client's name; empty before its Hello.
    pub name: String,
    /// The table.
    pub table: String,
    /// The subset.
    pub subset: Subset,
    /// Role of this server.
    pub role: Role,
    /// State as one word.
    pub state: &'static str,
    /// Whether it gets data.
    pub active: bool,
    /// Last serial sent.
    pub serial: u64,
    /// The serial of the whole table that the client's sink forwards by, and the time of that report.
    pub installed: Option<(u64, Duration)>,
    /// Bytes sent.
    pub sent_bytes: u64,
    /// Bytes in the send queue.
    pub queued_bytes: u64,
}
