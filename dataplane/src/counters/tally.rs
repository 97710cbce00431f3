//! What one burst did, gathered by its worker before anybody sees it.

use crate::reason::Reason;

/// What one burst did, gathered without touching shared memory.
///
/// What a port received and dropped is counted at the port; what came with a VLAN tag, also at the sub-interface. Only
/// [`received`](Self::received) and [`host`](Self::host) go into the worker's sums.
#[derive(Debug)]
pub struct Tally {
    /// Packets received.
    pub received: u32,
    /// Packets given to the router itself.
    pub host: u32,
    /// ICMP errors sent.
    pub icmp_sent: u32,
    /// ICMP errors that were due and not sent, because of the rate limit or for want of a buffer or a way.
    pub icmp_limited: u32,
    /// Pieces made of packets, besides the first of each.
    pub fragments: u32,
    pub(super) touched: [u64; 4],
    pub(super) ports: Box<[PortTally]>,
}

/// `PortTally::dropped` has a bit for each reason.
const _: () = assert!(Reason::COUNT <= u64::BITS as usize);

#[derive(Debug, Clone)]
pub(super) struct PortTally {
    pub(super) received: u32,
    pub(super) bytes: u64,
    pub(super) sent: Taken,
    /// Reasons that were counted: a bit for each.
    pub(super) dropped: u64,
    pub(super) drops: [u32; Reason::COUNT],
}

impl Tally {
    /// Nothing happened yet at any of `ports` ports.
    pub fn new(ports: usize) -> Tally {
        let port = PortTally {
            received: 0,
            bytes: 0,
            sent: Taken::default(),
            dropped: 0,
            drops: [0; Reason::COUNT],
        };
        Tally {
            received: 0,
            host: 0,
            icmp_sent: 0,
            icmp_limited: 0,
            fragments: 0,
            touched: [0; 4],
            ports: vec![port; ports].into(),
        }
    }

    #[inline]
    fn port(&mut self, port: u16) -> Option<&mut PortTally> {
        if let Some(word) = self.touched.get_mut(usize::from(port >> 6)) {
            *word |= 1 << (port & 63);
        }
        self.ports.get_mut(usize::from(port))
    }

    /// Counts a dropped packet that came in by `port`.
    #[inline]
    pub fn drop(&mut self, port: u16, reason: Reason) {
        if let Some(port) = self.port(port) {
            port.dropped |= 1 << reason as u32;
            if let Some(count) = port.drops.get_mut(reason as usize) {
                *count += 1;
            }
        }
    }

    /// Counts packets at the port that they came in by.
    #[inline]
    pub fn arrived(&mut self, port: u16, packets: u32, bytes: u64) {
        if let Some(port) = self.port(port) {
            port.received += packets;
            port.bytes += bytes;
        }
    }

    /// Counts a packet that left through a sub-interface.
    pub fn left_tagged(&mut self, port: u16, bytes: u64) {
        if let Some(port) = self.port(port) {
            port.sent.packets += 1;
            port.sent.bytes += bytes;
        }
    }
}

/// Packets and bytes that a transmit queue took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Taken {
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
}

impl std::ops::AddAssign for Taken {
    #[inline]
    fn add_assign(&mut self, more: Taken) {
        self.packets += more.packets;
        self.bytes += more.bytes;
    }
}

impl std::ops::SubAssign for Taken {
    #[inline]
    fn sub_assign(&mut self, less: Taken) {
        *self = *self - less;
    }
}

impl std::ops::Sub for Taken {
    type Output = Taken;

    #[inline]
    fn sub(self, less: Taken) -> Taken {
        Taken { packets: self.packets - less.packets, bytes: self.bytes - less.bytes }
    }
}
