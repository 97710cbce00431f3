//! The counters of a worker as a reader has them.

use crate::reason::Reason;

/// The counters of one worker at one instant.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Packets received.
    pub received: u64,
    /// Packets sent on.
    pub sent: u64,
    /// Packets given to the router itself.
    pub host: u64,
    /// Packets that wait for room in a transmit queue or for a neighbour's answer.
    pub held: u64,
    /// Packets of the router's own that were sent.
    pub originated: u64,
    /// Packets of the router's own that no transmit queue had room for, or that had no way.
    pub originate_failed: u64,
    /// ICMP errors sent.
    pub icmp_sent: u64,
    /// ICMP errors that were due and not sent: rate limit, no buffer, no way back.
    pub icmp_limited: u64,
    /// Pieces made of packets, besides the first of each.
    pub fragments: u64,
    /// Signs of life.
    pub ticks: u64,
    /// Nanoseconds spent on turns that brought packets.
    pub busy_ns: u64,
    /// The thread has ended.
    pub ended: bool,
    /// Bursts with at least one packet.
    pub bursts: u64,
    /// Polls that found nothing.
    pub idle_polls: u64,
    /// Serial of the generation in use.
    pub serial: u64,
    /// Sleeps and holds no generation.
    pub idle: bool,
    /// By place of the port.
    pub ports: Vec<PortSnapshot>,
    /// Its receive queues, in the order in which it polls them.
    pub queues: Vec<QueueSnapshot>,
}

/// A worker's counters of one of its receive queues.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct QueueSnapshot {
    /// Packets received.
    pub packets: u64,
    /// Bursts that were full, behind which more packets may have waited.
    pub full: u64,
    /// Of the packets, handed to other workers.
    pub handed: u64,
}

/// A worker's counters of one port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortSnapshot {
    /// Packets received.
    pub rx_packets: u64,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Packets sent, those of the router's own included.
    pub tx_packets: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Times that the driver took fewer packets than it was offered; the others waited, or were dropped as `tx_full`.
    pub tx_pressed: u64,
    /// Dropped packets of those received here, by [`Reason`] number.
    pub drops: [u64; Reason::COUNT],
}

impl Default for PortSnapshot {
    fn default() -> Self {
        PortSnapshot {
            rx_packets: 0,
            rx_bytes: 0,
            tx_packets: 0,
            tx_bytes: 0,
            tx_pressed: 0,
            drops: [0; Reason::COUNT],
        }
    }
}

impl Snapshot {
    /// Dropped packets, all ports and reasons.
    pub fn dropped(&self) -> u64 {
        self.ports.iter().flat_map(|port| port.drops).sum()
    }

    /// How many were dropped for a reason, all ports.
    pub fn drops(&self, reason: Reason) -> u64 {
        self.ports.iter().filter_map(|port| port.drops.get(reason as usize)).sum()
    }

    /// The rule that no packet escapes: received = sent + dropped + host + held.
    pub fn adds_up(&self) -> bool {
        self.received == self.sent + self.dropped() + self.host + self.held
    }
}
