//! Invalid configurations, each with the line that the operator sees.

use fibcast_fib::{Group, NextHop, PortId, Special, VrfId};

use super::*;
use crate::packet::ethernet::Mac;
use crate::pipeline::port::Link;
use crate::worker::idle::Policy;
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
    assert_eq!(config.static_routes()[1].group, Group::Special(Special::Blackhole));
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
fn two_tap_interfaces_cannot_have_one_name() {
    let long = "a-very-long-port-name";
    let text = GOOD.replacen("name = \"p0\"", &format!("name = \"{long}1\"\nexception_path = true"), 1);
    let text = text.replacen("port = \"p0\"", &format!("port = \"{long}1\""), 1);
    check(&text).unwrap();
    let text = format!("{text}[[port]]\nname = \"{long}2\"\ndevice = \"net_null1\"\nexception_path = true\n");
    assert!(check(&text).unwrap_err().contains(
        "port[1].exception_path: the TAP interface of another port already has the name fc-a-very-long-"
    ));
}

#[test]
fn one_pci_device_in_two_forms_is_one_device() {
    let text = GOOD.replacen("net_null0", "0000:03:00.0,rx_func=1", 1);
    let text = format!("{text}[[port]]\nname = \"p1\"\ndevice = \"03:00.0\"\n");
    let error = check(&text).unwrap_err();
    assert!(
        error.contains("port[1].device: expected a device that no other port uses, found \"0000:03:00.0\""),
        "{error}"
    );
}

#[test]
fn numbers_of_queues_are_bounded_and_a_sub_interface_has_none() {
    let with = |keys: &str| error("device = \"net_null0\"", &format!("device = \"net_null0\"\n{keys}"));
    assert_eq!(with("rx_queues = 0"), "x.toml:9: port[0].rx_queues: expected 1 to 256 queues, found 0");
    assert_eq!(with("tx_queues = 257"), "x.toml:9: port[0].tx_queues: expected 1 to 256 queues, found 257");
    let text = format!("{GOOD}[[port]]\nname = \"p0.7\"\nparent = \"p0\"\nvlan = 7\nrx_queues = 2\n");
    assert!(
        check(&text)
            .unwrap_err()
            .contains("port[1].rx_queues: a sub-interface uses the queues of its parent")
    );
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
    assert!(text.contains("static_route[1].via: expected one of via, port, blackhole = true"), "{text}");
}

