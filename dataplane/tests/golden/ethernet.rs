//! Frames that are not for us, or that we do not understand.

use crate::stage::*;
use fibcast_dataplane::reason::Reason;

#[test]
fn a_frame_for_another_host_is_not_ours() {
    let mut packet = ipv4("10.1.2.3");
    packet[5] ^= 1;
    Stage::new().expect_drop(packet, Reason::OtherHost);
}

#[test]
fn a_frame_of_zeros_tells_of_a_device_that_did_not_write_it() {
    Stage::new().expect_drop(vec![0; 64], Reason::ZeroFrame);
}

#[test]
fn a_unicast_packet_sent_to_all_stations_is_not_forwarded() {
    // RFC 1812 §5.3.4.
    let mut stage = Stage::new();
    for mut packet in [ipv4("10.1.2.3"), ipv6("2001:db8:f::1")] {
        packet[..6].fill(0xff);
        stage.expect_drop(packet, Reason::LinkBroadcast);
    }
}

#[test]
fn unknown_protocols_and_runts_are_dropped() {
    let mut stage = Stage::new();
    stage.expect_drop(frame(0x88cc, &[0; 46]), Reason::UnknownEthertype);
    stage.expect_drop(vec![0; 13], Reason::ShortFrame);
    stage.expect_drop(Vec::new(), Reason::ShortFrame);
}
