//! Routes that a sink does not forward by, with the reason: what a node tells its server beside the serial that it has installed.
//!
//! [`Refusals`] is a list of bounded length. What is listed stays listed as long as it is refused, so the oldest are kept; what has no room is
//! counted ([`Refusals::more`]). While the list is incomplete a node does not report a greater serial as installed, so that nothing is ever
//! taken for installed because it is not listed.

use std::collections::BTreeMap;

use ipnet::IpNet;

/// Most routes of a list, and of one frame.
pub const LIMIT: usize = 1024;

/// VRF and prefix.
pub type RouteKey = (u32, IpNet);

/// Why a sink does not forward by a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// No next hop has a port of this host.
    UnknownPort,
    /// The forwarding table has no room for it.
    Limits,
    /// The kernel refused it.
    Kernel,
    /// A route of somebody else is in its place, or is preferred to it.
    Occupied,
    /// The sink has no such kind of route.
    Unsupported,
    /// One of a later version.
    Other(u8),
}

impl Reason {
    /// Its number in a frame; never 0.
    pub fn code(self) -> u8 {
        match self {
            Self::UnknownPort => 1,
            Self::Limits => 2,
            Self::Kernel => 3,
            Self::Occupied => 4,
            Self::Unsupported => 5,
            Self::Other(code) => code.max(6),
        }
    }

    /// The reason of this number; none for 0, which means "not refused".
    pub fn of_code(code: u8) -> Option<Self> {
        Some(match code {
            0 => return None,
            1 => Self::UnknownPort,
            2 => Self::Limits,
            3 => Self::Kernel,
            4 => Self::Occupied,
            5 => Self::Unsupported,
            other => Self::Other(other),
        })
    }
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::UnknownPort => "unknown port",
            Self::Limits => "table full",
            Self::Kernel => "refused by the kernel",
            Self::Occupied => "a route of somebody else",
            Self::Unsupported => "not supported",
            Self::Other(code) => return write!(f, "reason {code}"),
        })
    }
}

/// A bounded list of refused routes; see the module's documentation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Refusals {
    version: u64,
    listed: BTreeMap<RouteKey, Reason>,
    more: u64,
}

impl Refusals {
    /// Grows with each change.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The listed routes.
    pub fn iter(&self) -> impl Iterator<Item = (&RouteKey, Reason)> {
        self.listed.iter().map(|(key, reason)| (key, *reason))
    }

    /// The reason, if the route is listed.
    pub fn get(&self, key: &RouteKey) -> Option<Reason> {
        self.listed.get(key).copied()
    }

    /// Number of listed routes.
    pub fn len(&self) -> usize {
        self.listed.len()
    }

    /// Whether nothing is refused.
    pub fn is_empty(&self) -> bool {
        self.listed.is_empty() && self.more == 0
    }

    /// Number of refused routes that are not listed.
    pub fn more(&self) -> u64 {
        self.more
    }

    /// Takes over what is refused now: `all` are the refused routes, `get` finds one of them, and `total` is their number with those that
    /// their owner knows by number only. True if the list has changed.
    pub fn replace(
        &mut self,
        total: u64,
        get: impl Fn(&RouteKey) -> Option<Reason>,
        all: impl IntoIterator<Item = (RouteKey, Reason)>,
    ) -> bool {
        let mut changed = false;
        self.listed.retain(|key, reason| {
            let now = get(key);
            changed |= now != Some(*reason);
            now.inspect(|now| *reason = *now).is_some()
        });
        if (self.listed.len() as u64) < total {
            for (key, reason) in all {
                if self.listed.len() >= LIMIT {
                    break;
                }
                changed |= self.listed.insert(key, reason).is_none();
            }
        }
        let more = total.saturating_sub(self.listed.len() as u64);
        changed |= std::mem::replace(&mut self.more, more) != more;
        self.version += u64::from(changed);
        changed
    }

    /// Takes over what is refused now, as a map of all of it, and the number of further ones.
    pub fn take(&mut self, all: &BTreeMap<RouteKey, Reason>, more: u64) -> bool {
        let total = all.len() as u64 + more;
        self.replace(total, |key| all.get(key).copied(), all.iter().map(|(key, reason)| (*key, *reason)))
    }

    /// What makes this list of an earlier one: those that are no longer refused first, so that no reader ever holds more than [`LIMIT`].
    pub(crate) fn changes_from(&self, before: &Self) -> Vec<(RouteKey, Option<Reason>)> {
        let gone = before.listed.keys().filter(|key| !self.listed.contains_key(*key));
        let news = self.listed.iter().filter(|(key, reason)| before.listed.get(*key) != Some(*reason));
        let gone = gone.map(|key| (*key, None));
        gone.chain(news.map(|(key, reason)| (*key, Some(*reason)))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u32) -> RouteKey {
        (0, ipnet::Ipv4Net::new((n << 8).into(), 24).unwrap().into())
    }

    fn some(range: std::ops::Range<u32>) -> BTreeMap<RouteKey, Reason> {
        range.map(|n| (key(n), Reason::Kernel)).collect()
    }

    #[test]
    fn the_oldest_stay_listed_and_what_has_no_room_is_counted_until_it_has() {
        let limit = LIMIT as u32;
        let mut list = Refusals::default();
        assert!(list.take(&some(500..500 + limit), 0));
        assert!(!list.take(&some(500..500 + limit), 0), "the same again is no change");
        let version = list.version();
        // All of these sort before what is listed.
        assert!(list.take(&some(0..500 + limit), 0));
        assert_eq!((list.len(), list.more()), (LIMIT, 500));
        assert!(list.get(&key(500)).is_some() && list.get(&key(0)).is_none());
        assert!(list.version() > version);
        assert!(list.take(&some(0..1000), 7));
        assert_eq!((list.len(), list.more()), (1000, 7), "there is room, but seven are known by number only");
        assert!(list.get(&key(0)).is_some());
        assert!(list.take(&BTreeMap::new(), 0));
        assert!(list.is_empty());
    }

    #[test]
    fn differences_lead_from_one_list_to_the_other_and_say_first_what_is_gone() {
        let (mut a, mut b) = (Refusals::default(), Refusals::default());
        a.take(&some(0..5), 0);
        let mut other = some(3..8);
        other.insert(key(4), Reason::Limits);
        b.take(&other, 0);
        let changes = b.changes_from(&a);
        let first_news = changes.iter().position(|(_, reason)| reason.is_some()).unwrap();
        assert!(changes[..first_news].iter().map(|(key, _)| *key).eq((0..3).map(key)));
        let mut listed = a.listed.clone();
        for (key, reason) in changes {
            match reason {
                Some(reason) => listed.insert(key, reason),
                None => listed.remove(&key),
            };
        }
        assert_eq!(listed, b.listed);
    }

    #[test]
    fn every_number_is_the_number_of_its_reason() {
        assert_eq!(Reason::of_code(0), None);
        for code in 1..=255 {
            assert_eq!(Reason::of_code(code).map(Reason::code), Some(code));
        }
    }
}
