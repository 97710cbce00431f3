//! RFC 1812 §5.3.7, RFC 1122 §3.2.1.3, RFC 4291, RFC 6890: addresses that no packet can come from or go to.

use crate::stage::*;
use fibcast_dataplane::packet::{checksum, ipv6, nd};
use fibcast_dataplane::pipeline::port::ReversePath;
use fibcast_dataplane::reason::Reason;
use std::net::Ipv6Addr;
use std::time::Duration;

fn from_v4(source: [u8; 4], destination: &str) -> Vec<u8> {
    let mut packet = ipv4(destination);
    packet[26..30].copy_from_slice(&source);
    seal(packet)
}

fn from_v6(source: &str, destination: &str) -> Vec<u8> {
    let mut packet = ipv6(destination);
    packet[22..38].copy_from_slice(&source.parse::<Ipv6Addr>().unwrap().octets());
    packet
}

fn address(text: &str) -> Ipv6Addr {
    text.parse().unwrap()
}

/// An ICMP echo request, of a frame of [`ipv4`].
fn ping(mut packet: Vec<u8>) -> Vec<u8> {
    packet[23] = 1;
    packet[34..42].copy_from_slice(&[8, 0, 0, 0, 0, 1, 0, 9]);
    let field = checksum::checksum(&packet[34..]);
    packet[36..38].copy_from_slice(&field.to_be_bytes());
    seal(packet)
}

fn ping_v6(mut packet: Vec<u8>) -> Vec<u8> {
    packet[20] = 58;
    packet[54..].copy_from_slice(&[128, 0, 0, 0, 0, 1, 0, 9, 1, 2, 3, 4]);
    let header = ipv6::Ipv6Header::new_checked(&packet[14..], packet.len() - 14).unwrap();
    let field = checksum::pseudo_v6(header.source(), header.destination(), 58, &packet[54..]);
    packet[56..58].copy_from_slice(&field.to_be_bytes());
    packet
}

/// The source of what comes out of port 0.
fn source(stage: &mut Stage) -> Option<Ipv6Addr> {
    stage.after(Duration::ZERO);
    stage.out(0).map(|frame| <[u8; 16]>::try_from(&frame[22..38]).unwrap().into())
}

#[test]
fn an_own_address_comes_from_no_wire() {
    let mut stage = Stage::new();
    // Of this port and of another; the destination itself (LAND).
    for own in [[192, 0, 2, 1], [198, 51, 100, 1]] {
        for to in ["192.0.2.1", "198.51.100.1"] {
            stage.expect_drop(ping(from_v4(own, to)), Reason::MartianSource);
            stage.expect_drop(from_v4(own, to), Reason::MartianSource);
        }
    }
    for own in ["2001:db8::1", "2001:db8:1::1"] {
        for to in ["2001:db8::1", "2001:db8:1::1"] {
            stage.expect_drop(ping_v6(from_v6(own, to)), Reason::MartianSource);
        }
    }
    let own = PORT[0].link_local().to_string();
    stage.expect_drop(ping_v6(from_v6(&own, &own)), Reason::MartianSource);
    stage.expect_drop(ping_v6(from_v6(&own, "2001:db8::1")), Reason::MartianSource);
    assert_eq!((stage.snapshot().host, stage.snapshot().icmp_sent), (0, 0));
    let mut trace = |from: &str| {
        let (to, from) = ("192.0.2.1".parse().unwrap(), from.parse().unwrap());
        stage.control.trace(fibcast_fib::VrfId::DEFAULT, to, Some(from), 1).outcome
    };
    assert_eq!(trace("198.51.100.1"), "dropped: martian_source");
    assert_eq!(trace("192.0.2.7"), "host");
}

