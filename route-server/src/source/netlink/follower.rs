//! Mirrors of a kernel table: one for each metric, of which the lowest wins. No socket, no clock.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use fibcast_netlink::{Family, Malformed, Message, NextHop, Route, Target, flag, kind};
use ipnet::IpNet;

use crate::source::mirror::{EndOfTable, Figures, How, Links, Mirror, Policy};
use crate::source::outlet::RouteChange;

/// Most metrics in a table; a daemon uses one or two.
const METRICS: usize = 64;

/// The kernel's table.
#[derive(Debug)]
pub struct Follower {
    origin: String,
    policy: Policy,
    /// By metric. The kernel uses the route with the lowest.
    mirrors: BTreeMap<u32, Mirror>,
    end: EndOfTable,
    route: Route,
    /// What was wrong with the last malformed message.
    complaint: Option<String>,
    /// A complete dump was read, ever.
    ended: bool,
    /// A complete dump was read since the last loss of messages.
    whole: bool,
    /// A change that messages alone cannot follow: dump again soon.
    doubt: bool,
    /// Interfaces as they were last heard of.
    links: Links,
    /// Several routes with the same prefix and metric were seen.
    queues: bool,
    messages: u64,
    malformed: u64,
    too_many_metrics: u64,
    dumps: u64,
    swept: u64,
}

impl Follower {
    /// Without any knowledge.
    pub fn new(origin: &str, policy: Policy, quiet: Duration) -> Self {
        Self {
            origin: origin.to_owned(),
            policy,
            mirrors: BTreeMap::new(),
            end: EndOfTable::new(How::Quiet, quiet),
            route: Route::default(),
            complaint: None,
            ended: false,
            whole: false,
            doubt: false,
            links: Links::default(),
            queues: false,
            messages: 0,
            malformed: 0,
            too_many_metrics: 0,
            dumps: 0,
            swept: 0,
        }
    }

    /// What was wrong with the last malformed message since the last call; `messages_malformed` counts them.
    pub fn poll_complaint(&mut self) -> Option<String> {
        self.complaint.take()
    }

    /// Takes routes by another policy; a dump tells which.
    pub fn follow(&mut self, policy: Policy) {
        self.mirrors.values_mut().for_each(|mirror| mirror.follow(policy.clone()));
        self.policy = policy;
        self.whole = false;
    }

    /// Every route is among the next changes, also one that has not changed.
    pub fn announce_again(&mut self) {
        self.mirrors.values_mut().for_each(Mirror::announce_again);
    }

    /// A dump begins: what it does not contain will be swept.
    pub fn dump_begins(&mut self, now: Instant) {
        (self.whole, self.doubt, self.queues) = (false, false, false);
        self.mirrors.values_mut().for_each(Mirror::begin);
        self.dumps += 1;
        if self.dumps == 1 {
            self.end.begin(now, &self.figures());
        }
    }

    /// The dump was complete, and the messages that arrived meanwhile were read.
    pub fn dump_ended(&mut self) {
        (self.whole, self.ended) = (true, true);
        let swept: u64 = self.mirrors.values_mut().map(Mirror::sweep).sum();
        self.swept += swept;
        tracing::debug!("source {:?}: table read, {swept} routes withdrawn", self.origin);
    }

    /// A message of the kernel, of a dump or a notification.
    pub fn hear(&mut self, message: &Message<'_>, dump: bool) {
        self.messages += 1;
        if let Err(Malformed { at, reason }) = self.message(message, dump) {
            self.malformed += 1;
            self.complaint = Some(format!("byte {at} of the kernel's message: {reason}; skipped"));
        }
    }

    fn message(&mut self, message: &Message<'_>, dump: bool) -> Result<(), Malformed> {
        match message.kind {
            kind::NEW_ROUTE | kind::DEL_ROUTE => {
                let mut route = std::mem::take(&mut self.route);
                let done = route.read(message).map(|is_route| {
                    if is_route {
                        self.route(message, &route, dump);
                    }
                });
                self.route = route;
                done?;
            }
            kind::NEW_NEXTHOP => {
                let object = NextHop::read(message)?;
                // Objects are shared by routes of all metrics.
                self.first_mirror();
                for mirror in self.mirrors.values_mut() {
                    mirror.define(object.id, object.definition.clone());
                }
            }
            kind::DEL_NEXTHOP => {
                let id = NextHop::read(message)?.id;
                // The kernel removes the routes with it, without a notification.
                self.mirrors.values_mut().for_each(|mirror| mirror.undefine(id, true));
            }
            // IPv4 routes over a link that goes down, or from a deleted address, are removed without a notification.
            kind::DEL_ADDRESS => self.doubt = true,
            // An IPv4 address brings dead next hops of its interface back to life, without a notification (`fib_sync_up`).
            kind::NEW_ADDRESS => self.doubt |= message.body.first() == Some(&(Family::Ipv4 as u8)),
            kind::NEW_LINK | kind::DEL_LINK => {
                let changed = self.links.hear(message).is_some();
                self.doubt |= changed || message.kind == kind::DEL_LINK;
            }
            _ => {}
        }
        Ok(())
    }

