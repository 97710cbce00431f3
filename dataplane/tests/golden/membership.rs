//! Snooping switches: the ports report their groups when their link is up, and when a querier asks.

use std::net::Ipv6Addr;
use std::time::Duration;

use crate::stage::*;
use fibcast_dataplane::packet::checksum;
use fibcast_dataplane::packet::ethernet::Mac;

const SECOND: Duration = Duration::from_secs(1);

/// The frames that port 0 sends within a time: those with reports, by the group in each record or message.
fn reports(stage: &mut Stage, time: Duration) -> Vec<(u8, Vec<u8>)> {
    let mut found = Vec::new();
    for _ in 0..=time.as_millis() / 100 {
        stage.after(Duration::from_millis(100));
        while let Some(frame) = stage.out(0) {
            match frame[12..14] {
                [0x86, 0xdd] if frame[20] == 0 => {
                    assert_eq!((frame[21], &frame[54..62]), (1, &[58, 0, 5, 2, 0, 0, 1, 0][..]));
                    assert_eq!(frame[6..12], PORT[0].0);
                    assert_eq!(frame[22..38], PORT[0].link_local().octets());
                    found.push((frame[62], frame[62..].to_vec()));
                }
                [8, 0] if frame[23] == 2 => {
                    assert_eq!((frame[22], &frame[26..30]), (1, &[192, 0, 2, 1][..]));
                    found.push((frame[38], frame[38..].to_vec()));
                }
                _ => {}
            }
        }
        while stage.out(1).is_some() {}
    }
    found
}

/// The groups of an MLDv2 report, with the type of their records.
fn records(report: &[u8]) -> Vec<(u8, String)> {
    let record = |record: &[u8]| {
        (record[0], Ipv6Addr::from(<[u8; 16]>::try_from(&record[4..20]).unwrap()).to_string())
    };
    report[8..].chunks_exact(20).take(usize::from(report[7])).map(record).collect()
}

fn started() -> Stage {
    let mut stage = Stage::new();
    let now = stage.now;
    (0..2).for_each(|device| stage.control.first_link_up(device, now));
    stage
}

fn own_groups(kind: u8) -> Vec<(u8, String)> {
    let mut groups =
        ["ff02::2", "ff02::1:ff00:0", "ff02::1:ff00:1", "ff02::1:ff00:100"].map(str::to_owned).to_vec();
    groups.sort_by_key(|group| group.parse::<Ipv6Addr>().unwrap());
    groups.into_iter().map(|group| (kind, group)).collect()
}

/// An MLDv2 query of fe80::9 with a maximum response time of one second.
fn mld_query(group: &str) -> Vec<u8> {
    let group: Ipv6Addr = group.parse().unwrap();
    let to = if group.is_unspecified() { "ff02::1".parse().unwrap() } else { group };
    let source: Ipv6Addr = "fe80::9".parse().unwrap();
    let mut message = [&[130, 0, 0, 0, 3, 0xe8, 0, 0][..], &group.octets(), &[2, 125, 0, 0]].concat();
    let field = checksum::pseudo_v6(source, to, 58, &message);
    message[2..4].copy_from_slice(&field.to_be_bytes());
    let mut packet = vec![0x60, 0, 0, 0, 0, 36, 0, 1];
    packet.extend(source.octets().into_iter().chain(to.octets()));
    packet.extend([58, 0, 5, 2, 0, 0, 1, 0]);
    packet.extend(message);
    let mut frame = frame(0x86dd, &packet);
    frame[..6].copy_from_slice(&Mac::of_group(to).0);
    frame
}

/// An IGMP query for all groups with a maximum response time of one second, from a switch without an address.
fn igmp_query(message: &[u8]) -> Vec<u8> {
    let mut packet =
        vec![0x46, 0, 0, 24 + message.len() as u8, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 0, 0, 224, 0, 0, 1];
    packet.extend([0x94, 4, 0, 0]);
    packet.extend(message);
    let field = checksum::checksum(&packet[24..]);
    packet[26..28].copy_from_slice(&field.to_be_bytes());
    let mut frame = frame(0x0800, &packet);
    frame[..6].copy_from_slice(&[1, 0, 0x5e, 0, 0, 1]);
    seal(frame)
}

#[test]
fn nothing_is_reported_before_the_link_is_up() {
    assert_eq!(reports(&mut Stage::new(), 20 * SECOND), []);
}

