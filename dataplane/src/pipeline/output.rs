//! Output of the pipeline: a transmit buffer per device, a ring to the control thread or the kernel, the pool, or the jobs of the slow
//! path.

use std::sync::Arc;

use fibcast_control::capture::Direction;

use super::delivery::{Delivery, Receiver};
use super::job::{Job, Task};
use super::port::PortFacts;
pub use super::rings::Rings;
use super::tx_buffer::TxBuffer;
use super::verdict::{Verdict, Verdicts};
use super::{icmp_error, vlan};
use crate::capture::{Hub, Session};
use crate::counters::{BurstUpdate, Tally};
use crate::io::{BURST, Burst, Deal, Io, Packet, PacketOf, each};
use crate::reason::Reason;

/// Where the frames of a port leave.
#[derive(Debug, Clone, Copy)]
struct Exit {
    device: u16,
    vlan: Option<u16>,
}

/// All outputs of one worker.
pub struct Output<I: Io> {
    exits: Box<[Exit]>,
    buffers: Vec<TxBuffer<I>>,
    delivery: Delivery,
    rings: Rings,
    freed: I::Burst,
    hub: Arc<Hub>,
    capture: Option<Arc<Session>>,
}

impl<I: Io> Output<I> {
    /// `queues` are the worker's transmit queues by port index; sub-interfaces have none. Up to `limit` packets wait for each queue that
    /// takes no more.
    pub fn new(
        queues: Vec<Option<I::Tx>>,
        ports: &[PortFacts],
        limit: usize,
        rings: Rings,
        hub: Arc<Hub>,
    ) -> Output<I> {
        let mut buffers = Vec::new();
        let mut buffer_of = Vec::new();
        for queue in queues {
            buffer_of.push(buffers.len() as u16);
            buffers.extend(queue.map(|queue| TxBuffer::new(queue, limit)));
        }
        let exit = |port: &PortFacts| Exit {
            device: buffer_of.get(usize::from(port.link.device)).copied().unwrap_or(u16::MAX),
            vlan: port.link.vlan,
        };
        Output {
            exits: ports.iter().map(exit).collect(),
            buffers,
            delivery: Delivery::new(ports),
            rings,
            freed: I::Burst::default(),
            hub,
            capture: None,
        }
    }

    /// Checks for a running capture, once per burst.
    #[inline]
    pub(crate) fn look_for_capture(&mut self) -> Option<&Session> {
        self.capture = self.hub.session();
        self.capture.as_deref()
    }

    /// Copies a dropped packet to a running capture.
    #[inline]
    pub(crate) fn show_drop(&self, port: u16, reason: Reason, packet: &PacketOf<I>) {
        if let Some(capture) = &self.capture {
            capture.offer(Direction::Drop, port, Some(reason), packet.data(), packet.length());
        }
    }

    /// Appends a frame to the transmit buffer of a port.
    #[inline]
    pub(crate) fn send(
        &mut self,
        port: u16,
        mut packet: PacketOf<I>,
        own: bool,
        tally: &mut Tally,
    ) -> Result<(), Reason> {
        let Some(exit) = self.exits.get(usize::from(port)).copied() else { return Err(Reason::UnknownPort) };
        if exit.vlan.is_some() | self.capture.is_some() {
            self.dress(port, exit, &mut packet, tally)?;
        }
        let Some(buffer) = self.buffers.get_mut(usize::from(exit.device)) else {
            return Err(Reason::UnknownPort);
        };
        buffer.push(packet, own).map_err(|packet| {
            self.free(packet);
            Reason::TxFull
        })
    }

    /// Adds the VLAN tag of a sub-interface, and copies the packet to a capture.
    #[inline(never)]
    fn dress(
        &self,
        port: u16,
        exit: Exit,
        packet: &mut PacketOf<I>,
        tally: &mut Tally,
    ) -> Result<(), Reason> {
        if let Some(vlan) = exit.vlan {
            if !vlan::push(packet, vlan) {
                return Err(Reason::NoBuffer);
            }
            tally.left_tagged(port, packet.length() as u64);
        }
        if let Some(capture) = &self.capture {
            capture.offer(Direction::Out, port, None, packet.data(), packet.length());
        }
        Ok(())
    }

    /// Frees in bulk: freeing one by one costs a lookup of the pool cache each.
    #[cold]
    fn free(&mut self, packet: PacketOf<I>) {
        let _ = self.freed.push(packet);
    }

    /// Executes the verdict of each packet of a burst, and passes the transmit buffers to the drivers. What the fast path cannot do becomes
    /// a job.
    #[inline]
    pub(crate) fn dispatch(
        &mut self,
        arrived: &[u16; BURST],
        burst: &mut I::Burst,
        verdicts: &Verdicts,
        lengths: &[u32; BURST],
        tally: &mut Tally,
        jobs: &mut Vec<Job<PacketOf<I>>>,
    ) {
        let mut deal = burst.deal();
        let mut sent = verdicts.sent();
        while let Some((port, mask)) = verdicts.with(sent.trailing_zeros() as usize) {
            sent &= !mask;
            if let Some(buffer) = self.direct(port.into()) {
                buffer.give(&mut deal, mask, lengths);
            }
        }
        for at in each(deal.left()) {
            let (Some(packet), Some(&port)) = (deal.take(at), arrived.get(at)) else { continue };
            match verdicts.of(at) {
                Verdict::Send(to) => {
                    if let Err(reason) = self.send(to, packet, false, tally) {
                        tally.drop(port, reason);
                    }
                }
                other => self.other(other, packet, port, tally, jobs),
            }
        }
        drop(deal);
        self.flush();
    }

