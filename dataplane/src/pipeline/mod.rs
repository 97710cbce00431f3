//! The path of a packet, whole: [`Pipeline::run`] is the page to read.
//!
//! A burst passes each stage together, so that the cache misses of one stage overlap. No stage allocates, locks, calls the system
//! or logs, and none can panic on any bytes. Each packet ends with exactly one [`Verdict`].
//!
//! | stage | file | what it does |
//! |---|---|---|
//! | classify | [`classify`] | Ethernet: for us? which protocol? |
//! | validate | [`ipv4_input`], [`ipv6_input`] | RFC 1812 §5.2.2, §5.3.7; RFC 8200; into the family's [`lane`] |
//! | others | [`vlan`], [`options`] | IEEE 802.1Q: which sub-interface? IPv4 options; what is wrong with it? |
//! | source | [`reverse_path`] | RFC 3704, where a port asks for it |
//! | lookup | `fibcast_fib::Generation` | all destinations of a family at once |
//! | forward | [`forward`] | group and flow hash → adjacency, not behind a link that is down ([`links`]); rewrite in [`rewrite`] |
//! | output | [`output`] | transmit buffer per device (`tx_buffer`), ring to the host ([`rings`]), or freed |
//! | slow | [`slow`] | ICMP errors ([`icmp_error`]), fragments ([`fragment`]), packets that wait ([`hold`]) |

pub mod classify;
pub mod flow_hash;
pub mod forward;
pub mod fragment;
pub mod hold;
pub mod icmp_error;
pub mod ipv4_input;
pub mod ipv6_input;
pub mod lane;
pub mod links;
pub mod options;
pub mod output;
pub mod port;
pub mod reverse_path;
pub mod rewrite;
pub mod rings;
pub mod slow;
mod tx_buffer;
pub mod verdict;
pub mod vlan;

use std::sync::Arc;
use std::time::Instant;

use crossbeam_queue::ArrayQueue;
use fibcast_control::capture::Direction;
use fibcast_fib::{Generation, PortId};

use crate::counters::{Tally, WorkerCounters};
use crate::io::{BURST, Burst, Io, Packet, Places, each};
use crate::packet::{ethernet, take};
use crate::reason::Reason;
use crate::worker::spread::Dealt;
use forward::{Miss, Scene};
use lane::Lane;
use links::Links;
use output::Output;
use port::{PortFacts, ReversePath};
use reverse_path::Asked;
use slow::SlowPath;
pub use verdict::Verdict;
use verdict::Verdicts;
use vlan::Vlans;

/// The stages and what they keep between them; one per worker.
#[derive(Debug)]
pub struct Pipeline<I: Io> {
    known: Known,
    vlans: Vlans,
    /// Any port has a reverse-path check.
    checks_sources: bool,
    /// The place of the port that each packet of the burst came in by.
    arrived: [u16; BURST],
    verdicts: Verdicts,
    v4: Lane<u32>,
    v6: Lane<u128>,
    slow: SlowPath<I>,
    tally: Tally,
}

/// What the router is, beside its table: of this a [`Scene`] is made for each burst.
#[derive(Debug)]
struct Known {
    ports: Box<[PortFacts]>,
    seed: u64,
    misses: Arc<ArrayQueue<Miss>>,
    links: Arc<Links>,
}

impl Known {
    #[inline]
    fn scene<'a>(&'a self, generation: &'a Generation, counters: &'a WorkerCounters) -> Scene<'a> {
        Scene {
            generation,
            ports: &self.ports,
            seed: self.seed,
            misses: Some(&self.misses),
            counters,
            down: self.links.if_any_down(),
        }
    }
}

impl<I: Io> Pipeline<I> {
    /// `seed` goes into the flow hash: different on each host, so that tiers do not all choose alike.
    pub fn new(
        ports: Vec<PortFacts>,
        seed: u64,
        slow: SlowPath<I>,
        misses: Arc<ArrayQueue<Miss>>,
        links: Arc<Links>,
    ) -> Pipeline<I> {
        Pipeline {
            vlans: Vlans::new(&ports),
            checks_sources: ports.iter().any(|port| port.reverse_path != ReversePath::Off),
            tally: Tally::new(ports.len()),
            known: Known { ports: ports.into(), seed, misses, links },
            arrived: [0; BURST],
            verdicts: Verdicts::default(),
            v4: Lane::default(),
            v6: Lane::default(),
            slow,
        }
    }

    /// Takes a burst that the port at place `port` received all the way; the burst is empty afterwards.
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

    /// Counts packets that another worker should have handled and had no room for; a burst follows.
    #[inline]
    pub fn refuse(&mut self, port: u16, dealt: &Dealt) {
        if dealt.refused != 0 {
            self.tally.received += dealt.refused;
            self.tally.arrived(port, dealt.refused, dealt.bytes);
            (0..dealt.refused).for_each(|_| self.tally.drop(port, Reason::SpreadFull));
        }
    }

