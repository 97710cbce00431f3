//! The kernel sink: a host without DPDK gets the forwarding table into a kernel table of its own.
//!
//! [`KernelSink`] is the agent's sink. It hands each batch to a thread and says "busy" until that is done, so that the agent's heartbeats
//! never wait for the kernel, and what comes meanwhile is one batch of net changes later. The thread (`worker`) writes routes a few hundred
//! to a call, without waiting for each answer; `table` is what should be in the kernel and what is, `route` how a route is written.
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
use fibcast_sync_proto::{Batch, Change, Key, Value};

pub use config::Kernel;

use crate::sink::{Sink, SinkError};

/// A step for the thread.
enum Work {
    /// Changes, in order. With `anew`, what they do not name is to go.
    Changes { changes: Vec<Change>, anew: bool },
    /// The agent ends.
    End,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct KernelSink {
    to: Sender<Work>,
    status: Arc<Mutex<KernelStatus>>,
    /// The next batch does not build on those before.
    anew: bool,
    thread: Option<JoinHandle<()>>,
}

/// Reads how the sink is, from any thread.
#[derive(Debug, Clone)]
pub struct KernelView(Arc<Mutex<KernelStatus>>);

impl KernelView {
    /// How the sink is.
    pub fn status(&self) -> KernelStatus {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl KernelSink {
    /// Opens the socket, finds what a former life left behind, and starts the thread.
    pub fn start(config: &Kernel) -> std::io::Result<Self> {
        let status = Arc::new(Mutex::new(KernelStatus { table: config.table, ..KernelStatus::default() }));
        let worker = worker::Worker::open(config, status.clone())?;
        // Room for none: a batch is taken when the one before is done.
        let (to, from) = bounded(0);
        let thread = std::thread::Builder::new().name("kernel".into()).spawn(move || worker.run(&from))?;
        Ok(Self { to, status, anew: true, thread: Some(thread) })
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
        let wanted = |change: &Change| {
            matches!(
                change,
                Change::Put(Key::Route { .. } | Key::Group(_), Value::Route(_) | Value::Group(_))
                    | Change::Delete(Key::Route { .. } | Key::Group(_))
            )
        };
        let changes = batch.changes().filter(wanted).collect();
        // Before the thread can say that it is done.
        self.set_busy(true);
        match self.to.try_send(Work::Changes { changes, anew: self.anew }) {
            Ok(()) => {
                self.anew = false;
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
        self.anew = true;
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