    /// The transmit buffer of a port whose packets need no further work and none of which waits.
    #[inline]
    fn direct(&mut self, port: usize) -> Option<&mut TxBuffer<I>> {
        let exit = self.exits.get(port).filter(|exit| exit.vlan.is_none() & self.capture.is_none())?;
        self.buffers.get_mut(usize::from(exit.device)).filter(|buffer| buffer.has_no_backlog())
    }

    #[inline(never)]
    fn other(
        &mut self,
        verdict: Verdict,
        packet: PacketOf<I>,
        port: u16,
        tally: &mut Tally,
        jobs: &mut Vec<Job<PacketOf<I>>>,
    ) {
        let verdict = match verdict {
            Verdict::Drop(reason) if self.delivery.is_for_dhcp_client(reason, port, packet.data()) => {
                Verdict::Kernel
            }
            verdict => verdict,
        };
        let (reason, mtu) = match verdict {
            Verdict::Drop(reason) => (reason, 0),
            Verdict::TooBig(mtu) => (Reason::TooBig, mtu),
            Verdict::Fragment { port: to, mtu } => {
                return jobs.push(Job { packet, port, task: Task::Fragment(to, mtu) });
            }
            Verdict::Hold(key) => return jobs.push(Job { packet, port, task: Task::Hold(key) }),
            Verdict::Control
            | Verdict::Host
            | Verdict::PuntMulticast
            | Verdict::Kernel
            | Verdict::PuntBoth
            | Verdict::Send(_) => {
                return match self.to_host(verdict, port, &packet) {
                    Ok(()) => {
                        tally.host += 1;
                        self.free(packet);
                    }
                    Err(reason) => {
                        tally.drop(port, reason);
                        self.show_drop(port, reason, &packet);
                        self.free(packet);
                    }
                };
            }
        };
        tally.drop(port, reason);
        self.show_drop(port, reason, &packet);
        if icmp_error::is_told(reason) {
            jobs.push(Job { packet, port, task: Task::Tell(reason, mtu) });
        } else {
            self.free(packet);
        }
    }

    /// Passes a packet for the router itself to those on the host that it is for; see [`super::delivery`].
    fn to_host(&self, verdict: Verdict, port: u16, packet: &PacketOf<I>) -> Result<(), Reason> {
        let rings = &self.rings;
        match self.delivery.receiver(verdict, port, packet.data(), &rings.taps.load())? {
            Receiver::Control => rings.give(&rings.host, port, port, packet),
            Receiver::Kernel(owner) => rings.give(&rings.kernel, owner, port, packet),
            Receiver::Both(owner) => {
                // The control thread's copy counts: the kernel is one more listener.
                let _ = rings.give(&rings.kernel, owner, port, packet);
                rings.give(&rings.host, port, port, packet)
            }
        }
    }

    /// Passes a frame of the router itself to the kernel, by the TAP interface that has its destination; dropped if the ring is full.
    pub(crate) fn to_kernel(&self, port: u16, frame: &[u8]) {
        let receiver = self.delivery.receiver(Verdict::Host, port, frame, &self.rings.taps.load());
        if let Ok(Receiver::Kernel(owner)) = receiver
            && let Some(frame) = self.rings.long_frames.copy(owner, owner, frame)
        {
            let _ = self.rings.kernel.push(frame);
        }
    }

    /// Frees a burst that cannot be processed.
    pub(crate) fn discard(&mut self, port: u16, burst: &mut I::Burst, tally: &mut Tally) {
        for packet in burst.packets() {
            tally.arrived(port, 1, packet.length() as u64);
            tally.drop(port, Reason::UnknownPort);
        }
        burst.clear();
    }

    /// Passes waiting packets to the drivers, and frees dropped ones.
    #[inline]
    pub fn flush(&mut self) {
        self.freed.clear();
        for buffer in &mut self.buffers {
            if !buffer.is_empty() {
                buffer.flush();
            }
        }
    }

    /// Received packets that wait.
    #[inline]
    pub fn held(&self) -> usize {
        self.buffers.iter().map(TxBuffer::held).sum()
    }

    /// Whether any packet waits.
    #[inline]
    pub fn is_waiting(&self) -> bool {
        self.buffers.iter().any(|buffer| !buffer.is_empty())
    }

    /// Counts what the drivers took since the last call, and what waits now, here and `elsewhere`.
    #[inline]
    pub fn count(&mut self, adding: &BurstUpdate<'_>, elsewhere: usize) {
        let mut held = elsewhere;
        for (port_index, exit) in self.exits.iter().enumerate() {
            if exit.vlan.is_some() {
                continue;
            }
            let Some(buffer) = self.buffers.get_mut(usize::from(exit.device)) else { continue };
            held += buffer.held();
            if buffer.taken.passed.packets | buffer.taken.own.packets != 0 {
                let taken = std::mem::take(&mut buffer.taken);
                adding.sent(port_index, taken.passed, taken.own);
            }
            if buffer.backpressure != 0 {
                adding.backpressure(port_index, std::mem::take(&mut buffer.backpressure));
            }
        }
        adding.held(held);
    }

    /// Frees the waiting packets when the worker stops.
    pub fn stop(&mut self, adding: &BurstUpdate<'_>) {
        for (port_index, exit) in self.exits.iter().enumerate().filter(|(_, exit)| exit.vlan.is_none()) {
            let Some(buffer) = self.buffers.get_mut(usize::from(exit.device)) else { continue };
            adding.stopped(port_index, buffer.held() as u64);
            adding.originate_failed(buffer.clear() as u64);
        }
        adding.held(0);
    }
}

impl<I: Io> std::fmt::Debug for Output<I> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Output").field("ports", &self.exits.len()).field("held", &self.held()).finish()
    }
}
