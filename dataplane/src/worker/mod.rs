//! A poll-mode worker: receives, runs the pipeline, sends the control thread's frames, and idles by its policy.
//!
//! [`Worker::turn`] is one pass over its queues and does not block, [`Worker::tick`] updates its clock. Tests call them directly,
//! [`thread`] calls them in a loop.

pub mod idle;
pub mod spread;
pub mod thread;

use std::sync::Arc;
use std::time::{Duration, Instant};

use fibcast_fib::Reader;

use crate::capture::Hub;
use crate::counters::WorkerCounters;
use crate::io::{Burst, Io, Receive};
use crate::pipeline::Pipeline;
use crate::pipeline::icmp_limit::Limits;
use crate::pipeline::output::{Output, Rings};
use crate::pipeline::port::PortFacts;
use crate::pipeline::slow::SlowPath;
use spread::{Dealt, Spread};

/// Most packets of the router itself that are sent in one turn, so that they never delay traffic much.
const ORIGINATE_BURST: usize = 32;
/// Interval between two checks of held packets, besides those after each new generation.
const LOOK: Duration = Duration::from_millis(20);

/// A receive queue and the port that it belongs to.
#[derive(Debug)]
pub struct RxSlot<Q> {
    /// Index of the port.
    pub port: usize,
    /// The queue.
    pub queue: Q,
}

/// Parts of a worker.
#[derive(Debug)]
pub struct Parts<I: Io> {
    /// Its receive queues.
    pub rx: Vec<RxSlot<I::Rx>>,
    /// Its transmit queues, by port index; sub-interfaces have none of their own.
    pub tx: Vec<Option<I::Tx>>,
    /// Packet buffers for packets of the router itself.
    pub pool: I::Pool,
    /// All ports.
    pub ports: Vec<PortFacts>,
    /// Seed of the flow hash.
    pub seed: u64,
    /// Most packets that wait for each transmit queue that takes no more.
    pub backlog: usize,
    /// Rate limits of ICMP errors.
    pub icmp: Limits,
    /// Entry point to captures.
    pub capture: Arc<Hub>,
    /// The published generation.
    pub reader: Reader,
    /// Its counters.
    pub counters: Arc<WorkerCounters>,
    /// Rings to and from the control thread.
    pub rings: Rings,
}

/// One worker.
#[derive(Debug)]
pub struct Worker<I: Io> {
    rx: Vec<RxSlot<I::Rx>>,
    /// Software RSS, if it is used.
    spread: Option<Spread<I>>,
    pipeline: Pipeline<I>,
    output: Output<I>,
    burst: I::Burst,
    reader: Reader,
    counters: Arc<WorkerCounters>,
    rings: Rings,
    serial: u64,
    /// Generation and time of the last check of held packets.
    looked: (usize, Option<Instant>),
    busy_since: Option<Instant>,
}

impl<I: Io> Worker<I> {
    /// A worker ready for its first turn.
    pub fn new(parts: Parts<I>) -> Worker<I> {
        let slow = SlowPath::new(parts.pool, parts.icmp, parts.ports.len());
        Worker {
            rx: parts.rx,
            spread: None,
            output: Output::new(parts.tx, &parts.ports, parts.backlog, parts.rings.clone(), parts.capture),
            pipeline: Pipeline::new(
                parts.ports,
                parts.seed,
                slow,
                parts.rings.misses.clone(),
                parts.rings.links.clone(),
            ),
            burst: I::Burst::default(),
            reader: parts.reader,
            counters: parts.counters,
            rings: parts.rings,
            serial: 0,
            looked: (0, None),
            busy_since: None,
        }
    }

    /// Enables software RSS between workers.
    pub fn share(&mut self, spread: Option<Spread<I>>) {
        self.spread = spread;
    }

    /// Polls each receive queue once; returns the number of packets.
    #[inline]
    pub fn turn(&mut self) -> usize {
        let mut seen = 0;
        for (queue_index, slot) in self.rx.iter_mut().enumerate() {
            let received = slot.queue.receive(&mut self.burst);
            if received == 0 {
                continue;
            }
            if self.busy_since.is_none() {
                self.busy_since = Some(Instant::now());
            }
            seen += received;
            let mut dealt = Dealt::default();
            if let Some(spread) = self.spread.as_mut().filter(|spread| spread.deals(slot.port)) {
                dealt = spread.deal(slot.port as u16, &mut self.burst);
                self.pipeline.refuse(slot.port as u16, &dealt);
            }
            let generation = self.reader.burst();
            if generation.serial() != self.serial {
                self.serial = generation.serial();
                self.counters.serial(self.serial);
            }
            let tally = self.pipeline.run(
                slot.port as u16,
                &mut self.burst,
                generation,
                &mut self.output,
                &self.counters,
            );
            let adding = self.counters.add();
            adding.burst(tally);
            adding.queue(queue_index, received, dealt.steered);
            self.output.count(&adding, self.pipeline.slow().held());
            adding.originate_failed(self.pipeline.slow().take_failed());
        }
        if self.spread.as_ref().is_some_and(|spread| !spread.is_empty()) {
            seen += self.receive_steered();
        }
        if seen == 0 {
            self.rest();
        }
        if !self.rings.originate.is_empty() {
            seen += self.originate();
        }
        seen
    }

