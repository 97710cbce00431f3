//! Applies zebra's stream to the mirror of its table. No socket, no clock.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::echo::Echo;
use super::frame::{self, FrameError, HEADER};
use super::sentinel::{Meaning, Sentinel};
use crate::source::acknowledgement::{Acknowledgement, InstalledRoute};
use crate::source::mirror::{End, EndOfTable, How, Mirror, Policy};
use crate::source::outlet::RouteChange;
use fibcast_netlink::{Malformed, Message, Messages, NextHop, Route, kind};

/// Why a session must be closed: the rest cannot be parsed. zebra reconnects and sends everything again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FpmError {
    /// An invalid frame.
    #[error("byte {at} of the session: {error}")]
    Frame {
        /// Offset of the frame in the session.
        at: u64,
        /// What is wrong.
        error: FrameError,
    },
    /// An invalid message in a frame.
    #[error("byte {at} of the session: {reason}")]
    Message {
        /// Offset in the session.
        at: u64,
        /// What is wrong.
        reason: &'static str,
    },
}

/// The configured rules of a receiver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// Accepted routes.
    pub policy: Policy,
    /// What makes the source ready the first time.
    pub how: How,
    /// Quiet time after which no more routes are expected.
    pub quiet: Duration,
    /// Routes that prove that the table is complete.
    pub sentinel: Sentinel,
    /// How long the routes of a lost zebra are kept; none: forever. Counted is the time without zebra since its last complete table, less
    /// the time with it, so that neither a connection nor a zebra that restarts again and again keeps them.
    pub hold: Option<Duration>,
}

/// What [`Receiver::turn`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// Nothing new.
    Nothing,
    /// The table is incomplete or its end unknown, but the source may count as ready after the current changes if it never was.
    Ready,
    /// The table is complete with the current changes.
    Complete,
}

/// Parses frames, mirrors zebra's table, and detects its end.
#[derive(Debug)]
pub struct Receiver {
    origin: String,
    rules: Rules,
    mirror: Mirror,
    end: EndOfTable,
    /// Tables whose sentinel has not arrived.
    sentinels: BTreeSet<u32>,
    /// Start of the session, and zebra's TCP port; none: no session.
    session: Option<(Instant, u16)>,
    /// Time of zebra's loss, while its routes are kept.
    gone_at: Option<Instant>,
    /// Time without zebra before that; see [`Rules::hold`].
    away: Duration,
    /// What the end of the table was detected by, in the last session.
    ended: Option<End>,
    /// Bytes of this session parsed so far.
    read: u64,
    route: Route,
    /// Answers to zebra, if it is told what is installed.
    echo: Option<Echo>,
    /// What was wrong with the last malformed message.
    complaint: Option<String>,
    sessions: u64,
    frames: u64,
    messages: u64,
    ignored: u64,
    malformed: u64,
    swept: u64,
}

impl Receiver {
    /// A receiver without a session. `origin` is for the log.
    pub fn new(origin: &str, rules: Rules) -> Self {
        Self {
            origin: origin.to_owned(),
            mirror: Mirror::new(rules.policy.clone()),
            end: EndOfTable::new(rules.how, rules.quiet),
            rules,
            sentinels: BTreeSet::new(),
            session: None,
            gone_at: None,
            away: Duration::ZERO,
            ended: None,
            read: 0,
            route: Route::default(),
            echo: None,
            complaint: None,
            sessions: 0,
            frames: 0,
            messages: 0,
            ignored: 0,
            malformed: 0,
            swept: 0,
        }
    }

    /// The same, with answers to zebra.
    #[must_use]
    pub fn with_echo(self) -> Self {
        Self { echo: Some(Echo::default()), ..self }
    }

    /// The owner of the RIB says what is installed, or overdue.
    pub fn acknowledge(&mut self, acknowledgement: &Acknowledgement) {
        let Some(echo) = &mut self.echo else { return };
        for InstalledRoute { vrf, prefix, group, failed } in &acknowledgement.routes {
            // Another group by now: an acknowledgement for that will follow.
            if self.mirror.group(*vrf, *prefix).is_some_and(|now| now.value == **group) {
                echo.acknowledge(*vrf, *prefix, *failed);
            }
        }
    }

    /// What was wrong with the last malformed message since the last call; `messages_malformed` counts them.
    pub fn poll_complaint(&mut self) -> Option<String> {
        self.complaint.take()
    }

