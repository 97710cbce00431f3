//! The `netlink` source: mirrors one kernel table of this host, whoever fills it (BIRD, or any daemon that programs the kernel).
//!
//! It subscribes before it dumps, so that no change is missed; notifications during a dump wait in the socket and are applied after it.
//! When the kernel dropped messages (`ENOBUFS`), interrupted a dump (`NLM_F_DUMP_INTR`), or changes routes without notifications (a link
//! that goes down), everything is marked stale, dumped again and swept ([`Follower`]). The end of a complete dump is the proof that sweeps; a
//! quiet time after it only decides when the source is ready the first time, since a daemon may still be filling the table.
//!
//! A socket that fails is opened again after a while; until then, and while dumps fail, the source is not live. Whether the daemon that fills
//! the table is alive cannot be seen in the table: its routes stay until it or somebody else removes them.
//!
//! Bad input: malformed messages are skipped, counted and logged; unusable routes are skipped and counted by reason, as in
//! [`fpm`](super::fpm); other tables and protocols are ignored silently.

mod follower;
#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

use fibcast_daemon::log::LimitedLog;
use rustix::io::Errno;

use fibcast_netlink::{Dumped, Family, NextHop, Received, Route, Socket, Writer, group};

pub use follower::Follower;

use super::feed::Feed;
use super::mirror::Policy;
use super::outlet::{BATCH, End, Order, Outlet, Report};

/// Receive buffer for notifications while this thread is busy: a million changed routes.
const ROOM: usize = 256 << 20;
/// Receive buffer for dumps, which the kernel produces as they are read.
const DUMP_ROOM: usize = 1 << 20;
/// Time until a socket that failed is opened again.
const REOPEN: Duration = Duration::from_secs(1);
/// Longest wait before the thread checks whether it should stop.
const NAP: Duration = Duration::from_millis(100);
/// Wait while the RIB is busy.
const BUSY: Duration = Duration::from_millis(2);
/// Shortest interval of dumps, which doubles up to the longest while they fail.
const AGAIN: Duration = Duration::from_millis(500);
/// See [`AGAIN`].
const LONGEST_AGAIN: Duration = Duration::from_secs(16);

/// Options of the source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetlinkOptions {
    /// Name of the protocol instance, for the log.
    pub origin: String,
    /// Number of the kernel table.
    pub table: u32,
    /// Accepted routes.
    pub policy: Policy,
    /// Quiet time that counts as the end of the table.
    pub quiet: Duration,
}

/// Failed dumps in a row after which the source is not live.
const FAILED_DUMPS: u32 = 3;

/// The sockets for notifications and for dumps.
#[derive(Debug)]
pub struct Sockets {
    events: Socket,
    dumps: Socket,
}

impl Sockets {
    /// Opens both, subscribed to what changes routes.
    ///
    /// # Errors
    /// The system's error.
    pub fn open() -> std::io::Result<Self> {
        let events = Socket::open(ROOM)?;
        for group in [
            group::LINK,
            group::IPV4_ADDRESS,
            group::IPV4_ROUTE,
            group::IPV6_ADDRESS,
            group::IPV6_ROUTE,
            group::NEXTHOP,
        ] {
            events.subscribe(group)?;
        }
        Ok(Self { events, dumps: Socket::open(DUMP_ROOM)? })
    }
}

pub(super) fn run(options: &NetlinkOptions, sockets: Sockets, outlet: &Outlet) -> Result<(), End> {
    tracing::info!("source {:?}: mirroring kernel table {}", options.origin, options.table);
    Reader::new(options, sockets, outlet).follow()
}

struct Reader<'a> {
    options: &'a NetlinkOptions,
    sockets: Sockets,
    follower: Follower,
    feed: Feed<'a>,
    outlet: &'a Outlet,
    start: Instant,
    log: LimitedLog,
    /// Accepted protocols.
    protocols: Vec<u8>,
    /// Earliest time of the next dump.
    dump_at: Instant,
    distance: Duration,
    last_error: Option<String>,
    lost: u64,
    interrupted: u64,
    /// Dumps that failed since the last complete one.
    failed: u32,
    /// The socket failed, and is opened again at this time.
    reopen_at: Option<Instant>,
    reopened: u64,
}

