//! Sources of routes: each runs on its own thread and sends batches to the owner of the RIB.
//!
//! [`start`] opens a source and spawns its thread, which sends [`Event`]s through a bounded channel: a source that is faster than the RIB
//! waits, and memory stays bounded. [`Event::EndOfTable`] marks the end of the source's initial table; a source that fails before it sends
//! [`Event::Failed`] instead. [`fixed`] reads a text file once, [`replay`] reads a table and replays updates. Live sources follow routing
//! daemons: [`fpm`] zebra, [`netlink`] the kernel's tables. They read rtnetlink messages (`fibcast-netlink`) into a [`mirror`] of the
//! sender's table, from which they `feed` the RIB.

mod feed;
pub mod fixed;
pub mod fpm;
mod limit;
pub mod mirror;
pub mod netlink;
pub mod pace;
pub mod replay;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use crossbeam_channel::{Sender, TrySendError};
use fibcast_sync_proto::{GroupValue, Label};
use ipnet::IpNet;

/// Most changes of a batch: small enough that the owner of the RIB processes one within a few milliseconds.
pub const BATCH: usize = 4096;
/// Batches in the channel before a source waits.
pub const QUEUE: usize = 8;

/// A next-hop group with its label, created once and shared by all routes that use it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Its identity on the wire.
    pub label: Label,
    /// Its content.
    pub value: GroupValue,
}

impl Group {
    /// Computes a group's label from its content.
    pub fn new(value: GroupValue) -> Arc<Self> {
        let value = value.canonical();
        Arc::new(Self { label: Label::of(&value), value })
    }
}

/// One route of a source, announced or withdrawn.
#[derive(Debug, Clone)]
pub struct RouteChange {
    /// VRF.
    pub vrf: u32,
    /// Destination prefix.
    pub prefix: IpNet,
    /// Its new group and metric; none: withdrawn.
    pub path: Option<(Arc<Group>, u32)>,
}

/// An event from a source to the owner of the RIB.
#[derive(Debug)]
pub enum Event {
    /// Changes in order, to become visible together.
    Batch(Vec<RouteChange>),
    /// The source's initial table is complete.
    EndOfTable,
    /// The source has failed. Its routes stay, unless this is before the end of the table: then they must not be used.
    Failed(String),
    /// The source has finished. Its routes stay.
    Finished,
    /// Status of a live source.
    Report(Report),
}

/// Status of a live source.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// State as one word.
    pub state: &'static str,
    /// The last error.
    pub last_error: Option<String>,
    /// Counters by name.
    pub counters: Vec<(&'static str, u64)>,
}

/// An event with its source.
#[derive(Debug)]
pub struct Message {
    /// Index of the source in the configuration.
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
}

/// The owner of the RIB is gone, or asked the source to stop.
#[derive(Debug, PartialEq, Eq)]
pub struct Stopped;

impl Outlet {
    /// The outlet of source number `source`; `wake` wakes the receiver.
    pub fn new(
        source: usize,
        to: Sender<Message>,
        wake: Arc<dyn Fn() + Send + Sync>,
        stop: Arc<AtomicBool>,
    ) -> Self {
        Self { source, to, wake, stop }
    }

    /// Sends an event, waiting while the channel is full.
    ///
    /// # Errors
    /// [`Stopped`] if the receiver is gone.
    pub fn send(&self, event: Event) -> Result<(), Stopped> {
        if self.stopped() {
            return Err(Stopped);
        }
        self.to.send(Message { source: self.source, event }).map_err(|_| Stopped)?;
        (self.wake)();
        Ok(())
    }

    /// Sends an event if the channel has room; returns it otherwise.
    ///
    /// # Errors
    /// [`Stopped`] if the receiver is gone.
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

    /// Sends the content of `batch`, if any, and leaves it empty.
    ///
    /// # Errors
    /// [`Stopped`] if the receiver is gone.
    pub fn flush(&self, batch: &mut Vec<RouteChange>) -> Result<(), Stopped> {
        if batch.is_empty() { Ok(()) } else { self.send(Event::Batch(std::mem::take(batch))) }
    }

    /// Whether the source should end.
    pub fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// Kind of a source, with its options.
#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    /// A text file with routes.
    Static(fixed::StaticOptions),
    /// A recorded table and updates.
    Mrt(replay::MrtOptions),
    /// zebra's table.
    Fpm(fpm::FpmOptions),
    /// A table of this host's kernel.
    Netlink(netlink::NetlinkOptions),
}

impl Kind {
    /// Its name in configuration and status.
    pub fn name(&self) -> &'static str {
        match self {
            Kind::Static(_) => "static",
            Kind::Mrt(_) => "mrt",
            Kind::Fpm(_) => "fpm",
            Kind::Netlink(_) => "netlink",
        }
    }
}

/// Spawns a source's thread.
///
/// # Errors
/// The system's error if the thread cannot be created.
pub fn start(kind: Kind, outlet: Outlet) -> std::io::Result<JoinHandle<()>> {
    let name = format!("source {}", outlet.source);
    std::thread::Builder::new().name(name).spawn(move || {
        let outcome = match kind {
            Kind::Static(options) => fixed::run(&options, &outlet),
            Kind::Mrt(options) => replay::run(&options, &outlet),
            Kind::Fpm(options) => fpm::run(&options, &outlet),
            Kind::Netlink(options) => netlink::run(&options, &outlet),
        };
        let last = match outcome {
            Ok(()) => Event::Finished,
            Err(End::Stopped) => return,
            Err(End::Failed(reason)) => Event::Failed(reason),
        };
        // Without the receiver there is nobody to report to.
        let _ = outlet.send(last);
    })
}

/// Why a source ends early.
#[derive(Debug)]
pub enum End {
    /// It was asked to.
    Stopped,
    /// It has failed.
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

#[cfg(test)]
pub(crate) mod testing {
    //! Runs a source and collects its events.

    use super::*;

    /// All events of a source until it ends.
    pub(crate) fn events(kind: Kind) -> Vec<Event> {
        let (to, from) = crossbeam_channel::bounded(QUEUE);
        let outlet = Outlet::new(0, to, Arc::new(|| ()), Arc::default());
        let thread = start(kind, outlet).unwrap();
        let events = from.iter().map(|m| m.event).collect();
        thread.join().unwrap();
        events
    }

    /// The state that events lead to, as text, in prefix order.
    pub(crate) fn net_state(events: &[Event]) -> Vec<String> {
        let mut routes = std::collections::BTreeMap::new();
        for event in events {
            let Event::Batch(batch) = event else { continue };
            for change in batch {
                match &change.path {
                    Some((group, metric)) => {
                        routes.insert(change.prefix, format!("{:?} {metric}", group.value));
                    }
                    None => {
                        routes.remove(&change.prefix);
                    }
                }
            }
        }
        routes.into_iter().map(|(prefix, path)| format!("{prefix} {path}")).collect()
    }
}
