//! Valid and invalid files, the latter with the line that the operator sees.

use std::time::Duration;

use super::*;
use crate::source::pace::Pace;
use crate::source::{Kind, replay};
use fibcast_daemon::config::parse;

fn checked(text: &str) -> Result<Checked, String> {
    let text = format!("[node]\nname = \"rs\"\nlisten = [\"127.0.0.1:1\"]\n{text}");
    let loaded = parse::<Config>("x.toml".as_ref(), text).map_err(|e| e.to_string())?;
    check(&loaded).map_err(|e| e.to_string())
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
    let expected = Kind::Mrt(replay::MrtOptions {
        path: "Cargo.toml".into(),
        updates: Some("Cargo.toml".into()),
        pace: Pace::PerSecond(1000.0),
        start_at_us: Some(1_500_000),
        peer: None,
        bad_records: None,
        allow_empty: false,
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
    let config = checked(&self::fpm("users = [\"root\", 104]")).unwrap();
    let Kind::Fpm(fpm) = &config.sources[0].kind else { panic!("{config:?}") };
    assert_eq!((&fpm.admission.users[..], &fpm.admission.allow[..]), (&[0, 104][..], &[][..]));
}

#[test]
fn wrong_values_of_live_sources_name_line_and_key() {
    let fpm_elsewhere = fpm("").replace("127.0.0.1", "0.0.0.0");
    let cases = [
        (fpm("path = \"Cargo.toml\""), "x.toml:8: source[0].path: is not used by a source of kind \"fpm\""),
        (
            fpm("updates = \"Cargo.toml\""),
            "x.toml:8: source[0].updates: is not used by a source of kind \"fpm\"",
        ),
        (fpm("table = 254"), "x.toml:8: source[0].table: is not used by a source of kind \"fpm\""),
        (
            fpm("protocol = [\"bgp\", \"kernel\"]"),
            "x.toml:8: source[0].protocol: zebra does not tell when kernel and connected routes (protocol 2) are gone",
        ),
        (fpm("protocol = 2"), "x.toml:8: source[0].protocol: zebra does not tell when kernel"),
        (fpm("protocol = \"bpg\""), "x.toml:8: source[0].protocol: expected a number or one of redirect, "),
        (fpm("vrfs = { main = 0 }"), "x.toml:8: source[0].vrfs: expected numbers of kernel tables"),
        (fpm("end_of_table = \"eor\""), "x.toml:8: source[0].end_of_table: expected \"either\", "),
        (fpm("quiet_s = 1"), "x.toml:8: source[0].quiet_s: expected 5 to 3600 seconds, found 1"),
        (
            fpm("sentinel = \"2001:db8::1/64\""),
            "x.toml:8: source[0].sentinel: expected one IPv6 address (/128)",
        ),
        (
            fpm("users = [\"nobody-here\"]"),
            "x.toml:8: source[0].users: expected a user in /etc/passwd or an id",
        ),
        (fpm("ports = { eth1 = \"\" }"), "x.toml:8: source[0].ports: eth1: expected the name of a port"),
        (fpm_elsewhere, "x.toml:7: source[0].listen: FPM has no authentication"),
        ("[[source]]\norigin = \"a\"\nkind = \"fpm\"\n".to_owned(), "x.toml:4: source[0].listen: missing"),
        (
            fpm("") + &fpm("").replace("bgp", "ospf"),
            "x.toml:11: source[1].listen: source \"bgp\" listens there already",
        ),
        (fpm("") + &fpm(""), "x.toml:9: source[1].origin: source[0] has the origin \"bgp\" already"),
        (netlink(""), "x.toml:4: source[0].table: expected the number of a kernel table"),
        (netlink("table = 0"), "x.toml:7: source[0].table: expected the number of a kernel table"),
        (netlink("listen = \"[::1]:1\""), "x.toml:7: source[0].listen: is not used by a source of kind"),
        (
            source("kind = \"static\"\nlisten = \"127.0.0.1:1\""),
            "x.toml:8: source[0].listen: is not used by a source of kind \"static\"",
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
            "9: source[0].filter[0].family: has no effect with a prefix",
        ),
        ("action = \"drop\", prefix = \"::/0\"", "9: source[0].filter[0].action: unknown variant `drop`"),
        ("action = \"deny\", family = \"ip\"", "9: source[0].filter[0].family: unknown variant `ip`"),
        ("action = \"deny\", prefix = \"::/0\", min = 1", "9: source[0].filter[0].min: unknown field `min`"),
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
            "x.toml:8: source[0].pace: is not used by a source of kind \"static\"",
        ),
        (
            source("kind = \"mrt\"\npace = \"fast\""),
            "x.toml:8: source[0].pace: expected \"recorded\" or a number",
        ),
        (
            source("kind = \"mrt\"\nstart_at = 1.0"),
            "x.toml:8: source[0].start_at: has no effect without `updates`",
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
            "x.toml:5: peer[0].address: a name may resolve beyond",
        ),
        ("[sync]\nheartbeat_ms = 1\n".to_owned(), "x.toml:5: sync.heartbeat_ms: expected 50 to 60000"),
        ("[rib]\norigin_lease_ms = 50\n".to_owned(), "x.toml:5: rib.origin_lease_ms: expected 100 to 600000"),
        ("[rib]\norigin_hold_ms = \"1s\"\n".to_owned(), "x.toml:5: rib.origin_hold_ms: invalid type"),
    ];
    for (text, expected) in cases {
        let found = error(&text);
        assert!(found.starts_with(expected), "{found}\ninstead of\n{expected}");
    }
}
