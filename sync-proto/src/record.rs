//! The content of a table: records (key and value) and their canonical hash.
//!
//! The code that replicates records does not know what a route is: it sees a [`Key`], a [`Value`] and a 128-bit identity, [`crate::change::record_id`]. Two
//! copies of a table are equal if their sets of identities are. [`GroupValue`] is the only value that others refer to: routes name a group
//! by its [`Label`], never next hops.

use std::hash::Hasher;
use std::net::IpAddr;

use ipnet::IpNet;
use siphasher::sip::SipHasher13;
use siphasher::sip128::{self, Hasher128};

use crate::digest::DigestKey;

/// Key of the label hash.
const LABEL_KEY: (u64, u64) = (0x6669_6263_6173_7421, 0x6c61_6265_6c2d_2d31);
/// Key of the hash of an origin's name.
const ORIGIN_KEY: (u64, u64) = (0x6669_6263_6173_7421, 0x6f72_6967_696e_2d31);

/// Identity of a next-hop group on the wire: the keyed hash of its content when it was created.
///
/// Servers that learn the same routes from different protocol instances compute the same labels. The content may change later under a
/// label: one group record is sent, and no route.
///
/// The key is public, so whoever chooses next hops can find two contents with one label after some 2^32 attempts. Label and content are
/// two things therefore: who adds a group to a table asks [`crate::Transaction::label_for`], which compares contents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Label(pub u64);

impl Label {
    /// The label of a new group with this content. The order of next hops does not matter.
    pub fn of(group: &GroupValue) -> Self {
        let mut h = SipHasher13::new_with_keys(LABEL_KEY.0, LABEL_KEY.1);
        group.clone().canonical().feed(&mut h);
        Self(h.finish())
    }

    /// Another label for this canonical content, where a table has other contents under the ones before.
    pub(crate) fn another(group: &GroupValue, attempt: u64) -> Self {
        let mut h = SipHasher13::new_with_keys(LABEL_KEY.0, LABEL_KEY.1);
        group.feed(&mut h);
        h.write(&attempt.to_le_bytes());
        Self(h.finish())
    }
}

impl std::fmt::Display for Label {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Identity of a protocol instance: the stable hash of its origin's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OriginId(pub u64);

impl OriginId {
    /// The id of the origin with this name, the same on every server.
    pub fn of(name: &str) -> Self {
        let mut h = SipHasher13::new_with_keys(ORIGIN_KEY.0, ORIGIN_KEY.1);
        h.write(name.as_bytes());
        Self(h.finish())
    }

    /// The id of an origin of a route server: two servers may each run a protocol instance with the same name.
    pub fn instance(server: &str, name: &str) -> Self {
        // A name contains no control character, so no two pairs have the same text.
        Self::of(&format!("{server}\0{name}"))
    }
}

impl std::fmt::Display for OriginId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Key of a record.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Key {
    /// A next-hop group.
    Group(Label),
    /// A route of the forwarding table: best paths only, without origin.
    Route {
        /// VRF; 0 is the default one.
        vrf: u32,
        /// Destination, without host bits (the table clears them).
        prefix: IpNet,
    },
    /// A route of the RIB, as one origin has it.
    RibRoute {
        /// The origin.
        origin: OriginId,
        /// VRF; 0 is the default one.
        vrf: u32,
        /// Destination, without host bits (the table clears them).
        prefix: IpNet,
    },
    /// A protocol instance.
    Origin(OriginId),
    /// Opaque application data (key/value).
    Opaque(Box<[u8]>),
}

/// Value of a record. Its variant corresponds to that of the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// A next-hop group.
    Group(GroupValue),
    /// The group of a forwarding route.
    Route(Label),
    /// The group and the preference of one origin's route.
    RibRoute {
        /// The group that the route uses.
        label: Label,
        /// Administrative distance: the lowest wins.
        distance: u8,
        /// Metric within the origin: the lowest wins among equal administrative distances.
        metric: u32,
    },
    /// A protocol instance.
    Origin(Box<OriginValue>),
    /// Application data.
    Opaque(Box<[u8]>),
}

