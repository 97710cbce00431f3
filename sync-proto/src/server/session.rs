//! One connection to a client: its states, and the effect of each frame. `registration` and `activation` have the two largest effects.

mod activation;
mod registration;

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use super::cache::{Cache, Frozen, SKETCH_BYTES};
use super::feed::{Feed, Pumped};
use super::room::Room;
use super::types::{
    Limits, Permit, ServerEvent, SessionChange, SessionId, SessionReport, SessionStatus, Tables,
};
use super::views::{Views, Wanted};
use crate::account::{Account, Charge};
use crate::digest::DigestKeys;
use crate::frame::{ACTIVATE, COSTLY, DEACTIVATE, Frame, Inbox, Role, State};
use crate::mutation::{Mutation, on};
use crate::outbox::Outbox;
use crate::sketch::SYMBOLS;
use crate::table::Table;
use crate::wire::ProtocolError;

/// Timeout for Hello and Register.
const GREETING: Duration = Duration::from_secs(5);
/// A client is dropped after this many heartbeat intervals of silence: it may be busy with a whole table.
const SILENT_HEARTBEATS: u32 = 10;
/// Symbols that are sent even for a very small table.
const SMALL_SKETCH: usize = 1024;
/// Most identities that a client may request per sketch: each symbol decodes at most one record.
const WANT_LIMIT: usize = SYMBOLS;
/// Bytes that a client must take in [`Limits::progress`] if so many wait for it.
const TAKEN: u64 = 256;
/// Longest body of a frame before registration.
const GREETING_BODY: usize = 16 * 1024;
/// Bytes of a requested identity in the set of them.
const WANT_BYTES: usize = 16;
/// How long a client may take to decode the difference, in multiples of [`Limits::progress`].
const SKETCHING: u32 = 6;
/// Requests of one client that are answered before others have their turn.
const QUESTIONS: u32 = 16;

/// How a client is brought up to date if there is no memory for its comparison.
const NO_MEMORY: &str = "snapshot: no memory for a comparison";

/// What a session uses of its server during a call.
pub(super) struct SessionContext<'a> {
    pub id: SessionId,
    pub server: &'a str,
    pub tables: &'a dyn Tables,
    pub cache: &'a mut Cache,
    pub views: &'a mut Views,
    pub events: &'a mut VecDeque<ServerEvent>,
    pub reports: &'a mut VecDeque<SessionReport>,
    /// Time of the last input.
    pub now: Duration,
    pub passed_on: &'a mut u64,
    /// Records that may still be examined for answers to sketches before all sessions have had their turn.
    pub work: &'a mut u64,
    pub room: &'a Room,
    pub digest_keys: &'a DigestKeys,
}

#[derive(Debug)]
enum SessionPhase {
    Greeting,
    Registering,
    Standby,
    /// The client is comparing sketches.
    Sketching {
        frozen: Frozen,
        want: HashSet<u64>,
        /// Memory of `want`.
        charge: Charge,
    },
    Active(Feed),
    Over,
}

impl SessionPhase {
    fn name(&self) -> &'static str {
        match self {
            Self::Greeting => "greeting",
            Self::Registering => "registering",
            Self::Standby => "standby",
            Self::Sketching { .. } => "sketching",
            Self::Active(_) => "active",
            Self::Over => "over",
        }
    }
}

#[derive(Debug)]
pub(super) struct Session {
    phase: SessionPhase,
    inbox: Inbox,
    pub out: Outbox,
    name: String,
    wanted: Wanted,
    role: Role,
    heartbeat: Duration,
    /// Time of the next heartbeat; before registration, end of the greeting timeout.
    next_heartbeat: Duration,
    heard: Duration,
    symbols_sent: usize,
    /// Epoch of the table that it gets.
    fed: u64,
    /// Requests are deferred until the queue has room or others have had their turn.
    deferred: bool,
    /// Bytes sent when the client's silence was last checked.
    sent_before: u64,
    /// The serial of the table that it gets that its sink forwards by, since it was activated.
    installed: Option<u64>,
    /// The same as a serial of the whole table, as reported to the owner, and when.
    reported: Option<(u64, Duration)>,
    permit: Option<Box<dyn Permit>>,
    /// Memory of received requests.
    input: Charge,
    /// Bytes sent when the queue last became shorter, and the time of the first check since.
    stalled: Option<(u64, Duration)>,
    checked: Duration,
    /// When the comparison of sketches began.
    sketching_since: Duration,
}

