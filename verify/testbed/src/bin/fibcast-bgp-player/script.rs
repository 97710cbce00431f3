//! The content of a session: a table, packed as by a transit provider's router, and changes with their times.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::Path as File;

use fibcast_mrt::{Event, MrtError, Reader};
use ipnet::IpNet;

use crate::message::{Path, announce, end_of_rib, fitting};

/// A change of next hop.
#[derive(Debug, Clone, Copy)]
pub struct Change {
    /// Time after the first one, in nanoseconds.
    pub after_ns: u64,
    prefix: IpNet,
    next_hop: IpAddr,
}

/// The content of a session, prepared once for all of them.
#[derive(Debug)]
pub struct Script {
    /// UPDATEs of the table and its end.
    pub table: Vec<u8>,
    /// Routes in it.
    pub routes: u64,
    /// In order of time.
    pub changes: Vec<Change>,
    own_as: u32,
}

#[derive(Debug, thiserror::Error)]
pub enum ScriptError {
    #[error(transparent)]
    Mrt(#[from] MrtError),
    #[error("{file}: withdraws {prefix}: a table and changes of its next hops are expected")]
    Withdraw { file: String, prefix: IpNet },
    #[error(
        "{file}: {prefix} by {next_hop}: a next hop of the other family needs a capability that is not offered"
    )]
    Family { file: String, prefix: IpNet, next_hop: IpAddr },
}

impl Script {
    /// Reads a table and optional changes. An UPDATE of the table has at most `per_update` prefixes, whose AS path is almost unique:
    /// recorded transfers of full tables have 6 to 10.
    pub fn read(
        table: &File,
        updates: Option<&File>,
        own_as: u32,
        per_update: usize,
    ) -> Result<Script, ScriptError> {
        let mut script = Script { table: Vec::new(), routes: 0, changes: Vec::new(), own_as };
        let room = per_update.clamp(1, fitting());
        let mut open: HashMap<IpAddr, Vec<IpNet>> = HashMap::new();
        // A table is nearly in the order of its prefixes, and so are the UPDATEs.
        for route in announcements(table)? {
            let (_, prefix, next_hop) = route?;
            script.routes += 1;
            let waiting = open.entry(next_hop).or_default();
            waiting.push(prefix);
            if waiting.len() == room {
                announce(&mut script.table, &path(own_as, next_hop, waiting), waiting);
                waiting.clear();
            }
        }
        let mut rest: Vec<_> = open.into_iter().filter(|(_, waiting)| !waiting.is_empty()).collect();
        rest.sort_unstable();
        for (next_hop, waiting) in rest {
            announce(&mut script.table, &path(own_as, next_hop, &waiting), &waiting);
        }
        end_of_rib(&mut script.table);
        if let Some(file) = updates {
            let mut first = None;
            for change in announcements(file)? {
                let (time_us, prefix, next_hop) = change?;
                let after_us = time_us.saturating_sub(*first.get_or_insert(time_us));
                script.changes.push(Change { after_ns: after_us.saturating_mul(1000), prefix, next_hop });
            }
        }
        Ok(script)
    }

    /// UPDATEs for the changes from number `from` on that are due `at_ns` after the first one; returns their number.
    pub fn due(&self, from: usize, at_ns: u64, out: &mut Vec<u8>) -> usize {
        let rest = self.changes.get(from..).unwrap_or_default();
        let due = rest.iter().take_while(|change| change.after_ns <= at_ns);
        due.map(|change| {
            let prefixes = [change.prefix];
            announce(out, &path(self.own_as, change.next_hop, &prefixes), &prefixes);
        })
        .count()
    }
}

