//! Protocol instances as one route server knows them: its own, and those of others while their leases last.
//!
//! Every route server serves a *catalog*, a table of [`Key::Origin`] records: its own origins and all that it knows of others. It is a
//! client of its peers' catalogs and passes their content to [`Origins::heard`]. Of two descriptions of an origin the newer counts: the
//! greater epoch, then the greater sequence. Only the server beside which the instance runs creates new sequences, one in each third of a
//! lease, so a description that circulates among relays is never newer than itself and refreshes nothing:
//!
//! ```text
//!                 newer, ready                            lease over                   hold time over
//!   (unknown) ───────────────────▶ Live ──────────────────────────────────▶ Stale ───────────────────▶ Expired
//!       │                           ▲  newer, ready                          │                          │
//!       └── not ready ─▶ Loading ───┴────────────────────────────────────────┴──────────────────────────┤
//!                           ▲ └────────────────────── lease over ─────────────────────────────────────▶ │
//!                           └────────────────────── newer, not ready ───────────────────────────────────┘
//! ```
//!
//! Its own server may also call an origin stale, because its source is not live, and renews that like a lease: it stays stale as long as that
//! server lives, and its routes stay.
//!
//! An expired origin is removed from the catalog, but its epoch and sequence are remembered, so the same description, still held by a
//! neighbor whose timer runs later, does not revive it. A description relayed as stale makes an origin known as stale: a server that has
//! just started gives it no new lease.
//!
//! The routes of an origin are in a table of their own, [`table_name`]; the catalog lists the tables. Whether a server can reach those
//! routes is a separate question for its owner: the lease only says that the instance is alive.
//!
//! A server has one more origin with an empty name and without routes, its *presence*: ready means that it knows what its neighbors know.
//! So a starting server learns whether there are origins that it cannot have heard of yet.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::change::Change;
use crate::mutation::{Mutation, on};
use crate::record::{Key, OriginId, OriginValue, Value};
use crate::table::{Table, TableError};

/// Name of the table that lists origins.
pub const CATALOG: &str = "rib";
/// Lease of an origin: three refreshes may be lost.
pub const LEASE: Duration = Duration::from_secs(3);
/// An expired origin is remembered for this multiple of lease and hold time.
const REMEMBER: u32 = 5;
/// Valid leases of others in milliseconds.
const LEASES: std::ops::RangeInclusive<u32> = 100..=600_000;
/// Most origins known at a time, expired ones included. The ones that expired first are forgotten first.
pub const MAX_ORIGINS: usize = 256;

/// Name of the table that holds one origin's routes.
pub fn table_name(id: OriginId) -> String {
    format!("{CATALOG}/{id}")
}

/// The origin whose routes the table with this name holds.
pub fn origin_of(table: &str) -> Option<OriginId> {
    let digits = table.strip_prefix(CATALOG)?.strip_prefix('/')?;
    (digits.len() == 16).then(|| u64::from_str_radix(digits, 16).ok().map(OriginId))?
}

/// State of an origin of another server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OriginState {
    /// Known, but its table is not complete yet.
    Loading {
        /// End of the lease, unless a newer sequence arrives.
        until: Duration,
    },
    /// Its lease is valid.
    Live {
        /// End of the lease, unless a newer sequence arrives.
        until: Duration,
    },
    /// Its lease has expired, or its own server calls it stale: its routes rank after all others.
    Stale {
        /// Start of the hold time; after the lease, if its own server calls it stale.
        since: Duration,
    },
    /// The hold time is over: its routes are ineligible.
    Expired {
        /// Time of the expiry.
        since: Duration,
    },
}

/// Events for the owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OriginEvent {
    /// A new origin of another server: request its table.
    Appeared(OriginId),
    /// It is live now.
    Live(OriginId),
    /// It is stale now.
    Stale(OriginId),
    /// It has expired now.
    Expired(OriginId),
    /// Another node announces one of our origins: a server with the same name, or our clock was set back.
    Contested(OriginId),
}

#[derive(Debug)]
struct Own {
    value: OriginValue,
    refresh_at: Duration,
    /// An epoch newer than ours that others relay.
    outranked: Option<u64>,
}

