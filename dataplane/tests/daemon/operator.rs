//! What an operator asks about the router itself: version, running configuration, interfaces, next hops, and counters from now on.

use std::net::{SocketAddr, TcpListener};

use crate::common::{ROUTE, Router, frame, wait_until};
use crate::stalled_worker::get;
use fibcast_control::about::RunningConfig;
use fibcast_control::interfaces::{InterfaceList, NextHopList};
use fibcast_control::protocol::CounterPage;
use fibcast_control::tables::{DropList, GroupList, PortList};
use fibcast_control::{Answer, DataplaneRequest, Request};

fn config(router: &Router) -> RunningConfig {
    let Ok(Answer::Config(config)) = router.ask(Request::Config) else { panic!("no answer") };
    *config
}

fn interfaces(router: &Router) -> InterfaceList {
    let Ok(Answer::Interfaces(list)) = router.ask(DataplaneRequest::Interfaces) else { panic!("no answer") };
    list
}

fn next_hops(router: &Router, unresolved: bool) -> NextHopList {
    let request = DataplaneRequest::NextHops { unresolved };
    let Ok(Answer::NextHops(list)) = router.ask(request) else { panic!("no answer") };
    list
}

fn since_clear(router: &Router) -> (PortList, DropList, GroupList) {
    let page = |page| router.ask(DataplaneRequest::SinceClear(page)).unwrap();
    let Answer::Ports(ports) = page(CounterPage::Ports) else { panic!("no ports") };
    let Answer::Drops(drops) = page(CounterPage::Drops) else { panic!("no drops") };
    let Ok(Answer::Groups(groups)) = router.ask(Request::Groups) else { panic!("no groups") };
    (ports, drops, groups)
}

#[test]
fn version_and_configuration_are_those_of_the_process() {
    let router = Router::start(&[], "0", "", &format!("# a password\n{ROUTE}"));
    let Ok(Answer::Version(version)) = router.ask(Request::Version) else { panic!("no answer") };
    assert_eq!((version.program.as_str(), version.node.as_deref()), ("fibcast-dataplane", Some("nh-test")));
    assert!(version.libraries[0].starts_with("DPDK 2"), "{version:?}");
    let shown = config(&router);
    assert!(shown.path.ends_with("nh-test.toml") && !shown.toml.contains("password"), "{shown:?}");
    assert_eq!(shown.config["static_route"][0]["prefix"], "10.0.0.0/8");
    // The file is not the running configuration until it is reloaded.
    router.rewrite("0", "", "");
    assert_eq!(config(&router), shown);
    router.ask(Request::Reload).unwrap();
    assert_eq!(config(&router).config.get("static_route"), None);
}

#[test]
fn interfaces_have_link_addresses_and_the_loopback() {
    let keys = "loopback = [\"192.0.2.77/32\"]";
    let tagged =
        "[[port]]\nname = \"p1.5\"\nparent = \"p1\"\nvlan = 5\nvrf = 3\naddresses = [\"10.5.0.1/24\"]\n";
    let router = Router::start_with_keys(&[], keys, tagged);
    wait_until("the links", || interfaces(&router).interfaces.iter().all(|one| one.link_up == Some(true)));
    let list = interfaces(&router).interfaces;
    let names: Vec<&str> = list.iter().map(|interface| interface.name.as_str()).collect();
    assert_eq!(names, ["p0", "p1", "p1.5", "lo"]);
    let [p0, p1, tagged, lo] = &list[..] else { panic!("four interfaces") };
    assert_eq!((p0.mtu, p0.vrf, p0.driver.as_deref()), (Some(1500), 0, Some("net_pcap")));
    assert!(p0.speed_mbps.is_some(), "{p0:?}");
    let addresses: Vec<String> = p0.addresses.iter().map(ToString::to_string).collect();
    assert!(addresses[0] == "192.0.2.1/24" && addresses[1].starts_with("fe80::"), "{addresses:?}");
    assert_eq!((tagged.parent.as_deref(), tagged.vlan, tagged.vrf), (Some("p1"), Some(5), 3));
    assert_eq!((&tagged.mac, tagged.speed_mbps), (&p1.mac, p1.speed_mbps));
    assert_eq!((lo.addresses[0].to_string(), &lo.mac, lo.mtu), ("192.0.2.77/32".to_owned(), &None, None));
}

