//! What a file holds for a source, and whether that is usable.

use fibcast_daemon::threads;
use std::collections::{BTreeSet, HashSet};
use std::fmt::Write;
use std::net::IpAddr;
use std::path::Path;

use fibcast_mrt::{BadRecords, Counts, Entry, MrtError, Reader};
use ipnet::IpNet;

use super::MrtOptions;
use super::neighbors::Keep;

/// Most peers that an error or a line for the operator names.
const NAMED_PEERS: usize = 8;

/// One file, read to its end.
#[derive(Debug, Default)]
pub(super) struct Survey {
    pub counts: Counts,
    /// Time of the first entry, microseconds since 1970.
    pub first_us: Option<u64>,
    /// All peers, also those that the source does not want.
    pub peers: BTreeSet<IpAddr>,
    /// Prefixes of wanted peers, announced or withdrawn.
    pub prefixes: HashSet<IpNet>,
    /// A wanted peer's session ended.
    pub session_ended: bool,
    /// Error of the first record that was skipped.
    pub first_bad: Option<String>,
}

impl Survey {
    /// Reads a file of updates.
    pub(super) fn of_updates(path: &Path, options: &MrtOptions) -> Result<Self, MrtError> {
        let mut survey = Self::default();
        let mut reader = Reader::open(path)?.bad_records(options.bad_records.unwrap_or(BadRecords::Skip));
        while let Some(entry) = reader.next_entry() {
            let entry = entry?;
            if survey.note(&entry, options) {
                match entry {
                    Entry::Route(route) => drop(survey.prefixes.insert(route.prefix)),
                    Entry::SessionEnd { .. } => survey.session_ended = true,
                }
            }
        }
        survey.finish(&reader);
        Ok(survey)
    }

    /// Takes note of an entry; whether the source wants it.
    pub(super) fn note(&mut self, entry: &Entry, options: &MrtOptions) -> bool {
        threads::beat();
        let (time_us, peer) = match entry {
            Entry::Route(route) => (route.time_us, route.peer),
            Entry::SessionEnd { time_us, peer } => (*time_us, *peer),
        };
        self.first_us.get_or_insert(time_us);
        self.peers.insert(peer);
        options.peer.is_none_or(|wanted| wanted == peer)
    }

    /// Takes over what the reader knows at the end.
    pub(super) fn finish(&mut self, reader: &Reader) {
        self.counts = reader.counts();
        self.peers.extend(reader.peers());
        self.first_bad = reader.first_bad().map(ToString::to_string);
    }

    /// The prefixes that these updates change, of which all paths must be kept.
    pub(super) fn keep(&mut self) -> Keep {
        if self.session_ended { Keep::All } else { Keep::Only(std::mem::take(&mut self.prefixes)) }
    }

    /// What was left out, in words; empty if nothing was.
    pub(super) fn left_out(&self) -> String {
        let mut text = String::new();
        let Counts { bad, without_next_hop, misdeclared_paths, .. } = self.counts;
        for (n, what) in [
            (without_next_hop, "entries without a next hop"),
            (misdeclared_paths, "records with path identifiers other than their type says"),
            (bad, "bad records skipped"),
        ] {
            if n > 0 {
                let _ = write!(text, ", {n} {what}");
            }
        }
        if let Some(first) = &self.first_bad {
            let _ = write!(text, "; the first: {first}");
        }
        text
    }

    /// The first peers by address.
    pub(super) fn named_peers(&self) -> String {
        let names: Vec<String> = self.peers.iter().take(NAMED_PEERS).map(ToString::to_string).collect();
        match self.peers.len() {
            0 => "none".to_owned(),
            n if n > NAMED_PEERS => format!("{} and {} more", names.join(", "), n - NAMED_PEERS),
            _ => names.join(", "),
        }
    }
}