#[derive(Debug)]
struct OriginEntry {
    /// The newest description.
    value: OriginValue,
    state: OriginState,
}

/// The origins; see the module's documentation.
#[derive(Debug)]
pub struct Origins {
    server: String,
    hold: Duration,
    own: BTreeMap<OriginId, Own>,
    known: BTreeMap<OriginId, OriginEntry>,
    catalog: Table,
    events: VecDeque<OriginEvent>,
}

impl Origins {
    /// For the route server with this name. The epoch must be greater at each start; `hold` is how long the routes of a stale origin are
    /// kept.
    pub fn new(server: impl Into<String>, epoch: u64, hold: Duration) -> Self {
        Self {
            server: server.into(),
            hold,
            own: BTreeMap::new(),
            known: BTreeMap::new(),
            catalog: Table::new(epoch),
            events: VecDeque::new(),
        }
    }

    /// Adds an origin of this server, whose table is not complete yet.
    ///
    /// # Errors
    /// [`TableError`] if the catalog refuses the record, for instance because of the name.
    pub fn add(&mut self, now: Duration, name: &str, lease: Duration) -> Result<OriginId, TableError> {
        let id = OriginId::instance(&self.server, name);
        let lease_ms =
            u32::try_from(lease.as_millis()).unwrap_or(u32::MAX).clamp(*LEASES.start(), *LEASES.end());
        let value = OriginValue {
            name: name.to_owned(),
            server: self.server.clone(),
            epoch: self.catalog.epoch(),
            sequence: 1,
            ready: false,
            lease_ms,
            stale: false,
        };
        self.publish(id, Some(&value))?;
        let refresh_at = now + refresh_of(&value);
        self.own.insert(id, Own { value, refresh_at, outranked: None });
        Ok(id)
    }

    /// The table of an own origin is complete.
    ///
    /// # Errors
    /// [`TableError`] if the catalog refuses the record.
    pub fn ready(&mut self, now: Duration, id: OriginId) -> Result<(), TableError> {
        if let Some(own) = self.own.get_mut(&id) {
            own.value.ready = true;
            self.refresh(now, id)?;
        }
        Ok(())
    }

    /// An own origin is stale, or live again: its routes rank last on all servers, and stay as long as this is announced.
    ///
    /// # Errors
    /// [`TableError`] if the catalog refuses the record.
    pub fn set_stale(&mut self, now: Duration, id: OriginId, stale: bool) -> Result<(), TableError> {
        match self.own.get_mut(&id) {
            Some(own) if own.value.stale != stale => {
                own.value.stale = stale;
                self.refresh(now, id)
            }
            _ => Ok(()),
        }
    }

    /// Announces the next sequence of an own origin.
    fn refresh(&mut self, now: Duration, id: OriginId) -> Result<(), TableError> {
        let Some(own) = self.own.get_mut(&id) else { return Ok(()) };
        own.value.sequence += 1;
        if let Some(theirs) = own.outranked.take() {
            own.value.epoch = theirs.saturating_add(1);
        }
        own.refresh_at = now + refresh_of(&own.value);
        let value = own.value.clone();
        self.publish(id, Some(&value))
    }

    /// A peer's catalog contains this description. Call it whenever the catalog changes; a repetition has no effect.
    ///
    /// # Errors
    /// [`TableError`] if the catalog refuses the record.
    pub fn heard(&mut self, now: Duration, value: &OriginValue) -> Result<(), TableError> {
        let id = OriginId::instance(&value.server, &value.name);
        if value.server == self.server {
            return self.heard_of_own(now, id, value);
        }
        let mut value = value.clone();
        value.lease_ms = value.lease_ms.clamp(*LEASES.start(), *LEASES.end());
        let until = now + Duration::from_millis(value.lease_ms.into());
        let fresh = match (value.ready, value.stale) {
            (false, _) => OriginState::Loading { until },
            (true, true) => OriginState::Stale { since: now },
            (true, false) => OriginState::Live { until },
        };
        let Some(known) = self.known.get_mut(&id) else {
            if !self.make_room() {
                return Ok(());
            }
            self.events.push_back(OriginEvent::Appeared(id));
            self.publish(id, Some(&value))?;
            self.known.insert(id, OriginEntry { value, state: fresh });
            self.tell(id, None);
            return Ok(());
        };
        let newer = (value.epoch, value.sequence) > (known.value.epoch, known.value.sequence);
        if !newer {
            return Ok(());
        }
        let before = known.state;
        // Its own server is alive and calls it stale: the hold time begins after the lease, so it never ends while such announcements come.
        let fresh = match fresh {
            OriginState::Stale { .. } => OriginState::Stale { since: until },
            other => other,
        };
        // An origin that restarts and is not ready renews no lease: its earlier routes stay as long as they would have.
        let stays = matches!(before, OriginState::Live { .. } | OriginState::Stale { .. });
        if value.ready || !stays {
            known.state = fresh;
        }
        known.value = value.clone();
        value.stale = matches!(known.state, OriginState::Stale { .. });
        self.publish(id, Some(&value))?;
        self.tell(id, Some(before));
        Ok(())
    }

