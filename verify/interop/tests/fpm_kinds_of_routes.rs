//! Routes of every kind that zebra tells: tables of their own, next hops of the other family, next-hop objects that change, and nowhere.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use fibcast_interop::{Host, Lab, Ours, always, eventually, route_server_toml};

fn server<'h>(host: &'h Host<'_>, more: &str) -> Ours<'h> {
    let source = format!("[[source]]\norigin = \"frr\"\nkind = \"fpm\"\nlisten = \"127.0.0.1:2620\"\n{more}");
    host.ours("fibcast-route-server", "rs", &route_server_toml(host, "rs", "127.0.0.1:7830", &source))
}

/// What a route of a VRF says.
fn via_in(server: &Ours<'_>, vrf: u64, prefix: &str) -> Option<String> {
    let shown = server.cli("show routes");
    let routes = shown["routes"].as_array().unwrap();
    let found = routes.iter().find(|route| route["vrf"] == vrf && route["prefix"] == prefix)?;
    let via: Vec<&str> = found["via"].as_array().unwrap().iter().filter_map(|hop| hop.as_str()).collect();
    Some(via.join(", "))
}

#[test]
fn tables_of_the_kernel_are_vrfs_and_do_not_mix() {
    let Some(lab) = Lab::new(&["zebra", "staticd", "vtysh"]) else { return };
    let (a, up) = (lab.host("a"), lab.host("up"));
    lab.cable((&a, "eth0", &["192.0.2.1/24"]), (&up, "eth0", &["192.0.2.2/24"]));
    // VRF devices need a kernel with CONFIG_NET_VRF. Without them staticd can still be asked for routes of other tables.
    let devices = a.try_sh("ip link add red type vrf table 1000 && ip link set red up").0;
    println!("VRF devices in this kernel: {devices}");
    let vrfs = "vrfs = { 100 = 7, 1000 = 8 }\nprotocol = \"static\"\n";
    let server = server(&a, vrfs);
    let in_red = if devices {
        a.ip("link add eth8 type veth peer name eth9");
        a.ip("link set eth8 master red");
        a.ip("address add 203.0.113.1/24 dev eth8");
        a.ip("link set eth9 up");
        a.ip("link set eth8 up");
        ["vrf red", "ip route 10.1.0.0/16 203.0.113.2", "ip route 10.2.0.0/16 203.0.113.2", "exit-vrf"]
            .as_slice()
    } else {
        ["ip route 10.1.0.0/16 192.0.2.5 table 1000", "ip route 10.2.0.0/16 192.0.2.5 table 1000"].as_slice()
    };
    let by_red = if devices { "203.0.113.2" } else { "192.0.2.5" };
    let frr = a.frr(
        &["staticd"],
        "fpm address 127.0.0.1 port 2620\nno fpm use-next-hop-groups\nip route 10.1.0.0/16 192.0.2.2\n",
    );
    // zebra tells routes of a table that is no VRF's when they change, and not with its whole table when it connects.
    eventually("connected", 30, || server.count() == 1);
    frr.conf(&[
        "ip route 10.1.0.0/16 192.0.2.3 table 100",
        "ip route 10.3.0.0/16 192.0.2.3 table 100",
        "ip route 10.1.0.0/16 192.0.2.4 table 200",
    ]);
    frr.conf(in_red);
    eventually("five routes", 30, || server.count() == 5);
    let next_hop = |vrf| via_in(&server, vrf, "10.1.0.0/16");
    assert_eq!(
        [next_hop(0), next_hop(7), next_hop(8)].map(Option::unwrap),
        ["192.0.2.2", "192.0.2.3", by_red]
    );
    eventually("table 200 is nobody's", 10, || server.counter("frr", "skipped_table") > 0);
    frr.conf(&["no ip route 10.1.0.0/16 192.0.2.3 table 100"]);
    eventually("gone from its table", 10, || next_hop(7).is_none());
    always("and from no other", 1, || next_hop(0).is_some() && next_hop(8).is_some());
    assert_eq!(via_in(&server, 7, "10.3.0.0/16").unwrap(), "192.0.2.3");
}