#[test]
fn network_and_broadcast_addresses_of_connected_subnets_are_no_hosts() {
    let mut stage = Stage::with(|setup| {
        setup.ports[1].addresses.extend(
            ["10.9.0.5/30", "10.9.1.0/31", "10.9.2.7/32"].map(|a| a.parse::<ipnet::IpNet>().unwrap()),
        );
    });
    for source in [
        [192, 0, 2, 0],
        [192, 0, 2, 255],
        [198, 51, 100, 0],
        [198, 51, 100, 255],
        [10, 9, 0, 4],
        [10, 9, 0, 7],
    ] {
        stage.expect_drop(ping(from_v4(source, "192.0.2.1")), Reason::MartianSource);
    }
    // RFC 3021: a subnet of two addresses, or of one, has neither.
    for (count, source) in
        [[10, 9, 1, 1], [10, 9, 2, 6], [10, 9, 2, 8], [192, 0, 2, 254]].into_iter().enumerate()
    {
        stage.send(0, ping(from_v4(source, "192.0.2.1")));
        assert_eq!(stage.snapshot().host, count as u64 + 1, "{source:?}");
    }
}

#[test]
fn the_own_addresses_of_another_vrf_are_anybodys() {
    let mut stage = Stage::with(|setup| setup.ports[1].vrf = fibcast_fib::VrfId(7));
    stage.send(0, ping(from_v4([198, 51, 100, 1], "192.0.2.1")));
    assert_eq!(stage.snapshot().host, 1);
}

#[test]
fn no_packet_from_an_own_address_or_an_edge_of_a_subnet_is_forwarded_whatever_the_reverse_path_check_says() {
    for check in [ReversePath::Off, ReversePath::Strict, ReversePath::Loose] {
        let mut stage = Stage::with(|setup| setup.ports[0].reverse_path = check);
        for source in
            [[192, 0, 2, 1], [198, 51, 100, 1], [192, 0, 2, 0], [192, 0, 2, 255], [198, 51, 100, 255]]
        {
            stage.expect_drop(from_v4(source, "10.1.2.3"), Reason::MartianSource);
            // To a host on the link, which is resolved for nobody's sake.
            stage.expect_drop(from_v4(source, "198.51.100.77"), Reason::MartianSource);
        }
        for source in ["2001:db8::1", "2001:db8:1::1"] {
            stage.expect_drop(from_v6(source, "2001:db8:f::1"), Reason::MartianSource);
        }
        stage.expect_forward(ipv4("10.1.2.3"));
        stage.expect_forward(ipv6("2001:db8:f::1"));
    }
}

#[test]
fn a_martian_source_is_told_nothing() {
    // Each would be answered otherwise: the router would send ICMP errors to itself or to a whole subnet.
    let mut stage = Stage::new();
    for source in [[192, 0, 2, 1], [198, 51, 100, 255]] {
        let mut expired = from_v4(source, "10.1.2.3");
        expired[22] = 1;
        let mut too_big = from_v4(source, "10.1.2.3");
        too_big.resize(14 + 2_000, 0);
        too_big[16..18].copy_from_slice(&2_000u16.to_be_bytes());
        let mut with_options = from_v4(source, "10.1.2.3");
        with_options.splice(34..34, [1, 1, 1, 0]);
        with_options[14] = 0x46;
        with_options[17] += 4;
        for packet in [expired, too_big, with_options] {
            stage.expect_drop(seal(packet), Reason::MartianSource);
        }
        stage.expect_drop(from_v4(source, "203.0.113.1"), Reason::MartianSource);
    }
    assert_eq!((stage.snapshot().icmp_sent, stage.snapshot().originated), (0, 0));
    let outcome = |stage: &mut Stage, from: &str| {
        let (to, from) = ("10.1.2.3".parse().unwrap(), from.parse().unwrap());
        stage.control.trace(fibcast_fib::VrfId::DEFAULT, to, Some(from), 1).outcome
    };
    assert_eq!(outcome(&mut stage, "198.51.100.255"), "dropped: martian_source");
    assert_eq!(outcome(&mut stage, "198.51.100.254"), "sent");
}

