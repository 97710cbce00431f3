//! Compares the kernel's table with the wanted one: somebody may have deleted or replaced routes, and the kernel drops some without a word.
//!
//! A pass is a dump over a socket of its own, read in slices of a few milliseconds between batches. A route that a batch writes during the
//! pass is left out, since the dump may show it as it was before; so a busy table gives no false alarm. What is left at the end is counted,
//! logged and written again.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use fibcast_daemon::scrub::Tally;
use fibcast_netlink::{Family, PROTOCOL, Received, Route, Socket, Writer, flag, kind};
use ipnet::IpNet;

use super::Kernel;
use super::route::Lead;
use super::table::{RouteKey, Table};

/// Time of a slice.
const SLICE: Duration = Duration::from_millis(2);
/// Pause between two slices.
const REST: Duration = Duration::from_millis(20);
/// A dump that makes no progress is given up.
const DUMP_TIMEOUT: Duration = Duration::from_secs(30);

/// State of the scrubber.
pub(super) struct Scrub {
    /// Time between the starts of two passes; none: off.
    every: Option<Duration>,
    due: Instant,
    /// Number of the pass.
    number: u32,
    walk: Option<Walk>,
    /// Routes that an interrupted dump of IPv6 did not show: it may have left them out.
    doubtful: HashSet<RouteKey>,
    pub tally: Tally,
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
    seen: usize,
    interrupted: bool,
}

impl Scrub {
    pub fn new(every: Option<Duration>) -> Self {
        let due = Instant::now() + every.unwrap_or_default();
        let doubtful = HashSet::new();
        Self { every, due, number: 0, walk: None, doubtful, tally: Tally::new("the kernel's table") }
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

    /// Reads a slice. At the end of a pass returns the routes to write again.
    pub fn turn(&mut self, config: &Kernel, table: &mut Table) -> Vec<RouteKey> {
        let Some(every) = self.every else { return Vec::new() };
        let now = Instant::now();
        if self.walk.is_none() {
            match Walk::begin(config, now) {
                Ok(walk) => self.walk = Some(walk),
                Err(error) => {
                    tracing::error!("scrub of the kernel's table: {error}");
                    self.due = now + every;
                    return Vec::new();
                }
            }
            self.number = self.number.wrapping_add(1).max(1);
        }
        let Some(walk) = &mut self.walk else { return Vec::new() };
        self.due = now + REST;
        match walk.slice(config, self.number, table) {
            Ok(false) => return Vec::new(),
            Ok(true) => {}
            Err(error) => {
                tracing::error!("scrub of the kernel's table: {error}");
                self.due = now + every;
                self.walk = None;
                return Vec::new();
            }
        }
        let Some(walk) = self.walk.take() else { return Vec::new() };
        self.due = (walk.began + every).max(now + REST);
        self.judge(walk, table)
    }

    fn judge(&mut self, walk: Walk, table: &mut Table) -> Vec<RouteKey> {
        let mut wrong = Vec::new();
        self.tally.compared(walk.seen);
        for (key, found) in &walk.suspects {
            if walk.touched.contains(key) {
                self.tally.skipped();
                continue;
            }
            let (vrf, prefix) = key;
            let wanted = table.wanted(key).map_or("no route".into(), |lead| format!("{lead:?}"));
            self.tally.difference(format!("{prefix} in VRF {vrf}: wanted {wanted}, found {found:?}"));
            table.found(*key);
            wrong.push(*key);
        }
        let doubted = std::mem::take(&mut self.doubtful);
        for key in table.unseen(self.number) {
            if walk.touched.contains(&key) {
                self.tally.skipped();
                continue;
            }
            if walk.interrupted && matches!(key.1, IpNet::V6(_)) && !doubted.contains(&key) {
                self.doubtful.insert(key);
                continue;
            }
            let (vrf, prefix) = key;
            let wanted = table.wanted(&key).map_or("no route".into(), |lead| format!("{lead:?}"));
            self.tally.difference(format!("{prefix} in VRF {vrf}: wanted {wanted}, found no route"));
            // It is replaced in any case, whether it is there or not.
            table.failed(&key, true);
            wrong.push(key);
        }
        self.tally.pass_ends();
        wrong
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
                Route::dump(&mut request, sequence, family, number, PROTOCOL);
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
                let ours = route.read(&message) == Ok(true)
                    && (route.table, route.protocol, route.metric) == (number, PROTOCOL, config.metric);
                if !ours {
                    continue;
                }
                self.seen += 1;
                // Routes with our protocol number that we would not write are to be deleted.
                let lead = Lead::read(&route).unwrap_or(Lead::Hops(Vec::new()));
                let key = (vrf, route.prefix);
                if !table.see(&key, &lead, pass) {
                    self.suspects.push((key, lead));
                }
            }
        }
        Ok(false)
    }
}
