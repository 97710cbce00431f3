//! Packets to the router's own addresses that nothing accepts: the error says why (RFC 8200 §4, RFC 4443 §3, RFC 1812 §5.2.7.1).

use std::time::Duration;

use crate::stage::*;
use fibcast_dataplane::packet::{checksum, ipv6};

/// The error about an IPv6 packet with this next header and payload to an address of the router: type, code and pointer.
fn refusal(next: u8, payload: &[u8]) -> Option<(u8, u8, u32)> {
    let mut stage = Stage::new();
    let mut packet = crate::stage::ipv6("2001:db8::1");
    packet[20] = next;
    packet.truncate(54);
    packet.extend(payload);
    packet[18..20].copy_from_slice(&(payload.len() as u16).to_be_bytes());
    stage.send(0, packet.clone());
    stage.after(Duration::ZERO);
    assert_eq!(stage.snapshot().host, 1);
    let error = stage.out(0)?;
    let header = ipv6::Ipv6Header::new_checked(&error[14..], error.len() - 14).unwrap();
    let message = header.payload();
    assert_eq!(checksum::pseudo_v6(header.source(), header.destination(), 58, message), 0);
    assert_eq!((header.source().to_string(), &message[8..]), ("2001:db8::1".to_owned(), &packet[14..]));
    Some((message[0], message[1], u32::from_be_bytes(message[4..8].try_into().unwrap())))
}

#[test]
fn an_unrecognized_header_is_a_parameter_problem() {
    assert_eq!(refusal(253, &[0; 8]), Some((4, 1, 6)), "a protocol for experiments");
    assert_eq!(refusal(132, &[0; 12]), Some((4, 1, 6)), "SCTP");
    assert_eq!(refusal(60, &[132, 0, 1, 4, 0, 0, 0, 0, 9, 9]), Some((4, 1, 40)), "SCTP behind options");
    assert_eq!(refusal(43, &[17, 0, 0, 2, 0, 0, 0, 0, 9, 9]), Some((4, 0, 42)), "a route with segments left");
    assert_eq!(
        refusal(60, &[17, 0, 0xc7, 4, 0, 0, 0, 0, 9, 9]),
        Some((4, 2, 42)),
        "an option that asks for it"
    );
}

#[test]
fn a_port_is_unreachable_also_behind_extension_headers() {
    for upper in [6, 17] {
        assert_eq!(refusal(upper, &[0; 20]), Some((1, 4, 0)));
        assert_eq!(refusal(60, &[&[upper, 0, 1, 4, 0, 0, 0, 0][..], &[0; 20]].concat()), Some((1, 4, 0)));
        assert_eq!(refusal(0, &[&[upper, 0, 5, 2, 0, 0, 1, 0][..], &[0; 20]].concat()), Some((1, 4, 0)));
    }
}

#[test]
fn what_needs_no_answer_gets_none() {
    assert_eq!(refusal(59, &[]), None, "no next header");
    assert_eq!(refusal(58, &[200, 0, 0, 0, 0, 0, 0, 0]), None, "an unknown message");
    assert_eq!(refusal(44, &[17, 0, 0, 1, 0, 0, 0, 9, 0, 0]), None, "a fragment");
    assert_eq!(refusal(60, &[17, 0, 0x47, 4, 0, 0, 0, 0, 9, 9]), None, "an option that asks for silence");
}

#[test]
fn an_unknown_protocol_over_ipv4_is_unreachable() {
    let mut stage = Stage::new();
    let mut packet = ipv4("192.0.2.1");
    packet[23] = 132;
    stage.send(0, seal(packet));
    stage.after(Duration::ZERO);
    let error = stage.out(0).expect("an error");
    assert_eq!((error[34], error[35]), (3, 2));
}