#[test]
fn the_loopback_is_no_source_either_and_own_addresses_are_those_of_a_vrf() {
    let mut stage = Stage::with(|setup| {
        for port in &mut setup.ports {
            port.loopback = vec!["192.0.2.200".parse().unwrap(), "2001:db8:ff::1".parse().unwrap()];
        }
    });
    stage.expect_drop(from_v4([192, 0, 2, 200], "10.1.2.3"), Reason::MartianSource);
    stage.expect_drop(from_v6("2001:db8:ff::1", "2001:db8:f::1"), Reason::MartianSource);
    // A sub-interface in another VRF: tagged packets take the full validator.
    let mut stage = vrf_stage();
    let before = stage.snapshot();
    stage.send(0, in_vrf(from_v4([192, 0, 2, 1], "198.51.100.9")));
    assert_eq!(stage.snapshot().drops(Reason::MartianSource) - before.drops(Reason::MartianSource), 1);
    let mut stage = Stage::with(|setup| setup.ports[1].vrf = fibcast_fib::VrfId(7));
    stage.send(0, ping(from_v4([198, 51, 100, 1], "192.0.2.1")));
    assert_eq!(stage.snapshot().host, 1);
}

#[test]
fn sources_beside_the_own_addresses_are_forwarded() {
    // All of two /24, some of which share a bit of the filter with an own address.
    let mut stage = Stage::new();
    for host in 2..255 {
        for net in [[192, 0, 2], [198, 51, 100]] {
            stage.expect_forward(from_v4([net[0], net[1], net[2], host], "10.1.2.3"));
        }
    }
}

#[test]
fn a_duplicate_of_an_own_ipv6_address_still_reaches_the_control_thread() {
    let mut stage = Stage::new();
    let own = address("2001:db8::1");
    stage.send(0, nd::advertisement(HOST, own, own, PORT[0]));
    stage.after(Duration::ZERO);
    assert_eq!(stage.control.forwarding().address_conflicts, 1);
}

#[test]
fn no_broadcast_is_answered() {
    let mut stage = Stage::new();
    for to in ["192.0.2.255", "192.0.2.0", "198.51.100.255"] {
        stage.expect_drop(ping(ipv4(to)), Reason::Blackhole);
    }
    stage.expect_drop(ping(ipv4("255.255.255.255")), Reason::MartianDestination);
    for to in ["224.0.0.1", "224.0.0.251", "239.1.1.1"] {
        stage.expect_drop(ping(ipv4(to)), Reason::Multicast);
    }
    let mut to_all = ping(ipv4("192.0.2.1"));
    to_all[..6].fill(0xff);
    stage.expect_drop(to_all, Reason::LinkBroadcast);
    stage.send(0, ping_v6(ipv6("ff02::1")));
    stage.send(0, ping_v6(ipv6("ff0e::1")));
    stage.after(Duration::ZERO);
    assert_eq!((stage.out(0), stage.snapshot().icmp_sent), (None, 0));
}

#[test]
fn class_e_is_refused_unless_it_is_allowed() {
    let routes = || route("240.0.0.0/4", "198.51.100.9");
    let mut stage = Stage::with(|setup| setup.routes.push(routes()));
    stage.expect_drop(ipv4("240.0.0.1"), Reason::MartianDestination);
    stage.expect_drop(from_v4([240, 0, 0, 1], "10.1.2.3"), Reason::MartianSource);
    let mut stage = Stage::with(|setup| {
        setup.routes.push(routes());
        setup.allow_class_e = true;
    });
    for to in ["240.0.0.0", "240.0.0.1", "255.255.255.254"] {
        assert_eq!(stage.expect_forward(ipv4(to))[22], 63, "{to}");
    }
    for source in [[240, 0, 0, 1], [255, 255, 255, 254]] {
        stage.expect_forward(from_v4(source, "10.1.2.3"));
    }
    // Never the limited broadcast, nor the multicast below.
    stage.expect_drop(ipv4("255.255.255.255"), Reason::MartianDestination);
    stage.expect_drop(from_v4([255, 255, 255, 255], "10.1.2.3"), Reason::MartianSource);
    stage.expect_drop(ipv4("239.255.255.255"), Reason::Multicast);
    stage.expect_drop(from_v4([239, 1, 1, 1], "10.1.2.3"), Reason::MartianSource);
    let trace = stage.control.trace(fibcast_fib::VrfId::DEFAULT, "240.0.0.1".parse().unwrap(), None, 1);
    assert_eq!(trace.outcome, "sent");
}

