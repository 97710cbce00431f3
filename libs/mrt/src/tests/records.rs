//! Each kind of record, written by hand from the RFCs.

use super::*;
use crate::{BadRecords, Counts, Entry};

const PEER: [u8; 4] = [192, 0, 2, 1];

fn record(kind: u16, subtype: u16, body: &[u8]) -> Vec<u8> {
    let mut out = vec![0, 0, 0, 9];
    out.extend(kind.to_be_bytes());
    out.extend(subtype.to_be_bytes());
    out.extend((body.len() as u32).to_be_bytes());
    out.extend(body);
    out
}

fn parts(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

/// ORIGIN, an AS_PATH of two AS numbers with 2 or 4 bytes, NEXT_HOP 198.18.0.1.
fn attributes(as_bytes: u8) -> Vec<u8> {
    let path = vec![0xfc; usize::from(as_bytes) * 2];
    parts(&[&[0x40, 1, 1, 0, 0x40, 2, 2 + as_bytes * 2, 2, 2], &path, &[0x40, 3, 4, 198, 18, 0, 1]])
}

fn with_length(bytes: &[u8]) -> Vec<u8> {
    parts(&[&(bytes.len() as u16).to_be_bytes(), bytes])
}

/// BGP4MP of an UPDATE: withdrawn routes, attributes, NLRI.
fn update(subtype: u16, withdrawn: &[u8], attributes: &[u8], nlri: &[u8]) -> Vec<u8> {
    let body = parts(&[&with_length(withdrawn), &with_length(attributes), nlri]);
    let as_numbers: &[u8] =
        if matches!(subtype, 1 | 6 | 8 | 10) { &[0, 1, 0, 2] } else { &[0, 0, 0, 1, 0, 0, 0, 2] };
    let length = (19 + body.len() as u16).to_be_bytes();
    let addresses = parts(&[&[0, 0, 0, 1], &PEER, &[192, 0, 2, 9]]);
    record(16, subtype, &parts(&[as_numbers, &addresses, &[0xff; 16], &length, &[2], &body]))
}

/// PEER_INDEX_TABLE with 192.0.2.1 and 2001:db8::1.
fn index() -> Vec<u8> {
    let v6 = [0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    record(
        13,
        1,
        &parts(&[&[0; 4], &[0, 0, 0, 2, 2, 0, 0, 0, 0], &PEER, &[0, 0, 0, 1, 1, 0, 0, 0, 0], &v6, &[0, 2]]),
    )
}

fn rib_entry(peer: u8, id: Option<u32>, attributes: &[u8]) -> Vec<u8> {
    let id = id.map_or(Vec::new(), |id| id.to_be_bytes().to_vec());
    parts(&[&[0, peer, 0, 0, 0, 0], &id, &with_length(attributes)])
}

fn counts(bytes: &[u8]) -> (Vec<Route>, Counts) {
    let mut reader = Reader::from_read("test.mrt", Cursor::new(bytes.to_vec())).unwrap();
    let routes = reader.by_ref().collect::<Result<_, _>>().unwrap();
    (routes, reader.counts())
}

/// Prefix, path identifier, next hop and length of the AS path.
fn seen(routes: &[Route]) -> Vec<(String, Option<u32>, String, u32)> {
    let seen = |route: &Route| match route.event {
        Event::Announce { next_hop, as_path_len, .. } => {
            (route.prefix.to_string(), route.path_id, next_hop.to_string(), as_path_len)
        }
        Event::Withdraw => (route.prefix.to_string(), route.path_id, "-".to_owned(), 0),
    };
    routes.iter().map(seen).collect()
}

fn one(prefix: &str, id: Option<u32>, next_hop: &str, len: u32) -> (String, Option<u32>, String, u32) {
    (prefix.to_owned(), id, next_hop.to_owned(), len)
}

#[test]
fn table_dump_of_both_families_gives_its_routes() {
    let attrs = with_length(&attributes(2));
    let v4 = parts(&[&[0, 0, 0, 1, 10, 0, 0, 0, 8, 1, 0, 0, 0, 7], &PEER, &[0, 1], &attrs]);
    let reach = [0x40, 1, 1, 0, 0x80, 14, 17, 16, 0x20, 1, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9];
    let address = |last: u8| [0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last];
    let v6 = parts(&[
        &[0, 0, 0, 2],
        &address(0),
        &[32, 1, 0, 0, 0, 7],
        &address(1),
        &[0, 1],
        &with_length(&reach),
    ]);
    let routes = read(&[record(12, 1, &v4), record(12, 2, &v6)].concat()).unwrap();
    assert_eq!(
        seen(&routes),
        [one("10.0.0.0/8", None, "198.18.0.1", 2), one("2001:db8::/32", None, "2001:2::9", 0)]
    );
    assert_eq!((routes[0].peer, routes[1].peer), (ip("192.0.2.1"), ip("2001:db8::1")));
    // AS numbers of 4 bytes, as bgpdump and OpenBGPD have them.
    let attrs = with_length(&attributes(4));
    let as4 = parts(&[&[0, 0, 0, 1, 10, 0, 0, 0, 8, 1, 0, 0, 0, 7], &PEER, &[0, 0, 0, 1], &attrs]);
    assert_eq!(seen(&read(&record(12, 3, &as4)).unwrap()), [one("10.0.0.0/8", None, "198.18.0.1", 2)]);
}

#[test]
fn generic_tables_give_unicast_routes_and_pass_over_others() {
    let entry = rib_entry(0, None, &attributes(4));
    let generic = |afi: u8, safi: u8| parts(&[&[0, 0, 0, 0, 0, afi, safi, 8, 10, 0, 1], &entry]);
    let file = [
        index(),
        record(13, 6, &generic(1, 1)),
        record(13, 6, &generic(1, 2)),
        record(13, 6, &generic(25, 70)),
    ];
    let (routes, counts) = counts(&file.concat());
    assert_eq!(seen(&routes), [one("10.0.0.0/8", None, "198.18.0.1", 2)]);
    assert_eq!(counts.without_routes, 3, "the index, multicast, EVPN");
    let entry = rib_entry(0, Some(7), &attributes(4));
    let body = parts(&[&[0, 0, 0, 0, 0, 1, 1, 8, 10, 0, 1], &entry]);
    let routes = read(&[index(), record(13, 12, &body)].concat()).unwrap();
    assert_eq!(seen(&routes), [one("10.0.0.0/8", Some(7), "198.18.0.1", 2)]);
}

fn rib(subtype: u16, ids: [Option<u32>; 2]) -> Vec<u8> {
    let entries = ids.map(|id| rib_entry(0, id, &attributes(4))).concat();
    record(13, subtype, &parts(&[&[0, 0, 0, 0, 8, 10, 0, 2], &entries]))
}

#[test]
fn entries_have_path_identifiers_or_not_whatever_their_records_type_says() {
    let plain = [one("10.0.0.0/8", None, "198.18.0.1", 2), one("10.0.0.0/8", None, "198.18.0.1", 2)];
    for ids in [[1, 2], [0, 0], [0x1234_5678, 0xffff_ffff], [65_536, 1 << 24]] {
        let ids = ids.map(Some);
        let paths = ids.map(|id| one("10.0.0.0/8", id, "198.18.0.1", 2));
        for (subtype, ids, expected, wrong) in [
            (2, [None, None], &plain, 0),
            (8, ids, &paths, 0),
            (2, ids, &paths, 1),
            (8, [None, None], &plain, 1),
        ] {
            let (routes, counts) = counts(&[index(), rib(subtype, ids)].concat());
            assert_eq!(
                (&seen(&routes)[..], counts.misdeclared_paths),
                (&expected[..], wrong),
                "subtype {subtype}"
            );
        }
    }
}

#[test]
fn all_subtypes_of_bgp4mp_give_their_routes() {
    let (plain, paths): (&[u8], &[u8]) = (&[8, 10], &[0, 0, 0, 5, 8, 10]);
    for (subtype, as_bytes, id) in [(1, 2, None), (4, 4, None), (8, 2, Some(5)), (9, 4, Some(5))] {
        let nlri = if id.is_some() { paths } else { plain };
        let routes = read(&update(subtype, &[], &attributes(as_bytes), nlri)).unwrap();
        assert_eq!(seen(&routes), [one("10.0.0.0/8", id, "198.18.0.1", 2)], "subtype {subtype}");
        let routes = read(&update(subtype, nlri, &[], &[])).unwrap();
        assert_eq!(seen(&routes), [one("10.0.0.0/8", id, "-", 0)], "subtype {subtype}");
    }
    // What the collector sent is none of the peer's routes.
    for (subtype, as_bytes, nlri) in [(6, 2, plain), (7, 4, plain), (10, 2, paths), (11, 4, paths)] {
        let (routes, counts) = counts(&update(subtype, &[], &attributes(as_bytes), nlri));
        assert_eq!((routes.len(), counts.without_routes), (0, 1), "subtype {subtype}");
    }
}

#[test]
fn an_as_path_of_the_other_size_is_measured_by_its_framing() {
    for (subtype, as_bytes) in [(1, 4), (4, 2)] {
        let routes = read(&update(subtype, &[], &attributes(as_bytes), &[8, 10])).unwrap();
        assert_eq!(seen(&routes), [one("10.0.0.0/8", None, "198.18.0.1", 2)]);
    }
    // An AS_SET counts one, confederation segments nothing (RFC 5065 §5.3).
    let path = [0x40, 2, 14, 2, 2, 0, 1, 0, 2, 1, 2, 0, 3, 0, 4, 3, 0, 0x40, 3, 4, 198, 18, 0, 1];
    assert_eq!(seen(&read(&update(1, &[], &path, &[8, 10])).unwrap())[0].3, 3);
}

#[test]
fn path_identifiers_in_plain_messages_are_no_default_routes() {
    let nlri = [0, 0, 0, 1, 24, 203, 0, 113, 0, 0, 0, 2, 24, 203, 0, 113];
    for subtype in [1, 4] {
        let attrs = attributes(if subtype == 1 { 2 } else { 4 });
        let (routes, counts) = counts(&update(subtype, &[], &attrs, &nlri));
        let paths = [1, 2].map(|id| one("203.0.113.0/24", Some(id), "198.18.0.1", 2));
        assert_eq!((&seen(&routes)[..], counts.misdeclared_paths), (&paths[..], 1));
        let (routes, _) = self::counts(&update(subtype, &nlri, &[], &[]));
        assert_eq!(
            routes.iter().map(|r| (r.path_id, r.event)).collect::<Vec<_>>(),
            [1, 2].map(|id| (Some(id), Event::Withdraw))
        );
    }
    // IPv6, in MP_REACH_NLRI.
    let mut reach = vec![0, 2, 1, 16];
    reach.extend(std::net::Ipv6Addr::LOCALHOST.octets());
    reach.extend([0, 0, 0, 0, 9, 32, 0x20, 1, 0x0d, 0xb8, 0, 0, 0, 8, 0]);
    let attrs = parts(&[&[0x80, 14, reach.len() as u8], &reach]);
    let routes = read(&update(4, &[], &attrs, &[])).unwrap();
    assert_eq!(seen(&routes), [one("2001:db8::/32", Some(9), "::1", 0), one("::/0", Some(8), "::1", 0)]);
}

#[test]
fn where_a_list_fits_both_ways_the_other_records_of_its_peer_decide() {
    let both = [24, 203, 0, 113, 24, 10, 0, 0];
    let proof_of_paths = [0, 0, 0, 1, 24, 203, 0, 113];
    let file = |proof: &[u8]| {
        [update(4, &[], &attributes(4), proof), update(4, &[], &attributes(4), &both)].concat()
    };
    assert_eq!(read(&file(&[24, 203, 0, 113])).unwrap().len(), 3);
    let routes = read(&file(&proof_of_paths)).unwrap();
    assert_eq!((routes.len(), routes[1].path_id), (2, Some(0x18cb_0071)));
}

#[test]
fn next_hops_of_the_other_family_and_link_local_ones_are_read() {
    let v6 = |last: u8| [0x20, 1, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last];
    let link_local = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5];
    let reach = |afi: u8, next_hop: &[u8], nlri: &[u8]| {
        let value = parts(&[&[0, afi, 1, next_hop.len() as u8], next_hop, &[0], nlri]);
        update(4, &[], &parts(&[&[0x80, 14, value.len() as u8], &value]), &[])
    };
    let prefix = [32, 0x20, 1, 0x0d, 0xb8];
    for (record, expected) in [
        (reach(1, &v6(9), &[8, 10]), one("10.0.0.0/8", None, "2001:2::9", 0)),
        (reach(2, &parts(&[&v6(9), &link_local]), &prefix), one("2001:db8::/32", None, "2001:2::9", 0)),
        (reach(2, &parts(&[&[0; 16], &link_local]), &prefix), one("2001:db8::/32", None, "fe80::5", 0)),
    ] {
        assert_eq!(seen(&read(&record).unwrap()), [expected]);
    }
    // In tables: the next hop alone, or the whole attribute (RFC 6396 §4.3.4); an IPv4 route with NEXT_HOP 0.0.0.0 (RFC 8950).
    let short = parts(&[&[0x80, 14, 17, 16], &v6(9)]);
    let whole = parts(&[&[0x80, 14, 26, 0, 2, 1, 16], &v6(9), &[0], &prefix]);
    let unspecified = parts(&[&[0x40, 3, 4, 0, 0, 0, 0], &short]);
    for (subtype, prefix, attrs) in
        [(4, &prefix[..], &short), (4, &prefix, &whole), (2, &[8, 10], &short), (2, &[8, 10], &unspecified)]
    {
        let body = parts(&[&[0; 4], prefix, &[0, 1], &rib_entry(1, None, attrs)]);
        let routes = read(&[index(), record(13, subtype, &body)].concat()).unwrap();
        assert_eq!((seen(&routes)[0].2.as_str(), routes[0].peer), ("2001:2::9", ip("2001:db8::1")));
    }
}

#[test]
fn entries_without_a_next_hop_are_counted_and_no_error() {
    let body = parts(&[
        &[0, 0, 0, 0, 8, 10, 0, 2],
        &rib_entry(0, None, &[0x40, 1, 1, 0]),
        &rib_entry(0, None, &attributes(4)),
    ]);
    let (routes, counts) = counts(&[index(), record(13, 2, &body)].concat());
    assert_eq!((routes.len(), counts.without_next_hop, counts.misdeclared_paths), (1, 1, 0));
}

#[test]
fn the_end_of_a_session_is_told_by_state_changes_and_notifications() {
    let addresses = parts(&[&[0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 1], &PEER, &[192, 0, 2, 9]]);
    let change = |old: u8, new: u8| record(16, 5, &parts(&[&addresses, &[0, old, 0, new]]));
    let notification = record(16, 4, &parts(&[&addresses, &[0xff; 16], &[0, 21, 3, 6, 2]]));
    let legacy = record(5, 3, &parts(&[&[0, 1], &PEER, &[0, 6, 0, 1]]));
    let file = [change(5, 6), change(6, 1), change(3, 4), notification, legacy].concat();
    let mut reader = Reader::from_read("test.mrt", Cursor::new(file)).unwrap();
    let end = Entry::SessionEnd { time_us: 9_000_000, peer: ip("192.0.2.1") };
    let entries: Vec<Entry> = std::iter::from_fn(|| reader.next_entry()).collect::<Result<_, _>>().unwrap();
    assert_eq!(entries, [end; 3]);
    assert_eq!(reader.counts().without_routes, 5);
}

#[test]
fn records_of_the_type_bgp_give_their_updates() {
    let body = parts(&[
        &[0, 1],
        &PEER,
        &[0, 2, 192, 0, 2, 9],
        &[0, 2, 8, 11],
        &with_length(&attributes(2)),
        &[8, 10],
    ]);
    let routes = read(&record(5, 1, &body)).unwrap();
    assert_eq!(seen(&routes), [one("11.0.0.0/8", None, "-", 0), one("10.0.0.0/8", None, "198.18.0.1", 2)]);
}

#[test]
fn bad_records_are_skipped_by_their_own_length_if_asked_and_counted() {
    let bad = update(4, &[], &attributes(4), &[33, 10, 0, 0, 0, 0]);
    let odd = record(99, 1, &[1, 2, 3]);
    let good = update(4, &[], &attributes(4), &[8, 10]);
    let file = [&good[..], &bad, &odd, &good].concat();
    let open = |bad_records| {
        Reader::from_read("test.mrt", Cursor::new(file.clone())).unwrap().bad_records(bad_records)
    };
    let error = open(BadRecords::Stop).collect::<Result<Vec<_>, _>>().unwrap_err();
    assert_eq!((error.record, error.offset), (2, (good.len() + bad.len() - 6) as u64), "{error}");
    let mut reader = open(BadRecords::Skip);
    assert_eq!(reader.by_ref().map(Result::unwrap).count(), 2);
    assert_eq!((reader.counts().records, reader.counts().bad), (4, 2));
    assert_eq!(reader.first_bad().unwrap().record, 2);
    // After a wrong length there is nothing to continue at.
    let cut = Reader::from_read("test.mrt", Cursor::new(file[..file.len() - 1].to_vec())).unwrap();
    let routes: Vec<_> = cut.bad_records(BadRecords::Skip).collect();
    assert!(matches!(routes.last(), Some(Err(e)) if matches!(e.problem, Problem::Truncated { .. })));
}