    /// Handles a description of an own origin. A newer one than ours is from an earlier start with a clock that ran ahead, and would
    /// outrank us forever; or from another server with our name, with which epochs would race if both outbid each other at once.
    fn heard_of_own(&mut self, now: Duration, id: OriginId, value: &OriginValue) -> Result<(), TableError> {
        let Some(own) = self.own.get_mut(&id).filter(|own| value.epoch > own.value.epoch) else {
            return Ok(());
        };
        if own.outranked.replace(value.epoch).is_none() {
            own.refresh_at = now + refresh_of(&own.value);
            self.events.push_back(OriginEvent::Contested(id));
        }
        Ok(())
    }

    /// Refreshes own origins, and expires leases and hold times.
    ///
    /// # Errors
    /// [`TableError`] if the catalog refuses a record.
    pub fn handle_timeout(&mut self, now: Duration) -> Result<(), TableError> {
        let due: Vec<_> =
            self.own.iter().filter(|(_, own)| own.refresh_at <= now).map(|(id, _)| *id).collect();
        due.into_iter().try_for_each(|id| self.refresh(now, id))?;
        let hold = self.hold;
        let relayed = on(Mutation::RefreshRelayed);
        for (id, known) in self.known.iter_mut().filter(|_| relayed) {
            let OriginState::Live { until } = &mut known.state else { continue };
            if *until <= now {
                known.value.sequence += 1;
                *until = now + Duration::from_millis(known.value.lease_ms.into());
                let record = Change::Put(Key::Origin(*id), Value::Origin(Box::new(known.value.clone())));
                self.catalog.commit([record])?;
            }
        }
        let over = |state: OriginState| match state {
            OriginState::Live { until } if until <= now && !on(Mutation::DropLease) => {
                Some(OriginState::Stale { since: now })
            }
            OriginState::Loading { until } if until <= now => Some(OriginState::Expired { since: now }),
            OriginState::Stale { since } if since + hold <= now && !on(Mutation::KeepDeadOrigin) => {
                Some(OriginState::Expired { since: now })
            }
            _ => None,
        };
        let due: Vec<_> =
            self.known.iter().filter_map(|(id, known)| Some((*id, over(known.state)?))).collect();
        due.into_iter().try_for_each(|(id, state)| self.go(id, state))?;
        // Nobody else has it either by now. A server whose clock was set back could never be heard again otherwise.
        let forget = self.forget_after();
        self.known.retain(|_, known| match known.state {
            OriginState::Expired { since } => now < since + forget,
            _ => true,
        });
        Ok(())
    }

    /// How long an expired origin is remembered.
    fn forget_after(&self) -> Duration {
        (self.hold + LEASE) * REMEMBER
    }

    /// When [`Self::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Duration> {
        let known = self.known.values().filter_map(|known| match known.state {
            OriginState::Live { .. } if on(Mutation::DropLease) => None,
            OriginState::Live { until } | OriginState::Loading { until } => Some(until),
            OriginState::Stale { .. } if on(Mutation::KeepDeadOrigin) => None,
            OriginState::Stale { since } => Some(since + self.hold),
            OriginState::Expired { since } => Some(since + self.forget_after()),
        });
        self.own.values().map(|own| own.refresh_at).chain(known).min()
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<OriginEvent> {
        self.events.pop_front()
    }

