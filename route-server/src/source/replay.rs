//! The `mrt` source: a recorded table, and recorded updates played at their time.
//!
//! With `start_at`, the time of every update is fixed before anything starts. A server that starts late, or again, then does what a
//! real router does that comes back: it learns the present. Updates that are due already are reduced to the last one of each
//! prefix and handed over before the end of the table; the others come at their time.
//!
//! Where a file has several peers' routes of one prefix, the peer is chosen with `peer`; without it a table's first entry of each prefix
//! counts, and of updates whatever was said last.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use fibcast_sync_proto::GroupValue;
use ipnet::IpNet;

use super::outlet::{BATCH, End, Event, Group, Outlet, RouteChange};
use super::pace::{Pace, Schedule, now_us};
use fibcast_mrt::{self as mrt, MrtError, Reader, Route};

/// Changes that are due within this of each other go in one batch.
const TICK_US: u64 = 1_000;
/// Longest sleep, after which the thread looks whether it should stop.
const NAP_US: u64 = 50_000;

/// What the source is made from.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// The table: a RIB dump or a full transfer.
    pub path: PathBuf,
    /// Updates to play after it.
    pub updates: Option<PathBuf>,
    /// How fast.
    pub pace: Pace,
    /// When the first update is due, microseconds since 1970; none: when the table was handed over.
    pub start_at_us: Option<u64>,
    /// Only this peer's routes.
    pub peer: Option<IpAddr>,
    /// Routing instance of the routes.
    pub vrf: u32,
}

/// Turns routes of files into changes, with one shared group for each next hop.
struct Translator<'a> {
    options: &'a Options,
    groups: HashMap<IpAddr, Arc<Group>>,
    last: Option<(IpAddr, Arc<Group>)>,
}

impl<'a> Translator<'a> {
    fn new(options: &'a Options) -> Self {
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

pub(super) fn run(options: &Options, outlet: &Outlet) -> Result<(), End> {
    let mut translator = Translator::new(options);
    // Read once before anything is handed over: an updates file that is damaged should stop the start, not the replay.
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

/// Time of the first route of a file; reads all of it.
fn first_time(path: &std::path::Path) -> Result<Option<u64>, MrtError> {
    let mut first = None;
    for route in Reader::open(path)? {
        let route = route?;
        first.get_or_insert(route.time_us);
    }
    Ok(first)
}

fn table(options: &Options, translator: &mut Translator<'_>, outlet: &Outlet) -> Result<(), End> {
    let mut batch = Vec::with_capacity(BATCH);
    let mut last: Option<(IpNet, IpAddr)> = None;
    for route in Reader::open(&options.path)? {
        let route = route?;
        // In a RIB dump all peers' entries of a prefix follow each other; the first peer's counts.
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

    // What is past by now: the net state of it.
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
        // A batch ends where nothing more is due within a tick, so that a steady stream makes one batch per tick, not one per change.
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
