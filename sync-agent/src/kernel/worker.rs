//! The thread that writes to the kernel.

mod next_hops;
mod refused;
mod shadows;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};
use fibcast_control::status::KernelStatus;
use fibcast_daemon::log::LimitedLog;
use fibcast_daemon::threads::{self, Heartbeat};
use fibcast_netlink::{Dumped, Family, Received, Route, Socket, Writer, flag, group, kind};
use fibcast_sync_proto::{Change, Key};

use super::foreign::{self, Foreign, Found};
use super::host;
use super::resolver::Resolver;
use super::route::{self, Lead, Unfit};
use super::scrub::Scrub;
use super::table::{RouteKey, Step, Table};
use super::{Kernel, Shared, Work};
use crate::sink::{Progress, Reason};

/// Receive buffer for acknowledgements and notifications.
const ROOM: usize = 4 << 20;
/// Bytes of messages per system call: the kernel processes all of them before anything else of ours.
const PORTION: usize = 64 * 1024;
/// Messages per system call, so that all acknowledgements fit the buffer.
const MESSAGES: usize = 512;
/// Longest wait for a command.
const NAP: Duration = Duration::from_millis(100);
/// Longest wait for an acknowledgement.
const ACK_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest part of it without a heartbeat.
const ACK_NAP: Duration = Duration::from_millis(500);
/// Refused routes are retried after this time, which doubles up to the longest.
const RETRY: Duration = Duration::from_secs(1);
/// See [`RETRY`].
const LONGEST_RETRY: Duration = Duration::from_secs(60);
/// Changes of links and addresses come in bursts.
const SETTLE: Duration = Duration::from_millis(300);

pub(super) struct Worker {
    config: Kernel,
    socket: Socket,
    /// Notifications about links and addresses.
    monitor: Socket,
    /// Notifications about routes that others change in our tables.
    others: Socket,
    /// Notifications about routes of the host's own table, by which gateways are reached.
    main: Socket,
    resolver: Resolver,
    /// When the host's own table is read again.
    look_at: Option<Instant>,
    /// Not before, whatever changes there.
    look_again: Instant,
    foreign: Foreign,
    table: Table,
    /// Routes of an earlier run, until the first table is complete.
    leftovers: Option<HashMap<RouteKey, Lead>>,
    refused: HashMap<RouteKey, Reason>,
    unfit: HashMap<RouteKey, Reason>,
    /// Routes whose gateway is an address of this host.
    own_gateway: HashMap<RouteKey, IpAddr>,
    /// Causes that were told already, once for all of their routes.
    told: HashSet<Unfit>,
    left_out: HashSet<RouteKey>,
    retry_at: Option<Instant>,
    retry: Duration,
    audit_at: Option<Instant>,
    scrub: Scrub,
    /// Routes that the scrubber did not find, while they are added.
    unseen: HashSet<RouteKey>,
    status: Shared,
    /// Number of the last batch, and where it is reported once the kernel has taken all of it.
    last_batch: u64,
    progress: Progress,
    start: Instant,
    log: LimitedLog,
}

impl Worker {
    pub fn open(
        config: &Kernel,
        scrub: Option<Duration>,
        status: Shared,
        progress: Progress,
    ) -> std::io::Result<Self> {
        let monitor = Socket::open(ROOM)?;
        for group in [group::LINK, group::IPV4_ADDRESS, group::IPV6_ADDRESS] {
            monitor.subscribe(group)?;
        }
        let socket = Socket::open(ROOM)?;
        let others = Socket::open(ROOM)?;
        others.hear_routes_of_others(config.tables().into_keys(), &socket)?;
        others.subscribe(group::IPV4_ROUTE)?;
        others.subscribe(group::IPV6_ROUTE)?;
        let main = Socket::open(ROOM)?;
        main.hear_routes_of_others([host::MAIN], &socket)?;
        main.subscribe(group::IPV4_ROUTE)?;
        main.subscribe(group::IPV6_ROUTE)?;
        let resolver = next_hops::resolver(config, &status);
        let mut worker = Self {
            config: config.clone(),
            socket,
            monitor,
            others,
            main,
            resolver,
            look_at: None,
            look_again: Instant::now(),
            foreign: Foreign::default(),
            table: Table::default(),
            leftovers: None,
            refused: HashMap::new(),
            unfit: HashMap::new(),
            own_gateway: HashMap::new(),
            told: HashSet::new(),
            left_out: HashSet::new(),
            retry_at: None,
            retry: RETRY,
            audit_at: None,
            scrub: Scrub::new(scrub),
            unseen: HashSet::new(),
            status,
            last_batch: 0,
            progress,
            start: Instant::now(),
            log: LimitedLog::default(),
        };
        worker.read_host();
        let mut tries = 0;
        let (found, foreign) = loop {
            tries += 1;
            match worker.dump()? {
                Some(found) => break found,
                None if tries < 10 => {}
                None => return Err(std::io::Error::other("the kernel's table changes too fast to be read")),
            }
        };
        worker.show(|status| status.leftovers = found.len() as u64);
        found.keys().for_each(|key| worker.table.found(*key));
        worker.leftovers = Some(found);
        worker.foreign_found(foreign);
        Ok(worker)
    }