#[test]
fn routes_that_lead_nowhere_say_how() {
    let Some(lab) = Lab::new(&["zebra", "staticd", "vtysh"]) else { return };
    let a = lab.host("a");
    for groups in ["no fpm use-next-hop-groups", "fpm use-next-hop-groups"] {
        let mut server = server(&a, "protocol = \"static\"\n");
        let frr = a.frr(
            &["staticd"],
            &format!(
                "fpm address 127.0.0.1 port 2620\n{groups}\n\
                 ip route 10.1.0.0/16 blackhole\nip route 10.2.0.0/16 reject\nip route 10.4.0.0/16 Null0\n\
                 ipv6 route 2001:db8:1::/48 blackhole\nipv6 route 2001:db8:2::/48 reject\n"
            ),
        );
        eventually("five routes of staticd", 30, || server.count() >= 5);
        for (prefix, how) in [
            ("10.1.0.0/16", "blackhole"),
            ("10.2.0.0/16", "unreachable"),
            ("10.4.0.0/16", "blackhole"),
            ("2001:db8:1::/48", "blackhole"),
            ("2001:db8:2::/48", "unreachable"),
        ] {
            assert_eq!(server.via(prefix).as_deref(), Some(how), "{prefix}, {groups}");
        }
        frr.conf(&["no ip route 10.2.0.0/16 reject", "ip route 10.2.0.0/16 blackhole"]);
        eventually("another kind", 10, || server.via("10.2.0.0/16").as_deref() == Some("blackhole"));
        frr.stop("staticd");
        frr.stop("zebra");
        server.stop();
    }
}

#[test]
fn ipv4_by_an_ipv6_next_hop_comes_with_next_hop_groups_and_without_them_or_not_at_all() {
    let Some(lab) = Lab::new(&["zebra", "bgpd", "staticd", "vtysh", "bird"]) else { return };
    let (a, up) = (lab.host("a"), lab.host("up"));
    lab.cable((&a, "eth0", &["2001:db8::1/64"]), (&up, "eth0", &["2001:db8::2/64"]));
    // RFC 8950: one session for both families, over IPv6.
    let _bird = up.bird(
        "router id 192.0.2.2;\nprotocol device {}\n\
         protocol static { ipv4; route 10.1.0.0/16 blackhole; route 10.2.0.0/16 blackhole; }\n\
         protocol bgp { local as 65001; neighbor 2001:db8::1 as 65000;\n\
          ipv4 { extended next hop; import none; export all; next hop self; }; }\n",
    );
    let server = server(&a, "protocol = \"bgp\"\nports = { eth0 = \"p0\" }\n");
    let frr = a.frr(
        &["staticd", "bgpd"],
        "fpm address 127.0.0.1 port 2620\nno fpm use-next-hop-groups\n\
         route-map IN permit 10\n set ipv6 next-hop prefer-global\n\
         router bgp 65000\n bgp router-id 192.0.2.1\n no bgp ebgp-requires-policy\n no bgp default ipv4-unicast\n \
         neighbor 2001:db8::2 remote-as 65001\n neighbor 2001:db8::2 capability extended-nexthop\n \
         address-family ipv4 unicast\n  neighbor 2001:db8::2 activate\n  neighbor 2001:db8::2 route-map IN in\n",
    );
    // Without groups FRR 8.4 and 10.3 write 169.254.0.1, which is no next hop; 10.7 writes the IPv6 one.
    eventually("sent without groups", 40, || {
        server.counter("frr", "skipped_unnumbered") >= 2 || server.count() == 2
    });
    frr.conf(&["fpm use-next-hop-groups"]);
    eventually("sent with their next hop", 30, || server.count() == 2);
    let via = server.via("10.1.0.0/16").unwrap();
    println!("IPv4 by an IPv6 next hop: {via}");
    // bgpd takes the link-local one of the two next hops for IPv4, whatever the route-map says; the port tells where that is.
    // 10.7 takes the global one, and names the interface with it.
    let global = via == "2001:db8::2" || via == "2001:db8::2 port p0";
    assert!(global || (via.starts_with("fe80::") && via.ends_with("port p0")), "{via}");
    up.ip("link set eth0 down");
    eventually("withdrawn with the link", 60, || server.count() == 0);
}