#[test]
fn a_port_that_is_up_reports_its_groups_twice() {
    let mut stage = started();
    let found = reports(&mut stage, 20 * SECOND);
    let v6: Vec<_> = found.iter().filter(|(kind, _)| *kind == 143).collect();
    assert_eq!(v6.len(), 2, "{found:?}");
    for (_, report) in v6 {
        assert_eq!(records(report), own_groups(4));
    }
    let v4: Vec<_> = found.iter().filter(|(kind, _)| *kind == 0x22).collect();
    assert_eq!(v4.len(), 2);
    assert_eq!(v4[0].1[8..16], [4, 0, 0, 0, 224, 0, 0, 2]);
    let snapshot = stage.snapshot();
    assert_eq!(snapshot.originate_failed, 0);
}

#[test]
fn a_link_that_is_up_again_is_told_all_groups_again() {
    let mut stage = started();
    reports(&mut stage, 20 * SECOND);
    let now = stage.now;
    stage.control.set_link(0, false, now);
    assert_eq!(reports(&mut stage, 5 * SECOND), []);
    let now = stage.now;
    stage.control.set_link(0, true, now);
    let found = reports(&mut stage, 5 * SECOND);
    assert_eq!(found.iter().filter(|(kind, _)| *kind == 143).count(), 2);
}

#[test]
fn general_queries_are_answered_with_and_without_a_tap_interface() {
    for exception_path in [false, true] {
        let mut stage = Stage::with(|setup| setup.ports[0].exception_path = exception_path);
        let now = stage.now;
        stage.control.first_link_up(0, now);
        reports(&mut stage, 20 * SECOND);
        for round in 0..5 {
            stage.send(0, mld_query("::"));
            let found = reports(&mut stage, 2 * SECOND);
            assert_eq!(found.len(), 1, "round {round}");
            assert_eq!(records(&found[0].1), own_groups(2));
            // The kernel answers for its own groups.
            assert_eq!(stage.rings.kernel.pop().is_some(), exception_path);
            stage.send(0, igmp_query(&[0x11, 10, 0, 0, 0, 0, 0, 0, 2, 125, 0, 0]));
            let found = reports(&mut stage, 2 * SECOND);
            assert_eq!((found.len(), found[0].0), (1, 0x22));
            assert_eq!(stage.rings.kernel.pop().is_some(), exception_path);
        }
    }
}

#[test]
fn a_query_for_one_group_is_answered_for_it_alone() {
    let mut stage = started();
    reports(&mut stage, 20 * SECOND);
    stage.send(0, mld_query("ff02::1:ff00:1"));
    let found = reports(&mut stage, 2 * SECOND);
    assert_eq!(found.len(), 1);
    assert_eq!(records(&found[0].1), [(2, "ff02::1:ff00:1".to_owned())]);
    stage.send(0, mld_query("ff02::1:ff00:77"));
    assert_eq!(reports(&mut stage, 2 * SECOND), []);
}

#[test]
fn a_querier_of_an_older_version_gets_reports_of_it() {
    let mut stage = started();
    reports(&mut stage, 20 * SECOND);
    stage.send(0, igmp_query(&[0x11, 10, 0, 0, 0, 0, 0, 0]));
    let found = reports(&mut stage, 2 * SECOND);
    assert_eq!((found.len(), found[0].0, &found[0].1[4..8]), (1, 0x16, &[224, 0, 0, 2][..]));
    stage.send(0, igmp_query(&[0x11, 0, 0, 0, 0, 0, 0, 0]));
    let found = reports(&mut stage, 11 * SECOND);
    assert_eq!((found.len(), found[0].0), (1, 0x12));
}

#[test]
fn a_query_that_may_come_from_elsewhere_is_ignored() {
    let mut stage = started();
    reports(&mut stage, 20 * SECOND);
    let mut hops = mld_query("::");
    hops[21] = 64;
    stage.send(0, hops);
    let mut broken = mld_query("::");
    broken[64] ^= 1;
    stage.send(0, broken);
    assert_eq!(reports(&mut stage, 5 * SECOND), []);
}

#[test]
fn an_address_of_the_kernel_joins_its_group_and_leaves_it() {
    let mut stage = started();
    reports(&mut stage, 20 * SECOND);
    let now = stage.now;
    stage.control.set_kernel_addresses(0, vec!["2001:db8::abcd/64".parse().unwrap()], now);
    let group = "ff02::1:ff00:abcd".to_owned();
    let found = reports(&mut stage, 5 * SECOND);
    assert_eq!(records(&found[0].1), [(4, group.clone())]);
    let now = stage.now;
    stage.control.set_kernel_addresses(0, Vec::new(), now);
    let found = reports(&mut stage, 5 * SECOND);
    assert_eq!(records(&found[0].1), [(3, group)]);
}
