//! RFC 894, RFC 2464 §3: bytes behind the IP packet of a frame count for no MTU, and no frame leaves that is longer than its link takes because of
//! them.

use crate::stage::*;
use fibcast_dataplane::reason::Reason;
use std::time::Duration;

/// IPv4 and IPv6 packets of this length, which must not be fragmented.
fn sized(length: u16) -> [Vec<u8>; 2] {
    let (mut four, mut six) = (ipv4("10.1.2.3"), ipv6("2001:db8:f::1"));
    four.resize(14 + usize::from(length), 0);
    four[16..18].copy_from_slice(&length.to_be_bytes());
    six.resize(14 + usize::from(length), 0);
    six[18..20].copy_from_slice(&(length - 40).to_be_bytes());
    [seal(four), six]
}

fn with_trailer(mut packet: Vec<u8>, length: usize) -> Vec<u8> {
    packet.resize(packet.len() + length, 0xee);
    packet
}

#[test]
fn a_packet_of_the_mtu_leaves_without_its_trailer() {
    let mut stage = Stage::new();
    for trailer in [0, 1, 4, 8, 26, 27, 300] {
        for packet in sized(1_500) {
            let out = stage.expect_forward(with_trailer(packet.clone(), trailer));
            assert_eq!((out.len(), &out[54..]), (1_514, &packet[54..]), "{trailer}");
        }
    }
}

#[test]
fn a_trailer_that_the_link_takes_may_stay() {
    let mut stage = Stage::new();
    for (length, trailer) in [(46, 5), (100, 5), (1_000, 500), (1_499, 1)] {
        for packet in sized(length) {
            let out = stage.expect_forward(with_trailer(packet, trailer));
            assert!(out.len() <= 1_514 && out.len() >= 14 + usize::from(length));
        }
    }
    for packet in sized(1_000) {
        assert_eq!(stage.expect_forward(with_trailer(packet, 501)).len(), 1_014);
    }
}

#[test]
fn a_short_packet_in_a_long_frame_leaves_as_a_short_frame() {
    let mut stage = Stage::new();
    let mut packet = ipv4("10.1.2.3");
    packet.truncate(14 + 28);
    packet[16..18].copy_from_slice(&28u16.to_be_bytes());
    let packet = seal(packet);
    for (padding, expected) in [(0, 42), (18, 60), (1_473, 60)] {
        let out = stage.expect_forward(with_trailer(packet.clone(), padding));
        assert_eq!((out.len(), out[22]), (expected, 63), "{padding}");
    }
}

#[test]
fn a_packet_that_is_too_big_is_quoted_without_its_trailer() {
    let mut stage = Stage::with(|setup| setup.ports[1].mtu = 1_400);
    for packet in sized(1_401) {
        let error = stage.expect_error(with_trailer(packet.clone(), 8), Reason::TooBig);
        let at = if packet[12..14] == [8, 0] { 42 } else { 62 };
        assert_eq!(error[at..], packet[14..14 + error.len() - at]);
    }
    for packet in sized(1_400) {
        stage.expect_forward(with_trailer(packet, 8));
    }
}

#[test]
fn fragments_are_made_of_the_packet_alone() {
    let mut stage = Stage::with(|setup| setup.ports[1].mtu = 1_400);
    let [mut packet, _] = sized(1_401);
    packet[20] = 0;
    stage.send(0, with_trailer(seal(packet), 40));
    let (first, last) = (stage.out(1).unwrap(), stage.out(1).unwrap());
    assert_eq!(first.len() + last.len(), 2 * 34 + 1_381);
}

#[test]
fn tagged_frames_and_packets_with_options_lose_their_trailer_too() {
    let mut stage = Stage::new();
    let [packet, _] = sized(1_500);
    let mut tagged = with_trailer(packet.clone(), 4);
    tagged.splice(12..12, [0x81, 0, 0, 0]);
    assert_eq!(stage.expect_forward(tagged).len(), 1_514);
    let mut options = packet;
    options.truncate(14 + 1_496);
    options.splice(34..34, [1; 4]);
    options[14] = 0x46;
    assert_eq!(stage.expect_forward(with_trailer(seal(options), 4)).len(), 1_514);
}

#[test]
fn a_packet_that_waited_leaves_without_its_trailer() {
    let mut stage = Stage::new();
    let mut packet = ipv4("198.51.100.50");
    packet.resize(1_514, 0);
    packet[16..18].copy_from_slice(&1_500u16.to_be_bytes());
    stage.expect_held(with_trailer(seal(packet), 7));
    stage.after(Duration::ZERO);
    let asked = stage.out(1).expect("a request");
    let asked = fibcast_dataplane::packet::arp::ArpPacket::new_checked(&asked[14..]).unwrap();
    stage.send(1, asked.reply(GATEWAY));
    stage.after(Duration::ZERO);
    assert_eq!(stage.out(1).expect("the packet").len(), 1_514);
}

#[test]
fn a_frame_that_ends_before_its_packet_stays_invalid() {
    let mut stage = Stage::new();
    for mut packet in sized(1_000) {
        packet.truncate(1_013);
        stage.expect_drop(packet, Reason::BadLength);
    }
}
