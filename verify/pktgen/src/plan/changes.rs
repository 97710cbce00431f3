//! Changes of next hops: by route, to judge a packet; in order of time, to test what has just changed.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::gateways::Gateways;
use super::oracle::Oracle;
use super::{Flow, PlanError};
use crate::neighbor::Link;

/// A change of next hop, with the time at which its source makes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Update {
    pub due_ns: u64,
    pub prefix: IpNet,
    pub gateway: IpAddr,
}

/// Next-hop changes that are announced on the control socket when they happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Set {
    pub name: String,
    pub routes: Vec<(IpNet, IpAddr)>,
}

#[derive(Debug, Clone, Copy)]
pub struct Change {
    pub due_ns: u64,
    pub gateway: u32,
}

/// What is known before the start, by the numbers of routes and next hops.
#[derive(Debug, Default)]
struct Known {
    /// `changes[start[r]..start[r + 1]]` are those of route r, in order of time.
    start: Vec<u32>,
    changes: Vec<Change>,
    sets: Vec<(String, Vec<(u32, u32)>)>,
}

impl Known {
    fn range(&self, route: u32) -> std::ops::Range<usize> {
        let at = |route: usize| self.start.get(route).map_or(0, |&at| at as usize);
        at(route as usize)..at(route as usize + 1)
    }

    fn of(&self, route: u32) -> &[Change] {
        self.changes.get(self.range(route)).unwrap_or_default()
    }
}

/// All changes, with the flows of one plan that they concern.
#[derive(Debug, Default)]
pub struct Changes {
    known: Arc<Known>,
    /// Changes of sets, by route, in order of time.
    announced: HashMap<u32, Vec<Change>>,
    /// The time of each change over all routes, in order, with a flow of the route, if any.
    due: Vec<(u64, Option<u32>)>,
    /// A flow of each route, for sets.
    flow_of: HashMap<u32, u32>,
}

impl Changes {
    pub fn new(
        updates: &[Update],
        sets: &[Set],
        oracle: &Oracle,
        gateways: &mut Gateways,
        links: &[Link],
        routes: usize,
    ) -> Result<Self, PlanError> {
        let mut numbers = |prefix: IpNet, gateway: IpAddr| {
            let route = oracle.exact(prefix).ok_or(PlanError::UnknownPrefix(prefix))?;
            Ok((route, gateways.number(prefix, gateway, links)?))
        };
        let mut all = Vec::with_capacity(updates.len());
        for update in updates {
            let (route, gateway) = numbers(update.prefix, update.gateway)?;
            all.push((route, Change { due_ns: update.due_ns, gateway }));
        }
        all.sort_by_key(|(route, change)| (*route, change.due_ns));
        let mut start = Vec::with_capacity(routes + 1);
        let mut next = 0_usize;
        for route in 0..=routes as u32 {
            while all.get(next).is_some_and(|(of, _)| *of < route) {
                next += 1;
            }
            start.push(next as u32);
        }
        let mut numbered = Vec::with_capacity(sets.len());
        for set in sets {
            let routes = set.routes.iter().map(|&(prefix, gateway)| numbers(prefix, gateway));
            numbered.push((set.name.clone(), routes.collect::<Result<_, _>>()?));
        }
        let changes = all.into_iter().map(|(_, change)| change).collect();
        let known = Arc::new(Known { start, changes, sets: numbered });
        Ok(Self { known, ..Self::default() })
    }

    /// The same changes with other flows.
    pub fn with_flows(&self, flows: &[Flow]) -> Self {
        let known = self.known.clone();
        let mut due: Vec<_> = known.changes.iter().map(|change| (change.due_ns, None)).collect();
        for (number, flow) in (0..).zip(flows) {
            for (_, of) in due.get_mut(known.range(flow.route)).unwrap_or_default() {
                *of = Some(number);
            }
        }
        due.sort_unstable();
        let mut flow_of = HashMap::new();
        if !known.sets.is_empty() {
            flow_of.extend((0..).zip(flows).map(|(number, flow)| (flow.route, number)));
        }
        Self { known, announced: HashMap::new(), due, flow_of }
    }

    /// Those of a route, in order of time.
    #[inline]
    pub fn of(&self, route: u32) -> impl Iterator<Item = Change> {
        let (mut known, mut announced) = (&[][..], &[][..]);
        if !self.due.is_empty() {
            known = self.known.of(route);
            announced = self.announced.get(&route).map_or(announced, Vec::as_slice);
        }
        std::iter::from_fn(move || {
            let from = match (known.first(), announced.first()) {
                (Some(one), Some(other)) if one.due_ns <= other.due_ns => &mut known,
                (Some(_), None) => &mut known,
                _ => &mut announced,
            };
            let (&next, rest) = from.split_first()?;
            *from = rest;
            Some(next)
        })
    }

    /// How many are due by now.
    pub fn due(&self, now_ns: u64) -> usize {
        self.due.partition_point(|&(due_ns, _)| due_ns <= now_ns)
    }

    /// Time of the n-th change, and a flow that it concerns, if any.
    #[inline]
    pub fn nth(&self, number: usize) -> Option<(u64, Option<u32>)> {
        self.due.get(number).copied()
    }

    /// The routes of a set get its next hops from now on; returns their number, or none if there is no such set.
    pub fn announce(&mut self, name: &str, now_ns: u64) -> Option<usize> {
        let known = self.known.clone();
        let (_, routes) = known.sets.iter().find(|(known, _)| known == name)?;
        let at = self.due(now_ns);
        for &(route, gateway) in routes {
            self.announced.entry(route).or_default().push(Change { due_ns: now_ns, gateway });
        }
        let due = routes.iter().map(|(route, _)| (now_ns, self.flow_of.get(route).copied()));
        self.due.splice(at..at, due);
        Some(routes.len())
    }
}
