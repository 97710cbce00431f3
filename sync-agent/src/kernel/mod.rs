//! The kernel sink: writes the forwarding table to a kernel routing table, for hosts without DPDK.
//!
//! [`KernelSink`] is the agent's sink. It passes each batch to a thread and is "busy" until that is done, so the agent's heartbeats never
//! wait for the kernel, and changes in the meantime become one batch of net changes. The thread (`worker`) writes a few hundred routes per
//! system call, without waiting for each acknowledgement; `table` holds wanted and actual state, `resolver` finds the next hops that this host
//! has for those of the table (`next_hop`: what the operator wants, `host`: what the kernel knows), `route` encodes a route.
//!
//! Only routes with our protocol number ([`fibcast_netlink::PROTOCOL`]) are touched, and a route of somebody else in the same place is left alone: ours is
//! refused, counted, logged at most ten times a second, and tried again, as is every route that the kernel refuses (a gateway that
//! cannot be reached yet). One that the kernel prefers to ours is reported, too (`foreign`). What a former life left behind stays until the first table is there, and is swept then. When links or
//! addresses change, the kernel may have dropped routes without a word, so the table is read and mended; `scrub` does so slowly at all times.
//!
//! A thread that panics restarts: it reads the kernel's table, and the agent gives it the whole table again, of which the difference is
//! written.

mod config;
mod foreign;
mod host;
mod next_hop;
mod resolver;
mod route;
mod scrub;
mod table;
mod worker;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, SendTimeoutError, Sender, TrySendError, bounded};
use fibcast_control::status::KernelStatus;
use fibcast_daemon::threads::{self, Heartbeat, Task};
use fibcast_sync_proto::{Batch, Change, ChangeRef, Key};

pub use config::Kernel;
pub use next_hop::{NextHop, NextHops};

use crate::sink::{Installed, Progress, Refusals, Sink, SinkError, Wake};

/// Pause before a thread that panicked restarts.
const AGAIN: Duration = Duration::from_secs(1);

/// How long the end of the agent waits for the thread.
const END: Duration = Duration::from_secs(5);

/// Commands for the thread.
enum Work {
    /// Changes, in order, with the number of their batch. With `replaces`, everything that they do not name is to be deleted.
    Changes { changes: Vec<Change>, replaces: bool, batch: u64 },
    /// The server has changed.
    Look,
    /// The agent ends.
    End,
}

/// The kernel sink; see the module's documentation.
#[derive(Debug)]
pub struct KernelSink {
    to: Sender<Work>,
    status: Shared,
    /// The next batch replaces everything.
    replaces: bool,
    /// Routes need the address of the server.
    needs_server: bool,
    installed: Installed,
    /// The thread restarted, and the agent does not know yet.
    lost: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// What the thread shows of itself.
#[derive(Debug, Clone, Default)]
struct Shared(Arc<Mutex<Shown>>);

#[derive(Debug, Default)]
struct Shown {
    known: KernelStatus,
    /// Since when a batch is being written.
    busy_since: Option<Instant>,
    /// The server that the agent is synchronised with, or was last.
    server: Option<SocketAddr>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Shown> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shown {
    fn status(&self) -> KernelStatus {
        let busy_ms = self.busy_since.map_or(0, |since| since.elapsed().as_millis() as u64);
        KernelStatus { busy: self.busy_since.is_some(), busy_ms, ..self.known.clone() }
    }
}

/// Runs the worker, and another one after a panic.
fn supervise(
    first: worker::Worker,
    open: impl Fn() -> std::io::Result<worker::Worker>,
    status: &Shared,
    from: &Receiver<Work>,
    lost: &AtomicBool,
    heartbeat: &Heartbeat,
) {
    let mut next = Ok(first);
    loop {
        match next {
            Ok(worker) => {
                if heartbeat.guard(|| worker.run(from, heartbeat)).is_ok() {
                    return;
                }
            }
            Err(error) => {
                let table = status.lock().known.table;
                tracing::error!("kernel table {table}: {error}; retrying");
            }
        }
        let until = Instant::now() + AGAIN;
        while let Some(left) = until.checked_duration_since(Instant::now()) {
            heartbeat.beat();
            // Changes are taken and dropped: the next batch holds the whole table.
            match from.recv_timeout(left) {
                Ok(Work::End) | Err(RecvTimeoutError::Disconnected) => return,
                Ok(Work::Changes { .. } | Work::Look) | Err(RecvTimeoutError::Timeout) => {}
            }
        }
        heartbeat.beat();
        next = open();
        if next.is_ok() {
            // Before the sink accepts a batch again: that one must hold the whole table.
            lost.store(true, Ordering::Release);
            status.lock().busy_since = None;
        }
    }
}

/// Access to the sink's status from any thread.
#[derive(Debug, Clone)]
pub struct KernelView(Shared);

impl KernelView {
    /// Current status.
    pub fn status(&self) -> KernelStatus {
        self.0.lock().status()
    }
}

impl KernelSink {
    /// Opens the socket, finds routes of an earlier run, and starts the thread. The kernel's table is compared with the wanted one every
    /// `scrub`; none: never.
    ///
    /// # Errors
    /// The system's error.
    pub fn start(config: &Kernel, scrub: Option<Duration>) -> std::io::Result<Self> {
        let status = Shared::default();
        {
            let known = &mut status.lock().known;
            known.table = config.table;
            known.refusals_accepted = config.accept_refused;
            known.shadows_accepted = config.accept_shadowed;
        }
        let progress = Progress::default();
        let open = {
            let (config, status, progress) = (config.clone(), status.clone(), progress.clone());
            move || worker::Worker::open(&config, scrub, status.clone(), progress.clone())
        };
        let worker = open()?;
        // No queue: a batch is accepted when the previous one is done.
        let (to, from) = bounded(0);
        let lost = Arc::new(AtomicBool::new(false));
        let (thread, _) = threads::spawn(Task::essential("kernel"), {
            let (status, lost) = (status.clone(), lost.clone());
            move |heartbeat| supervise(worker, open, &status, &from, &lost, heartbeat)
        })?;
        let installed = Installed::new(progress);
        let needs_server = config.next_hop.need_server();
        Ok(Self { to, status, replaces: true, needs_server, installed, lost, thread: Some(thread) })
    }