impl Session {
    pub fn new(now: Duration, server: &str, permit: Option<Box<dyn Permit>>, account: &Account) -> Self {
        let mut out = Outbox::new(account);
        let mut inbox = Inbox::default();
        inbox.limit(GREETING_BODY);
        out.frame(&Frame::Hello { name: server.to_owned() });
        Self {
            phase: SessionPhase::Greeting,
            inbox,
            out,
            name: String::new(),
            wanted: Wanted::default(),
            role: Role::Primary,
            heartbeat: Duration::from_millis(300),
            next_heartbeat: now + GREETING,
            heard: now,
            symbols_sent: 0,
            fed: 0,
            deferred: false,
            sent_before: 0,
            permit,
            input: account.open(),
            stalled: None,
            checked: now,
            sketching_since: now,
            installed: None,
            reported: None,
        }
    }

    fn is_active(&self) -> bool {
        matches!(self.phase, SessionPhase::Sketching { .. } | SessionPhase::Active(_))
    }

    fn report(&self, session: SessionId, change: SessionChange) -> SessionReport {
        let (table, name, role) = (self.wanted.table.clone(), self.name.clone(), self.role);
        SessionReport { session, table, name, role, change }
    }

    /// The report of the end of this session, if its client was active.
    pub fn over(&self, id: SessionId) -> Option<SessionReport> {
        self.is_active().then(|| self.report(id, SessionChange::Closed))
    }

    /// Reports what the client's sink forwards by, as a serial of the whole table: that may have grown without a change to the client's part.
    fn report_installed(&mut self, context: &mut SessionContext<'_>) {
        let serial = match self.installed {
            Some(at) => context.views.whole_serial(&self.wanted, at),
            // Taken back.
            None => self.reported.map(|_| 0),
        };
        let Some(serial) = serial else { return };
        if self.is_active() && self.reported.is_none_or(|(before, _)| before != serial) {
            self.reported = Some((serial, context.now));
            context.reports.push_back(self.report(context.id, SessionChange::Installed(serial)));
        }
    }

    /// Ends the session with a last frame to the client.
    pub fn end(&mut self, error: ProtocolError, id: SessionId, events: &mut VecDeque<ServerEvent>) {
        if matches!(self.phase, SessionPhase::Over) {
            return;
        }
        self.phase = SessionPhase::Over;
        self.inbox = Inbox::default();
        self.input.set(0);
        self.out.frame(&Frame::Error { text: error.to_string() });
        let name = Some(self.name.clone()).filter(|n| !n.is_empty());
        events.push_back(ServerEvent::Ended { session: id, name, error });
    }

    pub fn status(&self, id: SessionId) -> Option<SessionStatus> {
        let (active, serial) = match &self.phase {
            SessionPhase::Greeting | SessionPhase::Registering | SessionPhase::Over => return None,
            SessionPhase::Standby => (false, 0),
            SessionPhase::Sketching { frozen, .. } => (true, frozen.serial),
            SessionPhase::Active(feed) => (true, feed.serial),
        };
        Some(SessionStatus {
            session: id,
            name: self.name.clone(),
            table: self.wanted.table.clone(),
            subset: self.wanted.subset.clone(),
            role: self.role,
            state: self.phase.name(),
            active,
            serial,
            installed: self.reported,
            sent_bytes: self.out.sent(),
            queued_bytes: self.out.len() as u64,
        })
    }

    pub fn wanted(&self) -> &Wanted {
        &self.wanted
    }

    /// Whether it gets, or is in standby for, this part of a table.
    pub fn uses(&self, wanted: &Wanted) -> bool {
        self.is_registered() && self.wanted == *wanted
    }

    fn is_registered(&self) -> bool {
        matches!(self.phase, SessionPhase::Standby | SessionPhase::Sketching { .. } | SessionPhase::Active(_))
    }

    pub fn due(&self) -> Option<Duration> {
        (!matches!(self.phase, SessionPhase::Over)).then_some(self.next_heartbeat)
    }

