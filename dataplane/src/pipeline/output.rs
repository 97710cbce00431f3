//! Where packets leave the straight path: a transmit buffer per device, a ring to the control thread or the kernel, the pool they came
//! from, or the jobs of the slow path.

use std::collections::VecDeque;
use std::sync::Arc;

use crossbeam_queue::ArrayQueue;
use fibcast_control::capture::Direction;

use super::forward::Miss;
use super::links::Links;
use super::port::PortFacts;
use super::slow::{Job, Task};
use super::verdict::{Verdict, Verdicts};
use super::{icmp_error, vlan};
use crate::capture::{Hub, Session};
use crate::counters::{Adding, Taken, Tally};
use crate::io::{BURST, Burst, Deal, Io, Packet, PacketOf, Places, Transmit, each};
use crate::packet::{ethernet, ipv6, nd, take};
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
    /// Frames for the twins in the kernel.
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

/// The way out of one device for one worker: a burst that is handed to the driver when the worker has gone through what it received,
/// and behind it, for a device that takes no more at the moment, a bounded queue.
pub struct TxBuffer<I: Io> {
    queue: I::Tx,
    /// Older than everything in `backlog`.
    staged: I::Burst,
    /// Which of the staged packets are the router's own: a bit for each.
    own: Places,
    backlog: VecDeque<(PacketOf<I>, bool)>,
    own_in_backlog: usize,
    limit: usize,
    taken: Sums,
    /// Times that the driver took fewer packets than it was offered.
    pressed: u64,
}

/// Packets that were received, and those of the router's own.
#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    passed: Taken,
    own: Taken,
}

impl<I: Io> TxBuffer<I> {
    #[inline]
    fn push(&mut self, packet: PacketOf<I>, own: bool) -> Result<(), PacketOf<I>> {
        if !self.backlog.is_empty() {
            return self.wait(packet, own);
        }
        let at = self.staged.packets().len();
        match self.staged.push(packet) {
            Ok(()) => {
                self.own |= Places::from(own) << at;
                Ok(())
            }
            Err(packet) => self.wait(packet, own),
        }
    }

    #[cold]
    fn wait(&mut self, packet: PacketOf<I>, own: bool) -> Result<(), PacketOf<I>> {
        if self.backlog.len() >= self.limit {
            return Err(packet);
        }
        self.backlog.push_back((packet, own));
        self.own_in_backlog += usize::from(own);
        Ok(())
    }

    /// Received packets that wait.
    #[inline]
    fn held(&self) -> usize {
        let staged = self.staged.packets().len() - self.own.count_ones() as usize;
        staged + self.backlog.len() - self.own_in_backlog
    }

    #[inline]
    fn is_empty(&self) -> bool {
        self.staged.packets().is_empty()
    }

    /// Offers the driver what waits, and fills up behind it as long as the driver takes all.
    #[inline]
    fn flush(&mut self) {
        while !self.is_empty() {
            // Before the driver has them: afterwards they are its own.
            let offered = self.staged();
            let sent = self.queue.send(&mut self.staged);
            self.own = self.own.checked_shr(sent as u32).unwrap_or(0);
            let left = if self.is_empty() { Sums::default() } else { self.staged() };
            self.taken.passed += offered.passed - left.passed;
            self.taken.own += offered.own - left.own;
            if !self.is_empty() {
                self.pressed += 1;
                return;
            }
            if self.backlog.is_empty() {
                return;
            }
            self.refill();
        }
    }

    /// What is staged.
    #[inline]
    fn staged(&self) -> Sums {
        let packets = self.staged.packets();
        let bytes = packets.iter().map(|packet| packet.length() as u64).sum();
        let mut sums = Sums { passed: Taken { packets: packets.len() as u64, bytes }, ..Sums::default() };
        for packet in each(self.own).filter_map(|at| packets.get(at)) {
            let one = Taken { packets: 1, bytes: packet.length() as u64 };
            sums.own += one;
            sums.passed -= one;
        }
        sums
    }

    #[cold]
    fn refill(&mut self) {
        while self.staged.packets().len() < BURST
            && let Some((packet, own)) = self.backlog.pop_front()
        {
            self.own_in_backlog -= usize::from(own);
            self.own |= Places::from(own) << self.staged.packets().len();
            let _ = self.staged.push(packet);
        }
    }
}

