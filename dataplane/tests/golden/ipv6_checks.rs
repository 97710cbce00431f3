//! RFC 8200 §3, RFC 4291: what is wrong with an IPv6 packet, and scopes that are not forwarded.

use crate::stage::*;
use fibcast_dataplane::reason::Reason;
use std::net::Ipv6Addr;

fn from(source: &str) -> Vec<u8> {
    let mut packet = ipv6("2001:db8:f::1");
    packet[22..38].copy_from_slice(&source.parse::<Ipv6Addr>().unwrap().octets());
    packet
}

#[test]
fn each_broken_header_has_its_drop_reason() {
    let mut stage = Stage::new();
    let mut packet = ipv6("2001:db8:f::1");
    packet[14] = 0x45;
    stage.expect_drop(packet.clone(), Reason::BadVersion);
    packet[14] = 0x60;
    packet[19] = 13;
    stage.expect_drop(packet.clone(), Reason::BadLength);
    packet.truncate(53);
    stage.expect_drop(packet, Reason::ShortPacket);
}

#[test]
fn a_link_local_source_does_not_leave_its_link() {
    Stage::new().expect_drop(from("fe80::7"), Reason::LinkLocal);
}

#[test]
fn groups_and_loopback_are_no_sources() {
    let mut stage = Stage::new();
    stage.expect_drop(from("ff02::1"), Reason::MartianSource);
    stage.expect_drop(from("::1"), Reason::MartianSource);
    // RFC 4291 §2.5.2: never forwarded. RFC 6890: mapped addresses are not for a wire.
    stage.expect_drop(from("::"), Reason::MartianSource);
    stage.expect_drop(from("::ffff:10.0.0.1"), Reason::MartianSource);
}

#[test]
fn multicast_is_not_forwarded() {
    let mut stage = Stage::new();
    stage.expect_drop(ipv6("ff0e::1"), Reason::Multicast);
    stage.expect_drop(ipv6("::1"), Reason::MartianDestination);
    stage.expect_drop(ipv6("::"), Reason::MartianDestination);
    stage.expect_drop(ipv6("::ffff:10.0.0.1"), Reason::MartianDestination);
}

#[test]
fn a_link_local_destination_is_for_the_router_itself() {
    let mut stage = Stage::new();
    stage.send(0, ipv6("fe80::99"));
    assert_eq!(stage.snapshot().host, 1);
}
