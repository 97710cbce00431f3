//! The `static` source: routes from a text file, one per line.
//!
//! ```text
//! # comment
//! 192.0.2.0/24      via 198.18.1.1
//! 198.51.100.0/24   via 198.18.1.1,198.19.1.1*2     # weights: 1 and 2
//! 2001:db8::/32     via 2001:2::101
//! 203.0.113.0/25    via 3.3.3.3%p1,3.3.3.3%p2        # on-link gateways: with the hosts' port (RFC 4007 §11)
//! 203.0.113.128/25  dev p1                          # by a port alone
//! 203.0.113.0/24    blackhole                       # or unreachable, prohibit
//! ```

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fibcast_daemon::threads;
use fibcast_sync_proto::{GroupValue, HopValue};
use ipnet::IpNet;

use super::outlet::{BATCH, End, Event, Group, Outlet, RouteChange};

/// Most next hops of a route.
const MAX_HOPS: usize = 256;
/// Longest name of a port.
const MAX_PORT: usize = 64;

/// Options of the source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StaticOptions {
    /// The file.
    pub path: PathBuf,
    /// VRF of its routes.
    pub vrf: u32,
    /// A file without routes is a table, not a mistake.
    pub allow_empty: bool,
}

/// Why a file of routes cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StaticError {
    /// The file cannot be read.
    #[error("{path}: cannot read: {source}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// A line that is not a route.
    #[error("{path}:{line}: expected {expected}, found {found:?}")]
    Line {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// What was expected.
        expected: &'static str,
        /// What was found.
        found: String,
    },
    /// A prefix occurs twice.
    #[error("{path}:{line}: {prefix} is already on line {first}")]
    Twice {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// The prefix.
        prefix: IpNet,
        /// Line of its first occurrence.
        first: usize,
    },
    /// There is no route in it, and `allow_empty` does not say that this is meant.
    #[error("{path}: a table without routes; allow_empty = true accepts it")]
    Empty {
        /// The file.
        path: PathBuf,
    },
}

impl StaticOptions {
    /// The routes of the file.
    ///
    /// # Errors
    /// [`StaticError`]: the first wrong line, or there are no routes.
    pub fn read(&self) -> Result<Routes, StaticError> {
        let routes = read(&self.path)?;
        if routes.is_empty() && !self.allow_empty {
            return Err(StaticError::Empty { path: self.path.clone() });
        }
        Ok(routes)
    }
}

/// The routes of a file, in its order.
pub type Routes = Vec<(IpNet, Arc<Group>)>;

/// Reads a file of routes completely.
///
/// # Errors
/// [`StaticError`] with the line of the first error.
fn read(path: &Path) -> Result<Routes, StaticError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| StaticError::Unreadable { path: path.to_owned(), source })?;
    let mut routes = Vec::new();
    let mut lines: HashMap<IpNet, usize> = HashMap::new();
    let mut groups: HashMap<GroupValue, Arc<Group>> = HashMap::new();
    for (at, text) in text.lines().enumerate() {
        threads::beat();
        let line = at + 1;
        let text = text.split('#').next().unwrap_or_default().trim();
        if text.is_empty() {
            continue;
        }
        let (prefix, value) = route(text).map_err(|(expected, found)| StaticError::Line {
            path: path.to_owned(),
            line,
            expected,
            found: found.chars().take(80).collect(),
        })?;
        if let Some(first) = lines.insert(prefix, line) {
            return Err(StaticError::Twice { path: path.to_owned(), line, prefix, first });
        }
        let group = groups.entry(value.clone()).or_insert_with(|| Group::new(value));
        routes.push((prefix, group.clone()));
    }
    Ok(routes)
}

/// What was expected, and what was found.
type WrongText<'a> = (&'static str, &'a str);

