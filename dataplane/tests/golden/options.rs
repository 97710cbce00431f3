//! IPv4 options: a source route is refused, a route is recorded, nonsense is answered, all else passes.

use crate::stage::*;
use fibcast_dataplane::reason::Reason;

fn with_options(options: &[u8]) -> Vec<u8> {
    let mut packet = ipv4("10.1.2.3");
    packet.splice(34..34, options.iter().copied());
    packet[14] = 0x45 + (options.len() / 4) as u8;
    packet[17] += options.len() as u8;
    seal(packet)
}

#[test]
fn options_that_mean_nothing_to_a_router_pass_unchanged() {
    // No operation, end; router alert; an unknown one; timestamp.
    for options in [vec![1, 1, 1, 0], vec![0x94, 4, 0, 0], vec![0x55, 4, 1, 2], vec![68, 8, 5, 0, 0, 0, 0, 0]]
    {
        let packet = with_options(&options);
        let out = Stage::new().expect_forward(packet.clone());
        assert_eq!((out[22], &out[26..]), (63, &packet[26..]));
    }
}

#[test]
fn a_route_is_recorded_with_the_address_of_the_outgoing_port() {
    let packet = with_options(&[7, 11, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    let out = Stage::new().expect_forward(packet);
    assert_eq!(out[34..46], [7, 11, 8, 198, 51, 100, 1, 0, 0, 0, 0, 0]);
    assert_eq!(fibcast_dataplane::packet::checksum::sum(&out[14..46]), 0xffff);
    let full = with_options(&[7, 7, 8, 9, 9, 9, 9, 0]);
    assert_eq!(
        Stage::new().expect_forward(full)[34..42],
        [7, 7, 8, 9, 9, 9, 9, 0],
        "no room: nothing is added"
    );
}

#[test]
fn source_routes_are_refused_and_the_source_is_told() {
    for kind in [131, 137] {
        let error =
            Stage::new().expect_error(with_options(&[kind, 7, 4, 10, 0, 0, 9, 0]), Reason::SourceRoute);
        assert_eq!(error[34..36], [3, 5]);
    }
}

#[test]
fn a_source_route_that_ends_at_us_is_refused_too() {
    let mut packet = with_options(&[137, 7, 4, 10, 0, 0, 9, 0]);
    packet[30..34].copy_from_slice(&[192, 0, 2, 1]);
    Stage::new().expect_error(seal(packet), Reason::SourceRoute);
}

#[test]
fn nonsense_is_answered_with_where_it_is() {
    // Length 0, length beyond the header, a pointer into the option's own head.
    for (options, pointer) in [([1, 0x55, 0, 0], 22), ([0x55, 9, 0, 0], 21), ([7, 3, 3, 0], 22)] {
        let error = Stage::new().expect_error(with_options(&options), Reason::BadOption);
        assert_eq!((error[34], error[35], error[38]), (12, 0, pointer));
    }
}
