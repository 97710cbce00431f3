//! Compares the kernel's table with the wanted one: somebody may have deleted or replaced routes, and the kernel drops some without a word.
//! On the way it sees the routes of others ([`super::foreign`]).
//!
//! A pass is a dump over a socket of its own, read in slices of a few milliseconds between batches. A route that a batch writes during the
//! pass is left out, since the dump may show it as it was before; so a busy table gives no false alarm. What differs is counted, logged and
//! written again. What the dump does not show may be there: a dump continues by the number of routes before (IPv6) or in a leaf (IPv4), so a
//! deletion meanwhile hides others. It is added where nothing may be in its place, and if the kernel says that it exists, nothing was wrong.
//!
//! A pass begins every `[scrub] pass_s`, and soon after the kernel said that somebody else changed a route in one of our tables: what is wrong
//! is found by comparing, not by following notifications. However often that happens, passes take a hundredth of a core.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use fibcast_daemon::scrub::Tally;
use fibcast_netlink::{Family, Received, Route, Socket, Writer, flag, kind};

use super::Kernel;
use super::foreign::{self, Foreign, Found};
use super::route::Lead;
use super::table::{RouteKey, Table};

/// Time of a slice.
const SLICE: Duration = Duration::from_millis(2);
/// Pause between two slices.
const REST: Duration = Duration::from_millis(20);
/// Changes of others come in bursts: time from the first one to the pass that looks.
const SETTLE: Duration = Duration::from_millis(300);
/// A pass that others cause begins no sooner after the end of the one before than its time in slices, times this.
const SHARE: u32 = 100;
/// A dump that makes no progress is given up.
const DUMP_TIMEOUT: Duration = Duration::from_secs(30);

/// State of the scrubber.
pub(super) struct Scrub {
    /// Time between the starts of two passes; none: off.
    every: Option<Duration>,
    due: Instant,
    /// The next pass does not begin before, whoever asks for one.
    rested: Instant,
    /// Number of the pass.
    number: u32,
    walk: Option<Walk>,
    pub tally: Tally,
}

/// Result of a pass.
pub(super) struct Pass {
    /// Routes to write again.
    pub wrong: Vec<RouteKey>,
    /// Routes that were not found: they are missing, or the dump left them out.
    pub unseen: Vec<RouteKey>,
    /// The routes of others.
    pub foreign: Found,
}

/// A pass in progress.
struct Walk {
    socket: Socket,
    began: Instant,
    heard: Instant,
    /// Tables, VRFs and families not yet requested.
    rest: Vec<(u32, u32, Family)>,
    /// The running dump: table, VRF, sequence.
    current: Option<(u32, u32, u32)>,
    /// Routes written during the pass.
    touched: HashSet<RouteKey>,
    /// Routes of ours that differ or are too many, as found.
    suspects: Vec<(RouteKey, Lead)>,
    foreign: Found,
    /// Somebody else changed a route meanwhile, perhaps one that was already read.
    again: bool,
    /// Time in slices.
    cost: Duration,
    seen: usize,
    interrupted: bool,
}

impl Scrub {
    pub fn new(every: Option<Duration>) -> Self {
        let now = Instant::now();
        let due = now + every.unwrap_or_default();
        Self { every, due, rested: now, number: 0, walk: None, tally: Tally::new("the kernel's table") }
    }

    /// Somebody else changed a route in one of our tables.
    pub fn hurry(&mut self, now: Instant) {
        match &mut self.walk {
            Some(walk) => walk.again = true,
            None => self.due = self.due.min((now + SETTLE).max(self.rested)),
        }
    }

    /// When the next slice is due; none: off.
    pub fn due(&self) -> Option<Instant> {
        self.every.map(|_| self.due)
    }

    /// A batch writes this route.
    pub fn touch(&mut self, key: RouteKey) {
        if let Some(walk) = &mut self.walk {
            walk.touched.insert(key);
        }
    }

    /// The whole table is read and corrected otherwise: what this pass has seen is out of date.
    pub fn abandon(&mut self) {
        self.walk = None;
    }

