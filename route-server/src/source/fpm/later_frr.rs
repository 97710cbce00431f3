//! What FRR 9 and 10 write differently from 8.4.4, byte by byte as `netlink_route_multipath_msg_encode` and `netlink_nexthop_msg_encode`
//! (zebra/rt_netlink.c) and `fpm_nl_enqueue` (zebra/dplane_fpm_nl.c) encode it:
//!
//! - with `fpm use-route-replace` a changed route is one `RTM_NEWROUTE` with `NLM_F_REPLACE`, not a withdrawal and an announcement;
//! - blackhole, unreachable and prohibit are route types, even with a group; `RTA_NH_ID` is omitted then;
//! - a group may be resilient: `NHA_GROUP_TYPE` and `NHA_RES_GROUP` follow `NHA_GROUP`; weights have 16 bits from 10.2 on;
//! - `RTA_METRICS` (MTU), `RTA_PREFSRC` and `RTA_FLOW` come before and between the relevant attributes;
//! - labels, MACs, SRv6 (`RTA_ENCAP_TYPE`) and VXLAN come in the same stream;
//! - a route for packets from a prefix (`rtm_src_len`, `RTA_SRC`) exists next to the one for all packets.

use super::tests::{Rib, SENTINEL, counter, frame, lines, receiver, rules, tell};
use super::*;
use fibcast_netlink::testing as wire;

/// `NLM_F_REQUEST | NLM_F_CREATE`, and `NLM_F_REPLACE` if wanted.
fn flagged(mut message: Vec<u8>, replace: bool) -> Vec<u8> {
    let flags: u16 = if replace { 0x501 } else { 0x401 };
    message[6..8].copy_from_slice(&flags.to_ne_bytes());
    message
}

/// `RTA_PRIORITY`, 20 in all routes of zebra.
fn priority() -> Vec<u8> {
    wire::attribute(6, &20u32.to_ne_bytes())
}

fn unicast(prefix: &str, via: &str, more: &[Vec<u8>]) -> Vec<u8> {
    let attributes = [&[priority()], more, &[wire::gateway(via), wire::output(3)]].concat();
    flagged(wire::route_of(24, prefix, 254, 1, &attributes), true)
}

fn deletion(prefix: &str) -> Vec<u8> {
    flagged(wire::route_of(25, prefix, 254, 0, &[priority()]), false)
}

/// A next-hop object: family, attributes.
fn object(id: u32, family: u8, attributes: &[Vec<u8>]) -> Vec<u8> {
    let mut body = vec![family, 0, 11, 0, 0, 0, 0, 0];
    body.extend(wire::attribute(1, &id.to_ne_bytes()));
    attributes.iter().for_each(|a| body.extend(a));
    wire::message(104, 0x501, &body)
}

fn hop(id: u32, via: &str) -> Vec<u8> {
    let via: std::net::IpAddr = via.parse().unwrap();
    let (family, octets) = match via {
        std::net::IpAddr::V4(a) => (2, a.octets().to_vec()),
        std::net::IpAddr::V6(a) => (10, a.octets().to_vec()),
    };
    object(id, family, &[wire::attribute(6, &octets), wire::attribute(5, &3u32.to_ne_bytes())])
}

/// `struct nexthop_grp` with the high byte of the weight.
fn members(list: &[(u32, u16)]) -> Vec<u8> {
    let entry = |(id, weight): &(u32, u16)| {
        let [low, high] = (weight - 1).to_le_bytes();
        [&id.to_ne_bytes()[..], &[low, high, 0, 0]].concat()
    };
    wire::attribute(2, &list.iter().flat_map(entry).collect::<Vec<u8>>())
}

