//! A consistent copy of a worker's counters.

use crate::packet::icmp_kind::Kind;
use crate::reason::Reason;

/// The counters of one worker at one instant.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Packets received.
    pub received: u64,
    /// Packets forwarded.
    pub sent: u64,
    /// Packets for the router itself.
    pub host: u64,
    /// Packets that wait for room in a transmit queue or for a neighbor's answer.
    pub held: u64,
    /// Packets sent by the router itself.
    pub originated: u64,
    /// Packets of the router itself that had no room in a transmit queue, or no route.
    pub originate_failed: u64,
    /// ICMP errors sent.
    pub icmp_sent: u64,
    /// ICMP errors that were due but not sent: rate limit, no buffer, no route back.
    pub icmp_limited: u64,
    /// The same by number of the kind of message.
    pub icmp_limited_by: [u64; Kind::COUNT],
    /// Fragments created, without the first of each packet.
    pub fragments: u64,
    /// Nanoseconds spent on turns that received packets.
    pub busy_ns: u64,
    /// Bursts with at least one packet.
    pub bursts: u64,
    /// Polls that found nothing.
    pub idle_polls: u64,
    /// Serial of the generation in use.
    pub serial: u64,
    /// The worker sleeps and holds no generation.
    pub idle: bool,
    /// By port index.
    pub ports: Vec<PortSnapshot>,
    /// Its receive queues, in polling order.
    pub queues: Vec<QueueSnapshot>,
}

/// A worker's counters of one of its receive queues.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct QueueSnapshot {
    /// Packets received.
    pub packets: u64,
    /// Full bursts, after which more packets may have waited.
    pub full: u64,
    /// Of these, packets steered to other workers (software RSS).
    pub steered: u64,
}

/// A worker's counters of one port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortSnapshot {
    /// Packets received.
    pub rx_packets: u64,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Packets sent, including the router's own.
    pub tx_packets: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Times that the driver took fewer packets than offered (TX backpressure); the rest waited, or was dropped as `tx_full`.
    pub tx_backpressure: u64,
    /// Packets received here and dropped, by [`Reason`] number.
    pub drops: [u64; Reason::COUNT],
}

impl Default for PortSnapshot {
    fn default() -> Self {
        PortSnapshot {
            rx_packets: 0,
            rx_bytes: 0,
            tx_packets: 0,
            tx_bytes: 0,
            tx_backpressure: 0,
            drops: [0; Reason::COUNT],
        }
    }
}

impl Snapshot {
    /// Dropped packets, all ports and reasons.
    pub fn dropped(&self) -> u64 {
        self.ports.iter().flat_map(|port| port.drops).sum()
    }

    /// Packets dropped for a reason, all ports.
    pub fn drops(&self, reason: Reason) -> u64 {
        self.ports.iter().filter_map(|port| port.drops.get(reason as usize)).sum()
    }

    /// What was counted after an earlier instant. Packets that were held then and left the router later count as received after it, so that
    /// the result adds up as well.
    #[must_use]
    pub fn since(&self, before: &Snapshot) -> Snapshot {
        let mut since = self.clone();
        let counters = [
            (&mut since.received, before.received.saturating_sub(before.held)),
            (&mut since.sent, before.sent),
            (&mut since.host, before.host),
            (&mut since.originated, before.originated),
            (&mut since.originate_failed, before.originate_failed),
            (&mut since.icmp_sent, before.icmp_sent),
            (&mut since.icmp_limited, before.icmp_limited),
            (&mut since.fragments, before.fragments),
            (&mut since.busy_ns, before.busy_ns),
            (&mut since.bursts, before.bursts),
            (&mut since.idle_polls, before.idle_polls),
        ];
        let by_kind = since.icmp_limited_by.iter_mut().zip(before.icmp_limited_by);
        for (counter, before) in counters.into_iter().chain(by_kind) {
            *counter = counter.saturating_sub(before);
        }
        for (port, before) in since.ports.iter_mut().zip(&before.ports) {
            let counters = [
                (&mut port.rx_packets, before.rx_packets),
                (&mut port.rx_bytes, before.rx_bytes),
                (&mut port.tx_packets, before.tx_packets),
                (&mut port.tx_bytes, before.tx_bytes),
                (&mut port.tx_backpressure, before.tx_backpressure),
            ];
            for (counter, before) in counters.into_iter().chain(port.drops.iter_mut().zip(before.drops)) {
                *counter = counter.saturating_sub(before);
            }
        }
        for (queue, before) in since.queues.iter_mut().zip(&before.queues) {
            queue.packets = queue.packets.saturating_sub(before.packets);
            queue.full = queue.full.saturating_sub(before.full);
            queue.steered = queue.steered.saturating_sub(before.steered);
        }
        since
    }

    /// The invariant that no packet is unaccounted for: received = sent + dropped + host + held.
    pub fn adds_up(&self) -> bool {
        self.received == self.sent + self.dropped() + self.host + self.held
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_since_an_instant_adds_up_with_packets_that_were_held_then() {
        let port = |drops: u64| PortSnapshot {
            rx_packets: 10 * drops,
            drops: [drops; Reason::COUNT],
            ..PortSnapshot::default()
        };
        let all = |drops| drops * Reason::COUNT as u64;
        let before = Snapshot {
            received: 14 + all(1),
            sent: 7,
            host: 3,
            held: 4,
            ports: vec![port(1)],
            ..Snapshot::default()
        };
        // Three of the held packets are sent, ten more come, and two of them are held.
        let now = Snapshot {
            received: 24 + all(1),
            sent: 18,
            host: 3,
            held: 3,
            serial: 9,
            ports: vec![port(1)],
            ..Snapshot::default()
        };
        assert!(before.adds_up() && now.adds_up());
        let since = now.since(&before);
        assert!(since.adds_up(), "{since:?}");
        assert_eq!(
            (since.received, since.sent, since.held, since.dropped(), since.serial),
            (14, 11, 3, 0, 9)
        );
        assert_eq!(since.ports[0], PortSnapshot::default());
        assert_eq!(now.since(&now).received, 3, "those that are held");
    }
}
