//! Counters of a worker: written by that worker alone, read by others without disturbing it.
//!
//! A worker collects a burst's figures in its own [`Tally`] and then adds them to its [`WorkerCounters`]. The version number around the
//! additions (a sequence lock) gives readers the state between two bursts and never a half-added one, so received = sent + dropped + host +
//! held in every [`Snapshot`].

mod snapshot;
mod tally;

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};
use std::time::Duration;

use crossbeam_utils::CachePadded;
use fibcast_fib::GroupIndex;

use crate::io::{BURST, PacketMask, each};
use crate::packet::icmp_kind::Kind;
use crate::reason::Reason;
use crate::used::Used;
pub use snapshot::{PortSnapshot, QueueSnapshot, Snapshot};
use tally::PortTally;
pub use tally::{Tally, Traffic};

/// Read attempts in quick succession; a worker's additions take some ten nanoseconds.
const FAST_ATTEMPTS: u32 = 64;
/// Further attempts, each after a pause of a microsecond or more, for a worker that was preempted in the middle of an update.
const SLOW_ATTEMPTS: u32 = 10_000;

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
    tx_backpressure: Counter,
    drops: [Counter; Reason::COUNT],
}

/// Counters of a receive queue.
#[derive(Debug, Default)]
struct QueueCounters {
    packets: Counter,
    full: Counter,
    steered: Counter,
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
    icmp_sent: Counter,
    icmp_limited: [Counter; Kind::COUNT],
    fragments: Counter,
    bursts: Counter,
    idle_polls: Counter,
    busy_ns: Counter,
    serial: Counter,
    idle: AtomicBool,
    ports: Box<[CachePadded<PortCounters>]>,
    queues: Box<[CachePadded<QueueCounters>]>,
    groups: Box<[GroupCounter]>,
    used: Used,
    /// Kernel thread id of the worker; 0 before the start.
    thread: AtomicU64,
}

/// Traffic of one group.
#[derive(Debug, Default)]
struct GroupCounter {
    packets: Counter,
    bytes: Counter,
}

/// Groups with a counter of their own, by index; those beyond share the last counter.
const GROUPS: usize = 1 << 16;

/// The update after one burst; readers see the new figures when it is dropped.
#[derive(Debug)]
pub struct BurstUpdate<'a> {
    counters: &'a WorkerCounters,
    version: usize,
}

impl WorkerCounters {
    /// All zero, for a router with `ports` ports.
    pub fn new(ports: usize) -> Self {
        WorkerCounters::with_queues(ports, 0)
    }

    /// The same for a worker that polls `queues` receive queues.
    pub fn with_queues(ports: usize, queues: usize) -> Self {
        let port = || PortCounters {
            rx_packets: Counter::default(),
            rx_bytes: Counter::default(),
            tx_packets: Counter::default(),
            tx_bytes: Counter::default(),
            tx_backpressure: Counter::default(),
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
            icmp_sent: Counter::default(),
            icmp_limited: Default::default(),
            fragments: Counter::default(),
            bursts: Counter::default(),
            idle_polls: Counter::default(),
            busy_ns: Counter::default(),
            serial: Counter::default(),
            idle: AtomicBool::new(false),
            used: Used::default(),
            thread: AtomicU64::new(0),
            queues: (0..queues).map(|_| CachePadded::default()).collect(),
            groups: (0..GROUPS).map(|_| GroupCounter::default()).collect(),
            ports: (0..ports).map(|_| CachePadded::new(port())).collect(),
        }
    }

