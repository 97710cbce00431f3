//! Figures of one burst, collected by its worker before others see them.

use crate::packet::icmp_kind::Kind;
use crate::reason::Reason;

/// Figures of one burst, collected without touching shared memory.
///
/// Received and dropped packets count at their port; packets with a VLAN tag also at the sub-interface. Only [`received`](Self::received)
/// and [`host`](Self::host) enter the worker's sums.
#[derive(Debug)]
pub struct Tally {
    /// Packets received.
    pub received: u32,
    /// Packets for the router itself.
    pub host: u32,
    /// ICMP errors sent.
    pub icmp_sent: u32,
    /// ICMP errors that were due but not sent: rate limit, no buffer, no route back.
    pub(super) icmp_limited: u32,
    /// The same by kind.
    pub(super) icmp_limited_by: [u32; Kind::COUNT],
    /// Fragments created, without the first of each packet.
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
    pub(super) sent: Traffic,
    /// Reasons with a count: one bit each.
    pub(super) dropped: u64,
    pub(super) drops: [u32; Reason::COUNT],
}

impl Tally {
    /// An empty tally for `ports` ports.
    pub fn new(ports: usize) -> Tally {
        let port = PortTally {
            received: 0,
            bytes: 0,
            sent: Traffic::default(),
            dropped: 0,
            drops: [0; Reason::COUNT],
        };
        Tally {
            received: 0,
            host: 0,
            icmp_sent: 0,
            icmp_limited: 0,
            icmp_limited_by: [0; Kind::COUNT],
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

    /// Counts a dropped packet that arrived on `port`.
    #[inline]
    pub fn drop(&mut self, port: u16, reason: Reason) {
        if let Some(port) = self.port(port) {
            port.dropped |= 1 << reason as u32;
            if let Some(count) = port.drops.get_mut(reason as usize) {
                *count += 1;
            }
        }
    }

    /// Counts an ICMP error that was due but not sent.
    pub fn icmp_limited(&mut self, kind: Kind) {
        self.icmp_limited += 1;
        if let Some(count) = self.icmp_limited_by.get_mut(kind as usize) {
            *count += 1;
        }
    }

    /// Counts packets on their port of arrival.
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

/// Packets and bytes, for instance those that a transmit queue took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
}

impl std::ops::AddAssign for Traffic {
    #[inline]
    fn add_assign(&mut self, more: Traffic) {
        self.packets += more.packets;
        self.bytes += more.bytes;
    }
}

impl std::ops::SubAssign for Traffic {
    #[inline]
    fn sub_assign(&mut self, less: Traffic) {
        *self = *self - less;
    }
}

impl std::ops::Sub for Traffic {
    type Output = Traffic;

    #[inline]
    fn sub(self, less: Traffic) -> Traffic {
        Traffic { packets: self.packets - less.packets, bytes: self.bytes - less.bytes }
    }
}
