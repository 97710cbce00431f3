//! The router's loopback: an own address on every port of the default VRF, on no link, and the source where a port has no address.

use crate::stage::*;
use fibcast_control::protocol::{RouteQuery, RouteRequest};
use fibcast_dataplane::packet::ethernet::Frame;
use fibcast_dataplane::packet::{arp, checksum, nd};
use fibcast_dataplane::pipeline::delivery;
use fibcast_dataplane::pipeline::host_frame::HostFrame;
use fibcast_dataplane::pipeline::tap_state::TapState;
use fibcast_dataplane::reason::Reason;
use fibcast_fib::VrfId;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

const LOOPBACK: &str = "203.0.113.1";
const LOOPBACK_V6: &str = "2001:db8:ff::1";

/// A router with a loopback; the configuration gives it to the ports of the default VRF.
fn stage(change: impl FnOnce(&mut fibcast_dataplane::control::Setup)) -> Stage {
    Stage::with(|setup| {
        change(setup);
        for port in setup.ports.iter_mut().filter(|port| port.vrf == VrfId::DEFAULT) {
            port.loopback = [LOOPBACK, LOOPBACK_V6].map(|address| address.parse().unwrap()).to_vec();
        }
    })
}

fn ping(destination: &str) -> Vec<u8> {
    let mut packet = ipv4(destination);
    packet[23] = 1;
    packet[34..42].copy_from_slice(&[8, 0, 0, 0, 0, 1, 0, 9]);
    let field = checksum::checksum(&packet[34..]);
    packet[36..38].copy_from_slice(&field.to_be_bytes());
    seal(packet)
}

fn ping_v6(destination: &str) -> Vec<u8> {
    let mut packet = ipv6(destination);
    packet[20] = 58;
    packet[54..].copy_from_slice(&[128, 0, 0, 0, 0, 1, 0, 9, 1, 2, 3, 4]);
    let (host, own): (Ipv6Addr, Ipv6Addr) = ("2001:db8::7".parse().unwrap(), destination.parse().unwrap());
    let field = checksum::pseudo_v6(host, own, 58, &packet[54..]);
    packet[56..58].copy_from_slice(&field.to_be_bytes());
    packet
}

#[test]
fn a_ping_of_the_loopback_is_answered_from_it() {
    let mut stage = stage(|_| ());
    stage.send(0, ping(LOOPBACK));
    stage.after(Duration::ZERO);
    let answer = stage.out(0).expect("an answer");
    assert_eq!(
        (answer[34], &answer[26..30], &answer[30..34]),
        (0, &[203, 0, 113, 1][..], &[192, 0, 2, 7][..])
    );
    stage.send(0, ping_v6(LOOPBACK_V6));
    stage.after(Duration::ZERO);
    let answer = stage.out(0).expect("an answer");
    assert_eq!((answer[54], &answer[22..38]), (129, &LOOPBACK_V6.parse::<Ipv6Addr>().unwrap().octets()[..]));
}

#[test]
fn nobody_listens_on_it_and_who_asks_is_told() {
    let mut stage = stage(|_| ());
    stage.send(0, ipv4(LOOPBACK));
    stage.send(0, ipv6(LOOPBACK_V6));
    stage.after(Duration::ZERO);
    let (v4, v6) = (stage.out(0).unwrap(), stage.out(0).unwrap());
    assert_eq!((&v4[34..36], &v4[26..30]), (&[3, 3][..], &[203, 0, 113, 1][..]));
    assert_eq!(
        (&v6[54..56], &v6[22..38]),
        (&[1, 4][..], &LOOPBACK_V6.parse::<Ipv6Addr>().unwrap().octets()[..])
    );
}

#[test]
fn it_is_answered_for_on_every_port_of_the_default_vrf_and_on_no_other() {
    // A neighbor with an unnumbered interface asks for it there, from its own loopback.
    let mut stage = stage(|setup| setup.ports[0].vrf = VrfId(7));
    let request = || arp::ArpPacket::request(GATEWAY, [3, 3, 3, 3].into(), [203, 0, 113, 1].into(), None);
    let solicitation =
        || nd::solicitation(GATEWAY, "fe80::9".parse().unwrap(), LOOPBACK_V6.parse().unwrap(), None);
    for (port, answers) in [(0, 0), (1, 2)] {
        stage.send(port, request());
        stage.send(port, solicitation());
        stage.after(Duration::ZERO);
        let out: Vec<_> =
            std::iter::from_fn(|| stage.out(port)).filter(|frame| frame[..6] == GATEWAY.0).collect();
        assert_eq!(out.len(), answers, "port {port}: {out:?}");
        if let Some(reply) = out.iter().find(|frame| frame[12..14] == [8, 6]) {
            let reply = arp::ArpPacket::new_checked(Frame::new_checked(reply).unwrap().payload()).unwrap();
            assert_eq!((reply.sender.octets(), reply.sender_mac), ([203, 0, 113, 1], PORT[1]));
        }
    }
}