    /// Reads a slice. At the end of a pass returns what it found; `before` are the routes of others that were known.
    pub fn turn(&mut self, config: &Kernel, table: &mut Table, before: &Foreign) -> Option<Pass> {
        let every = self.every?;
        let now = Instant::now();
        if self.walk.is_none() {
            match Walk::begin(config, now) {
                Ok(walk) => self.walk = Some(walk),
                Err(error) => {
                    tracing::error!("scrub of the kernel's table: {error}");
                    self.due = now + every;
                    return None;
                }
            }
            self.number = self.number.wrapping_add(1).max(1);
        }
        let walk = self.walk.as_mut()?;
        self.due = now + REST;
        let done = walk.slice(config, self.number, table);
        walk.cost += now.elapsed();
        match done {
            Ok(false) => return None,
            Ok(true) => {}
            Err(error) => {
                tracing::error!("scrub of the kernel's table: {error}");
                self.due = now + every;
                self.walk = None;
                return None;
            }
        }
        let mut walk = self.walk.take()?;
        self.rested = now + (walk.cost * SHARE).max(REST);
        self.due = (walk.began + every).max(now + REST);
        if walk.again {
            self.hurry(now);
        }
        if walk.interrupted {
            walk.foreign.keep(before);
        }
        Some(self.judge(walk, table))
    }

    fn judge(&mut self, walk: Walk, table: &mut Table) -> Pass {
        let mut pass = Pass { wrong: Vec::new(), unseen: Vec::new(), foreign: walk.foreign };
        self.tally.compared(walk.seen);
        for (key, found) in &walk.suspects {
            if walk.touched.contains(key) {
                self.tally.skipped();
                continue;
            }
            self.differs(*key, table, &format!("{found:?}"));
            table.found(*key);
            pass.wrong.push(*key);
        }
        for key in table.unseen(self.number) {
            if walk.touched.contains(&key) {
                self.tally.skipped();
            } else {
                pass.unseen.push(key);
            }
        }
        self.tally.pass_ends();
        pass
    }

    /// Counts a difference.
    pub fn differs(&mut self, key: RouteKey, table: &Table, found: &str) {
        let (vrf, prefix) = key;
        let wanted = table.wanted(&key).map_or("no route".into(), |lead| format!("{lead:?}"));
        self.tally.difference(format!("{prefix} in VRF {vrf}: wanted {wanted}, found {found}"));
    }
}

impl Walk {
    fn begin(config: &Kernel, now: Instant) -> std::io::Result<Self> {
        let families = |(table, vrf)| [(table, vrf, Family::Ipv4), (table, vrf, Family::Ipv6)];
        Ok(Self {
            socket: Socket::open(1 << 20)?,
            began: now,
            heard: now,
            rest: config.tables().into_iter().flat_map(families).collect(),
            current: None,
            touched: HashSet::new(),
            suspects: Vec::new(),
            foreign: Found::default(),
            again: false,
            cost: Duration::ZERO,
            seen: 0,
            interrupted: false,
        })
    }

    /// Reads for some milliseconds; true at the end of the pass.
    fn slice(&mut self, config: &Kernel, pass: u32, table: &mut Table) -> std::io::Result<bool> {
        let begin = Instant::now();
        while begin.elapsed() < SLICE {
            let Some((number, vrf, sequence)) = self.current else {
                let Some((number, vrf, family)) = self.rest.pop() else { return Ok(true) };
                let sequence = self.socket.sequence();
                let mut request = Writer::default();
                // Of all protocols.
                Route::dump(&mut request, sequence, family, number, 0);
                self.socket.send(request.bytes())?;
                self.current = Some((number, vrf, sequence));
                self.heard = begin;
                continue;
            };
            let messages = match self.socket.receive()? {
                Received::Messages(messages) => messages,
                Received::Nothing if self.heard.elapsed() > DUMP_TIMEOUT => {
                    return Err(std::io::Error::new(std::io::ErrorKind::TimedOut, "the dump does not end"));
                }
                Received::Nothing => return Ok(false),
                Received::Lost => return Err(std::io::Error::other("answers of the kernel were lost")),
            };
            self.heard = begin;
            let mut route = Route::default();
            for message in messages {
                let message = message.map_err(|e| std::io::Error::new(std::io::ErrorKind::InvalidData, e))?;
                if message.sequence != sequence {
                    continue;
                }
                self.interrupted |= message.flags & flag::DUMP_INTERRUPTED != 0;
                if matches!(message.kind, kind::DONE | kind::ERROR) {
                    match message.error() {
                        // The table does not exist: it has no routes.
                        Some(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
                        _ => self.current = None,
                    }
                    break;
                }
                if route.read(&message) != Ok(true) || route.table != number {
                    continue;
                }
                let key = (vrf, route.prefix);
                if !foreign::is_ours(&route, config.metric) {
                    self.foreign.add(key, &route, config.metric, table.is_seen(&key, pass));
                    continue;
                }
                self.seen += 1;
                // Routes with our protocol number that we would not write are to be deleted.
                let lead = Lead::read(&route).unwrap_or(Lead::Hops(Vec::new()));
                if !table.see(&key, &lead, pass) {
                    self.suspects.push((key, lead));
                }
            }
        }
        Ok(false)
    }
}
