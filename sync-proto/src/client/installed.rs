//! Tells the active server which serial of its table the sink forwards by, and which routes it does not forward by all the same.
//!
//! The owner knows the serial as one of its own table. [`SerialMap`](crate::serial_map::SerialMap) translates it. What is refused goes first, so
//! that the server never takes a route for installed that the sink has refused. While the list of refusals is incomplete, the serial does
//! not grow.

use std::time::Duration;

use super::link::Phase;
use super::{Client, LinkId};
use crate::frame::Frame;
use crate::mutation::{Mutation, on};
use crate::refusal::{LIMIT, Refusals};

/// Shortest time between two reports to a server.
const INTERVAL: Duration = Duration::from_millis(5);

/// What is to be reported to a server.
struct News {
    link: LinkId,
    epoch: u64,
    /// The serial, if that is news; none: nothing is installed any more.
    installed: Option<Option<u64>>,
    refusals: bool,
}

impl Client {
    /// Everything up to this serial of the owner's table is installed, except for what is refused; none: nothing is, whatever was reported
    /// before. Reports it to the active server when it is news, a few milliseconds later if the last report was just sent.
    pub fn handle_installed(&mut self, now: Duration, serial: Option<u64>, refused: Option<&Refusals>) {
        self.installed = serial;
        if let Some(refused) = refused.filter(|refused| refused.version() != self.refusals.version()) {
            self.refusals.clone_from(refused);
        }
        self.report_installed(now);
    }

    fn news(&self) -> Option<News> {
        let id = self.active?;
        let link = self.links.get(id).filter(|l| matches!(l.phase, Phase::Active { synced: true, .. }))?;
        let (epoch, _) = self.base?;
        let before = link.reported.map(|(before, _)| before);
        let known = before.filter(|(of, _)| *of == epoch).and_then(|(_, serial)| serial);
        let installed = match self.installed.map(|serial| self.equals.get(serial)) {
            // Older than all that it has equalled.
            Some(None) => None,
            // What is not listed may be among what is new.
            Some(Some(serial)) if self.refusals.more() > 0 => known.map(|known| Some(serial.min(known))),
            Some(serial) => Some(serial),
            // A server to which nothing was reported need not hear that nothing is left.
            None => before.map(|_| None),
        };
        let installed = installed.filter(|serial| before != Some((epoch, *serial)));
        let refusals = match &link.refusals_sent {
            Some((sent, _)) => sent.version() != self.refusals.version(),
            None => !self.refusals.is_empty(),
        };
        let refusals = refusals && !on(Mutation::HideRefusals);
        (installed.is_some() || refusals).then_some(News { link: id, epoch, installed, refusals })
    }

    pub(super) fn report_installed(&mut self, now: Duration) {
        let Some(News { link: id, epoch, installed, refusals }) = self.news() else { return };
        if self.report_due().is_none_or(|due| due > now) {
            return;
        }
        let Some(link) = self.links.get_mut(id) else { return };
        if refusals {
            let (mut whole, nothing) = (link.refusals_sent.is_none(), Refusals::default());
            let before = link.refusals_sent.as_ref().map_or(&nothing, |(sent, _)| sent);
            let (changes, more) = (self.refusals.changes_from(before), self.refusals.more());
            let mut changes = changes.chunks(LIMIT);
            // The number alone may have changed.
            let mut part = changes.next().unwrap_or_default();
            loop {
                let routes = part.to_vec();
                link.out.frame(&Frame::Refused { epoch, whole: std::mem::take(&mut whole), more, routes });
                let Some(next) = changes.next() else { break };
                part = next;
            }
            link.refusals_sent = Some((self.refusals.clone(), now));
        }
        if let Some(serial) = installed {
            link.out.frame(&Frame::Installed { epoch, serial });
            link.reported = Some(((epoch, serial), now));
        }
    }

    /// When a report is due: at once if it takes an earlier one back.
    pub(super) fn report_due(&self) -> Option<Duration> {
        let news = self.news()?;
        if news.installed == Some(None) {
            return Some(Duration::ZERO);
        }
        let link = self.links.get(news.link)?;
        let reported = link.reported.map(|(_, at)| at);
        let sent = link.refusals_sent.as_ref().map(|(_, at)| *at);
        Some(reported.max(sent).map_or(Duration::ZERO, |at| at + INTERVAL))
    }
}