fn route(text: &str) -> Result<(IpNet, GroupValue), WrongText<'_>> {
    let (prefix, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    let net: IpNet = prefix.parse().map_err(|_| ("a prefix such as 192.0.2.0/24", prefix))?;
    if net.trunc() != net {
        return Err(("a prefix without host bits", prefix));
    }
    let (word, rest) = rest.trim().split_once(char::is_whitespace).unwrap_or((rest.trim(), ""));
    let value = match (word, rest.trim()) {
        ("via", hops) => group(hops)?,
        ("dev", ports) => by_ports(ports)?,
        ("blackhole", "") => GroupValue::Blackhole,
        ("unreachable", "") => GroupValue::Unreachable,
        ("prohibit", "") => GroupValue::Prohibit,
        ("blackhole" | "unreachable" | "prohibit", more) => return Err(("the end of the line", more)),
        _ => return Err(("`via`, `dev`, `blackhole`, `unreachable` or `prohibit` after the prefix", word)),
    };
    Ok((net, value))
}

fn group(text: &str) -> Result<GroupValue, WrongText<'_>> {
    hops(text, |hop| {
        let (address, port) = match hop.split_once('%') {
            Some((address, port)) => (address, Some(self::port(port)?)),
            None => (hop, None),
        };
        let gateway: IpAddr = address.trim().parse().map_err(|_| ("the address of a next hop", hop))?;
        if gateway.is_unspecified() || gateway.is_multicast() {
            return Err(("the unicast address of a next hop", hop));
        }
        Ok((Some(gateway), port))
    })
}

fn by_ports(text: &str) -> Result<GroupValue, WrongText<'_>> {
    hops(text, |hop| Ok((None, Some(port(hop)?))))
}

fn port(text: &str) -> Result<String, WrongText<'_>> {
    let name = text.trim();
    if name.is_empty() || name.len() > MAX_PORT || name.contains(char::is_whitespace) {
        return Err(("the name of a port, 1 to 64 bytes", text));
    }
    Ok(name.to_owned())
}

/// Next hops with their weights, each once: a gateway on two ports is two next hops.
fn hops<'a>(
    text: &'a str,
    read: impl Fn(&'a str) -> Result<(Option<IpAddr>, Option<String>), WrongText<'a>>,
) -> Result<GroupValue, WrongText<'a>> {
    let mut hops: Vec<HopValue> = Vec::new();
    for hop in text.split(',').map(str::trim) {
        let (next_hop, weight) = hop.split_once('*').unwrap_or((hop, "1"));
        let (gateway, port) = read(next_hop.trim())?;
        let weight: u16 = weight.trim().parse().map_err(|_| ("a weight from 1 to 65535", hop))?;
        if weight == 0 {
            return Err(("a weight from 1 to 65535", hop));
        }
        if hops.iter().any(|known| known.gateway == gateway && known.port == port) {
            return Err(("each next hop once", hop));
        }
        hops.push(HopValue { gateway, port, weight });
    }
    if hops.len() > MAX_HOPS {
        return Err(("at most 256 next hops", text));
    }
    Ok(GroupValue::Hops(hops).canonical())
}