    /// Changes what is shown.
    fn show<T>(&self, change: impl FnOnce(&mut KernelStatus) -> T) -> T {
        change(&mut self.status.lock().known)
    }

    pub fn run(mut self, from: &Receiver<Work>, heartbeat: &Heartbeat) {
        loop {
            heartbeat.beat();
            let mut nap = NAP;
            // Before the first table there is nothing to compare with.
            let scrub_due = self.scrub.due().filter(|_| self.leftovers.is_none());
            for at in [self.retry_at, self.audit_at, self.look_at, scrub_due].into_iter().flatten() {
                nap = nap.min(at.saturating_duration_since(Instant::now()));
            }
            match from.recv_timeout(nap) {
                Ok(Work::Changes { changes, replaces, batch }) => {
                    self.follow_server();
                    self.changes(changes, replaces);
                    self.last_batch = batch;
                    self.status.lock().busy_since = None;
                }
                Ok(Work::End) | Err(RecvTimeoutError::Disconnected) => return,
                Ok(Work::Look) | Err(RecvTimeoutError::Timeout) => self.follow_server(),
            }
            self.listen();
            self.listen_to_others();
            self.listen_to_main();
            let scrub = self.scrub.tally.status();
            self.show(|status| status.scrub = scrub);
            let now = Instant::now();
            if self.audit_at.is_some_and(|at| at <= now) {
                self.audit_at = None;
                self.audit();
            }
            if self.look_at.is_some_and(|at| at <= now) {
                self.look_at = None;
                self.host_changed();
            }
            if self.retry_at.is_some_and(|at| at <= now) {
                self.retry_at = None;
                let again: Vec<RouteKey> = self.refused.drain().map(|(key, _)| key).collect();
                self.write(again);
            }
            if self.leftovers.is_none() && self.scrub.due().is_some_and(|at| at <= now) {
                self.scrub();
            }
            // What the kernel refuses, and what others shadow, it does not forward by, until it takes it or the route is gone.
            if self.audit_at.is_none() {
                self.report_refused();
                self.progress.reach(self.last_batch);
            }
        }
    }

    fn changes(&mut self, mut changes: Vec<Change>, replaces: bool) {
        changes.retain(|change| match change.key() {
            Key::Route { vrf, prefix } if self.config.table_of(*vrf).is_none() => {
                match change {
                    Change::Put(..) => self.left_out.insert((*vrf, *prefix)),
                    Change::Delete(_) => self.left_out.remove(&(*vrf, *prefix)),
                };
                false
            }
            _ => true,
        });
        let mut keys = self.table.change(changes, replaces, &self.resolver);
        if let Some(found) = self.leftovers.take() {
            // Routes of an earlier run that are still right stay untouched.
            keys = self.table.audit(&found);
            let kept = found.len() - found.keys().filter(|key| keys.contains(*key)).count();
            tracing::info!(
                "kernel table {}: {} routes of an earlier run, {kept} still right",
                self.config.table,
                found.len()
            );
        }
        self.write(keys.into_iter().collect());
        self.show(|status| status.batches += 1);
    }

    /// Compares a slice of the kernel's table; at the end of a pass corrects what differs.
    fn scrub(&mut self) {
        let Some(pass) = self.scrub.turn(&self.config, &mut self.table, &self.foreign) else { return };
        // Before anything is written: no route of somebody else may be replaced.
        self.foreign.replace(pass.foreign);
        let mut wrong = pass.wrong;
        self.write(wrong.clone());
        self.add_unseen(pass.unseen, &mut wrong);
        let mended = wrong.iter().filter(|key| self.table.step(key).is_none()).count();
        self.scrub.tally.mended(mended);
        self.judge_foreign();
    }

    /// Adds routes that the scrubber did not find: those that the kernel takes were missing.
    fn add_unseen(&mut self, unseen: Vec<RouteKey>, wrong: &mut Vec<RouteKey>) {
        unseen.iter().for_each(|key| self.table.failed(key, false));
        self.unseen = unseen.iter().copied().collect();
        self.write(unseen);
        for key in std::mem::take(&mut self.unseen) {
            let found = if self.foreign.occupies(&key) {
                "a route of somebody else in its place"
            } else {
                "no route"
            };
            self.scrub.differs(key, &self.table, found);
            wrong.push(key);
        }
    }

