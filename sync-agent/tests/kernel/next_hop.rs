//! The next hops that the kernel gets are those that this host can use: through a router, by `[kernel] next_hop`, and never the host itself.

use std::process::{Command, Stdio};
use std::time::Duration;

use fibcast_control::status::KernelStatus;
use fibcast_sync_agent::agent::AgentHandle;
use fibcast_sync_agent::kernel::{Kernel, KernelSink, KernelView};
use fibcast_sync_proto::{GroupValue, Table};
use fibcast_testbed::{Namespace, Namespaces};
use ipnet::{IpNet, Ipv4Net};

use crate::common::log::gather;
use crate::common::{self, TestServer};
use crate::stage::{Stage, group, route};

const NEVER: Duration = Duration::from_secs(86_400);

#[test]
fn a_gateway_that_is_the_host_itself_is_told_once_and_never_given_to_the_kernel() {
    let log = gather();
    let Some(mut stage) = Stage::new("", NEVER) else { return };
    let own = group(&["192.0.2.1"]);
    let mixed = group(&["192.0.2.2", "192.0.2.1"]);
    let prefix = |number: u32| IpNet::from(Ipv4Net::new((0x0a00_0000 + (number << 8)).into(), 24).unwrap());
    let by = |number: u32, group: &GroupValue| route(prefix(number), Some(group));
    let mut changes: Vec<_> = (0..2_000).flat_map(|number| by(number, &own)).collect();
    changes.extend(by(2_000, &mixed));
    changes.extend(by(2_001, &group(&["192.0.2.2"])));
    stage.commit(changes);
    let status = stage.eventually("one route", |status| status.routes == 1);
    assert_eq!((status.own_gateway, status.unfit), (2_001, 2_001), "{status:?}");
    assert_eq!((status.refused, status.refusals, status.written), (0, 0, 1), "{status:?}");
    assert_eq!(status.own_gateway_example.as_deref(), Some("10.0.0.0/24 via 192.0.2.1"));
    let told = |text: &str| {
        let expected = "gateway 192.0.2.1 is an address of this host: neither this route nor others by it are given to the kernel";
        text.lines().filter(|line| line.contains(expected) && line.contains("/24 in VRF 0")).count()
    };
    assert_eq!(told(&log.text()), 1, "{}", log.text());
    // The address becomes another host's.
    // Of another length: not a secondary address, which would go with the first one.
    stage.ip("address add 192.0.2.5/25 dev eth0");
    stage.ip("address del 192.0.2.1/24 dev eth0");
    let status = stage.eventually("all routes", |status| status.routes == 2_002);
    assert_eq!((status.own_gateway, status.own_gateway_example, status.refused), (0, None, 0));
    assert_eq!(told(&log.text()), 1, "{}", log.text());
}

/// A server in a host's network.
fn serve(host: &Namespace, address: &str, table: Table) -> TestServer {
    std::thread::scope(|scope| {
        let served = scope.spawn(|| {
            host.enter().unwrap();
            TestServer::start(host.host(), address, table)
        });
        served.join().unwrap()
    })
}

fn table(epoch: u64, routes: &[(&str, &str)]) -> Table {
    let mut table = Table::new(epoch);
    let one = |(prefix, via): &(&str, &str)| route(prefix.parse().unwrap(), Some(&group(&[via])));
    table.commit(routes.iter().flat_map(one)).unwrap();
    table
}

/// An agent with a kernel sink in a host's network, which the calling thread enters.
fn agent(host: &Namespace, keys: &str, servers: &[&TestServer]) -> (AgentHandle, KernelView) {
    host.enter().unwrap();
    let config: Kernel = toml::from_str(&format!("table = 200\n{keys}")).unwrap();
    let sink = KernelSink::start(&config, None).unwrap();
    let view = sink.view();
    let addresses: Vec<_> = servers.iter().map(|server| server.address).collect();
    (common::agent("h", false, &addresses, Box::new(sink)), view)
}

#[track_caller]
fn eventually(view: &KernelView, what: &str, is_so: impl Fn(&KernelStatus) -> bool) {
    common::until(&format!("{what}: {:?}", view.status()), || {
        let status = view.status();
        !status.busy && is_so(&status)
    });
}

fn rules(host: &Namespace) {
    for family in ["-4", "-6"] {
        host.ip(&format!("{family} rule add priority 1000 lookup main suppress_prefixlength 0")).unwrap();
        host.ip(&format!("{family} rule add priority 1001 lookup 200")).unwrap();
    }
}