#[test]
fn bgp_unnumbered_leads_by_link_local_next_hops_to_ports() {
    let Some(lab) = Lab::new(&["zebra", "bgpd", "staticd", "vtysh"]) else { return };
    let (a, up) = (lab.host("a"), lab.host("up"));
    lab.cable((&a, "eth0", &[]), (&up, "eth0", &[]));
    let server = server(&a, "protocol = \"bgp\"\nports = { eth0 = \"p0\" }\n");
    let conf = |own: u32, other: u32, more: &str| {
        format!(
            "{more}router bgp {own}\n bgp router-id 192.0.2.{}\n no bgp ebgp-requires-policy\n \
             neighbor eth0 interface remote-as {other}\n address-family ipv4 unicast\n  redistribute static\n \
             address-family ipv6 unicast\n  neighbor eth0 activate\n  redistribute static\n",
            own % 100
        )
    };
    let fpm =
        "fpm address 127.0.0.1 port 2620\nfpm use-next-hop-groups\ninterface eth0\n ipv6 nd ra-interval 1\n";
    let routes = "ip route 10.1.0.0/16 blackhole\nipv6 route 2001:db8:1::/48 blackhole\ninterface eth0\n ipv6 nd ra-interval 1\n";
    let _up = up.frr(&["staticd", "bgpd"], &conf(65_002, 65_001, routes));
    let _a = a.frr(&["staticd", "bgpd"], &conf(65_001, 65_002, fpm));
    eventually("both families", 60, || server.count() == 2);
    for prefix in ["10.1.0.0/16", "2001:db8:1::/48"] {
        let via = server.via(prefix).unwrap();
        assert!(via.starts_with("fe80::") && via.ends_with("port p0"), "{prefix}: {via}");
    }
}

#[test]
fn groups_of_next_hops_grow_and_shrink_under_their_routes() {
    let Some(lab) = Lab::new(&["zebra", "staticd", "vtysh"]) else { return };
    let (a, up) = (lab.host("a"), lab.host("up"));
    lab.cable((&a, "eth0", &["192.0.2.1/24"]), (&up, "eth0", &["192.0.2.2/24", "192.0.2.3/24"]));
    lab.cable((&a, "eth1", &["203.0.113.1/24"]), (&up, "eth1", &["203.0.113.2/24"]));
    let server = server(&a, "protocol = \"static\"\n");
    let all: Vec<String> = (0..200).map(|i| format!("10.0.{i}.0/24")).collect();
    let lines = |via: &str| all.iter().map(|prefix| format!("ip route {prefix} {via}\n")).collect::<String>();
    let conf = format!(
        "fpm address 127.0.0.1 port 2620\nfpm use-next-hop-groups\n{}{}{}",
        lines("192.0.2.2"),
        lines("192.0.2.3"),
        lines("203.0.113.2")
    );
    let frr = a.frr(&["staticd"], &conf);
    let every = |via: &str| {
        let shown = server.cli("show routes --limit 1000");
        let routes = shown["routes"].as_array().unwrap();
        let words = |route: &serde_json::Value| {
            let hops = route["via"].as_array().unwrap();
            hops.iter().filter_map(|hop| hop.as_str()).collect::<Vec<_>>().join(", ")
        };
        routes.len() == all.len() && routes.iter().all(|route| words(route) == via)
    };
    eventually("three next hops", 40, || every("192.0.2.2, 192.0.2.3, 203.0.113.2"));
    eventually("three next hops and a group", 10, || server.counter("frr", "next_hop_objects") >= 4);
    a.ip("link set eth1 down");
    eventually("two are left", 30, || every("192.0.2.2, 192.0.2.3"));
    assert_eq!(server.counter("frr", "routes_parked"), 0);
    a.ip("link set eth1 up");
    eventually("three again", 30, || every("192.0.2.2, 192.0.2.3, 203.0.113.2"));
    a.ip("link set eth0 down");
    eventually("one is left", 30, || every("203.0.113.2"));
    a.ip("link set eth0 up");
    eventually("three once more", 30, || every("192.0.2.2, 192.0.2.3, 203.0.113.2"));
    let withdraw: Vec<String> = all.iter().map(|prefix| format!("no ip route {prefix} 192.0.2.3")).collect();
    frr.conf(&withdraw.iter().map(String::as_str).collect::<Vec<_>>());
    eventually("one was taken back", 30, || every("192.0.2.2, 203.0.113.2"));
    assert_eq!((server.counter("frr", "routes_parked"), server.counter("frr", "messages_malformed")), (0, 0));
}