    /// Begins an update. Only the worker may call this.
    #[inline]
    pub fn add(&self) -> BurstUpdate<'_> {
        let version = self.version.load(Ordering::Relaxed).wrapping_add(1);
        self.version.store(version, Ordering::Relaxed);
        fence(Ordering::Release);
        BurstUpdate { counters: self, version }
    }

    /// A poll found no packet.
    #[inline]
    pub fn idle_poll(&self) {
        self.idle_polls.add(1);
    }

    /// Sets the serial of the generation that the worker uses.
    #[inline]
    pub fn serial(&self, serial: u64) {
        self.serial.set(serial);
    }

    /// Sets whether the worker sleeps without a generation.
    pub fn idle(&self, idle: bool) {
        self.idle.store(idle, Ordering::Relaxed);
    }

    /// Adds time spent on turns that received packets.
    pub fn busy(&self, time: Duration) {
        self.busy_ns.add(time.as_nanos() as u64);
    }

    /// Nanoseconds spent on turns that received packets.
    pub fn busy_ns(&self) -> u64 {
        self.busy_ns.get()
    }

    /// Counts a packet forwarded by a group. Only the worker may call this.
    #[inline]
    pub fn group(&self, index: u32, bytes: u16) {
        self.add_group(index, 1, bytes.into());
    }

    /// Counts the packets of `sent`, forwarded by the group at their index, with the length there in bytes. Only the worker may call this.
    #[inline]
    pub fn add_groups(&self, sent: PacketMask, groups: &[GroupIndex; BURST], lengths: &[u32; BURST]) {
        let Some(first) = groups.get(sent.trailing_zeros() as usize) else { return };
        let count = sent.count_ones() as usize;
        // The first ones of the burst, all by one group.
        if sent.trailing_ones() as usize == count
            && groups.iter().take(count).fold(0, |other, group| other | group.0 ^ first.0) == 0
        {
            let bytes = lengths.iter().take(count).map(|length| u64::from(*length)).sum();
            self.add_group(first.0, count as u64, bytes);
            return;
        }
        for at in each(sent) {
            self.add_group(groups[at % BURST].0, 1, lengths[at % BURST].into());
        }
    }

    #[inline]
    fn add_group(&self, index: u32, packets: u64, bytes: u64) {
        if let Some(group) = self.groups.get((index as usize).min(GROUPS - 1)) {
            group.packets.add(packets);
            group.bytes.add(bytes);
        }
    }

    /// Sets the kernel thread id of the worker.
    pub fn set_thread(&self, thread: u64) {
        self.thread.store(thread, Ordering::Relaxed);
    }

    /// Kernel thread id of the worker; none before its start.
    pub fn thread(&self) -> Option<u64> {
        Some(self.thread.load(Ordering::Relaxed)).filter(|thread| *thread != 0)
    }

    /// Directly connected hosts that packets went to.
    #[inline]
    pub fn used(&self) -> &Used {
        &self.used
    }

    /// Packets and bytes forwarded by a group since the worker's start; none for groups that share the last counter.
    pub fn of_group(&self, index: u32) -> Option<Traffic> {
        let group = self.groups.get(index as usize).filter(|_| (index as usize) < GROUPS - 1)?;
        Some(Traffic { packets: group.packets.get(), bytes: group.bytes.get() })
    }

    /// The state between two bursts.
    pub fn snapshot(&self) -> Snapshot {
        let mut snapshot = Snapshot {
            ports: self.ports.iter().map(|_| PortSnapshot::default()).collect(),
            queues: self.queues.iter().map(|_| QueueSnapshot::default()).collect(),
            ..Snapshot::default()
        };
        for look in 0..FAST_ATTEMPTS + SLOW_ATTEMPTS {
            let before = self.version.load(Ordering::Acquire);
            if before.is_multiple_of(2) {
                self.copy(&mut snapshot);
                fence(Ordering::Acquire);
                if before == self.version.load(Ordering::Relaxed) {
                    break;
                }
            }
            if look < FAST_ATTEMPTS {
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
        to.icmp_sent = self.icmp_sent.get();
        to.icmp_limited_by = self.icmp_limited.each_ref().map(Counter::get);
        to.icmp_limited = to.icmp_limited_by.iter().sum();
        to.fragments = self.fragments.get();
        to.busy_ns = self.busy_ns.get();
        to.bursts = self.bursts.get();
        to.idle_polls = self.idle_polls.get();
        to.serial = self.serial.get();
        to.idle = self.idle.load(Ordering::Relaxed);
        for (queue, to) in self.queues.iter().zip(&mut to.queues) {
            *to = QueueSnapshot {
                packets: queue.packets.get(),
                full: queue.full.get(),
                steered: queue.steered.get(),
            };
        }
        for (port, to) in self.ports.iter().zip(&mut to.ports) {
            to.rx_packets = port.rx_packets.get();
            to.rx_bytes = port.rx_bytes.get();
            to.tx_packets = port.tx_packets.get();
            to.tx_bytes = port.tx_bytes.get();
            to.tx_backpressure = port.tx_backpressure.get();
            for (drops, to) in port.drops.iter().zip(&mut to.drops) {
                *to = drops.get();
            }
        }
    }
}

impl PortCounters {
    #[inline]
    fn add(&self, tally: &mut PortTally) {
        self.rx_packets.add(u64::from(std::mem::take(&mut tally.received)));
        self.rx_bytes.add(std::mem::take(&mut tally.bytes));
        if tally.sent.packets != 0 {
            let sent = std::mem::take(&mut tally.sent);
            self.tx_packets.add(sent.packets);
            self.tx_bytes.add(sent.bytes);
        }
        let mut dropped = std::mem::take(&mut tally.dropped);
        while dropped != 0 {
            let at = dropped.trailing_zeros() as usize;
            dropped &= dropped - 1;
            if let (Some(counter), Some(count)) = (self.drops.get(at), tally.drops.get_mut(at)) {
                counter.add(u64::from(std::mem::take(count)));
            }
        }
    }
}

impl BurstUpdate<'_> {
    /// Adds a burst's tally and clears it.
    #[inline]
    pub fn burst(&self, tally: &mut Tally) {
        let counters = self.counters;
        counters.bursts.add(1);
        self.work(tally);
    }

    /// Adds what happened outside of a burst: packets that had been held, and those of the router itself.
    #[inline]
    pub fn work(&self, tally: &mut Tally) {
        let counters = self.counters;
        counters.received.add(u64::from(tally.received));
        counters.host.add(u64::from(tally.host));
        if tally.icmp_sent | tally.icmp_limited | tally.fragments != 0 {
            counters.icmp_sent.add(u64::from(tally.icmp_sent));
            counters.fragments.add(u64::from(tally.fragments));
            for (counter, count) in counters.icmp_limited.iter().zip(&mut tally.icmp_limited_by) {
                counter.add(u64::from(std::mem::take(count)));
            }
            (tally.icmp_sent, tally.icmp_limited, tally.fragments) = (0, 0, 0);
        }
        (tally.received, tally.host) = (0, 0);
        for (word, touched) in tally.touched.iter_mut().enumerate() {
            let mut touched = std::mem::take(touched);
            while touched != 0 {
                let at = word * 64 + touched.trailing_zeros() as usize;
                touched &= touched - 1;
                if let (Some(counters), Some(tally)) = (counters.ports.get(at), tally.ports.get_mut(at)) {
                    counters.add(tally);
                }
            }
        }
    }

    /// Adds what a port's transmit queue took: forwarded packets, and the router's own.
    #[inline]
    pub fn sent(&self, port: usize, taken: Traffic, own: Traffic) {
        self.counters.sent.add(taken.packets);
        self.counters.originated.add(own.packets);
        if let Some(port) = self.counters.ports.get(port) {
            port.tx_packets.add(taken.packets + own.packets);
            port.tx_bytes.add(taken.bytes + own.bytes);
        }
    }

    /// Counts a burst of one receive queue, and its packets that went to other workers (software RSS).
    #[inline]
    pub fn queue(&self, queue_index: usize, received: usize, steered: u32) {
        if let Some(queue) = self.counters.queues.get(queue_index) {
            queue.packets.add(received as u64);
            if received >= BURST {
                queue.full.add(1);
            }
            if steered != 0 {
                queue.steered.add(u64::from(steered));
            }
        }
    }

    /// Counts that a port's driver took fewer packets than offered (TX backpressure).
    pub fn backpressure(&self, port: usize, times: u64) {
        if let Some(port) = self.counters.ports.get(port) {
            port.tx_backpressure.add(times);
        }
    }

    /// Counts packets of the router itself that had no room in a transmit queue, or no route.
    pub fn originate_failed(&self, packets: u64) {
        self.counters.originate_failed.add(packets);
    }

    /// Sets the number of packets that currently wait for room in transmit queues.
    #[inline]
    pub fn held(&self, packets: usize) {
        self.counters.held.set(packets as u64);
    }

    /// Counts packets that were held when the worker stopped, at the port where they waited.
    pub fn stopped(&self, port: usize, packets: u64) {
        if let Some(counter) =
            self.counters.ports.get(port).and_then(|port| port.drops.get(Reason::Stopped as usize))
        {
            counter.add(packets);
        }
    }
}