    /// The table [`CATALOG`] for peers.
    pub fn catalog(&self) -> &Table {
        &self.catalog
    }

    /// The same, for records of other kinds in it, and for the server state machine.
    pub fn catalog_mut(&mut self) -> &mut Table {
        &mut self.catalog
    }

    /// State of an origin of another server.
    pub fn state(&self, id: OriginId) -> Option<OriginState> {
        self.known.get(&id).map(|known| known.state)
    }

    /// The newest description of an origin, own or not.
    pub fn describe(&self, id: OriginId) -> Option<&OriginValue> {
        self.own.get(&id).map(|own| &own.value).or_else(|| self.known.get(&id).map(|known| &known.value))
    }

    /// The origins of other servers.
    pub fn others(&self) -> impl Iterator<Item = (OriginId, &OriginValue, OriginState)> + '_ {
        self.known.iter().map(|(id, known)| (*id, &known.value, known.state))
    }

    fn go(&mut self, id: OriginId, state: OriginState) -> Result<(), TableError> {
        let Some(known) = self.known.get_mut(&id) else { return Ok(()) };
        let before = std::mem::replace(&mut known.state, state);
        let mut value = known.value.clone();
        value.stale = true;
        let passed_on = !matches!(state, OriginState::Expired { .. });
        self.publish(id, Some(&value).filter(|_| passed_on))?;
        self.tell(id, Some(before));
        Ok(())
    }

    fn tell(&mut self, id: OriginId, before: Option<OriginState>) {
        let Some(now) = self.state(id) else { return };
        if before.is_some_and(|before| std::mem::discriminant(&before) == std::mem::discriminant(&now)) {
            return;
        }
        self.events.extend(match now {
            OriginState::Loading { .. } => None,
            OriginState::Live { .. } => Some(OriginEvent::Live(id)),
            OriginState::Stale { .. } => Some(OriginEvent::Stale(id)),
            OriginState::Expired { .. } => Some(OriginEvent::Expired(id)),
        });
    }

    /// Whether one more origin can be added.
    fn make_room(&mut self) -> bool {
        if self.known.len() < MAX_ORIGINS {
            return true;
        }
        let expired = self.known.iter().filter_map(|(id, known)| match known.state {
            OriginState::Expired { since } => Some((since, *id)),
            _ => None,
        });
        expired.min().is_some_and(|(_, id)| self.known.remove(&id).is_some())
    }

    fn publish(&mut self, id: OriginId, value: Option<&OriginValue>) -> Result<(), TableError> {
        let key = Key::Origin(id);
        let change = match value {
            Some(value) => Change::Put(key, Value::Origin(Box::new(value.clone()))),
            None => Change::Delete(key),
        };
        self.catalog.commit([change]).map(|_| ())
    }
}

