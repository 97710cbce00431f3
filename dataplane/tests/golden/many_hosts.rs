//! 20,000 hosts of each family on one link, all sent to within a second and a half, while made-up stations flood another port: each is
//! reached within 3 s, and the flood fills no more than its port's share of the table.

use crate::stage::*;
use fibcast_dataplane::packet::ethernet::{Frame, Mac};
use fibcast_dataplane::packet::{arp, ipv6, nd};
use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

const HOSTS: u32 = 20_000;
/// Packets to hosts in a millisecond, half of them IPv6.
const RATE: u32 = 28;
/// Made-up stations that speak in a millisecond: 50,000 in 3 s.
const FLOOD: u32 = 17;

fn v4(host: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 1, 1, 0)) + host)
}

fn v6(host: u32) -> Ipv6Addr {
    Ipv6Addr::from(u128::from("2001:db8:77::".parse::<Ipv6Addr>().unwrap()) + 0x100 + u128::from(host))
}

fn mac(host: u32) -> Mac {
    let [_, a, b, c] = host.to_be_bytes();
    Mac([2, 7, 0, a, b, c])
}

/// The host's answer to a frame out of port 1; or its address, if it is a packet for it.
fn answer(frame: &[u8], reached: &mut HashSet<IpAddr>) -> Option<Vec<u8>> {
    let ethernet = Frame::new_checked(frame).ok()?;
    let bytes = ethernet.payload();
    if ethernet.ethertype() == 0x0806 {
        let request = arp::ArpPacket::new_checked(bytes).ok()?;
        let host = u32::from(request.target).checked_sub(u32::from(v4(0)))?;
        return (host < HOSTS).then(|| request.reply(mac(host)));
    }
    if ethernet.ethertype() == 0x0800 {
        reached.insert(Ipv4Addr::from(<[u8; 4]>::try_from(&bytes[16..20]).unwrap()).into());
        return None;
    }
    let header = ipv6::Ipv6Header::new_checked(bytes, bytes.len()).ok()?;
    match nd::Message::new_checked(&header) {
        Ok(nd::Message::Solicitation { target, .. }) => {
            let host = u32::try_from(u128::from(target).checked_sub(u128::from(v6(0)))?).ok()?;
            (host < HOSTS).then(|| nd::advertisement(mac(host), target, header.source(), PORT[1]))
        }
        _ => {
            reached.insert(header.destination().into());
            None
        }
    }
}

#[test]
fn every_host_is_reached_within_3_s_while_strangers_flood_another_port() {
    let mut stage = Stage::with(|setup| {
        setup.ports[0].addresses.push("10.2.0.1/15".parse().unwrap());
        setup.ports[1].addresses.push("10.1.0.1/16".parse().unwrap());
        setup.ports[1].addresses.push("2001:db8:77::1/64".parse().unwrap());
    });
    let mut reached = HashSet::new();
    let (mut next, mut stranger) = (0u32, 0u32);
    for _ in 0..3_000 {
        // Whoever was not reached is sent to again, as hosts do: at most once in some 1.4 s.
        for _ in 0..RATE {
            let host = next / 2 % HOSTS;
            let (to, frame) = if next % 2 == 0 {
                (IpAddr::V4(v4(host)), ipv4(&v4(host).to_string()))
            } else {
                (IpAddr::V6(v6(host)), ipv6(&v6(host).to_string()))
            };
            next += 1;
            if !reached.contains(&to) {
                stage.send(0, frame);
            }
        }
        for _ in 0..FLOOD {
            let sender = Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 3, 0, 0)) + stranger % 50_000);
            stranger += 1;
            stage.send(0, arp::ArpPacket::request(HOST, sender, [10, 2, 0, 1].into(), None));
        }
        stage.after(Duration::from_millis(1));
        while stage.out(0).is_some() {}
        while let Some(frame) = stage.out(1) {
            if let Some(answer) = answer(&frame, &mut reached) {
                stage.send(1, answer);
            }
        }
    }
    assert_eq!(reached.len(), 2 * HOSTS as usize);
    let entries = stage.control.neighbor_list().neighbors;
    let strangers = entries.iter().filter(|entry| entry.port == "p0" && entry.state != "static").count();
    assert!(strangers <= UNPROVEN_LIMIT, "{strangers}");
    assert_eq!(entries.iter().filter(|entry| entry.state == "reachable").count(), 2 * HOSTS as usize);
    assert!(stage.control.forwarding().neighbors_refused >= 50_000 - UNPROVEN_LIMIT as u64);
}