#[test]
fn a_host_of_class_e_gets_errors_and_replies() {
    let mut stage = Stage::with(|setup| {
        setup.routes.push(route("240.0.0.0/4", "192.0.2.7"));
        setup.allow_class_e = true;
    });
    let error = stage.expect_error(from_v4([240, 0, 0, 1], "203.0.113.5"), Reason::NoRoute);
    assert_eq!(error[30..34], [240, 0, 0, 1]);
    let mut packet = from_v4([240, 0, 0, 1], "10.1.2.3");
    packet[22] = 1;
    assert_eq!(stage.expect_error(seal(packet), Reason::TtlExceeded)[34], 11);
    stage.send(0, ping(from_v4([240, 0, 0, 1], "192.0.2.1")));
    stage.after(Duration::ZERO);
    assert_eq!(stage.out(0).expect("a reply")[30..34], [240, 0, 0, 1]);
}

#[test]
fn the_subnet_router_anycast_address_is_answered() {
    let mut stage = Stage::new();
    for (to, own) in [("2001:db8::", "2001:db8::1"), ("2001:db8:1::", "2001:db8:1::1")] {
        stage.send(0, ping_v6(ipv6(to)));
        assert_eq!(source(&mut stage), Some(address(own)), "RFC 4443 §4.2: from a unicast address");
        stage.send(0, ipv6(to));
        assert_eq!(source(&mut stage), Some(address(own)), "port unreachable");
    }
    // Its MAC address is told to who asks, and does not override that of another router (RFC 4861 §7.2.4).
    stage.send(0, nd::solicitation(HOST, address("2001:db8::7"), address("2001:db8::"), None));
    stage.after(Duration::ZERO);
    let answer = stage.out(0).expect("an advertisement");
    let header = ipv6::Ipv6Header::new_checked(&answer[14..], answer.len() - 14).unwrap();
    let found = nd::Message::new_checked(&header).unwrap();
    let expected = nd::Message::Advertisement {
        target: address("2001:db8::"),
        target_mac: Some(PORT[0]),
        solicited: true,
        overrides: false,
    };
    assert_eq!(found, expected);
    // Only on its own subnet; and another router that has it is no conflict.
    stage.send(0, nd::solicitation(HOST, address("2001:db8::7"), address("2001:db8:1::"), None));
    stage.send(0, nd::anycast_advertisement(HOST, address("2001:db8::"), address("2001:db8::1"), PORT[0]));
    stage.after(Duration::ZERO);
    assert_eq!((stage.out(0), stage.control.forwarding().address_conflicts), (None, 0));
}

#[test]
fn a_subnet_of_two_addresses_or_one_has_no_anycast_address() {
    // RFC 6164 §5.
    let mut stage = Stage::with(|setup| {
        setup.ports[1].addresses.extend(
            ["2001:db8:7::1/127", "2001:db8:8::5/128", "2001:db8:9::1/126"]
                .map(|a| a.parse::<ipnet::IpNet>().unwrap()),
        );
    });
    stage.send(0, ping_v6(ipv6("2001:db8:9::")));
    assert_eq!(source(&mut stage), Some(address("2001:db8:9::1")));
    stage.expect_held(ping_v6(ipv6("2001:db8:7::")));
    stage.expect_drop(ping_v6(ipv6("2001:db8:8::")), Reason::NoRoute);
}