#[test]
fn a_replaced_route_without_a_withdrawal_is_one_change() {
    let (mut receiver, mut rib) = (receiver(rules()), Rib::new());
    for (via, changes) in [("192.0.2.1", 1), ("192.0.2.2", 1), ("192.0.2.2", 0)] {
        receiver.take(&frame(&[unicast("10.0.0.0/8", via, &[])])).unwrap();
        assert_eq!(tell(&mut receiver, &mut rib), changes);
        assert_eq!(lines(&rib), [format!("0 10.0.0.0/8 {via}")]);
    }
    receiver.take(&frame(&[unicast("2001:db8::/32", "2001:db8::1", &[])])).unwrap();
    receiver.take(&frame(&[unicast("2001:db8::/32", "2001:db8::2", &[])])).unwrap();
    receiver.take(&frame(&[deletion("10.0.0.0/8")])).unwrap();
    tell(&mut receiver, &mut rib);
    assert_eq!(lines(&rib), ["0 2001:db8::/32 2001:db8::2"]);
}

#[test]
fn a_route_by_a_group_that_becomes_a_blackhole_and_back_follows() {
    let (mut receiver, mut rib) = (receiver(rules()), Rib::new());
    let by = |id: u32| {
        let object = wire::attribute(30, &id.to_ne_bytes());
        flagged(wire::route_of(24, "10.0.0.0/8", 254, 1, &[priority(), object]), true)
    };
    receiver.take(&frame(&[hop(7, "192.0.2.1")])).unwrap();
    receiver.take(&frame(&[by(7)])).unwrap();
    tell(&mut receiver, &mut rib);
    assert_eq!(lines(&rib), ["0 10.0.0.0/8 192.0.2.1"]);
    for (kind, how) in [(6, "blackhole"), (7, "unreachable"), (8, "prohibit")] {
        let special = flagged(wire::route_of(24, "10.0.0.0/8", 254, kind, &[priority()]), true);
        receiver.take(&frame(&[special])).unwrap();
        assert_eq!(tell(&mut receiver, &mut rib), 1);
        assert_eq!(lines(&rib), [format!("0 10.0.0.0/8 {how}")]);
    }
    // A blackhole object has no interface and no other attribute.
    receiver.take(&frame(&[object(8, 2, &[wire::attribute(4, &[])]), by(8)])).unwrap();
    tell(&mut receiver, &mut rib);
    assert_eq!(lines(&rib), ["0 10.0.0.0/8 blackhole"]);
    receiver.take(&frame(&[by(7)])).unwrap();
    tell(&mut receiver, &mut rib);
    assert_eq!(lines(&rib), ["0 10.0.0.0/8 192.0.2.1"]);
}

#[test]
fn resilient_groups_and_weights_of_16_bits_are_read() {
    let (mut receiver, mut rib) = (receiver(rules()), Rib::new());
    let nested = [
        wire::attribute(1, &64u16.to_ne_bytes()),
        wire::attribute(2, &12_000u32.to_ne_bytes()),
        wire::attribute(3, &0u32.to_ne_bytes()),
    ]
    .concat();
    let resilient = [wire::attribute(12 | 0x8000, &nested), wire::attribute(3, &1u16.to_ne_bytes())];
    let group = object(9, 0, &[&[members(&[(1, 1), (2, 300)])], &resilient[..]].concat());
    let route =
        wire::route_of(24, "10.0.0.0/8", 254, 1, &[priority(), wire::attribute(30, &9u32.to_ne_bytes())]);
    // The group may come before its members.
    for message in [group, hop(1, "192.0.2.1"), route, hop(2, "192.0.2.2")] {
        receiver.take(&frame(&[message])).unwrap();
    }
    tell(&mut receiver, &mut rib);
    assert_eq!(lines(&rib), ["0 10.0.0.0/8 192.0.2.1, 192.0.2.2 weight 300"]);
    // Reduced under the same id, without a message about the route.
    receiver.take(&frame(&[object(9, 0, &[members(&[(2, 1)])])])).unwrap();
    assert_eq!(tell(&mut receiver, &mut rib), 1);
    assert_eq!(lines(&rib), ["0 10.0.0.0/8 192.0.2.2"]);
}