/// A protocol instance, as its route server describes it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct OriginValue {
    /// The configured name, for example `bgp`.
    pub name: String,
    /// Name of the route server beside which the protocol runs.
    pub server: String,
    /// Increases at each start of the instance: a newer epoch replaces an older one.
    pub epoch: u64,
    /// Increases while the instance is alive; receivers mark the origin stale when it stops.
    pub sequence: u64,
    /// Whether the instance's table has been complete once.
    pub ready: bool,
    /// Lease in milliseconds: how long one sequence keeps the origin live.
    pub lease_ms: u32,
    /// The relaying node has not heard a newer sequence in time, and will soon forget the origin.
    pub stale: bool,
}

/// Content of a next-hop group.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum GroupValue {
    /// Weighted next hops.
    Hops(Vec<HopValue>),
    /// Drop silently.
    Blackhole,
    /// Drop and send ICMP unreachable.
    Unreachable,
    /// Drop and send ICMP administratively prohibited.
    Prohibit,
    /// Deliver to the host itself.
    Local,
}

impl GroupValue {
    /// The canonical form that is stored, hashed and sent: sorted next hops, no port instead of an empty name.
    #[must_use]
    pub fn canonical(mut self) -> Self {
        if let Self::Hops(hops) = &mut self {
            hops.iter_mut().for_each(|hop| hop.port = hop.port.take().filter(|port| !port.is_empty()));
            hops.sort_unstable();
        }
        self
    }

    /// A group with one next hop.
    pub fn via(gateway: IpAddr) -> Self {
        Self::Hops(vec![HopValue { gateway: Some(gateway), port: None, weight: 1 }])
    }

    fn feed(&self, h: &mut impl Hasher) {
        match self {
            Self::Hops(hops) => {
                h.write_u8(0);
                h.write(&(hops.len() as u32).to_le_bytes());
                for hop in hops {
                    match hop.gateway {
                        None => h.write_u8(0),
                        Some(IpAddr::V4(a)) => {
                            h.write_u8(4);
                            h.write(&a.octets());
                        }
                        Some(IpAddr::V6(a)) => {
                            h.write_u8(6);
                            h.write(&a.octets());
                        }
                    }
                    let port = hop.port.as_deref();
                    h.write_u8(u8::from(port.is_some()));
                    feed_bytes(h, port.unwrap_or("").as_bytes());
                    h.write(&hop.weight.to_le_bytes());
                }
            }
            Self::Blackhole => h.write_u8(1),
            Self::Unreachable => h.write_u8(2),
            Self::Prohibit => h.write_u8(3),
            Self::Local => h.write_u8(4),
        }
    }
}

/// A next hop of a group.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HopValue {
    /// Gateway; none if the destination is on the link.
    pub gateway: Option<IpAddr>,
    /// Port by name; none for the port whose subnet contains the gateway.
    pub port: Option<String>,
    /// Weight, at least 1.
    pub weight: u16,
}

fn feed_bytes(h: &mut impl Hasher, bytes: &[u8]) {
    h.write(&(bytes.len() as u32).to_le_bytes());
    h.write(bytes);
}

fn hasher(key: &DigestKey, kind: u8) -> sip128::SipHasher24 {
    let mut h = key.hasher();
    h.write_u8(kind);
    h
}

/// Identity of a route record from its parts. A full table takes this path, so it hashes one short array.
///
/// `addr` is the prefix's address in network order, `rib` contains origin, distance and metric of a RIB route.
pub(crate) fn route_id(
    key: &DigestKey,
    rib: Option<(OriginId, u8, u32)>,
    vrf: u32,
    addr: &[u8],
    len: u8,
    label: Label,
) -> u128 {
    let mut buf = [0u8; 48];
    let (kind, origin, distance, metric) = match rib {
        None => (2, 0, 0, 0),
        Some((origin, distance, metric)) => (3, origin.0, distance, metric),
    };
    let wide = addr.len() == 16;
    buf[0] = kind;
    buf[1] = if wide { 6 } else { 4 };
    buf[2] = len;
    buf[3] = distance;
    buf[4..8].copy_from_slice(&vrf.to_le_bytes());
    buf[8..16].copy_from_slice(&label.0.to_le_bytes());
    buf[16..24].copy_from_slice(&origin.to_le_bytes());
    buf[24..28].copy_from_slice(&metric.to_le_bytes());
    let n = addr.len().min(16);
    buf[28..28 + n].copy_from_slice(&addr[..n]);
    key.hasher().hash(&buf[..28 + n]).as_u128()
}

