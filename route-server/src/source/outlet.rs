//! What a source sends to the owner of the RIB, and the channel for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, SendTimeoutError, Sender, TrySendError, never};
use fibcast_daemon::threads;
use fibcast_sync_proto::{GroupValue, Label};
use ipnet::IpNet;

use super::acknowledgement::Acknowledgements;
use super::mirror::Policy;

/// Most changes in one batch: small enough that the owner of the RIB never works on one for more than a few milliseconds.
pub const BATCH: usize = 4096;
/// Longest wait for room in the channel before the source is asked again whether it should end.
const NAP: Duration = Duration::from_millis(500);
/// Batches that wait in the channel before a source waits.
pub const QUEUE: usize = 8;

/// A next-hop group with its label, made once and shared by all routes that use it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Its identity on the wire.
    pub label: Label,
    /// Its content.
    pub value: GroupValue,
}

impl Group {
    /// Labels a group by its content.
    pub fn new(value: GroupValue) -> Arc<Self> {
        let value = value.canonical();
        Arc::new(Self { label: Label::of(&value), value })
    }
}

/// One route of a source, announced or withdrawn.
#[derive(Debug, Clone)]
pub struct RouteChange {
    /// Routing instance.
    pub vrf: u32,
    /// Destination.
    pub prefix: IpNet,
    /// Group and metric that it has now; none: withdrawn.
    pub path: Option<(Arc<Group>, u32)>,
}

/// What a source sends to the owner of the RIB.
#[derive(Debug)]
pub enum Event {
    /// Changes, in their order, to become visible together.
    Batch(Vec<RouteChange>),
    /// The end of the table: the source has sent all that it has now.
    EndOfTable,
    /// No more routes come, though nothing says that the table is complete: this makes a source ready that never was, and proves nothing.
    Quiet,
    /// It was asked to announce its whole table again, and has done so.
    Refreshed {
        /// The table is its sender's whole one.
        complete: bool,
    },
    /// It failed; its routes stay.
    Failed(String),
    /// Its thread panicked, for this reason, and restarts: it announces its whole table again.
    Restarted(String),
    /// It has ended in order; its routes stay.
    Finished,
    /// How a live source is.
    Report(Report),
}

/// How a source is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// In a word; empty for a source that is loading, live or finished as its events say.
    pub state: &'static str,
    /// Its sender's table is complete and followed.
    pub live: bool,
    /// What the end of the table was detected by.
    pub end_of_table: Option<&'static str>,
    /// What went wrong last.
    pub last_error: Option<String>,
    /// Names and values.
    pub counters: Vec<(&'static str, u64)>,
}

/// What a source that follows a routing daemon is asked for by a reload.
#[derive(Debug)]
pub enum Order {
    /// Announce the whole table again, with [`Event::Refreshed`] at its end: other routes are let in now.
    Refresh,
    /// Take routes by other rules from now on.
    Policy(Policy),
}

/// An event and the source it comes from.
#[derive(Debug)]
pub struct Message {
    /// Number of the source's thread: its place in the configuration, until a reload replaces the thread.
    pub source: usize,
    /// The event.
    pub event: Event,
}

/// The source's end of the channel.
pub struct Outlet {
    source: usize,
    to: Sender<Message>,
    wake: Arc<dyn Fn() + Send + Sync>,
    stop: Arc<AtomicBool>,
    orders: Receiver<Order>,
    acknowledgements: Option<Acknowledgements>,
}

/// The owner of the RIB is gone or asked the source to stop.
#[derive(Debug, PartialEq, Eq)]
pub struct Stopped;

impl Outlet {
    /// An outlet of the thread with this number, without orders; `wake` makes the receiver look into the channel.
    pub fn new(
        source: usize,
        to: Sender<Message>,
        wake: Arc<dyn Fn() + Send + Sync>,
        stop: Arc<AtomicBool>,
    ) -> Self {
        Self { source, to, wake, stop, orders: never(), acknowledgements: None }
    }

    /// The same for a source that takes orders.
    #[must_use]
    pub fn with_orders(self, orders: Receiver<Order>) -> Self {
        Self { orders, ..self }
    }

    /// The next order.
    pub(super) fn poll_order(&self) -> Option<Order> {
        self.orders.try_recv().ok()
    }

    /// The same for a source that is told which of its routes are installed.
    #[must_use]
    pub fn with_acknowledgements(self, acknowledgements: Acknowledgements) -> Self {
        Self { acknowledgements: Some(acknowledgements), ..self }
    }

    /// What it is told about its routes; none: nothing.
    pub(super) fn acknowledgements(&self) -> Option<&Acknowledgements> {
        self.acknowledgements.as_ref()
    }

    /// Sends an event, and waits while the channel is full.
    ///
    /// # Errors
    ///
    /// [`Stopped`] where the route server ends.
    pub fn send(&self, event: Event) -> Result<(), Stopped> {
        let mut message = Message { source: self.source, event };
        loop {
            if self.stopped() {
                return Err(Stopped);
            }
            match self.to.send_timeout(message, NAP) {
                Ok(()) => break,
                Err(SendTimeoutError::Timeout(back)) => message = back,
                Err(SendTimeoutError::Disconnected(_)) => return Err(Stopped),
            }
        }
        (self.wake)();
        Ok(())
    }

    /// Sends an event if the channel has room; returns it if not.
    ///
    /// # Errors
    ///
    /// [`Stopped`] where the route server ends.
    pub fn try_send(&self, event: Event) -> Result<Option<Event>, Stopped> {
        if self.stopped() {
            return Err(Stopped);
        }
        match self.to.try_send(Message { source: self.source, event }) {
            Ok(()) => {
                (self.wake)();
                Ok(None)
            }
            Err(TrySendError::Full(message)) => Ok(Some(message.event)),
            Err(TrySendError::Disconnected(_)) => Err(Stopped),
        }
    }

    /// Sends what is in `batch`, if anything, and leaves it empty.
    ///
    /// # Errors
    ///
    /// [`Stopped`] where the route server ends.
    pub fn flush(&self, batch: &mut Vec<RouteChange>) -> Result<(), Stopped> {
        if batch.is_empty() { Ok(()) } else { self.send(Event::Batch(std::mem::take(batch))) }
    }

    /// Whether the source should end. A source asks at least once a second, whatever it waits for, and this is its heartbeat.
    pub fn stopped(&self) -> bool {
        threads::beat();
        self.stop.load(Ordering::Relaxed)
    }
}

/// Why a source ends early.
#[derive(Debug)]
pub enum End {
    /// It was asked to.
    Stopped,
    /// It failed, and why.
    Failed(String),
}

impl From<Stopped> for End {
    fn from(_: Stopped) -> Self {
        End::Stopped
    }
}

impl From<fibcast_mrt::MrtError> for End {
    fn from(error: fibcast_mrt::MrtError) -> Self {
        End::Failed(error.to_string())
    }
}
