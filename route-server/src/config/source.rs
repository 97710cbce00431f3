//! `[[source]]`: protocol instances, either live ([`live`]) or from files.

mod live;
mod users;

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use fibcast_daemon::config::{ConfigError, Loaded, Step};
use fibcast_mrt::{BadRecords, Reader};
use serde::Deserialize;

use crate::filter::{Filter, FilterError, FilterKeys, LengthKeys};
use crate::source::pace::Pace;
use crate::source::{Content, Kind, fixed, replay};

/// `[[source]]`: one protocol instance.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceKeys {
    /// Name of the protocol instance, unique on this server.
    pub origin: String,
    /// `fpm`, `netlink`, `mrt` or `static`.
    pub kind: String,
    /// Administrative distance; by default 1 for `static`, 20 for the others.
    pub distance: Option<u8>,
    /// VRF of its routes.
    #[serde(default)]
    pub vrf: u32,
    /// Route limit: one more route stops the source; its routes stay.
    pub max_prefixes: Option<u64>,
    /// Accepted prefix lengths.
    #[serde(default)]
    pub lengths: LengthKeys,
    /// Prefix list: the first matching entry decides.
    #[serde(default)]
    pub filter: Vec<FilterKeys>,
    /// The file of a `static` source, the table of an `mrt` source.
    pub path: Option<PathBuf>,
    /// `mrt`: updates to replay.
    pub updates: Option<PathBuf>,
    /// `mrt`: `"recorded"` or a number of changes per second.
    pub pace: Option<PaceKey>,
    /// `mrt`: when the first update is due, in seconds since 1970.
    pub start_at: Option<f64>,
    /// `mrt`: only this BGP peer's routes.
    pub peer: Option<IpAddr>,
    /// `mrt`: what to do with records that cannot be decoded: `"stop"` or `"skip"`; by default the table stops and updates skip.
    bad_records: Option<BadRecordsKey>,
    /// `mrt`: a table without routes is accepted.
    allow_empty: Option<bool>,
    /// `fpm`: where zebra connects.
    listen: live::Listen,
    /// `fpm`: addresses beyond loopback that may connect.
    allow: live::Allow,
    /// `fpm`: users of this host that may connect, by name or id.
    users: live::Users,
    /// `netlink`: number of the kernel table to mirror.
    table: Option<u32>,
    /// `fpm`: kernel tables besides the main one, with their VRFs.
    vrfs: live::Vrfs,
    /// `fpm`, `netlink`: accepted protocols (`rtm_protocol`).
    protocol: Option<live::ProtocolKey>,
    /// `fpm`, `netlink`: interfaces, with the port of NIC hosts that each stands for.
    ports: live::PortNames,
    /// `fpm`: what makes the source ready the first time: `"either"`, `"sentinel"` or `"quiet"`.
    end_of_table: Option<String>,
    /// `fpm`: the route that marks the end of the table, one IPv6 address.
    sentinel: live::Sentinel,
    /// `fpm`, `netlink`: quiet time in seconds after which no more routes are expected.
    quiet_s: Option<u64>,
    /// `fpm`: how long the routes of a lost zebra stay, in seconds without it since its last complete table; 0: forever.
    hold_s: Option<u64>,
}

/// `bad_records`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum BadRecordsKey {
    Stop,
    Skip,
}

/// `pace`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(untagged)]
pub enum PaceKey {
    /// Changes per second.
    Rate(f64),
    /// `"recorded"`.
    Word(String),
}

/// A checked source, ready to start.
#[derive(Debug, Clone, PartialEq)]
pub struct SourcePlan {
    /// Name of the protocol instance.
    pub origin: String,
    /// Administrative distance.
    pub distance: u8,
    /// Its kind, with options.
    pub kind: Kind,
}

/// All sources of a file, in order.
pub(super) fn check<T>(loaded: &Loaded<T>, all: &[SourceKeys]) -> Result<Vec<SourcePlan>, ConfigError> {
    let mut sources: Vec<SourcePlan> = Vec::new();
    for (at, source) in all.iter().enumerate() {
        let plan = plan(loaded, at, source)?;
        if let Err(FilterError { at: place, reason }) = filter_of(source) {
            let key: Vec<Step<'_>> = [Step::Key("source"), Step::At(at)].into_iter().chain(place).collect();
            return Err(loaded.error(&key, reason));
        }
        if sources.iter().any(|s| s.origin == plan.origin) {
            let key = [Step::Key("source"), Step::At(at), Step::Key("origin")];
            let first = sources.iter().position(|s| s.origin == plan.origin).unwrap_or_default();
            let reason = format!("source[{first}] has the origin {:?} already", plan.origin);
            return Err(loaded.error(&key, reason));
        }
        if let Kind::Fpm(fpm) = &plan.kind
            && let Some(other) =
                sources.iter().find(|s| matches!(&s.kind, Kind::Fpm(f) if f.listen == fpm.listen))
        {
            let key = [Step::Key("source"), Step::At(at), Step::Key("listen")];
            return Err(loaded.error(&key, format!("source {:?} listens there already", other.origin)));
        }
        sources.push(plan);
    }
    Ok(sources)
}