#[test]
fn a_core_for_two_workers_is_refused() {
    assert_eq!(
        error("cores = [1]", "cores = [1, 1]"),
        "x.toml:4: workers.cores: core 1 is listed twice: each worker needs its own core"
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

#[test]
fn a_sub_interface_needs_a_parent_with_a_device_and_a_vlan_of_its_own() {
    let sub =
        "[[port]]\nname = \"p0.7\"\nparent = \"p0\"\nvlan = 7\naddresses = [\"198.51.100.1/24\"]\nvrf = 3\n";
    let text = format!("{GOOD}{sub}");
    check(&text).unwrap();
    let setups = parse::<Config>("x.toml".as_ref(), text.clone()).unwrap().value.port_setups(&[Mac([2; 6])]);
    assert_eq!(
        (setups[1].link, setups[1].vrf, setups[1].mac),
        (Link { device: 0, vlan: Some(7) }, VrfId(3), Mac([2; 6]))
    );
    let wrong = |from: &str, to: &str| check(&text.replacen(from, to, 1)).unwrap_err();
    assert!(
        wrong("vlan = 7", "vlan = 4095")
            .contains("port[1].vlan: expected an unused VLAN of p0 from 1 to 4094")
    );
    assert!(
        wrong("parent = \"p0\"", "parent = \"p9\"")
            .contains("port[1].parent: expected the name of a [[port]]")
    );
    assert!(wrong("vlan = 7\n", "").contains("port[1].device: expected either a device, or parent and vlan"));
    assert!(
        check(&format!("{text}{}", sub.replace("p0.7", "again").replace("198.51", "198.52")))
            .unwrap_err()
            .contains("vlan")
    );
}

#[test]
fn an_ipv4_route_may_have_ipv6_gateways_and_not_the_other_way_round() {
    let via = |text: &str| check(&GOOD.replacen("via = \"192.0.2.9\"", text, 1));
    via("via = \"2001:db8::9\"").unwrap();
    via("via = [\"192.0.2.9\", \"192.0.2.8\"]\nweights = [1, 3]").unwrap();
    assert!(
        via("via = [\"192.0.2.9\"]\nweights = [1, 3]")
            .unwrap_err()
            .contains("weights: expected one for each of 1")
    );
    assert!(via("via = \"fe80::1\"").unwrap_err().contains("port: fe80::1 is link-local"));
    via("via = \"fe80::1\"\nport = \"p0\"").unwrap();
    let text = GOOD.replacen("10.0.0.0/8", "2001:db8:f::/48", 1);
    assert!(
        check(&text).unwrap_err().contains("via: expected a gateway for 2001:db8:f::/48, found 192.0.2.9")
    );
}

fn routes(text: &str) -> Vec<Group> {
    check(text).unwrap();
    let config = parse::<Config>("x.toml".as_ref(), text.to_owned()).unwrap().value;
    config.static_routes().into_iter().map(|route| route.group).collect()
}

#[test]
fn a_route_may_name_a_port_alone_or_a_gateway_that_no_subnet_has() {
    let via = |keys: &str| GOOD.replacen("via = \"192.0.2.9\"", keys, 1);
    assert_eq!(routes(&via("port = \"p0\""))[0], Group::one(NextHop::connected(PortId(0))).unwrap());
    let gateway = |address: &str| {
        Group::one(NextHop { gateway: Some(address.parse().unwrap()), port: Some(PortId(0)) }).unwrap()
    };
    for keys in ["via = \"172.31.1.1\"\nport = \"p0\"", "via = \"172.31.1.1\"\nport = \"p0\"\nonlink = true"]
    {
        assert_eq!(routes(&via(keys))[0], gateway("172.31.1.1"), "{keys}");
    }
    let ipv6 = GOOD.replacen("10.0.0.0/8", "::/0", 1);
    let text = ipv6.replacen("via = \"192.0.2.9\"", "via = \"2001:db8:99::1\"\nport = \"p0\"", 1);
    assert_eq!(routes(&text)[0], gateway("2001:db8:99::1"));
    for (keys, error) in [
        ("via = \"172.31.1.1\"\nonlink = true", "onlink: expected via and port as well"),
        ("port = \"p0\"\nonlink = true", "onlink: expected via and port as well"),
        ("port = \"p7\"", "port: expected the name of a [[port]], found \"p7\""),
        ("port = \"p0\"\nprohibit = true", "port: has no effect on packets that are dropped"),
        ("port = \"p0\"\nweights = [1]", "weights: expected one for each of 0, found 1"),
        ("via = \"192.0.2.1\"", "via: expected a gateway, found 192.0.2.1, an address of this router"),
        ("via = \"192.0.2.1\"\nport = \"p0\"", "via: expected a gateway, found 192.0.2.1"),
    ] {
        let found = check(&via(keys)).unwrap_err();
        assert!(found.contains(&format!("static_route[0].{error}")), "{keys}: {found}");
    }
    // An address of another VRF is one like any other.
    check(&via("via = \"192.0.2.1\"\nvrf = 7")).unwrap();
}

#[test]
fn loopback_addresses_are_those_of_one_router() {
    let with =
        |list: &str| GOOD.replacen("name = \"nh-1\"", &format!("name = \"nh-1\"\nloopback = [{list}]"), 1);
    let text = with("\"198.51.100.1/32\", \"2001:db8:ff::1/128\"");
    check(&text).unwrap();
    let sub =
        "[[port]]\nname = \"p0.7\"\nparent = \"p0\"\nvlan = 7\nvrf = 3\naddresses = [\"198.51.100.1/24\"]\n";
    let text = format!("{text}{sub}");
    check(&text).unwrap();
    let setups = parse::<Config>("x.toml".as_ref(), text).unwrap().value.port_setups(&[Mac([2; 6])]);
    assert_eq!((setups[0].loopback.len(), setups[1].loopback.len()), (2, 0), "of the default VRF");
    for (list, error) in [
        ("\"198.51.100.1/24\"", "expected one address, 198.51.100.1/32, found 198.51.100.1/24"),
        ("\"2001:db8:ff::1/64\"", "expected one address, 2001:db8:ff::1/128"),
        ("\"192.0.2.1/32\"", "192.0.2.1 is configured twice"),
        ("\"198.51.100.1/32\", \"198.51.100.1/32\"", "198.51.100.1 is configured twice"),
        ("\"127.0.0.1/32\"", "expected an address of a router, found 127.0.0.1/32"),
        ("\"fe80::1/128\"", "expected an address of a router, found fe80::1/128"),
        ("\"224.0.0.1/32\"", "expected an address of a router"),
    ] {
        let found = check(&with(list)).unwrap_err();
        assert!(found.starts_with("x.toml:3: node.loopback") && found.contains(error), "{list}: {found}");
    }
    let own = with("\"198.51.100.1/32\"").replacen("via = \"192.0.2.9\"", "via = \"198.51.100.1\"", 1);
    assert!(check(&own).unwrap_err().contains("an address of this router"));
}

#[test]
fn the_loopbacks_interface_has_a_name_of_its_own() {
    let with = |line: &str| error("name = \"nh-1\"", &format!("name = \"nh-1\"\n{line}"));
    for name in ["lo", "fc-much-too-long-", "fc-a/b", "fc-a b", ""] {
        let found = with(&format!("loopback_interface = \"{name}\""));
        let expected = "x.toml:3: node.loopback_interface: expected a name that begins with \"fc-\" and has at most 15 bytes";
        assert!(found.starts_with(expected), "{name}: {found}");
    }
    let text = |keys: &str| {
        GOOD.replacen("name = \"nh-1\"", &format!("name = \"nh-1\"\n{keys}"), 1).replacen(
            "name = \"p0\"\n",
            "name = \"lo\"\nexception_path = true\n",
            1,
        )
    };
    let text = |keys: &str| text(keys).replacen("port = \"p0\"", "port = \"lo\"", 1);
    let loopback = "loopback = [\"198.51.100.1/32\"]";
    let found = check(&text(loopback)).unwrap_err();
    assert!(
        found.starts_with("x.toml:8: port[0].name: the loopback's TAP interface has the name fc-lo"),
        "{found}"
    );
    check(&text(&format!("{loopback}\nloopback_interface = \"fc-loopback\""))).unwrap();
    check(&text("")).unwrap();
}

#[test]
fn a_port_needs_no_address() {
    check(&GOOD.replacen("addresses = [\"192.0.2.1/24\", \"2001:db8::1/64\"]\n", "", 1)).unwrap();
}

#[test]
fn limits_of_the_table_are_checked_and_reach_it() {
    let found = error("[workers]", "[fib]\nmax_routes = 10\n[workers]");
    assert_eq!(found, "x.toml:4: fib.max_routes: expected 1000 to 1000000000, found 10");
    let text = GOOD.replacen("[workers]", "[fib]\nmax_routes = 5000\ntrie_memory = 64\n[workers]", 1);
    let limits = parse::<Config>("x.toml".as_ref(), text).unwrap().value.fib.limits();
    let expected = fibcast_fib::Limits { max_routes: 5_000, trie_bytes: 64 << 20, ..Default::default() };
    assert_eq!(limits, expected);
    assert_eq!(
        parse::<Config>("x.toml".as_ref(), GOOD.to_owned()).unwrap().value.fib.limits(),
        Default::default()
    );
}
