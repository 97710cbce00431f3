//! Changes at a rate: each gives a random route another next hop of the table.

use std::collections::HashMap;
use std::io::{self, BufWriter, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use fibcast_mrt::Writer;
use ipnet::IpNet;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::{PlanError, Update};
use crate::neighbor::Link;

/// Benchmarking address (RFC 2544) of the peer that written files name.
const PEER: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 18, 0, 1));
/// Most changes of a timetable: an hour at 10,000/s, about 1.5 GB of memory.
pub const MOST: f64 = 36e6;

#[derive(Debug, Clone, Copy)]
pub struct Churn {
    pub per_s: f64,
    pub seconds: f64,
    pub start_ns: u64,
    pub seed: u64,
    /// The new next hop may be on another port. Not if destinations behind the port that traffic enters by are left out.
    pub any_port: bool,
}

/// The timetable, in order of time.
pub fn timetable(table: &[(IpNet, IpAddr)], links: &[Link], churn: &Churn) -> Result<Vec<Update>, PlanError> {
    // Announced twice: the last one counts.
    let current: HashMap<IpNet, IpAddr> = table.iter().copied().collect();
    let mut routes: Vec<(IpNet, IpAddr)> = current.into_iter().collect();
    routes.sort_unstable();
    let group = |&(prefix, gateway): &(IpNet, IpAddr)| {
        let port = links.iter().position(|link| link.holds(gateway));
        (prefix.addr().is_ipv6(), gateway.is_ipv6(), port.filter(|_| !churn.any_port))
    };
    let mut gateways: HashMap<_, Vec<IpAddr>> = HashMap::new();
    for route in &routes {
        gateways.entry(group(route)).or_default().push(route.1);
    }
    for group in gateways.values_mut() {
        group.sort_unstable();
        group.dedup();
    }
    routes.retain(|route| gateways.get(&group(route)).is_some_and(|group| group.len() > 1));
    if routes.is_empty() {
        return Err(PlanError::NoOtherGateway);
    }
    let mut random = SmallRng::seed_from_u64(churn.seed);
    let count = (churn.per_s * churn.seconds).ceil() as u64;
    let mut updates = Vec::with_capacity(count as usize);
    for number in 0..count {
        let chosen = random.random_range(0..routes.len());
        let Some(route) = routes.get_mut(chosen) else { continue };
        let Some(group) = gateways.get(&group(route)) else { continue };
        // One of the others, all alike.
        let own = group.binary_search(&route.1).unwrap_or(0);
        let step = random.random_range(1..group.len());
        if let Some(&gateway) = group.get((own + step) % group.len()) {
            route.1 = gateway;
            let after_us = (number as f64 * 1e6 / churn.per_s) as u64;
            let due_ns = churn.start_ns.saturating_add(after_us * 1000);
            updates.push(Update { due_ns, prefix: route.0, gateway });
        }
    }
    Ok(updates)
}

/// Writes a timetable as MRT (BGP4MP_ET) for the source of the device's routes. Nobody sees half a file.
pub fn write(file: &Path, updates: &[Update]) -> io::Result<()> {
    let mut partial = file.as_os_str().to_owned();
    partial.push(".partial");
    let mut writer = Writer::new(BufWriter::new(std::fs::File::create(&partial)?));
    for update in updates {
        writer.announce(update.due_ns / 1000, PEER, update.gateway, &[update.prefix])?;
    }
    writer.into_inner().flush()?;
    std::fs::rename(&partial, file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::neighbor::tests::link;

    fn churn(any_port: bool) -> Churn {
        Churn { per_s: 1000.0, seconds: 2.0, start_ns: 5_000_000_000, seed: 1, any_port }
    }

    fn table() -> Vec<(IpNet, IpAddr)> {
        let lines = [
            ("8.0.0.0/8", "198.18.0.2"),
            ("9.0.0.0/8", "198.18.0.3"),
            ("10.0.0.0/8", "198.19.0.4"),
            ("2a00::/16", "2001:2::5"),
        ];
        lines.map(|(prefix, gateway)| (prefix.parse().unwrap(), gateway.parse().unwrap())).to_vec()
    }

    #[test]
    fn every_change_changes_something_at_its_rate_to_a_next_hop_that_is_allowed() {
        for any_port in [false, true] {
            let updates = timetable(&table(), &[link(0), link(1)], &churn(any_port)).unwrap();
            assert_eq!(updates.len(), 2000);
            let mut current: HashMap<_, _> = table().into_iter().collect();
            for (number, update) in updates.iter().enumerate() {
                assert_eq!(update.due_ns, 5_000_000_000 + number as u64 * 1_000_000);
                let before = current.insert(update.prefix, update.gateway).unwrap();
                assert_ne!(before, update.gateway);
                assert!(any_port || link(0).holds(update.gateway), "{update:?}");
                assert!(update.gateway.is_ipv4(), "the only IPv6 next hop has no other");
            }
            let moved = updates.iter().any(|update| link(1).holds(update.gateway));
            assert_eq!(moved, any_port);
        }
        let alone = &table()[2..];
        assert!(matches!(
            timetable(alone, &[link(0), link(1)], &churn(false)).unwrap_err(),
            PlanError::NoOtherGateway
        ));
    }

    #[test]
    fn what_is_written_is_what_is_expected() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("updates.mrt");
        let updates = timetable(&table(), &[link(0), link(1)], &churn(true)).unwrap();
        write(&file, &updates).unwrap();
        assert_eq!(crate::input::updates(&file, 5_000_000_000).unwrap(), updates);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
