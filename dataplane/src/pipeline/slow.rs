//! The slow path: ICMP errors, fragments, held packets, and packets that the router itself sends.
//!
//! The fast path queues such packets as [`Job`]s, at most a burst of them; [`SlowPath::work`] processes them after the burst has been sent.
//! Nothing here allocates: buffers come from the pool, and without one the packet is dropped with that reason.

use std::net::IpAddr;
use std::time::Instant;

use fibcast_fib::{Adjacency, GroupIndex, PortId};

use super::family_batch::Destination;
use super::forward::{self, ForwardingContext};
use super::fragment::Scratch;
use super::hold::{self, Held, Hold};
use super::icmp_error;
use super::icmp_limit::{Limiter, Limits};
use super::job::{Job, Task};
use super::output::Output;
use super::{Verdict, fragment};
use crate::counters::Tally;
use crate::io::{BURST, Burst, Io, Packet, PacketOf, Pool};
use crate::packet::ethernet::{self, Frame};
use crate::packet::{ipv4, ipv6, put};
use crate::reason::Reason;

/// State of the slow path; see the module's documentation.
pub struct SlowPath<I: Io> {
    pool: I::Pool,
    jobs: Vec<Job<PacketOf<I>>>,
    hold: Hold<PacketOf<I>>,
    limiter: Limiter,
    room: Vec<u8>,
    scratch: Scratch,
    made: Vec<PacketOf<I>>,
    released: Vec<(Held<PacketOf<I>>, bool)>,
    failed: u64,
}

/// The route of a packet that the router itself sends.
enum Way<'a> {
    Out(&'a Adjacency),
    Wait(u32),
    Nowhere,
}

impl<I: Io> SlowPath<I> {
    /// For `ports` ports.
    pub fn new(pool: I::Pool, limits: Limits, ports: usize) -> SlowPath<I> {
        SlowPath {
            pool,
            jobs: Vec::with_capacity(BURST),
            hold: Hold::new(),
            limiter: Limiter::new(limits, ports),
            room: Vec::with_capacity(usize::from(u16::MAX) + ethernet::HEADER),
            scratch: Scratch::default(),
            made: Vec::with_capacity(BURST),
            released: Vec::with_capacity(BURST),
            failed: 0,
        }
    }

    /// The queue that the fast path fills.
    #[inline]
    pub fn jobs(&mut self) -> &mut Vec<Job<PacketOf<I>>> {
        &mut self.jobs
    }

    /// Whether there is work.
    #[inline]
    pub fn has_jobs(&self) -> bool {
        !self.jobs.is_empty()
    }

    /// Processes the queued jobs.
    #[cold]
    pub fn work(&mut self, context: ForwardingContext<'_>, output: &mut Output<I>, tally: &mut Tally) {
        let mut jobs = std::mem::take(&mut self.jobs);
        for job in jobs.drain(..) {
            match job.task {
                Task::Tell(reason, mtu) => self.tell(&job, reason, mtu, context, output, tally),
                Task::Fragment(port, mtu) => self.cut(job, port, mtu, output, tally),
                Task::Hold(key) => {
                    if let Some(lost) = self.hold.push(job.packet, job.port, false, key) {
                        output.show_drop(lost.port, hold::reason(false), &lost.packet);
                        self.lost(lost.own, lost.port, tally);
                    }
                }
            }
        }
        // The same buffer again: its capacity was reserved at the start.
        self.jobs = jobs;
        output.flush();
    }

    fn lost(&mut self, own: bool, port: u16, tally: &mut Tally) {
        if own {
            self.failed += 1;
        } else {
            tally.drop(port, hold::reason(false));
        }
    }

    fn tell(
        &mut self,
        job: &Job<PacketOf<I>>,
        reason: Reason,
        mtu: u16,
        context: ForwardingContext<'_>,
        output: &mut Output<I>,
        tally: &mut Tally,
    ) {
        if !icmp_error::write(&mut self.room, job.packet.data(), reason, mtu, context.ports, job.port) {
            return;
        }
        let kind = icmp_error::kind_of(reason);
        if !self.limiter.allows(job.port, kind) {
            tally.icmp_limited(kind);
            return;
        }
        let sent = match self.pool.packet(&self.room) {
            Some(packet) => self.send_own(packet, job.port, context, output, tally),
            None => false,
        };
        // Not the limit's doing: no buffer, or no way back to the source.
        if sent {
            tally.icmp_sent += 1;
        } else {
            self.failed += 1;
        }
    }

