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

mod own;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::change::Change;
use crate::mutation::{Mutation, on};
use crate::record::{Key, OriginId, OriginValue, Value};
use crate::table::{Table, TableError};
use own::Own;

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

#[cfg(test)]
mod tests;
