//! RFC 791 §3.1, §3.2: offsets and lengths of fragments at the borders of what a packet can be. IPv6 is never fragmented on its way (RFC 8200
//! §5).

use crate::stage::*;
use fibcast_dataplane::packet::ipv4::Ipv4Header;
use fibcast_dataplane::reason::Reason;

/// To `destination`, of this total length, at this offset in bytes.
fn fragment(destination: &str, length: usize, offset: usize, more: bool) -> Vec<u8> {
    let mut packet = ipv4(destination);
    packet.resize(14 + length, 7);
    packet[16..18].copy_from_slice(&(length as u16).to_be_bytes());
    let field = (offset / 8) as u16 | if more { 0x2000 } else { 0 };
    packet[20..22].copy_from_slice(&field.to_be_bytes());
    seal(packet)
}

fn jumbo() -> Stage {
    Stage::with(|setup| setup.ports.iter_mut().for_each(|port| port.mtu = u16::MAX))
}

#[test]
fn a_fragment_that_ends_beyond_65535_is_dropped() {
    let mut stage = jumbo();
    // The last fragment of the longest packet; one byte more; the last offset that there is; the attack itself.
    stage.expect_forward(fragment("10.1.2.3", 1_495, 64_040, false));
    for (length, offset) in
        [(1_496, 64_040), (28, 65_512), (8_000, 57_536), (1_500, 65_528), (65_535, 8), (65_535, 65_528)]
    {
        for more in [false, true] {
            stage.expect_drop(fragment("10.1.2.3", length, offset, more), Reason::BadFragment);
        }
    }
    assert_eq!(stage.snapshot().icmp_sent, 0);
}

#[test]
fn a_fragment_that_ends_beyond_65535_does_not_reach_the_router_itself() {
    let mut stage = Stage::new();
    stage.expect_drop(fragment("192.0.2.1", 1_500, 65_528, false), Reason::BadFragment);
    assert_eq!(stage.snapshot().host, 0);
}

#[test]
fn a_fragment_that_ends_beyond_65535_is_dropped_with_options_and_a_tag_too() {
    let mut stage = jumbo();
    let mut packet = fragment("10.1.2.3", 1_491, 64_040, false);
    packet.splice(34..34, [1; 4]);
    packet[14] = 0x46;
    packet[16..18].copy_from_slice(&1_495u16.to_be_bytes());
    stage.expect_forward(seal(packet.clone()));
    packet.push(0);
    packet[16..18].copy_from_slice(&1_496u16.to_be_bytes());
    stage.expect_drop(seal(packet), Reason::BadFragment);
    let mut tagged = fragment("10.1.2.3", 1_496, 64_040, false);
    tagged.splice(12..12, [0x81, 0, 0, 0]);
    stage.expect_drop(tagged, Reason::BadFragment);
}

#[test]
fn every_fragment_of_the_longest_packet_passes_unchanged() {
    let mut stage = Stage::new();
    let mut offset = 0;
    while offset < 65_515 {
        let data = (65_515 - offset).min(1_480);
        let packet = fragment("10.1.2.3", 20 + data, offset, offset + data < 65_515);
        let out = stage.expect_forward(packet.clone());
        assert_eq!((&out[16..22], &out[26..]), (&packet[16..22], &packet[26..]), "at {offset}");
        offset += data;
    }
}

#[test]
fn the_longest_packet_passes_whole_and_in_fragments() {
    let packet = fragment("10.1.2.3", 65_535, 0, false);
    assert_eq!(jumbo().expect_forward(packet.clone()).len(), 65_549);
    let mut stage = Stage::with(|setup| setup.ports[1].mtu = 1_500);
    stage.send(0, packet.clone());
    let (mut data, mut more) = (Vec::<u8>::new(), true);
    while let Some(frame) = stage.out(1) {
        let header = Ipv4Header::new_checked(&frame[14..], frame.len() - 14).unwrap();
        assert_eq!(usize::from(header.fragment_offset()) * 8, data.len());
        data.extend(header.payload());
        more = header.more_fragments();
    }
    assert!(!more && data == packet[34..]);
}