/// An AS path that depends on the next hop and the first prefix: FRR keeps as many attributes as for a real table.
fn path(own_as: u32, next_hop: IpAddr, prefixes: &[IpNet]) -> Path {
    let hash = |address: IpAddr| match address {
        IpAddr::V4(a) => a.to_bits().wrapping_mul(0x9e37_79b1),
        IpAddr::V6(a) => {
            let bits = a.to_bits();
            [96, 64, 32, 0].iter().fold(0, |hash: u32, shift| {
                (hash ^ (bits >> shift) as u32).rotate_left(13).wrapping_mul(0x9e37_79b1)
            })
        }
    };
    let origin = prefixes.first().map_or(0, |prefix| hash(prefix.network()));
    // Four-byte AS numbers outside of the ranges for documentation and private use: 100,000 and up to 16 million more.
    Path { next_hop, through: [own_as, 100_000 + (hash(next_hop) >> 20), 200_000 + (origin >> 8)] }
}

type Announcement = (u64, IpNet, IpAddr);

fn announcements(
    file: &File,
) -> Result<impl Iterator<Item = Result<Announcement, ScriptError>>, ScriptError> {
    let name = file.display().to_string();
    Ok(Reader::open(file)?.map(move |route| {
        let route = route?;
        let (file, prefix) = (name.clone(), route.prefix);
        match route.event {
            Event::Announce { next_hop, .. } if next_hop.is_ipv4() == prefix.addr().is_ipv4() => {
                Ok((route.time_us, prefix, next_hop))
            }
            Event::Announce { next_hop, .. } => Err(ScriptError::Family { file, prefix, next_hop }),
            Event::Withdraw => Err(ScriptError::Withdraw { file, prefix }),
        }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{HEADER, header};
    use fibcast_mrt::Writer;

    fn file(write: impl FnOnce(&mut Writer<std::fs::File>)) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        write(&mut Writer::new(file.reopen().unwrap()));
        file
    }

    fn messages(bytes: &[u8]) -> usize {
        let (mut rest, mut n) = (bytes, 0);
        while let Some(start) = rest.first_chunk::<HEADER>() {
            rest = &rest[header(start).unwrap().1..];
            n += 1;
        }
        n
    }

    #[test]
    fn a_table_is_packed_by_next_hop_and_changes_become_due_in_order() {
        let next_hop = |n: u8| IpAddr::from([198, 18, 1, n]);
        let table = file(|w| {
            w.peer_index(1, "test", next_hop(1)).unwrap();
            for i in 0..20u8 {
                w.rib(1, format!("10.{i}.0.0/16").parse().unwrap(), next_hop(i % 2)).unwrap();
            }
        });
        let updates = file(|w| {
            for i in 0..5u64 {
                w.announce(7_000_000 + i * 1000, next_hop(1), next_hop(2), &["10.0.0.0/16".parse().unwrap()])
                    .unwrap();
            }
        });
        let script = Script::read(table.path(), Some(updates.path()), 65_001, 4).unwrap();
        assert_eq!((script.routes, script.changes.len()), (20, 5));
        // Ten prefixes for each of two next hops, by four; then the ends of two families.
        assert_eq!(messages(&script.table), 2 * 3 + 2);
        let mut out = Vec::new();
        assert_eq!(script.due(0, 2_000_000, &mut out), 3);
        assert_eq!((script.due(3, u64::MAX, &mut out), messages(&out)), (2, 5));
        assert_eq!(script.due(5, u64::MAX, &mut out), 0);
    }

    #[test]
    fn withdrawals_and_next_hops_of_the_other_family_are_refused_by_name() {
        let prefix: IpNet = "10.0.0.0/8".parse().unwrap();
        let next_hop: IpAddr = "198.18.1.1".parse().unwrap();
        let gone = file(|w| w.withdraw(1, next_hop, &[prefix]).unwrap());
        let error = Script::read(gone.path(), None, 1, 8).unwrap_err().to_string();
        assert!(error.contains("withdraws 10.0.0.0/8"), "{error}");
        let mixed = file(|w| w.announce(1, next_hop, "2001:2::1".parse().unwrap(), &[prefix]).unwrap());
        let error = Script::read(mixed.path(), None, 1, 8).unwrap_err().to_string();
        assert!(error.contains("other family"), "{error}");
    }
}
