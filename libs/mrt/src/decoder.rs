//! What is remembered from record to record of a file, and the entries of the last one.

use std::net::IpAddr;

use ipnet::IpNet;

use super::paths::Evidence;
use super::route::{Counts, Entry, Event, Route};

/// State of a file's decoder.
#[derive(Default)]
pub(super) struct Decoder {
    /// Entries of the last record.
    pub entries: Vec<Entry>,
    pub counts: Counts,
    /// The last peer index table.
    pub peers: Vec<IpAddr>,
    pub evidence: Evidence,
    /// The last record is of a table, not of a message.
    pub in_table: bool,
    /// Whether tables' records without and with path identifiers were found to be declared wrongly.
    misdeclared: [bool; 2],
    /// When the last record was written, in microseconds since 1970.
    pub time_us: u64,
}

/// State of a decoder to return to.
#[derive(Clone, Copy)]
pub(super) struct Savepoint {
    entries: usize,
    counts: Counts,
}

impl Decoder {
    pub(super) fn route(&mut self, peer: IpAddr, path_id: Option<u32>, prefix: IpNet, event: Event) {
        let time_us = self.time_us;
        self.entries.push(Entry::Route(Route { time_us, peer, path_id, prefix, event }));
    }

    pub(super) fn session_end(&mut self, peer: IpAddr) {
        self.entries.push(Entry::SessionEnd { time_us: self.time_us, peer });
    }

    /// The record has no routes.
    pub(super) fn pass_over(&mut self) {
        self.counts.without_routes += 1;
    }

    /// Whether records of tables that are declared so were found to be declared wrongly.
    pub(super) fn misdeclared(&self, with_ids: bool) -> bool {
        let [plain, paths] = self.misdeclared;
        if with_ids { paths } else { plain }
    }

    pub(super) fn set_misdeclared(&mut self, with_ids: bool) {
        let [plain, paths] = &mut self.misdeclared;
        *if with_ids { paths } else { plain } = true;
    }

    pub(super) fn savepoint(&self) -> Savepoint {
        Savepoint { entries: self.entries.len(), counts: self.counts }
    }

    pub(super) fn back_to(&mut self, savepoint: Savepoint) {
        self.entries.truncate(savepoint.entries);
        self.counts = savepoint.counts;
    }
}