/// Where the frames of a port leave.
#[derive(Debug, Clone, Copy)]
struct Exit {
    device: u16,
    vlan: Option<u16>,
}

/// All ways out, of one worker.
pub struct Output<I: Io> {
    exits: Box<[Exit]>,
    buffers: Vec<TxBuffer<I>>,
    host_paths: Box<[bool]>,
    rings: Rings,
    freed: I::Burst,
    hub: Arc<Hub>,
    capture: Option<Arc<Session>>,
}

impl<I: Io> Output<I> {
    /// `queues` are the worker's transmit queues by place of the port; sub-interfaces have none. `limit` packets wait for each that takes
    /// no more.
    pub fn new(
        queues: Vec<Option<I::Tx>>,
        ports: &[PortFacts],
        limit: usize,
        rings: Rings,
        hub: Arc<Hub>,
    ) -> Output<I> {
        let mut buffers = Vec::new();
        let mut places = Vec::new();
        for queue in queues {
            places.push(buffers.len() as u16);
            let buffer = |queue| TxBuffer {
                queue,
                staged: I::Burst::default(),
                own: 0,
                backlog: VecDeque::with_capacity(limit),
                own_in_backlog: 0,
                limit,
                taken: Sums::default(),
                pressed: 0,
            };
            buffers.extend(queue.map(buffer));
        }
        let exit = |port: &PortFacts| Exit {
            device: places.get(usize::from(port.link.device)).copied().unwrap_or(u16::MAX),
            vlan: port.link.vlan,
        };
        Output {
            exits: ports.iter().map(exit).collect(),
            buffers,
            host_paths: ports.iter().map(|port| port.host_path).collect(),
            rings,
            freed: I::Burst::default(),
            hub,
            capture: None,
        }
    }

    /// Looks whether somebody captures: once for each burst.
    #[inline]
    pub(crate) fn look_for_capture(&mut self) -> Option<&Session> {
        self.capture = self.hub.session();
        self.capture.as_deref()
    }

    /// Shows a dropped packet to who captures.
    #[inline]
    pub(crate) fn show_drop(&self, port: u16, reason: Reason, packet: &PacketOf<I>) {
        if let Some(capture) = &self.capture {
            capture.offer(Direction::Drop, port, Some(reason), packet.data(), packet.length());
        }
    }

    /// Puts a frame into the transmit buffer of a port.
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

    /// A tag, where the port is a sub-interface, and a copy for who captures.
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

    /// One call for all: freeing one by one costs a lookup of the pool's cache each.
    #[cold]
    fn free(&mut self, packet: PacketOf<I>) {
        let _ = self.freed.push(packet);
    }