#[test]
fn another_station_that_claims_it_is_reported() {
    let mut stage = stage(|_| ());
    let own = [203, 0, 113, 1].into();
    stage.send(1, arp::ArpPacket::request(GATEWAY, own, own, None));
    stage.after(Duration::ZERO);
    assert_eq!(stage.control.forwarding().address_conflicts, 1);
}

#[test]
fn two_ports_on_one_link_do_not_contradict_each_other() {
    let mut stage = stage(|setup| setup.ports.iter_mut().for_each(|port| port.addresses.clear()));
    let own = [203, 0, 113, 1].into();
    stage.send(1, arp::ArpPacket::request(PORT[0], own, [3, 3, 3, 3].into(), None));
    stage.after(Duration::ZERO);
    assert_eq!(stage.control.forwarding().address_conflicts, 0);
}

#[test]
fn it_is_one_address_and_no_subnet() {
    let mut stage = stage(|_| ());
    stage.expect_drop(ipv4("203.0.113.2"), Reason::NoRoute);
    stage.expect_drop(ipv6("2001:db8:ff::2"), Reason::NoRoute);
    let shown = |address: &str| {
        let query = RouteQuery::Address(address.parse().unwrap());
        let routes = stage.control.routes(&RouteRequest { query, ..RouteRequest::default() }).routes;
        routes.into_iter().map(|route| (route.prefix.to_string(), route.via)).collect::<Vec<_>>()
    };
    assert_eq!(shown(LOOPBACK), [("203.0.113.1/32".to_owned(), vec!["local".to_owned()])]);
    assert_eq!(shown(LOOPBACK_V6), [("2001:db8:ff::1/128".to_owned(), vec!["local".to_owned()])]);
}

#[test]
fn another_vrf_does_not_have_it() {
    let mut stage = stage(|setup| setup.ports[0].vrf = VrfId(7));
    stage.expect_drop(ping(LOOPBACK), Reason::NoRoute);
    stage.expect_drop(ping_v6(LOOPBACK_V6), Reason::NoRoute);
}

/// Source of the error about a packet to nowhere, with these addresses on port 0 and routes back to the host.
fn source_of_error(addresses: &[&str], vrf: u32, packet: Vec<u8>) -> IpAddr {
    let mut stage = stage(|setup| {
        setup.ports[0].addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
        setup.ports[0].vrf = VrfId(vrf);
        for (host, prefix) in [("192.0.2.7", "192.0.2.7/32"), ("2001:db8::7", "2001:db8::7/128")] {
            let next_hop = fibcast_fib::NextHop {
                gateway: Some(host.parse().unwrap()),
                port: Some(fibcast_fib::PortId(0)),
            };
            let group = fibcast_fib::Group::one(next_hop).unwrap();
            setup.routes.push(fibcast_dataplane::control::own_routes::StaticRoute {
                vrf: VrfId(vrf),
                prefix: prefix.parse().unwrap(),
                group,
            });
        }
    });
    let error = stage.expect_error(packet, Reason::NoRoute);
    match error[12..14] {
        [8, 0] => <[u8; 4]>::try_from(&error[26..30]).unwrap().into(),
        _ => <[u8; 16]>::try_from(&error[22..38]).unwrap().into(),
    }
}

#[test]
fn a_port_without_a_global_address_sends_errors_from_it() {
    let (v4, v6) = (ipv4("100.64.0.1"), ipv6("2001:db8:dead::1"));
    let is = |addresses: &[&str], vrf, packet: &Vec<u8>, source: &str| {
        assert_eq!(source_of_error(addresses, vrf, packet.clone()).to_string(), source, "{addresses:?}");
    };
    for addresses in [&[][..], &["169.254.1.1/32"], &["fe80::1/64"], &["169.254.1.1/32", "fe80::1/64"]] {
        is(addresses, 0, &v4, LOOPBACK);
        is(addresses, 0, &v6, LOOPBACK_V6);
    }
    // A port with an address of the family uses that.
    is(&["10.0.0.5/32", "2001:db8:5::5/128"], 0, &v4, "10.0.0.5");
    is(&["10.0.0.5/32", "2001:db8:5::5/128"], 0, &v6, "2001:db8:5::5");
    is(&["10.0.0.5/32"], 0, &v6, LOOPBACK_V6);
    is(&["2001:db8:5::5/128"], 0, &v4, LOOPBACK);
    is(&["169.254.1.1/32", "10.0.0.5/32"], 0, &v4, "10.0.0.5");
    // The most specific subnet of the peer.
    is(&["192.0.0.1/16", "192.0.2.1/24"], 0, &v4, "192.0.2.1");
    // Another VRF does not have the loopback (RFC 7600 §4.8 for IPv4).
    is(&[], 7, &v4, "192.0.0.8");
    is(&[], 7, &v6, &PORT[0].link_local().to_string());
}