    /// Appends answers for zebra, until there are about `limit` bytes.
    pub fn answers(&mut self, out: &mut Vec<u8>, limit: usize) {
        if let Some(echo) = self.echo.as_mut().filter(|_| self.session.is_some()) {
            echo.answers(out, limit);
        }
    }

    /// The mirror, for what is known of this host's interfaces.
    pub fn mirror_mut(&mut self) -> &mut Mirror {
        &mut self.mirror
    }

    /// Takes routes by another policy. What it does not take any more goes when zebra has sent its table again.
    pub fn follow(&mut self, policy: Policy) {
        self.rules.policy = policy.clone();
        self.mirror.follow(policy);
    }

    /// The RIB has routes of an earlier receiver.
    pub fn restarted(&mut self) {
        self.end.restarted();
    }

    /// zebra connected, from this port: it will send everything again, but not its earlier deletions.
    pub fn connected(&mut self, now: Instant, port: u16) {
        self.mirror.begin();
        if let Some(echo) = &mut self.echo {
            echo.begin();
        }
        self.end.begin(now, &self.mirror.figures());
        self.sentinels = self.rules.policy.vrfs.keys().copied().collect();
        self.session = Some((now, port));
        if let Some(gone_at) = self.gone_at.take() {
            self.away += now.saturating_duration_since(gone_at);
        }
        self.ended = None;
        self.read = 0;
        self.sessions += 1;
    }

    /// The session ended. The routes stay.
    pub fn disconnected(&mut self, now: Instant) {
        if let Some((since, _)) = self.session.take() {
            self.away = self.away.saturating_sub(now.saturating_duration_since(since));
            self.gone_at = Some(now);
        }
        self.end.gone();
    }

    /// Parses complete frames at the front of `bytes`; returns the number of bytes consumed. After an error the session must be closed.
    ///
    /// # Errors
    /// [`FpmError`] with the offset of what cannot be parsed.
    pub fn take(&mut self, bytes: &[u8]) -> Result<usize, FpmError> {
        let mut taken = 0;
        loop {
            let at = self.read;
            let frame = frame::first(bytes.get(taken..).unwrap_or_default());
            let Some((content, length)) = frame.map_err(|error| FpmError::Frame { at, error })? else {
                return Ok(taken);
            };
            self.frame(content)?;
            self.frames += 1;
            self.read += length as u64;
            taken += length;
        }
    }

    fn frame(&mut self, content: &[u8]) -> Result<(), FpmError> {
        for message in Messages::new(content) {
            let message = message.map_err(|Malformed { at, reason }| FpmError::Message {
                at: self.read + (HEADER + at) as u64,
                reason,
            })?;
            self.messages += 1;
            if let Err(Malformed { at, reason }) = self.message(&message) {
                // The start of the next message is known, so only this one is lost.
                self.malformed += 1;
                let at = self.read + (HEADER + at) as u64;
                self.complaint = Some(format!("byte {at} of the session: {reason}; message skipped"));
            }
        }
        Ok(())
    }

    fn message(&mut self, message: &Message<'_>) -> Result<(), Malformed> {
        match message.kind {
            kind::NEW_ROUTE | kind::DEL_ROUTE => {
                let mut route = std::mem::take(&mut self.route);
                let done = route.read(message).map(|is_route| {
                    if is_route {
                        self.route(message, &route);
                    } else {
                        self.ignored += 1;
                    }
                });
                self.route = route;
                done?;
            }
            kind::NEW_NEXTHOP => {
                let object = NextHop::read(message)?;
                if !self.mirror.define(object.id, object.definition) {
                    self.ignored += 1;
                }
            }
            kind::DEL_NEXTHOP => self.mirror.undefine(NextHop::read(message)?.id, false),
            // Neighbors, labels, rules.
            _ => self.ignored += 1,
        }
        Ok(())
    }

