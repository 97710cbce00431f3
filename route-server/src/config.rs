//! The file `route-server.toml`: what it may say, and what of it is wrong.

mod live;

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use fibcast_daemon::config::{ConfigError, Loaded, Step, load};
use fibcast_daemon::sections::{Limits, Node, Tls};
use fibcast_sync_agent::shell::tls::Security;
use fibcast_sync_proto::origins::LEASE;
use serde::Deserialize;

use crate::filter::{Filter, FilterKeys, LengthKeys, Wrong};
use crate::source::pace::Pace;
use crate::source::{Kind, fixed, replay};

/// The file as it is written.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// `[node]`
    pub node: Node,
    /// `[tls]`
    #[serde(default)]
    pub tls: Tls,
    /// `[limits]`
    #[serde(default)]
    pub limits: Limits,
    /// `[sync]`
    #[serde(default)]
    pub sync: Sync,
    /// `[rib]`
    #[serde(default)]
    pub rib: Rib,
    /// `[[source]]`
    #[serde(default)]
    pub source: Vec<Source>,
    /// `[[peer]]`
    #[serde(default)]
    pub peer: Vec<Peer>,
}

/// `[sync]`: connections to clients and peers.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sync {
    /// Distance of heartbeats; three missed, and the other side is taken for gone.
    pub heartbeat_ms: u64,
}

impl Default for Sync {
    fn default() -> Self {
        Self { heartbeat_ms: 300 }
    }
}

/// `[rib]`: how routes of several origins live together.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rib {
    /// Without a sign of life of an own origin for so long, other servers take it for dead.
    pub origin_lease_ms: u64,
    /// For so long the routes of another server's origin stay after its lease is over, ranked after all others.
    pub origin_hold_ms: u64,
    /// After this time the server is ready also without a source's or a peer's whole table.
    pub ready_timeout_ms: u64,
}

impl Default for Rib {
    fn default() -> Self {
        Self { origin_lease_ms: LEASE.as_millis() as u64, origin_hold_ms: 10_000, ready_timeout_ms: 60_000 }
    }
}

/// `[[source]]`: one protocol instance.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// Name of the protocol instance, unique on this server.
    pub origin: String,
    /// `fpm`, `netlink`, `mrt` or `static`.
    pub kind: String,
    /// Administrative distance; by default 1 for `static`, 20 for the others.
    pub distance: Option<u8>,
    /// Routing instance.
    #[serde(default)]
    pub vrf: u32,
    /// More routes than this stop the source; what it had stays.
    pub max_prefixes: Option<u64>,
    /// Prefix lengths that are let in.
    #[serde(default)]
    pub lengths: LengthKeys,
    /// Which prefixes are let in: the first entry that fits decides.
    #[serde(default)]
    pub filter: Vec<FilterKeys>,
    /// The file of a `static` source, the table of an `mrt` source.
    pub path: Option<PathBuf>,
    /// `mrt`: updates to replay.
    pub updates: Option<PathBuf>,
    /// `mrt`: `"recorded"` or changes per second.
    pub pace: Option<PaceKey>,
    /// `mrt`: when the first update is due, in seconds since 1970.
    pub start_at: Option<f64>,
    /// `mrt`: only this BGP peer's routes.
    pub peer: Option<IpAddr>,
    /// `fpm`: where zebra connects.
    listen: live::Listen,
    /// `fpm`: who may connect beside this host.
    allow: live::Allow,
    /// `netlink`: the kernel table that is mirrored.
    table: Option<u32>,
    /// `fpm`: kernel tables beside the main one, and the routing instance of each.
    vrfs: live::Vrfs,
    /// `fpm`, `netlink`: who installed the routes.
    protocol: Option<live::ProtocolKey>,
    /// `fpm`, `netlink`: interfaces, and the port of NIC hosts that each stands for.
    ports: live::PortNames,
    /// `fpm`: `"either"`, `"sentinel"` or `"quiet"`.
    end_of_table: Option<String>,
    /// `fpm`: the route that tells the end of the table.
    sentinel: live::Sentinel,
    /// `fpm`, `netlink`: quiet time that is taken for the end of the table, in seconds.
    quiet_s: Option<u64>,
    /// `fpm`: for so long the routes of a zebra that is gone stay, in seconds; 0: for ever.
    hold_s: Option<u64>,
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

