//! Who may have a connection: bounds in all, by source, and of half-open ones.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use super::Counters;

/// Most connections at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// In all.
    pub connections: usize,
    /// From one [`Source`].
    pub per_address: usize,
    /// That are half open: they have not proved yet that they deserve their place.
    pub half_open: usize,
}

/// Who opens connections, as far as bounds can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Source {
    /// One IPv4 address, also when it is mapped to IPv6.
    V4(Ipv4Addr),
    /// The /64 of an IPv6 address: one host has all of its addresses (RFC 4291, section 2.5.4).
    V6([u16; 4]),
    /// A program of this host, on a unix socket.
    Local,
}

impl From<IpAddr> for Source {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Source::V4(address),
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                Source::V6([a, b, c, d])
            }
        }
    }
}

/// The bound that a refused connection exceeds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Full {
    /// Of connections in all.
    #[error("{0} connections are open")]
    Connections(usize),
    /// Of its source.
    #[error("its address has {0} connections")]
    PerAddress(usize),
    /// Of half-open ones, none of which may give way.
    #[error("{0} connections are half open")]
    HalfOpen(usize),
}

impl Full {
    /// The name of the bound, as in [`Bounds`] and `[limits]`.
    pub fn key(self) -> &'static str {
        match self {
            Full::Connections(_) => "connections",
            Full::PerAddress(_) => "per_address",
            Full::HalfOpen(_) => "half_open",
        }
    }
}

/// The places of a listener's connections, which the owner names by `Id`.
#[derive(Debug)]
pub struct Admission<Id> {
    bounds: Bounds,
    open: HashMap<Id, Place>,
    /// Connections of each source.
    sources: HashMap<Source, usize>,
    /// Half-open ones of each source in the order in which they give way.
    half_open: HashMap<Source, BTreeMap<u64, Id>>,
    half_open_count: usize,
    next_turn: u64,
    counters: Arc<Counters>,
}

#[derive(Debug)]
struct Place {
    source: Source,
    /// Its turn to give way; none for an established connection.
    turn: Option<u64>,
}

impl<Id: Copy + Eq + Hash> Admission<Id> {
    /// No connections yet.
    pub fn new(bounds: Bounds, counters: Arc<Counters>) -> Self {
        Self {
            bounds,
            open: HashMap::new(),
            sources: HashMap::new(),
            half_open: HashMap::new(),
            half_open_count: 0,
            next_turn: 0,
            counters,
        }
    }

    /// Connections that have a place.
    pub fn open(&self) -> usize {
        self.open.len()
    }

    /// Gives a connection a place, as half open. Returns the half-open connection that lost its place for it: the owner closes that one.
    ///
    /// The oldest of the same source gives way when the source has its share, else the oldest of the source with the most half-open ones.
    ///
    /// # Errors
    /// [`Full`] if a bound is reached and no connection that counts is half open: the owner closes the newcomer.
    pub fn enter(&mut self, id: Id, source: impl Into<Source>) -> Result<Option<Id>, Full> {
        let source = source.into();
        let victim = self.victim(source).inspect_err(|_| Counters::add(&self.counters.turned_away))?;
        if let Some(victim) = victim {
            self.give_way(victim);
        }
        self.open.insert(id, Place { source, turn: None });
        *self.sources.entry(source).or_default() += 1;
        self.renew(id);
        Counters::add(&self.counters.accepted);
        self.count();
        Ok(victim)
    }

    /// The connection deserves its place: it does not give way any more. False if it has none.
    pub fn establish(&mut self, id: Id) -> bool {
        let Some(place) = self.open.get_mut(&id) else { return false };
        let (source, turn) = (place.source, place.turn.take());
        self.leave_queue(id, source, turn);
        self.count();
        true
    }

    /// The connection is half open from now on: it gives way after those that waited before it.
    pub fn renew(&mut self, id: Id) {
        let Some(place) = self.open.get_mut(&id) else { return };
        let (source, before) = (place.source, place.turn.replace(self.next_turn));
        self.leave_queue(id, source, before);
        self.half_open.entry(source).or_default().insert(self.next_turn, id);
        self.half_open_count += 1;
        self.next_turn += 1;
        self.count();
    }