    fn first_mirror(&mut self) -> &mut Mirror {
        let policy = &self.policy;
        self.mirrors.entry(0).or_insert_with(|| Mirror::new(policy.clone()))
    }

    fn route(&mut self, message: &Message<'_>, route: &Route, dump: bool) {
        // A route of another table or protocol is ignored silently: a host has many.
        let Ok(vrf) = self.policy.vrf(route.table) else { return };
        // A route for some packets only exists next to the one for all.
        if self.policy.protocol(route.protocol).is_err() || self.policy.all_packets(route).is_err() {
            return;
        }
        let new = message.kind == kind::NEW_ROUTE;
        if !self.mirrors.contains_key(&route.metric) {
            if !new {
                return;
            }
            if self.mirrors.len() >= METRICS {
                self.too_many_metrics += 1;
                return;
            }
            let mut mirror = Mirror::new(self.policy.clone());
            if let Some(first) = self.mirrors.values().next() {
                mirror.adopt_objects(first);
            }
            self.mirrors.insert(route.metric, mirror);
        }
        let Some(mirror) = self.mirrors.get_mut(&route.metric) else { return };
        let known = mirror.fresh_hops(vrf, route.prefix);
        let ipv4 = matches!(route.prefix, IpNet::V4(_));
        if new {
            // IPv4 routes with equal prefix and metric are queued and the first one is used; a dump lists the first one first.
            // IPv6 routes with equal prefix and metric are one route, and each message lists all of its next hops.
            let queued = ipv4 && known.is_some() && message.flags & flag::REPLACE == 0;
            self.queues |= queued;
            if queued && (dump || message.flags & flag::APPEND != 0) {
                return;
            }
            mirror.set(vrf, route, true);
            return;
        }
        if ipv4 && self.queues {
            self.doubt = true;
        }
        let part = !ipv4 && route.target == Target::Hops && known.is_some_and(|n| n > route.hops.len());
        if part {
            // One of its next hops was removed; a dump shows the remaining ones.
            self.doubt = true;
        } else {
            mirror.remove(vrf, route.prefix);
        }
    }

    /// Messages were lost, or a change cannot be followed: a dump is needed.
    pub fn needs_dump(&self) -> bool {
        !self.whole || self.doubt
    }

    /// The kernel dropped messages.
    pub fn lost(&mut self) {
        self.whole = false;
    }

    /// True once: the table is complete, and the end of the table follows the current changes.
    pub fn turn(&mut self, now: Instant) -> bool {
        self.whole && self.end.reached(now, &self.figures()).is_some()
    }

    /// Net changes for the RIB, about `limit` at most; empty if there are none.
    pub fn changes(&mut self, now: Instant, limit: usize) -> Vec<RouteChange> {
        let mut changes = Vec::new();
        let several = self.mirrors.len() > 1;
        for mirror in self.mirrors.values_mut() {
            changes.append(&mut mirror.turn(now));
            changes.append(&mut mirror.changes(limit.saturating_sub(changes.len())));
        }
        if several {
            for change in &mut changes {
                let in_rib =
                    self.mirrors.values().find_map(|mirror| mirror.in_rib(change.vrf, change.prefix));
                change.path = in_rib;
            }
        }
        changes
    }

    fn figures(&self) -> Figures {
        self.mirrors.values().map(Mirror::figures).sum()
    }

    /// Whether a complete dump was read, ever, and a quiet time followed it.
    pub fn is_complete(&self) -> bool {
        self.ended && !self.end.waits()
    }

    /// State as one word.
    pub fn state(&self) -> &'static str {
        match (self.whole, self.end.waits()) {
            (false, _) => "reading",
            (true, true) => "loading",
            (true, false) => "live",
        }
    }

    /// Names and values for status and metrics.
    pub fn counters(&self) -> Vec<(&'static str, u64)> {
        let mut counters = vec![
            ("dumps", self.dumps),
            ("messages", self.messages),
            ("messages_malformed", self.malformed),
            ("routes_swept", self.swept),
            ("skipped_too_many_metrics", self.too_many_metrics),
        ];
        let mut sums: Vec<(&'static str, u64)> = Vec::new();
        for mirror in self.mirrors.values() {
            for (name, value) in mirror.counters() {
                match sums.iter_mut().find(|(known, _)| *known == name) {
                    Some((_, sum)) => *sum += value,
                    None => sums.push((name, value)),
                }
            }
        }
        counters.append(&mut sums);
        counters
    }
}
