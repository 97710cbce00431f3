//! Parts of a table: what a client asks for is what it gets, whoever else asks for what.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::collections::BTreeMap;
use std::time::Duration;

use common::{group, key, label, put, table};
use fibcast_sync_proto::client::{Action, Client, ClientConfig, ClientEvent, How};
use fibcast_sync_proto::frame::Role;
use fibcast_sync_proto::server::{Limits, MAX_VIEWS, Served, Server, ServerEvent, SessionId, Tables};
use fibcast_sync_proto::{Change, Family, Key, PrefixRange, Subset, Table, Value};

/// One server, many clients.
struct Star {
    now: Duration,
    server: Server,
    table: Table,
    part: Option<Subset>,
    rays: Vec<Ray>,
}

struct Ray {
    client: Client,
    copy: Table,
    session: Option<SessionId>,
    events: Vec<ClientEvent>,
}

struct Lent<'a>(&'a Table, Option<&'a Subset>);

impl Tables for Lent<'_> {
    fn served(&self, name: &str) -> Option<Served<'_>> {
        (name == "fib").then_some(Served { table: self.0, ready: true, path: &[] })
    }

    fn subset(&self, _: &str) -> Option<&Subset> {
        self.1
    }
}

impl Star {
    fn new(table: Table) -> Self {
        Self { now: Duration::from_secs(1), server: Server::new("a"), table, part: None, rays: Vec::new() }
    }

    fn join(&mut self, subset: Subset) -> usize {
        let name = format!("nic{}", self.rays.len());
        let mut config = ClientConfig::new(name, "fib", vec![Role::Primary]);
        config.subset = subset;
        let (client, copy) = (Client::new(config, self.now), Table::new(100 + self.rays.len() as u64));
        self.rays.push(Ray { client, copy, session: None, events: Vec::new() });
        self.rays.len() - 1
    }

    fn commit(&mut self, changes: impl IntoIterator<Item = Change>) {
        self.table.commit(changes).unwrap();
        self.server.pump(&Lent(&self.table, self.part.as_ref()));
    }

    fn settle(&mut self) {
        while (0..self.rays.len()).any(|i| self.step(i)) {}
    }

    fn step(&mut self, i: usize) -> bool {
        let ray = &mut self.rays[i];
        let mut moved = false;
        while let Some(action) = ray.client.poll_action() {
            moved = true;
            match action {
                Action::Connect(_) => {
                    ray.session = Some(self.server.accept(self.now));
                    ray.client.handle_connected(self.now, 0);
                }
                Action::Disconnect(_) => ray.session.take().into_iter().for_each(|id| self.server.close(id)),
            }
        }
        ray.events.extend(std::iter::from_fn(|| ray.client.poll_event()));
        let Some(id) = ray.session else { return moved };
        let lent = Lent(&self.table, self.part.as_ref());
        let up = ray.client.transmit(0).to_vec();
        if !up.is_empty() {
            ray.client.sent(0, up.len());
            self.server.handle_bytes(self.now, id, &up, &lent);
            moved = true;
        }
        let down = self.server.transmit(id).to_vec();
        if !down.is_empty() {
            self.server.sent(id, down.len());
            self.server.pump(&lent);
            ray.client.handle_bytes(self.now, 0, &down, &mut ray.copy);
            moved = true;
        }
        while let Some(event) = self.server.poll_event() {
            if let ServerEvent::Ended { session, .. } = event {
                for ray in self.rays.iter_mut().filter(|ray| ray.session == Some(session)) {
                    let last = self.server.transmit(session).to_vec();
                    ray.client.handle_bytes(self.now, 0, &last, &mut ray.copy);
                    ray.client.handle_disconnected(self.now, 0, "closed", &mut ray.copy);
                    ray.session = None;
                    self.server.close(session);
                }
            }
        }
        moved
    }

