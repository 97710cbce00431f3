//! Two engines that give each other their own tables: same routes, same forwarding table, loss and return of a peer.

use std::net::IpAddr;

use fibcast_sync_proto::GroupValue;

use super::*;
use crate::config::{Checked, Config, SourcePlan};
use crate::source::{Group, Kind, RouteChange, fixed};

/// An engine, and its copy of the other one's `rib` table.
struct Node {
    engine: Engine,
    copy: Table,
    at: u64,
}

impl Node {
    fn new(name: &str, origin: &str, distance: u8, now: Instant) -> Self {
        let text = format!(
            "[node]\nname = \"{name}\"\n[rib]\norigin_hold_ms = 1000\nready_timeout_ms = 60000\n[[peer]]\naddress = \"127.0.0.1:1\"\n"
        );
        let config: Config = fibcast_daemon::config::parse("x".as_ref(), text).unwrap().value;
        let kind = Kind::Static(fixed::Options { path: "x".into(), vrf: 0 });
        let sources = vec![SourcePlan { origin: origin.to_owned(), distance, kind }];
        let engine = Engine::new(&Checked { config, sources }, 1, now).unwrap();
        Node { engine, copy: Table::new(0), at: 0 }
    }

    fn say(&mut self, event: Event) {
        self.engine.source_said(Message { source: 0, event }, &[&self.copy]).unwrap();
    }

    fn announce(&mut self, prefix: &str, via: &str) {
        let path = Some((Group::new(GroupValue::via(via.parse::<IpAddr>().unwrap())), 0));
        self.say(Event::Batch(vec![RouteChange { vrf: 0, prefix: prefix.parse().unwrap(), path }]));
    }

    fn withdraw(&mut self, prefix: &str) {
        self.say(Event::Batch(vec![RouteChange { vrf: 0, prefix: prefix.parse().unwrap(), path: None }]));
    }

    /// Brings the copy up to date with what the other has, as the sync machines do.
    fn pull(&mut self, from: &Engine) {
        let changes: Vec<Change> = from.own().changes_since(self.at).unwrap().changes().collect();
        self.at = from.own().serial();
        self.copy.commit(changes.clone()).unwrap();
        self.engine.peer_changed(0, changes, &[&self.copy]).unwrap();
    }

    fn settle(&mut self, now: Instant) {
        while self.engine.turn(&[&self.copy], now).unwrap() {}
    }

    fn shows(&self) -> Vec<String> {
        let list = self.engine.routes(&fibcast_control::protocol::RouteQuery::All, 100, &[&self.copy]);
        list.routes
            .iter()
            .map(|r| {
                format!("{} via {} of {}", r.prefix, r.via.join(","), r.origin.clone().unwrap_or_default())
            })
            .collect()
    }
}

/// Two nodes in sync: one with bgp (distance 20), one with ospf (110), one prefix in both.
fn pair(now: Instant) -> (Node, Node) {
    let (mut a, mut b) = (Node::new("a", "bgp", 20, now), Node::new("b", "ospf", 110, now));
    a.announce("10.0.0.0/8", "192.0.2.1");
    a.announce("10.1.0.0/16", "192.0.2.1");
    b.announce("10.0.0.0/8", "192.0.2.2");
    b.announce("2001:db8::/32", "2001:2::1");
    for node in [&mut a, &mut b] {
        node.say(Event::EndOfTable);
    }
    a.pull(&b.engine);
    b.pull(&a.engine);
    for node in [&mut a, &mut b] {
        node.engine.peer_in_sync(0, now);
        node.settle(now);
    }
    (a, b)
}

#[test]
fn servers_with_different_origins_reach_equal_forwarding_tables() {
    let (a, b) = pair(Instant::now());
    let expected = [
        "10.0.0.0/8 via 192.0.2.1 of bgp",
        "10.1.0.0/16 via 192.0.2.1 of bgp",
        "2001:db8::/32 via 2001:2::1 of ospf",
    ];
    assert_eq!(a.shows(), expected);
    assert_eq!(b.shows(), expected);
    assert_eq!(a.engine.fib().digest(), b.engine.fib().digest());
    assert!(a.engine.ready() && b.engine.ready());
}

