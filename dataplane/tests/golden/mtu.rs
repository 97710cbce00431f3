//! A packet larger than the outgoing link takes is not sent.

use crate::stage::*;
use fibcast_dataplane::reason::Reason;

fn sized(length: u16) -> Vec<u8> {
    let mut packet = ipv4("10.1.2.3");
    packet.resize(14 + usize::from(length), 0);
    packet[16..18].copy_from_slice(&length.to_be_bytes());
    seal(packet)
}

#[test]
fn the_largest_packet_goes_and_one_byte_more_does_not() {
    let mut stage = Stage::new();
    assert_eq!(stage.expect_forward(sized(1_500)).len(), 1_514);
    stage.expect_drop(sized(1_501), Reason::TooBig);
}

#[test]
fn padding_does_not_count() {
    let mut packet = sized(1_500);
    packet.extend([0; 8]);
    Stage::new().expect_forward(packet);
}

#[test]
fn jumbo_frames_pass_between_ports_that_take_them() {
    let mut stage = Stage::with(|setup| setup.ports.iter_mut().for_each(|port| port.mtu = 9_000));
    assert_eq!(stage.expect_forward(sized(9_000)).len(), 9_014);
    stage.expect_drop(sized(9_001), Reason::TooBig);
}
