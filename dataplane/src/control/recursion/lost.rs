//! Gateways that cannot be resolved: why, and what the log says of them.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use fibcast_fib::{Fib, GroupLabel, VrfId};
use ipnet::IpNet;

use super::walk::LEVELS;

/// Most lines in the log about one resolution; a lost link loses many gateways at once.
const LINES: usize = 8;

/// Why a gateway cannot be resolved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Lost {
    /// Nothing covers its address.
    #[error("no connected subnet and no route has the gateway")]
    NoRoute,
    /// Its route is resolved by itself.
    #[error("the gateway's route leads back to it (loop)")]
    Loop,
    /// Its route is resolved by too many others.
    #[error("the gateway's route leads through more than {LEVELS} others")]
    TooDeep,
    /// Multipath routes on its way multiply beyond a bound.
    #[error("the gateway's route leads to too many next hops")]
    TooMany,
    /// An address of the router, or a subnet's network or broadcast address.
    #[error("the gateway is an address of this router or a broadcast address")]
    Own,
    /// Link-local addresses exist on every link.
    #[error("the gateway is link-local and comes without a port")]
    LinkLocal,
}

/// A gateway that can no longer be resolved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LostGateway {
    /// VRF of the group's routes.
    pub vrf: VrfId,
    /// Label of the group in the table.
    pub label: GroupLabel,
    /// The gateway.
    pub gateway: IpAddr,
    /// Why.
    pub reason: Lost,
}

/// The lines for the log: each with a prefix that uses the group. Groups that no route uses are not worth a line.
pub fn lines(new: &[LostGateway], fib: &Fib) -> Vec<String> {
    let prefixes = prefixes(new, fib);
    let mut lines: Vec<String> = new
        .iter()
        .filter_map(|lost| {
            let prefix = prefixes.get(&(lost.vrf, lost.label))?;
            Some(format!("vrf {}: {prefix} via {}: {}", lost.vrf.0, lost.gateway, lost.reason))
        })
        .collect();
    if lines.len() > LINES {
        let more = lines.len() - LINES;
        lines.truncate(LINES);
        lines.push(format!("{more} more gateways cannot be resolved"));
    }
    lines
}

/// A prefix of each group: one pass over the table, for a log line that comes with a change of state only.
fn prefixes(new: &[LostGateway], fib: &Fib) -> HashMap<(VrfId, GroupLabel), IpNet> {
    let mut missing: HashMap<VrfId, HashSet<GroupLabel>> = HashMap::new();
    for lost in new {
        missing.entry(lost.vrf).or_default().insert(lost.label);
    }
    let mut found = HashMap::new();
    for (vrf, mut labels) in missing {
        for (prefix, label) in fib.routes(vrf, None) {
            if labels.remove(&label) {
                found.insert((vrf, label), prefix);
                if labels.is_empty() {
                    break;
                }
            }
        }
    }
    found
}
