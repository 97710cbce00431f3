//! Where packets leave the pipeline: a transmit buffer per port, the ring to the control thread, or the pool they came from.

use std::collections::VecDeque;
use std::sync::Arc;

use crossbeam_queue::ArrayQueue;

use super::Verdict;
use super::forward::Miss;
use crate::counters::{Adding, Taken, Tally};
use crate::io::{BURST, Burst, Io, Packet, PacketOf, Transmit};
use crate::reason::Reason;

/// Largest frame that goes to the control thread; it speaks of links and answers pings, no more.
pub const HOST_FRAME: usize = 2_032;

/// A frame on its way between a worker and the control thread, copied: the slow path never holds a packet buffer.
#[derive(Clone)]
pub struct HostFrame {
    /// Place of the port that it came in by or goes out of.
    pub port: u16,
    length: u16,
    bytes: [u8; HOST_FRAME],
}

impl HostFrame {
    /// A copy; `None` where it is too large.
    pub fn new(port: u16, frame: &[u8]) -> Option<HostFrame> {
        let mut bytes = [0; HOST_FRAME];
        bytes.get_mut(..frame.len())?.copy_from_slice(frame);
        Some(HostFrame { port, length: frame.len() as u16, bytes })
    }

    /// The frame from its Ethernet header on.
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.length)).unwrap_or_default()
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
    /// Frames for the router itself.
    pub host: Arc<ArrayQueue<HostFrame>>,
    /// Frames of the router's own, to be sent.
    pub originate: Arc<ArrayQueue<HostFrame>>,
    /// Neighbours that packets asked for.
    pub misses: Arc<ArrayQueue<Miss>>,
}

impl Default for Rings {
    fn default() -> Self {
        Rings {
            host: Arc::new(ArrayQueue::new(512)),
            originate: Arc::new(ArrayQueue::new(512)),
            misses: Arc::new(ArrayQueue::new(256)),
        }
    }
}

/// The way out of one port for one worker: a burst that is handed to the driver when the worker has gone through what it received,
/// and behind it, for a device that takes no more at the moment, a bounded queue.
pub struct TxBuffer<I: Io> {
    queue: I::Tx,
    /// Older than everything in `backlog`.
    staged: I::Burst,
    backlog: VecDeque<PacketOf<I>>,
    limit: usize,
    taken: Taken,
}

impl<I: Io> TxBuffer<I> {
    fn push(&mut self, packet: PacketOf<I>) -> Result<(), PacketOf<I>> {
        let packet = if self.backlog.is_empty() {
            match self.staged.push(packet) {
                Ok(()) => return Ok(()),
                Err(packet) => packet,
            }
        } else {
            packet
        };
        if self.backlog.len() >= self.limit {
            return Err(packet);
        }
        // Within the capacity reserved at start.
        self.backlog.push_back(packet);
        Ok(())
    }

    fn held(&self) -> usize {
        self.staged.packets().len() + self.backlog.len()
    }

    #[inline]
    fn flush(&mut self) {
        loop {
            let staged = self.staged.packets();
            if staged.is_empty() {
                return;
            }
            let bytes =
                |packets: &[PacketOf<I>]| packets.iter().map(|packet| packet.length() as u64).sum::<u64>();
            let before = bytes(staged);
            let sent = self.queue.send(&mut self.staged);
            self.taken.packets += sent as u64;
            self.taken.bytes += before - bytes(self.staged.packets());
            if !self.staged.packets().is_empty() {
                return;
            }
            while self.staged.packets().len() < BURST
                && let Some(packet) = self.backlog.pop_front()
            {
                let _ = self.staged.push(packet);
            }
        }
    }
}

/// All ways out, of one worker.
pub struct Output<I: Io> {
    ports: Vec<TxBuffer<I>>,
    rings: Rings,
    freed: I::Burst,
    lone: I::Burst,
}

impl<I: Io> Output<I> {
    /// `queues` are the worker's transmit queues by place of the port; `limit` packets wait for each that takes no more.
    pub fn new(queues: Vec<I::Tx>, limit: usize, rings: Rings) -> Output<I> {
        let buffer = |queue| TxBuffer {
            queue,
            staged: I::Burst::default(),
            backlog: VecDeque::with_capacity(limit),
            limit,
            taken: Taken::default(),
        };
        let ports = queues.into_iter().map(buffer).collect();
        Output { ports, rings, freed: I::Burst::default(), lone: I::Burst::default() }
    }