    /// Corrects these routes.
    fn write(&mut self, keys: Vec<RouteKey>) {
        let mut writer = Writer::default();
        let mut sent: BTreeMap<u32, (RouteKey, bool)> = BTreeMap::new();
        let total = keys.len();
        for (n, key) in keys.iter().copied().enumerate() {
            self.refused.remove(&key);
            self.unfit.remove(&key);
            self.own_gateway.remove(&key);
            let Some(step) = self.table.step(&key) else { continue };
            let Some(table) = self.config.table_of(key.0) else { continue };
            self.scrub.touch(key);
            let at = (table, key.1, self.config.metric);
            let add = flag::REQUEST | flag::CREATE | flag::EXCLUSIVE;
            let mut put = |socket: &mut Socket, flags: u16, lead: Option<&Lead>, counts: bool| {
                let sequence = socket.sequence();
                let kind = if lead.is_some() { kind::NEW_ROUTE } else { kind::DEL_ROUTE };
                route::route(at, lead).write(&mut writer, kind, flags, sequence);
                sent.insert(sequence, (key, counts));
            };
            // The kernel would replace whatever has this prefix and metric.
            let occupied = self.foreign.occupies(&key);
            match step {
                Step::Add(lead) => put(&mut self.socket, add, Some(&lead), true),
                Step::Replace { lead, fresh: false } if !occupied => {
                    put(&mut self.socket, flag::REQUEST | flag::CREATE | flag::REPLACE, Some(&lead), true);
                }
                Step::Replace { lead, .. } => {
                    put(&mut self.socket, flag::REQUEST, None, false);
                    put(&mut self.socket, add, Some(&lead), true);
                }
                Step::Remove => put(&mut self.socket, flag::REQUEST, None, true),
                Step::Unfit { reason, remove } => {
                    self.unfit.insert(key, refused::of_unfit(&reason));
                    self.unfit(key, &reason);
                    if remove {
                        put(&mut self.socket, flag::REQUEST, None, true);
                    }
                }
            }
            if writer.bytes().len() >= PORTION || sent.len() >= MESSAGES {
                self.flush(&mut writer, &mut sent);
                self.show(|status| status.pending = (total - n) as u64);
            }
        }
        self.flush(&mut writer, &mut sent);
        if !self.refused.is_empty() && self.retry_at.is_none() {
            self.retry_at = Some(Instant::now() + self.retry);
            self.retry = (self.retry * 2).min(LONGEST_RETRY);
        } else if self.refused.is_empty() {
            self.retry = RETRY;
        }
        let (routes, refused) = (self.table.right(), self.refused.len() as u64);
        let (unfit, left_out) = (self.unfit.len() as u64, self.left_out.len() as u64);
        self.show(|status| {
            (status.pending, status.routes, status.refused) = (0, routes, refused);
            (status.unfit, status.left_out) = (unfit, left_out);
            status.last_refusal.take_if(|_| refused == 0);
        });
        self.show_own_gateways();
        self.log_shadows(&keys);
    }

    /// Sends the messages, and handles the kernel's refusals.
    fn flush(&mut self, writer: &mut Writer, sent: &mut BTreeMap<u32, (RouteKey, bool)>) {
        let Some((&last, _)) = sent.last_key_value() else { return };
        writer.flag(flag::ACK);
        let refusals = self.exchange(writer.bytes(), last);
        let mut there: HashMap<RouteKey, Reason> = HashMap::new();
        let mut refused = 0;
        match refusals {
            Ok(refusals) => {
                for (sequence, error) in refusals {
                    let Some((key, counts)) = sent.remove(&sequence) else { continue };
                    // Already gone, as wanted (ESRCH).
                    if error.raw_os_error() == Some(3) {
                        if counts {
                            self.table.done(&key);
                        }
                        continue;
                    }
                    let in_place = error.kind() == std::io::ErrorKind::AlreadyExists;
                    if in_place && !self.foreign.occupies(&key) && self.unseen.remove(&key) {
                        self.table.done(&key);
                        continue;
                    }
                    there.insert(key, if in_place { Reason::Occupied } else { Reason::Kernel });
                    refused += 1;
                    // Another route is there, or ours is missing: in both cases an addition is to be retried.
                    let ours = !matches!(self.table.step(&key), Some(Step::Add(_)));
                    self.table.failed(&key, ours && !in_place);
                    let reason = if in_place {
                        let metric = self.config.metric;
                        format!("a route of somebody else has its prefix and metric {metric}: {error}")
                    } else {
                        error.to_string()
                    };
                    let text = self.complain(key, &reason);
                    self.show(|status| status.last_refusal = Some(text));
                }
                for (key, counts) in sent.values() {
                    if *counts && !there.contains_key(key) {
                        self.table.done(key);
                    }
                }
                self.refused.extend(there);
            }
            Err(error) => {
                // The result is unknown: read the table and repair it.
                self.unseen.clear();
                tracing::error!("kernel table {}: {error}; the table will be read back", self.config.table);
                let text = error.to_string();
                for (key, _) in sent.values() {
                    self.table.failed(key, true);
                }
                self.show(|status| status.last_error = Some(text));
                self.audit_at = Some(Instant::now() + SETTLE);
            }
        }
        let written = sent.len() as u64;
        self.show(|status| {
            status.written += written;
            status.refusals += refused;
        });
        writer.clear();
        sent.clear();
    }