impl<'a> Reader<'a> {
    fn new(options: &'a NetlinkOptions, sockets: Sockets, outlet: &'a Outlet) -> Self {
        Self {
            options,
            sockets,
            follower: Follower::new(&options.origin, options.policy.clone(), options.quiet),
            feed: Feed::new(outlet),
            outlet,
            start: Instant::now(),
            log: LimitedLog::default(),
            protocols: options.policy.protocols.clone(),
            dump_at: Instant::now(),
            distance: AGAIN,
            last_error: None,
            lost: 0,
            interrupted: 0,
            failed: 0,
            reopen_at: None,
            reopened: 0,
        }
    }

    fn follow(mut self) -> Result<(), End> {
        loop {
            self.turn()?;
        }
    }

    /// Reads what there is, passes it on, and waits for more. A socket that fails is opened again.
    fn turn(&mut self) -> Result<(), End> {
        self.obey();
        let outcome = self.read();
        if let Some(complaint) = self.follower.poll_complaint() {
            let source = format!("source {:?}", self.options.origin);
            self.log.warn(self.start.elapsed(), &source, &complaint);
        }
        self.proceed(outcome)
    }

    /// Does what a reload orders.
    fn obey(&mut self) {
        while let Some(order) = self.outlet.poll_order() {
            match order {
                Order::Refresh => {
                    self.follower.announce_again();
                    self.feed.refreshed(self.follower.is_complete());
                }
                Order::Policy(policy) => {
                    self.protocols = policy.protocols.clone();
                    self.follower.follow(policy);
                }
            }
        }
    }

    /// What follows a read.
    fn proceed(&mut self, outcome: Result<bool, End>) -> Result<(), End> {
        let drained = match outcome {
            Ok(drained) => drained,
            Err(End::Stopped) => return Err(End::Stopped),
            Err(End::Failed(reason)) => {
                self.problem(format!("{reason}; opening the socket again in {} s", REOPEN.as_secs()));
                self.reopen_at = Some(Instant::now() + REOPEN);
                self.follower.lost();
                true
            }
        };
        let now = Instant::now();
        if drained && self.follower.turn(now) {
            self.feed.end_of_table();
        }
        let follower = &mut self.follower;
        self.feed.pump(|| follower.changes(now, BATCH))?;
        self.report(now)?;
        let mut nap = if self.feed.is_busy() { BUSY } else { NAP };
        if !drained {
            nap = Duration::ZERO;
        }
        if self.reopen_at.is_some() || self.sockets.events.wait(nap).is_err() {
            // An error of the socket is found by the next read.
            std::thread::sleep(nap);
        }
        Ok(())
    }

    /// Dumps if that is due, and reads notifications. True: no more are available.
    fn read(&mut self) -> Result<bool, End> {
        if let Some(at) = self.reopen_at {
            if Instant::now() < at {
                return Ok(true);
            }
            self.sockets = Sockets::open().map_err(socket_failed)?;
            self.reopen_at = None;
            self.reopened += 1;
            tracing::info!("source {:?}: the netlink socket is open again", self.options.origin);
        }
        if self.follower.needs_dump() && Instant::now() >= self.dump_at {
            self.read_table()?;
        }
        self.hear()
    }

