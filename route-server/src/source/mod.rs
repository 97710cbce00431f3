//! Sources of routes: each runs on its own thread and sends batches to the owner of the RIB.
//!
//! [`start`] opens a source and spawns its thread, which sends [`Event`]s through a bounded channel (`outlet`): a source that is faster than the
//! RIB waits, and memory stays bounded. [`Event::EndOfTable`] says that the RIB has the source's whole table; a
//! source that fails before it says [`Event::Failed`] and never that. A failure is the source's own: its routes stay, its origin turns stale, and
//! the server continues. [`fixed`] reads a text file once, [`replay`] reads
//! a table and plays updates at their time. Live sources listen to routing daemons: [`fpm`] to zebra, [`netlink`] to the kernel's tables.
//! They read rtnetlink messages (`fibcast-netlink`) into a [`mirror`] of the sender's table, from which they `feed` the RIB.

mod acknowledgement;
mod feed;
pub mod fixed;
pub mod fpm;
pub mod mirror;
pub mod netlink;
mod outlet;
pub mod pace;
pub mod replay;

use std::hash::{DefaultHasher, Hash, Hasher};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

pub use acknowledgement::{
    Acknowledgement, Acknowledgements, Acknowledger, InstalledRoute, acknowledgements,
};
use fibcast_daemon::threads::{self, Pulse, Task};
use outlet::End;
pub use outlet::{BATCH, Event, Group, Message, Order, Outlet, QUEUE, Report, RouteChange, Stopped};

/// Pause before a source that panicked restarts; doubles each time, since the same input may cause the same panic.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Its bound.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

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

    /// Reads the files of the source as a start does; none for a live source.
    ///
    /// # Errors
    /// Why they cannot be used, with the file.
    pub fn read(&self) -> Result<Option<Content>, String> {
        match self {
            Kind::Static(options) => {
                options.read().map(|routes| Some(Content::Routes(routes))).map_err(|e| e.to_string())
            }
            Kind::Mrt(options) => replay::read(options).map(|loaded| Some(Content::Mrt(Box::new(loaded)))),
            Kind::Fpm(_) | Kind::Netlink(_) => Ok(None),
        }
    }

    /// What its files hold, a line for each.
    pub fn describe(&self, content: &Content) -> String {
        match (self, content) {
            (Kind::Static(options), Content::Routes(routes)) => {
                format!("{}: {} routes", options.path.display(), routes.len())
            }
            (Kind::Mrt(options), Content::Mrt(loaded)) => loaded.describe(options),
            _ => String::new(),
        }
    }
}

/// What was read of a source's files before its start.
pub enum Content {
    /// The routes of a `static` source.
    Routes(fixed::Routes),
    /// The table of an `mrt` source, and what its updates are about.
    Mrt(Box<replay::Loaded>),
}

impl Content {
    /// A number that differs for other routes; none where they are not compared.
    pub fn fingerprint(&self) -> Option<u64> {
        let Content::Routes(routes) = self else { return None };
        let mut hash = DefaultHasher::new();
        for (prefix, group) in routes {
            (prefix, &group.value).hash(&mut hash);
        }
        Some(hash.finish())
    }
}

/// Opens the source of `origin`, and spawns its thread.
///
/// # Errors
/// As [`open`] and [`spawn`].
pub fn start(origin: &str, kind: Kind, outlet: Outlet) -> std::io::Result<(JoinHandle<()>, Pulse)> {
    spawn(origin, open(kind, None)?, outlet, false)
}

/// Spawns the thread of a source. One of a routing daemon restarts after a panic, with a new session; a file would be the same again, so its
/// source fails. `again`: the RIB has routes of an earlier thread.
///
/// # Errors
/// The system's error if the thread cannot be created.
pub fn spawn(
    origin: &str,
    mut opened: Opened,
    outlet: Outlet,
    again: bool,
) -> std::io::Result<(JoinHandle<()>, Pulse)> {
    threads::spawn(Task::essential(format!("source {origin}")), move |heartbeat| {
        let mut runs = u32::from(again);
        supervise(opened.is_live(), &outlet, || {
            runs += 1;
            heartbeat.guard(|| opened.run(runs > 1, &outlet))
        });
    })
}