/// `[[peer]]`: a route server that this one registers with.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Peer {
    /// `host:port`; a name is looked up anew at each connection.
    pub address: String,
    /// `primary`: each peer brings origins of its own, so there is no standby among them.
    #[serde(default = "primary")]
    pub role: String,
}

fn primary() -> String {
    "primary".to_owned()
}

/// A source that can be started.
#[derive(Debug, Clone, PartialEq)]
pub struct SourcePlan {
    /// Name of the protocol instance.
    pub origin: String,
    /// Administrative distance.
    pub distance: u8,
    /// What it is made from.
    pub kind: Kind,
}

/// A configuration that was checked as far as that goes without starting.
#[derive(Debug, Clone)]
pub struct Checked {
    /// The file's content.
    pub config: Config,
    /// Its sources, in order.
    pub sources: Vec<SourcePlan>,
}

impl Checked {
    /// What of source `at` is let in.
    pub fn filter(&self, at: usize) -> Filter {
        // The file was checked: there is no error in it.
        self.config.source.get(at).and_then(|source| filter_of(source).ok()).unwrap_or_default()
    }

    /// See `[rib] origin_lease_ms`.
    pub fn origin_lease(&self) -> Duration {
        Duration::from_millis(self.config.rib.origin_lease_ms)
    }

    /// See `[rib] origin_hold_ms`.
    pub fn origin_hold(&self) -> Duration {
        Duration::from_millis(self.config.rib.origin_hold_ms)
    }
}

/// Reads and checks a file.
pub fn read(path: &Path) -> Result<Checked, ConfigError> {
    check(load(path)?)
}

