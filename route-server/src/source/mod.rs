//! Sources of routes: each runs on its own thread and sends batches to the owner of the RIB.
//!
//! [`start`] opens a source and spawns its thread, which sends [`Event`]s through a bounded channel (`outlet`): a source that is faster than the
//! RIB waits, and memory stays bounded. [`Event::EndOfTable`] says that the RIB has the source's whole table; a
//! source that fails before it says [`Event::Failed`] and never that. A failure is the source's own: its routes stay, its origin turns stale, and
//! the server goes on. [`fixed`] reads a text file once, [`replay`] reads
//! a table and plays updates at their time. Live sources listen to routing daemons: [`fpm`] to zebra, [`netlink`] to the kernel's tables.
//! They read rtnetlink messages (`fibcast-netlink`) into a [`mirror`] of the sender's table, from which they `feed` the RIB.

mod acknowledgement;
mod feed;
pub mod fixed;
pub mod fpm;
mod limit;
pub mod mirror;
pub mod netlink;
mod outlet;
pub mod pace;
pub mod replay;

use std::thread::JoinHandle;

pub use acknowledgement::{
    Acknowledgement, Acknowledgements, Acknowledger, InstalledRoute, acknowledgements,
};
use outlet::End;
pub use outlet::{BATCH, Event, Group, Message, Outlet, QUEUE, Report, RouteChange, Stopped};

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
    /// Whether it tells its routing daemon which routes are installed.
    pub fn acknowledges(&self) -> bool {
        matches!(self, Kind::Fpm(_))
    }

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

/// Opens a source, and spawns its thread.
///
/// # Errors
/// The system's error if a socket cannot be opened, as another program's on its address, or the thread cannot be created.
pub fn start(kind: Kind, outlet: Outlet) -> std::io::Result<JoinHandle<()>> {
    let opened = open(kind)?;
    let name = format!("source {}", outlet.source());
    std::thread::Builder::new().name(name).spawn(move || {
        let outcome = match opened {
            Opened::Static(options) => fixed::run(&options, &outlet),
            Opened::Mrt(options) => replay::run(&options, &outlet),
            Opened::Fpm(options, listener) => fpm::run(&options, listener, &outlet),
            Opened::Netlink(options, sockets) => netlink::run(&options, sockets, &outlet),
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

/// A source with its sockets: what cannot be opened ends the start, and nothing that happens later ends the server.
enum Opened {
    Static(fixed::StaticOptions),
    Mrt(replay::MrtOptions),
    Fpm(fpm::FpmOptions, std::net::TcpListener),
    Netlink(netlink::NetlinkOptions, netlink::Sockets),
}

fn open(kind: Kind) -> std::io::Result<Opened> {
    Ok(match kind {
        Kind::Static(options) => Opened::Static(options),
        Kind::Mrt(options) => Opened::Mrt(options),
        Kind::Fpm(options) => {
            let listener = fpm::listen(&options)?;
            Opened::Fpm(options, listener)
        }
        Kind::Netlink(options) => Opened::Netlink(options, netlink::Sockets::open()?),
    })
}

#[cfg(test)]
pub(crate) mod testing {
    //! Runs a source and collects its events.

    use std::sync::Arc;

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