impl Drop for BurstUpdate<'_> {
    #[inline]
    fn drop(&mut self) {
        self.counters.version.store(self.version.wrapping_add(1), Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn a_burst_counts_for_its_groups_whether_they_are_equal_or_not() {
        let counters = WorkerCounters::new(1);
        let mut lengths = [100; BURST];
        lengths[2] = 50;
        let mut groups = [GroupIndex(7); BURST];
        counters.add_groups(0, &groups, &lengths);
        counters.add_groups(0b1111, &groups, &lengths);
        counters.add_groups(PacketMask::MAX, &groups, &lengths);
        counters.add_groups(0b1100, &groups, &lengths);
        groups[3] = GroupIndex(8);
        counters.add_groups(0b1111, &groups, &lengths);
        let traffic = |packets, bytes| Some(Traffic { packets, bytes });
        assert_eq!(counters.of_group(7), traffic(4 + 64 + 2 + 3, 350 + 6_350 + 150 + 250));
        assert_eq!((counters.of_group(8), counters.of_group(0)), (traffic(1, 100), traffic(0, 0)));
    }

    #[test]
    fn groups_beyond_the_last_counter_share_it() {
        let counters = WorkerCounters::new(1);
        let (mut groups, lengths) = ([GroupIndex(70_000); BURST], [10; BURST]);
        counters.add_groups(0b11, &groups, &lengths);
        groups[1] = GroupIndex(u32::MAX);
        counters.add_groups(0b11, &groups, &lengths);
        let last = &counters.groups[GROUPS - 1];
        assert_eq!((last.packets.get(), last.bytes.get()), (4, 40));
        assert_eq!((counters.of_group(70_000), counters.of_group(u32::MAX)), (None, None));
    }

    #[test]
    fn a_reader_never_sees_half_a_burst() {
        let counters = Arc::new(WorkerCounters::new(1));
        let stop = Arc::new(AtomicBool::new(false));
        let writer = std::thread::spawn({
            let (counters, stop) = (counters.clone(), stop.clone());
            move || {
                let mut tally = Tally::new(1);
                while !stop.load(Ordering::Relaxed) {
                    tally.received = 3;
                    tally.host = 1;
                    tally.drop(0, Reason::NoRoute);
                    let adding = counters.add();
                    adding.burst(&mut tally);
                    adding.sent(0, Traffic { packets: 1, bytes: 60 }, Traffic::default());
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