    fn exchange(&mut self, bytes: &[u8], last: u32) -> std::io::Result<Vec<(u32, std::io::Error)>> {
        self.socket.send(bytes)?;
        let mut refusals = Vec::new();
        let mut until = Instant::now() + ACK_TIMEOUT;
        loop {
            threads::beat();
            if !self.socket.wait(ACK_NAP)? {
                if Instant::now() < until {
                    continue;
                }
                return Err(std::io::Error::new(std::io::ErrorKind::TimedOut, "the kernel does not answer"));
            }
            until = Instant::now() + ACK_TIMEOUT;
            match self.socket.receive()? {
                Received::Nothing => {}
                Received::Lost => return Err(std::io::Error::other("answers of the kernel were lost")),
                Received::Messages(messages) => {
                    for message in messages.flatten().filter(|m| m.kind == kind::ERROR) {
                        if let Some(error) = message.error() {
                            refusals.push((message.sequence, error));
                        }
                        if message.sequence == last {
                            return Ok(refusals);
                        }
                    }
                }
            }
        }
    }

    /// All routes in our tables, ours and those of others; none: the table changed during the dump.
    fn dump(&mut self) -> std::io::Result<Option<(HashMap<RouteKey, Lead>, Found)>> {
        let (mut found, mut others) = (HashMap::new(), Found::default());
        let metric = self.config.metric;
        for (table, vrf) in self.config.tables() {
            for family in [Family::Ipv4, Family::Ipv6] {
                let sequence = self.socket.sequence();
                let mut request = Writer::default();
                // Of all protocols.
                Route::dump(&mut request, sequence, family, table, 0);
                let mut route = Route::default();
                let outcome = self.socket.dump(request.bytes(), sequence, |message| {
                    if let Some(message) = message
                        && route.read(message) == Ok(true)
                        && route.table == table
                    {
                        let key = (vrf, route.prefix);
                        if foreign::is_ours(&route, metric) {
                            // Routes with our protocol number that we would not write are to be deleted.
                            found.insert(key, Lead::read(&route).unwrap_or(Lead::Hops(Vec::new())));
                        } else {
                            others.add(key, &route, metric, found.contains_key(&key));
                        }
                    }
                    if message.is_none() {
                        threads::beat();
                    }
                    true
                });
                match outcome {
                    Ok(Dumped::Whole) => {}
                    Ok(Dumped::Interrupted) => return Ok(None),
                    // The table does not exist yet.
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(Some((found, others)))
    }

    /// Reads notifications about links and addresses.
    fn listen(&mut self) {
        let mut heard = false;
        loop {
            match self.monitor.receive() {
                Ok(Received::Nothing) | Err(_) => break,
                Ok(Received::Lost | Received::Messages(_)) => heard = true,
            }
        }
        if heard {
            self.audit_at.get_or_insert(Instant::now() + SETTLE);
            // A gateway may have become reachable.
            self.retry = RETRY;
        }
    }

    /// Reads the kernel's table and repairs it.
    fn audit(&mut self) {
        self.read_host();
        if self.leftovers.is_some() {
            return;
        }
        self.scrub.abandon();
        let mut wrong = self.table.host_changed(&self.resolver);
        match self.dump() {
            Ok(Some((found, others))) => {
                self.foreign.replace(others);
                wrong.extend(self.table.audit(&found));
                self.show(|status| status.audits += 1);
                self.write(wrong.into_iter().collect());
                self.judge_foreign();
            }
            Ok(None) => self.audit_at = Some(Instant::now() + SETTLE),
            Err(error) => {
                tracing::error!("kernel table {}: reading it: {error}", self.config.table);
                self.show(|status| status.last_error = Some(error.to_string()));
                self.audit_at = Some(Instant::now() + LONGEST_RETRY);
            }
        }
    }

    fn complain(&mut self, (vrf, prefix): RouteKey, reason: &str) -> String {
        let text = format!("{prefix} in VRF {vrf}: {reason}");
        self.log.warn(self.start.elapsed(), &format!("kernel table {}", self.config.table), &text);
        self.show(|status| status.last_error = Some(text.clone()));
        text
    }
}
