//! What the reader makes of good files, cut-off files and rubbish.

mod compression;
mod records;

use std::io::Cursor;
use std::net::IpAddr;

use ipnet::IpNet;
use proptest::prelude::*;

use super::{Event, MrtError, Problem, Reader, Route, Writer};

fn ip(s: &str) -> IpAddr {
    s.parse().unwrap()
}

fn net(s: &str) -> IpNet {
    s.parse().unwrap()
}

fn read(bytes: &[u8]) -> Result<Vec<Route>, MrtError> {
    Reader::from_read("test.mrt", Cursor::new(bytes.to_vec()))?.collect()
}

fn table() -> Vec<u8> {
    let mut w = Writer::new(Vec::new());
    w.peer_index(7, "view", ip("192.0.2.1")).unwrap();
    w.rib(7, net("0.0.0.0/0"), ip("198.18.0.1")).unwrap();
    w.rib(7, net("198.51.100.0/25"), ip("198.18.0.2")).unwrap();
    w.rib(7, net("2001:db8::/29"), ip("2001:2::1")).unwrap();
    w.into_inner()
}

fn updates() -> Vec<u8> {
    let mut w = Writer::new(Vec::new());
    let peer = ip("192.0.2.1");
    w.announce(1_000_001, peer, ip("198.18.0.1"), &[net("10.0.0.0/8"), net("10.1.2.3/32")]).unwrap();
    w.announce(1_000_002, peer, ip("2001:2::1"), &[net("2001:db8::/32"), net("::/0")]).unwrap();
    w.announce(1_000_003, peer, ip("2001:2::1"), &[net("192.0.2.0/24")]).unwrap();
    w.withdraw(1_000_004, peer, &[net("10.0.0.0/8")]).unwrap();
    w.withdraw(1_000_005, peer, &[net("2001:db8::/32")]).unwrap();
    w.into_inner()
}

fn announced(routes: &[Route]) -> Vec<(String, String)> {
    let next_hop = |e: Event| match e {
        Event::Announce { next_hop, .. } => next_hop.to_string(),
        Event::Withdraw => "-".to_owned(),
    };
    routes.iter().map(|r| (r.prefix.to_string(), next_hop(r.event))).collect()
}

fn strings(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
}

#[test]
fn a_table_dump_gives_each_prefix_with_its_next_hop_and_peer() {
    let routes = read(&table()).unwrap();
    let expected =
        [("0.0.0.0/0", "198.18.0.1"), ("198.51.100.0/25", "198.18.0.2"), ("2001:db8::/29", "2001:2::1")];
    assert_eq!(announced(&routes), strings(&expected));
    assert!(routes.iter().all(|r| r.peer == ip("192.0.2.1") && r.time_us == 7_000_000));
}

#[test]
fn updates_give_announcements_and_withdrawals_with_microseconds() {
    let routes = read(&updates()).unwrap();
    let expected = [
        ("10.0.0.0/8", "198.18.0.1"),
        ("10.1.2.3/32", "198.18.0.1"),
        ("2001:db8::/32", "2001:2::1"),
        ("::/0", "2001:2::1"),
        ("192.0.2.0/24", "2001:2::1"),
        ("10.0.0.0/8", "-"),
        ("2001:db8::/32", "-"),
    ];
    assert_eq!(announced(&routes), strings(&expected));
    let times: Vec<u64> = routes.iter().map(|r| r.time_us - 1_000_000).collect();
    assert_eq!(times, [1, 1, 2, 2, 3, 4, 5]);
}

#[test]
fn more_prefixes_than_one_update_holds_are_split_and_none_is_lost() {
    let prefixes: Vec<IpNet> =
        (0..5000u32).map(|i| net(&format!("10.{}.{}.0/24", i >> 8, i & 255))).collect();
    let mut w = Writer::new(Vec::new());
    w.announce(5, ip("192.0.2.1"), ip("198.18.0.1"), &prefixes).unwrap();
    let routes = read(&w.into_inner()).unwrap();
    assert_eq!(routes.iter().map(|r| r.prefix).collect::<Vec<_>>(), prefixes);
}

#[test]
fn every_cut_of_a_file_is_an_error_except_between_records() {
    let (bytes, mut whole) = (table(), 0);
    for cut in 0..bytes.len() {
        match read(&bytes[..cut]) {
            Ok(_) => whole += 1,
            Err(e) if cut == 0 => assert!(matches!(e.problem, Problem::Empty)),
            Err(e) => {
                assert!(matches!(e.problem, Problem::Truncated { .. }), "{e}");
                assert!(e.offset <= cut as u64);
            }
        }
    }
    // After the peer index and after the first two of three routes.
    assert_eq!(whole, 3);
}