    /// Processes packets that other workers steered here: as many as arrived in one turn, at most a ring.
    #[cold]
    fn receive_steered(&mut self) -> usize {
        let mut seen = 0;
        if self.busy_since.is_none() {
            self.busy_since = Some(Instant::now());
        }
        while seen < spread::RING
            && let Some(port) = self.spread.as_mut().and_then(|spread| spread.take(&mut self.burst))
        {
            seen += self.burst.packets().len();
            let generation = self.reader.burst();
            let tally =
                self.pipeline.run(port, &mut self.burst, generation, &mut self.output, &self.counters);
            let adding = self.counters.add();
            adding.burst(tally);
            self.output.count(&adding, self.pipeline.slow().held());
            adding.originate_failed(self.pipeline.slow().take_failed());
        }
        seen
    }

    /// Without packets: follows the generations nevertheless, and offers waiting packets to the drivers.
    fn rest(&mut self) {
        if self.busy_since.is_some() {
            self.count_busy(Instant::now());
            self.busy_since = None;
        }
        let serial = self.reader.burst().serial();
        if serial != self.serial {
            self.serial = serial;
            self.counters.serial(serial);
        }
        if self.output.is_waiting() {
            self.output.flush();
            self.output.count(&self.counters.add(), self.pipeline.slow().held());
        }
        self.counters.idle_poll();
    }

    fn count_busy(&mut self, now: Instant) {
        if let Some(since) = self.busy_since.replace(now) {
            self.counters.busy(now.saturating_duration_since(since));
        }
    }

    /// Updates the clock; called every few turns and after each sleep.
    pub fn tick(&mut self, now: Instant) {
        self.pipeline.slow().tick(now);
        if self.busy_since.is_some() {
            self.count_busy(now);
        }
        if !self.pipeline.slow().is_waiting() {
            return;
        }
        let generation = self.reader.burst();
        let address = std::ptr::from_ref(generation).addr();
        let (before, at) = self.looked;
        if before == address && at.is_some_and(|at| now.saturating_duration_since(at) < LOOK) {
            return;
        }
        self.looked = (address, Some(now));
        let tally = self.pipeline.release(now, &mut self.burst, generation, &mut self.output, &self.counters);
        let adding = self.counters.add();
        adding.work(tally);
        self.output.count(&adding, self.pipeline.slow().held());
        adding.originate_failed(self.pipeline.slow().take_failed());
    }

    #[cold]
    fn originate(&mut self) -> usize {
        let (mut sent, originate) = (0, &self.rings.originate);
        let frames = std::iter::from_fn(|| originate.pop()).inspect(|_| sent += 1);
        let generation = self.reader.burst();
        let tally = self.pipeline.originate(
            frames.take(ORIGINATE_BURST),
            generation,
            &mut self.output,
            &self.counters,
        );
        let adding = self.counters.add();
        adding.work(tally);
        self.output.count(&adding, self.pipeline.slow().held());
        adding.originate_failed(self.pipeline.slow().take_failed() + self.rings.originate.take_refused());
        sent
    }

    /// Its counters.
    pub fn counters(&self) -> Arc<WorkerCounters> {
        self.counters.clone()
    }

    /// Lets go of the generation before a long sleep; the next turn takes the newest.
    pub fn sleep(&mut self, asleep: bool) {
        if asleep {
            self.reader.idle();
        }
        self.counters.idle(asleep);
    }

    /// Frees everything that it holds. It receives nothing afterwards.
    pub fn stop(&mut self) {
        let adding = self.counters.add();
        for port in self.pipeline.slow().stop() {
            adding.stopped(usize::from(port), 1);
        }
        self.output.stop(&adding);
        drop(adding);
        self.burst.clear();
        self.reader.idle();
        self.counters.idle(true);
    }
}