#[test]
fn next_hops_have_state_and_users_and_the_unresolved_ones_are_found() {
    let more = "[[static_route]]\nprefix = \"11.0.0.0/8\"\nvia = \"198.51.100.9\"\n\
                [[static_route]]\nprefix = \"12.0.0.0/8\"\nvia = \"198.51.100.77\"\n\
                [[static_route]]\nprefix = \"13.0.0.0/8\"\nvia = \"10.255.255.1\"\n\
                [[static_route]]\nprefix = \"14.0.0.0/8\"\nvia = \"172.16.0.1\"\n";
    let router = Router::start(&[], "0", "", &format!("{ROUTE}{more}"));
    let of = |list: &NextHopList, gateway: &str| {
        let gateway = gateway.parse().ok();
        list.next_hops.iter().find(|hop| hop.gateway == gateway).cloned()
    };
    wait_until("the links", || {
        of(&next_hops(&router, false), "198.51.100.9").is_some_and(|hop| hop.resolved)
    });
    let all = next_hops(&router, false);
    let known = of(&all, "198.51.100.9").unwrap();
    assert_eq!((known.port.as_deref(), known.mac.as_deref()), (Some("p1"), Some("02:00:00:00:00:09")));
    // Two routes of its own, and that by the recursive gateway in 10.0.0.0/8.
    assert_eq!((known.state.as_str(), known.groups.len(), known.routes), ("static", 3, 3), "{all:?}");
    let connected = all.next_hops.iter().filter(|hop| hop.gateway.is_none()).collect::<Vec<_>>();
    assert!(connected.len() == 2 && connected.iter().all(|hop| hop.state == "connected"), "{all:?}");
    let missing = next_hops(&router, true);
    let gateways: Vec<String> =
        missing.next_hops.iter().filter_map(|hop| hop.gateway).map(|gateway| gateway.to_string()).collect();
    assert_eq!(gateways, ["172.16.0.1", "198.51.100.77"], "{missing:?}");
    let lost = of(&missing, "172.16.0.1").unwrap();
    assert_eq!((lost.port, lost.state.as_str(), lost.routes), (None, "unresolved", 1));
    assert!(lost.reason.unwrap().contains("no route has the gateway"));
    let silent = of(&missing, "198.51.100.77").unwrap();
    assert_eq!((silent.port.as_deref(), silent.mac, silent.routes), (Some("p1"), None, 1));
}

#[test]
fn cleared_counters_begin_at_zero_and_metrics_go_on() {
    let address: SocketAddr = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let router =
        Router::start_with_http(&[frame([10, 1, 2, 3], 1, 64), frame([11, 0, 0, 1], 1, 64)], address, ROUTE);
    wait_until("forwarding", || router.drops().sent > 20_000);
    let before = router.drops();
    let (ports, drops, groups) = since_clear(&router);
    assert_eq!((ports.cleared_age_ms, drops.cleared_age_ms), (None, None));
    assert!(drops.received >= before.received);
    let packets =
        |groups: &GroupList| groups.groups.iter().filter_map(|g| g.traffic).map(|t| t.packets).sum::<u64>();
    let forwarded = packets(&groups);
    let done = router.ask(DataplaneRequest::ClearCounters).unwrap();
    assert!(matches!(done, Answer::Done(text) if text.contains("cleared")));
    wait_until("packets after it", || since_clear(&router).1.received > 0);
    let (ports, drops, groups) = since_clear(&router);
    assert!(ports.cleared_age_ms.is_some() && drops.cleared_age_ms.is_some());
    let total = router.drops();
    assert!(total.received >= before.received, "totals go on");
    // What has come since then is the total without what came before.
    assert!(drops.received <= total.received - before.received, "{drops:?}");
    assert_eq!(drops.received, drops.sent + drops.dropped + drops.host + drops.held, "{drops:?}");
    assert!(drops.drops.iter().all(|drop| drop.packets <= drops.received), "{drops:?}");
    assert!(ports.ports[0].rx_packets <= total.received - before.received, "{ports:?}");
    assert!(packets(&groups) < forwarded + total.sent - before.sent, "{groups:?}");
    let metrics = get(address, "/metrics");
    let received: u64 = metrics
        .lines()
        .filter(|line| line.starts_with("fibcast_port_received_packets_total"))
        .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
        .sum();
    assert!(received >= before.received, "{received}: {metrics}");
}