#[test]
fn a_truncated_file_names_file_byte_and_what_was_expected() {
    let bytes = table();
    let error = read(&bytes[..bytes.len() - 3]).unwrap_err().to_string();
    assert!(error.starts_with("test.mrt: record "), "{error}");
    assert!(error.contains("the file is truncated: expected "), "{error}");
}

#[test]
fn unknown_record_type_is_refused_by_number() {
    let mut bytes = table();
    let at = bytes.len() as u64;
    bytes.extend([0, 0, 0, 1, 0, 99, 0, 3, 0, 0, 0, 0]);
    let error = read(&bytes).unwrap_err();
    assert_eq!(error.offset, at);
    assert!(error.to_string().contains("found type 99 subtype 3"), "{error}");
}

#[test]
fn state_changes_and_keepalives_are_passed_over() {
    let mut bytes = vec![0, 0, 0, 1, 0, 16, 0, 4, 0, 0, 0, 20];
    bytes.extend([0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 1, 192, 0, 2, 1, 192, 0, 2, 2]);
    let mut keepalive = [0xff; 39];
    keepalive[..20].copy_from_slice(&[0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 1, 192, 0, 2, 1, 192, 0, 2, 2]);
    keepalive[36..].copy_from_slice(&[0, 19, 4]);
    bytes.extend([0, 0, 0, 1, 0, 16, 0, 4, 0, 0, 0, 39]);
    bytes.extend(keepalive);
    bytes.extend(updates());
    assert_eq!(read(&bytes).unwrap().len(), 7);
}

#[test]
fn lengths_that_lead_out_of_their_record_are_refused() {
    let mut over = table();
    // The first RIB entry's prefix length: after the peer index (12 + 4 + 2 + 4 + 2 + 13), a header and a sequence number.
    let at = 37 + 12 + 4;
    over[at] = 33;
    let error = read(&over).unwrap_err();
    assert_eq!(error.offset, at as u64);
    assert!(error.to_string().contains("an IPv4 prefix length of at most 32, found 33"), "{error}");

    let mut long = table();
    long[37 + 8] = 0x7f;
    assert!(read(&long).unwrap_err().to_string().contains("record length of at most"));
}

#[test]
fn an_entry_of_a_peer_outside_of_the_index_is_refused() {
    let mut w = Writer::new(Vec::new());
    w.rib(7, net("0.0.0.0/0"), ip("198.18.0.1")).unwrap();
    let error = read(&w.into_inner()).unwrap_err().to_string();
    assert!(error.contains("0 of 0 peers"), "{error}");
}

proptest! {
    #[test]
    fn any_bytes_end_in_routes_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = read(&bytes);
    }

    #[test]
    fn damaged_files_end_in_routes_or_an_error(
        hits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        of_updates in any::<bool>(),
    ) {
        let mut bytes = if of_updates { updates() } else { table() };
        for (at, value) in hits {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        match read(&bytes) {
            Ok(routes) => prop_assert!(routes.len() < 300),
            Err(e) => prop_assert!(e.offset <= bytes.len() as u64),
        }
    }

    #[test]
    fn what_is_written_is_read_back(
        routes in proptest::collection::vec((any::<u128>(), 0u8..=128, any::<bool>(), any::<u32>()), 1..50),
    ) {
        let mut w = Writer::new(Vec::new());
        w.peer_index(9, "", ip("::1")).unwrap();
        let mut expected = Vec::new();
        for (bits, len, v6, hop) in routes {
            let (prefix, next_hop): (IpNet, IpAddr) = if v6 {
                let p = ipnet::Ipv6Net::new(bits.into(), len).unwrap().trunc();
                (p.into(), std::net::Ipv6Addr::from(u128::from(hop)).into())
            } else {
                let p = ipnet::Ipv4Net::new((bits as u32).into(), len % 33).unwrap().trunc();
                (p.into(), std::net::Ipv4Addr::from(hop).into())
            };
            w.rib(9, prefix, next_hop).unwrap();
            w.announce(9_000_000, ip("::1"), next_hop, &[prefix]).unwrap();
            let event = Event::Announce { next_hop, metric: 0, as_path_len: 0 };
            let route = Route { time_us: 9_000_000, peer: ip("::1"), path_id: None, prefix, event };
            expected.extend([route, route]);
        }
        prop_assert_eq!(read(&w.into_inner()).unwrap(), expected);
    }
}
