//! Wrong configurations, each with the line that the operator reads.

use super::*;
use fibcast_daemon::config::parse;

const GOOD: &str = r#"[node]
name = "nh-1"
[workers]
cores = [1]
idle = "sleep"
[[port]]
name = "p0"
device = "net_null0"
addresses = ["192.0.2.1/24", "2001:db8::1/64"]
[[static_neighbor]]
port = "p0"
ip = "192.0.2.9"
mac = "02:00:00:00:00:09"
[[static_route]]
prefix = "10.0.0.0/8"
via = "192.0.2.9"
[[static_route]]
prefix = "10.1.0.0/16"
blackhole = true
"#;

fn check(text: &str) -> Result<(), String> {
    let loaded = parse::<Config>("x.toml".as_ref(), text.to_owned()).map_err(|error| error.to_string())?;
    Config::check(&loaded).map_err(|error| error.to_string())
}

fn error(from: &str, to: &str) -> String {
    assert!(GOOD.contains(from), "{from}");
    check(&GOOD.replacen(from, to, 1)).unwrap_err()
}

#[test]
fn a_good_file_passes_and_means_what_it_says() {
    check(GOOD).unwrap();
    let config = parse::<Config>("x.toml".as_ref(), GOOD.to_owned()).unwrap().value;
    assert_eq!(
        (config.workers.idle, config.ports[0].mtu, config.ports[0].rx_desc),
        (Policy::Sleep, 1_500, 1_024)
    );
    assert_eq!(config.static_neighbors(), [(0, [192, 0, 2, 9].into(), Mac([2, 0, 0, 0, 0, 9]))]);
    assert_eq!(config.static_routes()[1].via, None);
}

#[test]
fn a_wrong_key_is_named() {
    assert!(error("mac =", "mack =").starts_with("x.toml:13: static_neighbor[0].mack: unknown field"));
}

#[test]
fn a_wrong_type_is_named() {
    assert!(error("cores = [1]", "cores = 1").starts_with("x.toml:4: workers.cores: invalid type"));
}

#[test]
fn a_mac_address_that_does_not_parse_is_named() {
    let text = error("02:00:00:00:00:09", "02:00:00:00:09");
    assert!(text.starts_with("x.toml:13: static_neighbor[0].mac: expected a MAC address like"), "{text}");
}

#[test]
fn an_unknown_port_is_named() {
    let text = error("port = \"p0\"", "port = \"p7\"");
    assert_eq!(text, "x.toml:11: static_neighbor[0].port: expected the name of a [[port]], found \"p7\"");
}

#[test]
fn a_host_path_is_refused_rather_than_ignored() {
    let text = error("device =", "host_path = true\ndevice =");
    assert_eq!(text, "x.toml:8: port[0].host_path: is not available in this version; leave it out");
}

#[test]
fn a_route_with_host_bits_is_refused() {
    assert_eq!(
        error("10.0.0.0/8", "10.0.0.1/8"),
        "x.toml:15: static_route[0].prefix: expected 10.0.0.0/8, found host bits set"
    );
}

#[test]
fn a_route_must_say_where_to() {
    let text = error("blackhole = true", "");
    assert!(text.ends_with("static_route[1].via: expected either via or blackhole = true"), "{text}");
}

#[test]
fn a_core_for_two_workers_is_refused() {
    assert_eq!(
        error("cores = [1]", "cores = [1, 1]"),
        "x.toml:4: workers.cores: core 1 stands twice: each worker needs its own"
    );
}

#[test]
fn no_port_at_all_is_refused() {
    let text = check("port = []\n[node]\nname = \"x\"\n[workers]\ncores = [0]\n").unwrap_err();
    assert!(text.contains("port: expected 1 to 256 ports, found 0"), "{text}");
}

#[test]
fn a_relay_without_servers_is_refused() {
    let text = error("name = \"nh-1\"", "name = \"nh-1\"\nlisten = [\"127.0.0.1:7832\"]");
    assert_eq!(text, "x.toml:3: node.listen: a relay needs servers of its own: [sync] is missing");
}