/// Sends the routes, which were read before the start.
pub(super) fn run(options: &StaticOptions, routes: &Routes, outlet: &Outlet) -> Result<(), End> {
    let vrf = options.vrf;
    for part in routes.chunks(BATCH) {
        let change = |(prefix, group): &(IpNet, Arc<Group>)| RouteChange {
            vrf,
            prefix: *prefix,
            path: Some((group.clone(), 0)),
        };
        outlet.send(Event::Batch(part.iter().map(change).collect()))?;
    }
    outlet.send(Event::EndOfTable)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Kind;
    use crate::source::testing::{events, net_state};

    fn file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        file
    }

    fn options(path: &Path) -> StaticOptions {
        StaticOptions { path: path.to_owned(), vrf: 0, allow_empty: false }
    }

    fn error(text: &str) -> String {
        let file = file(text);
        let error = read(file.path()).unwrap_err().to_string();
        error.replace(&*file.path().to_string_lossy(), "FILE")
    }

    #[test]
    fn all_forms_of_a_route_are_read_and_the_end_of_the_table_follows() {
        let file = file(
            "# routes\n\n192.0.2.0/24 via 198.18.1.1\n198.51.100.0/24\tvia 198.18.1.1, 198.19.1.1*2 # two\n\
             2001:db8::/32 via 2001:2::1\n203.0.113.0/24 blackhole\n0.0.0.0/0 unreachable\n::/0 prohibit\n",
        );
        let received = events(Kind::Static(options(file.path())));
        assert!(matches!(received[..], [Event::Batch(_), Event::EndOfTable, Event::Finished]));
        let state = net_state(&received);
        assert_eq!(state.len(), 6);
        assert_eq!(state[0], "0.0.0.0/0 Unreachable 0");
        assert!(state[2].contains("weight: 1") && state[2].contains("weight: 2"), "{}", state[2]);
    }

    #[test]
    fn next_hops_may_name_ports_of_the_hosts() {
        let file = file(
            "203.0.113.0/25 via 3.3.3.3%p1, 3.3.3.3%p2*2\n203.0.113.128/25 dev p1\n::/0 via fe80::1%p1\n",
        );
        let mut found = read(file.path()).unwrap();
        found.sort_by_key(|(prefix, _)| *prefix);
        let words = |group: &Arc<Group>| fibcast_sync_agent::agent::show::words(&group.value).join(", ");
        let found: Vec<String> =
            found.iter().map(|(prefix, group)| format!("{prefix} {}", words(group))).collect();
        assert_eq!(
            found,
            [
                "203.0.113.0/25 3.3.3.3 port p1, 3.3.3.3 port p2 weight 2",
                "203.0.113.128/25 port p1",
                "::/0 fe80::1 port p1"
            ]
        );
        assert_eq!(
            error("::/0 via fe80::1%"),
            "FILE:1: expected the name of a port, 1 to 64 bytes, found \"\""
        );
        assert_eq!(
            error("::/0 via fe80::1%p1,fe80::1%p1"),
            "FILE:1: expected each next hop once, found \"fe80::1%p1\""
        );
        assert_eq!(error("::/0 dev"), "FILE:1: expected the name of a port, 1 to 64 bytes, found \"\"");
    }

    #[test]
    fn a_wrong_line_is_named_with_what_was_expected() {
        assert_eq!(
            error("192.0.2.0/24 via 198.18.1.1\n192.0.2.0/33 blackhole\n"),
            "FILE:2: expected a prefix such as 192.0.2.0/24, found \"192.0.2.0/33\""
        );
        assert_eq!(
            error("192.0.2.1/24 blackhole"),
            "FILE:1: expected a prefix without host bits, found \"192.0.2.1/24\""
        );
        assert_eq!(
            error("::/0 via 10.0.0.x"),
            "FILE:1: expected the address of a next hop, found \"10.0.0.x\""
        );
        assert_eq!(error("::/0 via"), "FILE:1: expected the address of a next hop, found \"\"");
        assert_eq!(
            error("::/0 by ::1"),
            "FILE:1: expected `via`, `dev`, `blackhole`, `unreachable` or `prohibit` after the prefix, found \"by\""
        );
        assert_eq!(error("::/0 via ::1*0"), "FILE:1: expected a weight from 1 to 65535, found \"::1*0\"");
        assert_eq!(error("::/0 via ::1,::1"), "FILE:1: expected each next hop once, found \"::1\"");
        assert_eq!(
            error("::/0 via ff02::1"),
            "FILE:1: expected the unicast address of a next hop, found \"ff02::1\""
        );
        assert_eq!(error("::/0 blackhole now"), "FILE:1: expected the end of the line, found \"now\"");
        assert_eq!(error("::/0 blackhole\n\n::/0 prohibit"), "FILE:3: ::/0 is already on line 1");
    }

    #[test]
    fn a_file_without_routes_is_a_table_only_where_that_is_said() {
        for text in ["", "\n", "# 10.0.0.0/8 blackhole\n"] {
            let file = file(text);
            let reason = options(file.path()).read().unwrap_err().to_string();
            let expected =
                format!("{}: a table without routes; allow_empty = true accepts it", file.path().display());
            assert_eq!(reason, expected);
            assert!(StaticOptions { allow_empty: true, ..options(file.path()) }.read().unwrap().is_empty());
        }
    }
}