    /// The stages, one after the other; returns the length of all frames.
    #[inline]
    fn pass(
        &mut self,
        port: u16,
        burst: &mut I::Burst,
        generation: &Generation,
        output: &mut Output<I>,
        counters: &WorkerCounters,
    ) -> u64 {
        let Some(&PortFacts { mac, vrf, ipv4_checksum, .. }) = self.known.ports.get(usize::from(port)) else {
            output.discard(port, burst, &mut self.tally);
            return 0;
        };
        self.v4.clear();
        self.v6.clear();
        self.verdicts.clear();
        self.arrived = [port; BURST];

        burst.packets().iter().for_each(Packet::prefetch);

        let sorted = classify::sort(burst.packets(), mac);
        let invalid_v4 = if ipv4_checksum {
            ipv4_input::straight::<_, true>(burst.packets(), sorted.v4, &mut self.v4)
        } else {
            ipv4_input::straight::<_, false>(burst.packets(), sorted.v4, &mut self.v4)
        };
        let others =
            sorted.others | invalid_v4 | ipv6_input::straight(burst.packets(), sorted.v6, &mut self.v6);
        let tagged = others != 0 && self.look_closer(port, others, burst);

        if let Some(capture) = output.look_for_capture() {
            for (packet, port) in burst.packets().iter().zip(&self.arrived) {
                capture.offer(Direction::In, *port, None, packet.data(), packet.length());
            }
        }

        let (ports, arrived) = (&self.known.ports, &self.arrived);
        let facts_of = |at: u8| arrived.get(usize::from(at)).and_then(|&place| ports.get(usize::from(place)));
        if self.checks_sources {
            let asked = |at: u8| {
                let facts = facts_of(at).filter(|facts| facts.reverse_path != ReversePath::Off)?;
                let port = PortId(arrived.get(usize::from(at)).copied().unwrap_or(port));
                Some(Asked { vrf: facts.vrf, port, check: facts.reverse_path })
            };
            reverse_path::ipv4(burst.packets(), generation, &mut self.v4, asked);
            reverse_path::ipv6(burst.packets(), generation, &mut self.v6, asked);
        }

        let vrf_of = |at: u8| facts_of(at).map_or(vrf, |facts| facts.vrf);
        self.v4.look_up(generation, vrf, tagged, vrf_of);
        self.v6.look_up(generation, vrf, tagged, vrf_of);

        let scene = self.known.scene(generation, counters);
        forward::ipv4(burst.packets_mut(), scene, &self.v4, &mut self.verdicts);
        forward::ipv6(burst.packets_mut(), scene, &self.v6, &mut self.verdicts);

        output.dispatch(&self.arrived, burst, &self.verdicts, &mut self.tally, self.slow.jobs());
        if self.slow.has_jobs() {
            self.slow.work(scene, output, &mut self.tally);
        }
        sorted.bytes
    }

    /// Packets that are not plain IP to our own MAC address: tagged, for somebody else or for everybody, or wrong in some way. Each gets its
    /// verdict or goes into a lane; true where any had a tag.
    #[inline(never)]
    fn look_closer(&mut self, port: u16, others: Places, burst: &mut I::Burst) -> bool {
        let mut tagged = false;
        for at in each(others) {
            let slots = (burst.packets_mut().get_mut(at), self.arrived.get_mut(at));
            let (Some(packet), Some(arrived)) = slots else { continue };
            if take::<2>(packet.data(), 12) == Some(&ethernet::VLAN.to_be_bytes()) {
                tagged = true;
                let length = packet.length() as u64;
                match self.vlans.strip(port, packet) {
                    Ok(place) => *arrived = place,
                    Err(reason) => {
                        self.verdicts.set(at, Verdict::Drop(reason));
                        continue;
                    }
                }
                if *arrived != port {
                    self.tally.arrived(*arrived, 1, length);
                }
            }
            let found = match self.known.ports.get(usize::from(*arrived)) {
                Some(facts) => classify::classify(packet, facts, at, &mut self.v4, &mut self.v6),
                None => Some(Verdict::Drop(Reason::UnknownPort)),
            };
            if let Some(verdict) = found {
                self.verdicts.set(at, verdict);
            }
        }
        tagged
    }

    /// Lets packets go on whose next hop is known by now, and drops those that waited too long.
    pub fn release(
        &mut self,
        now: Instant,
        burst: &mut I::Burst,
        generation: &Generation,
        output: &mut Output<I>,
        counters: &WorkerCounters,
    ) -> &mut Tally {
        // A burst for each port that packets had come in by.
        for _ in 0..=self.known.ports.len() {
            let scene = self.known.scene(generation, counters);
            let port = self.slow.release(now, burst, scene, output, &mut self.tally);
            if self.slow.has_jobs() {
                self.slow.work(scene, output, &mut self.tally);
            }
            let Some(port) = port else { break };
            self.pass(port, burst, generation, output, counters);
        }
        output.flush();
        &mut self.tally
    }

    /// Sends frames of the control thread and of the kernel.
    pub fn originate(
        &mut self,
        frames: impl Iterator<Item = output::HostFrame>,
        generation: &Generation,
        output: &mut Output<I>,
        counters: &WorkerCounters,
    ) -> &mut Tally {
        output.look_for_capture();
        let scene = self.known.scene(generation, counters);
        for frame in frames {
            self.slow.originate(frame.bytes(), frame.port, frame.routed, scene, output, &mut self.tally);
        }
        output.flush();
        &mut self.tally
    }

    /// What waits and what failed off the straight path.
    #[inline]
    pub fn slow(&mut self) -> &mut SlowPath<I> {
        &mut self.slow
    }
}