    /// Ends a session whose client takes nothing, or does not continue a comparison.
    fn check_progress(&mut self, now: Duration, limits: Limits) -> Result<(), ProtocolError> {
        let late = now.saturating_sub(std::mem::replace(&mut self.checked, now)) > limits.progress / 2;
        let (sent, waiting) = (self.out.sent(), self.out.len());
        match self.stalled {
            // A delayed call on our side says nothing about the client.
            Some((before, since)) if sent < before + TAKEN && waiting > 0 && !late => {
                if now.saturating_sub(since) >= limits.progress {
                    let seconds = limits.progress.as_secs_f32();
                    let text = format!(
                        "took {} of the {waiting} bytes that wait for it in {seconds} s (node.limits.progress_ms)",
                        sent - before
                    );
                    return Err(ProtocolError::Budget(text));
                }
            }
            _ => self.stalled = (waiting > 0).then_some((sent, now)),
        }
        let sketching = matches!(self.phase, SessionPhase::Sketching { .. });
        if sketching && now.saturating_sub(self.sketching_since) >= limits.progress * SKETCHING {
            let text = "did not end the comparison of tables in time (node.limits.progress_ms)";
            return Err(ProtocolError::Budget(text.into()));
        }
        Ok(())
    }

    pub fn handle_timeout(
        &mut self,
        now: Duration,
        tables: &dyn Tables,
        views: &Views,
        limits: Limits,
    ) -> Result<(), ProtocolError> {
        if now < self.next_heartbeat {
            return Ok(());
        }
        match self.phase {
            SessionPhase::Over => return Ok(()),
            SessionPhase::Greeting | SessionPhase::Registering => {
                return Err(ProtocolError::Silent(now.saturating_sub(self.heard).as_millis() as u64));
            }
            _ => {}
        }
        // A delayed call on our side says nothing about the client; and a client that takes bytes while we do not read is alive.
        let unread = self.deferred || self.out.len() >= limits.ceiling();
        let taken = std::mem::replace(&mut self.sent_before, self.out.sent()) != self.out.sent();
        if now > self.next_heartbeat + self.heartbeat * 2 || (unread && taken) {
            self.heard = now;
        }
        let silent = now.saturating_sub(self.heard);
        if silent > self.heartbeat * SILENT_HEARTBEATS && !on(Mutation::KeepSilentClient) {
            return Err(ProtocolError::Silent(silent.as_millis() as u64));
        }
        // Often enough for the check of progress.
        self.next_heartbeat = now + self.heartbeat.min(limits.progress / 4);
        // Before the heartbeat, which no client could have taken yet.
        self.check_progress(now, limits)?;
        self.send_heartbeat(tables, views, limits);
        Ok(())
    }

    pub fn send_heartbeat(&mut self, tables: &dyn Tables, views: &Views, limits: Limits) {
        // A client that does not read gets no pile of heartbeats.
        if !self.is_registered() || self.out.len() > 2 * limits.queue {
            return;
        }
        if let Some(state) = state_of(&self.name, &self.wanted, tables, views) {
            self.out.frame(&Frame::Heartbeat(Some(state)));
        }
    }

    pub fn handle_bytes(
        &mut self,
        now: Duration,
        bytes: &[u8],
        context: &mut SessionContext<'_>,
    ) -> Result<(), ProtocolError> {
        if matches!(self.phase, SessionPhase::Over) {
            return Ok(());
        }
        self.heard = now;
        self.inbox.push(bytes);
        self.work(now, context)
    }

    /// Whether to read further bytes from the client.
    pub fn listens(&self, room: &Room) -> bool {
        !self.deferred && self.out.len() < room.limits.ceiling()
    }

    /// Whether [`Self::work`] would make progress.
    pub fn can_work(&self, room: &Room) -> bool {
        self.deferred && !matches!(self.phase, SessionPhase::Over) && self.has_room(room)
    }

    /// Whether there is room in the queue for the answer to the next request. A costly one waits for what was sent unasked.
    fn has_room(&self, room: &Room) -> bool {
        let costly = self.inbox.peek().is_some_and(|kind| COSTLY.contains(&kind));
        self.out.len() < if costly { room.limits.queue } else { room.limits.ceiling() }
    }

