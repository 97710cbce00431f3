//! Changes of records. A [`ChangeRef`] borrows from a frame or a table, so a batch passes from one to the other, and from a table to a sink,
//! without a copy. A [`Change`] owns its data.

use ipnet::IpNet;

use crate::digest::DigestKey;
use crate::record::{
    GroupValue, Key, Label, OriginId, OriginValue, Value, group_id, opaque_id, origin_id, route_id,
    with_octets,
};

/// One change of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The record has this value now.
    Put(Key, Value),
    /// The record is deleted.
    Delete(Key),
}

impl Change {
    /// Key of the changed record.
    pub fn key(&self) -> &Key {
        match self {
            Self::Put(key, _) | Self::Delete(key) => key,
        }
    }

    /// The change without its ownership. None if the value is not of the key's kind.
    pub fn view(&self) -> Option<ChangeRef<'_>> {
        match self {
            Self::Put(key, value) => ChangeRef::put(key, value),
            Self::Delete(key) => Some(ChangeRef::delete(key)),
        }
    }
}

/// A borrowed change. A record without a value is deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeRef<'a> {
    /// Of a next-hop group.
    Group {
        /// Its label.
        label: Label,
        /// Its content.
        value: Option<&'a GroupValue>,
    },
    /// Of a route of the forwarding table.
    Route {
        /// VRF; 0 is the default one.
        vrf: u32,
        /// Destination.
        prefix: IpNet,
        /// The group that the route uses.
        label: Option<Label>,
    },
    /// Of a route of the RIB.
    RibRoute {
        /// The origin.
        origin: OriginId,
        /// VRF; 0 is the default one.
        vrf: u32,
        /// Destination.
        prefix: IpNet,
        /// Group and preference.
        path: Option<Path>,
    },
    /// Of a protocol instance.
    Origin {
        /// Its identity.
        id: OriginId,
        /// Its description.
        value: Option<&'a OriginValue>,
    },
    /// Of application data.
    Opaque {
        /// The key.
        key: &'a [u8],
        /// The value.
        value: Option<&'a [u8]>,
    },
}

/// The path of one origin's route: fields of [`Value::RibRoute`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Path {
    /// The group that the route uses.
    pub label: Label,
    /// Administrative distance: the lowest wins.
    pub distance: u8,
    /// Metric within the origin: the lowest wins among equal administrative distances.
    pub metric: u32,
}

impl<'a> ChangeRef<'a> {
    /// A record with a value. None if the value is not of the key's kind.
    pub fn put(key: &'a Key, value: &'a Value) -> Option<Self> {
        Some(match (key, value) {
            (&Key::Group(label), Value::Group(value)) => Self::Group { label, value: Some(value) },
            (&Key::Route { vrf, prefix }, &Value::Route(label)) => {
                Self::Route { vrf, prefix, label: Some(label) }
            }
            (&Key::RibRoute { origin, vrf, prefix }, &Value::RibRoute { label, distance, metric }) => {
                Self::RibRoute { origin, vrf, prefix, path: Some(Path { label, distance, metric }) }
            }
            (&Key::Origin(id), Value::Origin(value)) => Self::Origin { id, value: Some(value) },
            (Key::Opaque(key), Value::Opaque(value)) => Self::Opaque { key, value: Some(value) },
            _ => return None,
        })
    }

    /// The deletion of a record.
    pub fn delete(key: &'a Key) -> Self {
        match key {
            &Key::Group(label) => Self::Group { label, value: None },
            &Key::Route { vrf, prefix } => Self::Route { vrf, prefix, label: None },
            &Key::RibRoute { origin, vrf, prefix } => Self::RibRoute { origin, vrf, prefix, path: None },
            &Key::Origin(id) => Self::Origin { id, value: None },
            Key::Opaque(key) => Self::Opaque { key, value: None },
        }
    }

    /// Whether the record is a route, of the forwarding table or of the RIB.
    pub fn is_route(&self) -> bool {
        matches!(self, Self::Route { .. } | Self::RibRoute { .. })
    }

    /// Whether the record is deleted.
    pub fn is_deletion(&self) -> bool {
        match self {
            Self::Group { value, .. } => value.is_none(),
            Self::Route { label, .. } => label.is_none(),
            Self::RibRoute { path, .. } => path.is_none(),
            Self::Origin { value, .. } => value.is_none(),
            Self::Opaque { value, .. } => value.is_none(),
        }
    }

