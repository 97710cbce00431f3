//! The complete path of a packet: [`Pipeline::run`] is the function to read.
//!
//! A burst passes each stage as a whole, so that the cache misses of a stage overlap. No stage allocates, locks, logs or makes a system
//! call, and none can panic on any input. Each packet ends with exactly one [`Verdict`].
//!
//! | stage | file | what it does |
//! |---|---|---|
//! | checksums | [`partial_checksum`] | those of TCP and UDP that a sender on this machine left unfinished, on ports whose driver does not tell |
//! | validate | [`headers`] | plain IP for this router, valid by RFC 1812 §5.2.2, §5.3.7 and RFC 8200? eight packets at a time; into the family's [`family_batch`] |
//! | exceptions | [`classify`], [`ipv4_input`], [`ipv6_input`], [`vlan`], [`options`] | all others one by one: IEEE 802.1Q, which protocol, IPv4 options; why is it invalid? |
//! | punt | [`punt`], [`delivery`] | protocols of the link and of the router itself: which of them the host gets, and who there |
//! | source | [`martian`], [`reverse_path`] | no address of the router itself; RFC 3704, if the port enables it |
//! | lookup | `fibcast_fib::Generation` | all destinations of a family at once |
//! | forward | [`forward`] | group and flow hash → adjacency, not behind a link that is down ([`links`]); rewrite in [`rewrite`], without a [`trailer`] that is too long. First the packets of both families that need nothing else, then those with several next hops or a connected host ([`choice`]), then what is left, one by one |
//! | output | [`output`] | transmit buffer per device (`tx_buffer`), ring to the host ([`rings`], [`host_frame`]), or freed |
//! | slow | [`slow`] | ICMP errors ([`icmp_error`], [`icmp_limit`]), fragments ([`fragment`]), held packets ([`hold`]) |

mod choice;
pub mod classify;
pub mod delivery;
pub mod fair_queue;
pub mod family_batch;
pub mod flow_hash;
pub mod forward;
pub mod fragment;
pub mod headers;
pub mod hold;
pub mod host_frame;
pub mod icmp_error;
pub mod icmp_limit;
pub mod ipv4_input;
pub mod ipv6_input;
pub mod job;
pub mod links;
pub mod martian;
pub mod options;
pub mod output;
pub mod partial_checksum;
pub mod port;
pub mod punt;
pub mod reverse_path;
pub mod rewrite;
pub mod rings;
pub mod slow;
pub mod tap_state;
pub mod trailer;
mod tx_buffer;
pub mod verdict;
pub mod vlan;

use std::sync::Arc;
use std::time::Instant;

use fibcast_control::capture::Direction;
use fibcast_fib::{Generation, GroupIndex, PortId};

use crate::counters::{Tally, WorkerCounters};
use crate::io::{BURST, Burst, Io, Packet, PacketMask, each};
use crate::packet::{ethernet, take};
use crate::reason::Reason;
use crate::worker::spread::Dealt;
use fair_queue::FairQueue;
use family_batch::FamilyBatch;
use forward::{ForwardingContext, Miss};
use headers::{Headers, Spare};
use links::Links;
use martian::OwnSources;
use output::Output;
use port::{PortFacts, ReversePath};
use reverse_path::Asked;
use slow::SlowPath;
pub use verdict::Verdict;
use verdict::Verdicts;
use vlan::Vlans;

/// The stages and their state; one per worker.
#[derive(Debug)]
pub struct Pipeline<I: Io> {
    state: RouterState,
    vlans: Vlans,
    /// Any port has a reverse-path check.
    checks_sources: bool,
    /// The index of the port that each packet of the burst came in by.
    arrived: [u16; BURST],
    verdicts: Verdicts,
    headers: Headers,
    spare: Box<Spare>,
    v4: FamilyBatch<u32>,
    v6: FamilyBatch<u128>,
    /// The group of each packet of a burst of both families.
    groups: [GroupIndex; BURST],
    slow: SlowPath<I>,
    tally: Tally,
}

/// State of the router besides its table; a [`ForwardingContext`] is built from it for each burst.
#[derive(Debug)]
struct RouterState {
    ports: Box<[PortFacts]>,
    seed: u64,
    misses: Arc<FairQueue<Miss>>,
    links: Arc<Links>,
    own_sources: OwnSources,
}

impl RouterState {
    #[inline]
    fn context<'a>(
        &'a self,
        generation: &'a Generation,
        counters: &'a WorkerCounters,
        arrived: &'a [u16; BURST],
    ) -> ForwardingContext<'a> {
        ForwardingContext {
            generation,
            ports: &self.ports,
            seed: self.seed,
            misses: Some(&self.misses),
            counters,
            down: self.links.if_any_down(),
            own_sources: &self.own_sources,
            arrived,
        }
    }
}

