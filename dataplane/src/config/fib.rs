//! `[fib]`: limits of the forwarding table.

use fibcast_daemon::config::{ConfigError, Loaded, Step};
use fibcast_fib::Limits;
use serde::Deserialize;

use super::Config;

/// `[fib]`. A batch that would exceed a limit is refused as a whole: the table stays unchanged, and the batch waits until there is room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Fib {
    /// Routes of all VRFs and both families.
    pub max_routes: usize,
    /// Next-hop groups.
    pub max_groups: usize,
    /// Neighbors of all ports.
    pub max_neighbors: usize,
    /// Neighbors of each port that a packet or another station caused and that never answered; the newest are kept.
    pub max_unproven_neighbors: usize,
    /// Mebibytes of address space for the tries, used as needed; a full Internet table needs less than 16.
    pub trie_memory: usize,
    /// Mebibytes that generations may hold which a worker has not left yet. A stalled worker reaches it in time; then changes wait.
    pub retired_memory: usize,
}

impl Default for Fib {
    fn default() -> Fib {
        let limits = Limits::default();
        Fib {
            max_routes: limits.max_routes,
            max_groups: limits.max_groups,
            max_neighbors: limits.max_neighbors,
            max_unproven_neighbors: limits.max_unproven_neighbors,
            trie_memory: limits.trie_bytes >> 20,
            retired_memory: limits.retired_bytes >> 20,
        }
    }
}

impl Fib {
    /// The limits as the table takes them.
    pub fn limits(&self) -> Limits {
        Limits {
            max_routes: self.max_routes,
            max_groups: self.max_groups,
            max_neighbors: self.max_neighbors,
            max_unproven_neighbors: self.max_unproven_neighbors,
            trie_bytes: self.trie_memory << 20,
            retired_bytes: self.retired_memory << 20,
            ..Limits::default()
        }
    }

    pub(super) fn check(&self, loaded: &Loaded<Config>) -> Result<(), ConfigError> {
        // From what a host needs for its own routes up to what the table's handles can address.
        let ranges = [
            ("max_routes", self.max_routes, 1_000, 1_000_000_000),
            ("max_groups", self.max_groups, 100, 1_000_000_000),
            ("max_neighbors", self.max_neighbors, 100, 1_000_000_000),
            ("max_unproven_neighbors", self.max_unproven_neighbors, 16, 1_000_000),
            ("trie_memory", self.trie_memory, 4, 16_384),
            ("retired_memory", self.retired_memory, 1, 16_384),
        ];
        for (key, found, least, most) in ranges {
            if !(least..=most).contains(&found) {
                let key = [Step::Key("fib"), Step::Key(key)];
                return Err(loaded.error(&key, format!("expected {least} to {most}, found {found}")));
            }
        }
        Ok(())
    }
}