/// Runs a source until it ends, and reports how.
fn supervise(is_live: bool, outlet: &Outlet, mut run: impl FnMut() -> Result<Result<(), End>, String>) {
    let mut pause = FIRST_PAUSE;
    let last = loop {
        match run() {
            Ok(Ok(())) => break Event::Finished,
            Ok(Err(End::Stopped)) => return,
            Ok(Err(End::Failed(reason))) => break Event::Failed(reason),
            Err(panic) if !is_live => {
                break Event::Failed(format!("its thread panicked: {panic}"));
            }
            Err(panic) => {
                if outlet.send(Event::Restarted(format!("its thread panicked: {panic}"))).is_err() {
                    return;
                }
                if !wait(pause, outlet) {
                    return;
                }
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    };
    // Without the receiver there is nobody to report to.
    let _ = outlet.send(last);
}

/// False: the source should end.
fn wait(pause: Duration, outlet: &Outlet) -> bool {
    let until = Instant::now() + pause;
    while !outlet.stopped() {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return true;
        }
        std::thread::sleep(left.min(Duration::from_millis(100)));
    }
    false
}

/// A source with its sockets and files: what cannot be opened ends the start, and nothing that happens later ends the server.
pub enum Opened {
    /// The routes of a file.
    Static(fixed::StaticOptions, fixed::Routes),
    /// With what was read already.
    Mrt(replay::MrtOptions, Option<Box<replay::Loaded>>),
    /// Listens for zebra.
    Fpm(fpm::FpmOptions, std::net::TcpListener),
    /// The sockets of the first run.
    Netlink(netlink::NetlinkOptions, Option<netlink::Sockets>),
}

impl Opened {
    /// Whether it follows a routing daemon, and does not read files.
    fn is_live(&self) -> bool {
        matches!(self, Opened::Fpm(..) | Opened::Netlink(..))
    }

    fn run(&mut self, restarted: bool, outlet: &Outlet) -> Result<(), End> {
        let failed = |error: std::io::Error| End::Failed(error.to_string());
        match self {
            Opened::Static(options, routes) => fixed::run(options, &std::mem::take(routes), outlet),
            Opened::Mrt(options, loaded) => replay::run(options, loaded.take().map(|loaded| *loaded), outlet),
            Opened::Fpm(options, listener) => {
                fpm::run(options, listener.try_clone().map_err(failed)?, restarted, outlet)
            }
            Opened::Netlink(options, sockets) => {
                let sockets = sockets.take().map_or_else(netlink::Sockets::open, Ok).map_err(failed)?;
                netlink::run(options, sockets, outlet)
            }
        }
    }
}

/// Opens the sockets of a source. Its files are read here unless that was done; a table that takes seconds is read by the thread.
///
/// # Errors
/// The system's error if a socket cannot be opened, as another program's on its address, or why a file cannot be used.
pub fn open(kind: Kind, content: Option<Content>) -> std::io::Result<Opened> {
    Ok(match (kind, content) {
        (Kind::Static(options), Some(Content::Routes(routes))) => Opened::Static(options, routes),
        (Kind::Static(options), _) => {
            let routes = options.read().map_err(std::io::Error::other)?;
            Opened::Static(options, routes)
        }
        (Kind::Mrt(options), Some(Content::Mrt(loaded))) => Opened::Mrt(options, Some(loaded)),
        (Kind::Mrt(options), _) => Opened::Mrt(options, None),
        (Kind::Fpm(options), _) => {
            let listener = fpm::listen(&options)?;
            Opened::Fpm(options, listener)
        }
        (Kind::Netlink(options), _) => Opened::Netlink(options, Some(netlink::Sockets::open()?)),
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
        let (thread, _) = start("test", kind, outlet).unwrap();
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn supervised(is_live: bool, outcomes: Vec<Result<Result<(), End>, String>>) -> Vec<String> {
        let (to, from) = crossbeam_channel::bounded(QUEUE);
        let outlet = Outlet::new(0, to, Arc::new(|| ()), Arc::default());
        let mut outcomes = outcomes.into_iter();
        supervise(is_live, &outlet, || outcomes.next().unwrap());
        drop(outlet);
        from.iter().map(|message| format!("{:?}", message.event)).collect()
    }

    #[test]
    fn a_live_source_restarts_after_a_panic() {
        let events = supervised(true, vec![Err("index 9".into()), Ok(Ok(()))]);
        assert_eq!(events, ["Restarted(\"its thread panicked: index 9\")", "Finished"]);
        let events = supervised(true, vec![Err("index 9".into()), Ok(Err(End::Stopped))]);
        assert_eq!(events, ["Restarted(\"its thread panicked: index 9\")"]);
    }

    #[test]
    fn the_source_of_a_file_fails_by_a_panic() {
        let events = supervised(false, vec![Err("index 9".into())]);
        assert_eq!(events, ["Failed(\"its thread panicked: index 9\")"]);
    }
}
