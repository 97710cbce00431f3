//! Asks the four copies of the table what they hold.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use fibcast_control::protocol::{Answer, DataplaneRequest, Request};
use fibcast_control::status::{Role, Status};
use fibcast_control::{ask, tables::DropList};

/// A daemon with a copy of the table.
#[derive(Debug)]
pub struct Watched {
    /// Its name.
    pub name: &'static str,
    /// Its control socket.
    pub socket: PathBuf,
    /// The last answer; none while it is not there.
    pub status: Option<Status>,
}

impl Watched {
    /// Nothing is asked yet.
    pub fn new(name: &'static str, folder: &Path) -> Watched {
        Watched { name, socket: folder.join(format!("{name}.sock")), status: None }
    }

    /// Queries all daemons again.
    pub fn refresh(&mut self) {
        self.status = match ask(&self.socket, &Request::Status, Duration::from_secs(2)) {
            Ok(Answer::Status(status)) => Some(*status),
            _ => None,
        };
    }

    /// Counters of packets and drops, of a dataplane.
    pub fn drops(&self) -> Option<DropList> {
        match ask(&self.socket, &DataplaneRequest::Drops.into(), Duration::from_secs(2)) {
            Ok(Answer::Drops(drops)) => Some(drops),
            _ => None,
        }
    }

    /// Root digest of its table, empty while it is not there.
    pub fn digest(&self) -> &str {
        self.status.as_ref().map_or("", |status| &status.table.digest)
    }

    /// Routes of both families.
    pub fn routes(&self) -> u64 {
        self.status.as_ref().map_or(0, |status| status.table.ipv4_routes + status.table.ipv6_routes)
    }

    /// The server that it uses.
    pub fn active(&self) -> Option<Role> {
        self.status.as_ref()?.sync.as_ref()?.active
    }

    /// Times that it changed servers.
    pub fn failovers(&self) -> u64 {
        self.status.as_ref().and_then(|status| status.sync.as_ref()).map_or(0, |sync| sync.failovers)
    }
}

/// All copies are there, equal, and not empty.
pub fn all_equal(copies: &[Watched]) -> bool {
    let first = copies.first().map_or("", Watched::digest);
    !first.is_empty() && copies.iter().all(|copy| copy.digest() == first && copy.routes() > 0)
}

/// All copies are ready and have the same number of routes, which route changes leave as it is.
pub fn all_loaded(copies: &[Watched]) -> bool {
    let routes = copies.first().map_or(0, Watched::routes);
    let ready = |copy: &Watched| copy.status.as_ref().is_some_and(|status| status.ready);
    routes > 0 && copies.iter().all(|copy| ready(copy) && copy.routes() == routes)
}

/// Turns a growing count into a rate.
#[derive(Debug)]
pub struct Rate {
    last: Option<(Instant, u64)>,
    /// Per second.
    pub value: f64,
}

impl Rate {
    /// Nothing counted yet.
    pub fn new() -> Rate {
        Rate { last: None, value: 0.0 }
    }

    /// The count now.
    pub fn update(&mut self, count: u64) {
        let now = Instant::now();
        if let Some((then, before)) = self.last {
            let seconds = now.duration_since(then).as_secs_f64();
            if seconds < 0.1 {
                return;
            }
            // A restarted daemon counts from 0.
            self.value = count.saturating_sub(before) as f64 / seconds;
        }
        self.last = Some((now, count));
    }
}
