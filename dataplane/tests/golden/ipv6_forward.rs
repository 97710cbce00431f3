//! IPv6: MAC addresses and hop limit change, and nothing else.

use crate::stage::*;

#[test]
fn an_ipv6_packet_goes_out_with_new_macs_and_hop_limit_and_nothing_else_changed() {
    let mut stage = Stage::new();
    let sent = ipv6("2001:db8:f::1");
    let got = stage.expect_forward(sent.clone());
    let mut expected = sent;
    expected[..6].copy_from_slice(&GATEWAY.0);
    expected[6..12].copy_from_slice(&PORT[1].0);
    expected[21] = 63;
    assert_eq!(got, expected);
}

#[test]
fn extension_headers_travel_untouched() {
    let mut stage = Stage::new();
    let mut sent = ipv6("2001:db8:f::1");
    sent[20] = 0;
    let got = stage.expect_forward(sent.clone());
    assert_eq!(got[22..], sent[22..]);
}

#[test]
fn both_families_in_one_burst_keep_to_themselves() {
    let mut stage = Stage::new();
    for _ in 0..20 {
        stage.rx[0].put(ipv4("10.0.0.1"));
        stage.rx[0].put(ipv6("2001:db8:f::1"));
        stage.rx[0].put(ipv6("2001:db8:e::1"));
    }
    stage.worker.turn();
    let families: Vec<u8> = std::iter::from_fn(|| stage.out(1)).map(|frame| frame[12]).collect();
    assert_eq!(families, [0x08, 0x86].repeat(20));
}
