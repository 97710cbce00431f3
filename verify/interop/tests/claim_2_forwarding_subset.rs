//! NIC hosts register with a route server and get the forwarding subset: the best routes only, one only IPv4 of VRF 0, another only VRF 7. What
//! they got they forward by, which real packets show.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fmt::Write;

use fibcast_control::tables::DropList;
use fibcast_interop::{Host, Lab, Ours, dataplane_toml, eventually, plug, route_server_toml};

/// So many routes of each family to what is behind port p1.
fn routes(first: u32, v4: u32, v6: u32) -> String {
    let mut text = String::new();
    for n in first..first + v4 {
        writeln!(text, "10.{n}.0.0/16 via 10.0.1.2").unwrap();
    }
    for n in first..first + v6 {
        writeln!(text, "2001:db8:{n:x}00::/48 via 2001:db8:1::2").unwrap();
    }
    text
}

fn source(host: &Host<'_>, origin: &str, vrf: u32, distance: u8, text: &str) -> String {
    let path = host.file(&format!("{origin}.txt"), text);
    format!(
        "[[source]]\norigin = \"{origin}\"\nkind = \"static\"\nvrf = {vrf}\ndistance = {distance}\npath = \"{}\"\n",
        path.display()
    )
}

fn families(daemon: &Ours<'_>) -> (u64, u64) {
    let table = daemon.status().table;
    (table.ipv4_routes, table.ipv6_routes)
}

fn no_route(nic: &Ours<'_>) -> u64 {
    let drops: DropList = serde_json::from_value(nic.cli("show drops")).unwrap();
    assert_eq!(drops.received, drops.sent + drops.dropped + drops.host + drops.held);
    drops.drops.iter().filter(|drop| drop.reason == "no_route").map(|drop| drop.packets).sum()
}

#[test]
fn nic_hosts_forward_by_the_best_routes_of_their_family_or_vrf_and_have_no_others() {
    let Some(lab) = Lab::new(&["ethtool", "nft", "ping"]) else { return };
    let rs = lab.host("rs");
    let (four, seven) = (lab.host("four"), lab.host("seven"));
    let ends = [lab.host("e0"), lab.host("e1"), lab.host("e2"), lab.host("e3")];
    let _network = lab.network(&[&rs, &four, &seven]);
    for (nic, ends) in [(&four, &ends[..2]), (&seven, &ends[2..])] {
        plug(nic, 0, &ends[0]);
        plug(nic, 1, &ends[1]);
    }
    // What the second host of each has behind it: in VRF 0 from 10.50.0.0/16 on, in VRF 7 from 10.70.0.0/16.
    for address in ["10.50.0.1/32", "10.70.0.1/32", "2001:db8:3200::1/128", "2001:db8:4600::1/128"] {
        for end in [&ends[1], &ends[3]] {
            end.ip(&format!("address add {address} dev lo"));
        }
    }
    let sources = source(&rs, "main", 0, 20, &routes(50, 10, 5))
        + &source(&rs, "worse", 0, 200, &routes(50, 10, 5).replace("1.2", "1.99").replace("1::2", "1::99"))
        + &source(&rs, "seven", 7, 20, &routes(70, 3, 2));
    let server =
        rs.ours("fibcast-route-server", "rs", &route_server_toml(&rs, "rs", "0.0.0.0:7830", &sources));
    eventually("ready", 10, || server.status().ready);
    assert_eq!(families(&server), (13, 7));

    let subsets = ["[sync.subset]\nfamily = \"ipv4\"\nvrfs = [0]\n", "[sync.subset]\nvrfs = [7]\n"];
    let toml =
        |host, name, core, vrf, subset| dataplane_toml(host, name, "10.255.0.1:7830", core, vrf, subset);
    let nic_4 = four.ours("fibcast-dataplane", "nic-4", &toml(&four, "nic-4", 0, 0, subsets[0]));
    let nic_7 = seven.ours("fibcast-dataplane", "nic-7", &toml(&seven, "nic-7", 1, 7, subsets[1]));
    eventually("each its part", 20, || families(&nic_4) == (10, 0) && families(&nic_7) == (3, 2));
    let shown = nic_4.cli("show routes");
    let routes = shown["routes"].as_array().unwrap();
    let with = |via: &str| routes.iter().filter(|route| route["via"][0] == via).count();
    assert_eq!((with("10.0.1.2"), with("10.0.1.99")), (10, 0), "the best routes only: {shown}");
    assert!(routes.iter().all(|route| route["vrf"] == 0), "{shown}");

    let reaches = |from: &Host<'_>, to: &str| from.try_sh(&format!("ping -n -c 3 -i 0.1 -W 2 {to}")).0;
    eventually("forwarded by what they got", 20, || {
        reaches(&ends[0], "10.50.0.1")
            && reaches(&ends[2], "10.70.0.1")
            && reaches(&ends[2], "2001:db8:4600::1")
    });
    let before = (no_route(&nic_4), no_route(&nic_7));
    assert!(!reaches(&ends[0], "2001:db8:3200::1"), "the other family");
    assert!(!reaches(&ends[0], "10.70.0.1") && !reaches(&ends[2], "10.50.0.1"), "the other VRF");
    let after = (no_route(&nic_4), no_route(&nic_7));
    assert!(after.0 >= before.0 + 6 && after.1 >= before.1 + 3, "{before:?} {after:?}");
}
