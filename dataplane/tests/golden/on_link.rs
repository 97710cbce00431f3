//! Next hops on a port's link that no subnet of the port has, and routes by a port alone: which port is asked, and from which address.

use crate::stage::*;
use fibcast_dataplane::control::own_routes::StaticRoute;
use fibcast_dataplane::packet::ethernet::{Frame, Mac};
use fibcast_dataplane::packet::{arp, ipv6 as ip6, nd};
use fibcast_fib::{Change, Group, GroupLabel, Member, NextHop, PortId, VrfId};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

const HOLD: Duration = Duration::from_millis(100);
const OTHER: Mac = Mac([2, 0, 0, 0, 3, 3]);

fn on(gateway: &str, port: u16) -> NextHop {
    NextHop { gateway: Some(gateway.parse().unwrap()), port: Some(PortId(port)) }
}

fn static_route(prefix: &str, next_hop: NextHop) -> StaticRoute {
    let group = Group::one(next_hop).unwrap();
    StaticRoute { vrf: VrfId::DEFAULT, prefix: prefix.parse().unwrap(), group }
}

fn put_hops(label: u64, next_hops: &[NextHop]) -> Change {
    let members = next_hops.iter().map(|next_hop| Member { next_hop: *next_hop, weight: 1 });
    Change::PutGroup { label: GroupLabel(label), group: Group::hops(members.collect()).unwrap() }
}

/// Port 1 has these addresses, and nobody is known there.
fn stage(addresses: &[&str], routes: Vec<StaticRoute>) -> Stage {
    Stage::with(|setup| {
        setup.ports[1].addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
        setup.neighbors.retain(|(port, ..)| *port == 0);
        setup.routes = routes;
    })
}

/// Sender and target of each request out of a port.
fn asked(stage: &mut Stage, port: usize) -> Vec<(IpAddr, IpAddr)> {
    stage.after(Duration::ZERO);
    let frames: Vec<_> = std::iter::from_fn(|| stage.out(port)).collect();
    frames.iter().map(|frame| read(frame)).collect()
}

fn read(frame: &[u8]) -> (IpAddr, IpAddr) {
    let bytes = Frame::new_checked(frame).unwrap().payload();
    if frame[12..14] == [8, 6] {
        let packet = arp::ArpPacket::new_checked(bytes).unwrap();
        assert_eq!(packet.operation, arp::Operation::Request);
        return (packet.sender.into(), packet.target.into());
    }
    let header = ip6::Ipv6Header::new_checked(bytes, bytes.len()).unwrap();
    match nd::Message::new_checked(&header).unwrap() {
        nd::Message::Solicitation { target, source_mac } => {
            assert!(source_mac.is_some());
            (header.source().into(), target.into())
        }
        other => panic!("expected a solicitation, found {other:?}"),
    }
}

/// `who` answers the router's request for its address.
fn answer(stage: &mut Stage, port: usize, who: &str, mac: Mac) {
    let frame = match who.parse().unwrap() {
        IpAddr::V4(who) => arp::ArpPacket {
            operation: arp::Operation::Reply,
            sender_mac: mac,
            sender: who,
            target_mac: PORT[port],
            target: Ipv4Addr::UNSPECIFIED,
        }
        .build(PORT[port]),
        IpAddr::V6(who) => nd::advertisement(mac, who, PORT[port].link_local(), PORT[port]),
    };
    stage.send(port, frame);
    stage.after(HOLD);
}

fn pair(sender: &str, target: &str) -> (IpAddr, IpAddr) {
    (sender.parse().unwrap(), target.parse().unwrap())
}

fn link_local(port: usize) -> String {
    PORT[port].link_local().to_string()
}

#[test]
fn a_gateway_outside_of_the_only_address_is_asked_for_from_it_and_used() {
    let mut stage = stage(&["10.0.0.5/32"], vec![static_route("0.0.0.0/0", on("172.31.1.1", 1))]);
    assert_eq!(asked(&mut stage, 1), [pair("10.0.0.5", "172.31.1.1")]);
    answer(&mut stage, 1, "172.31.1.1", GATEWAY);
    assert_eq!(stage.expect_forward(ipv4("8.8.8.8"))[..6], GATEWAY.0);
    // It is asked again from there, by unicast.
    stage.after(Duration::from_secs(31));
    let again = stage.out(1).expect("a probe");
    assert_eq!((&again[..6], read(&again)), (&GATEWAY.0[..], pair("10.0.0.5", "172.31.1.1")));
}