#[test]
fn one_link_local_address_may_be_that_of_every_port() {
    let mut stage = Stage::with(|setup| {
        setup.ports.iter_mut().for_each(|port| port.addresses.push("fe80::1/64".parse().unwrap()))
    });
    for port in [0, 1] {
        let mut packet = ping_v6(from_v6("fe80::7", "fe80::1"));
        packet[..6].copy_from_slice(&PORT[port].0);
        stage.send(port, packet);
        stage.after(Duration::ZERO);
        let reply = stage.out(port).expect("a reply by the same port");
        assert_eq!((&reply[6..12], reply[54]), (&PORT[port].0[..], 129));
        stage.send(port, {
            let mut frame = nd::solicitation(HOST, address("fe80::7"), address("fe80::1"), None);
            frame[..6].copy_from_slice(&PORT[port].0);
            frame
        });
        stage.after(Duration::ZERO);
        assert_eq!(stage.out(port).expect("an advertisement")[54], 136);
    }
}

#[test]
fn a_neighbor_may_have_the_link_local_address_of_another_port() {
    let mut stage = Stage::with(|setup| setup.ports[0].addresses.push("fe80::1/64".parse().unwrap()));
    let mut asks = nd::solicitation(GATEWAY, address("fe80::1"), PORT[1].link_local(), None);
    asks[..6].copy_from_slice(&PORT[1].0);
    stage.send(1, asks);
    stage.after(Duration::ZERO);
    let known = stage.control.neighbor_list().neighbors;
    assert!(known.iter().any(|known| known.address == std::net::IpAddr::V6(address("fe80::1"))), "{known:?}");
}

#[test]
fn ipv6_addresses_that_no_wire_may_carry() {
    let mut stage = Stage::new();
    let multicast = |source: &str| ping_v6(from_v6(source, "ff02::1"));
    for source in ["::1", "ff02::1", "ff0e::7", "::ffff:192.0.2.7"] {
        stage.expect_drop(from_v6(source, "2001:db8:f::1"), Reason::MartianSource);
        stage.expect_drop(from_v6(source, "2001:db8::1"), Reason::MartianSource);
        stage.expect_drop(from_v6(source, "fe80::1"), Reason::MartianSource);
        stage.expect_drop(multicast(source), Reason::MartianSource);
    }
    for to in ["2001:db8:f::1", "2001:db8::1", "fe80::1"] {
        stage.expect_drop(from_v6("::", to), Reason::MartianSource);
    }
    for to in ["::", "::1", "::ffff:10.1.2.3"] {
        stage.expect_drop(ipv6(to), Reason::MartianDestination);
    }
    for to in ["ff00::1", "ff01::1", "ff05::2", "ff0e::1"] {
        stage.expect_drop(ipv6(to), Reason::Multicast);
    }
}

#[test]
fn addresses_that_labs_use_are_as_good_as_any() {
    let mut stage = Stage::with(|setup| {
        setup.routes.extend([route("fec0::/10", "2001:db8:1::9"), route("fc00::/7", "2001:db8:1::9")]);
        setup.routes.push(route("203.0.113.0/24", "198.51.100.9"));
    });
    for (from, to) in [("fec0::7", "2001:db8:f::1"), ("fd00::7", "fd00::1"), ("2001:db8::7", "fec0::1")] {
        stage.expect_forward(from_v6(from, to));
    }
    stage.expect_forward(from_v4([192, 0, 2, 9], "203.0.113.1"));
    stage.expect_forward(from_v4([198, 18, 0, 1], "10.1.2.3"));
    stage.expect_forward(from_v4([100, 64, 0, 1], "10.1.2.3"));
}

#[test]
fn a_link_local_address_of_one_port_is_another_stations_on_another_link() {
    let mut stage = Stage::with(|setup| {
        setup.ports[0].addresses.push("fe80::2/64".parse().unwrap());
        setup.ports[1].addresses.push("fe80::1/64".parse().unwrap());
    });
    let ping = |source: &str| {
        let mut frame = ipv6("fe80::2");
        frame[22..38].copy_from_slice(&source.parse::<std::net::Ipv6Addr>().unwrap().octets());
        frame
    };
    let before = stage.snapshot().drops(Reason::MartianSource);
    stage.send(0, ping("fe80::1"));
    assert_eq!(stage.snapshot().drops(Reason::MartianSource), before, "another station's on this link");
    stage.send(0, ping("fe80::2"));
    assert_eq!(stage.snapshot().drops(Reason::MartianSource), before + 1);
}
