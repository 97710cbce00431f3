//! The rings between a worker and other threads.

use std::sync::Arc;

use super::fair_queue::FairQueue;
use super::forward::Miss;
use super::host_frame::{HostFrame, LongFrames};
use super::links::Links;
use super::tap_state::SharedTapState;
use crate::io::Packet;
use crate::reason::Reason;

/// Frames for the router itself that wait in a ring; one port that floods has half of them.
const FRAMES: usize = 1_024;
/// Requests for neighbors that wait.
const MISSES: usize = 512;
/// Frames of the router itself that wait to be sent.
const ORIGINATED: usize = 512;

/// The share in [`Rings::originate`] of what programs on the host send by the TAP interface of a port: their traffic must not cost the port
/// its ARP.
pub fn share_of_programs(port: u16) -> u16 {
    u16::MAX - port
}

/// The bounded rings between a worker and the control and exception-path threads.
#[derive(Debug, Clone)]
pub struct Rings {
    /// Frames for the control thread.
    pub host: Arc<FairQueue<HostFrame>>,
    /// Frames for the TAP interfaces in the kernel.
    pub kernel: Arc<FairQueue<HostFrame>>,
    /// Frames of the router itself to be sent: answers by the port of the question, all others by the port they leave by, those of programs on
    /// the host by [`share_of_programs`].
    pub originate: Arc<FairQueue<HostFrame>>,
    /// Neighbors that packets need resolved.
    pub misses: Arc<FairQueue<Miss>>,
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
            host: Arc::new(FairQueue::new(FRAMES)),
            kernel: Arc::new(FairQueue::new(FRAMES)),
            originate: Arc::new(FairQueue::new(ORIGINATED)),
            misses: Arc::new(FairQueue::new(MISSES)),
            links: Arc::default(),
            taps: SharedTapState::default(),
            long_frames: LongFrames::default(),
        }
    }
}

impl Rings {
    /// Copies a packet that arrived on port `from` into one of the rings, for port `port`, or returns the drop reason.
    pub(super) fn give<P: Packet>(
        &self,
        ring: &FairQueue<HostFrame>,
        port: u16,
        from: u16,
        packet: &P,
    ) -> Result<(), Reason> {
        // Checked first, so that a flood costs no copy.
        if !ring.has_room(from) {
            return Err(Reason::HostFull);
        }
        let refused =
            if packet.length() > self.long_frames.longest() { Reason::HostTooBig } else { Reason::HostFull };
        let frame = self.long_frames.copy_packet(port, from, packet).ok_or(refused)?;
        ring.push(frame).map_err(|_| Reason::HostFull)
    }
}
