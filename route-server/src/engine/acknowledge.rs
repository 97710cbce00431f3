//! Up to which serial of each origin's table the required hosts forward by its routes.
//!
//! Hosts report the serial of the forwarding table that they have installed, each to the server that is active for it. So a change of an origin
//! is installed everywhere once
//! * the hosts that are active here have installed a forwarding table that contains its effect, and
//! * the servers that get the origin's table from here report the same of it, for themselves and those behind them.
//!
//! A route that required hosts *refuse*, here or behind another server, is never reported as installed, whatever the serials are.
//!
//! An own source passes the result to its routing daemon ([`Engine::poll_acknowledged`]); for another server's origin it goes upstream.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use fibcast_control::status::AcknowledgeStatus;
use fibcast_sync_agent::acknowledge;
use fibcast_sync_proto::acknowledge::{Acknowledge, Policy, Require};
use fibcast_sync_proto::mutation::{Mutation, on};
use fibcast_sync_proto::origins::origin_of;
use fibcast_sync_proto::refusal::{Reason, Refusals, RouteKey};
use fibcast_sync_proto::serial_map::SerialMap;
use fibcast_sync_proto::server::SessionReport;
use fibcast_sync_proto::timer::Timer;
use fibcast_sync_proto::{ChangeRef, GroupValue, Key, OriginId, Table, Value};

use super::remote_origins::Eligibility;
use super::{Engine, FIB};
use crate::source::{Acknowledgement, InstalledRoute};

/// Most routes in one acknowledgement, unless a single commit has more.
const SLICE: usize = 32 * 1024;

/// How far an origin's table is installed.
#[derive(Debug)]
pub(super) struct OriginProgress {
    /// The servers that get the table from here.
    servers: Acknowledge,
    /// Serials of the table by those of the forwarding table that contains their effect.
    effects: SerialMap,
    /// Serial of the table up to which it is installed.
    pub(super) installed: u64,
    /// Up to this serial the time limit has passed.
    overdue: u64,
    /// What hosts here and servers refuse, and what that was made of.
    pub(super) refused: Refusals,
    refused_of: (u64, u64),
}

impl OriginProgress {
    /// The policy for hosts applies to servers, except that all of them are required.
    fn new(policy: &Policy) -> Self {
        let policy = Policy { require: Require::All, quorum: 100, ..policy.clone() };
        let servers = Acknowledge::new(policy);
        Self {
            servers,
            effects: SerialMap::default(),
            installed: 0,
            overdue: 0,
            refused: Refusals::default(),
            refused_of: (0, 0),
        }
    }

    /// Merges what hosts here refuse with what servers report of it.
    fn merge_refused(&mut self, hosts: &Acknowledge) {
        let of = (hosts.refused_version(), self.servers.refused_version());
        if std::mem::replace(&mut self.refused_of, of) == of {
            return;
        }
        let mut all = self.servers.refused().clone();
        all.extend(hosts.refused().iter().map(|(key, reason)| (*key, *reason)));
        self.refused.take(&all, 0);
    }
}

/// What was reported to an own source.
#[derive(Debug, Default)]
pub(super) struct Reported {
    /// Routes that last changed up to this serial are acknowledged.
    installed: u64,
    /// Those up to this serial have been reported as overdue, unless they were installed.
    overdue: u64,
    /// Routes that were refused or released since they were reported.
    moved: BTreeSet<RouteKey>,
}

impl Reported {
    /// Routes of the source that hosts refuse from now on, or no longer.
    fn note_moved(&mut self, id: OriginId, table: &Table, moved: &BTreeSet<RouteKey>) {
        let known = |(vrf, prefix): &&RouteKey| {
            table.get(&Key::RibRoute { origin: id, vrf: *vrf, prefix: *prefix }).is_some()
        };
        self.moved.extend(moved.iter().filter(known));
    }
}

impl Engine {
    /// A session's client has activated, installed, left or gone.
    pub(super) fn session_reported(&mut self, now: Duration, report: &SessionReport) {
        if report.table == FIB {
            self.hosts.handle_session(now, report);
        } else if let Some(id) = origin_of(&report.table) {
            let policy = self.hosts.policy();
            let progress = self.progress.entry(id).or_insert_with(|| OriginProgress::new(policy));
            progress.servers.handle_session(now, report);
        }
    }