impl<I: Io> Pipeline<I> {
    /// `seed` is mixed into the flow hash: different on each host, so that tiers do not make correlated choices.
    pub fn new(
        ports: Vec<PortFacts>,
        seed: u64,
        slow: SlowPath<I>,
        misses: Arc<FairQueue<Miss>>,
        links: Arc<Links>,
    ) -> Pipeline<I> {
        Pipeline {
            vlans: Vlans::new(&ports),
            checks_sources: ports.iter().any(|port| port.reverse_path != ReversePath::Off),
            tally: Tally::new(ports.len()),
            state: RouterState {
                own_sources: OwnSources::new(&ports),
                ports: ports.into(),
                seed,
                misses,
                links,
            },
            arrived: [0; BURST],
            verdicts: Verdicts::default(),
            headers: Headers::default(),
            spare: Box::new(headers::SPARE),
            groups: [GroupIndex::NO_ROUTE; BURST],
            v4: FamilyBatch::default(),
            v6: FamilyBatch::default(),
            slow,
        }
    }

    /// Processes a burst that arrived on the port with index `port`; the burst is empty afterwards.
    #[inline]
    pub fn run(
        &mut self,
        port: u16,
        burst: &mut I::Burst,
        generation: &Generation,
        output: &mut Output<I>,
        counters: &WorkerCounters,
    ) -> &mut Tally {
        let packets = burst.packets().len() as u32;
        let bytes = self.pass(port, burst, generation, output, counters);
        self.tally.received += packets;
        self.tally.arrived(port, packets, bytes);
        &mut self.tally
    }

    /// Counts packets that had no room in another worker's ring.
    #[inline]
    pub fn refuse(&mut self, port: u16, dealt: &Dealt) {
        if dealt.refused != 0 {
            self.tally.received += dealt.refused;
            self.tally.arrived(port, dealt.refused, dealt.bytes);
            (0..dealt.refused).for_each(|_| self.tally.drop(port, Reason::SpreadFull));
        }
    }

    /// Runs the stages; returns the length of all frames.
    #[inline]
    fn pass(
        &mut self,
        port: u16,
        burst: &mut I::Burst,
        generation: &Generation,
        output: &mut Output<I>,
        counters: &WorkerCounters,
    ) -> u64 {
        let Some(&PortFacts { mac, vrf, ipv4_checksum, partial_checksums, .. }) =
            self.state.ports.get(usize::from(port))
        else {
            output.discard(port, burst, &mut self.tally);
            return 0;
        };
        self.v4.clear();
        self.v6.clear();
        self.verdicts.clear();
        self.arrived = [port; BURST];

        if partial_checksums {
            burst.packets().iter().for_each(Packet::prefetch);
            partial_checksum::finish_all(burst.packets_mut());
        }

        let count = burst.packets().len().min(BURST);
        let own = self.state.own_sources.filter();
        let (mut heads, good);
        if ipv4_checksum {
            heads = self.headers.gather::<_, true>(burst.packets_mut(), &mut self.spare);
            good = self.headers.validate::<true>(&heads, count, mac, own);
        } else {
            heads = self.headers.gather::<_, false>(burst.packets_mut(), &mut self.spare);
            good = self.headers.validate::<false>(&heads, count, mac, own);
        }
        self.headers.add_to(good, &heads, count, &mut self.v4, &mut self.v6);
        let bytes = self.headers.bytes(count);
        let others = headers::first_of(count) & !(good.v4 | good.v6);

        let (mut tagged, capture) = (false, output.look_for_capture());
        if (others != 0) | self.checks_sources | capture.is_some() {
            tagged = others != 0 && self.look_closer(port, others, burst);
            if let Some(capture) = capture {
                for (packet, port) in burst.packets().iter().zip(&self.arrived) {
                    capture.offer(Direction::In, *port, None, packet.data(), packet.length());
                }
            }
            if self.checks_sources {
                self.check_sources(burst, generation);
            }
            heads = self.headers.gather::<_, false>(burst.packets_mut(), &mut self.spare);
            self.headers.update(&heads, others, self.v4.metas().chain(self.v6.metas()));
        }

        let (ports, arrived) = (&self.state.ports, &self.arrived);
        let vrf_of = |at: u8| {
            let facts = arrived.get(usize::from(at)).and_then(|index| ports.get(usize::from(*index)));
            facts.map_or(vrf, |facts| facts.vrf)
        };
        self.v4.look_up(generation, vrf, tagged, vrf_of);
        self.v6.look_up(generation, vrf, tagged, vrf_of);

        let context = self.state.context(generation, counters, &self.arrived);
        let groups = if good.v4 == headers::first_of(count) {
            self.v4.groups()
        } else if good.v6 == headers::first_of(count) {
            self.v6.groups()
        } else {
            self.v4.spread_groups(&mut self.groups);
            self.v6.spread_groups(&mut self.groups);
            &self.groups
        };
        forward::fast(&mut heads, count, &self.headers, groups, context, &mut self.verdicts);
        let mut left = headers::first_of(count) & !self.verdicts.sent();
        if left != 0 {
            let headers = &self.headers;
            choice::forward(burst.packets_mut(), left, headers, groups, context, &mut self.verdicts);
            left &= !self.verdicts.sent();
        }
        if left != 0 {
            forward::ipv4(burst.packets_mut(), left, context, &self.v4, &mut self.verdicts);
            forward::ipv6(burst.packets_mut(), left, context, &self.v6, &mut self.verdicts);
            self.headers.measure(burst.packets(), left);
        }

        let lengths = self.headers.lengths();
        output.dispatch(&self.arrived, burst, &self.verdicts, lengths, &mut self.tally, self.slow.jobs());
        if self.slow.has_jobs() {
            self.slow.work(context, output, &mut self.tally);
        }
        bytes
    }

