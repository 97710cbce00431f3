//! Neighbor discovery by flags and options, as real hosts send it (RFC 4861 §7.2, Linux).

use crate::stage::*;
use fibcast_dataplane::packet::ethernet::{Frame, Mac};
use fibcast_dataplane::packet::{arp, checksum, ipv6, nd};
use std::net::Ipv6Addr;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

fn v6(text: &str) -> Ipv6Addr {
    text.parse().unwrap()
}

fn state(stage: &Stage, address: &str) -> Option<String> {
    let all = stage.control.neighbor_list().neighbors;
    all.into_iter().find(|entry| entry.address.to_string() == address).map(|entry| entry.state)
}

fn mac(stage: &Stage, address: &str) -> Option<String> {
    let all = stage.control.neighbor_list().neighbors;
    all.into_iter().find(|entry| entry.address.to_string() == address)?.mac
}

/// An advertisement or a solicitation with these flags, from `source` to `destination`, with or without its option.
fn message(frame: Vec<u8>, flags: Option<u8>, option: bool) -> Vec<u8> {
    let mut frame = frame;
    if !option {
        frame.truncate(14 + 40 + 24);
        frame[18..20].copy_from_slice(&24u16.to_be_bytes());
    }
    if let Some(flags) = flags {
        frame[58] = flags;
    }
    frame[56..58].fill(0);
    let address = |at: usize| Ipv6Addr::from(<[u8; 16]>::try_from(&frame[at..at + 16]).unwrap());
    let field = checksum::pseudo_v6(address(22), address(38), 58, &frame[54..]);
    frame[56..58].copy_from_slice(&field.to_be_bytes());
    frame
}

/// The question about the IPv6 gateway that is due, if any.
fn question(stage: &mut Stage) -> Option<(Mac, Ipv6Addr)> {
    std::iter::from_fn(|| stage.out(1)).find_map(|frame| {
        let ethernet = Frame::new_checked(&frame).unwrap();
        let bytes = ethernet.payload();
        let header = ipv6::Ipv6Header::new_checked(bytes, bytes.len()).ok()?;
        match nd::Message::new_checked(&header).ok()? {
            nd::Message::Solicitation { target, .. } if target == v6("2001:db8:1::9") => {
                Some((ethernet.destination(), header.source()))
            }
            _ => None,
        }
    })
}

#[test]
fn a_linux_gateway_answers_probes_without_the_option_and_no_packet_waits() {
    let mut stage = Stage::with_neighbors(Vec::new());
    stage.after(Duration::ZERO);
    let (gateway, own) = (v6("2001:db8:1::9"), v6("2001:db8:1::1"));
    let (to, _) = question(&mut stage).expect("a question at the start");
    assert_eq!(to, Mac::of_group(nd::solicited_node(gateway)));
    stage.send(1, nd::advertisement(GATEWAY, gateway, own, PORT[1]));
    stage.after(Duration::from_millis(100));
    let mut asked = 0;
    for _ in 0..180 {
        stage.after(SECOND);
        if let Some((to, from)) = question(&mut stage) {
            asked += 1;
            assert_eq!(to, GATEWAY, "by unicast only");
            // What Linux sends: solicited, no override, no option.
            stage.send(1, message(nd::advertisement(GATEWAY, gateway, from, PORT[1]), Some(0x40), false));
            stage.after(Duration::ZERO);
        }
        stage.expect_forward(ipv6("2001:db8:f::1"));
        while stage.out(1).is_some() {}
    }
    assert!((5..=6).contains(&asked), "{asked}");
    assert_eq!(state(&stage, "2001:db8:1::9").as_deref(), Some("reachable"));
}

#[test]
fn a_solicitation_without_the_option_is_answered_where_it_came_from() {
    let mut stage = Stage::with_neighbors(Vec::new());
    let (host, own) = (v6("2001:db8::7"), v6("2001:db8::1"));
    stage.send(0, message(nd::solicitation(HOST, host, own, Some(PORT[0])), None, false));
    stage.after(Duration::ZERO);
    let answer = stage.out(0).expect("an answer");
    assert_eq!(answer[..6], HOST.0);
    let bytes = Frame::new_checked(&answer).unwrap().payload();
    let header = ipv6::Ipv6Header::new_checked(bytes, bytes.len()).unwrap();
    assert_eq!(header.destination(), host);
    assert_eq!(state(&stage, "2001:db8::7"), None, "it did not give its address");
}