    /// Works out what is installed by now.
    pub(super) fn follow_installed(&mut self, now: Duration) {
        // Before, no host uses the forwarding table, and that there are none says nothing.
        if !self.ready {
            return;
        }
        let fib = self.fib.serial();
        self.hosts.advance(now, fib);
        while let Some(event) = self.hosts.poll_event() {
            if self.acknowledges {
                acknowledge::log(&event);
            }
        }
        let moved_here = self.hosts.take_moved();
        let (acknowledged, overdue) = (self.hosts.acknowledged(), self.hosts.overdue());
        let idle = self.queue.is_empty();
        let policy = self.hosts.policy();
        let own = self.sources.iter().map(|source| (source.id, &source.table, true));
        let remote = self.remotes.iter().map(|(id, other)| {
            // Only what the best path selection has processed has its effect in the forwarding table.
            (*id, &other.table, idle && other.eligibility != Eligibility::Ineligible)
        });
        let mut due = self.hosts.next_timeout();
        let mut moved_there = BTreeMap::new();
        for (id, table, selected) in own.chain(remote) {
            let progress = self.progress.entry(id).or_insert_with(|| OriginProgress::new(policy));
            if selected {
                progress.effects.push(fib, table.serial());
            }
            progress.servers.advance(now, table.serial());
            while let Some(event) = progress.servers.poll_event() {
                if self.acknowledges {
                    acknowledge::log(&event);
                }
            }
            progress.merge_refused(&self.hosts);
            let moved = progress.servers.take_moved();
            if !moved.is_empty() {
                moved_there.insert(id, moved);
            }
            let here = |serial| progress.effects.get(serial).unwrap_or(0);
            progress.installed = here(acknowledged).min(progress.servers.acknowledged());
            progress.overdue = here(overdue).max(progress.servers.overdue());
            due = due.into_iter().chain(progress.servers.next_timeout()).min();
        }
        for source in self.sources.iter_mut().filter(|_| self.acknowledges) {
            source.reported.note_moved(source.id, &source.table, &moved_here);
            if let Some(moved) = moved_there.get(&source.id) {
                source.reported.note_moved(source.id, &source.table, moved);
            }
        }
        let (sources, remotes) = (&self.sources, &self.remotes);
        self.progress.retain(|id, _| remotes.contains_key(id) || sources.iter().any(|s| s.id == *id));
        self.timers.set(Timer::Acknowledge, due);
    }

    /// Up to which serial of an origin's table its routes are installed.
    pub fn installed_of(&self, id: OriginId) -> u64 {
        self.progress.get(&id).map_or(0, |progress| progress.installed)
    }

    /// The routes of an origin that required hosts refuse, here and behind other servers.
    pub fn refused_of(&self, id: OriginId) -> Option<&Refusals> {
        self.progress.get(&id).map(|progress| &progress.refused)
    }

    /// The same for the origin's own server: once all that were active here before a restart have had the time to come back.
    pub(super) fn refused_to_report(&self, id: OriginId) -> Option<&Refusals> {
        let progress = self.progress.get(&id)?;
        let settled = self.hosts.is_settled() && progress.servers.is_settled();
        settled.then_some(&progress.refused)
    }

    /// The next routes of a source for its routing daemon: those that all required hosts forward by, or that they do not within the time limit.
    /// Those that a host refuses or accepts come first. Each route comes with the group that this is true of: the daemon may have changed it since.
    pub fn poll_acknowledged(&mut self, thread: usize) -> Option<Acknowledgement> {
        let source = self.sources.iter_mut().find(|source| source.thread == thread);
        let source = source.filter(|_| self.acknowledges)?;
        let progress = self.progress.get(&source.id)?;
        let (installed, overdue) = (progress.installed, progress.overdue);
        let refused = |vrf, prefix| -> Option<Reason> {
            let (here, there) = (self.hosts.refused(), progress.servers.refused());
            let reason = here.get(&(vrf, prefix)).or_else(|| there.get(&(vrf, prefix)));
            reason.copied().filter(|_| !on(Mutation::AnnounceRefused))
        };
        let mut routes = Vec::new();
        while let Some((vrf, prefix)) = source.reported.moved.pop_first() {
            let key = Key::RibRoute { origin: source.id, vrf, prefix };
            let Some((serial, group)) = source.table.changed_at(&key).zip(group_of(&source.table, &key))
            else {
                continue;
            };
            let failed = refused(vrf, prefix).is_some();
            // One that is accepted and not installed yet is reported with its serial.
            if failed || serial <= source.reported.installed {
                routes.push(InstalledRoute { vrf, prefix, group, failed });
            }
            if routes.len() >= SLICE {
                break;
            }
        }
        if !routes.is_empty() {
            return Some(Acknowledgement { routes });
        }
        let (low, high, failed) = if source.reported.installed < installed {
            (source.reported.installed, installed, false)
        } else if source.reported.overdue.max(installed) < overdue {
            (source.reported.overdue.max(installed), overdue, true)
        } else {
            return None;
        };
        let mut reached = high;
        let mut last = low;
        for (serial, change) in source.table.routes_between(low, high) {
            if routes.len() >= SLICE && serial != last {
                reached = last;
                break;
            }
            last = serial;
            if let ChangeRef::RibRoute { vrf, prefix, path: Some(path), .. } = change
                && let Some(group) = source.table.group(path.label)
            {
                let failed = failed || refused(vrf, prefix).is_some();
                routes.push(InstalledRoute { vrf, prefix, group, failed });
            }
        }
        let reported = if failed { &mut source.reported.overdue } else { &mut source.reported.installed };
        *reported = reached;
        Some(Acknowledgement { routes })
    }

    /// What operators see; none without `[acknowledge]`.
    pub(crate) fn acknowledge_status(&self, now: Duration) -> Option<AcknowledgeStatus> {
        self.acknowledges.then(|| acknowledge::status(now, &self.hosts, self.fib.serial()))
    }

    /// What the hosts that are active here have installed.
    pub fn hosts(&self) -> &Acknowledge {
        &self.hosts
    }
}

/// The group of an origin's route.
fn group_of(table: &Table, key: &Key) -> Option<Arc<GroupValue>> {
    match table.get(key)? {
        Value::RibRoute { label, .. } => table.group(label),
        _ => None,
    }
}
