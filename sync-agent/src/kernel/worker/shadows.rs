//! What the thread does about routes of others in its tables: it hears that one changed, and tells which of ours they shadow.

use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::time::Instant;

use fibcast_netlink::{Received, Route};

use super::super::foreign::{Found, News};
use super::super::table::RouteKey;
use super::Worker;

/// Most reads of notifications in one turn: whoever changes routes all the time must not keep a batch waiting.
const READS: usize = 64;

/// Name of an interface by its index.
fn name_of(interface: u32) -> Option<String> {
    let socket = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).ok()?;
    rustix::net::netdevice::index_to_name(socket.as_fd(), interface).ok()
}

impl Worker {
    /// A reading of the tables found these routes of others.
    pub(super) fn foreign_found(&mut self, found: Found) {
        self.foreign.replace(found);
        self.judge_foreign();
    }

    pub(super) fn judge_foreign(&mut self) {
        let keys = self.foreign.keys();
        let count = self.foreign.count();
        self.show(|status| status.foreign = count);
        self.log_shadows(&keys);
    }

    /// Tells which of these routes others shadow now, and which they shadow no more.
    pub(super) fn log_shadows(&mut self, keys: &[RouteKey]) {
        if self.foreign.is_quiet() {
            return;
        }
        let mut logged = false;
        for key in keys {
            let Some(news) = self.foreign.judge(*key, &self.table) else { continue };
            logged = true;
            if self.log.line(self.start.elapsed()).is_none() {
                continue;
            }
            let (vrf, prefix) = *key;
            let metric = self.config.metric;
            let table = self.config.table_of(vrf).unwrap_or_default();
            match news {
                News::Shadowed(key, other) => tracing::error!(
                    "kernel table {table}: {prefix} (metric {metric}) is shadowed by {}",
                    other.describe(key, table, name_of(other.interface).as_deref())
                ),
                News::Over(_) => tracing::info!("kernel table {table}: {prefix} is not shadowed any more"),
            }
        }
        if logged {
            let (shadowed, example) = self.foreign.shadowed();
            let text = example.map(|(key, other)| {
                let table = self.config.table_of(key.0).unwrap_or_default();
                format!("{} by {}", key.1, other.describe(key, table, name_of(other.interface).as_deref()))
            });
            self.show(|status| (status.shadowed, status.shadow) = (shadowed, text));
        }
    }

    /// Reads notifications about routes that others change. What they did is found by comparing.
    pub(super) fn listen_to_others(&mut self) {
        let tables = self.config.tables();
        let mut route = Route::default();
        let mut changed = false;
        for _ in 0..READS {
            match self.others.receive() {
                Ok(Received::Nothing) | Err(_) => break,
                Ok(Received::Lost) => changed = true,
                Ok(Received::Messages(messages)) => {
                    for message in messages.flatten() {
                        changed |= route.read(&message) == Ok(true) && tables.contains_key(&route.table);
                    }
                }
            }
        }
        if changed {
            self.scrub.hurry(Instant::now());
        }
    }
}
