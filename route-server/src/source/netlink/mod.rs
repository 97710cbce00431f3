//! The `netlink` source: mirrors one kernel table of this host, whoever fills it (BIRD, or any daemon that programs the kernel).
//!
//! It subscribes before it dumps, so that no change is missed; notifications during a dump wait in the socket and are applied after it.
//! When the kernel dropped messages (`ENOBUFS`), interrupted a dump (`NLM_F_DUMP_INTR`), or changes routes without notifications (a link
//! that goes down), everything is marked stale, dumped again and swept ([`Follower`]).
//!
//! Bad input: malformed messages are skipped, counted and logged; unusable routes are skipped and counted by reason, as in
//! [`fpm`](super::fpm); other tables and protocols are ignored silently.

mod follower;
#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

use fibcast_netlink::{Dumped, Family, NextHop, Received, Route, Socket, Writer, group};

pub use follower::Follower;

use super::feed::Feed;
use super::mirror::Policy;
use super::outlet::{BATCH, End, Outlet};

/// Receive buffer for notifications while this thread is busy: a million changed routes.
const ROOM: usize = 256 << 20;
/// Receive buffer for dumps, which the kernel produces as they are read.
const DUMP_ROOM: usize = 1 << 20;
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

pub(super) fn run(options: &NetlinkOptions, outlet: &Outlet) -> Result<(), End> {
    let failed = |error: std::io::Error| End::Failed(format!("netlink socket: {error}"));
    let events = Socket::open(ROOM).map_err(failed)?;
    for group in [
        group::LINK,
        group::IPV4_ADDRESS,
        group::IPV4_ROUTE,
        group::IPV6_ADDRESS,
        group::IPV6_ROUTE,
        group::NEXTHOP,
    ] {
        events.subscribe(group).map_err(failed)?;
    }
    let dumps = Socket::open(DUMP_ROOM).map_err(failed)?;
    tracing::info!("source {:?}: mirroring kernel table {}", options.origin, options.table);
    let follower = Follower::new(&options.origin, options.policy.clone(), options.quiet);
    Reader {
        options,
        events,
        dumps,
        follower,
        feed: Feed::new(outlet),
        outlet,
        dump_at: Instant::now(),
        distance: AGAIN,
        last_error: None,
        lost: 0,
        interrupted: 0,
    }
    .follow()
}

struct Reader<'a> {
    options: &'a NetlinkOptions,
    events: Socket,
    dumps: Socket,
    follower: Follower,
    feed: Feed<'a>,
    outlet: &'a Outlet,
    /// Earliest time of the next dump.
    dump_at: Instant,
    distance: Duration,
    last_error: Option<String>,
    lost: u64,
    interrupted: u64,
}

impl Reader<'_> {
    fn follow(mut self) -> Result<(), End> {
        loop {
            if self.follower.needs_dump() && Instant::now() >= self.dump_at {
                self.read_table()?;
            }
            let drained = self.hear()?;
            let now = Instant::now();
            if drained && self.follower.turn(now) {
                self.feed.end_of_table();
            }
            let follower = &mut self.follower;
            self.feed.pump(|| follower.changes(now, BATCH))?;
            let (lost, interrupted, follower) = (self.lost, self.interrupted, &self.follower);
            self.feed.report(now, follower.state(), &self.last_error, || {
                let mut counters = follower.counters();
                counters.extend([("messages_lost", lost), ("dumps_interrupted", interrupted)]);
                counters
            })?;
            let mut nap = if self.feed.is_busy() { BUSY } else { NAP };
            if !drained {
                nap = Duration::ZERO;
            }
            self.events.wait(nap).map_err(|e| End::Failed(format!("netlink socket: {e}")))?;
        }
    }

    /// Reads some notifications. True: no more are available.
    fn hear(&mut self) -> Result<bool, End> {
        for _ in 0..256 {
            match self.events.receive().map_err(|e| End::Failed(format!("netlink socket: {e}")))? {
                Received::Nothing => return Ok(true),
                Received::Lost => {
                    self.lost += 1;
                    self.problem(
                        "the receive buffer overflowed (ENOBUFS); reading the table again".to_owned(),
                    );
                    self.follower.lost();
                }
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

    /// Dumps until complete or failed; sweeps after a complete dump.
    fn read_table(&mut self) -> Result<(), End> {
        self.follower.dump_begins(Instant::now());
        let whole = self.dump(None)? & self.dump(Some(Family::Ipv4))? & self.dump(Some(Family::Ipv6))?;
        if whole {
            // Notifications that arrived meanwhile are newer than the dump.
            while !self.hear()? {}
            self.follower.dump_ended();
            self.distance = AGAIN;
        } else {
            self.distance = (self.distance * 2).min(LONGEST_AGAIN);
        }
        self.dump_at = Instant::now() + self.distance;
        Ok(())
    }

    /// Asks for the routes of a family, or for next-hop objects.
    fn dump(&mut self, routes: Option<Family>) -> Result<bool, End> {
        let sequence = self.dumps.sequence();
        let mut request = Writer::default();
        match routes {
            None => NextHop::dump(&mut request, sequence),
            Some(family) => {
                // The kernel can pick one protocol.
                let protocol = match self.options.policy.protocols[..] {
                    [one] => one,
                    _ => 0,
                };
                Route::dump(&mut request, sequence, family, self.options.table, protocol);
            }
        }
        let (follower, feed, outlet) = (&mut self.follower, &mut self.feed, self.outlet);
        let outcome = self.dumps.dump(request.bytes(), sequence, |message| match message {
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
            Err(_) if routes.is_none() => Ok(true),
            Err(error) => {
                self.problem(format!("reading the table: {error}"));
                self.dumps =
                    Socket::open(DUMP_ROOM).map_err(|e| End::Failed(format!("netlink socket: {e}")))?;
                Ok(false)
            }
        }
    }

    fn problem(&mut self, reason: String) {
        tracing::warn!("source {:?}: {reason}", self.options.origin);
        self.last_error = Some(reason);
    }
}