fn hosts<const N: usize>(names: [&str; N]) -> Option<(Namespaces, [Namespace; N])> {
    if !rustix::process::geteuid().is_root() {
        eprintln!("{}: skipped: not root", std::thread::current().name().unwrap_or("a test"));
        return None;
    }
    let namespaces = Namespaces::new();
    let hosts = names.map(|name| namespaces.add(name).unwrap());
    Some((namespaces, hosts))
}

/// `h` (10.0.0.2) — `r` — LAN 192.0.2.0/24 with the server `s` (.11) and the gateway `d` (.7), behind which 203.0.113.0/24 and
/// 2001:db8:77::/48 are.
#[test]
fn a_host_that_reaches_the_lan_of_the_gateways_only_through_a_router_forwards_by_the_table() {
    let Some((_namespaces, [h, r, lan, s, d])) = hosts(["h", "r", "lan", "s", "d"]) else { return };
    h.link("eth0", &r, "eth0").unwrap();
    h.up("eth0", &["10.0.0.2/24", "fd00::2/64"]).unwrap();
    r.up("eth0", &["10.0.0.1/24", "fd00::1/64"]).unwrap();
    lan.sh("ip link add br0 type bridge && ip link set br0 up").unwrap();
    for (host, v4, v6) in [
        (&r, "192.0.2.1/24", "2001:db8::1/64"),
        (&s, "192.0.2.11/24", "2001:db8::11/64"),
        (&d, "192.0.2.7/24", "2001:db8::7/64"),
    ] {
        let port = format!("to-{}", host.host());
        host.link("eth1", &lan, &port).unwrap();
        host.up("eth1", &[v4, v6]).unwrap();
        lan.ip(&format!("link set {port} master br0 up")).unwrap();
    }
    r.sh("sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1").unwrap();
    r.ip("route add 203.0.113.0/24 via 192.0.2.7").unwrap();
    r.ip("-6 route add 2001:db8:77::/48 via 2001:db8::7").unwrap();
    for host in [&s, &d] {
        host.ip("route add 10.0.0.0/24 via 192.0.2.1").unwrap();
        host.ip("-6 route add fd00::/64 via 2001:db8::1").unwrap();
    }
    d.ip("address add 203.0.113.1/32 dev lo").unwrap();
    d.ip("address add 2001:db8:77::1/128 dev lo").unwrap();
    h.ip("route add 192.0.2.0/24 via 10.0.0.1").unwrap();
    h.ip("-6 route add 2001:db8::/64 via fd00::1").unwrap();
    rules(&h);
    let routes = [("203.0.113.0/24", "192.0.2.7"), ("2001:db8:77::/48", "2001:db8::7")];
    for (keys, address) in [
        ("", "192.0.2.11:7830"),
        ("next_hop = \"server\"", "[2001:db8::11]:7830"),
        ("next_hop = { ipv4 = \"server\", ipv6 = \"2001:db8::7\" }", "192.0.2.11:7830"),
    ] {
        let server = serve(&s, address, table(10, &routes));
        let (agent, view) = agent(&h, keys, &[&server]);
        eventually(&view, keys, |status| (status.routes, status.refused, status.unfit) == (2, 0, 0));
        let (v4, v6) = (h.ip("route show table 200").unwrap(), h.ip("-6 route show table 200").unwrap());
        let by = if address.starts_with('[') { "inet6 fd00::1" } else { "10.0.0.1" };
        assert!(v4.contains(&format!("203.0.113.0/24 via {by} dev eth0")), "{keys}: {v4}");
        assert!(v6.contains("2001:db8:77::/48 via fd00::1 dev eth0"), "{keys}: {v6}");
        h.sh("ping -c 1 -W 5 203.0.113.1").unwrap();
        h.sh("ping -6 -c 1 -W 5 2001:db8:77::1").unwrap();
        if keys.is_empty() {
            // The way to the gateways changes, and is lost and found again, in the host's own table.
            r.ip("address add 10.0.0.9/24 dev eth0").unwrap();
            h.ip("route replace 192.0.2.0/24 via 10.0.0.9").unwrap();
            let moved =
                || h.ip("route show table 200").unwrap().contains("203.0.113.0/24 via 10.0.0.9 dev eth0");
            common::until("the other router", moved);
            h.ip("route del 192.0.2.0/24").unwrap();
            eventually(&view, "no way", |status| (status.routes, status.refused) == (1, 1));
            h.ip("route add 192.0.2.0/24 via 10.0.0.1").unwrap();
            eventually(&view, "the way is back", |status| (status.routes, status.refused) == (2, 0));
        }
        drop(agent);
        h.ip("route flush table 200").unwrap();
        h.ip("-6 route flush table 200").unwrap();
    }
}

