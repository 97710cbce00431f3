//! A source that restarted after a panic: its routes stay, and those that its new life does not tell by the end of its table are withdrawn.

use std::collections::HashSet;

use fibcast_sync_proto::{ChangeRef, Table};
use ipnet::IpNet;

use crate::source::{BATCH, Event, Message, RouteChange};

/// Routes of the former life that were not told since.
#[derive(Debug)]
pub(super) struct Unconfirmed(HashSet<(u32, IpNet)>);

impl Unconfirmed {
    pub fn all_of(table: &Table) -> Unconfirmed {
        let route = |change| match change {
            ChangeRef::RibRoute { vrf, prefix, path: Some(_), .. } => Some((vrf, prefix)),
            _ => None,
        };
        Unconfirmed(table.everything().changes().filter_map(route).collect())
    }

    pub fn hear(&mut self, batch: &[RouteChange]) {
        for change in batch {
            self.0.remove(&(change.vrf, change.prefix));
        }
    }

    /// Withdrawals of what was never told, in messages of the usual size.
    pub fn sweep(self, source: usize) -> Vec<Message> {
        let rest: Vec<(u32, IpNet)> = self.0.into_iter().collect();
        let withdrawn = |&(vrf, prefix): &(u32, IpNet)| RouteChange { vrf, prefix, path: None };
        let message = |part: &[(u32, IpNet)]| Message {
            source,
            event: Event::Batch(part.iter().map(withdrawn).collect()),
        };
        rest.chunks(BATCH).map(message).collect()
    }
}