#[test]
fn attributes_that_say_nothing_of_the_way_are_passed_over() {
    let (mut receiver, mut rib) = (receiver(rules()), Rib::new());
    // MTU in RTA_METRICS; the route tag as RTA_FLOW; RTA_PREFSRC after the next hop.
    let mtu = wire::attribute(8 | 0x8000, &wire::attribute(2, &1400u32.to_ne_bytes()));
    let tag = wire::attribute(11, &42u32.to_ne_bytes());
    let mut attributes = vec![priority(), mtu, tag, wire::gateway("192.0.2.1"), wire::output(3)];
    attributes.push(wire::attribute(7, &[192, 0, 2, 9]));
    receiver.take(&frame(&[wire::route_of(24, "10.0.0.0/8", 254, 1, &attributes)])).unwrap();
    tell(&mut receiver, &mut rib);
    assert_eq!(lines(&rib), ["0 10.0.0.0/8 192.0.2.1"]);
    assert_eq!(counter(&receiver, "messages_malformed"), 0);
}

#[test]
fn labels_macs_and_tunnels_are_not_taken_for_routes() {
    let (mut receiver, mut rib) = (receiver(rules()), Rib::new());
    // AF_MPLS: a label of 20 bits as the destination; RTM_NEWNEIGH of a bridge; SRv6 and VXLAN as encapsulations of the next hop.
    let mut label = vec![28, 20, 0, 0, 254, 11, 0, 1, 0, 0, 0, 0];
    label.extend(wire::attribute(1, &(16u32 << 12 | 1 << 8).to_be_bytes()));
    let mac =
        [&[7, 0, 0, 0, 3, 0, 0, 0, 0x40, 0, 0, 1][..], &wire::attribute(2, &[2, 0, 0, 0, 0, 1])].concat();
    let others = [wire::message(24, 0x501, &label), wire::message(28, 0x501, &mac)];
    receiver.take(&frame(&others)).unwrap();
    assert_eq!(counter(&receiver, "messages_ignored"), 2);
    for kind in [1u16, 5, 100] {
        let encap = [
            wire::attribute(21, &kind.to_ne_bytes()),
            wire::attribute(22 | 0x8000, &wire::attribute(1, &[0; 24])),
        ];
        receiver.take(&frame(&[unicast("10.0.0.0/8", "192.0.2.1", &encap)])).unwrap();
    }
    assert_eq!((tell(&mut receiver, &mut rib), counter(&receiver, "skipped_encapsulated")), (0, 3));
}

#[test]
fn a_route_for_packets_from_a_prefix_leaves_the_one_for_all_packets_alone() {
    let (mut receiver, mut rib) = (receiver(rules()), Rib::new());
    let from = |kind: u16| {
        let source = wire::attribute(2, &[0x20, 1, 0xd, 0xb8, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        let attributes = [source, priority(), wire::gateway("2001:db8::9"), wire::output(3)];
        let mut message = wire::route_of(kind, "2001:db8:1::/48", 254, 1, &attributes);
        // rtm_src_len
        message[18] = 48;
        message
    };
    receiver.take(&frame(&[from(24)])).unwrap();
    assert_eq!((tell(&mut receiver, &mut rib), counter(&receiver, "skipped_source")), (0, 1));
    receiver.take(&frame(&[unicast("2001:db8:1::/48", "2001:db8::1", &[])])).unwrap();
    tell(&mut receiver, &mut rib);
    for kind in [24, 25] {
        receiver.take(&frame(&[from(kind)])).unwrap();
        assert_eq!(tell(&mut receiver, &mut rib), 0);
        assert_eq!(lines(&rib), ["0 2001:db8:1::/48 2001:db8::1"]);
    }
}

#[test]
fn a_sentinel_that_is_replaced_ends_the_table_as_well() {
    let mut rules = rules();
    rules.policy.vrfs = [(254, 0)].into();
    let mut receiver = receiver(rules);
    receiver.take(&frame(&[flagged(wire::route_of(24, SENTINEL, 254, 6, &[priority()]), true)])).unwrap();
    assert_eq!(receiver.turn(Instant::now()), Turn::Complete);
}
