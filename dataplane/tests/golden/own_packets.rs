//! Packets of the host's own, through the TAP interface of a port: by the router's table, with an error if they exceed the MTU of the outgoing link.

use crate::stage::*;
use fibcast_dataplane::packet::{checksum, ipv4, ipv6};
use fibcast_dataplane::pipeline::host_frame::HostFrame;
use std::time::Duration;

/// Port 0 has a TAP interface; the way to 10.0.0.0/8 and 2001:db8:f::/48 takes 1,400 bytes.
fn stage() -> Stage {
    Stage::with(|setup| {
        setup.ports[0].exception_path = true;
        setup.ports[1].mtu = 1_400;
    })
}

/// What the kernel sends from the address of port 0: the frame of a host, turned around.
fn from_kernel(stage: &mut Stage, frame: &[u8]) {
    stage.rings.originate.push(HostFrame::new(0, frame).unwrap().routed()).unwrap();
    stage.after(Duration::ZERO);
}

fn large_v4(flags: u8) -> Vec<u8> {
    let mut packet = ipv4_from([192, 0, 2, 1]);
    packet.resize(14 + 1_500, 7);
    packet[16..18].copy_from_slice(&1_500u16.to_be_bytes());
    packet[20] = flags;
    seal(packet)
}

fn ipv4_from(source: [u8; 4]) -> Vec<u8> {
    let mut packet = crate::stage::ipv4("10.1.2.3");
    packet[26..30].copy_from_slice(&source);
    seal(packet)
}

#[test]
fn they_go_the_way_the_table_says() {
    let mut stage = stage();
    from_kernel(&mut stage, &ipv4_from([192, 0, 2, 1]));
    let out = stage.out(1).expect("a packet");
    assert_eq!((&out[..6], out[22]), (&GATEWAY.0[..], 64), "and no hop is taken from them");
    let snapshot = stage.snapshot();
    assert_eq!((snapshot.originated, snapshot.originate_failed, snapshot.received), (1, 0, 0));
}

#[test]
fn what_may_be_cut_is_cut() {
    let mut stage = stage();
    from_kernel(&mut stage, &large_v4(0));
    let (first, last) = (stage.out(1).expect("a piece"), stage.out(1).expect("another"));
    for piece in [&first, &last] {
        assert!(piece.len() <= 14 + 1_400 && piece[..6] == GATEWAY.0);
        assert_eq!(checksum::sum(&piece[14..34]), 0xffff);
    }
    assert_eq!((first[20] & 0x20, last[20] & 0x20), (0x20, 0));
    assert_eq!(first.len() + last.len(), 2 * 34 + 1_480);
    let snapshot = stage.snapshot();
    assert_eq!((snapshot.originated, snapshot.originate_failed), (2, 0));
}

#[test]
fn what_may_not_be_cut_is_refused_and_the_kernel_told_the_mtu() {
    let mut stage = stage();
    let packet = large_v4(0x40);
    from_kernel(&mut stage, &packet);
    assert_eq!(stage.out(1), None);
    let error = stage.rings.kernel.pop().expect("a word to the kernel");
    let error = error.bytes();
    assert_eq!((&error[..6], &error[12..14]), (&PORT[0].0[..], &[8, 0][..]));
    let header = ipv4::Ipv4Header::new_checked(&error[14..], error.len() - 14).unwrap();
    assert_eq!((header.source().octets(), header.destination().octets()), ([10, 1, 2, 3], [192, 0, 2, 1]));
    let message = header.payload();
    assert_eq!((message[0], message[1], &message[6..8]), (3, 4, &1_400u16.to_be_bytes()[..]));
    assert_eq!(message[8..28], packet[14..34]);
    assert_eq!((stage.snapshot().originated, stage.snapshot().originate_failed), (0, 1));

    let mut packet = crate::stage::ipv6("2001:db8:f::1");
    packet[22..38].copy_from_slice(&"2001:db8::1".parse::<std::net::Ipv6Addr>().unwrap().octets());
    packet.resize(14 + 1_450, 7);
    packet[18..20].copy_from_slice(&1_410u16.to_be_bytes());
    from_kernel(&mut stage, &packet);
    let error = stage.rings.kernel.pop().expect("a word to the kernel");
    let header = ipv6::Ipv6Header::new_checked(&error.bytes()[14..], error.bytes().len() - 14).unwrap();
    let message = header.payload();
    assert_eq!((message[0], &message[4..8]), (2, &1_400u32.to_be_bytes()[..]));
    assert_eq!(checksum::pseudo_v6(header.source(), header.destination(), 58, message), 0);
}

#[test]
fn without_a_tap_interface_there_is_nobody_to_notify() {
    let mut stage = Stage::with(|setup| setup.ports[1].mtu = 1_400);
    from_kernel(&mut stage, &large_v4(0x40));
    assert!(stage.rings.kernel.is_empty() && stage.out(1).is_none());
    assert_eq!(stage.snapshot().originate_failed, 1);
}
