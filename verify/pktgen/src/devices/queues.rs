//! What one core has of the ports, a queue of each, and its packet loop.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use dpdk::{Burst, Mempool, Packet, RxQueue, TxQueue};

use crate::args::Idle;
use crate::clock::Clock;
use crate::engine::Engine;
use crate::report::{Figures, QueueFigures};
use crate::serve::{Board, Orders};

pub(super) const BURST: usize = 64;
/// Packets on their way from one core to another.
const INBOX: usize = 4096;
/// Short enough for a full window at full rate, long enough to cost little.
const NAP: Duration = Duration::from_micros(60);
const FIGURES_EVERY_NS: u64 = 100_000_000;
/// Turns of the loop between two looks at what is not urgent.
const SELDOM: u32 = 64;

pub(super) struct Queue {
    pub rx: RxQueue,
    pub tx: TxQueue,
    pub unsent: Burst<BURST>,
    pub figures: QueueFigures,
}

/// A packet and the port that received it.
type Moved = (usize, Packet);

/// The queues of one core, in the order of ports.
pub(super) struct Queues {
    pub number: usize,
    pub core: Option<usize>,
    pub queues: Vec<Queue>,
    pool: Mempool,
    idle: Idle,
    /// To the engines of all cores.
    others: Vec<SyncSender<Moved>>,
    inbox: Receiver<Moved>,
}

/// What the loops of all cores share while they run.
pub(super) struct Run<'a> {
    pub board: &'a Board,
    pub stop: &'a AtomicBool,
    /// Loops whose engines go on. The others stay until there is none, because packets of any engine may come to their queues.
    pub active: AtomicUsize,
    /// Why all must end.
    pub failure: OnceLock<String>,
    /// Whether an engine goes on; or why the run fails.
    pub goes_on: &'a (dyn Fn(&Engine, u64) -> Result<bool, String> + Sync),
    /// Called on the first core from time to time.
    pub watch: &'a (dyn Fn(&Engine, u64) + Sync),
}

impl Queues {
    /// Empty ones for so many cores.
    pub fn new(cores: &[Option<usize>], pool: &Mempool, idle: Idle) -> Vec<Self> {
        let (others, inboxes): (Vec<_>, Vec<_>) = cores.iter().map(|_| sync_channel(INBOX)).unzip();
        let each = cores.iter().zip(inboxes).enumerate().map(|(number, (&core, inbox))| Self {
            number,
            core,
            queues: Vec::new(),
            pool: pool.clone(),
            idle,
            others: others.clone(),
            inbox,
        });
        each.collect()
    }

    pub fn figures(&self) -> impl Iterator<Item = QueueFigures> {
        self.queues.iter().map(|queue| queue.figures.clone())
    }

    /// Runs until no engine goes on.
    pub fn run(&mut self, engine: &mut Engine, clock: &mut Clock, orders: &mut Orders, run: &Run<'_>) {
        let (mut figures_due, mut turn, mut active) = (0, 0_u32, true);
        loop {
            turn = turn.wrapping_add(1);
            let mut busy = self.receive(engine, clock);
            let now = clock.now_ns();
            engine.handle_time(now);
            busy |= self.transmit(engine, now);
            let sleeps = self.idle == Idle::Sleep && !busy && engine.idle_until().is_none_or(|due| due > now);
            if sleeps || turn.is_multiple_of(SELDOM) {
                if run.stop.load(Ordering::Relaxed) {
                    engine.stop(now);
                }
                orders.each(|name| engine.change(name, now));
                if now >= figures_due {
                    figures_due = now + FIGURES_EVERY_NS;
                    self.report(engine, now, run.board);
                    clock.turn();
                }
                if self.number == 0 {
                    (run.watch)(engine, now);
                }
                if active && (engine.is_done() || !Self::goes_on(engine, now, run)) {
                    active = false;
                    run.active.fetch_sub(1, Ordering::AcqRel);
                }
                if run.failure.get().is_some() || run.active.load(Ordering::Acquire) == 0 {
                    break;
                }
            }
            if sleeps {
                std::thread::sleep(NAP);
            }
        }
        self.report(engine, clock.now_ns(), run.board);
    }