    fn advance(&mut self, by: Duration) {
        let end = self.now + by;
        while self.now < end {
            self.settle();
            let clients = self.rays.iter().filter_map(|ray| ray.client.poll_timeout());
            let due = self.server.poll_timeout().into_iter().chain(clients).min().unwrap_or(end);
            self.now = due.clamp(self.now + Duration::from_micros(1), end);
            self.server.handle_timeout(self.now, &Lent(&self.table, self.part.as_ref()));
            for ray in &mut self.rays {
                ray.client.handle_timeout(self.now, &mut ray.copy);
            }
        }
        self.settle();
    }

    /// What a client is to have: the routes of its part, and the groups that they use.
    fn check(&self, i: usize, subset: &Subset) {
        let mut want: BTreeMap<Key, Value> =
            self.table.iter().filter(|(k, _)| subset.is_all() || subset.admits(k)).collect();
        let labels: Vec<_> = want
            .values()
            .filter_map(|v| match v {
                Value::Route(label) => Some(*label),
                _ => None,
            })
            .collect();
        for label in labels {
            let value = self.table.get(&Key::Group(label)).unwrap();
            want.insert(Key::Group(label), value);
        }
        let ray = &self.rays[i];
        assert!(ray.client.is_synced(), "client {i} of {subset}: {:?}", ray.client.links());
        assert!(ray.copy.iter().collect::<BTreeMap<_, _>>() == want, "client {i} of {subset}");
        assert_eq!(ray.client.counters().digest_mismatches, 0);
    }
}

fn ranges(all: &[&str]) -> Subset {
    Subset::new(vec![], None, all.iter().map(|p| PrefixRange::within(p.parse().unwrap())).collect())
}

/// Routes 0.0.0.0/24 and on over four groups, in two VRFs, some of them IPv6.
fn mixed(n: u32) -> Table {
    let mut t = table(10, n);
    let more = (0..n).map(|i| {
        let prefix = format!("2001:db8:{:x}::/48", i & 0xffff).parse().unwrap();
        Change::Put(Key::Route { vrf: i % 2, prefix }, Value::Route(label((i % 4) as u8)))
    });
    t.commit(more).unwrap();
    t
}

#[test]
fn each_client_gets_its_part_and_the_groups_that_its_routes_use() {
    let parts = [
        Subset::default(),
        Subset::new(vec![], Some(Family::V6), vec![]),
        Subset::new(vec![1], None, vec![]),
        ranges(&["0.0.0.0/18"]),
        ranges(&["0.1.0.0/24", "2001:db8:7::/48"]),
        ranges(&["203.0.113.0/24"]),
    ];
    let mut star = Star::new(mixed(1_000));
    for part in &parts {
        star.join(part.clone());
    }
    star.advance(Duration::from_secs(3));
    (0..parts.len()).for_each(|i| star.check(i, &parts[i]));
    for round in 0..30u32 {
        star.commit([
            put(round * 17, (round % 4) as u8),
            Change::Delete(key(round * 3)),
            group(40 + (round % 5) as u8),
            put(256 + round % 3, 40 + (round % 5) as u8),
            put(2_000 + round, 1),
        ]);
        star.settle();
        (0..parts.len()).for_each(|i| star.check(i, &parts[i]));
    }
    star.commit(
        (0..5).map(|g| Change::Delete(Key::Group(label(40 + g)))).chain((0..2_100).map(|i| put(i, 2))),
    );
    star.advance(Duration::from_secs(1));
    (0..parts.len()).for_each(|i| star.check(i, &parts[i]));
}

#[test]
fn change_outside_its_part_costs_a_client_nothing() {
    let mut star = Star::new(mixed(1_000));
    let part = ranges(&["0.0.0.0/18"]);
    let i = star.join(part.clone());
    star.advance(Duration::from_secs(3));
    let (serial, sent) = (star.rays[i].copy.serial(), star.server.sessions()[0].sent_bytes);
    star.commit([put(500, 3), Change::Delete(key(501)), group(77), put(502, 77)]);
    star.settle();
    assert_eq!(star.rays[i].copy.serial(), serial);
    assert_eq!(star.server.sessions()[0].sent_bytes, sent);
    star.check(i, &part);
}