    fn cut(&mut self, job: Job<PacketOf<I>>, port: u16, mtu: u16, output: &mut Output<I>, tally: &mut Tally) {
        let mut packet = job.packet;
        let mut made = std::mem::take(&mut self.made);
        if let Err(reason) =
            fragment::fragment(&mut packet, mtu, &mut self.pool, &mut self.scratch, &mut made)
        {
            tally.drop(job.port, reason);
        } else if let Err(reason) = output.send(port, packet, false, tally) {
            tally.drop(job.port, reason);
        } else {
            for piece in made.drain(..) {
                tally.fragments += 1;
                if output.send(port, piece, true, tally).is_err() {
                    self.failed += 1;
                }
            }
        }
        made.clear();
        self.made = made;
    }

    /// Sends a packet of the router itself, an IP packet in a frame without MAC addresses, by the table. `port` selects the VRF. False if
    /// there is no route.
    pub fn send_own(
        &mut self,
        mut packet: PacketOf<I>,
        port: u16,
        context: ForwardingContext<'_>,
        output: &mut Output<I>,
        tally: &mut Tally,
    ) -> bool {
        match way(packet.data(), port, context) {
            Way::Out(adjacency) => {
                let length = packet.length().saturating_sub(ethernet::HEADER);
                if length > usize::from(adjacency.mtu) {
                    return self.too_big(packet, port, *adjacency, context, output, tally);
                }
                put(packet.data_mut(), 0, &adjacency.header);
                output.send(adjacency.port.0, packet, true, tally).is_ok()
            }
            Way::Wait(key) => {
                if let Some(lost) = self.hold.push(packet, port, true, key) {
                    // The displaced packet may be a received one: the oldest goes, whichever it is.
                    output.show_drop(lost.port, hold::reason(false), &lost.packet);
                    self.lost(lost.own, lost.port, tally);
                }
                true
            }
            Way::Nowhere => false,
        }
    }

    /// Handles a packet of the router itself that exceeds the MTU of its outgoing link: fragments it if allowed; otherwise notifies the
    /// kernel if it sent the packet. The kernel only knows the MTU of the TAP interface, while the table may route out of any port (RFC
    /// 1191 §4, RFC 8201 §4).
    #[cold]
    fn too_big(
        &mut self,
        mut packet: PacketOf<I>,
        port: u16,
        adjacency: Adjacency,
        context: ForwardingContext<'_>,
        output: &mut Output<I>,
        tally: &mut Tally,
    ) -> bool {
        if forward::dont_fragment(packet.data()) {
            let exception_path = context.ports.get(usize::from(port)).is_some_and(|port| port.exception_path);
            if exception_path
                && icmp_error::write_to_self(&mut self.room, packet.data(), adjacency.mtu)
                && let Some(facts) = context.ports.get(usize::from(port))
            {
                put(&mut self.room, 0, &facts.mac.0);
                output.to_kernel(port, &self.room);
            }
            return false;
        }
        put(packet.data_mut(), 0, &adjacency.header);
        let mut made = std::mem::take(&mut self.made);
        let mut sent =
            fragment::fragment(&mut packet, adjacency.mtu, &mut self.pool, &mut self.scratch, &mut made)
                .is_ok()
                && output.send(adjacency.port.0, packet, true, tally).is_ok();
        for piece in made.drain(..) {
            tally.fragments += 1;
            sent &= output.send(adjacency.port.0, piece, true, tally).is_ok();
        }
        self.made = made;
        sent
    }

    /// Sends a frame of the control thread or the kernel: unchanged, or routed by the table.
    pub fn originate(
        &mut self,
        frame: &[u8],
        port: u16,
        routed: bool,
        context: ForwardingContext<'_>,
        output: &mut Output<I>,
        tally: &mut Tally,
    ) {
        let sent = match self.pool.packet(frame) {
            Some(packet) if routed => self.send_own(packet, port, context, output, tally),
            Some(packet) => output.send(port, packet, true, tally).is_ok(),
            None => false,
        };
        self.failed += u64::from(!sent);
    }

    /// Updates the clock.
    pub fn tick(&mut self, now: Instant) {
        self.limiter.tick(now);
    }