#[test]
fn changes_on_one_server_reach_the_other_and_the_best_path_follows() {
    let now = Instant::now();
    let (mut a, mut b) = pair(now);
    a.withdraw("10.0.0.0/8");
    b.pull(&a.engine);
    b.settle(now);
    assert_eq!(b.shows()[0], "10.0.0.0/8 via 192.0.2.2 of ospf");
    assert_eq!(a.engine.fib().digest(), b.engine.fib().digest());
    a.announce("10.0.0.0/8", "192.0.2.9");
    b.pull(&a.engine);
    b.settle(now);
    assert_eq!(b.shows()[0], "10.0.0.0/8 via 192.0.2.9 of bgp");
    assert_eq!(a.engine.fib().digest(), b.engine.fib().digest());
}

#[test]
fn a_lost_peers_routes_give_way_at_once_stay_alone_for_the_hold_time_and_then_go() {
    let now = Instant::now();
    let (_, mut b) = pair(now);
    b.engine.peer_lost(0, now, &[&b.copy]).unwrap();
    // 10.0.0.0/8 was changed lately in the own table: looked at first, before the sweep.
    assert_eq!(b.shows()[0], "10.0.0.0/8 via 192.0.2.2 of ospf");
    let later = now + Duration::from_millis(900);
    b.settle(later);
    assert_eq!(b.shows()[1], "10.1.0.0/16 via 192.0.2.1 of bgp");
    assert_eq!(b.engine.deadline(), Some(now + Duration::from_secs(1)));
    b.settle(now + Duration::from_secs(1));
    assert_eq!(b.shows(), ["10.0.0.0/8 via 192.0.2.2 of ospf", "2001:db8::/32 via 2001:2::1 of ospf"]);
}

#[test]
fn a_peer_that_comes_back_counts_again_when_it_is_in_sync_and_not_before() {
    let now = Instant::now();
    let (mut a, mut b) = pair(now);
    b.engine.peer_lost(0, now, &[&b.copy]).unwrap();
    let late = now + Duration::from_secs(2);
    b.settle(late);
    a.announce("10.2.0.0/16", "192.0.2.3");
    b.pull(&a.engine);
    b.settle(late);
    assert_eq!(b.shows().len(), 2);
    b.engine.peer_in_sync(0, late);
    b.settle(late);
    assert_eq!(b.shows().len(), 4);
    assert_eq!(a.engine.fib().digest(), b.engine.fib().digest());
}

#[test]
fn a_server_is_ready_with_all_its_sources_and_peers_or_when_the_time_is_over() {
    let now = Instant::now();
    let mut a = Node::new("a", "bgp", 20, now);
    a.say(Event::EndOfTable);
    a.settle(now);
    assert!(a.engine.rib_ready() && !a.engine.ready());
    a.settle(now + Duration::from_secs(60));
    assert!(a.engine.ready());
}

#[test]
fn a_source_that_fails_stops_the_start_but_not_a_server_at_work() {
    let now = Instant::now();
    let mut a = Node::new("a", "bgp", 20, now);
    let failed = || Message { source: 0, event: Event::Failed("x.mrt: at byte 3: truncated".to_owned()) };
    let error = a.engine.source_said(failed(), &[&a.copy]).unwrap_err();
    assert_eq!(error.to_string(), "source \"bgp\": x.mrt: at byte 3: truncated");
    a.announce("10.0.0.0/8", "192.0.2.1");
    a.say(Event::EndOfTable);
    a.engine.source_said(failed(), &[&a.copy]).unwrap();
    let status = &a.engine.source_status()[0];
    assert_eq!((status.state.as_str(), status.routes), ("failed", 1));
}