#[test]
fn an_ipv6_gateway_outside_of_every_subnet_is_asked_for_from_the_link_local_address() {
    for addresses in [&["2001:db8:1::5/128"][..], &["2001:db8:1::5/64", "198.51.100.1/24"], &[]] {
        let mut stage = stage(addresses, vec![static_route("::/0", on("2001:db8:99::1", 1))]);
        assert_eq!(asked(&mut stage, 1), [pair(&link_local(1), "2001:db8:99::1")]);
        answer(&mut stage, 1, "2001:db8:99::1", GATEWAY);
        assert_eq!(stage.expect_forward(ipv6("2001:db8:f::1"))[..6], GATEWAY.0);
    }
}

#[test]
fn every_destination_of_a_route_by_a_port_alone_is_resolved_there() {
    for (addresses, source) in [(&["169.254.1.1/32"][..], "169.254.1.1"), (&[], "0.0.0.0")] {
        let mut stage = stage(addresses, vec![static_route("0.0.0.0/0", NextHop::connected(PortId(1)))]);
        for (host, mac) in [("8.8.8.8", GATEWAY), ("203.0.113.7", OTHER)] {
            stage.expect_held(ipv4(host));
            assert_eq!(asked(&mut stage, 1), [pair(source, host)]);
            answer(&mut stage, 1, host, mac);
            assert_eq!(stage.out(1).expect("the packet that waited")[..6], mac.0);
            assert_eq!(stage.expect_forward(ipv4(host))[..6], mac.0);
        }
    }
}

#[test]
fn every_ipv6_destination_of_a_route_by_a_port_alone_is_resolved_there() {
    let mut stage = stage(&[], vec![static_route("2001:db8:f::/48", NextHop::connected(PortId(1)))]);
    stage.expect_held(ipv6("2001:db8:f::1"));
    assert_eq!(asked(&mut stage, 1), [pair(&link_local(1), "2001:db8:f::1")]);
    answer(&mut stage, 1, "2001:db8:f::1", GATEWAY);
    stage.out(1).expect("the packet that waited");
    assert_eq!(stage.expect_forward(ipv6("2001:db8:f::1"))[..6], GATEWAY.0);
}

#[test]
fn the_most_specific_subnet_of_the_target_decides_the_source() {
    let addresses = ["10.0.0.1/8", "10.1.0.1/16", "10.1.0.2/16", "2001:db8:1::1/48", "2001:db8:1:2::1/64"];
    let hops = [on("10.1.0.9", 1), on("10.9.0.9", 1), on("2001:db8:1:2::9", 1), on("2001:db8:1:3::9", 1)];
    let mut stage = stage(&addresses, Vec::new());
    stage.batch(vec![put_hops(1, &hops), announce("172.16.0.0/16", 1)]);
    let mut found = asked(&mut stage, 1);
    found.sort();
    let expected = [
        pair("10.0.0.1", "10.9.0.9"),
        pair("10.1.0.1", "10.1.0.9"),
        pair("2001:db8:1::1", "2001:db8:1:3::9"),
        pair("2001:db8:1:2::1", "2001:db8:1:2::9"),
    ];
    assert_eq!(found, expected);
}

#[test]
fn a_port_without_an_ipv4_address_asks_from_the_loopback_before_it_asks_from_none() {
    let routes = || vec![static_route("0.0.0.0/0", on("172.31.1.1", 1))];
    for addresses in [&[][..], &["2001:db8:1::1/64"]] {
        let mut stage = Stage::with(|setup| {
            setup.ports[1].addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
            setup.ports[1].loopback = vec!["2001:db8:ff::1".parse().unwrap(), "203.0.113.1".parse().unwrap()];
            setup.neighbors.retain(|(port, ..)| *port == 0);
            setup.routes = routes();
        });
        assert_eq!(asked(&mut stage, 1), [pair("203.0.113.1", "172.31.1.1")]);
    }
    // Never from the address of another link.
    assert_eq!(asked(&mut stage(&[], routes()), 1), [pair("0.0.0.0", "172.31.1.1")]);
}

