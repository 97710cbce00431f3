//! RFC 1812 §4.3.2.5, §4.3.3.6, RFC 2474: type of service and options of echo replies and errors.

use crate::stage::*;
use fibcast_dataplane::packet::{checksum, ipv4 as header, ipv6 as header_v6};
use fibcast_dataplane::reason::Reason;
use std::time::Duration;

/// An echo request to port 0 with these options and this type of service.
pub fn ping(options: &[u8], tos: u8) -> Vec<u8> {
    let mut packet = ipv4("192.0.2.1");
    (packet[15], packet[23]) = (tos, 1);
    packet[34..42].copy_from_slice(&[8, 0, 0, 0, 0, 1, 0, 9]);
    let field = checksum::checksum(&packet[34..]);
    packet[36..38].copy_from_slice(&field.to_be_bytes());
    packet.splice(34..34, options.iter().copied());
    packet[14] = 0x45 + (options.len() / 4) as u8;
    packet[17] += options.len() as u8;
    seal(packet)
}

/// The IP packet of the reply, after what must be right in any.
#[track_caller]
fn reply(options: &[u8], tos: u8) -> Vec<u8> {
    let mut stage = Stage::new();
    stage.send(0, ping(options, tos));
    stage.after(Duration::ZERO);
    let frame = stage.out(0).expect("a reply");
    let header = header::Ipv4Header::new_checked(&frame[14..], frame.len() - 14).unwrap();
    assert_eq!((header.source().octets(), header.destination().octets()), ([192, 0, 2, 1], [192, 0, 2, 7]));
    let request = ping(&[], 0);
    assert_eq!((header.payload()[0], &header.payload()[4..]), (0, &request[38..]));
    assert_eq!(checksum::sum(header.payload()), 0xffff);
    frame[14..].to_vec()
}

#[test]
fn a_reply_has_the_type_of_service_of_the_request() {
    for tos in [0, 0x10, 0xb8, 0xe0, 0xff] {
        assert_eq!(reply(&[], tos)[1], tos);
    }
}

#[test]
fn a_reply_over_ipv6_has_the_traffic_class_of_the_request() {
    for class in [0u8, 0xb8, 0xff] {
        let mut stage = Stage::new();
        let mut packet = ipv6("2001:db8::1");
        // A flow label is not returned.
        packet[14..18].copy_from_slice(&[0x60 | class >> 4, class << 4 | 5, 6, 7]);
        packet[20] = 58;
        packet[54..].copy_from_slice(&[128, 0, 0, 0, 0, 1, 0, 9, 1, 2, 3, 4]);
        let view = header_v6::Ipv6Header::new_checked(&packet[14..], packet.len() - 14).unwrap();
        assert_eq!(view.traffic_class(), class);
        let field = checksum::pseudo_v6(view.source(), view.destination(), 58, &packet[54..]);
        packet[56..58].copy_from_slice(&field.to_be_bytes());
        stage.send(0, packet);
        stage.after(Duration::ZERO);
        let frame = stage.out(0).expect("a reply");
        let view = header_v6::Ipv6Header::new_checked(&frame[14..], frame.len() - 14).unwrap();
        assert_eq!((view.traffic_class(), view.flow_label()), (class, 0));
        assert_eq!(checksum::pseudo_v6(view.source(), view.destination(), 58, view.payload()), 0);
    }
}

#[test]
fn an_error_has_precedence_6_and_the_type_of_service_of_the_packet() {
    for (tos, expected) in [(0, 0xc0), (0x10, 0xd0), (0xb8, 0xd8), (0xe0, 0xc0), (0x03, 0xc0), (0xff, 0xdc)] {
        let mut packet = ipv4("203.0.113.5");
        packet[15] = tos;
        let error = Stage::new().expect_error(seal(packet), Reason::NoRoute);
        assert_eq!(error[15], expected, "{tos:#x}");
        // Those of the control thread as well.
        let mut stage = Stage::new();
        let mut packet = ipv4("192.0.2.1");
        packet[15] = tos;
        stage.send(0, seal(packet));
        stage.after(Duration::ZERO);
        assert_eq!(stage.out(0).expect("port unreachable")[15], expected, "{tos:#x}");
    }
}

#[test]
fn a_recorded_route_is_returned_with_this_router_in_it() {
    let reply_of = |options: &[u8]| reply(options, 0);
    let options = reply_of(&[7, 11, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(options[20..32], [7, 11, 8, 192, 0, 2, 1, 0, 0, 0, 0, 0]);
    // After another router.
    let options = reply_of(&[7, 11, 8, 10, 0, 0, 9, 0, 0, 0, 0, 1]);
    assert_eq!(options[20..32], [7, 11, 12, 10, 0, 0, 9, 192, 0, 2, 1, 0]);
    // Full: returned as it is.
    let options = reply_of(&[7, 7, 8, 10, 0, 0, 9, 0]);
    assert_eq!(options[20..28], [7, 7, 8, 10, 0, 0, 9, 0]);
    // Behind an option that is not returned.
    let options = reply_of(&[0x94, 4, 0, 0, 7, 7, 4, 0, 0, 0, 0, 0]);
    assert_eq!((options[0], &options[20..28]), (0x47, &[7, 7, 8, 192, 0, 2, 1, 0][..]));
}

#[test]
fn timestamps_are_added_and_returned() {
    let reply_of = |options: &[u8]| reply(options, 0);
    // Times alone.
    let options = reply_of(&[68, 12, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!((&options[20..24], &options[28..32]), (&[68, 12, 9, 0][..], &[0; 4][..]));
    assert!(u32::from_be_bytes(options[24..28].try_into().unwrap()) < 86_400_000);
    // With addresses; no room, which is counted; an address that the sender chose, and another.
    let options = reply_of(&[68, 12, 5, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(options[20..28], [68, 12, 13, 1, 192, 0, 2, 1]);
    let options = reply_of(&[68, 8, 9, 0x20, 1, 2, 3, 4]);
    assert_eq!(options[20..28], [68, 8, 9, 0x30, 1, 2, 3, 4]);
    let options = reply_of(&[68, 12, 5, 3, 192, 0, 2, 1, 0, 0, 0, 0]);
    assert_eq!(options[20..28], [68, 12, 13, 3, 192, 0, 2, 1]);
    let options = reply_of(&[68, 12, 5, 3, 10, 0, 0, 9, 0, 0, 0, 0]);
    assert_eq!(options[20..32], [68, 12, 5, 3, 10, 0, 0, 9, 0, 0, 0, 0]);
}

#[test]
fn a_broken_timestamp_gets_no_reply() {
    // A pointer into the option's head; an unknown flag; the count of routers without room is full.
    for options in [[68, 8, 4, 0, 0, 0, 0, 0], [68, 8, 5, 2, 0, 0, 0, 0], [68, 8, 9, 0xf0, 1, 2, 3, 4]] {
        let mut stage = Stage::new();
        stage.send(0, ping(&options, 0));
        stage.after(Duration::ZERO);
        assert_eq!((stage.out(0), stage.snapshot().host), (None, 1), "{options:?}");
    }
}

#[test]
fn a_source_route_is_refused() {
    for kind in [131, 137] {
        Stage::new().expect_error(ping(&[kind, 7, 4, 10, 0, 0, 9, 0], 0), Reason::SourceRoute);
    }
}
