//! What operators see of tables, sources, peers and origins.

use std::time::Duration;

use fibcast_control::status::{OriginStatus, PeerStatus, SourceStatus, TableStatus};
use fibcast_control::tables::GroupList;
use fibcast_sync_agent::agent::show;
use fibcast_sync_proto::origins::OriginState;
use fibcast_sync_proto::{OriginId, OriginValue};

use super::remote_origins::{Eligibility, conflict};
use super::{Engine, PRESENCE};

impl Engine {
    /// Name of this server.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The forwarding table in figures.
    pub(crate) fn table_status(&self) -> TableStatus {
        show::table_status(&self.fib, self.changes)
    }

    /// Each source.
    pub(crate) fn source_status(&self) -> Vec<SourceStatus> {
        let status = |source: &super::Source| SourceStatus {
            origin: source.name.clone(),
            kind: source.kind.to_owned(),
            state: match (source.end_of_table, source.finished, &source.error, &source.report) {
                _ if source.gate.is_stopped() => "stopped",
                (_, _, Some(_), _) => "failed",
                (_, _, None, Some(report)) if !report.state.is_empty() => report.state,
                (false, ..) => "loading",
                (true, false, ..) => "live",
                (true, true, ..) => "finished",
            }
            .to_owned(),
            routes: source.table.counts().routes(),
            changes: source.changes,
            end_of_table: source.end_of_table,
            end_of_table_by: end_of_table_by(source).map(str::to_owned),
            denied: source.gate.denied(),
            max_prefixes: source.gate.max_prefixes(),
            last_error: source.error.clone().or_else(|| source.report.as_ref()?.last_error.clone()),
            counters: source
                .report
                .iter()
                .flat_map(|r| &r.counters)
                .map(|(n, v)| ((*n).to_owned(), *v))
                .collect(),
        };
        self.sources.iter().filter(|source| source.removed.is_none()).map(status).collect()
    }

    /// Each peer, with the origins beside it; the session's owner adds what the session says.
    pub(crate) fn peer_status(&self) -> Vec<PeerStatus> {
        self.peers.iter().map(|peer| self.one_peer(peer)).collect()
    }

    fn one_peer(&self, peer: &super::Peer) -> PeerStatus {
        let beside = self.remotes.iter().filter(|(_, other)| Some(&other.server) == peer.name.as_ref());
        let counting = || beside.clone().filter(|(_, other)| other.eligibility != Eligibility::Ineligible);
        let stale = peer.synced_once && !peer.synced && counting().next().is_some();
        PeerStatus {
            address: peer.address.clone(),
            name: peer.name.clone(),
            state: match (peer.synced, peer.synced_once) {
                (true, _) => "in sync",
                (false, false) => "waiting",
                (false, true) if stale => "stale",
                (false, true) => "lost",
            }
            .to_owned(),
            origins: beside
                .clone()
                .filter_map(|(id, _)| self.origins.describe(*id).map(|value| value.name.clone()))
                .collect(),
            routes: counting().map(|(_, other)| other.table.counts().routes()).sum(),
            stale,
            last_error: None,
        }
    }

    /// Status of each origin, own ones first.
    pub fn origin_status(&self, now: Duration) -> Vec<OriginStatus> {
        let at_work = self.sources.iter().filter(|source| source.removed.is_none());
        let own = at_work.filter_map(|source| {
            let value = self.origins.describe(source.id)?;
            let state = match (value.ready, value.stale) {
                (false, _) => "loading",
                (true, true) => "stale",
                (true, false) => "live",
            };
            Some(OriginStatus {
                routes: source.table.counts().routes(),
                eligibility: if source.liveness.stale { "stale" } else { "live" }.to_owned(),
                ..self.one_origin(source.id, value, state, None)
            })
        });
        let others = self.origins.others().filter(|(_, value, _)| value.name != PRESENCE);
        let others = others.map(|(id, value, state)| {
            let (state, until) = match state {
                OriginState::Loading { until } => ("loading", Some(until)),
                OriginState::Live { until } => ("live", Some(until)),
                OriginState::Stale { since } => ("stale", Some(since + self.hold)),
                OriginState::Expired { .. } => ("expired", None),
            };
            let shown = self.one_origin(id, value, state, until.map(|until| until.saturating_sub(now)));
            let Some(other) = self.remotes.get(&id) else { return shown };
            let eligibility = match other.eligibility {
                Eligibility::Live => "live",
                Eligibility::Stale => "stale",
                Eligibility::Ineligible => "ineligible",
            };
            OriginStatus {
                eligibility: eligibility.to_owned(),
                routes: other.table.counts().routes(),
                path: other.path.clone(),
                ..shown
            }
        });
        own.chain(others).collect()
    }

    fn one_origin(
        &self,
        id: OriginId,
        value: &OriginValue,
        state: &str,
        left: Option<Duration>,
    ) -> OriginStatus {
        let namesake = self.namesake(id, value).filter(|_| state != "expired");
        OriginStatus {
            name: value.name.clone(),
            server: value.server.clone(),
            id: id.to_string(),
            epoch: value.epoch,
            sequence: value.sequence,
            state: state.to_owned(),
            eligibility: "ineligible".to_owned(),
            routes: 0,
            lease_left_ms: left.map(|left| left.as_millis() as u64),
            path: Vec::new(),
            conflict: namesake.map(|server| conflict(&value.name, &server, &value.server)),
        }
    }

    /// All groups in the forwarding table.
    pub(crate) fn groups(&self) -> GroupList {
        show::groups(&self.fib)
    }
}

/// What says that a source's table is complete, or why it is used without that.
fn end_of_table_by(source: &super::Source) -> Option<&'static str> {
    match &source.report {
        Some(report) if report.end_of_table.is_some() => report.end_of_table,
        None if source.end_of_table => Some("file"),
        _ if source.whole && !source.end_of_table => Some("timeout"),
        _ => None,
    }
}
