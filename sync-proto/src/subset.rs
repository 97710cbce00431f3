//! Subsets of a table that clients can request: by VRF, address family and prefix.
//!
//! A subset selects routes. Their groups are included, and so are all origins and opaque records. A server keeps one view for each subset
//! in use, see [`crate::server`].

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use crate::record::Key;
use crate::wire::{ProtocolError, Reader, put_varint};

/// Most VRFs that a subset names.
pub const MAX_VRFS: usize = 256;
/// Most ranges of prefixes that a subset names.
pub const MAX_RANGES: usize = 256;

/// An address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// The family of a prefix.
    pub fn of(prefix: &IpNet) -> Self {
        if prefix.addr().is_ipv4() { Self::V4 } else { Self::V6 }
    }
}

/// Prefixes inside a prefix, limited by length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PrefixRange {
    prefix: IpNet,
    min: u8,
    max: u8,
}

impl PrefixRange {
    /// Prefixes inside `prefix` with lengths `min` to `max`. None if there are no such prefixes.
    pub fn new(prefix: IpNet, min: u8, max: u8) -> Option<Self> {
        let (prefix, max) = (prefix.trunc(), max.min(prefix.max_prefix_len()));
        let min = min.max(prefix.prefix_len());
        (min <= max).then_some(Self { prefix, min, max })
    }

    /// All prefixes inside `prefix`, including itself.
    pub fn within(prefix: IpNet) -> Self {
        let prefix = prefix.trunc();
        Self { prefix, min: prefix.prefix_len(), max: prefix.max_prefix_len() }
    }

    fn admits(&self, prefix: &IpNet) -> bool {
        (self.min..=self.max).contains(&prefix.prefix_len()) && self.prefix.contains(prefix)
    }

    fn covers(&self, other: &Self) -> bool {
        self.prefix.contains(&other.prefix) && self.min <= other.min && self.max >= other.max
    }
}

impl std::fmt::Display for PrefixRange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}-{}", self.prefix, self.min, self.max)
    }
}

/// Subset of a table. The default is the whole table.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Subset {
    vrfs: Vec<u32>,
    family: Option<Family>,
    ranges: Vec<PrefixRange>,
}

impl Subset {
    /// Routes of these VRFs (empty: all), this family (none: both) and these ranges (empty: all). Order and repetition do not matter: equal
    /// subsets compare equal. At most [`MAX_VRFS`] and [`MAX_RANGES`] can be requested.
    pub fn new(mut vrfs: Vec<u32>, family: Option<Family>, mut ranges: Vec<PrefixRange>) -> Self {
        vrfs.sort_unstable();
        vrfs.dedup();
        ranges.sort_unstable();
        ranges.dedup();
        Self { vrfs, family, ranges }
    }

    /// Whether it is the whole table.
    pub fn is_all(&self) -> bool {
        *self == Self::default()
    }

    /// Whether a record belongs to it. Groups belong to it only through their routes.
    pub fn admits(&self, key: &Key) -> bool {
        match key {
            Key::Route { vrf, prefix } | Key::RibRoute { vrf, prefix, .. } => {
                (self.vrfs.is_empty() || self.vrfs.binary_search(vrf).is_ok())
                    && self.family.is_none_or(|family| family == Family::of(prefix))
                    && (self.ranges.is_empty() || self.ranges.iter().any(|range| range.admits(prefix)))
            }
            Key::Origin(_) | Key::Opaque(_) => true,
            Key::Group(_) => false,
        }
    }

    /// Whether `other` is contained in this one for certain. Coverage by several of our ranges together is not detected.
    pub fn covers(&self, other: &Self) -> bool {
        let vrfs = self.vrfs.is_empty()
            || (!other.vrfs.is_empty() && other.vrfs.iter().all(|vrf| self.vrfs.binary_search(vrf).is_ok()));
        let families = || {
            other.family == self.family
                || (!other.ranges.is_empty()
                    && other.ranges.iter().all(|range| Some(Family::of(&range.prefix)) == self.family))
        };
        let ranges = || {
            !other.ranges.is_empty()
                && other.ranges.iter().all(|range| self.ranges.iter().any(|ours| ours.covers(range)))
        };
        vrfs && (self.family.is_none() || families()) && (self.ranges.is_empty() || ranges())
    }
}

impl std::fmt::Display for Subset {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.is_all() {
            return f.write_str("everything");
        }
        let mut parts = Vec::new();
        if !self.vrfs.is_empty() {
            parts.push(format!("vrf {}", self.vrfs.iter().map(u32::to_string).collect::<Vec<_>>().join(",")));
        }
        match self.family {
            Some(Family::V4) => parts.push("ipv4".to_owned()),
            Some(Family::V6) => parts.push("ipv6".to_owned()),
            None => {}
        }
        parts.extend(self.ranges.iter().map(PrefixRange::to_string));
        f.write_str(&parts.join("; "))
    }
}

pub(crate) fn put_subset(out: &mut Vec<u8>, subset: &Subset) {
    put_varint(out, subset.vrfs.len().min(MAX_VRFS) as u64);
    subset.vrfs.iter().take(MAX_VRFS).for_each(|vrf| put_varint(out, u64::from(*vrf)));
    out.push(match subset.family {
        None => 0,
        Some(Family::V4) => 4,
        Some(Family::V6) => 6,
    });
    put_varint(out, subset.ranges.len().min(MAX_RANGES) as u64);
    for range in subset.ranges.iter().take(MAX_RANGES) {
        put_prefix(out, &range.prefix, &[range.min, range.max]);
    }
}

