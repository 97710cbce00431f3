//! The rings between a worker and other threads.

use std::sync::Arc;

use crossbeam_queue::ArrayQueue;

use super::forward::Miss;
use super::host_frame::{HostFrame, LongFrames};
use super::links::Links;
use super::tap_state::SharedTapState;
use crate::io::Packet;
use crate::reason::Reason;

/// The bounded rings between a worker and the control and exception-path threads.
#[derive(Debug, Clone)]
pub struct Rings {
    /// Frames for the control thread.
    pub host: Arc<ArrayQueue<HostFrame>>,
    /// Frames for the TAP interfaces in the kernel.
    pub kernel: Arc<ArrayQueue<HostFrame>>,
    /// Frames of the router itself to be sent.
    pub originate: Arc<ArrayQueue<HostFrame>>,
    /// Neighbors that packets need resolved.
    pub misses: Arc<ArrayQueue<Miss>>,
    /// Ports whose link is down.
    pub links: Arc<Links>,
    /// Addresses and groups of the TAP interfaces in the kernel.
    pub taps: SharedTapState,
    /// Buffers for long frames.
    pub long_frames: LongFrames,
}

impl Default for Rings {
    fn default() -> Self {
        Rings {
            host: Arc::new(ArrayQueue::new(512)),
            kernel: Arc::new(ArrayQueue::new(512)),
            originate: Arc::new(ArrayQueue::new(512)),
            misses: Arc::new(ArrayQueue::new(256)),
            links: Arc::default(),
            taps: SharedTapState::default(),
            long_frames: LongFrames::default(),
        }
    }
}

impl Rings {
    /// Copies a packet into one of the rings, or returns the drop reason.
    pub(super) fn give<P: Packet>(
        &self,
        ring: &ArrayQueue<HostFrame>,
        port: u16,
        packet: &P,
    ) -> Result<(), Reason> {
        // Checked first, so that a flood costs no copy.
        if ring.is_full() {
            return Err(Reason::HostFull);
        }
        let refused =
            if packet.length() > self.long_frames.longest() { Reason::HostTooBig } else { Reason::HostFull };
        let frame = self.long_frames.copy_packet(port, packet).ok_or(refused)?;
        ring.push(frame).map_err(|_| Reason::HostFull)
    }
}