    /// Packets of the router itself that failed since the last call.
    pub fn take_failed(&mut self) -> u64 {
        std::mem::take(&mut self.failed)
    }

    /// Number of received packets that wait here.
    #[inline]
    pub fn held(&self) -> usize {
        self.hold.received()
    }

    /// Whether any packet waits.
    #[inline]
    pub fn is_waiting(&self) -> bool {
        !self.hold.is_empty()
    }

    /// Releases held packets: received packets of one port are put into `burst` to pass the pipeline again; the router's own are sent;
    /// expired ones are dropped with an ICMP error. Returns the port of the burst.
    pub fn release(
        &mut self,
        now: Instant,
        burst: &mut I::Burst,
        context: ForwardingContext<'_>,
        output: &mut Output<I>,
        tally: &mut Tally,
    ) -> Option<u16> {
        let mut hold = std::mem::take(&mut self.hold);
        let silent = ForwardingContext { misses: None, ..context };
        let mut chosen: Option<u16> = None;
        let room = BURST - burst.packets().len().min(BURST);
        let (mut own, jobs) = (std::mem::take(&mut self.released), &mut self.jobs);
        hold.take(
            now,
            room,
            |held| {
                let fits = held.own || chosen.is_none_or(|port| port == held.port);
                let ready =
                    fits && matches!(way(held.packet.data(), held.port, silent), Way::Out(_) | Way::Nowhere);
                if ready && !held.own {
                    chosen = Some(held.port);
                }
                ready
            },
            |held, gone| match (held.own, gone) {
                (true, _) => own.push((held, gone)),
                (false, false) => _ = burst.push(held.packet),
                (false, true) => {
                    let reason = hold::reason(true);
                    tally.drop(held.port, reason);
                    output.show_drop(held.port, reason, &held.packet);
                    jobs.push(Job { packet: held.packet, port: held.port, task: Task::Tell(reason, 0) });
                }
            },
        );
        self.hold = hold;
        for (held, gone) in own.drain(..) {
            let sent = !gone && self.send_own(held.packet, held.port, context, output, tally);
            self.failed += u64::from(!sent);
        }
        self.released = own;
        chosen
    }

    /// Drops all held packets when a worker stops; returns the ports of arrival of the received ones.
    pub fn stop(&mut self) -> Vec<u16> {
        self.jobs.clear();
        self.hold.drain().filter(|held| !held.own).map(|held| held.port).collect()
    }
}

impl<I: Io> std::fmt::Debug for SlowPath<I> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SlowPath").field("jobs", &self.jobs.len()).field("held", &self.held()).finish()
    }
}

/// Routes a packet by its destination, in the VRF of `port`.
fn way<'a>(frame: &[u8], port: u16, context: ForwardingContext<'a>) -> Way<'a> {
    let (Ok(frame), Some(facts)) = (Frame::new_checked(frame), context.ports.get(usize::from(port))) else {
        return Way::Nowhere;
    };
    let bytes = frame.payload();
    let mut group = [GroupIndex::NO_ROUTE];
    let address: IpAddr = match frame.ethertype() {
        ethernet::IPV4 => {
            let Ok(header) = ipv4::Ipv4Header::new_checked(bytes, bytes.len()) else { return Way::Nowhere };
            u32::look_up(context.generation, facts.vrf, &[header.destination().to_bits()], &mut group);
            header.destination().into()
        }
        ethernet::IPV6 => {
            let Ok(header) = ipv6::Ipv6Header::new_checked(bytes, bytes.len()) else { return Way::Nowhere };
            let destination = header.destination();
            if ipv6::is_link_local(destination) {
                return out(forward::connected(context, PortId(port), destination.into()));
            }
            u128::look_up(context.generation, facts.vrf, &[destination.to_bits()], &mut group);
            destination.into()
        }
        _ => return Way::Nowhere,
    };
    let [group] = group;
    out(forward::adjacency(context, group, || hash(address), || address))
}

fn out(found: Result<&Adjacency, Verdict>) -> Way<'_> {
    match found {
        Ok(adjacency) => Way::Out(adjacency),
        Err(Verdict::Hold(key)) => Way::Wait(key),
        Err(_) => Way::Nowhere,
    }
}

/// One path for everything that the router itself sends to an address.
fn hash(address: IpAddr) -> u32 {
    let bits = match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits(),
    };
    ((bits as u64 ^ (bits >> 64) as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u32
}
