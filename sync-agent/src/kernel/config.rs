//! `[kernel]` of an agent's configuration.

use std::collections::BTreeMap;

use fibcast_daemon::config::{ConfigError, Loaded};
use serde::Deserialize;

use super::next_hop::NextHops;

/// Tables that the kernel maintains itself, and 0, which means "none".
const RESERVED: [u32; 4] = [0, 253, 254, 255];

/// `[kernel]`: which kernel table the routes go to.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kernel {
    /// The routing table for VRF 0; fibcast must be its only user. `ip rule add lookup N` makes the host forward by it.
    pub table: u32,
    /// Tables of other VRFs, by VRF number. Routes of VRFs without a table are skipped and counted.
    #[serde(default)]
    pub vrfs: BTreeMap<String, u32>,
    /// Metric of the routes in the kernel.
    #[serde(default = "metric")]
    pub metric: u32,
    /// Which gateways the routes get.
    #[serde(default)]
    pub next_hop: NextHops,
    /// Routes that the kernel refuses are no fault: `/healthz` ignores them.
    #[serde(default)]
    pub accept_refused: bool,
    /// Routes of others that the kernel prefers to ours are no fault: `/healthz` ignores them.
    #[serde(default)]
    pub accept_shadowed: bool,
}

fn metric() -> u32 {
    // The kernel's default for IPv6.
    1024
}

impl Kernel {
    /// Checks what types cannot express.
    ///
    /// # Errors
    /// [`ConfigError`] with file, line and key of the first invalid value.
    pub fn check<T>(&self, loaded: &Loaded<T>) -> Result<(), ConfigError> {
        let error = |key: &str, reason: String| Err(loaded.error(&["kernel".into(), key.into()], reason));
        if RESERVED.contains(&self.table) {
            let reason = "expected a table of our own: not 0, 253 (default), 254 (main) or 255 (local)";
            return error("table", format!("{reason}, found {}", self.table));
        }
        if self.metric == 0 {
            return error("metric", "expected 1 or more, found 0".into());
        }
        for (vrf, table) in &self.vrfs {
            if vrf.parse::<u32>().is_err() || vrf == "0" {
                return error("vrfs", format!("expected numbers of VRFs from 1 as keys, found {vrf:?}"));
            }
            let twice = self.vrfs.iter().any(|(other, t)| other != vrf && t == table);
            if RESERVED.contains(table) || *table == self.table || twice {
                return error("vrfs", format!("{vrf}: expected a table of its own, found {table}"));
            }
        }
        Ok(())
    }

    /// The table of a VRF.
    pub fn table_of(&self, vrf: u32) -> Option<u32> {
        if vrf == 0 { Some(self.table) } else { self.vrfs.get(&vrf.to_string()).copied() }
    }

    /// All tables and their VRFs.
    pub fn tables(&self) -> BTreeMap<u32, u32> {
        let vrfs = self.vrfs.iter().filter_map(|(vrf, table)| Some((*table, vrf.parse().ok()?)));
        vrfs.chain([(self.table, 0)]).collect()
    }
}