    /// Flags the packets whose source fails the reverse-path check of their port.
    #[inline(never)]
    fn check_sources(&mut self, burst: &I::Burst, generation: &Generation) {
        let (ports, arrived) = (&self.state.ports, &self.arrived);
        let asked = |at: u8| {
            let port = *arrived.get(usize::from(at))?;
            let facts =
                ports.get(usize::from(port)).filter(|facts| facts.reverse_path != ReversePath::Off)?;
            Some(Asked { vrf: facts.vrf, port: PortId(port), check: facts.reverse_path })
        };
        reverse_path::ipv4(burst.packets(), generation, &mut self.v4, asked);
        reverse_path::ipv6(burst.packets(), generation, &mut self.v6, asked);
    }

    /// Exception path of the input: packets that are not plain IP to our own MAC address: tagged, for another station, broadcast, or
    /// invalid. Each gets its verdict or joins a family's batch; true if any had a tag.
    #[inline(never)]
    fn look_closer(&mut self, port: u16, others: PacketMask, burst: &mut I::Burst) -> bool {
        let mut tagged = false;
        for at in each(others) {
            let slots = (burst.packets_mut().get_mut(at), self.arrived.get_mut(at));
            let (Some(packet), Some(arrived)) = slots else { continue };
            if take::<2>(packet.data(), 12) == Some(&ethernet::VLAN.to_be_bytes()) {
                tagged = true;
                let length = packet.length() as u64;
                match self.vlans.strip(port, packet) {
                    Ok(port_index) => *arrived = port_index,
                    Err(reason) => {
                        self.verdicts.set(at, Verdict::Drop(reason));
                        continue;
                    }
                }
                if *arrived != port {
                    self.tally.arrived(*arrived, 1, length);
                }
            }
            let own = &self.state.own_sources;
            let found = match self.state.ports.get(usize::from(*arrived)) {
                Some(facts) => {
                    classify::classify(packet, facts, at, own.filter(), &mut self.v4, &mut self.v6)
                }
                None => Some(Verdict::Drop(Reason::UnknownPort)),
            };
            if let Some(verdict) = found {
                // To a link-local address, which is never looked up.
                let martian = verdict == Verdict::Host && own.refuse(*arrived, packet.data(), true);
                let verdict = if martian { Verdict::Drop(Reason::MartianSource) } else { verdict };
                self.verdicts.set(at, verdict);
            }
        }
        tagged
    }

    /// Releases held packets whose next hop is resolved, and drops the expired ones.
    pub fn release(
        &mut self,
        now: Instant,
        burst: &mut I::Burst,
        generation: &Generation,
        output: &mut Output<I>,
        counters: &WorkerCounters,
    ) -> &mut Tally {
        // One burst for each port of arrival.
        for _ in 0..=self.state.ports.len() {
            let context = self.state.context(generation, counters, &self.arrived);
            let port = self.slow.release(now, burst, context, output, &mut self.tally);
            if self.slow.has_jobs() {
                self.slow.work(context, output, &mut self.tally);
            }
            let Some(port) = port else { break };
            self.pass(port, burst, generation, output, counters);
        }
        output.flush();
        &mut self.tally
    }

    /// Sends frames of the control thread and the kernel.
    pub fn originate(
        &mut self,
        frames: impl Iterator<Item = host_frame::HostFrame>,
        generation: &Generation,
        output: &mut Output<I>,
        counters: &WorkerCounters,
    ) -> &mut Tally {
        output.look_for_capture();
        let context = self.state.context(generation, counters, &self.arrived);
        for frame in frames {
            self.slow.originate(frame.bytes(), frame.port, frame.routed, context, output, &mut self.tally);
        }
        output.flush();
        &mut self.tally
    }

    /// The slow path with its held packets.
    #[inline]
    pub fn slow(&mut self) -> &mut SlowPath<I> {
        &mut self.slow
    }
}