    /// Processes received frames, as far as their answers have room and others are not delayed.
    pub fn work(&mut self, now: Duration, context: &mut SessionContext<'_>) -> Result<(), ProtocolError> {
        let mut questions = 0;
        self.deferred = false;
        loop {
            if self.inbox.peek().is_some_and(|kind| COSTLY.contains(&kind)) {
                questions += 1;
            }
            self.deferred = questions > QUESTIONS || *context.work == 0 || !self.has_room(context.room);
            if self.deferred && self.inbox.peek().is_some() {
                break;
            }
            self.deferred = false;
            let mut inbox = std::mem::take(&mut self.inbox);
            // An Activate that another one or a Deactivate follows has no effect: it is not answered.
            let replaced = inbox.peek() == Some(ACTIVATE)
                && inbox.peek_second().is_some_and(|kind| kind == ACTIVATE || kind == DEACTIVATE);
            let outcome = match inbox.next() {
                Ok(None) => Ok(false),
                Ok(Some(_)) if replaced => {
                    questions -= 1;
                    Ok(true)
                }
                Ok(Some(frame)) => self.handle_frame(now, frame, context).map(|()| true),
                Err(e) => Err(e),
            };
            if self.is_registered() {
                inbox.limit(usize::MAX);
            }
            self.inbox = inbox;
            if !outcome? {
                self.inbox.shrink();
                break;
            }
        }
        self.input.set(self.inbox.held());
        // The one that holds more than its share, not the one that came last.
        let room = context.room;
        if !room.admits(0) && self.input.bytes() > room.share(room.limits.held / 8).max(GREETING_BODY) {
            let text = format!(
                "requests of all clients hold more than {} bytes (node.limits.clients_bytes)",
                room.limits.held
            );
            return Err(ProtocolError::Budget(text));
        }
        Ok(())
    }

    fn handle_frame(
        &mut self,
        now: Duration,
        frame: Frame<'_>,
        context: &mut SessionContext<'_>,
    ) -> Result<(), ProtocolError> {
        if matches!(self.phase, SessionPhase::Sketching { .. }) {
            self.same_table(context)?;
        }
        match (&mut self.phase, frame) {
            (_, Frame::Error { text }) => return Err(ProtocolError::Peer(text)),
            (SessionPhase::Greeting, Frame::Hello { name }) => {
                if name == context.server {
                    return Err(refused(format!("node {name} asks to be its own client")));
                }
                self.name = name;
                self.phase = SessionPhase::Registering;
            }
            (
                SessionPhase::Registering,
                Frame::Register { table, role, heartbeat_ms, digest_key, path, subset },
            ) => {
                let heartbeat = Duration::from_millis(heartbeat_ms);
                self.register(now, Wanted { table, subset, digest_key }, role, heartbeat, &path, context)?;
            }
            (
                SessionPhase::Standby | SessionPhase::Active(_) | SessionPhase::Sketching { .. },
                Frame::Heartbeat(None),
            ) => {}
            (
                SessionPhase::Standby | SessionPhase::Active(_) | SessionPhase::Sketching { .. },
                Frame::Activate { epoch, serial, digest, copy },
            ) => {
                let change = SessionChange::Activated { empty: digest.count == 0 };
                context.reports.push_back(self.report(context.id, change));
                (self.installed, self.reported) = (None, None);
                self.activate(now, epoch, serial, digest, copy, context)?;
            }
            (
                SessionPhase::Standby | SessionPhase::Active(_) | SessionPhase::Sketching { .. },
                Frame::Deactivate,
            ) => {
                if self.is_active() {
                    context.reports.push_back(self.report(context.id, SessionChange::Deactivated));
                }
                self.phase = SessionPhase::Standby;
                // Tells the client that earlier frames are outdated.
                let state = state_of(&self.name, &self.wanted, context.tables, context.views)
                    .ok_or_else(|| not_served(&self.wanted))?;
                self.out.frame(&Frame::Welcome(state));
            }
            (SessionPhase::Sketching { frozen, .. }, Frame::More { until }) => {
                let (frozen, until) = (frozen.clone(), until as usize);
                // A symbol takes about 14 bytes, a route in a copy about 3.
                let pays = (frozen.count as usize * 3 / 14).max(SMALL_SKETCH);
                if until > SYMBOLS.min(pays) {
                    self.copy("snapshot: tables differ too much", context)?;
                } else if !context.room.admits(SKETCH_BYTES) {
                    self.copy(NO_MEMORY, context)?;
                } else {
                    self.send_symbols(&frozen, self.symbols_sent, until);
                }
            }
            (SessionPhase::Sketching { .. }, Frame::Want { ids, .. })
                if !context.room.admits(WANT_BYTES * ids.len()) =>
            {
                self.copy(NO_MEMORY, context)?;
            }
            (SessionPhase::Sketching { want, charge, .. }, Frame::Want { last, ids }) => {
                if want.len() + ids.len() > WANT_LIMIT {
                    return Err(refused(format!(
                        "Want: expected at most {WANT_LIMIT} identities, found more"
                    )));
                }
                want.extend(ids);
                charge.set(WANT_BYTES * want.capacity());
                if last {
                    self.reconcile(context)?;
                }
            }
            (
                SessionPhase::Active(_) | SessionPhase::Sketching { .. },
                Frame::Installed { epoch, serial },
            ) => {
                if epoch == self.fed {
                    self.installed = serial;
                    self.report_installed(context);
                }
            }
            (
                SessionPhase::Active(_) | SessionPhase::Sketching { .. },
                Frame::Refused { epoch, whole, more, routes },
            ) => {
                if epoch == self.fed {
                    let change = SessionChange::Refused { whole, more, routes };
                    context.reports.push_back(self.report(context.id, change));
                }
            }
            // Crosses a Deactivate.
            (SessionPhase::Standby, Frame::Installed { .. } | Frame::Refused { .. }) => {}
            // Requests about a sketch that cross its end.
            (SessionPhase::Standby | SessionPhase::Active(_), Frame::More { .. } | Frame::Want { .. }) => {}
            (phase, frame) => {
                return Err(ProtocolError::Unexpected { frame: frame.name(), state: phase.name() });
            }
        }
        Ok(())
    }

