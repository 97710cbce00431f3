//! Selection of the active server: the first capable one, where *capable* means alive and ready.
//!
//! The active server is left when its connection is lost, or when it is not ready while another one is; for a preferred one only after that
//! has been capable for the failback time. The table stays unchanged meanwhile. It is also left when it is stalled ([`super::lag`]), and
//! then avoided for a while as long as another one is capable.

use std::time::Duration;

use super::incoming::Intake;
use super::lag::{Lag, Position};
use super::link::Phase;
use super::{Action, Client, ClientEvent, LinkId};
use crate::frame::Frame;
use crate::mutation::{Mutation, on};
use crate::table::Table;
use crate::wire::ProtocolError;

impl Client {
    pub(super) fn reconnect(&mut self, now: Duration) {
        for (id, link) in self.links.iter_mut().enumerate() {
            if matches!(link.phase, Phase::Down { retry_at } if retry_at <= now) {
                link.phase = Phase::Connecting { since: now };
                self.actions.push_back(Action::Connect(id));
            }
        }
    }

    pub(super) fn lose(&mut self, now: Duration, id: LinkId, error: ProtocolError) {
        let Some(link) = self.links.get_mut(id) else { return };
        if matches!(link.phase, Phase::Down { .. }) {
            return;
        }
        link.down(now, &error, &self.config);
        let active = self.active == Some(id);
        if active {
            self.active = None;
            self.lost_at.get_or_insert(now);
        }
        self.events.push_back(ClientEvent::Lost { link: id, error, active });
    }

    /// Activates the selected server, if it is not active yet.
    pub(super) fn select(&mut self, now: Duration, table: &mut Table) {
        let Some(best) = self.choose(now) else { return };
        if let Some(old) = self.active.filter(|&old| old != best)
            && let Some(link) = self.links.get_mut(old).filter(|l| l.is_registered())
        {
            link.out.frame(&Frame::Deactivate);
            if self.lag.is_stalled() {
                link.avoid(now);
            }
            link.phase =
                if on(Mutation::NoStopping) { Phase::Standby } else { Phase::Stopping { since: now } };
            self.lost_at.get_or_insert(now);
        }
        self.active = Some(best);
        self.activate(now, best, table);
    }

    /// Requests data from a server in standby.
    pub(super) fn activate(&mut self, now: Duration, id: LinkId, table: &Table) {
        let Some(link) = self.links.get_mut(id) else { return };
        let epoch_here = link.state.as_ref().map(|s| s.epoch);
        let known = |epoch: u64| Some(epoch) == epoch_here || on(Mutation::IgnoreEpoch);
        let (mut epoch, serial) = self.base.filter(|(epoch, _)| known(*epoch)).unwrap_or((0, 0));
        if on(Mutation::IgnoreEpoch) && epoch != 0 {
            epoch = epoch_here.unwrap_or(epoch);
        }
        // Mismatches count only for this server, and recent ones: otherwise it is compared like any other.
        let copy = self.mismatches >= 2;
        link.out.frame(&Frame::Activate { epoch, serial, digest: table.digest(), copy });
        (link.reported, link.refusals_sent) = (None, None);
        let intake = Box::new(Intake::new(self.config.pending));
        self.lag = Lag::default();
        link.phase = Phase::Active { intake, asked: now, progress: now, synced: false };
    }

    /// The server to switch to; none to keep the current state.
    fn choose(&self, now: Duration) -> Option<LinkId> {
        let capable = |id: LinkId| {
            self.links.get(id).is_some_and(|l| matches!(l.phase, Phase::Standby) && l.is_ready())
        };
        let avoided = |id: LinkId| self.links.get(id).is_some_and(|l| now < l.avoided_until);
        let liked = (0..self.links.len()).find(|&id| capable(id) && !avoided(id));
        let best = liked.or_else(|| (0..self.links.len()).find(|&id| capable(id)))?;
        let Some(active) = self.active else {
            let first_may_come =
                self.links.first().is_some_and(|l| l.is_registered() || l.last_error.is_none());
            let wait = self.last_active.is_none()
                && best != 0
                && first_may_come
                && now < self.started + self.config.grace;
            return (!wait).then_some(best);
        };
        let in_use = self.links.get(active)?;
        if !in_use.is_ready() {
            return Some(best);
        }
        let best = liked?;
        if self.is_stalled() {
            return Some(best);
        }
        let since = self.links.get(best)?.ready_since?;
        if on(Mutation::NeverFailBack) {
            return None;
        }
        let due = if on(Mutation::FailBackAtOnce) { since } else { since + self.config.failback? };
        let due = due.max(self.links.get(best)?.avoided_until);
        (best < active && now >= due).then_some(best)
    }

    /// Time at which [`Self::choose`] may have another result without input.
    pub(super) fn selection_due(&self) -> Option<Duration> {
        let Some(active) = self.active else {
            let waiting = self.last_active.is_none()
                && self.links.iter().any(|l| matches!(l.phase, Phase::Standby) && l.is_ready());
            return waiting.then_some(self.started + self.config.grace);
        };
        let watched = matches!(self.links.get(active)?.phase, Phase::Active { .. }) && !self.lag.is_stalled();
        let stall = self.lag.since().filter(|_| watched).map(|at| at + self.config.progress);
        let standby = self.links.iter().enumerate().filter(|(_, l)| matches!(l.phase, Phase::Standby));
        let better = standby.filter_map(|(id, l)| {
            let ready = l.ready_since?;
            // A stalled server is left for any other one as soon as that is not avoided.
            match self.is_stalled() {
                true => Some(l.avoided_until.max(ready)),
                false if id < active => Some((ready + self.config.failback?).max(l.avoided_until)),
                false => None,
            }
        });
        better.chain(stall).min()
    }

    /// Evaluates the lag behind the active server.
    pub(super) fn watch_lag(&mut self, now: Duration) {
        let pause = now.saturating_sub(std::mem::replace(&mut self.lag_checked, now));
        if pause > self.config.heartbeat * 3 {
            self.lag.excuse(now);
        }
        let Some((id, link)) = self.active.and_then(|id| Some((id, self.links.get_mut(id)?))) else { return };
        let (Phase::Active { synced, asked, .. }, Some(state)) = (&link.phase, &link.state) else { return };
        let (synced, asked, theirs) = (*synced, *asked, state.serial);
        let ours = self.base.filter(|(epoch, _)| synced && *epoch == state.epoch).map(|(_, serial)| serial);
        let stalled = self.lag.watch(now, Position { ours, theirs, data: link.data() }, self.config.progress);
        if synced && !self.lag.is_stalled() {
            link.forgive(now, asked);
        }
        if stalled && !on(Mutation::IgnoreLag) {
            self.counters.stalls += 1;
            let left = self.choose(now).is_some();
            let behind = ours.map(|ours| theirs.saturating_sub(ours));
            self.events.push_back(ClientEvent::Stalled { link: id, behind, left });
        }
    }
}
