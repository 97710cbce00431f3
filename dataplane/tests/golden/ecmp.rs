//! Several next hops: by weight and flow, to those that answer, and at once away from a port whose link is down.

use crate::stage::*;
use fibcast_dataplane::packet::ethernet::Mac;
use fibcast_fib::{Change, Group, GroupLabel, Member, NextHop};
use std::collections::BTreeMap;
use std::time::Duration;

fn mac(number: u8) -> Mac {
    Mac([2, 0, 0, 0, 9, number])
}

/// Members by weight: even ones behind port 1, odd ones behind port 0; 172.16.0.0/16 and 2001:db8:e::/48 lead to them.
fn stage(weights: &[u16]) -> Stage {
    let gateway = |number: usize| -> std::net::IpAddr {
        let net = if number.is_multiple_of(2) { [198, 51, 100] } else { [192, 0, 2] };
        [net[0], net[1], net[2], 100 + number as u8].into()
    };
    let mut stage = Stage::with(|setup| {
        for number in 0..weights.len() {
            let port = usize::from(number.is_multiple_of(2));
            setup.neighbors.push((port, gateway(number), mac(number as u8)));
        }
    });
    let member =
        |(number, &weight): (usize, &u16)| Member { next_hop: NextHop::via(gateway(number)), weight };
    let group = Group::hops(weights.iter().enumerate().map(member).collect()).unwrap();
    stage.batch(vec![
        Change::PutGroup { label: GroupLabel(1), group },
        announce("172.16.0.0/16", 1),
        announce("2001:db8:e::/48", 1),
    ]);
    stage
}

fn flow(number: u16) -> Vec<u8> {
    let mut packet = ipv4("172.16.0.1");
    packet[34..36].copy_from_slice(&number.to_be_bytes());
    packet
}

/// Sends each packet; says by which member each went.
fn members(stage: &mut Stage, packets: impl Iterator<Item = Vec<u8>>) -> Vec<u8> {
    packets
        .map(|packet| {
            stage.send(0, packet);
            let out = stage.out(1).or_else(|| stage.out(0)).expect("a packet");
            out[5]
        })
        .collect()
}

#[test]
fn flows_spread_by_weight_and_each_keeps_its_path() {
    let mut stage = stage(&[1, 1, 2]);
    let first = members(&mut stage, (0..2_000).map(flow));
    assert_eq!(first, members(&mut stage, (0..2_000).map(flow)));
    let mut counts = BTreeMap::new();
    first.iter().for_each(|member| *counts.entry(*member).or_insert(0) += 1);
    assert!((400..600).contains(&counts[&0]) && (400..600).contains(&counts[&1]), "{counts:?}");
    assert!((850..1_150).contains(&counts[&2]), "{counts:?}");
}

#[test]
fn the_ipv6_flow_label_makes_a_flow() {
    let mut stage = stage(&[1, 1, 1, 1]);
    let labelled = |label: u16| {
        let mut packet = ipv6("2001:db8:e::1");
        // An extension header hides the ports: label and addresses decide alone (RFC 6438).
        packet[20] = 60;
        packet[16..18].copy_from_slice(&label.to_be_bytes());
        packet
    };
    let mut seen = members(&mut stage, (0..200).map(labelled));
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen, [0, 1, 2, 3]);
}

#[test]
fn all_pieces_of_a_packet_keep_one_path() {
    let mut stage = stage(&[1, 1, 1, 1]);
    for number in 0..100 {
        let piece = |field: [u8; 2], bytes: [u8; 4]| {
            let mut packet = ipv4(&format!("172.16.1.{number}"));
            packet[20..22].copy_from_slice(&field);
            packet[34..38].copy_from_slice(&bytes);
            seal(packet)
        };
        // The first has ports, the others have data in their place.
        let pieces = [piece([0x20, 0], [0, 1, 0, 2]), piece([0x20, 1], [7; 4]), piece([0, 2], [9; 4])];
        let mut used = members(&mut stage, pieces.into_iter());
        used.dedup();
        assert_eq!(used.len(), 1);
    }
}

#[test]
fn a_link_that_goes_down_moves_its_flows_and_no_others_and_they_come_back() {
    let mut stage = stage(&[1; 8]);
    let before = members(&mut stage, (0..1_000).map(flow));
    stage.control.set_link(0, false, stage.now);
    // One turn of the control thread, and no word from any server.
    stage.after(Duration::ZERO);
    let after = members(&mut stage, (0..1_000).map(flow));
    let mut taken = BTreeMap::new();
    for (was, is) in before.iter().zip(&after) {
        if was.is_multiple_of(2) {
            assert_eq!(was, is, "not on the port that went down");
        } else {
            assert!(is.is_multiple_of(2));
            *taken.entry(*is).or_insert(0) += 1;
        }
    }
    assert!(
        taken.len() == 4 && taken.values().all(|flows| *flows > 50),
        "shared by all that are left: {taken:?}"
    );
    stage.control.set_link(0, true, stage.now);
    stage.after(Duration::ZERO);
    // The announcements of its own addresses.
    (0..2).for_each(|port| while stage.out(port).is_some() {});
    assert_eq!(before, members(&mut stage, (0..1_000).map(flow)));
}

#[test]
fn workers_leave_a_link_that_is_down_before_the_control_thread_has_a_turn() {
    let mut stage = stage(&[1; 8]);
    let before = members(&mut stage, (0..1_000).map(flow));
    stage.rings.links.set(0, false);
    let after = members(&mut stage, (0..1_000).map(flow));
    for (was, is) in before.iter().zip(&after) {
        assert!(if was.is_multiple_of(2) { was == is } else { is.is_multiple_of(2) });
    }
    // All members behind links that are down: packets are held, and sent when one is back.
    stage.rings.links.set(1, false);
    stage.expect_held(flow(1));
    stage.rings.links.set(1, true);
    stage.after(Duration::from_millis(50));
    stage.after(Duration::from_millis(50));
    assert_eq!(stage.snapshot().held, 0);
}

#[test]
fn two_hundred_and_fifty_six_members_all_get_flows() {
    let members = |count: u32| {
        let member = |number| Member {
            next_hop: NextHop::via([10, 0, (number >> 8) as u8, number as u8].into()),
            weight: 1,
        };
        Group::hops((0..count).map(member).collect())
    };
    assert!(members(256).is_ok() && members(257).is_err());
}