#[test]
fn clients_of_one_part_share_one_view() {
    let mut star = Star::new(mixed(1_000));
    for _ in 0..20 {
        star.join(ranges(&["0.0.0.0/18"]));
        star.join(Subset::default());
    }
    star.advance(Duration::from_secs(3));
    let views: Vec<_> =
        star.server.views().map(|(table, part, n)| (table.to_owned(), part.to_string(), n)).collect();
    assert_eq!(views, [("fib".to_owned(), "0.0.0.0/18 18-32".to_owned(), 64)]);
}

#[test]
fn view_that_is_filled_while_the_table_changes_is_whole() {
    let mut star = Star::new(mixed(3_000));
    star.server = Server::new("a").with_limits(Limits { portion: 100, ..Limits::default() });
    let part = ranges(&["0.0.0.0/12"]);
    let i = star.join(part.clone());
    star.settle();
    for round in 0..100u32 {
        assert!(round > 20 || !star.rays[i].client.is_synced(), "a view is not ready before it is whole");
        star.commit([
            put(round * 29, ((round + 1) % 4) as u8),
            Change::Delete(key(2_999 - round)),
            put(4_000 + round, 1),
            group(100 + (round % 7) as u8),
            put(round, 100 + (round % 7) as u8),
        ]);
        star.step(i);
    }
    star.advance(Duration::from_secs(1));
    star.check(i, &part);
}

#[test]
fn client_that_comes_back_to_its_view_continues_from_its_serial() {
    let mut star = Star::new(mixed(1_000));
    let part = ranges(&["0.0.0.0/18"]);
    let i = star.join(part.clone());
    star.advance(Duration::from_secs(1));
    let id = star.rays[i].session.take().unwrap();
    star.server.close(id);
    let (now, ray) = (star.now, &mut star.rays[i]);
    ray.client.handle_disconnected(now, 0, "reset", &mut ray.copy);
    star.commit([put(5, 3), Change::Delete(key(6))]);
    star.advance(Duration::from_secs(1));
    star.check(i, &part);
    let how = star.rays[i].events.iter().rev().find_map(|e| match e {
        ClientEvent::Activated { how, .. } => Some(*how),
        _ => None,
    });
    assert_eq!(how, Some(How::Changes));
}

#[test]
fn view_goes_a_while_after_its_last_client() {
    let mut star = Star::new(mixed(100));
    let i = star.join(ranges(&["0.0.0.0/18"]));
    star.join(Subset::default());
    star.advance(Duration::from_secs(1));
    let id = star.rays.remove(i).session.unwrap();
    star.server.close(id);
    star.advance(Duration::from_secs(30));
    assert_eq!(star.server.views().count(), 1);
    star.advance(Duration::from_secs(40));
    assert_eq!(star.server.views().count(), 0);
}

#[test]
fn parts_beyond_the_bound_are_refused_and_the_others_live_on() {
    let mut star = Star::new(mixed(300));
    let part = |i: usize| ranges(&[&format!("0.0.{i}.0/24")]);
    for i in 0..=MAX_VIEWS {
        star.join(part(i));
    }
    star.advance(Duration::from_secs(3));
    (0..MAX_VIEWS).for_each(|i| star.check(i, &part(i)));
    let error = star.rays[MAX_VIEWS].client.links()[0].last_error.clone().unwrap();
    assert!(error.contains("expected at most 16 different parts of tables in use"), "{error}");
}

#[test]
fn node_that_holds_a_part_serves_that_part_and_less_but_not_more() {
    let mut star = Star::new(mixed(300));
    star.part = Some(Subset::new(vec![], Some(Family::V4), vec![]));
    let same = star.join(Subset::new(vec![], Some(Family::V4), vec![]));
    let less = star.join(ranges(&["0.0.0.0/20"]));
    let more = star.join(Subset::default());
    star.advance(Duration::from_secs(3));
    assert!(star.rays[same].client.is_synced());
    assert_eq!(star.rays[same].copy.digest(), star.table.digest());
    star.check(less, &ranges(&["0.0.0.0/20"]));
    let error = star.rays[more].client.links()[0].last_error.clone().unwrap();
    assert!(error.contains("holds only a part of table fib: ipv4; asked for: everything"), "{error}");
    assert_eq!(star.server.views().count(), 1);
}