    fn route(&mut self, message: &Message<'_>, route: &Route) {
        let new = message.kind == kind::NEW_ROUTE;
        let Some(vrf) = self.mirror.vrf(route) else { return };
        match self.rules.sentinel.meaning(route.prefix) {
            Some(Meaning::Table) => {
                if new && self.sentinels.remove(&route.table) && self.sentinels.is_empty() {
                    self.end.sentinel();
                }
                return;
            }
            Some(Meaning::Session(port)) => {
                if new && self.session.is_some_and(|(_, own)| own == port) {
                    self.end.sentinel_of_session();
                }
                return;
            }
            None => {}
        }
        // zebra has one route per prefix: a withdrawal or an unwanted replacement refers to it.
        if new && self.mirror.takes_protocol(route) {
            // RTA_PRIORITY is a constant here, not the metric of the protocol.
            let before = self.echo.as_ref().and_then(|_| self.mirror.group(vrf, route.prefix));
            self.mirror.set(vrf, route, false);
            if let Some(echo) = &mut self.echo {
                let group = self.mirror.group(vrf, route.prefix);
                // Without a group it cannot be used, or its object is not known yet.
                echo.heard(vrf, route.prefix, message.body, group.is_some() && group == before);
            }
        } else {
            self.mirror.remove(vrf, route.prefix);
            if let Some(echo) = &mut self.echo {
                echo.gone(vrf, route.prefix);
            }
        }
    }

    /// Handles what is due by `now`. Call it when all available data was parsed.
    pub fn turn(&mut self, now: Instant) -> Turn {
        if let Some(gone_at) = self.gone_at
            && self.rules.hold.is_some_and(|hold| self.away + now.saturating_duration_since(gone_at) >= hold)
        {
            self.gone_at = None;
            self.mirror.begin();
            let swept = self.mirror.sweep();
            self.swept += swept;
            tracing::error!(
                "source {:?}: zebra did not return within hold_s; {swept} routes withdrawn",
                self.origin
            );
        }
        let ready = self.end.gives_readiness();
        let Some(end) = self.end.reached(now, &self.mirror.figures()) else { return Turn::Nothing };
        self.ended = Some(end);
        if end.is_complete() {
            self.away = Duration::ZERO;
            let swept = self.mirror.sweep();
            self.swept += swept;
            let (live, by) = (self.mirror.figures().live, end.name());
            tracing::info!(
                "source {:?}: zebra's table is complete ({by}): {live} routes; {swept} stale routes withdrawn",
                self.origin
            );
            return Turn::Complete;
        }
        self.warn_of_quiet();
        if ready { Turn::Ready } else { Turn::Nothing }
    }

    /// No more routes come, and nothing says that the table is complete.
    fn warn_of_quiet(&self) {
        let figures = self.mirror.figures();
        let (live, seconds) = (figures.live, self.rules.quiet.as_secs());
        let Some((_, port)) = self.session.filter(|_| figures.stale > 0) else {
            tracing::warn!(
                "source {:?}: no new route for {seconds} s: taken for ready with {live} routes, though no sentinel says that \
                 zebra's table is complete; run fibcast-sentinel beside zebra",
                self.origin
            );
            return;
        };
        let found = if self.sentinels.is_empty() {
            "the sentinel found is older than the session"
        } else {
            "no sentinel"
        };
        tracing::warn!(
            "source {:?}: no new route for {seconds} s, and {found}: {} of {live} routes stay stale until zebra replaces or \
             withdraws them; run fibcast-sentinel beside zebra, or when FRR has converged: ipv6 route {} blackhole",
            self.origin,
            figures.stale,
            self.rules.sentinel.of_session(port)
        );
    }

    /// Net changes for the RIB, about `limit` at most; empty if there are none.
    pub fn changes(&mut self, now: Instant, limit: usize) -> Vec<RouteChange> {
        let mut changes = self.mirror.turn(now);
        changes.append(&mut self.mirror.changes(limit));
        if let Some(echo) = &mut self.echo {
            changes.iter().for_each(|change| echo.changed(change.vrf, change.prefix));
        }
        changes
    }

    /// State as one word.
    pub fn state(&self) -> &'static str {
        match (self.session, self.sessions) {
            (Some(_), _) if self.end.waits() => "loading",
            (Some(_), _) if self.end.is_unproved() => "incomplete",
            (Some(_), _) => "live",
            (None, 0) => "waiting",
            (None, _) => "disconnected",
        }
    }

    /// What the end of the table was detected by, in the last session.
    pub fn end_of_table(&self) -> Option<&'static str> {
        self.ended.map(End::name)
    }

    /// Names and values for status and metrics.
    pub fn counters(&self) -> Vec<(&'static str, u64)> {
        let mut counters = vec![
            ("sessions", self.sessions),
            ("frames", self.frames),
            ("messages", self.messages),
            ("messages_ignored", self.ignored),
            ("messages_malformed", self.malformed),
            ("routes_swept", self.swept),
        ];
        counters.extend(self.mirror.counters());
        counters.extend(self.echo.iter().flat_map(Echo::counters));
        counters
    }
}
