//! RFC 791 §3.2, RFC 1812 §4.2.2.7: a packet that may be fragmented and is too large for its link goes in pieces.

use crate::stage::*;
use fibcast_dataplane::packet::ipv4::Ipv4Header;
use fibcast_dataplane::reason::Reason;

/// From 192.0.2.7 to 10.1.2.3, of this length, with this flags-and-offset field and these options.
fn sized(length: usize, field: u16, options: &[u8]) -> Vec<u8> {
    let mut packet = ipv4("10.1.2.3");
    packet.truncate(34);
    packet.extend(options);
    packet[14] = 0x45 + (options.len() / 4) as u8;
    packet.extend((0..length - 20 - options.len()).map(|at| at as u8));
    packet[16..18].copy_from_slice(&(length as u16).to_be_bytes());
    packet[20..22].copy_from_slice(&field.to_be_bytes());
    seal(packet)
}

/// Puts pieces together; each must fit, be sealed, and say where it belongs.
#[track_caller]
fn reassemble(stage: &mut Stage, mtu: usize) -> (Vec<u8>, Vec<usize>, bool) {
    let (mut data, mut headers, mut more) = (Vec::new(), Vec::new(), true);
    while let Some(frame) = stage.out(1) {
        assert!(more, "a piece behind the last");
        assert_eq!((&frame[..6], frame[22]), (&GATEWAY.0[..], 63));
        assert!(frame.len() <= 14 + mtu);
        let header = Ipv4Header::new_checked(&frame[14..], frame.len() - 14).unwrap();
        assert_eq!(usize::from(header.fragment_offset()) * 8, data.len());
        data.extend(header.payload());
        headers.push(header.header_length());
        more = header.more_fragments();
    }
    (data, headers, more)
}

fn stage(mtu: u16) -> Stage {
    Stage::with(|setup| setup.ports[1].mtu = mtu)
}

#[test]
fn pieces_put_together_are_the_packet() {
    let mut stage = stage(1_400);
    for length in [1_401, 1_500, 4_000, 9_000] {
        let before = stage.snapshot();
        let packet = sized(length, 0, &[]);
        stage.send(0, packet.clone());
        let after = stage.snapshot();
        let pieces = (length - 20).div_ceil(1_376) as u64;
        assert_eq!((after.sent - before.sent, after.fragments - before.fragments), (1, pieces - 1));
        let (data, _, more) = reassemble(&mut stage, 1_400);
        assert!(!more && data == packet[34..]);
    }
}

#[test]
fn a_piece_is_cut_further_and_stays_a_piece() {
    let mut stage = stage(1_280);
    stage.send(0, sized(1_500, 0x2000, &[]));
    let (data, _, more) = reassemble(&mut stage, 1_280);
    assert!(more && data.len() == 1_480, "more follow the last of these too");
}

#[test]
fn only_copied_options_go_into_every_piece() {
    let mut stage = stage(1_280);
    // Router alert (copied), record route full already (not copied), end.
    let options = [0x94, 4, 0, 0, 7, 7, 8, 1, 2, 3, 4, 0];
    let packet = sized(3_000, 0, &options);
    stage.send(0, packet.clone());
    let (data, headers, _) = reassemble(&mut stage, 1_280);
    assert_eq!(data, packet[46..]);
    assert_eq!(headers, [32, 24, 24]);
}

#[test]
fn who_forbids_it_is_told() {
    let mut stage = stage(1_400);
    stage.expect_error(sized(1_401, 0x4000, &[]), Reason::TooBig);
    stage.expect_forward(sized(1_400, 0x4000, &[]));
}

#[test]
fn without_buffers_nothing_is_sent_in_part() {
    let mut stage = stage(1_400);
    stage.pool.limit(Some(1));
    stage.expect_drop(sized(4_000, 0, &[]), Reason::NoBuffer);
}