#[test]
fn with_next_hop_server_all_routes_move_to_the_secondary_and_none_is_withdrawn() {
    let Some((namespaces, [h, a, b])) = hosts(["h", "a", "b"]) else { return };
    let _switch = namespaces.network(&[&h, &a, &b]).unwrap();
    for (host, v6) in [(&h, "fd00::1/64"), (&a, "fd00::2/64"), (&b, "fd00::3/64")] {
        host.ip(&format!("address add {v6} dev ctl nodad")).unwrap();
    }
    for host in [&a, &b] {
        host.ip("address add 203.0.113.1/32 dev lo").unwrap();
        host.ip("address add 2001:db8:77::1/128 dev lo").unwrap();
    }
    rules(&h);
    // On no network of `h`.
    let routes = [
        ("203.0.113.0/24", "198.51.100.7"),
        ("198.18.0.0/15", "198.51.100.8"),
        ("2001:db8:77::/48", "2001:db8:1::7"),
    ];
    let (first, second) =
        (serve(&a, "[fd00::2]:7830", table(10, &routes)), serve(&b, "[fd00::3]:7830", table(20, &routes)));
    let (agent, view) = agent(&h, "next_hop = \"server\"", &[&first, &second]);
    eventually(&view, "three routes", |status| (status.routes, status.refused) == (3, 0));
    let table = || h.ip("route show table 200").unwrap() + &h.ip("-6 route show table 200").unwrap();
    let by = |gateway: &str| {
        table().matches(&format!("via inet6 {gateway} dev ctl")).count() == 2
            && table().contains(&format!("2001:db8:77::/48 via {gateway} dev ctl"))
    };
    common::until("the primary is the gateway", || by("fd00::2"));
    h.sh("ping -c 1 -W 5 203.0.113.1").unwrap();
    let mut monitor =
        Command::new("ip").args(["-n", h.name(), "monitor", "route"]).stdout(Stdio::piped()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(300));
    drop(first);
    common::until("the secondary is the gateway", || by("fd00::3"));
    for ping in ["ping -c 1 -W 5 203.0.113.1", "ping -6 -c 1 -W 5 2001:db8:77::1"] {
        h.sh(ping).unwrap();
    }
    monitor.kill().unwrap();
    let output = monitor.wait_with_output().unwrap();
    let seen = String::from_utf8_lossy(&output.stdout);
    let ours: Vec<&str> = seen.lines().filter(|line| line.contains("table 200")).collect();
    assert!(ours.len() >= 3 && !ours.iter().any(|line| line.starts_with("Deleted")), "{seen}");
    drop(agent);
}

#[test]
fn a_table_from_a_checkpoint_waits_for_the_address_of_the_server() {
    let Some((namespaces, [h, a])) = hosts(["h", "a"]) else { return };
    let _switch = namespaces.network(&[&h, &a]).unwrap();
    h.enter().unwrap();
    let config: Kernel = toml::from_str("table = 200\nnext_hop = \"server\"").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let start = || {
        let sink = KernelSink::start(&config, None).unwrap();
        let view = sink.view();
        let address = "10.255.0.2:7830".parse().unwrap();
        let mut sync = common::sync(&[address]);
        sync.checkpoint = Some(folder.path().join("h.ckpt"));
        (common::spawn("h", false, sync, Box::new(sink), None), view)
    };
    let routes = [("203.0.113.0/24", "198.51.100.7")];
    let server = serve(&a, "10.255.0.2:7830", table(10, &routes));
    let (agent, view) = start();
    eventually(&view, "the route", |status| status.routes == 1);
    agent.stop();
    drop(server);
    let (agent, view) = start();
    common::until("the checkpoint is read", || agent.status().unwrap().table.ipv4_routes == 1);
    std::thread::sleep(Duration::from_millis(500));
    let status = view.status();
    assert_eq!((status.unfit, status.leftovers, status.written, status.batches), (0, 1, 0, 0), "{status:?}");
    assert!(h.ip("route show table 200").unwrap().contains("203.0.113.0/24 via 10.255.0.2"));
    let _server = serve(&a, "10.255.0.2:7830", table(10, &routes));
    eventually(&view, "the route is still right", |status| status.routes == 1);
    assert_eq!(view.status().written, 0, "{:?}", view.status());
}
