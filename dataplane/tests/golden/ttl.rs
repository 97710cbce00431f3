//! RFC 1812 §5.3.1, RFC 8200 §3: a packet whose time is up is not forwarded, but may still be for us.

use crate::stage::*;
use fibcast_dataplane::reason::Reason;

#[test]
fn a_ttl_of_1_or_0_ends_here() {
    let mut stage = Stage::new();
    for ttl in [0, 1] {
        let mut packet = ipv4("10.1.2.3");
        packet[22] = ttl;
        stage.expect_drop(seal(packet), Reason::TtlExceeded);
    }
}

#[test]
fn a_ttl_of_2_is_forwarded_as_1() {
    let mut packet = ipv4("10.1.2.3");
    packet[22] = 2;
    assert_eq!(Stage::new().expect_forward(seal(packet))[22], 1);
}

#[test]
fn a_hop_limit_of_1_or_0_ends_here() {
    let mut stage = Stage::new();
    for hop_limit in [0, 1] {
        let mut packet = ipv6("2001:db8:f::1");
        packet[21] = hop_limit;
        stage.expect_drop(packet, Reason::TtlExceeded);
    }
}

#[test]
fn a_ttl_of_1_reaches_an_own_address() {
    let mut stage = Stage::new();
    let mut packet = ipv4("192.0.2.1");
    packet[22] = 1;
    stage.send(0, seal(packet));
    assert_eq!(stage.snapshot().host, 1);
}
