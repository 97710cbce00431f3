//! RFC 8950: IPv4 routes over IPv6 next hops; the packet stays IPv4, only the neighbor is found by ND.

use crate::stage::*;
use fibcast_fib::{Change, Group, GroupLabel, NextHop, PortId};
use std::time::Duration;

#[test]
fn an_ipv4_packet_goes_to_the_mac_address_of_an_ipv6_gateway() {
    let mut stage = Stage::new();
    stage.batch(vec![put(1, "2001:db8:1::9"), announce("172.16.0.0/16", 1)]);
    let out = stage.expect_forward(ipv4("172.16.0.1"));
    assert_eq!((&out[..6], &out[12..14]), (&GATEWAY.0[..], &[8, 0][..]));
}

#[test]
fn a_link_local_gateway_is_named_with_its_port() {
    let mut stage = Stage::new();
    let gateway = "fe80::9".parse().unwrap();
    let next_hop = NextHop { gateway: Some(gateway), port: Some(PortId(1)) };
    let group = Group::one(next_hop).unwrap();
    stage.batch(vec![Change::PutGroup { label: GroupLabel(1), group }, announce("172.16.0.0/16", 1)]);
    let question = stage.out(1).expect("a solicitation");
    // The publication waits for the answer, but not for long.
    stage.after(Duration::from_millis(100));
    stage.expect_held(ipv4("172.16.0.1"));
    assert_eq!(question[38..54], "ff02::1:ff00:9".parse::<std::net::Ipv6Addr>().unwrap().octets());
    let own = PORT[1].link_local();
    stage.send(
        1,
        fibcast_dataplane::packet::nd::advertisement(GATEWAY, "fe80::9".parse().unwrap(), own, PORT[1]),
    );
    stage.after(Duration::from_millis(100));
    assert_eq!(stage.out(1).expect("the packet that had waited")[..6], GATEWAY.0);
}
