//! The `mrt` source: a recorded table, and a replay of recorded updates.
//!
//! With `start_at`, the time of every update is fixed in advance. A server that starts late, or again, then behaves like a real router that
//! returns: it learns the present state. Updates that are already due are reduced to the last state of each prefix and sent before the end of
//! the table; the others follow on time.
//!
//! If files have several peers' routes, `peer` selects one; without it, all are as neighbors of one router ([`neighbors`]).

mod neighbors;
mod survey;

use std::collections::HashSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;

use self::neighbors::{Keep, Neighbors, NotKept};
use self::survey::Survey;
use super::outlet::{BATCH, End, Event, Outlet, Report, RouteChange};
use super::pace::{Pace, Schedule, now_us};
use fibcast_mrt::{BadRecords, Entry, MrtError, Reader};

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
    /// What to do with records that cannot be decoded; none: stop in the table, skip in the updates.
    pub bad_records: Option<BadRecords>,
    /// A table without routes is one.
    pub allow_empty: bool,
    /// VRF of the routes.
    pub vrf: u32,
}

/// The files, read and found usable, with the table's routes.
pub struct Loaded {
    table: Survey,
    updates: Option<Survey>,
    neighbors: Neighbors,
}

impl Loaded {
    /// What the files hold.
    pub(super) fn describe(&self, options: &MrtOptions) -> String {
        let Loaded { table, updates, neighbors } = self;
        let mut text = format!(
            "{}: {} prefixes in {} records of the peers {}{}",
            options.path.display(),
            neighbors.len(),
            table.counts.records,
            table.named_peers(),
            table.left_out(),
        );
        if let (Some(path), Some(updates)) = (&options.updates, updates) {
            let (records, left_out) = (updates.counts.records, updates.left_out());
            text += &format!(
                "\n{}: {records} records of the peers {}{left_out}",
                path.display(),
                updates.named_peers()
            );
        }
        text
    }
}

/// Why the files cannot be used.
#[derive(Debug, thiserror::Error)]
enum Unusable {
    #[error(transparent)]
    Mrt(#[from] MrtError),
    #[error("{file}: no record can be used; the first error: {first}")]
    NoUpdate { file: PathBuf, first: String },
    #[error("{file}: expected routes of peer {peer}, found those of {found}")]
    NoSuchPeer { file: PathBuf, peer: IpAddr, found: String },
    #[error(
        "{file}: a table without routes{of_peer} ({records} records{left_out}); allow_empty = true accepts it"
    )]
    NoRoutes { file: PathBuf, of_peer: String, records: u64, left_out: String },
}

impl From<Unusable> for End {
    fn from(error: Unusable) -> Self {
        End::Failed(error.to_string())
    }
}

/// Reads the files.
///
/// # Errors
/// Why they cannot be used, with the file.
pub(super) fn read(options: &MrtOptions) -> Result<Loaded, String> {
    load(options).map_err(|error| error.to_string())
}

fn load(options: &MrtOptions) -> Result<Loaded, Unusable> {
    // First: a damaged updates file should prevent the start, not stop the replay.
    let of_updates = |path: &PathBuf| Survey::of_updates(path, options);
    let mut updates = options.updates.as_ref().map(of_updates).transpose()?;
    if let (Some(file), Some(Survey { first_us: None, first_bad: Some(first), .. })) =
        (&options.updates, &updates)
    {
        return Err(Unusable::NoUpdate { file: file.clone(), first: first.clone() });
    }
    let mut keep = updates.as_mut().map_or_else(|| Keep::Only(HashSet::new()), Survey::keep);
    let (table, neighbors) = loop {
        match table(options, keep)? {
            Ok(read) => break read,
            // Entries of a table and messages in one file: nothing can be left out.
            Err(NotKept) => keep = Keep::All,
        }
    };
    if let Some(peer) = options.peer
        && !table.peers.contains(&peer)
        && !updates.as_ref().is_some_and(|updates| updates.peers.contains(&peer))
    {
        let (file, found) = (options.path.clone(), table.named_peers());
        return Err(Unusable::NoSuchPeer { file, peer, found });
    }
    if neighbors.is_empty() && !options.allow_empty {
        return Err(Unusable::NoRoutes {
            file: options.path.clone(),
            of_peer: options.peer.map_or_else(String::new, |peer| format!(" of peer {peer}")),
            records: table.counts.records,
            left_out: table.left_out(),
        });
    }
    Ok(Loaded { table, updates, neighbors })
}

/// Reads the table: a RIB dump, or messages, whose net state counts.
fn table(options: &MrtOptions, keep: Keep) -> Result<Result<(Survey, Neighbors), NotKept>, MrtError> {
    let (mut survey, mut neighbors) = (Survey::default(), Neighbors::new(keep));
    let bad_records = options.bad_records.unwrap_or(BadRecords::Stop);
    let mut reader = Reader::open(&options.path)?.bad_records(bad_records);
    while let Some(entry) = reader.next_entry() {
        let entry = entry?;
        if !survey.note(&entry, options) {
            continue;
        }
        let done = match entry {
            Entry::Route(route) if reader.in_table() => {
                neighbors.add(&route);
                Ok(())
            }
            Entry::Route(route) => neighbors.apply(&route).map(drop),
            Entry::SessionEnd { peer, .. } => neighbors.end_session(peer).map(drop),
        };
        if let Err(NotKept) = done {
            return Ok(Err(NotKept));
        }
    }
    survey.finish(&reader);
    survey.counts.without_next_hop += neighbors.without_next_hop;
    Ok(Ok((survey, neighbors)))
}

