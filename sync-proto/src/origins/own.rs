//! The origins of this server: each has a lease that only this server refreshes.

use std::time::Duration;

use super::{LEASES, OriginEvent, Origins};
use crate::record::{OriginId, OriginValue};
use crate::table::TableError;

#[derive(Debug)]
pub(super) struct Own {
    pub value: OriginValue,
    pub refresh_at: Duration,
    /// An epoch newer than ours that others relay.
    outranked: Option<u64>,
    /// It is announced no more. It is remembered, because a later one of its name must be newer.
    removed: bool,
}

impl Origins {
    /// Adds an origin of this server, or one again that was removed, whose table is not complete yet.
    ///
    /// # Errors
    /// [`TableError`] if the catalog refuses the record, for instance because of the name.
    pub fn add(&mut self, now: Duration, name: &str, lease: Duration) -> Result<OriginId, TableError> {
        let id = OriginId::instance(&self.server, name);
        let lease_ms =
            u32::try_from(lease.as_millis()).unwrap_or(u32::MAX).clamp(*LEASES.start(), *LEASES.end());
        let before = self.own.get(&id).map(|own| (own.value.epoch, own.value.sequence));
        let (epoch, sequence) = before.unwrap_or((self.catalog.epoch(), 0));
        let value = OriginValue {
            name: name.to_owned(),
            server: self.server.clone(),
            epoch,
            sequence: sequence + 1,
            ready: false,
            lease_ms,
            stale: false,
        };
        self.publish(id, Some(&value))?;
        let refresh_at = now + refresh_of(&value);
        self.own.insert(id, Own { value, refresh_at, outranked: None, removed: false });
        Ok(id)
    }

    /// Removes an own origin: other servers keep it for the rest of its lease and the hold time.
    ///
    /// # Errors
    /// [`TableError`] if the catalog refuses the change.
    pub fn remove(&mut self, id: OriginId) -> Result<(), TableError> {
        let Some(own) = self.own.get_mut(&id) else { return Ok(()) };
        (own.removed, own.refresh_at) = (true, Duration::MAX);
        self.publish(id, None)
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
    pub(super) fn refresh(&mut self, now: Duration, id: OriginId) -> Result<(), TableError> {
        let Some(own) = self.own.get_mut(&id).filter(|own| !own.removed) else { return Ok(()) };
        own.value.sequence += 1;
        if let Some(theirs) = own.outranked.take() {
            own.value.epoch = theirs.saturating_add(1);
        }
        own.refresh_at = now + refresh_of(&own.value);
        let value = own.value.clone();
        self.publish(id, Some(&value))
    }

    /// Handles a description of an own origin. A newer one than ours is from an earlier start with a clock that ran ahead, and would
    /// outrank us forever; or from another server with our name, with which epochs would race if both outbid each other at once.
    pub(super) fn heard_of_own(
        &mut self,
        now: Duration,
        id: OriginId,
        value: &OriginValue,
    ) -> Result<(), TableError> {
        let Some(own) = self.own.get_mut(&id).filter(|own| value.epoch > own.value.epoch && !own.removed)
        else {
            return Ok(());
        };
        if own.outranked.replace(value.epoch).is_none() {
            own.refresh_at = now + refresh_of(&own.value);
            self.events.push_back(OriginEvent::Contested(id));
        }
        Ok(())
    }
}

fn refresh_of(value: &OriginValue) -> Duration {
    Duration::from_millis(value.lease_ms.into()) / 3
}
