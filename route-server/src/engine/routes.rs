//! The routes as operators page through them: the best one of each destination, or all with what decided.

use std::net::IpAddr;
use std::time::Duration;

use fibcast_control::protocol::RouteRequest;
use fibcast_control::tables::{Choice, Route, RouteList};
use fibcast_daemon::routes::{RouteTable, page};
use fibcast_sync_agent::agent::show;
use fibcast_sync_proto::ages::Ages;
use fibcast_sync_proto::{Key, Label, OriginId};
use ipnet::IpNet;

use super::{Engine, contenders};
use crate::rib::{Contenders, Rank};

impl Engine {
    /// A page of routes for an operator.
    pub fn routes(&self, now: Duration, request: &RouteRequest) -> RouteList {
        let contenders = contenders(&self.sources, &self.remotes);
        page(&Routes { engine: self, contenders, now, all: request.all }, request)
    }

    /// Notes when the tables reached their serials.
    pub(super) fn note_ages(&mut self, now: Duration) {
        self.ages.note(self.fib.serial(), now);
        self.sources.iter_mut().for_each(|source| source.ages.note(source.table.serial(), now));
        self.remotes.values_mut().for_each(|remote| remote.ages.note(remote.table.serial(), now));
    }

    fn ages_of(&self, id: OriginId) -> Option<&Ages> {
        let own = self.sources.iter().find(|source| source.id == id).map(|source| &source.ages);
        own.or_else(|| self.remotes.get(&id).map(|remote| &remote.ages))
    }
}

struct Routes<'e> {
    engine: &'e Engine,
    contenders: Contenders<'e>,
    now: Duration,
    all: bool,
}

impl Routes<'_> {
    fn name(&self, origin: OriginId) -> Option<&str> {
        self.engine.origins.describe(origin).map(|value| value.name.as_str())
    }

    /// Each origin's route, the best first, and why it is.
    fn ranked(&self, vrf: u32, prefix: IpNet) -> Vec<Route> {
        let mut all: Vec<_> = self.contenders.each(vrf, prefix).collect();
        all.sort_by_key(|(rank, ..)| *rank);
        let ranks: Vec<Rank> = all.iter().map(|(rank, ..)| *rank).collect();
        let decided = |at: usize| match (at, ranks.get(at.saturating_sub(1)), ranks.get(at.max(1))) {
            (0, _, None) => "only route",
            (_, Some(better), Some(worse)) => better.won_by(worse),
            _ => "",
        };
        let route = |(at, (rank, label, of)): (usize, &(Rank, Label, _))| {
            let of: &&crate::rib::Contender<'_> = of;
            let value = self.engine.origins.describe(rank.origin);
            let key = Key::RibRoute { origin: rank.origin, vrf, prefix };
            let ages = self.engine.ages_of(rank.origin);
            Route {
                vrf,
                prefix,
                label: label.to_string(),
                via: show::via(of.table, *label),
                origin: value.map(|value| value.name.clone()),
                age_ms: ages.and_then(|ages| show::age_ms(of.table, &key, ages, self.now)),
                choice: Some(Choice {
                    best: at == 0,
                    server: value.map(|value| value.server.clone()).unwrap_or_default(),
                    distance: rank.distance,
                    metric: rank.metric,
                    origin_id: rank.origin.to_string(),
                    stale: rank.stale,
                    decided_by: decided(at).to_owned(),
                }),
            }
        };
        all.iter().enumerate().map(route).collect()
    }
}

impl RouteTable for Routes<'_> {
    type Label = Label;

    fn vrfs(&self) -> impl Iterator<Item = u32> {
        self.engine.fib.vrfs()
    }

    fn total(&self) -> u64 {
        self.engine.fib.counts().routes()
    }

    fn get(&self, vrf: u32, prefix: IpNet) -> Option<Label> {
        show::route(&self.engine.fib, vrf, prefix)
    }

    fn longest_match(&self, vrf: u32, address: IpAddr) -> Option<(IpNet, Label)> {
        self.engine.fib.longest_match(vrf, address)
    }

    fn after(&self, vrf: u32, prefix: Option<IpNet>) -> impl Iterator<Item = (IpNet, Label)> {
        self.engine.fib.routes_of(vrf, prefix)
    }

    /// Of the best route.
    fn has_gateway(&self, label: Label, gateway: IpAddr) -> bool {
        show::has_gateway(&self.engine.fib, label, gateway)
    }

    /// The best one; where all are shown, any.
    fn is_from(&self, vrf: u32, prefix: IpNet, origin: &str) -> bool {
        let is = |id| self.name(id) == Some(origin);
        if self.all {
            return self.contenders.each(vrf, prefix).any(|(rank, ..)| is(rank.origin));
        }
        self.contenders.best(vrf, prefix).is_some_and(|(_, of)| is(of.id))
    }

    fn show(&self, vrf: u32, prefix: IpNet, label: Label) -> Vec<Route> {
        if self.all {
            return self.ranked(vrf, prefix);
        }
        let (fib, ages) = (&self.engine.fib, &self.engine.ages);
        let best = self.contenders.best(vrf, prefix);
        vec![Route {
            vrf,
            prefix,
            label: label.to_string(),
            via: show::via(fib, label),
            origin: best.and_then(|(_, of)| Some(self.name(of.id)?.to_owned())),
            age_ms: show::age_ms(fib, &Key::Route { vrf, prefix }, ages, self.now),
            choice: None,
        }]
    }
}
