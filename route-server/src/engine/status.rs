//! What an operator sees of the tables, sources and peers.

use fibcast_control::protocol::RouteQuery;
use fibcast_control::status::{PeerStatus, SourceStatus, TableStatus};
use fibcast_control::tables::{GroupList, RouteList};
use fibcast_sync_agent::agent::show;
use fibcast_sync_proto::Table;

use super::peers::Phase;
use super::{Engine, contenders};

impl Engine {
    /// Name of this server.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The forwarding table in figures.
    pub fn table_status(&self) -> TableStatus {
        show::table_status(&self.fib, self.changes)
    }

    /// Each source.
    pub fn source_status(&self) -> Vec<SourceStatus> {
        let status = |source: &super::Source| SourceStatus {
            origin: source.value.name.clone(),
            kind: source.kind.to_owned(),
            state: match (source.end_of_table, source.finished, &source.error, &source.report) {
                (_, _, Some(_), _) => "failed",
                (_, _, None, Some(report)) => report.state,
                (false, ..) => "loading",
                (true, false, ..) => "live",
                (true, true, ..) => "finished",
            }
            .to_owned(),
            routes: source.routes,
            changes: source.changes,
            end_of_table: source.end_of_table,
            last_error: source.error.clone().or_else(|| source.report.as_ref()?.last_error.clone()),
            counters: source
                .report
                .iter()
                .flat_map(|r| &r.counters)
                .map(|(n, v)| ((*n).to_owned(), *v))
                .collect(),
        };
        self.sources.iter().map(status).collect()
    }

    /// Each peer, as far as its routes are concerned; the session's owner adds name and state of the session.
    pub fn peer_status(&self, copies: &[&Table]) -> Vec<PeerStatus> {
        let status = |(peer, copy): (&super::Peer, &&Table)| PeerStatus {
            address: peer.address.clone(),
            name: peer.origins.values().next().map(|origin| origin.server.clone()),
            state: match peer.phase {
                Phase::Waiting => "waiting",
                Phase::Live => "in sync",
                Phase::Stale { .. } => "stale",
                Phase::Expired => "expired",
            }
            .to_owned(),
            origins: peer.origins.values().map(|origin| origin.name.clone()).collect(),
            routes: if peer.counts() { copy.counts().routes() } else { 0 },
            stale: matches!(peer.phase, Phase::Stale { .. }),
            last_error: None,
        };
        self.peers.iter().zip(copies).map(status).collect()
    }

    /// Routes that an operator asked for, each with the origin it is from.
    pub fn routes(&self, query: &RouteQuery, limit: usize, copies: &[&Table]) -> RouteList {
        let contenders = contenders(&self.own, &self.sources, &self.peers, copies);
        let mut list = show::routes(&self.fib, query, limit);
        for route in &mut list.routes {
            let best = contenders.best(route.vrf, route.prefix);
            route.origin = best.map(|(_, of)| of.origin.name.clone());
        }
        list
    }

    /// All groups in the forwarding table.
    pub fn groups(&self) -> GroupList {
        show::groups(&self.fib)
    }
}
