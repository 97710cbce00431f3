//! Applies zebra's stream to the mirror of its table. No socket, no clock.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use ipnet::IpNet;

use super::frame::{self, FrameError, HEADER};
use crate::source::limit::Limit;
use crate::source::mirror::{EndOfTable, How, Mirror, Policy};
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
    /// How the end of the table is detected.
    pub how: How,
    /// Quiet time that counts as the end of the table.
    pub quiet: Duration,
    /// The route that an operator's helper installs last (sentinel).
    pub sentinel: IpNet,
    /// How long the routes of a lost zebra are kept; none: forever.
    pub hold: Option<Duration>,
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
    connected: bool,
    /// Time of zebra's loss, while its routes are kept.
    gone_at: Option<Instant>,
    /// Bytes of this session parsed so far.
    read: u64,
    route: Route,
    log: Limit,
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
            connected: false,
            gone_at: None,
            read: 0,
            route: Route::default(),
            log: Limit::default(),
            sessions: 0,
            frames: 0,
            messages: 0,
            ignored: 0,
            malformed: 0,
            swept: 0,
        }
    }

    /// zebra connected: it will send everything again, but not its earlier deletions.
    pub fn connected(&mut self, now: Instant) {
        self.mirror.begin();
        self.end.begin(now, &self.mirror.figures());
        self.sentinels = self.rules.policy.vrfs.keys().copied().collect();
        self.connected = true;
        self.gone_at = None;
        self.read = 0;
        self.sessions += 1;
    }

    /// The session ended. The routes stay.
    pub fn disconnected(&mut self, now: Instant) {
        self.connected = false;
        self.gone_at = Some(now);
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
                if self.log.allows() {
                    let at = self.read + (HEADER + at) as u64;
                    tracing::warn!(
                        "source {:?}: byte {at} of the session: {reason}; message skipped",
                        self.origin
                    );
                }
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
                        self.route(message.kind == kind::NEW_ROUTE, &route);
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

    fn route(&mut self, new: bool, route: &Route) {
        let Some(vrf) = self.mirror.vrf(route) else { return };
        if route.prefix == self.rules.sentinel {
            if new && self.sentinels.remove(&route.table) && self.sentinels.is_empty() {
                self.end.sentinel();
            }
            return;
        }
        // zebra has one route per prefix: a withdrawal or an unwanted replacement refers to it.
        if new && self.mirror.takes_protocol(route) {
            // RTA_PRIORITY is a constant here, not the metric of the protocol.
            self.mirror.set(vrf, route, false);
        } else {
            self.mirror.remove(vrf, route.prefix);
        }
    }

    /// Handles what is due by `now`. Call it when all available data was parsed. True: the end of the table follows the current changes.
    pub fn turn(&mut self, now: Instant) -> bool {
        if let Some(gone_at) = self.gone_at
            && self.rules.hold.is_some_and(|hold| now.saturating_duration_since(gone_at) >= hold)
        {
            self.gone_at = None;
            self.mirror.begin();
            let swept = self.mirror.sweep();
            self.swept += swept;
            tracing::error!("source {:?}: zebra did not return; {swept} routes withdrawn", self.origin);
        }
        let reached = self.end.reached(now, &self.mirror.figures());
        if reached {
            let swept = self.mirror.sweep();
            self.swept += swept;
            tracing::info!(
                "source {:?}: zebra's table is complete: {} routes; {swept} stale routes withdrawn",
                self.origin,
                self.mirror.figures().live
            );
        }
        reached
    }

    /// Net changes for the RIB, about `limit` at most; empty if there are none.
    pub fn changes(&mut self, now: Instant, limit: usize) -> Vec<RouteChange> {
        let mut changes = self.mirror.turn(now);
        changes.append(&mut self.mirror.changes(limit));
        changes
    }

    /// State as one word.
    pub fn state(&self) -> &'static str {
        match (self.connected, self.end.waits(), self.sessions) {
            (true, true, _) => "loading",
            (true, false, _) => "live",
            (false, _, 0) => "waiting",
            (false, ..) => "disconnected",
        }
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
        counters
    }
}