fn refresh_of(value: &OriginValue) -> Duration {
    Duration::from_millis(value.lease_ms.into()) / 3
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOLD: Duration = Duration::from_secs(10);

    fn s(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    fn value(epoch: u64, sequence: u64) -> OriginValue {
        OriginValue {
            name: "bgp".into(),
            server: "a".into(),
            epoch,
            sequence,
            ready: true,
            lease_ms: 3_000,
            stale: false,
        }
    }

    fn id() -> OriginId {
        OriginId::instance("a", "bgp")
    }

    fn events(o: &mut Origins) -> Vec<OriginEvent> {
        std::iter::from_fn(|| o.poll_event()).collect()
    }

    fn catalog(o: &Origins) -> Vec<OriginValue> {
        o.catalog()
            .others()
            .filter_map(|(_, v)| if let Value::Origin(v) = v { Some((**v).clone()) } else { None })
            .collect()
    }

    #[test]
    fn lease_lasts_as_long_as_new_sequences_come() {
        let mut o = Origins::new("b", 1, HOLD);
        for n in 1..20u32 {
            o.heard(s(f64::from(n)), &value(1, n.into())).unwrap();
            o.handle_timeout(s(f64::from(n))).unwrap();
        }
        assert_eq!(events(&mut o), [OriginEvent::Appeared(id()), OriginEvent::Live(id())]);
        assert_eq!(o.poll_timeout(), Some(s(22.0)));
        o.handle_timeout(s(22.0)).unwrap();
        assert_eq!(events(&mut o), [OriginEvent::Stale(id())]);
        assert!(catalog(&o)[0].stale);
        o.handle_timeout(s(32.0)).unwrap();
        assert_eq!(events(&mut o), [OriginEvent::Expired(id())]);
        assert!(catalog(&o).is_empty());
    }

    #[test]
    fn looped_description_refreshes_nothing_and_does_not_come_back() {
        let mut o = Origins::new("b", 1, HOLD);
        for n in 1..40u32 {
            // The same repeatedly, and an older one.
            o.heard(s(f64::from(n)), &value(5, 7)).unwrap();
            o.heard(s(f64::from(n)), &value(5, 6)).unwrap();
            o.handle_timeout(s(f64::from(n))).unwrap();
        }
        let all = [
            OriginEvent::Appeared(id()),
            OriginEvent::Live(id()),
            OriginEvent::Stale(id()),
            OriginEvent::Expired(id()),
        ];
        assert_eq!(events(&mut o), all);
        o.heard(s(50.0), &value(5, 8)).unwrap();
        assert_eq!(events(&mut o), [OriginEvent::Live(id())]);
        assert_eq!(catalog(&o), [value(5, 8)]);
    }

    #[test]
    fn newer_epoch_counts_whatever_its_sequence() {
        let mut o = Origins::new("b", 1, HOLD);
        o.heard(s(1.0), &value(5, 700)).unwrap();
        o.heard(s(2.0), &value(6, 1)).unwrap();
        o.heard(s(3.0), &value(5, 701)).unwrap();
        assert_eq!(o.describe(id()).map(|v| (v.epoch, v.sequence)), Some((6, 1)));
        assert_eq!(o.state(id()), Some(OriginState::Live { until: s(5.0) }));
    }

    #[test]
    fn restart_that_is_not_ready_yet_gives_the_old_routes_no_new_lease() {
        let mut o = Origins::new("b", 1, HOLD);
        o.heard(s(1.0), &value(5, 9)).unwrap();
        let loading = OriginValue { ready: false, ..value(6, 1) };
        o.heard(s(2.0), &loading).unwrap();
        assert_eq!(o.state(id()), Some(OriginState::Live { until: s(4.0) }));
        o.handle_timeout(s(4.0)).unwrap();
        o.heard(s(5.0), &OriginValue { sequence: 2, ..loading }).unwrap();
        assert_eq!(o.state(id()), Some(OriginState::Stale { since: s(4.0) }));
        o.heard(s(6.0), &value(6, 3)).unwrap();
        assert_eq!(o.state(id()), Some(OriginState::Live { until: s(9.0) }));
    }

    #[test]
    fn origin_that_never_gets_ready_is_forgotten_when_its_server_is_gone() {
        let mut o = Origins::new("b", 1, HOLD);
        o.heard(s(1.0), &OriginValue { ready: false, ..value(6, 1) }).unwrap();
        o.heard(s(2.0), &OriginValue { ready: false, ..value(6, 2) }).unwrap();
        o.handle_timeout(s(4.5)).unwrap();
        assert_eq!(o.state(id()), Some(OriginState::Loading { until: s(5.0) }));
        o.handle_timeout(s(5.0)).unwrap();
        assert_eq!(events(&mut o), [OriginEvent::Appeared(id()), OriginEvent::Expired(id())]);
        assert!(catalog(&o).is_empty());
        o.heard(s(6.0), &value(6, 3)).unwrap();
        assert_eq!(events(&mut o), [OriginEvent::Live(id())]);
    }

    #[test]
    fn server_whose_clock_was_set_back_is_heard_again_once_its_past_is_forgotten() {
        let mut o = Origins::new("b", 1, HOLD);
        o.heard(s(1.0), &value(5, 9)).unwrap();
        [4.0, 14.0].into_iter().for_each(|t| o.handle_timeout(s(t)).unwrap());
        o.heard(s(15.0), &value(4, 1)).unwrap();
        assert!(matches!(o.state(id()), Some(OriginState::Expired { .. })));
        o.handle_timeout(s(79.0)).unwrap();
        o.heard(s(79.1), &value(4, 70)).unwrap();
        assert_eq!(o.state(id()), Some(OriginState::Live { until: s(82.1) }));
    }

    #[test]
    fn one_that_starts_learns_a_stale_origin_as_stale() {
        let mut o = Origins::new("b", 1, HOLD);
        o.heard(s(1.0), &OriginValue { stale: true, ..value(5, 9) }).unwrap();
        assert_eq!(events(&mut o), [OriginEvent::Appeared(id()), OriginEvent::Stale(id())]);
        assert_eq!(o.poll_timeout(), Some(s(11.0)));
    }

    #[test]
    fn an_origin_that_its_own_server_calls_stale_stays_stale_and_is_live_again_when_it_says_so() {
        for hold in [Duration::ZERO, HOLD] {
            let (mut a, mut b) = (Origins::new("a", 5, hold), Origins::new("b", 1, hold));
            let own = a.add(s(0.0), "bgp", LEASE).unwrap();
            a.ready(s(0.0), own).unwrap();
            a.set_stale(s(0.5), own, true).unwrap();
            for n in 0..100 {
                let now = s(0.5 + f64::from(n));
                a.handle_timeout(now).unwrap();
                b.heard(now, &catalog(&a)[0]).unwrap();
                b.handle_timeout(now).unwrap();
                assert!(matches!(b.state(own), Some(OriginState::Stale { .. })) || n == 0, "{hold:?} {n}");
            }
            a.set_stale(s(100.0), own, false).unwrap();
            b.heard(s(100.0), &catalog(&a)[0]).unwrap();
            assert_eq!(b.state(own), Some(OriginState::Live { until: s(103.0) }));
            a.set_stale(s(101.0), own, true).unwrap();
            b.heard(s(101.0), &catalog(&a)[0]).unwrap();
            // Its server is gone now: lease and hold time.
            assert_eq!(b.poll_timeout(), Some(s(104.0) + hold));
        }
    }

    #[test]
    fn own_origins_are_refreshed_and_outrank_their_past() {
        let mut o = Origins::new("a", 5, HOLD);
        let own = o.add(s(0.0), "bgp", LEASE).unwrap();
        assert_eq!(own, id());
        o.ready(s(0.1), own).unwrap();
        o.handle_timeout(s(1.2)).unwrap();
        assert_eq!(catalog(&o), [value(5, 3)]);
        // From before a restart with a clock that was set back.
        o.heard(s(1.3), &value(900, 4)).unwrap();
        o.heard(s(1.4), &value(900, 4)).unwrap();
        assert_eq!(events(&mut o), [OriginEvent::Contested(own)]);
        assert_eq!(o.poll_timeout(), Some(s(2.3)));
        o.handle_timeout(s(2.3)).unwrap();
        assert_eq!(catalog(&o), [value(901, 4)]);
        o.heard(s(2.4), &value(901, 4)).unwrap();
        assert_eq!(catalog(&o), [value(901, 4)]);
        assert!(events(&mut o).is_empty());
        // An origin that we do not run must not be relayed by us.
        o.heard(s(1.5), &OriginValue { name: "old".into(), ..value(1, 1) }).unwrap();
        assert_eq!(catalog(&o).len(), 1);
    }

    #[test]
    fn origins_are_bounded_and_the_longest_expired_one_makes_room() {
        let mut o = Origins::new("b", 1, HOLD);
        let named = |n: usize| OriginValue { name: format!("o{n}"), ..value(1, 1) };
        (0..MAX_ORIGINS + 5).for_each(|n| o.heard(s(1.0), &named(n)).unwrap());
        assert_eq!(o.others().count(), MAX_ORIGINS);
        for t in [4.0, 14.0] {
            o.handle_timeout(s(t)).unwrap();
        }
        assert!(o.catalog().is_empty());
        o.heard(s(15.0), &named(999)).unwrap();
        assert_eq!((o.others().count(), o.catalog().len()), (MAX_ORIGINS, 1));
    }

    #[test]
    fn table_names_lead_back_to_their_origins() {
        assert_eq!(origin_of(&table_name(id())), Some(id()));
        for other in ["rib", "rib/", "fib", "rib/12", "rib/zzzzzzzzzzzzzzzz"] {
            assert_eq!(origin_of(other), None);
        }
    }
}