/// Tells the table and plays the updates; reads the files first, unless that was done before the start.
pub(super) fn run(options: &MrtOptions, loaded: Option<Loaded>, outlet: &Outlet) -> Result<(), End> {
    let Loaded { table, updates, mut neighbors } = loaded.map_or_else(|| load(options), Ok)?;
    report([Some(&table), updates.as_ref()].into_iter().flatten(), outlet)?;
    let routes = neighbors.routes();
    // Before the RIB grows by the same routes.
    neighbors.forget_unchanging();
    let mut batch = Vec::with_capacity(BATCH);
    for (prefix, path) in routes {
        batch.push(RouteChange { vrf: options.vrf, prefix, path });
        if batch.len() >= BATCH {
            outlet.flush(&mut batch)?;
            batch.reserve(BATCH);
        }
    }
    outlet.flush(&mut batch)?;
    match (&options.updates, updates.and_then(|updates| updates.first_us)) {
        (Some(path), Some(first_us)) => {
            let begin_us = options.start_at_us.unwrap_or_else(now_us);
            let schedule = Schedule::new(options.pace, begin_us, first_us);
            play(path, schedule, neighbors, options, outlet)
        }
        _ => Ok(outlet.send(Event::EndOfTable)?),
    }
}

/// Tells what was left out of the files.
fn report<'a>(files: impl Iterator<Item = &'a Survey>, outlet: &Outlet) -> Result<(), End> {
    let (mut skipped, mut without_next_hop, mut first) = (0, 0, None);
    for file in files {
        skipped += file.counts.bad;
        without_next_hop += file.counts.without_next_hop;
        first = first.or_else(|| file.first_bad.clone());
    }
    if skipped + without_next_hop > 0 {
        let counters = vec![("records_skipped", skipped), ("without_next_hop", without_next_hop)];
        let report = Report { live: true, last_error: first, counters, ..Report::default() };
        outlet.send(Event::Report(report))?;
    }
    Ok(())
}

fn change(options: &MrtOptions, neighbors: &Neighbors, prefix: IpNet) -> RouteChange {
    RouteChange { vrf: options.vrf, prefix, path: neighbors.best(&prefix) }
}

/// Recorded updates with their due times.
struct Due {
    reader: Reader,
    schedule: Schedule,
    /// Entries read.
    count: u64,
    next: Option<(u64, Entry)>,
}

impl Due {
    fn open(path: &Path, schedule: Schedule, options: &MrtOptions) -> Result<Self, MrtError> {
        let reader = Reader::open(path)?.bad_records(options.bad_records.unwrap_or(BadRecords::Skip));
        let mut due = Self { reader, schedule, count: 0, next: None };
        due.advance()?;
        Ok(due)
    }

    fn advance(&mut self) -> Result<(), MrtError> {
        self.next = self.reader.next_entry().transpose()?.map(|entry| {
            let (Entry::Route(fibcast_mrt::Route { time_us, .. }) | Entry::SessionEnd { time_us, .. }) =
                entry;
            (self.schedule.due_us(self.count, time_us), entry)
        });
        self.count += 1;
        Ok(())
    }

    /// Whether an update is due at this time, microseconds since 1970.
    fn is_due(&self, at_us: u64) -> bool {
        self.next.as_ref().is_some_and(|(at, _)| *at <= at_us)
    }

    /// Applies the next update; gives the prefixes that it changes.
    fn apply(&mut self, neighbors: &mut Neighbors, options: &MrtOptions) -> Result<Vec<IpNet>, End> {
        let changed = match self.next.take() {
            Some((_, Entry::Route(route))) if options.peer.is_none_or(|peer| peer == route.peer) => {
                neighbors.apply(&route).map(|changed| Vec::from_iter(changed.then_some(route.prefix)))
            }
            Some((_, Entry::SessionEnd { peer, .. })) if options.peer.is_none_or(|wanted| wanted == peer) => {
                neighbors.end_session(peer)
            }
            _ => Ok(Vec::new()),
        };
        self.advance()?;
        changed.map_err(|NotKept| End::Failed("the file of updates has changed while it was read".to_owned()))
    }
}

fn play(
    path: &Path,
    schedule: Schedule,
    mut neighbors: Neighbors,
    options: &MrtOptions,
    outlet: &Outlet,
) -> Result<(), End> {
    let mut due = Due::open(path, schedule, options)?;
    // The net state of all past updates.
    let mut past: HashSet<IpNet> = HashSet::new();
    while due.is_due(now_us()) {
        past.extend(due.apply(&mut neighbors, options)?);
    }
    let mut batch = Vec::with_capacity(BATCH.min(past.len()));
    for prefix in past {
        batch.push(change(options, &neighbors, prefix));
        if batch.len() >= BATCH {
            outlet.flush(&mut batch)?;
        }
    }
    outlet.flush(&mut batch)?;
    outlet.send(Event::EndOfTable)?;

    while let Some((at, _)) = due.next {
        sleep_until(at, outlet)?;
        let changed = due.apply(&mut neighbors, options)?;
        batch.extend(changed.into_iter().map(|prefix| change(options, &neighbors, prefix)));
        // A batch ends when nothing more is due within a tick, so a steady stream makes one batch per tick, not one per change.
        let now = now_us();
        if batch.len() >= BATCH || !due.is_due(now) {
            outlet.flush(&mut batch)?;
            let tick = now + TICK_US;
            if due.next.as_ref().is_some_and(|(at, _)| *at < tick) {
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