    fn goes_on(engine: &Engine, now_ns: u64, run: &Run<'_>) -> bool {
        (run.goes_on)(engine, now_ns).unwrap_or_else(|words| {
            let _ = run.failure.set(words);
            false
        })
    }

    fn report(&self, engine: &mut Engine, now_ns: u64, board: &Board) {
        let figures = Figures { queues: self.figures().collect(), ..engine.figures(now_ns) };
        board.put(self.number, figures);
    }

    /// True if there may be more.
    #[inline]
    fn receive(&mut self, engine: &mut Engine, clock: &Clock) -> bool {
        let mut busy = false;
        let mut received = Burst::<BURST>::new();
        for (port, queue) in self.queues.iter_mut().enumerate() {
            let count = queue.rx.receive(&mut received);
            if count == 0 {
                continue;
            }
            busy |= count > BURST / 2;
            received.iter().for_each(Packet::prefetch);
            let now = clock.now_ns();
            let (mut bytes, mut of_others) = (0, 0_u64);
            for (at, packet) in received.iter().enumerate() {
                bytes += packet.len();
                of_others |= u64::from(engine.handle_frame(port, packet.data(), now).is_some()) << at;
            }
            queue.figures.received += count as u64;
            queue.figures.received_bytes += bytes as u64;
            if of_others != 0 {
                Self::enqueue(queue, port, &mut received, of_others, (engine, &self.others, now));
            }
            received.clear();
        }
        if self.others.len() > 1 {
            for (port, packet) in self.inbox.try_iter().take(BURST) {
                engine.handle_frame(port, packet.data(), clock.now_ns());
            }
        }
        busy
    }

    /// Gives packets of the mask to the engines that sent them.
    #[cold]
    fn enqueue(
        queue: &mut Queue,
        port: usize,
        received: &mut Burst<BURST>,
        mut mask: u64,
        (engine, others, now_ns): (&mut Engine, &[SyncSender<Moved>], u64),
    ) {
        let mut packets = received.deal();
        while mask != 0 {
            let at = mask.trailing_zeros() as usize;
            mask &= mask - 1;
            let Some(packet) = packets.take(at) else { continue };
            let to = engine.handle_frame(port, packet.data(), now_ns).and_then(|to| others.get(to));
            let done = to.is_some_and(|to| to.try_send((port, packet)).is_ok());
            queue.figures.of_other_cores += 1;
            queue.figures.dropped += u64::from(!done);
        }
    }

    /// Sends due packets; true if more may be due.
    #[inline]
    fn transmit(&mut self, engine: &mut Engine, now_ns: u64) -> bool {
        let mut more = false;
        // Packets that a port did not take go first; the engine is asked for no more than the bursts hold.
        let room = self.queues.iter().map(|queue| queue.unsent.room()).min().unwrap_or(0);
        let wanted = engine.due().min(room);
        if wanted > 0 {
            let mut fresh = Burst::<BURST>::new();
            let allocated = self.pool.allocate(&mut fresh, wanted);
            for _ in 0..allocated {
                let Some(mut packet) = fresh.pop() else { break };
                let tailroom = packet.tailroom();
                let Some(frame) = packet.append(tailroom) else { break };
                let Some((port, length)) = engine.poll_transmit(now_ns, frame) else { break };
                packet.truncate(length);
                if let Some(queue) = self.queues.get_mut(port) {
                    queue.figures.sent_bytes += length as u64;
                    // There is room: at most `room` packets are added to each.
                    let _ = queue.unsent.push(packet);
                }
                more = fresh.is_empty();
            }
        }
        for queue in &mut self.queues {
            let before = queue.unsent.len();
            queue.tx.send(&mut queue.unsent);
            queue.figures.sent += (before - queue.unsent.len()) as u64;
            more &= queue.unsent.is_empty();
        }
        more
    }
}
