//! The router tells its links that it is there: RFC 5227 §2.3, RFC 4861 §7.2.6, RFC 4862 §5.4.

use crate::stage::*;
use fibcast_dataplane::packet::ethernet::{Frame, Mac};
use fibcast_dataplane::packet::{arp, ipv6, nd};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

/// What the router announced of its own addresses on a port: seconds, address, whether it was a probe.
fn heard(stage: &mut Stage, port: usize, seconds: u64) -> Vec<(u64, IpAddr, bool)> {
    let mut all = Vec::new();
    for second in 0..seconds {
        stage.after(Duration::from_secs(u64::from(second != 0)));
        while let Some(frame) = stage.out(port) {
            let ethernet = Frame::new_checked(&frame).unwrap();
            assert_eq!(ethernet.source(), PORT[port]);
            let bytes = ethernet.payload();
            if ethernet.ethertype() == 0x0806 {
                let packet = arp::ArpPacket::new_checked(bytes).unwrap();
                if packet.sender == packet.target {
                    assert_eq!((packet.operation, packet.sender_mac), (arp::Operation::Request, PORT[port]));
                    assert_eq!(ethernet.destination(), Mac::BROADCAST);
                    all.push((second, packet.sender.into(), false));
                }
                continue;
            }
            // Reports of groups by IGMP.
            if ethernet.ethertype() == 0x0800 {
                continue;
            }
            let header = ipv6::Ipv6Header::new_checked(bytes, bytes.len()).unwrap();
            match nd::Message::new_checked(&header) {
                Ok(nd::Message::Advertisement { target, target_mac, solicited, overrides }) => {
                    assert_eq!((target_mac, solicited, overrides), (Some(PORT[port]), false, true));
                    assert_eq!(header.destination(), "ff02::1".parse::<Ipv6Addr>().unwrap());
                    all.push((second, target.into(), false));
                }
                Ok(nd::Message::Solicitation { target, source_mac: None }) => {
                    assert!(header.source().is_unspecified());
                    assert_eq!(header.destination(), nd::solicited_node(target));
                    all.push((second, target.into(), true));
                }
                _ => {}
            }
        }
    }
    all.sort_by_key(|(second, address, _)| (*address, *second));
    all
}

fn expected(v4: &str, v6: &str, port: usize) -> Vec<(u64, IpAddr, bool)> {
    let v4 = IpAddr::V4(v4.parse::<Ipv4Addr>().unwrap());
    let mut all = vec![(0, v4, false), (2, v4, false)];
    for own in [v6.parse().unwrap(), PORT[port].link_local()] {
        all.extend([
            (0, own.into(), true),
            (1, own.into(), false),
            (2, own.into(), false),
            (3, own.into(), false),
        ]);
    }
    all.sort_by_key(|(second, address, _)| (*address, *second));
    all
}

#[test]
fn all_addresses_are_announced_at_the_start() {
    let mut stage = Stage::new();
    (0..2).for_each(|device| stage.control.first_link_up(device, stage.now));
    assert_eq!(heard(&mut stage, 0, 10), expected("192.0.2.1", "2001:db8::1", 0));
}

#[test]
fn a_link_that_comes_back_hears_them_again_and_no_other_link_does() {
    let mut stage = Stage::new();
    stage.control.set_link(1, false, stage.now);
    assert_eq!(heard(&mut stage, 1, 5), []);
    stage.control.set_link(1, true, stage.now);
    assert_eq!(heard(&mut stage, 1, 10), expected("198.51.100.1", "2001:db8:1::1", 1));
    stage.control.set_link(1, true, stage.now);
    assert_eq!(heard(&mut stage, 1, 5), [], "it was up already");
    assert_eq!(heard(&mut stage, 0, 5), []);
}

#[test]
fn an_answer_to_the_probe_is_a_conflict_with_or_without_the_option() {
    let mut stage = Stage::new();
    (0..2).for_each(|device| stage.control.first_link_up(device, stage.now));
    stage.after(Duration::ZERO);
    let other = Mac([2, 0, 0, 0, 9, 9]);
    let own: Ipv6Addr = "2001:db8::1".parse().unwrap();
    let mut taken = nd::advertisement(other, own, Ipv6Addr::UNSPECIFIED, other);
    stage.send(0, taken.clone());
    stage.after(Duration::ZERO);
    assert_eq!(stage.control.forwarding().address_conflicts, 1);
    // Our own frame that a bridge sends back is none.
    taken[6..12].copy_from_slice(&PORT[0].0);
    stage.send(0, nd::advertisement(PORT[0], own, Ipv6Addr::UNSPECIFIED, other));
    stage.send(0, arp::ArpPacket::request(PORT[0], [192, 0, 2, 1].into(), [192, 0, 2, 1].into(), None));
    stage.after(Duration::ZERO);
    assert_eq!(stage.control.forwarding().address_conflicts, 1);
}