#[test]
fn what_is_for_it_reaches_its_own_tap_interface_from_every_port() {
    let mut stage = stage(|setup| setup.ports[1].exception_path = true);
    for (port, mac) in PORT.into_iter().enumerate() {
        let to_port = |mut packet: Vec<u8>| {
            packet[..6].copy_from_slice(&mac.0);
            packet
        };
        for packet in [ping(LOOPBACK), ipv4(LOOPBACK), ping_v6(LOOPBACK_V6), ipv6(LOOPBACK_V6)] {
            stage.send(port, to_port(packet));
            assert_eq!(stage.rings.kernel.pop().map(|frame| frame.port), Some(delivery::LOOPBACK));
        }
        // Neighbors are the router's own affair.
        stage.send(
            port,
            to_port(nd::advertisement(
                GATEWAY,
                LOOPBACK_V6.parse().unwrap(),
                LOOPBACK_V6.parse().unwrap(),
                mac,
            )),
        );
        assert!(stage.rings.kernel.is_empty());
    }
}

#[test]
fn an_address_that_the_kernel_adds_is_one_of_it_until_it_goes() {
    let mut stage = stage(|setup| setup.ports[1].exception_path = true);
    let added = |list: &[&str]| list.iter().map(|own| own.parse().unwrap()).collect::<Vec<ipnet::IpNet>>();
    let now = stage.now;
    // With a subnet, which is on no link.
    stage.control.set_kernel_loopback(added(&["203.0.113.9/24", "2001:db8:ff::9/64", "fe80::9/64"]), now);
    let of_kernel = ["203.0.113.9", "2001:db8:ff::9"]
        .map(|own| ((VrfId::DEFAULT, own.parse().unwrap()), delivery::LOOPBACK));
    stage.rings.taps.store(TapState { addresses: of_kernel.into(), ..TapState::default() }.into());
    stage.after(Duration::ZERO);
    for packet in [ping("203.0.113.9"), ping_v6("2001:db8:ff::9")] {
        stage.send(0, packet);
        assert_eq!(stage.rings.kernel.pop().map(|frame| frame.port), Some(delivery::LOOPBACK));
    }
    stage.expect_drop(ipv4("203.0.113.8"), Reason::NoRoute);
    stage.expect_drop(ipv6("2001:db8:ff::8"), Reason::NoRoute);
    stage.send(1, arp::ArpPacket::request(GATEWAY, [3, 3, 3, 3].into(), [203, 0, 113, 9].into(), None));
    stage.after(Duration::ZERO);
    assert!(
        std::iter::from_fn(|| stage.out(1)).any(|frame| frame[..6] == GATEWAY.0 && frame[12..14] == [8, 6])
    );
    // One that is configured as well stays when the kernel's goes.
    let now = stage.now;
    stage.control.set_kernel_loopback(added(&["203.0.113.1/32"]), now);
    stage.rings.taps.store(TapState::default().into());
    stage.control.set_kernel_loopback(Vec::new(), now);
    stage.after(Duration::ZERO);
    stage.expect_drop(ping("203.0.113.9"), Reason::NoRoute);
    stage.expect_drop(ping_v6("2001:db8:ff::9"), Reason::NoRoute);
    stage.send(0, ping(LOOPBACK));
    assert_eq!(stage.rings.kernel.pop().map(|frame| frame.port), Some(delivery::LOOPBACK));
    stage.send(1, arp::ArpPacket::request(GATEWAY, [3, 3, 3, 3].into(), [203, 0, 113, 1].into(), None));
    stage.after(Duration::ZERO);
    assert!(
        std::iter::from_fn(|| stage.out(1)).any(|frame| frame[..6] == GATEWAY.0 && frame[12..14] == [8, 6])
    );
}

#[test]
fn what_the_kernel_sends_from_it_and_exceeds_a_link_is_told_to_its_own_interface() {
    let mut stage = stage(|setup| {
        setup.ports[0].exception_path = true;
        setup.ports[1].mtu = 1_400;
    });
    let mut packet = ipv4("10.1.2.3");
    packet[26..30].copy_from_slice(&[203, 0, 113, 1]);
    packet.resize(14 + 1_500, 7);
    packet[16..18].copy_from_slice(&1_500u16.to_be_bytes());
    stage.rings.originate.push(HostFrame::new(0, &seal(packet)).unwrap().routed()).unwrap();
    stage.after(Duration::ZERO);
    let error = stage.rings.kernel.pop().expect("a word to the kernel");
    assert_eq!(
        (error.port, &error.bytes()[30..34], error.bytes()[34]),
        (delivery::LOOPBACK, &[203, 0, 113, 1][..], 3)
    );
}
