//! BGP runs beside server A only, OSPF beside B only, C has neither; they are registered with one another: three equal tables, which hold
//! both protocols' routes and follow what each adds and withdraws.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use fibcast_interop::{Lab, Ours, eventually, route_server_toml};

fn statics(routes: &[&str]) -> String {
    let routes: String = routes.iter().map(|route| format!("route {route} blackhole; ")).collect();
    format!("protocol device {{}}\nprotocol static {{ ipv4; {routes} }}\n")
}

/// A neighbor that speaks BGP.
fn bgp(routes: &[&str]) -> String {
    "router id 192.0.2.2;\n".to_owned()
        + &statics(routes)
        + "protocol bgp { local as 65001; neighbor 192.0.2.1 as 65000; ipv4 { import none; export all; next hop self; }; }\n"
}

/// A neighbor that speaks OSPF.
fn ospf(routes: &[&str]) -> String {
    "router id 198.51.100.2;\n".to_owned()
        + &statics(routes)
        + "protocol ospf v2 { ipv4 { import none; export where source = RTS_STATIC; };\n\
           area 0 { interface \"eth0\" { type ptp; hello 1; dead 4; }; }; }\n"
}

const FPM: &str = "fpm address 127.0.0.1 port 2620\nno fpm use-next-hop-groups\n";
const BGPD: &str = "router bgp 65000\n no bgp ebgp-requires-policy\n neighbor 192.0.2.2 remote-as 65001\n";
const OSPFD: &str = "interface eth0\n ip ospf network point-to-point\n ip ospf hello-interval 1\n ip ospf dead-interval 4\nexit\n\
    router ospf\n ospf router-id 198.51.100.1\n network 198.51.100.0/24 area 0\nexit\n";

fn source(origin: &str, distance: u8) -> String {
    format!(
        "[[source]]\norigin = \"{origin}\"\ndistance = {distance}\nkind = \"fpm\"\nlisten = \"127.0.0.1:2620\"\nprotocol = \"{origin}\"\n"
    )
}

fn peers(others: [u8; 2]) -> String {
    others.map(|n| format!("[[peer]]\naddress = \"10.255.0.{n}:7830\"\n")).concat()
}

/// All three tables hold exactly these routes, and are equal by their digests.
#[track_caller]
fn all_have(servers: &[Ours<'_>], what: &str, routes: &[(&str, &str)]) {
    let took = eventually(what, 30, || {
        servers.iter().all(|server| {
            server.count() == routes.len() as u64
                && routes.iter().all(|(prefix, via)| server.via(prefix).as_deref() == Some(via))
        }) && servers.iter().all(|server| server.digest() == servers[0].digest())
    });
    println!("{what}: {} routes in 3 equal tables after {:.1} s", routes.len(), took.as_secs_f64());
}

#[test]
fn bgp_on_a_and_ospf_on_b_make_one_table_on_a_b_and_c() {
    let Some(lab) = Lab::new(&["zebra", "bgpd", "ospfd", "vtysh", "bird"]) else { return };
    let (a, b, c) = (lab.host("a"), lab.host("b"), lab.host("c"));
    let (up_a, up_b) = (lab.host("up-a"), lab.host("up-b"));
    lab.network(&[&a, &b, &c]);
    lab.cable((&a, "eth0", &["192.0.2.1/24"]), (&up_a, "eth0", &["192.0.2.2/24"]));
    lab.cable((&b, "eth0", &["198.51.100.1/24"]), (&up_b, "eth0", &["198.51.100.2/24"]));
    let toml = |host, name, rest: String| route_server_toml(host, name, "0.0.0.0:7830", &rest);
    let program = "fibcast-route-server";
    let servers = [
        a.ours(program, "rs-a", &toml(&a, "rs-a", source("bgp", 20) + &peers([2, 3]))),
        b.ours(program, "rs-b", &toml(&b, "rs-b", source("ospf", 110) + &peers([1, 3]))),
        c.ours(program, "rs-c", &toml(&c, "rs-c", peers([1, 2]))),
    ];
    let mut bgp_neighbor = up_a.bird(&bgp(&["10.1.0.0/16", "10.2.0.0/16", "10.3.0.0/16"]));
    let ospf_neighbor = up_b.bird(&ospf(&["172.16.1.0/24", "172.16.2.0/24", "10.3.0.0/16"]));
    let frr_a = a.frr(&["bgpd"], &(FPM.to_owned() + BGPD));
    let frr_b = b.frr(&["ospfd"], &(FPM.to_owned() + OSPFD));

    let (bgp_hop, ospf_hop) = ("192.0.2.2", "198.51.100.2");
    let (one, two, three) = (("10.1.0.0/16", bgp_hop), ("10.2.0.0/16", bgp_hop), ("10.3.0.0/16", bgp_hop));
    let (o1, o2) = (("172.16.1.0/24", ospf_hop), ("172.16.2.0/24", ospf_hop));
    all_have(&servers, "both protocols", &[one, two, three, o1, o2]);
    for server in &servers {
        eventually("ready", 20, || server.status().ready);
        let shown = server.cli("show routes 10.3.0.0/16 --all");
        let field = |n: usize, key: &str| shown["routes"][n][key].clone();
        assert_eq!((field(0, "origin"), field(1, "origin")), ("bgp".into(), "ospf".into()), "{shown}");
        assert_eq!(shown["routes"][0]["choice"]["decided_by"], "distance", "{shown}");
    }
    assert!(servers[2].status().sources.is_empty(), "C runs no protocol");

    bgp_neighbor.configure(&bgp(&["10.2.0.0/16", "10.3.0.0/16", "10.4.0.0/16"]));
    let four = ("10.4.0.0/16", bgp_hop);
    all_have(&servers, "BGP adds one and withdraws one", &[two, three, four, o1, o2]);
    ospf_neighbor.configure(&ospf(&["172.16.2.0/24", "172.16.3.0/24", "10.3.0.0/16"]));
    let o3 = ("172.16.3.0/24", ospf_hop);
    all_have(&servers, "OSPF adds one and withdraws one", &[two, three, four, o2, o3]);
    bgp_neighbor.configure(&bgp(&["10.2.0.0/16", "10.4.0.0/16"]));
    let worse = ("10.3.0.0/16", ospf_hop);
    all_have(&servers, "BGP withdraws what OSPF has too", &[two, worse, four, o2, o3]);
    bgp_neighbor.kill();
    all_have(&servers, "BGP's neighbor is dead", &[worse, o2, o3]);
    bgp_neighbor.start();
    all_have(&servers, "BGP's neighbor is back", &[two, worse, four, o2, o3]);
    for frr in [frr_a, frr_b] {
        assert_eq!(frr.fpm_counter("Connection closes"), 0);
    }
}
