//! What a worker counts: written by that worker alone, read by anybody without disturbing it.
//!
//! A worker gathers a burst's figures in a [`Tally`] of its own and adds them to its [`WorkerCounters`] at once. The version number
//! around the additions (a sequence lock) lets a reader see the state between two bursts and never a half-added one, so
//! received = sent + dropped + host + held in every [`Snapshot`].

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};
use std::time::Duration;

use crossbeam_utils::CachePadded;

use crate::reason::Reason;

/// Looks in quick succession; a worker's additions take some ten nanoseconds.
const QUICK_LOOKS: u32 = 64;
/// Pauses of a microsecond and more between further looks, for a worker that lost its core in the middle of an addition.
const PATIENT_LOOKS: u32 = 10_000;

/// A counter with one writer.
#[derive(Debug, Default)]
struct Counter(AtomicU64);

impl Counter {
    #[inline]
    fn add(&self, count: u64) {
        // One writer: a plain load and store, no locked instruction.
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(count), Ordering::Relaxed);
    }

    #[inline]
    fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[derive(Debug)]
struct PortCounters {
    rx_packets: Counter,
    rx_bytes: Counter,
    tx_packets: Counter,
    tx_bytes: Counter,
    drops: [Counter; Reason::COUNT],
}

/// The counters of one worker.
#[derive(Debug)]
pub struct WorkerCounters {
    version: CachePadded<AtomicUsize>,
    received: Counter,
    sent: Counter,
    host: Counter,
    held: Counter,
    originated: Counter,
    originate_failed: Counter,
    bursts: Counter,
    idle_polls: Counter,
    serial: Counter,
    idle: AtomicBool,
    ports: Box<[CachePadded<PortCounters>]>,
}

/// What one burst did, gathered without touching shared memory.
#[derive(Debug)]
pub struct Tally {
    /// Place of the port of arrival.
    pub port: usize,
    /// Packets received.
    pub received: u32,
    /// Bytes received.
    pub bytes: u64,
    /// Packets given to the router itself.
    pub host: u32,
    drops: [u32; Reason::COUNT],
    dropped: u64,
}

impl Default for Tally {
    fn default() -> Self {
        Tally { port: 0, received: 0, bytes: 0, host: 0, drops: [0; Reason::COUNT], dropped: 0 }
    }
}

impl Tally {
    /// Counts a dropped packet.
    #[inline]
    pub fn drop(&mut self, reason: Reason) {
        self.dropped |= 1 << reason as u32;
        if let Some(count) = self.drops.get_mut(reason as usize) {
            *count += 1;
        }
    }
}

/// Packets and bytes that a transmit queue took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Taken {
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
}

/// The additions of one burst; the worker's figures become visible when it ends.
#[derive(Debug)]
pub struct Adding<'a> {
    counters: &'a WorkerCounters,
    version: usize,
}

impl WorkerCounters {
    /// All zero, for a router of `ports` ports.
    pub fn new(ports: usize) -> Self {
        let port = || PortCounters {
            rx_packets: Counter::default(),
            rx_bytes: Counter::default(),
            tx_packets: Counter::default(),
            tx_bytes: Counter::default(),
            drops: std::array::from_fn(|_| Counter::default()),
        };
        WorkerCounters {
            version: CachePadded::new(AtomicUsize::new(0)),
            received: Counter::default(),
            sent: Counter::default(),
            host: Counter::default(),
            held: Counter::default(),
            originated: Counter::default(),
            originate_failed: Counter::default(),
            bursts: Counter::default(),
            idle_polls: Counter::default(),
            serial: Counter::default(),
            idle: AtomicBool::new(false),
            ports: (0..ports).map(|_| CachePadded::new(port())).collect(),
        }
    }

    /// Begins to add. The worker alone may call this.
    #[inline]
    pub fn add(&self) -> Adding<'_> {
        let version = self.version.load(Ordering::Relaxed).wrapping_add(1);
        self.version.store(version, Ordering::Relaxed);
        fence(Ordering::Release);
        Adding { counters: self, version }
    }

    /// A poll found nothing.
    #[inline]
    pub fn idle_poll(&self) {
        self.idle_polls.add(1);
    }

    /// The serial of the generation that the worker forwards by.
    #[inline]
    pub fn serial(&self, serial: u64) {
        self.serial.set(serial);
    }

    /// Whether the worker sleeps and holds no generation.
    pub fn idle(&self, idle: bool) {
        self.idle.store(idle, Ordering::Relaxed);
    }

    /// The state between two bursts.
    pub fn snapshot(&self) -> Snapshot {
        let mut snapshot = Snapshot {
            ports: self.ports.iter().map(|_| PortSnapshot::default()).collect(),
            ..Snapshot::default()
        };
        for look in 0..QUICK_LOOKS + PATIENT_LOOKS {
            let before = self.version.load(Ordering::Acquire);
            if before.is_multiple_of(2) {
                self.copy(&mut snapshot);
                fence(Ordering::Acquire);
                if before == self.version.load(Ordering::Relaxed) {
                    break;
                }
            }
            if look < QUICK_LOOKS {
                std::hint::spin_loop();
            } else {
                std::thread::sleep(Duration::from_micros(1));
            }
        }
        snapshot
    }

    fn copy(&self, to: &mut Snapshot) {
        to.received = self.received.get();
        to.sent = self.sent.get();
        to.host = self.host.get();
        to.held = self.held.get();
        to.originated = self.originated.get();
        to.originate_failed = self.originate_failed.get();
        to.bursts = self.bursts.get();
        to.idle_polls = self.idle_polls.get();
        to.serial = self.serial.get();
        to.idle = self.idle.load(Ordering::Relaxed);
        for (port, to) in self.ports.iter().zip(&mut to.ports) {
            to.rx_packets = port.rx_packets.get();
            to.rx_bytes = port.rx_bytes.get();
            to.tx_packets = port.tx_packets.get();
            to.tx_bytes = port.tx_bytes.get();
            for (drops, to) in port.drops.iter().zip(&mut to.drops) {
                *to = drops.get();
            }
        }
    }
}