    fn report(&mut self, now: Instant) -> Result<(), End> {
        let follower = &self.follower;
        let broken = self.reopen_at.is_some() || self.failed >= FAILED_DUMPS;
        let state = if broken { "failing" } else { follower.state() };
        let (lost, interrupted, reopened) = (self.lost, self.interrupted, self.reopened);
        let last_error = &self.last_error;
        let report = || {
            let mut counters = follower.counters();
            let own =
                [("messages_lost", lost), ("dumps_interrupted", interrupted), ("sockets_reopened", reopened)];
            counters.extend(own);
            Report {
                state,
                live: !broken && follower.is_complete(),
                end_of_table: follower.is_complete().then_some("dump"),
                last_error: last_error.clone(),
                counters,
            }
        };
        Ok(self.feed.report(now, report, state)?)
    }

    /// Reads some notifications. True: no more are available.
    fn hear(&mut self) -> Result<bool, End> {
        for _ in 0..256 {
            match self.sockets.events.receive().map_err(socket_failed)? {
                Received::Nothing => return Ok(true),
                Received::Lost => self.overflowed(),
                Received::Messages(messages) => {
                    // A malformed message is ignored; the next dump repeats its content.
                    for message in messages.flatten() {
                        self.follower.hear(&message, false);
                    }
                }
            }
        }
        Ok(false)
    }

    fn overflowed(&mut self) {
        self.lost += 1;
        self.problem("the receive buffer overflowed (ENOBUFS); reading the table again".to_owned());
        self.follower.lost();
    }

    /// Dumps until complete or failed; sweeps after a complete dump.
    fn read_table(&mut self) -> Result<(), End> {
        self.follower.dump_begins(Instant::now());
        let whole = self.dump(None)? & self.dump(Some(Family::Ipv4))? & self.dump(Some(Family::Ipv6))?;
        if whole {
            // Notifications that arrived meanwhile are newer than the dump.
            while !self.hear()? {}
            self.follower.dump_ended();
            self.distance = AGAIN;
            self.failed = 0;
        } else {
            self.failed = self.failed.saturating_add(1);
            self.distance = (self.distance * 2).min(LONGEST_AGAIN);
        }
        self.dump_at = Instant::now() + self.distance;
        Ok(())
    }

    /// Asks for the routes of a family, or for next-hop objects.
    fn dump(&mut self, routes: Option<Family>) -> Result<bool, End> {
        let sequence = self.sockets.dumps.sequence();
        let mut request = Writer::default();
        match routes {
            None => NextHop::dump(&mut request, sequence),
            Some(family) => {
                // The kernel can pick one protocol.
                let protocol = match self.protocols[..] {
                    [one] => one,
                    _ => 0,
                };
                Route::dump(&mut request, sequence, family, self.options.table, protocol);
            }
        }
        let (follower, feed, outlet) = (&mut self.follower, &mut self.feed, self.outlet);
        let outcome = self.sockets.dumps.dump(request.bytes(), sequence, |message| match message {
            Some(message) => {
                follower.hear(message, true);
                true
            }
            // Between two portions the RIB gets its share.
            None => {
                let now = Instant::now();
                feed.pump(|| follower.changes(now, BATCH)).is_ok() && !outlet.stopped()
            }
        });
        if self.outlet.stopped() {
            return Err(End::Stopped);
        }
        match outcome {
            Ok(Dumped::Whole) => Ok(true),
            Ok(Dumped::Interrupted) => {
                self.interrupted += 1;
                Ok(false)
            }
            // The table does not exist (yet): it is empty.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(true),
            // Kernels before 5.3 have no next-hop objects.
            Err(error) if routes.is_none() && is_unknown(&error) => Ok(true),
            Err(error) => {
                self.problem(format!("reading the table: {error}"));
                self.sockets.dumps = Socket::open(DUMP_ROOM).map_err(socket_failed)?;
                Ok(false)
            }
        }
    }

    fn problem(&mut self, reason: String) {
        tracing::warn!("source {:?}: {reason}", self.options.origin);
        self.last_error = Some(reason);
    }
}

fn socket_failed(error: std::io::Error) -> End {
    End::Failed(format!("netlink socket: {error}"))
}

/// Whether the kernel does not know this kind of request.
fn is_unknown(error: &std::io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::OPNOTSUPP | Errno::INVAL))
}
