//! The path of a packet, whole: [`Pipeline::run`] is the page to read.
//!
//! A burst passes each stage together, so that the cache misses of one stage overlap. No stage allocates, locks, calls the system
//! or logs, and none can panic on any bytes. Each packet ends with exactly one [`Verdict`].
//!
//! | stage | file | what it does |
//! |---|---|---|
//! | classify | [`classify`] | Ethernet: for us? which protocol? |
//! | validate | [`ipv4_input`], [`ipv6_input`] | RFC 1812 §5.2.2, §5.3.7; RFC 8200; into the family's [`lane`] |
//! | lookup | `fibcast_fib::Generation` | all destinations of a family at once |
//! | forward | [`forward`] | group and flow hash → adjacency; rewrite in [`rewrite`] |
//! | output | [`output`] | transmit buffer per port, ring to the control thread, or freed |

pub mod classify;
pub mod flow_hash;
pub mod forward;
pub mod ipv4_input;
pub mod ipv6_input;
pub mod lane;
pub mod output;
pub mod rewrite;

use fibcast_fib::{Generation, VrfId};

use crate::counters::Tally;
use crate::io::{BURST, Burst, Io, Packet};
use crate::packet::ethernet::Mac;
use crate::reason::Reason;
use lane::Lane;
use output::Output;

/// What becomes of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Sent out of the port at this place; the frame is written already.
    Send(u16),
    /// Given to the router itself.
    Host,
    /// Freed and counted.
    Drop(Reason),
}

/// What the pipeline knows of a port that receives.
#[derive(Debug, Clone, Copy)]
pub struct PortFacts {
    /// Own MAC address.
    pub mac: Mac,
    /// Routing and forwarding instance.
    pub vrf: VrfId,
}

/// The stages and what they keep between them; one per worker.
#[derive(Debug)]
pub struct Pipeline {
    ports: Box<[PortFacts]>,
    seed: u64,
    verdicts: [Verdict; BURST],
    v4: Lane<u32>,
    v6: Lane<u128>,
    tally: Tally,
}

impl Pipeline {
    /// `seed` goes into the flow hash: different on each host, so that tiers do not all choose alike.
    pub fn new(ports: Vec<PortFacts>, seed: u64) -> Pipeline {
        Pipeline {
            ports: ports.into(),
            seed,
            verdicts: [Verdict::Drop(Reason::ShortFrame); BURST],
            v4: Lane::default(),
            v6: Lane::default(),
            tally: Tally::default(),
        }
    }

    /// Takes a burst that the port at place `port` received all the way; the burst is empty afterwards.
    pub fn run<I: Io>(
        &mut self,
        port: usize,
        burst: &mut I::Burst,
        generation: &Generation,
        output: &mut Output<I>,
    ) -> &mut Tally {
        self.tally.port = port;
        let Some(facts) = self.ports.get(port).copied() else {
            output.discard(burst, &mut self.tally);
            return &mut self.tally;
        };
        self.v4.clear();
        self.v6.clear();

        burst.packets().iter().for_each(Packet::prefetch);

        for (at, packet) in burst.packets().iter().take(BURST).enumerate() {
            self.tally.received += 1;
            self.tally.bytes += packet.length() as u64;
            let verdict = classify::classify(packet, &facts, at, self.seed, &mut self.v4, &mut self.v6);
            if let (Some(slot), Some(verdict)) = (self.verdicts.get_mut(at), verdict) {
                *slot = verdict;
            }
        }

        let (destinations, groups) = self.v4.lookup();
        generation.lookup_v4(facts.vrf, destinations, groups);
        let (destinations, groups) = self.v6.lookup();
        generation.lookup_v6(facts.vrf, destinations, groups);

        forward::ipv4(burst.packets_mut(), generation, &self.v4, &mut self.verdicts, output.misses());
        forward::ipv6(burst.packets_mut(), generation, &self.v6, &mut self.verdicts, output.misses());

        output.dispatch(port, burst, &self.verdicts, &mut self.tally);
        &mut self.tally
    }
}
