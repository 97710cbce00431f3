//! Whether prefixes have path identifiers (RFC 7911), by what stands in the file.
//!
//! A record's type says so (RFC 8050), but some collectors write what peers sent them into records of the type without. Read as plain
//! prefixes, identifiers below 2^24 are default routes. So each list of prefixes is measured both ways:
//!
//! * *strict*: each prefix ends within the list, has no bits past its length, and the default route occurs once at most;
//! * *loose*: each prefix ends within the list, and that is all.
//!
//! A list that fits one way only is read that way and is evidence for its [`Stream`], for which additional paths are negotiated. A list that fits both ways is read by the balance of the evidence so far. Without any, the record's type
//! decides, except that a list of several plain prefixes with the default route among them is taken for one with identifiers.

use std::collections::HashMap;
use std::net::IpAddr;

use super::cursor::{Afi, Cursor};

/// How well a list of prefixes can be read in one way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fit {
    No,
    Loose,
    Strict,
}

/// A list measured in one way.
struct Measured {
    fit: Fit,
    prefixes: usize,
    defaults: usize,
}

fn measure(lists: &[Cursor<'_>], afi: Afi, with_ids: bool) -> Measured {
    let mut m = Measured { fit: Fit::Strict, prefixes: 0, defaults: 0 };
    for list in lists {
        let mut rest = list.rest();
        let mut defaults = 0;
        while !rest.is_empty() {
            let after_id = if with_ids { rest.get(4..) } else { Some(rest) };
            let Some((&bits, tail)) = after_id.and_then(<[u8]>::split_first) else {
                return Measured { fit: Fit::No, ..m };
            };
            let len = usize::from(bits).div_ceil(8);
            let (Some((bytes, tail)), true) = (tail.split_at_checked(len), bits <= afi.bits()) else {
                return Measured { fit: Fit::No, ..m };
            };
            if bits % 8 != 0 && bytes.last().is_some_and(|last| last << (bits % 8) != 0) {
                m.fit = Fit::Loose;
            }
            m.prefixes += 1;
            defaults += usize::from(bits == 0);
            rest = tail;
        }
        // With identifiers the default route may well have several paths.
        if defaults > 1 && !with_ids {
            m.fit = Fit::Loose;
        }
        m.defaults += defaults;
    }
    m
}

/// One direction of a session, and a family: what additional paths are negotiated for (RFC 7911 §4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Stream {
    pub peer: IpAddr,
    /// From the collector to the peer.
    pub local: bool,
    pub afi: Afi,
}

/// What the lists of a file have shown so far.
#[derive(Default)]
pub(super) struct Evidence {
    /// Lists with identifiers minus lists without.
    balance: HashMap<Stream, i64>,
}

impl Evidence {
    /// Whether these lists of one message have path identifiers; `declared` is what the record's type says.
    pub(super) fn with_ids(&mut self, stream: Stream, lists: &[Cursor<'_>], declared: bool) -> bool {
        if lists.iter().all(Cursor::is_empty) {
            return declared;
        }
        let balance = self.balance.entry(stream).or_default();
        let plain = measure(lists, stream.afi, false);
        // The usual case, not measured twice: a list as its type says, of a peer of which nothing else was seen.
        if !declared && plain.fit == Fit::Strict && *balance < 0 {
            return false;
        }
        let paths = measure(lists, stream.afi, true);
        match (plain.fit, paths.fit) {
            (Fit::No, Fit::No) => declared,
            (Fit::No, _) => {
                *balance += i64::from(paths.fit == Fit::Strict);
                true
            }
            (_, Fit::No) => {
                *balance -= i64::from(plain.fit == Fit::Strict);
                false
            }
            _ if *balance != 0 => *balance > 0,
            (a, b) if a != b => b > a,
            _ => declared || (plain.defaults > 0 && plain.prefixes > plain.defaults),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: Stream =
        Stream { peer: IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1)), local: false, afi: Afi::V4 };

    fn decide(evidence: &mut Evidence, list: &[u8], declared: bool) -> bool {
        evidence.with_ids(STREAM, &[Cursor::new(list, 0)], declared)
    }

    const PLAIN: &[u8] = &[24, 192, 0, 2];
    const PATHS: &[u8] = &[0, 0, 0, 1, 24, 192, 0, 2, 0, 0, 0, 2, 24, 192, 0, 2];
    /// Two prefixes, or one with the identifier 24.192.0.2.
    const BOTH: &[u8] = &[24, 192, 0, 2, 24, 10, 0, 0];

    #[test]
    fn a_list_that_fits_one_way_is_read_that_way_whatever_its_type_says() {
        for declared in [false, true] {
            assert!(!decide(&mut Evidence::default(), PLAIN, declared));
            assert!(decide(&mut Evidence::default(), PATHS, declared));
        }
    }

    #[test]
    fn a_list_that_fits_both_ways_is_read_as_the_other_records_of_its_peer() {
        for (proof, with_ids) in [(PLAIN, false), (PATHS, true)] {
            for declared in [false, true] {
                let mut evidence = Evidence::default();
                decide(&mut evidence, proof, declared);
                assert_eq!(decide(&mut evidence, BOTH, declared), with_ids);
            }
        }
    }

    #[test]
    fn a_list_that_fits_both_ways_without_evidence_is_read_as_its_type_says() {
        assert!(!decide(&mut Evidence::default(), BOTH, false));
        assert!(decide(&mut Evidence::default(), BOTH, true));
    }

    #[test]
    fn a_default_route_among_others_is_taken_for_an_identifier() {
        // 0.0.0.0/0, 1.0.0.0/8, 16.0.0.0/8, 9.0.0.0/8; or path 0.8.1.8 of 8.9.0.0/16.
        let list = [0, 8, 1, 8, 16, 8, 9];
        assert!(decide(&mut Evidence::default(), &list, false));
        // The default route alone is one.
        assert!(!decide(&mut Evidence::default(), &[0], false));
    }

    #[test]
    fn evidence_of_one_peer_direction_or_family_does_not_count_for_another() {
        let mut evidence = Evidence::default();
        decide(&mut evidence, PATHS, false);
        let peer = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));
        for other in
            [Stream { peer, ..STREAM }, Stream { local: true, ..STREAM }, Stream { afi: Afi::V6, ..STREAM }]
        {
            assert!(!evidence.with_ids(other, &[Cursor::new(BOTH, 0)], false), "{other:?}");
        }
        assert!(decide(&mut evidence, BOTH, false));
    }
}
