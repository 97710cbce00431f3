//! RFC 3704: strict and loose reverse-path checks.

use crate::stage::*;
use fibcast_dataplane::pipeline::port::ReversePath;
use fibcast_dataplane::reason::Reason;

fn stage(check: ReversePath) -> Stage {
    Stage::with(|setup| {
        setup.ports[0].reverse_path = check;
        setup.routes.push(route("172.16.0.0/16", "192.0.2.7"));
        setup.routes.push(route("2001:db8:ee::/48", "2001:db8::7"));
    })
}

fn from(source: [u8; 4]) -> Vec<u8> {
    let mut packet = ipv4("10.1.2.3");
    packet[26..30].copy_from_slice(&source);
    seal(packet)
}

fn from_v6(source: &str) -> Vec<u8> {
    let mut packet = ipv6("2001:db8:f::1");
    packet[22..38].copy_from_slice(&source.parse::<std::net::Ipv6Addr>().unwrap().octets());
    packet
}

#[test]
fn strict_takes_only_sources_behind_the_port_of_arrival() {
    let mut stage = stage(ReversePath::Strict);
    stage.expect_forward(from([192, 0, 2, 7]));
    stage.expect_forward(from([172, 16, 3, 4]));
    stage.expect_forward(from_v6("2001:db8::7"));
    stage.expect_forward(from_v6("2001:db8:ee::1"));
    stage.expect_drop(from([198, 51, 100, 9]), Reason::ReversePath);
    stage.expect_drop(from([10, 9, 9, 9]), Reason::ReversePath);
    stage.expect_drop(from([203, 0, 113, 1]), Reason::ReversePath);
    stage.expect_drop(from_v6("2001:db8:1::9"), Reason::ReversePath);
    stage.expect_drop(from_v6("2001:db8:dead::1"), Reason::ReversePath);
}

#[test]
fn loose_takes_sources_that_have_a_way_back_by_any_port() {
    let mut stage = stage(ReversePath::Loose);
    stage.expect_forward(from([198, 51, 100, 9]));
    stage.expect_forward(from([10, 9, 9, 9]));
    stage.expect_forward(from_v6("2001:db8:1::9"));
    stage.expect_drop(from([203, 0, 113, 1]), Reason::ReversePath);
    stage.expect_drop(from([10, 66, 0, 1]), Reason::ReversePath);
    stage.expect_drop(from_v6("2001:db8:dead::1"), Reason::ReversePath);
}

#[test]
fn packets_for_the_router_itself_are_checked_too() {
    let mut stage = stage(ReversePath::Strict);
    let mut packet = from([203, 0, 113, 1]);
    packet[30..34].copy_from_slice(&[192, 0, 2, 1]);
    stage.expect_drop(seal(packet), Reason::ReversePath);
}

#[test]
fn a_port_without_a_check_takes_all() {
    Stage::new().expect_forward(from([203, 0, 113, 1]));
}