#[test]
fn fragments_at_the_far_end_are_cut_further_and_keep_their_place() {
    for more in [false, true] {
        let mut stage = Stage::with(|setup| setup.ports[1].mtu = 1_280);
        // 61,448 + 4,067 = 65,515: the last byte that a packet can have.
        let length = if more { 20 + 4_064 } else { 20 + 4_067 };
        let packet = fragment("10.1.2.3", length, 61_448, more);
        stage.send(0, packet.clone());
        let (mut data, mut last) = (Vec::<u8>::new(), false);
        while let Some(frame) = stage.out(1) {
            assert!(!last, "a fragment behind the last");
            let header = Ipv4Header::new_checked(&frame[14..], frame.len() - 14).unwrap();
            assert_eq!(usize::from(header.fragment_offset()) * 8, 61_448 + data.len());
            assert!(frame.len() <= 14 + 1_280);
            data.extend(header.payload());
            last = !header.more_fragments();
        }
        assert!(last != more && data == packet[34..], "more {more}");
    }
}

#[test]
fn the_last_fragment_may_be_of_one_byte() {
    for rest in [1, 7, 8, 9] {
        let mut stage = Stage::with(|setup| setup.ports[1].mtu = 1_276 + 20);
        stage.send(0, fragment("10.1.2.3", 20 + 1_272 + rest, 0, false));
        match stage.out(1).zip(stage.out(1)) {
            Some((first, last)) => {
                assert_eq!((first.len(), last.len()), (34 + 1_272, 34 + rest));
                assert_eq!((first[20], last[20], last[21]), (0x20, 0, 159));
            }
            None => assert!(rest <= 4, "it fits"),
        }
    }
}

#[test]
fn an_mtu_without_room_for_8_bytes_drops_the_packet() {
    for mtu in [20, 27] {
        let mut stage = Stage::with(|setup| setup.ports[1].mtu = mtu);
        stage.expect_drop(fragment("10.1.2.3", 100, 0, false), Reason::TooBig);
    }
    let mut stage = Stage::with(|setup| setup.ports[1].mtu = 28);
    stage.send(0, fragment("10.1.2.3", 100, 0, false));
    let snapshot = stage.snapshot();
    assert_eq!((snapshot.sent, snapshot.fragments), (1, 9));
}

#[test]
fn ipv6_is_never_fragmented_on_its_way() {
    let mut stage = Stage::with(|setup| setup.ports[1].mtu = 1_280);
    // A plain packet, and one that its source fragmented already (RFC 8200 §4.5).
    for next_header in [17, 44] {
        let mut packet = ipv6("2001:db8:f::1");
        packet.resize(14 + 1_281, 0);
        packet[18..20].copy_from_slice(&1_241u16.to_be_bytes());
        packet[20] = next_header;
        let error = stage.expect_error(packet.clone(), Reason::TooBig);
        assert_eq!((error[54], &error[58..62]), (2, &1_280u32.to_be_bytes()[..]));
        packet.truncate(14 + 1_280);
        packet[18..20].copy_from_slice(&1_240u16.to_be_bytes());
        stage.expect_forward(packet);
    }
    assert_eq!(stage.snapshot().fragments, 0);
}

#[test]
fn a_fragment_of_an_ipv6_packet_passes_wherever_it_ends() {
    // RFC 8200 §4.5: its destination answers it; a router does not look behind the header.
    let mut stage = Stage::new();
    let mut packet = ipv6("2001:db8:f::1");
    packet[20] = 44;
    packet[54..62].copy_from_slice(&[17, 0, 0xff, 0xf8, 0, 0, 0, 1]);
    stage.expect_forward(packet);
}