/// Family, length, the bytes `between`, and as much of the address as the length says.
pub(crate) fn put_prefix(out: &mut Vec<u8>, prefix: &IpNet, between: &[u8]) {
    let len = prefix.prefix_len();
    let bytes = usize::from(len.div_ceil(8));
    out.extend_from_slice(&[if prefix.addr().is_ipv4() { 4 } else { 6 }, len]);
    out.extend_from_slice(between);
    match prefix.network() {
        IpAddr::V4(a) => out.extend(a.octets().iter().take(bytes)),
        IpAddr::V6(a) => out.extend(a.octets().iter().take(bytes)),
    }
}

pub(crate) fn subset(r: &mut Reader<'_>) -> Result<Subset, ProtocolError> {
    let n = r.limited("VRFs of the subset", MAX_VRFS as u64)?;
    let vrf = |r: &mut Reader<'_>| r.limited("VRF of the subset", u64::from(u32::MAX)).map(|vrf| vrf as u32);
    let vrfs = (0..n).map(|_| vrf(r)).collect::<Result<_, _>>()?;
    let family = match r.u8("family of the subset")? {
        0 => None,
        4 => Some(Family::V4),
        6 => Some(Family::V6),
        other => {
            return Err(r.invalid("family of the subset", format!("expected 0, 4 or 6, found {other}")));
        }
    };
    let n = r.limited("ranges of the subset", MAX_RANGES as u64)?;
    let ranges = (0..n).map(|_| range(r)).collect::<Result<_, _>>()?;
    Ok(Subset::new(vrfs, family, ranges))
}

fn range(r: &mut Reader<'_>) -> Result<PrefixRange, ProtocolError> {
    const FIELD: &str = "range of the subset";
    let (prefix, [min, max]) = prefix(r, FIELD)?;
    PrefixRange::new(prefix, min, max).ok_or_else(|| {
        let (len, width) = (prefix.prefix_len(), prefix.max_prefix_len());
        r.invalid(FIELD, format!("expected lengths from {len} to {width}, found {min} to {max}"))
    })
}

/// A prefix as [`put_prefix`] writes it, and the bytes between. Bits behind its length are cleared.
pub(crate) fn prefix<const N: usize>(
    r: &mut Reader<'_>,
    field: &'static str,
) -> Result<(IpNet, [u8; N]), ProtocolError> {
    let [family, len] = r.array(field)?;
    let between = r.array(field)?;
    let width = match family {
        4 => 32,
        6 => 128,
        other => return Err(r.invalid(field, format!("expected family 4 or 6, found {other}"))),
    };
    if len > width {
        return Err(r.invalid(field, format!("expected a length of at most {width}, found {len}")));
    }
    let taken = r.bytes(usize::from(len.div_ceil(8)), field)?;
    let mut octets = [0u8; 16];
    octets.iter_mut().zip(taken).for_each(|(to, from)| *to = *from);
    let [a, b, c, d, ..] = octets;
    let address =
        if family == 4 { Ipv4Addr::new(a, b, c, d).into() } else { IpAddr::from(Ipv6Addr::from(octets)) };
    let prefix = IpNet::new(address, len).map_err(|error| r.invalid(field, error.to_string()))?;
    Ok((prefix.trunc(), between))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(prefix: &str, min: u8, max: u8) -> PrefixRange {
        PrefixRange::new(prefix.parse().unwrap(), min, max).unwrap()
    }

    fn route(vrf: u32, prefix: &str) -> Key {
        Key::Route { vrf, prefix: prefix.parse().unwrap() }
    }

    #[test]
    fn all_three_criteria_must_be_met() {
        let s = Subset::new(vec![7, 0], Some(Family::V4), vec![range("10.0.0.0/8", 16, 24)]);
        assert!(s.admits(&route(7, "10.1.0.0/16")));
        assert!(!s.admits(&route(1, "10.1.0.0/16")));
        assert!(!s.admits(&route(0, "10.0.0.0/8")));
        assert!(!s.admits(&route(0, "10.1.1.0/25")));
        assert!(!s.admits(&route(0, "11.1.0.0/16")));
        assert!(!s.admits(&route(0, "2001:db8::/32")));
        assert!(s.admits(&Key::Opaque(Box::from([1u8]))));
    }

    #[test]
    fn a_part_covers_what_is_within_it() {
        let v4 = Subset::new(vec![], Some(Family::V4), vec![]);
        let ten = Subset::new(vec![], None, vec![range("10.0.0.0/8", 8, 24)]);
        let ten_one = Subset::new(vec![0], None, vec![range("10.1.0.0/16", 16, 20)]);
        let all = Subset::default();
        for (a, b, want) in [
            (&all, &v4, true),
            (&v4, &all, false),
            (&v4, &ten, true),
            (&ten, &v4, false),
            (&ten, &ten_one, true),
            (&ten_one, &ten, false),
            (&ten, &ten, true),
        ] {
            assert_eq!(a.covers(b), want, "{a} / {b}");
        }
    }

    #[test]
    fn what_is_written_is_read_and_nothing_impossible_is() {
        let some = Subset::new(
            vec![3, 1, 3],
            Some(Family::V6),
            vec![range("2001:db8::/29", 30, 48), range("::/0", 0, 0), range("10.0.0.0/7", 8, 32)],
        );
        for s in [Subset::default(), some] {
            let mut bytes = Vec::new();
            put_subset(&mut bytes, &s);
            assert_eq!(subset(&mut Reader::new("Register", &bytes)), Ok(s));
        }
        for bytes in [&[0u8, 5, 0][..], &[0, 0, 1, 4, 33, 0, 0], &[0, 0, 1, 4, 8, 9, 8, 10], &[1]] {
            assert!(subset(&mut Reader::new("Register", bytes)).is_err(), "{bytes:?}");
        }
    }
}
