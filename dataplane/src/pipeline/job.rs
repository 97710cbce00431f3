//! What the fast path leaves to the slow path.

use crate::reason::Reason;

/// What to do with a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    /// Dropped and counted already: send an ICMP error, with the next hop's MTU if that is the reason.
    Tell(Reason, u16),
    /// Rewritten already: fragment for this port and MTU.
    Fragment(u16, u16),
    /// Hold until this next hop is resolved.
    Hold(u32),
}

/// A packet for the slow path.
#[derive(Debug)]
pub struct Job<P> {
    /// The packet.
    pub packet: P,
    /// Index of the port of arrival.
    pub port: u16,
    /// What to do.
    pub task: Task,
}
