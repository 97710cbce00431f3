//! The `netlink` source: mirrors one table of this host's kernel, whoever fills it (BIRD, or any daemon that programs the kernel).
//!
//! It subscribes first and dumps then, so that nothing falls between; what the kernel says during a dump waits in the socket and is heard
//! after it. Where the kernel had to throw messages away (`ENOBUFS`), where a dump was interrupted (`NLM_F_DUMP_INTR`), and where the kernel
//! changes routes without a word (a link that goes down), everything is marked stale, dumped again and swept ([`Follower`]).
//!
//! What happens to bad input: messages that are malformed are skipped, counted and logged; routes that cannot be used are
//! skipped and counted by reason, as in [`fpm`](super::fpm); other tables and protocols are passed over in silence.

mod follower;
#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

use fibcast_netlink::{Dumped, Family, NextHop, Received, Route, Socket, Writer, group};

pub use follower::Follower;

use super::feed::Feed;
use super::mirror::Policy;
use super::outlet::{BATCH, End, Outlet};

/// Room for what the kernel says while this thread does something else: a million routes that all change.
const ROOM: usize = 256 << 20;
/// Room for the answers to a dump, which the kernel makes as they are read.
const DUMP_ROOM: usize = 1 << 20;
/// Longest wait, after which the thread looks whether it should stop.
const NAP: Duration = Duration::from_millis(100);
/// Wait while the RIB is busy.
const BUSY: Duration = Duration::from_millis(2);
/// Shortest distance of dumps, which doubles up to the longest while they fail.
const AGAIN: Duration = Duration::from_millis(500);
/// See [`AGAIN`].
const LONGEST_AGAIN: Duration = Duration::from_secs(16);

/// What the source is made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Name of the protocol instance, for the log.
    pub origin: String,
    /// The kernel's table.
    pub table: u32,
    /// Which of its routes are taken.
    pub policy: Policy,
    /// Quiet time that is taken for the end of the table.
    pub quiet: Duration,
}

pub(super) fn run(options: &Options, outlet: &Outlet) -> Result<(), End> {
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
    tracing::info!("source {:?}: mirrors kernel table {}", options.origin, options.table);
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
    options: &'a Options,
    events: Socket,
    dumps: Socket,
    follower: Follower,
    feed: Feed<'a>,
    outlet: &'a Outlet,
    /// No dump before this.
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

    /// Hears what the kernel says, some of it. True: nothing more is there.
    fn hear(&mut self) -> Result<bool, End> {
        for _ in 0..256 {
            match self.events.receive().map_err(|e| End::Failed(format!("netlink socket: {e}")))? {
                Received::Nothing => return Ok(true),
                Received::Lost => {
                    self.lost += 1;
                    self.problem("the kernel had more to say than there was room for (ENOBUFS)".to_owned());
                    self.follower.lost();
                }
                Received::Messages(messages) => {
                    // What the kernel says is well-formed; if it is not, the next dump tells it again.
                    for message in messages.flatten() {
                        self.follower.hear(&message, false);
                    }
                }
            }
        }
        Ok(false)
    }

    /// Dumps until it is whole or fails; sweeps if it was whole.
    fn read_table(&mut self) -> Result<(), End> {
        self.follower.dump_begins(Instant::now());
        let whole = self.dump(None)? & self.dump(Some(Family::Ipv4))? & self.dump(Some(Family::Ipv6))?;
        if whole {
            // What was said meanwhile is newer than what was dumped.
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
            // No such table (yet): nothing is in it.
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
