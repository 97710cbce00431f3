//! The room that a call has: limits, and the bytes that are held for all clients.

use super::types::Limits;
use crate::account::Account;

/// A session's own part of a queue is never smaller than this.
const LEAST: usize = 4 * 1024;

/// See the module's documentation.
#[derive(Debug, Clone)]
pub(super) struct Room {
    pub limits: Limits,
    /// Bytes that are held for all clients.
    pub account: Account,
    /// Number of sessions, which share the budget.
    pub sessions: usize,
}

impl Room {
    /// Bytes up to which a session's queue is filled with bytes that no other session sends: all sessions together stay below half of the
    /// budget.
    pub fn quota(&self) -> usize {
        self.share(self.limits.held / 2).max(LEAST).min(self.limits.queue)
    }

    /// The same for bytes that others may send as well: they count once, unless memory is short.
    pub fn shared_quota(&self) -> usize {
        if self.is_short() { self.quota() } else { self.limits.queue }
    }

    /// A session's fair share of a number of bytes.
    pub fn share(&self, bytes: usize) -> usize {
        bytes / self.sessions.max(1)
    }

    /// More than half of the budget is in use: nothing is kept for others.
    pub fn is_short(&self) -> bool {
        self.account.total() > self.limits.held / 2
    }

    /// Whether so many more bytes are within the budget.
    pub fn admits(&self, bytes: usize) -> bool {
        self.account.total().saturating_add(bytes) <= self.limits.held
    }
}
