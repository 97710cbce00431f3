//! The `mrt` source: a recorded table, and a replay of recorded updates.
//!
//! With `start_at`, the time of every update is fixed in advance. A server that starts late, or again, then behaves like a real router that
//! returns: it learns the present state. Updates that are already due are reduced to the last one of each prefix and sent before the end of
//! the table; the others follow on time.
//!
//! If a file has several peers' routes for a prefix, `peer` selects one; without it, the first entry of each prefix in the table and the
//! latest update count.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use fibcast_daemon::threads;
use fibcast_sync_proto::GroupValue;
use ipnet::IpNet;

use super::outlet::{BATCH, End, Event, Group, Outlet, RouteChange};
use super::pace::{Pace, Schedule, now_us};
use fibcast_mrt::{self as mrt, MrtError, Reader, Route};

/// Changes that are due within this time of each other form one batch.
const TICK_US: u64 = 1_000;
/// Longest sleep before the thread checks whether it should stop.
const NAP_US: u64 = 50_000;

/// Options of the source.
#[derive(Debug, Clone, PartialEq)]
pub struct MrtOptions {
    /// The table: a RIB dump or a full transfer.
    pub path: PathBuf,
    /// Updates to play after it.
    pub updates: Option<PathBuf>,
    /// Pace of the updates.
    pub pace: Pace,
    /// Due time of the first update in microseconds since 1970; none: the end of the table.
    pub start_at_us: Option<u64>,
    /// Only routes of this peer.
    pub peer: Option<IpAddr>,
    /// VRF of the routes.
    pub vrf: u32,
}

/// Turns recorded routes into changes, with one shared group for each next hop.
struct Translator<'a> {
    options: &'a MrtOptions,
    groups: HashMap<IpAddr, Arc<Group>>,
    last: Option<(IpAddr, Arc<Group>)>,
}

impl<'a> Translator<'a> {
    fn new(options: &'a MrtOptions) -> Self {
        Self { options, groups: HashMap::new(), last: None }
    }

    fn wanted(&self, route: &Route) -> bool {
        self.options.peer.is_none_or(|peer| peer == route.peer)
    }

    fn group(&mut self, next_hop: IpAddr) -> Arc<Group> {
        match &self.last {
            Some((address, group)) if *address == next_hop => group.clone(),
            _ => {
                let made = || Group::new(GroupValue::via(next_hop));
                let group = self.groups.entry(next_hop).or_insert_with(made).clone();
                self.last = Some((next_hop, group.clone()));
                group
            }
        }
    }

    fn change(&mut self, route: &Route) -> RouteChange {
        let path = match route.event {
            mrt::Event::Announce { next_hop, metric } => Some((self.group(next_hop), metric)),
            mrt::Event::Withdraw => None,
        };
        RouteChange { vrf: self.options.vrf, prefix: route.prefix, path }
    }
}

pub(super) fn run(options: &MrtOptions, outlet: &Outlet) -> Result<(), End> {
    let mut translator = Translator::new(options);
    // Validated first: a damaged updates file should prevent the start, not stop the replay.
    let first_us = match &options.updates {
        Some(path) => first_time(path)?,
        None => None,
    };
    table(options, &mut translator, outlet)?;
    match (&options.updates, first_us) {
        (Some(path), Some(first_us)) => {
            let begin_us = options.start_at_us.unwrap_or_else(now_us);
            let schedule = Schedule::new(options.pace, begin_us, first_us);
            updates(path, schedule, &mut translator, outlet)
        }
        _ => Ok(outlet.send(Event::EndOfTable)?),
    }
}

/// Time of the first route of a file; validates all of it.
fn first_time(path: &std::path::Path) -> Result<Option<u64>, MrtError> {
    let mut first = None;
    for route in Reader::open(path)? {
        threads::beat();
        let route = route?;
        first.get_or_insert(route.time_us);
    }
    Ok(first)
}

fn table(options: &MrtOptions, translator: &mut Translator<'_>, outlet: &Outlet) -> Result<(), End> {
    let mut batch = Vec::with_capacity(BATCH);
    let mut last: Option<(IpNet, IpAddr)> = None;
    for route in Reader::open(&options.path)? {
        threads::beat();
        let route = route?;
        // In a RIB dump all peers' entries of a prefix are adjacent; the first peer's counts.
        let another_peers = last.is_some_and(|(prefix, peer)| prefix == route.prefix && peer != route.peer);
        if !translator.wanted(&route) || another_peers {
            continue;
        }
        last = Some((route.prefix, route.peer));
        batch.push(translator.change(&route));
        if batch.len() >= BATCH {
            outlet.flush(&mut batch)?;
            batch.reserve(BATCH);
        }
    }
    Ok(outlet.flush(&mut batch)?)
}

fn updates(
    path: &std::path::Path,
    schedule: Schedule,
    translator: &mut Translator<'_>,
    outlet: &Outlet,
) -> Result<(), End> {
    let mut due = Reader::open(path)?.enumerate().map(|(k, route)| {
        let route = route?;
        Ok::<_, MrtError>((schedule.due_us(k as u64, route.time_us), route))
    });
    let mut next = due.next().transpose()?;

    // The net state of all past updates.
    let mut past: HashMap<IpNet, RouteChange> = HashMap::new();
    while let Some((_, route)) = next.take_if(|(at, _)| *at <= now_us()) {
        if translator.wanted(&route) {
            past.insert(route.prefix, translator.change(&route));
        }
        next = due.next().transpose()?;
    }
    let mut batch = Vec::with_capacity(BATCH.min(past.len()));
    for change in past.into_values() {
        batch.push(change);
        if batch.len() >= BATCH {
            outlet.flush(&mut batch)?;
        }
    }
    outlet.flush(&mut batch)?;
    outlet.send(Event::EndOfTable)?;

    while let Some((at, route)) = next {
        sleep_until(at, outlet)?;
        if translator.wanted(&route) {
            batch.push(translator.change(&route));
        }
        next = due.next().transpose()?;
        // A batch ends when nothing more is due within a tick, so a steady stream makes one batch per tick, not one per change.
        let now = now_us();
        let more_is_due = next.as_ref().is_some_and(|(at, _)| *at <= now);
        if batch.len() >= BATCH || !more_is_due {
            outlet.flush(&mut batch)?;
            let tick = now + TICK_US;
            if next.as_ref().is_some_and(|(at, _)| *at < tick) {
                sleep_until(tick, outlet)?;
            }
        }
    }
    Ok(outlet.flush(&mut batch)?)
}

fn sleep_until(at_us: u64, outlet: &Outlet) -> Result<(), End> {
    loop {
        if outlet.stopped() {
            return Err(End::Stopped);
        }
        match at_us.checked_sub(now_us()) {
            None | Some(0) => return Ok(()),
            Some(left) => std::thread::sleep(Duration::from_micros(left.min(NAP_US))),
        }
    }
}

#[cfg(test)]
mod tests;