impl Adding<'_> {
    /// A burst's tally, which is empty afterwards.
    #[inline]
    pub fn burst(&self, tally: &mut Tally) {
        let counters = self.counters;
        counters.bursts.add(1);
        counters.received.add(u64::from(tally.received));
        counters.host.add(u64::from(tally.host));
        if let Some(port) = counters.ports.get(tally.port) {
            port.rx_packets.add(u64::from(tally.received));
            port.rx_bytes.add(tally.bytes);
            let mut dropped = std::mem::take(&mut tally.dropped);
            while dropped != 0 {
                let at = dropped.trailing_zeros() as usize;
                dropped &= dropped - 1;
                if let (Some(counter), Some(count)) = (port.drops.get(at), tally.drops.get_mut(at)) {
                    counter.add(u64::from(std::mem::take(count)));
                }
            }
        }
        (tally.received, tally.bytes, tally.host) = (0, 0, 0);
    }

    /// Packets that a port's transmit queue took, to be counted as sent on.
    #[inline]
    pub fn sent(&self, port: usize, taken: Taken) {
        self.counters.sent.add(taken.packets);
        self.transmitted(port, taken);
    }

    /// A packet of the router's own, taken by the transmit queue or not.
    pub fn originated(&self, port: usize, taken: Taken) {
        if taken.packets == 0 {
            self.counters.originate_failed.add(1);
        } else {
            self.counters.originated.add(taken.packets);
            self.transmitted(port, taken);
        }
    }

    /// Packets that wait for room in transmit queues, as of now.
    #[inline]
    pub fn held(&self, packets: usize) {
        self.counters.held.set(packets as u64);
    }

    /// Packets that were held when the worker stopped.
    pub fn stopped(&self, port: usize, packets: u64) {
        if let Some(counter) =
            self.counters.ports.get(port).and_then(|port| port.drops.get(Reason::Stopped as usize))
        {
            counter.add(packets);
        }
    }

    fn transmitted(&self, port: usize, taken: Taken) {
        if let Some(port) = self.counters.ports.get(port) {
            port.tx_packets.add(taken.packets);
            port.tx_bytes.add(taken.bytes);
        }
    }
}

impl Drop for Adding<'_> {
    #[inline]
    fn drop(&mut self) {
        self.counters.version.store(self.version.wrapping_add(1), Ordering::Release);
    }
}

/// The counters of one worker at one instant.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Packets received.
    pub received: u64,
    /// Packets sent on.
    pub sent: u64,
    /// Packets given to the router itself.
    pub host: u64,
    /// Packets that wait for room in a transmit queue.
    pub held: u64,
    /// Packets of the router's own that were sent.
    pub originated: u64,
    /// Packets of the router's own that no transmit queue took.
    pub originate_failed: u64,
    /// Bursts with at least one packet.
    pub bursts: u64,
    /// Polls that found nothing.
    pub idle_polls: u64,
    /// Serial of the generation in use.
    pub serial: u64,
    /// Sleeps and holds no generation.
    pub idle: bool,
    /// By place of the port.
    pub ports: Vec<PortSnapshot>,
}

/// A worker's counters of one port.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PortSnapshot {
    /// Packets received.
    pub rx_packets: u64,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Packets sent, those of the router's own included.
    pub tx_packets: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Dropped packets of those received here, by [`Reason`] number.
    pub drops: [u64; Reason::COUNT],
}

impl Snapshot {
    /// Dropped packets, all ports and reasons.
    pub fn dropped(&self) -> u64 {
        self.ports.iter().flat_map(|port| port.drops).sum()
    }

    /// How many were dropped for a reason, all ports.
    pub fn drops(&self, reason: Reason) -> u64 {
        self.ports.iter().filter_map(|port| port.drops.get(reason as usize)).sum()
    }

    /// The rule that no packet escapes: received = sent + dropped + host + held.
    pub fn adds_up(&self) -> bool {
        self.received == self.sent + self.dropped() + self.host + self.held
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn a_reader_never_sees_half_a_burst() {
        let counters = Arc::new(WorkerCounters::new(1));
        let stop = Arc::new(AtomicBool::new(false));
        let writer = std::thread::spawn({
            let (counters, stop) = (counters.clone(), stop.clone());
            move || {
                let mut tally = Tally::default();
                while !stop.load(Ordering::Relaxed) {
                    tally.received = 3;
                    tally.host = 1;
                    tally.drop(Reason::NoRoute);
                    let adding = counters.add();
                    adding.burst(&mut tally);
                    adding.sent(0, Taken { packets: 1, bytes: 60 });
                    drop(adding);
                    // The work of a burst, of which a reader uses the time.
                    (0..200).for_each(|step| {
                        std::hint::black_box(step);
                    });
                }
            }
        });
        let (mut last, mut looks) = (0, 0);
        // The writer's thread may take its time to begin.
        while looks < 20_000 || last < 30_000 {
            looks += 1;
            let snapshot = counters.snapshot();
            assert!(snapshot.adds_up() && snapshot.received >= last, "{snapshot:?}");
            last = snapshot.received;
        }
        stop.store(true, Ordering::Relaxed);
        writer.join().unwrap();
    }
}
