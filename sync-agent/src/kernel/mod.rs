//! The kernel sink: writes the forwarding table to a kernel routing table, for hosts without DPDK.
//!
//! [`KernelSink`] is the agent's sink. It passes each batch to a thread and is "busy" until that is done, so the agent's heartbeats never
//! wait for the kernel, and changes in the meantime become one batch of net changes. The thread (`worker`) writes a few hundred routes per
//! system call, without waiting for each acknowledgement; `table` holds wanted and actual state, `route` encodes a route.
//!
//! Only routes with our protocol number ([`fibcast_netlink::PROTOCOL`]) are touched, and a route of somebody else in the same place is left alone: ours is
//! refused, counted, logged at most ten times a second, and tried again, as is every route that the kernel refuses (a gateway that
//! cannot be reached yet). What a former life left behind stays until the first table is there, and is swept then. When links or
//! addresses change, the kernel may have dropped routes without a word, so the table is read and mended.

mod config;
mod route;
mod table;
mod worker;

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use crossbeam_channel::{Sender, TrySendError, bounded};
use fibcast_control::status::KernelStatus;
use fibcast_sync_proto::{Batch, Change, ChangeRef};

pub use config::Kernel;

use crate::sink::{Installed, Progress, Sink, SinkError, Wake};

/// Commands for the thread.
enum Work {
    /// Changes, in order, with the number of their batch. With `replaces`, everything that they do not name is to be deleted.
    Changes { changes: Vec<Change>, replaces: bool, batch: u64 },
    /// The agent ends.
    End,
}

/// The kernel sink; see the module's documentation.
#[derive(Debug)]
pub struct KernelSink {
    to: Sender<Work>,
    status: Arc<Mutex<KernelStatus>>,
    /// The next batch replaces everything.
    replaces: bool,
    installed: Installed,
    thread: Option<JoinHandle<()>>,
}

/// Access to the sink's status from any thread.
#[derive(Debug, Clone)]
pub struct KernelView(Arc<Mutex<KernelStatus>>);

impl KernelView {
    /// Current status.
    pub fn status(&self) -> KernelStatus {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl KernelSink {
    /// Opens the socket, finds routes of an earlier run, and starts the thread.
    ///
    /// # Errors
    /// The system's error.
    pub fn start(config: &Kernel) -> std::io::Result<Self> {
        let status = Arc::new(Mutex::new(KernelStatus { table: config.table, ..KernelStatus::default() }));
        let progress = Progress::default();
        let worker = worker::Worker::open(config, status.clone(), progress.clone())?;
        // No queue: a batch is accepted when the previous one is done.
        let (to, from) = bounded(0);
        let thread = std::thread::Builder::new().name("kernel".into()).spawn(move || worker.run(&from))?;
        let installed = Installed::new(progress);
        Ok(Self { to, status, replaces: true, installed, thread: Some(thread) })
    }

    fn set_busy(&self, busy: bool) {
        self.status.lock().unwrap_or_else(PoisonError::into_inner).busy = busy;
    }

    /// For status and metrics.
    pub fn view(&self) -> KernelView {
        KernelView(self.status.clone())
    }
}

impl Sink for KernelSink {
    fn apply(&mut self, batch: &Batch<'_>) -> Result<(), SinkError> {
        if self.status.lock().unwrap_or_else(PoisonError::into_inner).busy {
            return Err(SinkError::Busy);
        }
        let wanted =
            |change: &ChangeRef<'_>| matches!(change, ChangeRef::Route { .. } | ChangeRef::Group { .. });
        let (changes, serial) = (batch.changes().filter(wanted).map(Change::from).collect(), batch.serial());
        let batch = self.installed.begin();
        // Before the thread can report completion.
        self.set_busy(true);
        match self.to.try_send(Work::Changes { changes, replaces: self.replaces, batch }) {
            Ok(()) => {
                self.installed.accepted(batch, serial);
                self.replaces = false;
                Ok(())
            }
            Err(error) => {
                self.set_busy(false);
                Err(match error {
                    TrySendError::Full(_) => SinkError::Busy,
                    TrySendError::Disconnected(_) => {
                        SinkError::Failed("the kernel's thread has ended".into())
                    }
                })
            }
        }
    }

    fn reset(&mut self) {
        self.replaces = true;
        self.installed.forget();
    }

    fn installed(&self) -> Option<u64> {
        Some(self.installed.serial())
    }

    fn on_installed(&mut self, wake: Wake) {
        self.installed.on_change(wake);
    }
}

impl Drop for KernelSink {
    fn drop(&mut self) {
        let _ = self.to.send(Work::End);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