pub(crate) fn group_id(key: &DigestKey, label: Label, value: &GroupValue) -> u128 {
    let mut h = hasher(key, 1);
    h.write(&label.0.to_le_bytes());
    value.feed(&mut h);
    h.finish128().as_u128()
}

pub(crate) fn origin_id(key: &DigestKey, id: OriginId, value: &OriginValue) -> u128 {
    let mut h = hasher(key, 4);
    h.write(&id.0.to_le_bytes());
    feed_bytes(&mut h, value.name.as_bytes());
    feed_bytes(&mut h, value.server.as_bytes());
    h.write(&value.epoch.to_le_bytes());
    h.write(&value.sequence.to_le_bytes());
    h.write_u8(u8::from(value.ready));
    h.write(&value.lease_ms.to_le_bytes());
    h.write_u8(u8::from(value.stale));
    h.finish128().as_u128()
}

pub(crate) fn opaque_id(digest_key: &DigestKey, key: &[u8], value: &[u8]) -> u128 {
    let mut h = hasher(digest_key, 5);
    feed_bytes(&mut h, key);
    feed_bytes(&mut h, value);
    h.finish128().as_u128()
}

/// Address bytes of a prefix in network order: 4 or 16.
pub(crate) fn with_octets<R>(prefix: &IpNet, f: impl FnOnce(&[u8]) -> R) -> R {
    match prefix {
        IpNet::V4(p) => f(&p.network().octets()),
        IpNet::V6(p) => f(&p.network().octets()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change::record_id;

    fn hop(last: u8) -> HopValue {
        HopValue { gateway: Some(IpAddr::from([192, 0, 2, last])), port: Some("p0".into()), weight: 1 }
    }

    #[test]
    fn label_does_not_depend_on_the_order_of_hops() {
        let a = GroupValue::Hops(vec![hop(1), hop(2)]);
        let b = GroupValue::Hops(vec![hop(2), hop(1)]);
        assert_eq!(Label::of(&a), Label::of(&b));
        assert_ne!(Label::of(&a), Label::of(&GroupValue::Hops(vec![hop(1)])));
    }

    #[test]
    fn identity_of_a_route_covers_every_field() {
        let base = |vrf, p: &str, l| {
            record_id(
                &DigestKey::PUBLIC,
                &Key::Route { vrf, prefix: p.parse().unwrap() },
                &Value::Route(Label(l)),
            )
            .unwrap()
        };
        let id = base(0, "10.0.0.0/8", 1);
        assert_ne!(id, base(1, "10.0.0.0/8", 1));
        assert_ne!(id, base(0, "10.0.0.0/9", 1));
        assert_ne!(id, base(0, "11.0.0.0/8", 1));
        assert_ne!(id, base(0, "10.0.0.0/8", 2));
        assert_ne!(base(0, "::/0", 1), base(0, "0.0.0.0/0", 1));
    }

    #[test]
    fn identities_are_constants_of_the_protocol() {
        let key = Key::Route { vrf: 0, prefix: "10.0.0.0/8".parse().unwrap() };
        let id = record_id(&DigestKey::PUBLIC, &key, &Value::Route(Label(1))).unwrap();
        let label = Label::of(&GroupValue::Blackhole);
        assert_eq!(
            format!("{id:032x} {label} {}", OriginId::of("bgp")),
            "15c93d588bdd0b561009b7a3cef13aac 45dd7fafae9e73c8 2d9993dc9389320a"
        );
    }

    #[test]
    fn a_value_of_another_kind_has_no_identity() {
        assert_eq!(record_id(&DigestKey::PUBLIC, &Key::Group(Label(1)), &Value::Route(Label(1))), None);
    }
}