    /// The group that a route uses after the change.
    pub fn label(&self) -> Option<Label> {
        match self {
            Self::Route { label, .. } => *label,
            Self::RibRoute { path, .. } => path.map(|path| path.label),
            _ => None,
        }
    }

    /// Key of the changed record.
    pub fn key(&self) -> Key {
        match *self {
            Self::Group { label, .. } => Key::Group(label),
            Self::Route { vrf, prefix, .. } => Key::Route { vrf, prefix },
            Self::RibRoute { origin, vrf, prefix, .. } => Key::RibRoute { origin, vrf, prefix },
            Self::Origin { id, .. } => Key::Origin(id),
            Self::Opaque { key, .. } => Key::Opaque(key.into()),
        }
    }

    /// Identity of the record; none if it is deleted.
    pub(crate) fn id(&self, key: &DigestKey) -> Option<u128> {
        Some(match *self {
            Self::Group { label, value } => group_id(key, label, &value?.clone().canonical()),
            Self::Route { vrf, prefix, label } => {
                with_octets(&prefix, |a| Some(route_id(key, None, vrf, a, prefix.prefix_len(), label?)))?
            }
            Self::RibRoute { origin, vrf, prefix, path } => {
                let Path { label, distance, metric } = path?;
                let rib = Some((origin, distance, metric));
                with_octets(&prefix, |a| route_id(key, rib, vrf, a, prefix.prefix_len(), label))
            }
            Self::Origin { id, value } => origin_id(key, id, value?),
            Self::Opaque { key: name, value } => opaque_id(key, name, value?),
        })
    }
}

impl From<ChangeRef<'_>> for Change {
    fn from(change: ChangeRef<'_>) -> Self {
        let value = match change {
            ChangeRef::Group { value, .. } => value.cloned().map(Value::Group),
            ChangeRef::Route { label, .. } => label.map(Value::Route),
            ChangeRef::RibRoute { path, .. } => {
                path.map(|Path { label, distance, metric }| Value::RibRoute { label, distance, metric })
            }
            ChangeRef::Origin { value, .. } => value.cloned().map(|value| Value::Origin(Box::new(value))),
            ChangeRef::Opaque { value, .. } => value.map(|value| Value::Opaque(value.into())),
        };
        match value {
            Some(value) => Self::Put(change.key(), value),
            None => Self::Delete(change.key()),
        }
    }
}

/// Identity of a record: the keyed 128-bit hash of its canonical form. None if value and key do not match.
pub fn record_id(digest_key: &DigestKey, key: &Key, value: &Value) -> Option<u128> {
    ChangeRef::put(key, value)?.id(digest_key)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Batches of millions of changes pass through memory.
    #[test]
    fn changes_fit_a_cache_line() {
        assert!(size_of::<ChangeRef<'_>>() <= 64, "{}", size_of::<ChangeRef<'_>>());
        assert!(size_of::<Change>() <= 64, "{}", size_of::<Change>());
    }

    #[test]
    fn a_view_is_the_same_change() {
        let prefix = "10.0.0.0/8".parse().unwrap();
        let (origin, label) = (OriginId(7), Label(5));
        let described = OriginValue {
            name: "bgp".into(),
            server: "rs-a".into(),
            epoch: 1,
            sequence: 2,
            ready: true,
            lease_ms: 3,
            stale: false,
        };
        let records = [
            (Key::Group(label), Value::Group(GroupValue::Blackhole)),
            (Key::Route { vrf: 3, prefix }, Value::Route(label)),
            (Key::RibRoute { origin, vrf: 3, prefix }, Value::RibRoute { label, distance: 20, metric: 9 }),
            (Key::Origin(origin), Value::Origin(Box::new(described))),
            (Key::Opaque([1].into()), Value::Opaque([2].into())),
        ];
        for (key, value) in records {
            for change in [Change::Put(key.clone(), value.clone()), Change::Delete(key.clone())] {
                let view = change.view().unwrap();
                assert_eq!(view.key(), key);
                assert_eq!(view.is_deletion(), matches!(change, Change::Delete(_)));
                assert_eq!(Change::from(view), change);
            }
            assert_eq!(
                Change::Put(key, Value::Opaque([].into())).view().is_none(),
                !matches!(value, Value::Opaque(_))
            );
        }
    }
}
