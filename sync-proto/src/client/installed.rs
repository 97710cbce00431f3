//! Tells the active server which serial of its table the sink forwards by.
//!
//! The owner knows this as a serial of its own table. [`SerialMap`](crate::serial_map::SerialMap) translates it.

use std::time::Duration;

use super::link::Phase;
use super::{Client, LinkId};
use crate::frame::Frame;

/// Shortest time between two reports to a server.
const INTERVAL: Duration = Duration::from_millis(5);

impl Client {
    /// Everything up to this serial of the owner's table is installed; none: nothing is, whatever was reported before. Reports it to the active
    /// server when it is news, a few milliseconds later if the last report was just sent.
    pub fn handle_installed(&mut self, now: Duration, serial: Option<u64>) {
        self.installed = serial;
        self.report_installed(now);
    }

    /// The link, and the epoch and serial of its server's table that it is to be told.
    fn report(&self) -> Option<(LinkId, (u64, Option<u64>))> {
        let id = self.active?;
        let link = self.links.get(id).filter(|l| matches!(l.phase, Phase::Active { synced: true, .. }))?;
        let (epoch, _) = self.base?;
        let news = match self.installed {
            Some(serial) => (epoch, Some(self.equals.get(serial)?)),
            // A server that was told nothing need not hear that nothing is left.
            None => link.reported.map(|_| (epoch, None))?,
        };
        link.reported.is_none_or(|(before, _)| before != news).then_some((id, news))
    }

    pub(super) fn report_installed(&mut self, now: Duration) {
        let Some((id, news)) = self.report() else { return };
        if self.report_due().is_none_or(|due| due > now) {
            return;
        }
        let Some(link) = self.links.get_mut(id) else { return };
        let (epoch, serial) = news;
        link.out.frame(&Frame::Installed { epoch, serial });
        link.reported = Some((news, now));
    }

    /// When a report is due: at once if it takes an earlier one back.
    pub(super) fn report_due(&self) -> Option<Duration> {
        let (id, (_, serial)) = self.report()?;
        let last = self.links.get(id)?.reported.filter(|_| serial.is_some());
        Some(last.map_or(Duration::ZERO, |(_, at)| at + INTERVAL))
    }
}