fn check(loaded: Loaded<Config>) -> Result<Checked, ConfigError> {
    let config = &loaded.value;
    config.node.check(&loaded)?;
    let listen = config.node.listen.iter().copied();
    config.tls.check(&loaded, listen.chain(config.peer.iter().filter_map(|p| p.address.parse().ok())))?;
    config.tls.check_lists(&loaded, !config.node.listen.is_empty(), !config.peer.is_empty())?;
    config.limits.check(&loaded)?;
    Security::check(&config.tls, &config.node.name, &loaded)?;
    if !(50..=60_000).contains(&config.sync.heartbeat_ms) {
        let reason = format!("expected 50 to 60000 milliseconds, found {}", config.sync.heartbeat_ms);
        return Err(loaded.error(&["sync".into(), "heartbeat_ms".into()], reason));
    }
    if !(100..=600_000).contains(&config.rib.origin_lease_ms) {
        let reason = format!("expected 100 to 600000 milliseconds, found {}", config.rib.origin_lease_ms);
        return Err(loaded.error(&["rib".into(), "origin_lease_ms".into()], reason));
    }
    for (at, peer) in config.peer.iter().enumerate() {
        let key = |name| [Step::Key("peer"), Step::At(at), Step::Key(name)];
        if peer.role != "primary" {
            let reason =
                "expected \"primary\": each peer brings origins of its own, so none stands by for another";
            return Err(loaded.error(&key("role"), reason));
        }
        let port = peer.address.rsplit_once(':').filter(|(host, _)| !host.is_empty());
        if port.is_none_or(|(_, port)| port.parse::<u16>().is_err()) {
            return Err(
                loaded.error(&key("address"), format!("expected host:port, found {:?}", peer.address))
            );
        }
        // A name may mean any machine.
        let named = peer.address.parse::<SocketAddr>().is_err() && !peer.address.starts_with("localhost:");
        if named && !config.tls.insecure && !config.tls.is_on() {
            let reason =
                "a name may lead beyond loopback: expected cert, key and ca in [tls], or insecure = true";
            return Err(loaded.error(&key("address"), reason));
        }
        if config.node.listen.iter().any(|own| own.to_string() == peer.address) {
            return Err(loaded.error(&key("address"), "is this server's own address"));
        }
        if config.peer.iter().take(at).any(|p| p.address == peer.address) {
            return Err(loaded.error(&key("address"), "this peer is already in the file"));
        }
    }
    let mut sources: Vec<SourcePlan> = Vec::new();
    for (at, source) in config.source.iter().enumerate() {
        let plan = plan(&loaded, at, source)?;
        if let Err(Wrong { at: place, reason }) = filter_of(source) {
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
    Ok(Checked { config: config.clone(), sources })
}

fn plan(loaded: &Loaded<Config>, at: usize, source: &Source) -> Result<SourcePlan, ConfigError> {
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
    ];
    let is_live = matches!(kind, "fpm" | "netlink");
    let of_mrt = of_mrt.into_iter().filter(|(_, given)| *given && kind != "mrt").map(|(name, _)| name);
    let of_live = live::given(source).into_iter().filter(|_| !is_live);
    let of_file = source.path.iter().filter(|_| is_live).map(|_| "path");
    if let Some(name) = of_mrt.chain(of_live).chain(of_file).next() {
        return error(name, format!("is of no use in a source of kind {kind:?}"));
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
    let (origin, vrf) = (source.origin.clone(), source.vrf);
    if kind == "static" {
        let kind = Kind::Static(fixed::Options { path, vrf });
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
            return error(name, "is of no use without `updates`".to_owned());
        }
    }
    let updates = source.updates.clone();
    let kind = Kind::Mrt(replay::Options { path, updates, pace, start_at_us, peer: source.peer, vrf });
    Ok(SourcePlan { origin, distance: source.distance.unwrap_or(20), kind })
}

/// The filter that a source's keys describe.
fn filter_of(source: &Source) -> Result<Filter, Wrong> {
    Filter::new(&source.filter, &source.lengths, source.max_prefixes)
}

fn readable(path: &Path) -> Result<(), String> {
    let file = std::fs::File::open(path).map_err(|e| e.to_string())?;
    let kind = file.metadata().map_err(|e| e.to_string())?.file_type();
    if kind.is_dir() { Err("is a folder".to_owned()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fibcast_daemon::config::parse;

    fn checked(text: &str) -> Result<Checked, String> {
        let text = format!("[node]\nname = \"rs\"\nlisten = [\"127.0.0.1:1\"]\n{text}");
        let loaded = parse::<Config>("x.toml".as_ref(), text).map_err(|e| e.to_string())?;
        check(loaded).map_err(|e| e.to_string())
    }

    fn error(text: &str) -> String {
        checked(text).unwrap_err()
    }

    fn source(more: &str) -> String {
        format!("[[source]]\norigin = \"bgp\"\npath = \"Cargo.toml\"\n{more}\n")
    }

    #[test]
    fn sources_get_their_options_and_distances() {
        let text = source("kind = \"mrt\"\nupdates = \"Cargo.toml\"\npace = 1000\nstart_at = 1.5");
        let config = checked(&text).unwrap();
        let expected = Kind::Mrt(replay::Options {
            path: "Cargo.toml".into(),
            updates: Some("Cargo.toml".into()),
            pace: Pace::PerSecond(1000.0),
            start_at_us: Some(1_500_000),
            peer: None,
            vrf: 0,
        });
        assert_eq!(config.sources[0].kind, expected);
        assert_eq!(config.sources[0].distance, 20);
        assert_eq!(checked(&source("kind = \"static\"")).unwrap().sources[0].distance, 1);
        assert_eq!(config.origin_hold(), Duration::from_secs(10));
    }

    fn fpm(more: &str) -> String {
        format!("[[source]]\norigin = \"bgp\"\nkind = \"fpm\"\nlisten = \"127.0.0.1:2620\"\n{more}")
    }

    fn netlink(more: &str) -> String {
        format!("[[source]]\norigin = \"ospf\"\nkind = \"netlink\"\n{more}\n")
    }

    #[test]
    fn a_netlink_source_gets_its_table() {
        let config = checked(&netlink("table = 100\nvrf = 3\nprotocol = \"bird\"")).unwrap();
        let Kind::Netlink(netlink) = &config.sources[0].kind else { panic!("{config:?}") };
        assert_eq!((netlink.table, &netlink.policy.vrfs), (100, &[(100, 3)].into()));
        assert_eq!(netlink.policy.protocols, [12]);
    }

    #[test]
    fn an_fpm_source_gets_its_tables_ports_and_ends() {
        let more = "protocol = [\"bgp\", 188]\nvrfs = { 100 = 7 }\nports = { eth1 = \"p1\" }\nhold_s = 0\n";
        let config = checked(&fpm(more)).unwrap();
        let Kind::Fpm(fpm) = &config.sources[0].kind else { panic!("{config:?}") };
        assert_eq!(fpm.rules.policy.vrfs, [(254, 0), (100, 7)].into());
        assert_eq!(fpm.rules.policy.protocols, [186, 188]);
        assert_eq!((fpm.rules.quiet, fpm.rules.hold), (Duration::from_secs(5), None));
        assert_eq!(config.sources[0].distance, 20);
    }

    #[test]
    fn wrong_values_of_live_sources_name_line_and_key() {
        let fpm_elsewhere = fpm("").replace("127.0.0.1", "0.0.0.0");
        let cases = [
            (
                fpm("path = \"Cargo.toml\""),
                "x.toml:8: source[0].path: is of no use in a source of kind \"fpm\"",
            ),
            (
                fpm("updates = \"Cargo.toml\""),
                "x.toml:8: source[0].updates: is of no use in a source of kind \"fpm\"",
            ),
            (fpm("table = 254"), "x.toml:8: source[0].table: is of no use in a source of kind \"fpm\""),
            (
                fpm("protocol = \"bpg\""),
                "x.toml:8: source[0].protocol: expected a number or one of redirect, ",
            ),
            (fpm("vrfs = { main = 0 }"), "x.toml:8: source[0].vrfs: expected numbers of kernel tables"),
            (fpm("end_of_table = \"eor\""), "x.toml:8: source[0].end_of_table: expected \"either\", "),
            (fpm("quiet_s = 1"), "x.toml:8: source[0].quiet_s: expected 5 to 3600 seconds, found 1"),
            (
                fpm("sentinel = \"2001:db8::1/64\""),
                "x.toml:8: source[0].sentinel: expected a prefix without host",
            ),
            (fpm("ports = { eth1 = \"\" }"), "x.toml:8: source[0].ports: eth1: expected the name of a port"),
            (fpm_elsewhere, "x.toml:7: source[0].listen: FPM knows no passwords"),
            (
                "[[source]]\norigin = \"a\"\nkind = \"fpm\"\n".to_owned(),
                "x.toml:4: source[0].listen: missing",
            ),
            (
                fpm("") + &fpm("").replace("bgp", "ospf"),
                "x.toml:11: source[1].listen: source \"bgp\" listens there already",
            ),
            (fpm("") + &fpm(""), "x.toml:9: source[1].origin: source[0] has the origin \"bgp\" already"),
            (netlink(""), "x.toml:4: source[0].table: expected the number of a kernel table"),
            (netlink("table = 0"), "x.toml:7: source[0].table: expected the number of a kernel table"),
            (netlink("listen = \"[::1]:1\""), "x.toml:7: source[0].listen: is of no use in a source of kind"),
            (
                source("kind = \"static\"\nlisten = \"127.0.0.1:1\""),
                "x.toml:8: source[0].listen: is of no use in a source of kind \"static\"",
            ),
        ];
        for (text, expected) in cases {
            let found = error(&text);
            assert!(found.starts_with(expected), "{found}\ninstead of\n{expected}");
        }
    }

    #[test]
    fn wrong_filters_name_line_key_and_what_was_expected() {
        let filter = |entry: &str| {
            let error = error(&source(&format!("kind = \"mrt\"\nfilter = [\n{{ {entry} }},\n]")));
            error.strip_prefix("x.toml:").unwrap().to_owned()
        };
        let cases = [
            ("action = \"deny\"", "9: source[0].filter[0]: names no family: expected `prefix`, or `family`"),
            (
                "action = \"deny\", prefix = \"10.0.0.0/8\", ge = 24, le = 16",
                "9: source[0].filter[0].ge: expected at most le, which is 16, found 24",
            ),
            (
                "action = \"deny\", prefix = \"10.0.0.0/8\", le = 33",
                "9: source[0].filter[0].le: expected a length from 8 to 32, found 33",
            ),
            (
                "action = \"deny\", prefix = \"10.0.0.0/8\", ge = 7",
                "9: source[0].filter[0].ge: expected a length from 8 to 32, found 7",
            ),
            (
                "action = \"deny\", prefix = \"10.0.0.1/8\"",
                "9: source[0].filter[0].prefix: expected a prefix without host bits, found 10.0.0.1/8; did you mean 10.0.0.0/8?",
            ),
            (
                "action = \"deny\", prefix = \"::/0\", family = \"ipv6\"",
                "9: source[0].filter[0].family: is of no use with a prefix",
            ),
            ("action = \"drop\", prefix = \"::/0\"", "9: source[0].filter[0].action: unknown variant `drop`"),
            ("action = \"deny\", family = \"ip\"", "9: source[0].filter[0].family: unknown variant `ip`"),
            (
                "action = \"deny\", prefix = \"::/0\", min = 1",
                "9: source[0].filter[0].min: unknown field `min`",
            ),
        ];
        for (entry, expected) in cases {
            let found = filter(entry);
            assert!(found.starts_with(expected), "{found}\ninstead of\n{expected}");
        }
        let lengths = error(&source("kind = \"mrt\"\nlengths = { ipv4 = [24, 8] }"));
        assert_eq!(
            lengths,
            "x.toml:8: source[0].lengths.ipv4: expected the shortest and the longest length, up to 32, found [24, 8]"
        );
        let most = error(&source("kind = \"mrt\"\nmax_prefixes = 0"));
        assert_eq!(most, "x.toml:8: source[0].max_prefixes: expected at least 1, found 0");
    }

    #[test]
    fn wrong_values_name_line_and_key() {
        let cases = [
            (
                source("kind = \"rip\""),
                "x.toml:7: source[0].kind: expected \"fpm\", \"netlink\", \"mrt\" or \"static\", found \"rip\"",
            ),
            (
                source("kind = \"static\"\npace = 5"),
                "x.toml:8: source[0].pace: is of no use in a source of kind \"static\"",
            ),
            (
                source("kind = \"mrt\"\npace = \"fast\""),
                "x.toml:8: source[0].pace: expected \"recorded\" or a number",
            ),
            (
                source("kind = \"mrt\"\nstart_at = 1.0"),
                "x.toml:8: source[0].start_at: is of no use without `updates`",
            ),
            (source("kind = \"mrt\"\ndistance = 256"), "x.toml:8: source[0].distance: "),
            (source("kind = \"mrt\"\ncolour = 1"), "x.toml:8: source[0].colour: unknown field"),
            (
                source("kind = \"mrt\"\nupdates = \"/nonexistent\""),
                "x.toml:8: source[0].updates: /nonexistent: No such file",
            ),
            (
                source("kind = \"mrt\"") + &source("kind = \"mrt\""),
                "x.toml:9: source[1].origin: source[0] has the origin \"bgp\" already",
            ),
            (
                "[[peer]]\naddress = \"127.0.0.1:1\"\n".to_owned(),
                "x.toml:5: peer[0].address: is this server's own",
            ),
            (
                "[[peer]]\naddress = \"127.0.0.1:2\"\nrole = \"secondary\"\n".to_owned(),
                "x.toml:6: peer[0].role: expected",
            ),
            (
                "[[peer]]\naddress = \"rs-b\"\n".to_owned(),
                "x.toml:5: peer[0].address: expected host:port, found \"rs-b\"",
            ),
            (
                "[[peer]]\naddress = \"rs-b:1\"\n".to_owned(),
                "x.toml:5: peer[0].address: a name may lead beyond",
            ),
            ("[sync]\nheartbeat_ms = 1\n".to_owned(), "x.toml:5: sync.heartbeat_ms: expected 50 to 60000"),
            (
                "[rib]\norigin_lease_ms = 50\n".to_owned(),
                "x.toml:5: rib.origin_lease_ms: expected 100 to 600000",
            ),
            ("[rib]\norigin_hold_ms = \"1s\"\n".to_owned(), "x.toml:5: rib.origin_hold_ms: invalid type"),
        ];
        for (text, expected) in cases {
            let found = error(&text);
            assert!(found.starts_with(expected), "{found}\ninstead of\n{expected}");
        }
    }
}