    pub(crate) fn misses(&self) -> &ArrayQueue<Miss> {
        &self.rings.misses
    }

    /// Does with each packet of a burst what its verdict says, and hands the transmit buffers to the drivers.
    #[inline]
    pub(crate) fn dispatch(
        &mut self,
        port: usize,
        burst: &mut I::Burst,
        verdicts: &[Verdict; BURST],
        tally: &mut Tally,
    ) {
        for (packet, verdict) in burst.drain().zip(verdicts) {
            match *verdict {
                Verdict::Send(to) => match self.ports.get_mut(usize::from(to)) {
                    Some(buffer) => {
                        if let Err(packet) = buffer.push(packet) {
                            tally.drop(Reason::TxFull);
                            let _ = self.freed.push(packet);
                        }
                    }
                    None => {
                        tally.drop(Reason::UnknownPort);
                        let _ = self.freed.push(packet);
                    }
                },
                Verdict::Host => {
                    match to_host(&self.rings.host, port, &packet) {
                        Ok(()) => tally.host += 1,
                        Err(reason) => tally.drop(reason),
                    }
                    let _ = self.freed.push(packet);
                }
                Verdict::Drop(reason) => {
                    tally.drop(reason);
                    let _ = self.freed.push(packet);
                }
            }
        }
        // One call for all: freeing one by one costs a lookup of the pool's cache each.
        self.freed.clear();
        self.flush();
    }

    /// Frees a burst that nobody can handle.
    pub(crate) fn discard(&mut self, burst: &mut I::Burst, tally: &mut Tally) {
        for packet in burst.packets() {
            tally.received += 1;
            tally.bytes += packet.length() as u64;
            tally.drop(Reason::UnknownPort);
        }
        burst.clear();
    }

    /// Offers the drivers what waits.
    #[inline]
    pub fn flush(&mut self) {
        self.ports.iter_mut().for_each(TxBuffer::flush);
    }

    /// Packets that wait.
    #[inline]
    pub fn held(&self) -> usize {
        self.ports.iter().map(TxBuffer::held).sum()
    }

    /// Counts what the drivers took since the last call, and what waits now.
    #[inline]
    pub fn count(&mut self, adding: &Adding<'_>) {
        for (place, buffer) in self.ports.iter_mut().enumerate() {
            if buffer.taken.packets != 0 {
                adding.sent(place, std::mem::take(&mut buffer.taken));
            }
        }
        adding.held(self.held());
    }

    /// Sends a packet of the router's own. It does not queue: its sender asks again.
    pub fn originate(&mut self, port: usize, packet: PacketOf<I>, adding: &Adding<'_>) {
        let Some(buffer) = self.ports.get_mut(port).filter(|buffer| buffer.held() == 0) else {
            adding.originated(port, Taken::default());
            return;
        };
        let bytes = packet.length() as u64;
        let _ = self.lone.push(packet);
        let packets = buffer.queue.send(&mut self.lone) as u64;
        self.lone.clear();
        adding.originated(port, Taken { packets, bytes });
    }

    /// Frees what still waits when the worker stops.
    pub fn stop(&mut self, adding: &Adding<'_>) {
        for (place, buffer) in self.ports.iter_mut().enumerate() {
            adding.stopped(place, buffer.held() as u64);
            buffer.staged.clear();
            buffer.backlog.clear();
        }
        adding.held(0);
    }
}

impl<I: Io> std::fmt::Debug for Output<I> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Output").field("ports", &self.ports.len()).field("held", &self.held()).finish()
    }
}

/// RFC 826, RFC 4861: what is for the router itself is handled by its control thread.
fn to_host<P: Packet>(ring: &ArrayQueue<HostFrame>, port: usize, packet: &P) -> Result<(), Reason> {
    // Looked at first, so that a flood costs no copy.
    if ring.is_full() {
        return Err(Reason::HostFull);
    }
    let whole = packet.data().len() == packet.length();
    let frame = HostFrame::new(port as u16, packet.data()).filter(|_| whole).ok_or(Reason::HostTooBig)?;
    ring.push(frame).map_err(|_| Reason::HostFull)
}
