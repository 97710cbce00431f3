//! RFC 1812 §5.2.2 and §5.3.7: what is wrong with an IPv4 header, each by its name.

use crate::stage::*;
use fibcast_dataplane::reason::Reason;

fn changed(change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut packet = ipv4("10.1.2.3");
    change(&mut packet);
    packet
}

#[test]
fn each_broken_header_has_its_drop_reason() {
    let mut stage = Stage::new();
    stage.expect_drop(changed(|packet| packet.truncate(33)), Reason::ShortPacket);
    stage.expect_drop(changed(|packet| packet[14] = 0x55), Reason::BadVersion);
    stage.expect_drop(changed(|packet| packet[14] = 0x44), Reason::BadHeaderLength);
    stage.expect_drop(changed(|packet| packet[17] = 19), Reason::BadLength);
    stage.expect_drop(changed(|packet| packet[17] = 47), Reason::BadLength);
    stage.expect_drop(changed(|packet| packet[24] ^= 0x80), Reason::BadChecksum);
}

#[test]
fn options_longer_than_the_frame_are_refused() {
    let mut packet = changed(|packet| packet[14] = 0x4f);
    packet.truncate(14 + 46);
    Stage::new().expect_drop(packet, Reason::BadLength);
}

#[test]
fn addresses_that_no_wire_may_carry_are_refused() {
    let mut stage = Stage::new();
    for source in [[127, 0, 0, 1], [0, 0, 0, 5], [224, 0, 0, 1], [255, 255, 255, 255]] {
        let packet = changed(|packet| packet[26..30].copy_from_slice(&source));
        stage.expect_drop(seal(packet), Reason::MartianSource);
    }
    for destination in ["127.0.0.1", "0.0.0.0", "255.255.255.255"] {
        stage.expect_drop(ipv4(destination), Reason::MartianDestination);
    }
    stage.expect_drop(ipv4("224.0.0.5"), Reason::Multicast);
}

#[test]
fn link_local_addresses_are_not_forwarded() {
    // RFC 3927 §7; for the router itself they are as good as any.
    let mut stage = Stage::with(|setup| {
        setup.ports[0].addresses.push("169.254.0.1/16".parse().unwrap());
        setup.routes.push(route("169.254.128.0/17", "198.51.100.9"));
    });
    let from = changed(|packet| packet[26..30].copy_from_slice(&[169, 254, 0, 7]));
    stage.expect_drop(seal(from), Reason::LinkLocal);
    stage.expect_drop(ipv4("169.254.200.1"), Reason::LinkLocal);
    let before = stage.snapshot().host;
    stage.send(0, ipv4("169.254.0.1"));
    assert_eq!(stage.snapshot().host, before + 1);
}