#[test]
fn a_host_route_by_its_own_gateway_resolves_what_is_behind_it() {
    // What FRR has of OSPF on an unnumbered interface.
    let mut stage = stage(&[], Vec::new());
    stage.batch(vec![put_hops(1, &[on("3.3.3.3", 1)]), announce("3.3.3.3/32", 1)]);
    stage.batch(vec![put(2, "3.3.3.3"), announce("203.0.113.0/24", 2)]);
    assert_eq!(asked(&mut stage, 1), [pair("0.0.0.0", "3.3.3.3")]);
    answer(&mut stage, 1, "3.3.3.3", GATEWAY);
    for destination in ["3.3.3.3", "203.0.113.5"] {
        assert_eq!(stage.expect_forward(ipv4(destination))[..6], GATEWAY.0);
    }
    // The neighborship ends.
    stage.batch(vec![withdraw("3.3.3.3/32")]);
    stage.expect_held(ipv4("203.0.113.5"));
    assert_eq!(stage.control.forwarding().next_hops_unresolved, 1);
}

/// 203.0.113.0/24 and 2001:db8:f::/48 by one gateway's address on both ports.
fn two_links(gateway: &str, known: &[(usize, Mac)]) -> Stage {
    let mut stage = stage(&["10.0.0.5/32", "2001:db8:1::5/128"], Vec::new());
    stage.batch(vec![
        put_hops(1, &[on(gateway, 0), on(gateway, 1)]),
        announce("203.0.113.0/24", 1),
        announce("2001:db8:f::/48", 1),
    ]);
    for (port, mac) in known {
        answer(&mut stage, *port, gateway, *mac);
    }
    stage.after(HOLD);
    for port in 0..2 {
        while stage.out(port).is_some() {}
    }
    stage
}

#[test]
fn one_gateway_on_two_ports_is_two_next_hops() {
    for gateway in ["3.3.3.3", "2001:db8:99::3", "fe80::3"] {
        let mut stage = two_links(gateway, &[(0, OTHER), (1, GATEWAY)]);
        let mut out = [0; 2];
        for flow in 0..100u16 {
            let mut packet = ipv4("203.0.113.5");
            packet[34..36].copy_from_slice(&flow.to_be_bytes());
            stage.send(0, packet);
            for (port, mac) in [(0, OTHER), (1, GATEWAY)] {
                while let Some(frame) = stage.out(port) {
                    assert_eq!(frame[..6], mac.0);
                    out[port] += 1;
                }
            }
        }
        assert!(out[0] + out[1] == 100 && out.iter().all(|count| *count > 20), "{gateway}: {out:?}");
        // One of the two does not answer: the other has all flows.
        let mut stage = two_links(gateway, &[(1, GATEWAY)]);
        for flow in 0..20u16 {
            let mut packet = ipv4("203.0.113.5");
            packet[34..36].copy_from_slice(&flow.to_be_bytes());
            assert_eq!(stage.expect_forward(packet)[..6], GATEWAY.0);
        }
    }
}

#[test]
fn what_leads_to_one_gateway_on_two_ports_uses_both() {
    let mut stage = stage(&[], Vec::new());
    stage.batch(vec![
        put_hops(1, &[on("3.3.3.3", 0), on("3.3.3.3", 1)]),
        announce("3.3.3.3/32", 1),
        put(2, "3.3.3.3"),
        announce("203.0.113.0/24", 2),
    ]);
    let group =
        stage.control.groups(&[]).groups.into_iter().find(|group| group.label.ends_with('2')).unwrap();
    assert_eq!(group.via, ["3.3.3.3 port p0", "3.3.3.3 port p1"]);
}

#[test]
fn a_station_outside_of_the_subnets_is_a_neighbor_only_if_it_was_asked_for() {
    let mut stage = stage(&[], vec![static_route("0.0.0.0/0", on("172.31.1.1", 1))]);
    asked(&mut stage, 1);
    answer(&mut stage, 1, "172.31.1.2", OTHER);
    answer(&mut stage, 1, "2001:db8:99::2", OTHER);
    // On another port it was not asked for either.
    answer(&mut stage, 0, "172.31.1.1", OTHER);
    let known = |stage: &Stage| {
        let learned = stage.control.neighbor_list().neighbors.into_iter();
        learned.filter(|n| n.mac.is_some() && n.state != "static").map(|n| n.address).collect::<Vec<_>>()
    };
    assert!(known(&stage).is_empty());
    answer(&mut stage, 1, "172.31.1.1", GATEWAY);
    assert_eq!(known(&stage), ["172.31.1.1".parse::<IpAddr>().unwrap()]);
}