    /// The connection was closed. One without a place is ignored.
    pub fn leave(&mut self, id: Id) {
        let Some(place) = self.open.remove(&id) else { return };
        self.leave_queue(id, place.source, place.turn);
        if let Some(n) = self.sources.get_mut(&place.source) {
            *n -= 1;
            if *n == 0 {
                self.sources.remove(&place.source);
            }
        }
        self.count();
    }

    /// The half-open connection that has to give way if something runs out, without its place. The owner closes it.
    pub fn evict(&mut self) -> Option<Id> {
        let victim = self.oldest()?;
        self.give_way(victim);
        Some(victim)
    }

    /// Takes the place of a connection for a newcomer, where the owner decides who gives way. The owner closes that one.
    pub fn give_way(&mut self, victim: Id) {
        self.leave(victim);
        Counters::add(&self.counters.gave_way);
    }

    /// Counts a connection that a bound of the owner's refuses.
    pub fn turn_away(&self) {
        Counters::add(&self.counters.turned_away);
    }

    /// Whether a newcomer from this source would be refused.
    pub fn is_full(&self, source: impl Into<Source>) -> bool {
        self.victim(source.into()).is_err()
    }

    /// Who would give way to a newcomer from this source; none if there is room.
    fn victim(&self, source: Source) -> Result<Option<Id>, Full> {
        let Bounds { connections, per_address, half_open } = self.bounds;
        let (victim, full) = if self.sources.get(&source).is_some_and(|n| *n >= per_address) {
            (self.oldest_of(source), Full::PerAddress(per_address))
        } else if self.open.len() >= connections {
            (self.oldest(), Full::Connections(connections))
        } else if self.half_open_count >= half_open {
            (self.oldest(), Full::HalfOpen(half_open))
        } else {
            return Ok(None);
        };
        victim.map(Some).ok_or(full)
    }

    fn oldest_of(&self, source: Source) -> Option<Id> {
        self.half_open.get(&source)?.first_key_value().map(|(_, id)| *id)
    }

    /// The oldest of the source with the most: a flood pays for itself.
    fn oldest(&self) -> Option<Id> {
        let ranked = self.half_open.values().filter_map(|queue| {
            let (turn, id) = queue.first_key_value()?;
            Some((queue.len(), std::cmp::Reverse(*turn), *id))
        });
        ranked.max_by_key(|(length, turn, _)| (*length, *turn)).map(|(_, _, id)| id)
    }

    fn leave_queue(&mut self, id: Id, source: Source, turn: Option<u64>) {
        let Some(turn) = turn else { return };
        let Some(queue) = self.half_open.get_mut(&source) else { return };
        if queue.remove(&turn) == Some(id) {
            self.half_open_count -= 1;
        }
        if queue.is_empty() {
            self.half_open.remove(&source);
        }
    }

    fn count(&self) {
        Counters::set(&self.counters.open, self.open.len());
        Counters::set(&self.counters.half_open, self.half_open_count);
    }
}

