//! The keys of live sources: `fpm` and `netlink`.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;
use serde::Deserialize;

use super::{SourceKeys, users};
use crate::source::mirror::{How, KERNEL, Policy};
use crate::source::{fpm, netlink};

/// The kernel's main table.
const MAIN: u32 = 254;
/// Quiet time in seconds that counts as the end of the table: zebra pauses for a second within one.
const QUIET_S: u64 = 5;
/// How long the routes of a lost zebra stay, in seconds.
const HOLD_S: u64 = 300;

/// `protocol`: accepted protocols.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub(super) enum ProtocolKey {
    /// By number.
    Number(u8),
    /// By name.
    Name(String),
    /// Any of these.
    List(Vec<ProtocolKey>),
}

/// Names in `/etc/iproute2/rt_protos` and in FRR (`zebra/rt_netlink.h`). staticd's routes are static too.
const PROTOCOLS: [(&str, u8); 21] = [
    ("redirect", 1),
    ("kernel", 2),
    ("boot", 3),
    ("static", 4),
    ("static", 196),
    ("ra", 9),
    ("zebra", 11),
    ("bird", 12),
    ("dhcp", 16),
    ("babel", 42),
    ("bgp", 186),
    ("isis", 187),
    ("ospf", 188),
    ("rip", 189),
    ("ripng", 190),
    ("nhrp", 191),
    ("eigrp", 192),
    ("ldp", 193),
    ("sharp", 194),
    ("zstatic", 196),
    ("openfabric", 197),
];

impl ProtocolKey {
    fn numbers(&self, into: &mut Vec<u8>) -> Result<(), String> {
        match self {
            ProtocolKey::Number(number) => into.push(*number),
            ProtocolKey::Name(name) => {
                let before = into.len();
                into.extend(PROTOCOLS.iter().filter(|(known, _)| known == name).map(|(_, number)| number));
                if into.len() == before {
                    let mut known: Vec<_> = PROTOCOLS.iter().map(|(name, _)| *name).collect();
                    known.dedup();
                    return Err(format!("expected a number or one of {}, found {name:?}", known.join(", ")));
                }
            }
            ProtocolKey::List(list) => list.iter().try_for_each(|key| key.numbers(into))?,
        }
        Ok(())
    }
}

/// A key, and what is wrong with it.
type WrongKey = (&'static str, String);

/// Keys present that only live sources use.
pub(super) fn given(source: &SourceKeys) -> Vec<&'static str> {
    let keys = [
        ("listen", source.listen.is_some()),
        ("allow", source.allow.is_some()),
        ("users", source.users.is_some()),
        ("table", source.table.is_some()),
        ("vrfs", source.vrfs.is_some()),
        ("protocol", source.protocol.is_some()),
        ("ports", source.ports.is_some()),
        ("end_of_table", source.end_of_table.is_some()),
        ("sentinel", source.sentinel.is_some()),
        ("quiet_s", source.quiet_s.is_some()),
        ("hold_s", source.hold_s.is_some()),
    ];
    keys.into_iter().filter(|(_, given)| *given).map(|(name, _)| name).collect()
}