#[test]
fn a_port_of_another_vrf_keeps_its_next_hop() {
    let mut stage = Stage::with(|setup| {
        setup.ports[0].vrf = VrfId(7);
        setup.ports[1].addresses = vec!["10.0.0.5/32".parse().unwrap()];
        setup.neighbors.retain(|(port, ..)| *port == 0);
        setup.routes = vec![
            StaticRoute { vrf: VrfId(7), ..static_route("203.0.113.0/24", on("172.31.1.1", 1)) },
            StaticRoute { vrf: VrfId(7), ..static_route("198.18.0.0/15", NextHop::connected(PortId(1))) },
        ];
    });
    assert_eq!(asked(&mut stage, 1), [pair("10.0.0.5", "172.31.1.1")]);
    answer(&mut stage, 1, "172.31.1.1", GATEWAY);
    assert_eq!(stage.expect_forward(ipv4("203.0.113.5"))[..6], GATEWAY.0);
    stage.expect_held(ipv4("198.18.0.9"));
    assert_eq!(asked(&mut stage, 1), [pair("10.0.0.5", "198.18.0.9")]);
}

#[test]
fn a_sub_interface_asks_with_its_tag() {
    let mut stage = Stage::with(|setup| {
        let mut sub = setup.ports[1].clone();
        (sub.name, sub.link.vlan, sub.addresses) = ("p1.7".to_owned(), Some(7), Vec::new());
        setup.ports.push(sub);
        setup.routes = vec![static_route("0.0.0.0/0", on("172.31.1.1", 2))];
    });
    stage.after(Duration::ZERO);
    let question = stage.out(1).expect("a request");
    assert_eq!(question[12..16], [0x81, 0, 0, 7]);
    assert_eq!(read(&[&question[..12], &question[16..]].concat()), pair("0.0.0.0", "172.31.1.1"));
}

#[test]
fn an_own_address_is_no_gateway_on_any_port() {
    let gateways = ["10.0.0.5", "192.0.2.1", "2001:db8::1", "192.0.2.255", "203.0.113.1"];
    for gateway in gateways {
        let mut stage = Stage::with(|setup| {
            setup.ports[1].addresses = vec!["10.0.0.5/32".parse().unwrap()];
            setup.ports.iter_mut().for_each(|port| port.loopback = vec!["203.0.113.1".parse().unwrap()]);
            setup.routes = Vec::new();
        });
        stage.batch(vec![put_hops(1, &[on(gateway, 1)]), announce("172.16.0.0/16", 1)]);
        assert!(asked(&mut stage, 1).is_empty(), "{gateway}");
        stage.expect_held(ipv4("172.16.0.1"));
    }
}

#[test]
fn routes_that_come_and_go_at_run_time() {
    let mut stage = stage(&["10.0.0.5/32"], Vec::new());
    let change = |stage: &mut Stage, next_hop| {
        stage.control.add_route(&static_route("0.0.0.0/0", next_hop));
        stage.after(Duration::ZERO);
    };
    change(&mut stage, on("172.31.1.1", 1));
    answer(&mut stage, 1, "172.31.1.1", GATEWAY);
    while stage.out(1).is_some() {}
    assert_eq!(stage.expect_forward(ipv4("8.8.8.8"))[..6], GATEWAY.0);
    // The same destinations by the port alone.
    change(&mut stage, NextHop::connected(PortId(1)));
    stage.expect_held(ipv4("8.8.8.8"));
    assert_eq!(asked(&mut stage, 1), [pair("10.0.0.5", "8.8.8.8")]);
    answer(&mut stage, 1, "8.8.8.8", OTHER);
    assert_eq!(stage.out(1).expect("the packet that waited")[..6], OTHER.0);
    stage.control.remove_route(VrfId::DEFAULT, "0.0.0.0/0".parse().unwrap()).unwrap();
    stage.after(Duration::ZERO);
    stage.expect_drop(ipv4("8.8.8.8"), fibcast_dataplane::reason::Reason::NoRoute);
}

#[test]
fn two_ports_with_one_subnet_use_the_first_for_hosts_and_gateways_alike() {
    let mut stage = Stage::with(|setup| {
        setup.ports[0].addresses.push("198.51.100.2/24".parse().unwrap());
        setup.neighbors.retain(|(port, ..)| *port == 0);
        setup.routes = vec![route("10.0.0.0/8", "198.51.100.9")];
    });
    assert!(asked(&mut stage, 1).is_empty());
    stage.expect_held(ipv4("198.51.100.50"));
    stage.after(Duration::ZERO);
    let mut requests: Vec<_> = std::iter::from_fn(|| stage.out(0)).map(|frame| read(&frame)).collect();
    requests.sort();
    assert_eq!(requests, [pair("198.51.100.2", "198.51.100.9"), pair("198.51.100.2", "198.51.100.50")]);
}