#[test]
fn who_asks_us_is_stale_until_it_has_answered() {
    let mut stage = Stage::with_neighbors(Vec::new());
    stage.send(0, nd::solicitation(HOST, v6("2001:db8::7"), v6("2001:db8::1"), None));
    stage.send(0, arp::ArpPacket::request(HOST, [192, 0, 2, 7].into(), [192, 0, 2, 1].into(), None));
    stage.after(Duration::ZERO);
    assert_eq!(state(&stage, "2001:db8::7").as_deref(), Some("stale"));
    assert_eq!(state(&stage, "192.0.2.7").as_deref(), Some("stale"));
    // Again the same: no news.
    stage.send(0, nd::solicitation(HOST, v6("2001:db8::7"), v6("2001:db8::1"), None));
    stage.after(Duration::ZERO);
    assert_eq!(state(&stage, "2001:db8::7").as_deref(), Some("stale"));
}

#[test]
fn the_flags_decide_whether_the_mac_address_moves() {
    let (host, own, other) = (v6("2001:db8::50"), v6("2001:db8::1"), Mac([2, 0, 0, 0, 7, 7]));
    let before = HOST.to_string();
    for (flags, option, moved, name) in [
        (0x40, true, false, "delay"),
        (0x60, true, true, "reachable"),
        (0x20, true, true, "stale"),
        (0x00, true, false, "delay"),
        (0x60, false, false, "reachable"),
        (0x20, false, false, "reachable"),
    ] {
        let mut stage = Stage::with_neighbors(Vec::new());
        // A packet asks for it, so it is known as reachable.
        stage.send(0, ipv6("2001:db8::50"));
        stage.after(Duration::ZERO);
        stage.send(0, nd::advertisement(HOST, host, own, PORT[0]));
        stage.after(Duration::ZERO);
        assert_eq!(state(&stage, "2001:db8::50").as_deref(), Some("reachable"));
        stage.send(0, message(nd::advertisement(other, host, own, PORT[0]), Some(flags), option));
        stage.after(Duration::ZERO);
        let expected = if moved { other.to_string() } else { before.clone() };
        assert_eq!(mac(&stage, "2001:db8::50"), Some(expected), "flags {flags:#x}, option {option}");
        let found = state(&stage, "2001:db8::50").unwrap();
        // Doubt about an entry without traffic is "stale".
        let name = if name == "delay" { "stale" } else { name };
        assert_eq!(found, name, "flags {flags:#x}, option {option}");
    }
}

#[test]
fn a_solicited_advertisement_to_a_group_changes_nothing() {
    let (host, own) = (v6("2001:db8::50"), v6("2001:db8::1"));
    let mut stage = Stage::with_neighbors(Vec::new());
    stage.send(0, ipv6("2001:db8::50"));
    stage.after(Duration::ZERO);
    let to_all = nd::advertisement(HOST, host, Ipv6Addr::UNSPECIFIED, PORT[0]);
    stage.send(0, message(to_all.clone(), Some(0x60), true));
    stage.after(Duration::ZERO);
    assert_eq!(mac(&stage, "2001:db8::50"), None);
    stage.send(0, to_all);
    stage.after(Duration::ZERO);
    assert_eq!(mac(&stage, "2001:db8::50"), Some(HOST.to_string()), "the valid form is taken");
    let _ = own;
}

#[test]
fn an_arp_reply_confirms_if_it_is_for_us_alone() {
    let mut stage = Stage::with_neighbors(Vec::new());
    stage.send(0, ipv4("192.0.2.50"));
    stage.after(Duration::ZERO);
    let reply = |to: Mac| {
        let packet = arp::ArpPacket {
            operation: arp::Operation::Reply,
            sender_mac: HOST,
            sender: [192, 0, 2, 50].into(),
            target_mac: PORT[0],
            target: [192, 0, 2, 1].into(),
        };
        packet.build(to)
    };
    stage.send(0, reply(Mac::BROADCAST));
    stage.after(Duration::ZERO);
    assert_eq!(state(&stage, "192.0.2.50").as_deref(), Some("delay"), "usable, and confirmed soon");
    stage.send(0, reply(PORT[0]));
    stage.after(Duration::ZERO);
    assert_eq!(state(&stage, "192.0.2.50").as_deref(), Some("reachable"));
}

#[test]
fn limits_that_are_reached_are_counted() {
    let mut stage = Stage::with(|setup| {
        setup.limits.max_neighbors = 20;
        setup.ports[1].addresses.push("10.32.0.1/11".parse().unwrap());
    });
    for host in 2..102u32 {
        stage.send(0, ipv4(&std::net::Ipv4Addr::from(0x0a20_0000 + host).to_string()));
        stage.after(Duration::from_millis(1));
        while stage.out(1).is_some() {}
    }
    let status = stage.control.forwarding();
    assert_eq!((status.neighbors, status.neighbors_refused), (20 + 4, 80), "the static ones do not count");
}