impl<Id> Drop for Admission<Id> {
    fn drop(&mut self) {
        Counters::set(&self.counters.open, 0);
        Counters::set(&self.counters.half_open, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv6Addr;

    fn admission(connections: usize, per_address: usize, half_open: usize) -> Admission<u32> {
        Admission::new(Bounds { connections, per_address, half_open }, Counters::named("test"))
    }

    fn address(n: u8) -> IpAddr {
        [127, 0, 0, n].into()
    }

    fn v6(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn one_address_does_not_take_the_places_of_others() {
        let mut admission = admission(4, 2, 3);
        for id in 1..=2 {
            assert_eq!(admission.enter(id, address(1)), Ok(None));
            admission.establish(id);
        }
        assert_eq!(admission.enter(3, address(1)), Err(Full::PerAddress(2)));
        assert_eq!(admission.enter(4, address(2)), Ok(None));
        admission.leave(1);
        assert_eq!(admission.enter(5, address(1)), Ok(None));
    }

    #[test]
    fn the_oldest_half_open_connection_gives_way_to_a_newcomer() {
        let mut admission = admission(100, 100, 3);
        for id in 1..=3 {
            assert_eq!(admission.enter(id, address(id as u8)), Ok(None));
        }
        admission.establish(1);
        assert_eq!(admission.enter(4, address(4)), Ok(None));
        assert_eq!(admission.enter(5, address(5)), Ok(Some(2)));
        assert_eq!(admission.open(), 4);
        // A closed connection leaves a place; leaving twice or without a place changes nothing.
        admission.leave(3);
        admission.leave(3);
        admission.leave(2);
        assert_eq!(admission.enter(6, address(6)), Ok(None));
    }

    #[test]
    fn the_source_of_a_flood_pays_for_it() {
        let mut admission = admission(10, 10, 10);
        assert_eq!(admission.enter(0, address(1)), Ok(None));
        for id in 1..10 {
            assert_eq!(admission.enter(id, address(2)), Ok(None));
        }
        for id in 10..100 {
            assert_eq!(admission.enter(id, address(2)), Ok(Some(id - 9)));
        }
        admission.establish(0);
        assert_eq!(admission.enter(100, address(3)), Ok(Some(91)));
    }

    #[test]
    fn a_source_with_its_share_gives_way_to_itself() {
        let mut admission = admission(100, 2, 100);
        assert_eq!(admission.enter(1, address(1)), Ok(None));
        assert_eq!(admission.enter(2, address(2)), Ok(None));
        assert_eq!(admission.enter(3, address(2)), Ok(None));
        assert_eq!(admission.enter(4, address(2)), Ok(Some(2)));
    }

    #[test]
    fn established_connections_stay_and_newcomers_are_refused() {
        let mut admission = admission(2, 2, 2);
        for id in 1..=2 {
            assert_eq!(admission.enter(id, address(id as u8)), Ok(None));
            admission.establish(id);
        }
        assert_eq!(admission.enter(3, address(3)), Err(Full::Connections(2)));
        assert_eq!(admission.evict(), None);
        admission.renew(2);
        assert_eq!(admission.enter(3, address(3)), Ok(Some(2)));
    }

    #[test]
    fn a_renewed_connection_goes_to_the_end_of_the_line() {
        let mut admission = admission(2, 2, 2);
        for id in 1..=2 {
            assert_eq!(admission.enter(id, address(1)), Ok(None));
        }
        admission.renew(1);
        assert_eq!(admission.enter(3, address(1)), Ok(Some(2)));
        assert_eq!(admission.evict(), Some(1));
        assert_eq!(admission.open(), 1);
    }

    #[test]
    fn addresses_of_one_ipv6_subnet_are_one_source_and_mapped_ones_are_ipv4() {
        assert_eq!(Source::from(v6("2001:db8:0:1::1")), Source::from(v6("2001:db8:0:1:ffff::2")));
        assert_ne!(Source::from(v6("2001:db8:0:1::1")), Source::from(v6("2001:db8:0:2::1")));
        assert_eq!(Source::from(v6("::ffff:127.0.0.9")), Source::from(address(9)));
        assert_ne!(Source::from(address(8)), Source::from(address(9)));
        assert_ne!(Source::from(v6("::1")), Source::Local);
    }

    #[test]
    fn a_flood_from_one_ipv6_subnet_has_the_share_of_one_address() {
        let mut admission = admission(10_000, 4, 10_000);
        for id in 0..1_000 {
            let address =
                Ipv6Addr::from(0x2001_0db8_0000_0001_0000_0000_0000_0000_u128 + u128::from(id) * 7919);
            let gave_way = admission.enter(id, IpAddr::from(address)).unwrap();
            assert_eq!(gave_way, id.checked_sub(4));
        }
        assert_eq!(admission.open(), 4);
        // Neither the next subnet nor the same host by IPv4 pays for it.
        assert_eq!(admission.enter(1_000, v6("2001:db8:0:2::1")), Ok(None));
        assert_eq!(admission.enter(1_001, address(1)), Ok(None));
    }

    #[test]
    fn counters_follow() {
        let counters = Counters::named("test");
        let bounds = Bounds { connections: 2, per_address: 2, half_open: 1 };
        let mut admission = Admission::new(bounds, counters.clone());
        for id in 1..=3 {
            let _ = admission.enter(id, Source::Local);
            admission.establish(id);
        }
        admission.leave(1);
        admission.enter(4, Source::Local).unwrap();
        admission.evict();
        let status = counters.status();
        assert_eq!((status.open, status.half_open, status.accepted), (1, 0, 3));
        assert_eq!((status.turned_away, status.gave_way), (1, 1));
    }
}
