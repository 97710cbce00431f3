//! IPv4: MAC addresses, TTL and checksum change, and nothing else.

use crate::stage::*;
use fibcast_dataplane::packet::checksum;

#[test]
fn an_ipv4_packet_goes_out_with_new_macs_ttl_and_checksum_and_nothing_else_changed() {
    let mut stage = Stage::new();
    let sent = ipv4("10.1.2.3");
    let got = stage.expect_forward(sent.clone());
    assert_eq!(got[..12], [GATEWAY.0, PORT[1].0].concat());
    assert_eq!(got[22], 63);
    assert_eq!(checksum::sum(&got[14..34]), 0xffff);
    let mut expected = sent;
    expected[..12].copy_from_slice(&got[..12]);
    expected[22] = 63;
    assert_eq!(got, seal(expected));
}

#[test]
fn options_and_padding_travel_untouched() {
    let mut stage = Stage::new();
    let mut sent = ipv4("10.1.2.3");
    // A header of 24 bytes with "no operation" options, which takes four bytes of the data.
    sent[14] = 0x46;
    sent[34..38].fill(1);
    sent.extend([0xee; 6]);
    let sent = seal(sent);
    let got = stage.expect_forward(sent.clone());
    assert_eq!(checksum::sum(&got[14..38]), 0xffff);
    assert_eq!(got[26..], sent[26..]);
}

#[test]
fn bytes_are_counted_at_both_ports() {
    let mut stage = Stage::new();
    stage.expect_forward(ipv4("10.1.2.3"));
    let ports = stage.snapshot().ports;
    assert_eq!((ports[0].rx_packets, ports[0].rx_bytes), (1, 60));
    assert_eq!((ports[1].tx_packets, ports[1].tx_bytes), (1, 60));
}

#[test]
fn a_burst_keeps_its_order() {
    let mut stage = Stage::new();
    for number in 0..64 {
        stage.rx[0].put(ipv4(&format!("10.0.0.{number}")));
    }
    assert_eq!(stage.worker.turn(), 64);
    for number in 0..64 {
        assert_eq!(stage.out(1).unwrap()[33], number);
    }
}

#[test]
fn a_source_that_is_the_destination_is_nothing_special() {
    let mut stage = Stage::new();
    let mut packet = ipv4("10.1.2.3");
    packet[26..30].copy_from_slice(&[10, 1, 2, 3]);
    stage.expect_forward(seal(packet));
    let mut packet = ipv6("2001:db8:f::1");
    packet.copy_within(38..54, 22);
    stage.expect_forward(packet);
}
