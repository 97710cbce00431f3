//! A poll-mode worker: receives, runs the pipeline, sends what the control thread gives it, and rests as its policy says.
//!
//! [`Worker::turn`] is one pass over its queues and does not block; tests call it, [`thread`] calls it for ever.

pub mod idle;
pub mod thread;

use std::sync::Arc;

use fibcast_fib::Reader;

use crate::counters::WorkerCounters;
use crate::io::{Burst, Io, Pool, Receive};
use crate::pipeline::output::{Output, Rings};
use crate::pipeline::{Pipeline, PortFacts};

/// Packets of the router's own that are sent in one turn, so that they never delay traffic by much.
const ORIGINATE_BURST: usize = 16;

/// A receive queue and the port that it belongs to.
#[derive(Debug)]
pub struct RxSlot<Q> {
    /// Place of the port.
    pub port: usize,
    /// The queue.
    pub queue: Q,
}

/// What a worker is made of.
#[derive(Debug)]
pub struct Parts<I: Io> {
    /// Its receive queues.
    pub rx: Vec<RxSlot<I::Rx>>,
    /// Its transmit queues, by place of the port.
    pub tx: Vec<I::Tx>,
    /// Where packets of the router's own come from.
    pub pool: I::Pool,
    /// All ports.
    pub ports: Vec<PortFacts>,
    /// Seed of the flow hash.
    pub seed: u64,
    /// Packets that may wait for each transmit queue that takes no more.
    pub backlog: usize,
    /// The published generation.
    pub reader: Reader,
    /// What it counts.
    pub counters: Arc<WorkerCounters>,
    /// Rings to and from the control thread.
    pub rings: Rings,
}

/// One worker.
#[derive(Debug)]
pub struct Worker<I: Io> {
    rx: Vec<RxSlot<I::Rx>>,
    pipeline: Pipeline,
    output: Output<I>,
    burst: I::Burst,
    pool: I::Pool,
    reader: Reader,
    counters: Arc<WorkerCounters>,
    rings: Rings,
    serial: u64,
}

impl<I: Io> Worker<I> {
    /// Ready for its first turn.
    pub fn new(parts: Parts<I>) -> Worker<I> {
        Worker {
            rx: parts.rx,
            pipeline: Pipeline::new(parts.ports, parts.seed),
            output: Output::new(parts.tx, parts.backlog, parts.rings.clone()),
            burst: I::Burst::default(),
            pool: parts.pool,
            reader: parts.reader,
            counters: parts.counters,
            rings: parts.rings,
            serial: 0,
        }
    }

    /// Polls each receive queue once; returns how many packets came.
    #[inline]
    pub fn turn(&mut self) -> usize {
        let mut seen = 0;
        for slot in &mut self.rx {
            let received = slot.queue.receive(&mut self.burst);
            if received == 0 {
                continue;
            }
            seen += received;
            let generation = self.reader.burst();
            if generation.serial() != self.serial {
                self.serial = generation.serial();
                self.counters.serial(self.serial);
            }
            let tally = self.pipeline.run(slot.port, &mut self.burst, generation, &mut self.output);
            let adding = self.counters.add();
            adding.burst(tally);
            self.output.count(&adding);
        }
        if seen == 0 {
            self.rest();
        }
        if !self.rings.originate.is_empty() {
            seen += self.originate();
        }
        seen
    }

    /// Nothing came: follow the generations all the same, and offer the drivers what waits.
    fn rest(&mut self) {
        let serial = self.reader.burst().serial();
        if serial != self.serial {
            self.serial = serial;
            self.counters.serial(serial);
        }
        if self.output.held() != 0 {
            self.output.flush();
            self.output.count(&self.counters.add());
        }
        self.counters.idle_poll();
    }

    fn originate(&mut self) -> usize {
        let mut sent = 0;
        while sent < ORIGINATE_BURST
            && let Some(frame) = self.rings.originate.pop()
        {
            sent += 1;
            let port = usize::from(frame.port);
            let packet = self.pool.packet(frame.bytes());
            let adding = self.counters.add();
            match packet {
                Some(packet) => self.output.originate(port, packet, &adding),
                None => adding.originated(port, Default::default()),
            }
        }
        sent
    }

    /// Whether packets wait for a transmit queue.
    pub fn holds_packets(&self) -> bool {
        self.output.held() != 0
    }

    /// Lets go of the generation before a long sleep; the next turn takes the newest.
    pub fn sleep(&mut self, asleep: bool) {
        if asleep {
            self.reader.idle();
        }
        self.counters.idle(asleep);
    }

    /// Frees what it holds. Nothing is received any more.
    pub fn stop(&mut self) {
        self.output.stop(&self.counters.add());
        self.burst.clear();
        self.reader.idle();
        self.counters.idle(true);
    }
}
