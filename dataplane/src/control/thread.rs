//! The control thread: batches and queries arrive by channel, frames by the workers' rings.

use std::io;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use fibcast_daemon::threads::{self, Heartbeat, Pulse, Task};
use fibcast_sync_agent::sink::Progress;

use super::scrub::TablePart;
use super::{Batch, Control};

/// Longest pause between two polls of the workers' rings; bounds the delay of ARP answers.
const PAUSE: Duration = Duration::from_millis(1);
/// The same while an operator's ping waits for its answer, whose time is measured here.
const PROBING: Duration = Duration::from_micros(50);
/// Most batches in the channel. Few, because a later sender brings the net of several.
const BATCHES: usize = 4;

/// What the agent sends, in order.
enum Work {
    Batch(Batch),
    Compare(TablePart),
}

/// A query, run on the control thread.
pub type Question = Box<dyn FnOnce(&Control) + Send>;

/// A command, run on the control thread.
pub type Order = Box<dyn FnOnce(&mut Control) + Send>;

/// Handle to the control thread.
#[derive(Debug, Clone)]
pub struct ControlHandle {
    batches: Sender<Work>,
    questions: Sender<Question>,
    orders: Sender<Order>,
    in_use: Progress,
    pulse: Pulse,
}

impl ControlHandle {
    /// Sends a batch; waits while the channel is full. False if the control thread has ended.
    pub fn push(&self, batch: Batch) -> bool {
        self.batches.send(Work::Batch(batch)).is_ok()
    }

    /// Sends a part of the table for comparison, behind all batches sent so far. False if the control thread has ended.
    pub fn compare(&self, part: TablePart) -> bool {
        self.batches.send(Work::Compare(part)).is_ok()
    }

    /// Which batch all workers use.
    pub fn in_use(&self) -> &Progress {
        &self.in_use
    }

    /// Whether sending a batch would wait.
    pub fn is_full(&self) -> bool {
        self.batches.is_full()
    }

    /// Sends a command. It runs within about [`PAUSE`], unless a large batch is being applied.
    pub fn order(&self, order: impl FnOnce(&mut Control) + Send + 'static) {
        let _ = self.orders.send(Box::new(order));
    }

    /// Like [`ask`](Self::ask), for a query that may stage a generation.
    pub fn ask_mut<A: Send + 'static>(
        &self,
        timeout: Duration,
        question: impl FnOnce(&mut Control) -> A + Send + 'static,
    ) -> Option<A> {
        // Questions to a stalled thread would fill the channel.
        if self.pulse.is_stalled() {
            return None;
        }
        let (answer, answered) = bounded(1);
        self.order(move |control| {
            let _ = answer.send(question(control));
        });
        self.pulse.answer(timeout, &answered).ok()
    }

    /// Sends a query and waits for the answer, at most for `timeout`, and no longer than the thread makes progress.
    pub fn ask<A: Send + 'static>(
        &self,
        timeout: Duration,
        question: impl FnOnce(&Control) -> A + Send + 'static,
    ) -> Option<A> {
        if self.pulse.is_stalled() {
            return None;
        }
        let (answer, answered) = bounded(1);
        let question: Question = Box::new(move |control| {
            let _ = answer.send(question(control));
        });
        self.questions.send_timeout(question, timeout).ok()?;
        self.pulse.answer(timeout, &answered).ok()
    }
}

/// A running control thread; it ends when `stop` is dropped.
#[derive(Debug)]
pub struct ControlThread {
    /// Handle to it.
    pub handle: ControlHandle,
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl ControlThread {
    /// Starts the thread.
    ///
    /// # Errors
    /// The system's error if the thread cannot be created.
    pub fn spawn(control: Control) -> io::Result<ControlThread> {
        let (batches, batch_inlet) = bounded(BATCHES);
        let (questions, question_inlet) = bounded(64);
        let (orders, order_inlet) = bounded(256);
        let (stop, stopped) = bounded(0);
        let in_use = control.progress();
        let (thread, pulse) = threads::spawn(Task::essential("control"), move |heartbeat| {
            run(control, &batch_inlet, &question_inlet, &order_inlet, &stopped, heartbeat)
        })?;
        let handle = ControlHandle { batches, questions, orders, in_use, pulse };
        Ok(ControlThread { handle, stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for ControlThread {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the control thread panicked");
        }
    }
}

fn take(control: &mut Control, work: Work) {
    match work {
        Work::Batch(batch) => control.push(batch),
        Work::Compare(part) => control.scrub_table(&part, Instant::now()),
    }
}

fn run(
    mut control: Control,
    batches: &Receiver<Work>,
    questions: &Receiver<Question>,
    orders: &Receiver<Order>,
    stopped: &Receiver<()>,
    heartbeat: &Heartbeat,
) {
    while stopped.try_recv() == Err(crossbeam_channel::TryRecvError::Empty) {
        while control.wants_batches()
            && let Ok(work) = batches.try_recv()
        {
            take(&mut control, work);
        }
        for order in orders.try_iter() {
            order(&mut control);
        }
        let now = Instant::now();
        heartbeat.beat_at(now);
        let busy = control.turn(now);
        for question in questions.try_iter() {
            question(&control);
        }
        if busy {
            continue;
        }
        // While a batch cannot be applied, the others stay in the channel and block their sender.
        if !control.wants_batches() {
            std::thread::sleep(PAUSE);
            continue;
        }
        let pause = if control.is_probing(now) { PROBING } else { PAUSE };
        match batches.recv_timeout(pause) {
            Ok(work) => take(&mut control, work),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => std::thread::sleep(PAUSE),
        }
    }
}