/// An `fpm` source.
pub(super) fn fpm(source: &SourceKeys) -> Result<fpm::FpmOptions, WrongKey> {
    if source.table.is_some() {
        return Err(("table", "is not used by a source of kind \"fpm\"; see `vrfs`".to_owned()));
    }
    let listen = source
        .listen
        .ok_or(("listen", "missing: a source of kind \"fpm\" waits for zebra at an address".to_owned()))?;
    let allow = source.allow.clone().unwrap_or_default();
    if !listen.ip().is_loopback() && allow.is_empty() {
        let reason = "FPM has no authentication: beyond loopback, list the addresses of zebras in `allow`; none is allowed by default";
        return Err(("listen", reason.to_owned()));
    }
    let mut vrfs = BTreeMap::from([(MAIN, source.vrf)]);
    for (table, vrf) in source.vrfs.iter().flatten() {
        let Some(number) = table.parse::<u32>().ok().filter(|number| *number > 0) else {
            return Err(("vrfs", format!("expected numbers of kernel tables as keys, found {table:?}")));
        };
        vrfs.insert(number, *vrf);
    }
    let how = how(source)?;
    let sentinel = match source.sentinel {
        None => fpm::Sentinel::default(),
        Some(_) if how == How::Quiet => {
            return Err(("sentinel", "has no effect with end_of_table = \"quiet\"".to_owned()));
        }
        Some(prefix) => fpm::Sentinel::new(prefix).map_err(|reason| ("sentinel", reason))?,
    };
    let hold = source.hold_s.unwrap_or(HOLD_S);
    let mut policy = policy(source, vrfs)?;
    if policy.protocols.contains(&KERNEL) {
        let reason = "zebra does not tell when kernel and connected routes (protocol 2) are gone: have them by a source of kind \
                      \"netlink\", or as static routes";
        return Err(("protocol", reason.to_owned()));
    }
    policy.without_kernel = true;
    let rules = fpm::Rules {
        policy,
        how,
        quiet: quiet(source, how)?,
        sentinel,
        hold: (hold > 0).then_some(Duration::from_secs(hold)),
    };
    let users = users::ids(source.users.as_deref()).map_err(|reason| ("users", reason))?;
    let admission = fpm::Admission { users, allow };
    Ok(fpm::FpmOptions { origin: source.origin.clone(), listen, admission, rules })
}

/// A `netlink` source.
pub(super) fn netlink(source: &SourceKeys) -> Result<netlink::NetlinkOptions, WrongKey> {
    let of_fpm = given(source).into_iter().find(|name| {
        matches!(*name, "listen" | "allow" | "users" | "vrfs" | "end_of_table" | "sentinel" | "hold_s")
    });
    if let Some(name) = of_fpm {
        return Err((name, "is not used by a source of kind \"netlink\"".to_owned()));
    }
    let table = source
        .table
        .filter(|table| *table > 0)
        .ok_or(("table", "expected the number of a kernel table, such as 254 for the main one".to_owned()))?;
    Ok(netlink::NetlinkOptions {
        origin: source.origin.clone(),
        table,
        policy: policy(source, BTreeMap::from([(table, source.vrf)]))?,
        quiet: quiet(source, How::Quiet)?,
    })
}

fn how(source: &SourceKeys) -> Result<How, WrongKey> {
    match source.end_of_table.as_deref() {
        None | Some("either") => Ok(How::Either),
        Some("sentinel") => Ok(How::Sentinel),
        Some("quiet") => Ok(How::Quiet),
        Some(other) => {
            let reason = format!("expected \"either\", \"sentinel\" or \"quiet\", found {other:?}");
            Err(("end_of_table", reason))
        }
    }
}

fn quiet(source: &SourceKeys, how: How) -> Result<Duration, WrongKey> {
    match source.quiet_s {
        Some(_) if how == How::Sentinel => {
            Err(("quiet_s", "has no effect with end_of_table = \"sentinel\"".to_owned()))
        }
        Some(s) if !(QUIET_S..=3600).contains(&s) => {
            Err(("quiet_s", format!("expected {QUIET_S} to 3600 seconds, found {s}")))
        }
        s => Ok(Duration::from_secs(s.unwrap_or(QUIET_S))),
    }
}

fn policy(source: &SourceKeys, vrfs: BTreeMap<u32, u32>) -> Result<Policy, WrongKey> {
    let mut protocols = Vec::new();
    if let Some(key) = &source.protocol {
        key.numbers(&mut protocols).map_err(|reason| ("protocol", reason))?;
    }
    let ports = source.ports.clone().unwrap_or_default();
    if let Some((interface, _)) = ports.iter().find(|(_, port)| port.is_empty() || port.len() > 64) {
        return Err(("ports", format!("{interface}: expected the name of a port, 1 to 64 bytes")));
    }
    Ok(Policy { vrfs, protocols, without_kernel: false, ports })
}

/// Types of keys in the file.
pub(super) type Listen = Option<SocketAddr>;
/// See [`Listen`].
pub(super) type Allow = Option<Vec<IpAddr>>;
/// See [`Listen`].
pub(super) type Users = Option<Vec<users::UserKey>>;
/// See [`Listen`].
pub(super) type Vrfs = Option<BTreeMap<String, u32>>;
/// See [`Listen`].
pub(super) type PortNames = Option<BTreeMap<String, String>>;
/// See [`Listen`].
pub(super) type Sentinel = Option<IpNet>;
