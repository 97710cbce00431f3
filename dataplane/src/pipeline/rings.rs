//! The rings between a worker and the control thread, and the copies of frames that go through them.

use std::sync::Arc;

use crossbeam_queue::ArrayQueue;

use super::forward::Miss;
use super::links::Links;
use crate::io::Packet;
use crate::reason::Reason;

/// Largest frame that goes to the control thread; it speaks of links and answers pings, no more.
pub const HOST_FRAME: usize = 2_032;

/// A frame on its way between a worker and the control thread, copied: other threads never hold a packet buffer.
#[derive(Clone)]
pub struct HostFrame {
    /// Place of the port that it came in by or goes out of.
    pub port: u16,
    /// On the way out: the table says where to, and the MAC addresses are written then.
    pub routed: bool,
    length: u16,
    bytes: [u8; HOST_FRAME],
}

impl HostFrame {
    /// A copy; `None` where it is too large.
    pub fn new(port: u16, frame: &[u8]) -> Option<HostFrame> {
        let mut bytes = [0; HOST_FRAME];
        bytes.get_mut(..frame.len())?.copy_from_slice(frame);
        Some(HostFrame { port, routed: false, length: frame.len() as u16, bytes })
    }

    /// A packet of the router's own that goes the way the table says.
    pub fn routed(port: u16, frame: &[u8]) -> Option<HostFrame> {
        HostFrame::new(port, frame).map(|frame| HostFrame { routed: true, ..frame })
    }

    /// The frame from its Ethernet header on.
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.length)).unwrap_or_default()
    }

    /// The same, to change.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        self.bytes.get_mut(..usize::from(self.length)).unwrap_or_default()
    }
}

impl std::fmt::Debug for HostFrame {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HostFrame").field("port", &self.port).field("length", &self.length).finish()
    }
}

/// The bounded rings between a worker and the control thread.
#[derive(Debug, Clone)]
pub struct Rings {
    /// Frames for the control thread.
    pub host: Arc<ArrayQueue<HostFrame>>,
    /// Frames for the TAP interfaces in the kernel.
    pub kernel: Arc<ArrayQueue<HostFrame>>,
    /// Frames of the router's own, to be sent.
    pub originate: Arc<ArrayQueue<HostFrame>>,
    /// Neighbours that packets asked for.
    pub misses: Arc<ArrayQueue<Miss>>,
    /// Ports whose link is down.
    pub links: Arc<Links>,
}

impl Default for Rings {
    fn default() -> Self {
        Rings {
            host: Arc::new(ArrayQueue::new(512)),
            kernel: Arc::new(ArrayQueue::new(512)),
            originate: Arc::new(ArrayQueue::new(512)),
            misses: Arc::new(ArrayQueue::new(256)),
            links: Arc::default(),
        }
    }
}

/// Copies a packet into a ring, or says why not.
pub(super) fn to_ring<P: Packet>(ring: &ArrayQueue<HostFrame>, port: u16, packet: &P) -> Result<(), Reason> {
    // Looked at first, so that a flood costs no copy.
    if ring.is_full() {
        return Err(Reason::HostFull);
    }
    let whole = packet.data().len() == packet.length();
    let frame = HostFrame::new(port, packet.data()).filter(|_| whole).ok_or(Reason::HostTooBig)?;
    ring.push(frame).map_err(|_| Reason::HostFull)
}