    /// For status and metrics.
    pub fn view(&self) -> KernelView {
        KernelView(self.status.clone())
    }
}

impl Sink for KernelSink {
    fn apply(&mut self, batch: &Batch<'_>) -> Result<(), SinkError> {
        if self.status.lock().busy_since.is_some() {
            return Err(SinkError::Busy);
        }
        // A table from a checkpoint is there before its server. What the kernel has of an earlier run stays meanwhile.
        let is_route =
            |change: ChangeRef<'_>| matches!(Change::from(change), Change::Put(Key::Route { .. }, _));
        if self.needs_server && self.status.lock().server.is_none() && batch.changes().any(is_route) {
            return Err(SinkError::Busy);
        }
        let wanted =
            |change: &ChangeRef<'_>| matches!(change, ChangeRef::Route { .. } | ChangeRef::Group { .. });
        let (changes, serial) = (batch.changes().filter(wanted).map(Change::from).collect(), batch.serial());
        let batch = self.installed.begin();
        // Before the thread can report completion.
        self.status.lock().busy_since = Some(Instant::now());
        match self.to.try_send(Work::Changes { changes, replaces: self.replaces, batch }) {
            Ok(()) => {
                self.installed.accepted(batch, serial);
                self.replaces = false;
                Ok(())
            }
            Err(error) => {
                self.status.lock().busy_since = None;
                Err(match error {
                    TrySendError::Full(_) => SinkError::Busy,
                    TrySendError::Disconnected(_) => {
                        SinkError::Failed("the kernel's thread has ended".into())
                    }
                })
            }
        }
    }

    fn synchronised_with(&mut self, server: SocketAddr) {
        if self.status.lock().server.replace(server) != Some(server) {
            // A busy thread looks when it is done.
            let _ = self.to.try_send(Work::Look);
        }
    }

    fn reset(&mut self) {
        self.replaces = true;
        self.installed.forget();
    }

    fn installed(&self) -> Option<u64> {
        Some(self.installed.serial())
    }

    fn refusals(&mut self, known: u64) -> Option<Refusals> {
        (self.installed.refusals_version() != known).then(|| self.installed.refusals())
    }

    fn on_installed(&mut self, wake: Wake) {
        self.installed.on_change(wake);
    }

    fn has_lost_table(&mut self) -> bool {
        self.lost.swap(false, Ordering::AcqRel)
    }
}

impl Drop for KernelSink {
    fn drop(&mut self) {
        // A thread that is stalled must not keep the agent from ending.
        match (self.to.send_timeout(Work::End, END), self.thread.take()) {
            (Ok(()) | Err(SendTimeoutError::Disconnected(_)), Some(thread)) => _ = thread.join(),
            _ => tracing::error!("the kernel's thread does not end; not waiting for it"),
        }
    }
}
