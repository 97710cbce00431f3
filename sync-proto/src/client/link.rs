//! One connection to a server, from Connecting to Active.

use std::time::Duration;

use super::incoming::Intake;
use super::types::{ClientConfig, LinkStatus};
use crate::frame::{Frame, Inbox, Role, State};
use crate::mutation::{Mutation, on};
use crate::outbox::Outbox;
use crate::refusal::Refusals;
use crate::wire::ProtocolError;

/// How long a stalled server is avoided the first time; doubles up to [`MAX_AVOIDANCE`] until it has been in sync for as long.
const AVOIDANCE: Duration = Duration::from_secs(10);
const MAX_AVOIDANCE: Duration = Duration::from_secs(60);
/// Most bytes that wait for a server. The largest request, for the records of a difference, is a quarter of this.
const MAX_OUT: usize = 512 * 1024;
/// Heartbeats that may be missed.
const MISSED: u32 = 3;
/// Timeout for connection setup and greeting.
const GREETING: Duration = Duration::from_secs(5);
/// Longest pause between two data frames of an activated server.
const PROGRESS: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) enum Phase {
    Down {
        retry_at: Duration,
    },
    Connecting {
        since: Duration,
    },
    Greeting {
        since: Duration,
    },
    Standby,
    /// Deactivated: frames before the server's Welcome are outdated.
    Stopping {
        since: Duration,
    },
    Active {
        intake: Box<Intake>,
        asked: Duration,
        progress: Duration,
        synced: bool,
    },
}

#[derive(Debug)]
pub(super) struct Link {
    pub role: Role,
    pub phase: Phase,
    pub inbox: Inbox,
    pub out: Outbox,
    pub name: Option<String>,
    pub state: Option<State>,
    /// Time since which it has been ready without interruption.
    pub ready_since: Option<Duration>,
    pub heard: Duration,
    pub received: u64,
    pub last_error: Option<String>,
    pub pause: Duration,
    /// The last Installed since its activation, and when that was sent.
    pub reported: Option<((u64, Option<u64>), Duration)>,
    /// What was reported to its server of refused routes since the activation, and when.
    pub refusals_sent: Option<(Refusals, Duration)>,
    /// Bytes of frames without data.
    pub control: u64,
    /// It was stalled when it was active: another server is preferred until then.
    pub avoided_until: Duration,
    /// How long it is avoided the next time.
    pub avoidance: Duration,
    next_heartbeat: Duration,
}

impl Link {
    pub fn new(role: Role, now: Duration) -> Self {
        Self {
            role,
            phase: Phase::Down { retry_at: now },
            inbox: Inbox::default(),
            out: Outbox::default(),
            name: None,
            state: None,
            ready_since: None,
            heard: now,
            received: 0,
            last_error: None,
            pause: Duration::ZERO,
            reported: None,
            refusals_sent: None,
            control: 0,
            avoided_until: Duration::ZERO,
            avoidance: AVOIDANCE,
            next_heartbeat: now,
        }
    }

    pub fn greet(&mut self, now: Duration, config: &ClientConfig) {
        self.out.clear();
        self.inbox = Inbox::default();
        self.out.frame(&Frame::Hello { name: config.name.clone() });
        let (table, role, heartbeat_ms) =
            (config.table.clone(), self.role, config.heartbeat.as_millis() as u64);
        // The path is empty: a client that gets its table only from this server cannot close a loop. What it gets from others is checked by
        // the server's own state, which carries the path of the served table.
        let (path, subset) = (Vec::new(), config.subset.clone());
        let digest_key = config.digest_key;
        self.out.frame(&Frame::Register { table, role, heartbeat_ms, digest_key, path, subset });
        self.heard = now;
        self.phase = Phase::Greeting { since: now };
    }

    pub fn is_registered(&self) -> bool {
        matches!(self.phase, Phase::Standby | Phase::Stopping { .. } | Phase::Active { .. })
    }

    pub fn is_ready(&self) -> bool {
        self.is_registered() && self.state.as_ref().is_some_and(|s| s.ready || on(Mutation::AcceptUnready))
    }

    /// The server reports that its table has no capable source.
    pub fn is_stale(&self) -> bool {
        self.state.as_ref().is_some_and(|s| s.stale)
    }

    pub fn set_state(&mut self, now: Duration, state: State) {
        if !state.ready && !on(Mutation::AcceptUnready) {
            self.ready_since = None;
        } else if self.ready_since.is_none() {
            self.ready_since = Some(now);
        }
        self.state = Some(state);
    }

    /// Bytes of data received since the start.
    pub fn data(&self) -> u64 {
        self.received.saturating_sub(self.control)
    }

