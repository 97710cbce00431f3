//! Changes by an operator at run time: static neighbors and routes of the host.

use std::net::IpAddr;
use std::time::Instant;

use fibcast_fib::{Change, GroupLabel, PortId, VrfId};
use ipnet::IpNet;

use super::own_routes::{RemoveError, StaticRoute};
use super::{Batch, Control};
use crate::packet::ethernet::Mac;

impl Control {
    /// Adds a static neighbor.
    pub fn add_neighbor(&mut self, port: PortId, address: IpAddr, mac: Mac, now: Instant) {
        self.neighbors.set_static((port, address), mac, now, &mut self.actions);
    }

    /// Removes a static neighbor; false if there was none.
    pub fn remove_neighbor(&mut self, port: PortId, address: IpAddr, now: Instant) -> bool {
        let key = (port, address);
        let needed = !self.next_hops.of(&key).is_empty();
        self.neighbors.remove_static(key, needed, now, &mut self.actions)
    }

    /// Adds a route that takes precedence over those from servers. One of the next turns publishes it.
    pub fn add_route(&mut self, route: &StaticRoute) {
        let before = if self.own.contains(route.vrf, route.prefix) {
            None
        } else {
            self.last_word(route.vrf, route.prefix)
        };
        let _ = self.fib.create_vrf(route.vrf);
        let changes = self.own.add(route, before);
        self.put(changes);
    }

    /// Removes one of the host's own routes.
    ///
    /// # Errors
    /// [`RemoveError`] if there is no such route, or it follows from a port's address.
    pub fn remove_route(&mut self, vrf: VrfId, prefix: IpNet) -> Result<(), RemoveError> {
        let changes = self.own.remove(vrf, prefix)?;
        self.put(changes);
        Ok(())
    }

    /// The servers' latest route to a prefix, waiting batches included.
    fn last_word(&self, vrf: VrfId, prefix: IpNet) -> Option<GroupLabel> {
        let waiting = self.pending.iter().rev().flat_map(|batch| batch.changes.iter().rev());
        let mut about = waiting.filter_map(|change| match change {
            Change::Announce { vrf: v, prefix: p, label } if (*v, *p) == (vrf, prefix) => Some(Some(*label)),
            Change::Withdraw { vrf: v, prefix: p } if (*v, *p) == (vrf, prefix) => Some(None),
            _ => None,
        });
        let label = about.next().unwrap_or_else(|| self.fib.get(vrf, prefix))?;
        Some(self.recursion.server_label(label))
    }

    fn put(&mut self, changes: Vec<Change>) {
        self.recursion.adopt(&changes);
        let last = self.pending.back().map(|last| (last.serial, last.number));
        let (serial, number) = last.unwrap_or((self.fib.serial(), self.in_use.applied()));
        self.pending.push_back(Batch { changes, serial, number, replaces: false });
    }
}