    /// A recreated table with this name has other serials: the client's serial refers to the previous one.
    fn same_table(&self, context: &SessionContext<'_>) -> Result<(), ProtocolError> {
        match context.views.served(&self.wanted, context.tables) {
            Some(served) if served.table.epoch() != self.fed => {
                Err(refused(format!("table {} was recreated", self.wanted.table)))
            }
            _ => Ok(()),
        }
    }

    /// Sends as much as the client can take.
    pub fn pump(&mut self, context: &mut SessionContext<'_>) -> Result<(), ProtocolError> {
        if matches!(self.phase, SessionPhase::Active(_) | SessionPhase::Sketching { .. }) {
            self.same_table(context)?;
            self.report_installed(context);
        }
        let SessionPhase::Active(feed) = &mut self.phase else { return Ok(()) };
        let Some(served) = context.views.served(&self.wanted, context.tables) else { return Ok(()) };
        // One portion per call keeps other sessions from waiting; the owner calls again as the queue drains.
        loop {
            let pumped = feed.pump(
                &self.wanted,
                served.table,
                context.cache,
                &mut self.out,
                context.passed_on,
                context.room,
            );
            if pumped == Pumped::Rest || self.out.len() >= context.room.limits.queue {
                return Ok(());
            }
        }
    }
}

fn refused(text: String) -> ProtocolError {
    ProtocolError::Refused(text)
}

fn not_served(wanted: &Wanted) -> ProtocolError {
    refused(format!("table {} is no longer served", wanted.table))
}

fn table_of<'t>(
    wanted: &Wanted,
    tables: &'t dyn Tables,
    views: &'t Views,
) -> Result<&'t Table, ProtocolError> {
    views.served(wanted, tables).map(|served| served.table).ok_or_else(|| not_served(wanted))
}

/// The state of its table as announced to a client.
fn state_of(client: &str, wanted: &Wanted, tables: &dyn Tables, views: &Views) -> Option<State> {
    let through = |path: &[String]| path.iter().any(|node| node == client);
    views.served(wanted, tables).map(|s| State {
        epoch: s.table.epoch(),
        serial: s.table.serial(),
        digest: s.table.digest(),
        ready: s.ready && !through(s.path),
        stale: tables.is_stale(&wanted.table),
        path: s.path.to_vec(),
    })
}