    /// The server was stalled; others are preferred for a while.
    pub fn avoid(&mut self, now: Duration) {
        self.avoided_until = now + self.avoidance;
        self.avoidance = (self.avoidance * 2).min(MAX_AVOIDANCE);
    }

    /// The server has been in sync since it was activated at `since`.
    pub fn forgive(&mut self, now: Duration, since: Duration) {
        if now.saturating_sub(since) >= self.avoidance {
            self.avoidance = AVOIDANCE;
        }
    }

    /// Bytes of memory of what was received and not applied, or not sent.
    pub fn pending_bytes(&self) -> usize {
        let batch = match &self.phase {
            Phase::Active { intake, .. } => intake.pending_bytes(),
            _ => 0,
        };
        batch + self.inbox.held() + self.out.len()
    }

    /// Refuses a server that asks and does not read.
    pub fn check_out(&self) -> Result<(), ProtocolError> {
        if self.out.len() <= MAX_OUT {
            return Ok(());
        }
        Err(ProtocolError::Budget(format!("does not read: more than {MAX_OUT} bytes wait for it")))
    }

    pub fn path(&self) -> Vec<String> {
        let mut path = self.state.as_ref().map(|s| s.path.clone()).unwrap_or_default();
        path.extend(self.name.clone());
        path
    }

    pub fn down(&mut self, now: Duration, error: &ProtocolError, config: &ClientConfig) {
        self.pause =
            if self.pause.is_zero() { config.retry_min } else { (self.pause * 2).min(config.retry_max) };
        self.phase = Phase::Down { retry_at: now + self.pause };
        self.last_error = Some(error.to_string());
        self.state = None;
        self.ready_since = None;
        self.out.clear();
        self.inbox = Inbox::default();
    }

    pub fn handle_timeout(&mut self, now: Duration, heartbeat: Duration) -> Result<(), ProtocolError> {
        match &self.phase {
            Phase::Down { .. } => return Ok(()),
            Phase::Connecting { since } | Phase::Greeting { since } => {
                let waited = now.saturating_sub(*since);
                return if waited >= GREETING {
                    Err(ProtocolError::Silent(waited.as_millis() as u64))
                } else {
                    Ok(())
                };
            }
            Phase::Active { progress, synced: false, .. } if now.saturating_sub(*progress) >= PROGRESS => {
                let text = format!("no data within {} s of Activate", PROGRESS.as_secs());
                return Err(ProtocolError::Refused(text));
            }
            Phase::Stopping { since } if now.saturating_sub(*since) >= PROGRESS => {
                return Err(ProtocolError::Refused("no answer to Deactivate".into()));
            }
            _ => {}
        }
        if now >= self.next_heartbeat {
            // A delayed call on our side says nothing about the server.
            if now > self.next_heartbeat + heartbeat * 2 && self.next_heartbeat > Duration::ZERO {
                self.heard = now;
            }
            self.next_heartbeat = now + heartbeat;
            self.out.frame(&Frame::Heartbeat(None));
            self.check_out()?;
        }
        let silent = now.saturating_sub(self.heard);
        if silent >= heartbeat * MISSED && !on(Mutation::DeafToSilence) {
            return Err(ProtocolError::Silent(silent.as_millis() as u64));
        }
        Ok(())
    }

    pub fn start_heartbeats(&mut self, now: Duration, heartbeat: Duration) {
        self.next_heartbeat = now + heartbeat;
    }

    pub fn due(&self, heartbeat: Duration) -> Option<Duration> {
        Some(match &self.phase {
            Phase::Down { retry_at } => *retry_at,
            Phase::Connecting { since } | Phase::Greeting { since } => *since + GREETING,
            Phase::Active { .. } | Phase::Standby | Phase::Stopping { .. } => {
                self.next_heartbeat.min(self.heard + heartbeat * MISSED)
            }
        })
    }

    pub fn status(&self) -> LinkStatus {
        LinkStatus {
            role: self.role,
            name: self.name.clone(),
            state: match &self.phase {
                Phase::Down { .. } => "down",
                Phase::Connecting { .. } => "connecting",
                Phase::Greeting { .. } => "greeting",
                Phase::Standby => "standby",
                Phase::Stopping { .. } => "stopping",
                Phase::Active { synced: true, .. } => "active",
                Phase::Active { synced: false, .. } => "activating",
            },
            ready: self.is_ready(),
            stale: self.is_stale(),
            avoided: false,
            announced: self.state.as_ref().map(|s| (s.epoch, s.serial)),
            received_bytes: self.received,
            last_error: self.last_error.clone(),
        }
    }
}