    /// Does with each packet of a burst what its verdict says, and hands the transmit buffers to the drivers. What the straight path
    /// cannot do becomes a job.
    #[inline]
    pub(crate) fn dispatch(
        &mut self,
        arrived: &[u16; BURST],
        burst: &mut I::Burst,
        verdicts: &Verdicts,
        tally: &mut Tally,
        jobs: &mut Vec<Job<PacketOf<I>>>,
    ) {
        let mut deal = burst.deal();
        for port in verdicts.ports() {
            if let Some(buffer) = self.straight(port) {
                deal.give(verdicts.places(port), &mut buffer.staged);
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

    /// The transmit buffer of a port whose packets need nothing more, and wait for none.
    #[inline]
    fn straight(&mut self, port: usize) -> Option<&mut TxBuffer<I>> {
        let exit = self.exits.get(port).filter(|exit| exit.vlan.is_none() & self.capture.is_none())?;
        self.buffers.get_mut(usize::from(exit.device)).filter(|buffer| buffer.backlog.is_empty())
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
        let (reason, mtu) = match verdict {
            Verdict::Drop(reason) => (reason, 0),
            Verdict::TooBig(mtu) => (Reason::TooBig, mtu),
            Verdict::Fragment { port: to, mtu } => {
                return jobs.push(Job { packet, port, task: Task::Fragment(to, mtu) });
            }
            Verdict::Hold(key) => return jobs.push(Job { packet, port, task: Task::Hold(key) }),
            Verdict::Control | Verdict::Host | Verdict::Group | Verdict::Send(_) => {
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

    /// What is for the router itself goes to the twin in the kernel where the port has one, else to the control thread, which answers
    /// pings. Address resolution (RFC 826, RFC 4861) is the control thread's in both cases.
    fn to_host(&self, verdict: Verdict, port: u16, packet: &PacketOf<I>) -> Result<(), Reason> {
        let host_path = self.host_paths.get(usize::from(port)).copied().unwrap_or(false);
        let ring = match verdict {
            Verdict::Host if host_path && is_discovery(packet.data()) => &self.rings.host,
            Verdict::Host | Verdict::Group if host_path => &self.rings.kernel,
            Verdict::Group => return Err(Reason::Multicast),
            _ => &self.rings.host,
        };
        to_ring(ring, port, packet)
    }

    /// Gives the kernel a frame of the router's own by the twin of a port; a full ring loses it.
    pub(crate) fn to_kernel(&self, port: u16, frame: &[u8]) {
        if let Some(frame) = HostFrame::new(port, frame) {
            let _ = self.rings.kernel.push(frame);
        }
    }

    /// Frees a burst that nobody can handle.
    pub(crate) fn discard(&mut self, port: u16, burst: &mut I::Burst, tally: &mut Tally) {
        for packet in burst.packets() {
            tally.arrived(port, 1, packet.length() as u64);
            tally.drop(port, Reason::UnknownPort);
        }
        burst.clear();
    }

    /// Offers the drivers what waits, and gives back what was dropped.
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

    /// Whether anything waits.
    #[inline]
    pub fn is_waiting(&self) -> bool {
        self.buffers.iter().any(|buffer| !buffer.is_empty())
    }

    /// Counts what the drivers took since the last call, and what waits now: here, and `elsewhere`.
    #[inline]
    pub fn count(&mut self, adding: &Adding<'_>, elsewhere: usize) {
        let mut held = elsewhere;
        for (place, exit) in self.exits.iter().enumerate() {
            if exit.vlan.is_some() {
                continue;
            }
            let Some(buffer) = self.buffers.get_mut(usize::from(exit.device)) else { continue };
            held += buffer.held();
            if buffer.taken.passed.packets | buffer.taken.own.packets != 0 {
                let taken = std::mem::take(&mut buffer.taken);
                adding.sent(place, taken.passed, taken.own);
            }
            if buffer.pressed != 0 {
                adding.pressed(place, std::mem::take(&mut buffer.pressed));
            }
        }
        adding.held(held);
    }

    /// Frees what still waits when the worker stops.
    pub fn stop(&mut self, adding: &Adding<'_>) {
        for (place, exit) in self.exits.iter().enumerate().filter(|(_, exit)| exit.vlan.is_none()) {
            let Some(buffer) = self.buffers.get_mut(usize::from(exit.device)) else { continue };
            adding.stopped(place, buffer.held() as u64);
            adding.originate_failed((buffer.own.count_ones() as usize + buffer.own_in_backlog) as u64);
            buffer.staged.clear();
            buffer.backlog.clear();
            (buffer.own, buffer.own_in_backlog) = (0, 0);
        }
        adding.held(0);
    }
}

impl<I: Io> std::fmt::Debug for Output<I> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Output").field("ports", &self.exits.len()).field("held", &self.held()).finish()
    }
}

/// RFC 4861: answers to the router's own questions come to its global addresses.
fn is_discovery(frame: &[u8]) -> bool {
    take::<2>(frame, 12) == Some(&ethernet::IPV6.to_be_bytes())
        && frame.get(ethernet::HEADER + 6) == Some(&nd::ICMPV6)
        && matches!(frame.get(ethernet::HEADER + ipv6::HEADER), Some(133..=137))
}

fn to_ring<P: Packet>(ring: &ArrayQueue<HostFrame>, port: u16, packet: &P) -> Result<(), Reason> {
    // Looked at first, so that a flood costs no copy.
    if ring.is_full() {
        return Err(Reason::HostFull);
    }
    let whole = packet.data().len() == packet.length();
    let frame = HostFrame::new(port, packet.data()).filter(|_| whole).ok_or(Reason::HostTooBig)?;
    ring.push(frame).map_err(|_| Reason::HostFull)
}