fn plan<T>(loaded: &Loaded<T>, at: usize, source: &SourceKeys) -> Result<SourcePlan, ConfigError> {
    let error = |name, reason: String| {
        Err(loaded.error(&[Step::Key("source"), Step::At(at), Step::Key(name)], reason))
    };
    let kind = source.kind.as_str();
    match kind {
        "fpm" | "netlink" | "static" | "mrt" => {}
        other => {
            return error(
                "kind",
                format!("expected \"fpm\", \"netlink\", \"mrt\" or \"static\", found {other:?}"),
            );
        }
    }
    let name = &source.origin;
    if name.is_empty() || name.len() > 64 || !name.bytes().all(|b| b.is_ascii_graphic()) {
        return error("origin", format!("expected 1 to 64 printable letters without spaces, found {name:?}"));
    }
    if source.distance == Some(0) {
        return error("distance", "expected 1 to 255, found 0".to_owned());
    }
    let of_mrt = [
        ("updates", source.updates.is_some()),
        ("pace", source.pace.is_some()),
        ("start_at", source.start_at.is_some()),
        ("peer", source.peer.is_some()),
        ("bad_records", source.bad_records.is_some()),
    ];
    let is_live = matches!(kind, "fpm" | "netlink");
    let of_mrt = of_mrt.into_iter().filter(|(_, given)| *given && kind != "mrt").map(|(name, _)| name);
    let of_live = live::given(source).into_iter().filter(|_| !is_live);
    let of_file = [("path", source.path.is_some()), ("allow_empty", source.allow_empty.is_some())];
    let of_file = of_file.into_iter().filter(|(_, given)| *given && is_live).map(|(name, _)| name);
    if let Some(name) = of_mrt.chain(of_live).chain(of_file).next() {
        return error(name, format!("is not used by a source of kind {kind:?}"));
    }
    if is_live {
        let kind = match kind {
            "fpm" => live::fpm(source).map(Kind::Fpm),
            _ => live::netlink(source).map(Kind::Netlink),
        };
        return match kind {
            Ok(kind) => {
                let distance = source.distance.unwrap_or(20);
                Ok(SourcePlan { origin: source.origin.clone(), distance, kind })
            }
            Err((name, reason)) => error(name, reason),
        };
    }
    let Some(path) = source.path.clone() else {
        return error("path", format!("missing: a source of kind {kind:?} reads a file"));
    };
    for (name, file) in [("path", Some(&path)), ("updates", source.updates.as_ref())] {
        if let Some(file) = file
            && let Err(reason) = readable(file)
        {
            return error(name, format!("{}: {reason}", file.display()));
        }
    }
    let (origin, vrf, allow_empty) = (source.origin.clone(), source.vrf, source.allow_empty == Some(true));
    if kind == "static" {
        let kind = Kind::Static(fixed::StaticOptions { path, vrf, allow_empty });
        return Ok(SourcePlan { origin, distance: source.distance.unwrap_or(1), kind });
    }
    let pace = match &source.pace {
        None => Pace::Recorded,
        Some(PaceKey::Word(word)) if word == "recorded" => Pace::Recorded,
        Some(PaceKey::Rate(rate)) if *rate > 0.0 && *rate <= 1e7 => Pace::PerSecond(*rate),
        Some(_) => {
            return error(
                "pace",
                "expected \"recorded\" or a number of changes per second up to 10000000".to_owned(),
            );
        }
    };
    let start_at_us = match source.start_at {
        None => None,
        Some(at) if (0.0..1e11).contains(&at) => Some((at * 1e6) as u64),
        Some(at) => return error("start_at", format!("expected seconds since 1970, found {at}")),
    };
    for (name, given) in [("pace", source.pace.is_some()), ("start_at", source.start_at.is_some())] {
        if given && source.updates.is_none() {
            return error(name, "has no effect without `updates`".to_owned());
        }
    }
    let bad_records = source.bad_records.map(|key| match key {
        BadRecordsKey::Stop => BadRecords::Stop,
        BadRecordsKey::Skip => BadRecords::Skip,
    });
    let kind = Kind::Mrt(replay::MrtOptions {
        path,
        updates: source.updates.clone(),
        pace,
        start_at_us,
        peer: source.peer,
        bad_records,
        allow_empty,
        vrf,
    });
    Ok(SourcePlan { origin, distance: source.distance.unwrap_or(20), kind })
}

/// What the sources' files hold, those of `static` sources only.
pub(super) fn read_contents<T>(
    loaded: &Loaded<T>,
    sources: &[SourcePlan],
) -> Result<Vec<Option<Content>>, ConfigError> {
    let one = |(at, plan): (usize, &SourcePlan)| {
        let error = |name, reason: String| {
            loaded.error(&[Step::Key("source"), Step::At(at), Step::Key(name)], reason)
        };
        match &plan.kind {
            // The beginning shows whether it is MRT at all. A whole table takes seconds: the source reads it when it starts.
            Kind::Mrt(options) => {
                for (name, file) in [("path", Some(&options.path)), ("updates", options.updates.as_ref())] {
                    let Some(file) = file else { continue };
                    let begins = Reader::open(file).and_then(|mut reader| reader.next().transpose());
                    begins.map_err(|wrong| error(name, wrong.to_string()))?;
                }
                Ok(None)
            }
            kind => read_content(loaded, at, kind),
        }
    };
    sources.iter().enumerate().map(one).collect()
}

/// Reads all of the files of source `at`.
pub(crate) fn read_content<T>(
    loaded: &Loaded<T>,
    at: usize,
    kind: &Kind,
) -> Result<Option<Content>, ConfigError> {
    kind.read()
        .map_err(|reason| loaded.error(&[Step::Key("source"), Step::At(at), Step::Key("path")], reason))
}

/// The filter of a source's keys.
pub(super) fn filter_of(source: &SourceKeys) -> Result<Filter, FilterError> {
    Filter::new(&source.filter, &source.lengths, source.max_prefixes)
}

fn readable(path: &Path) -> Result<(), String> {
    let file = std::fs::File::open(path).map_err(|e| e.to_string())?;
    let kind = file.metadata().map_err(|e| e.to_string())?.file_type();
    if kind.is_dir() { Err("is a folder".to_owned()) } else { Ok(()) }
}
