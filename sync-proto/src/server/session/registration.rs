//! A client registers: permission, digest key and loops are checked before anything is made for it.

use std::time::Duration;

use super::super::types::ServerEvent;
use super::super::views::Wanted;
use super::{Session, SessionContext, SessionPhase, not_served, refused, state_of};
use crate::digest::{DigestKey, KeyId};
use crate::frame::{Frame, Role};
use crate::wire::ProtocolError;

impl Session {
    pub(super) fn register(
        &mut self,
        now: Duration,
        wanted: Wanted,
        role: Role,
        heartbeat: Duration,
        path: &[String],
        context: &mut SessionContext<'_>,
    ) -> Result<(), ProtocolError> {
        // Permission comes first: who has none learns nothing, costs nothing and replaces nothing.
        // What the server has only as a part is that table's whole.
        let part = wanted.subset != context.tables.subset(&wanted.table).cloned().unwrap_or_default();
        if let Some(permit) = &self.permit {
            permit.check(&self.name, &wanted.table, part).map_err(ProtocolError::NotAllowed)?;
        }
        let Some(served) = context.tables.served(&wanted.table) else {
            return Err(refused(format!("no table {} is served here", wanted.table)));
        };
        let key = self.digest_key(wanted.digest_key, context)?;
        if path.iter().any(|n| n == context.server) {
            return Err(refused(format!(
                "loop: the table of {} comes through {}: {}",
                self.name,
                context.server,
                path.join(" > ")
            )));
        }
        if served.path.contains(&self.name) && !context.tables.allow_loops(&wanted.table) {
            return Err(refused(format!(
                "loop: the table of {} comes through {}: {}",
                context.server,
                self.name,
                served.path.join(" > ")
            )));
        }
        context.views.open(&wanted, &self.name, key, context.tables, now)?;
        let state = state_of(&self.name, &wanted, context.tables, context.views)
            .ok_or_else(|| not_served(&wanted))?;
        self.out.frame(&Frame::Welcome(state));
        let table = wanted.table.clone();
        self.wanted = wanted;
        self.role = role;
        self.heartbeat = heartbeat;
        self.next_heartbeat = now + self.heartbeat.min(context.room.limits.progress / 4);
        self.phase = SessionPhase::Standby;
        let (session, name) = (context.id, self.name.clone());
        context.events.push_back(ServerEvent::Registered { session, name, table, part, role });
        Ok(())
    }

    /// The digest key that the client uses. Without it every digest would be another.
    fn digest_key(&self, id: KeyId, context: &SessionContext<'_>) -> Result<DigestKey, ProtocolError> {
        context.digest_keys.find(id).ok_or_else(|| {
            refused(format!(
                "{} uses digest key {id}, but {} has {}: give both the same node.digest_key file",
                self.name, context.server, context.digest_keys
            ))
        })
    }
}
