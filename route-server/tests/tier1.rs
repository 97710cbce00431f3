//! Route servers in chains and rings, as processes over TCP: one RIB though most are not registered with each other, and nothing of the
//! dead is left.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, also in its helpers")]

mod common;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use fibcast_control::protocol::{Answer, Request, RouteQuery, RouteRequest};
use fibcast_control::status::{OriginStatus, Status};
use fibcast_control::tables::RouteList;

use common::{Folder, Server, free_addresses};

const LEASE_MS: u64 = 1_500;
const HOLD_MS: u64 = 1_500;

/// Server `n` with an origin `on` of its own that has the routes 10.n.0.0/16 and, in common with all others, 10.200.0.0/16.
fn configure(folder: &Folder, addresses: &[SocketAddr], n: usize, peers: &[usize]) {
    let distance = 20 + n;
    let routes = folder.write(
        &format!("routes{n}"),
        format!("10.{n}.0.0/16 via 192.0.2.{n}\n10.200.0.0/16 via 192.0.2.{n}\n"),
    );
    let mut more = format!(
        "[sync]\nheartbeat_ms = 100\n[rib]\norigin_lease_ms = {LEASE_MS}\norigin_hold_ms = {HOLD_MS}\n\
         [[source]]\norigin = \"o{n}\"\nkind = \"static\"\ndistance = {distance}\npath = {routes:?}\n"
    );
    for peer in peers {
        more.push_str(&format!("[[peer]]\naddress = \"{}\"\n", addresses[*peer]));
    }
    folder.config(&format!("rs{n}"), Some(addresses[n]), &more);
}

fn origin(status: &Status, name: &str) -> OriginStatus {
    status.origins.iter().find(|origin| origin.name == name).cloned().unwrap()
}

/// All servers ready, with this many routes, and equal digests.
fn equal(servers: &[&Server], routes: u64) {
    let begin = Instant::now();
    loop {
        let all: Vec<Status> = servers.iter().filter_map(|server| server.status()).collect();
        let digests: Vec<&str> = all.iter().map(|status| status.table.digest.as_str()).collect();
        let done = all.len() == servers.len()
            && all.iter().all(|status| status.ready && status.table.ipv4_routes == routes)
            && digests.iter().all(|digest| *digest == digests[0]);
        if done {
            return;
        }
        assert!(begin.elapsed() < common::WAIT_LIMIT, "not equal with {routes} routes: {all:#?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Kills server 0 and watches its origin expire on all others, then restarts it.
fn death_and_return(folder: &Folder, servers: &mut [Server]) {
    let n = servers.len();
    equal(&servers.iter().collect::<Vec<_>>(), n as u64 + 1);
    for server in servers.iter() {
        assert!(server.routes().contains(&"10.200.0.0/16 via 192.0.2.0 of o0".to_owned()));
    }

    servers[0].kill();
    let killed = Instant::now();
    let (mut stale, mut gone) = (vec![None; n], vec![None; n]);
    while gone.iter().skip(1).any(Option::is_none) {
        for at in 1..n {
            let status = servers[at].status().unwrap();
            let o0 = origin(&status, "o0");
            if o0.state == "stale" && stale[at].is_none() {
                stale[at] = Some(killed.elapsed());
                assert_eq!((o0.eligibility.as_str(), status.table.ipv4_routes), ("stale", n as u64 + 1));
                // What another origin has as well goes by that one.
                let shared = servers[at].routes().into_iter().find(|r| r.starts_with("10.200.")).unwrap();
                assert_eq!(shared, "10.200.0.0/16 via 192.0.2.1 of o1");
            }
            if o0.state == "expired" && o0.eligibility == "ineligible" && status.table.ipv4_routes == n as u64
            {
                gone[at].get_or_insert(killed.elapsed());
            }
        }
        assert!(killed.elapsed() < Duration::from_secs(20), "stale {stale:?}, gone {gone:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
    let times = |all: &[Option<Duration>]| -> (Duration, Duration) {
        let all = all.iter().skip(1).map(|at| at.unwrap());
        (all.clone().min().unwrap(), all.max().unwrap())
    };
    let ((stale_first, stale_last), (gone_first, gone_last)) = (times(&stale), times(&gone));
    let (lease, hold) = (Duration::from_millis(LEASE_MS), Duration::from_millis(HOLD_MS));
    // The last sequence was at most a third of a lease old; the rest is for a busy machine.
    let slack = Duration::from_millis(700);
    assert!(stale_first + lease / 2 >= lease && stale_last <= lease + slack, "{stale:?}");
    assert!(gone_first + lease / 2 >= lease + hold && gone_last <= lease + hold + slack, "{gone:?}");
    assert!(gone_last - gone_first <= slack, "{gone:?}");
    equal(&servers.iter().skip(1).collect::<Vec<_>>(), n as u64);

    // Nobody brings it back by talking about it.
    std::thread::sleep(lease);
    for server in servers.iter().skip(1) {
        assert_eq!(origin(&server.status().unwrap(), "o0").state, "expired");
    }
    servers[0] = Server::start(folder, "rs0");
    equal(&servers.iter().collect::<Vec<_>>(), n as u64 + 1);
    for server in servers.iter() {
        assert!(server.routes().contains(&"10.200.0.0/16 via 192.0.2.0 of o0".to_owned()));
    }
}

#[test]
fn chain_of_three_servers_holds_all_origins_and_loses_a_killed_one_everywhere_at_once() {
    let folder = Folder::new();
    let addresses: [SocketAddr; 3] = free_addresses();
    configure(&folder, &addresses, 0, &[1]);
    configure(&folder, &addresses, 1, &[0, 2]);
    configure(&folder, &addresses, 2, &[1]);
    let mut servers: Vec<Server> = (0..3).map(|n| Server::start(&folder, &format!("rs{n}"))).collect();
    equal(&servers.iter().collect::<Vec<_>>(), 4);
    // Two hops away: the description of the origin's own server, and the way that the routes come.
    let (own, far) = (servers[0].status().unwrap(), servers[2].status().unwrap());
    let (own, far) = (origin(&own, "o0"), origin(&far, "o0"));
    assert_eq!((own.epoch, &own.id, own.routes), (far.epoch, &far.id, far.routes));
    assert_eq!(
        (far.server.as_str(), far.state.as_str(), far.path.join(" ").as_str()),
        ("rs0", "live", "rs0 rs1")
    );
    assert!(far.lease_left_ms.is_some_and(|left| left <= LEASE_MS) && own.lease_left_ms.is_none());

    let query = RouteQuery::Prefix("10.200.0.0/16".parse().unwrap());
    let request = RouteRequest { query, all: true, ..RouteRequest::default() };
    let list = |server: &Server| {
        let Some(Answer::Routes(mut list)) = server.ask(Request::Routes(request.clone())) else { panic!() };
        assert!(list.routes.iter().all(|route| route.age_ms.is_some()), "{list:#?}");
        list.routes.iter_mut().for_each(|route| route.age_ms = None);
        list
    };
    let lists: Vec<RouteList> = servers.iter().map(list).collect();
    assert!(lists.iter().all(|list| *list == lists[0]), "{lists:#?}");
    let list = &lists[0];
    let decisions: Vec<String> = list
        .routes
        .iter()
        .map(|route| {
            let choice = route.choice.as_ref().unwrap();
            format!("{} {} {}", choice.server, choice.distance, choice.decided_by)
        })
        .collect();
    assert_eq!(decisions, ["rs0 20 distance", "rs1 21 distance", "rs2 22 distance"]);
    death_and_return(&folder, &mut servers);
}

#[test]
fn ring_of_four_servers_survives_one_and_forgets_its_origin_everywhere_at_once() {
    let folder = Folder::new();
    let addresses: [SocketAddr; 4] = free_addresses();
    for n in 0..4 {
        configure(&folder, &addresses, n, &[(n + 3) % 4, (n + 1) % 4]);
    }
    let mut servers: Vec<Server> = (0..4).map(|n| Server::start(&folder, &format!("rs{n}"))).collect();
    death_and_return(&folder, &mut servers);
}

#[test]
fn two_servers_with_one_origin_name_say_so_and_name_both() {
    let folder = Folder::new();
    let addresses: [SocketAddr; 2] = free_addresses();
    let routes = folder.write("routes", "10.0.0.0/8 via 192.0.2.1\n");
    for n in 0..2 {
        let more = format!(
            "[[source]]\norigin = \"bgp\"\nkind = \"static\"\npath = {routes:?}\n[[peer]]\naddress = \"{}\"\n",
            addresses[1 - n]
        );
        folder.config(&format!("rs{n}"), Some(addresses[n]), &more);
    }
    let servers: Vec<Server> = (0..2).map(|n| Server::start(&folder, &format!("rs{n}"))).collect();
    let text = "origin \"bgp\" is configured at rs0 and at rs1: rename one of them";
    for server in &servers {
        server.until("a word about the conflict", |status| {
            status.origins.len() == 2 && status.origins.iter().all(|o| o.conflict.as_deref() == Some(text))
        });
    }
    let log = std::fs::read_to_string(folder.path("rs1.log")).unwrap();
    assert!(log.contains(text), "{log}");
}

#[test]
fn filters_and_limits_hold_back_routes_here_and_on_other_servers() {
    let folder = Folder::new();
    let addresses: [SocketAddr; 2] = free_addresses();
    let routes = folder.write(
        "routes",
        "0.0.0.0/0 via 192.0.2.1\n10.0.0.0/8 via 192.0.2.1\n10.1.0.0/16 via 192.0.2.1\n192.0.2.0/25 via 192.0.2.1\n\
         2001:db8::/32 via 2001:2::1\n2001:db8:1::/48 via 2001:2::1\n",
    );
    let many: String = (0..20).map(|n| format!("172.16.{n}.0/24 via 192.0.2.9\n")).collect();
    let many = folder.write("many", many);
    let more = format!(
        "[rib]\nready_timeout_ms = 1500\n\
         [[source]]\norigin = \"s\"\nkind = \"static\"\npath = {routes:?}\nlengths = {{ ipv4 = [8, 24] }}\n\
         filter = [{{ action = \"deny\", prefix = \"10.0.0.0/8\", ge = 9 }}, {{ action = \"deny\", family = \"ipv6\", ge = 33 }}]\n\
         [[source]]\norigin = \"m\"\nkind = \"static\"\npath = {many:?}\nmax_prefixes = 12\n"
    );
    folder.config("rs0", Some(addresses[0]), &more);
    folder.config("rs1", Some(addresses[1]), &format!("[[peer]]\naddress = \"{}\"\n", addresses[0]));
    let servers = ["rs0", "rs1"].map(|name| Server::start(&folder, name));
    equal(&[&servers[0], &servers[1]], 13);
    let status = servers[0].status().unwrap();
    assert_eq!((status.table.ipv4_routes, status.table.ipv6_routes), (13, 1));
    let [s, m] = status.sources.as_slice() else { panic!("{:#?}", status.sources) };
    assert_eq!((s.state.as_str(), s.routes, s.denied), ("finished", 2, 4));
    assert_eq!((m.state.as_str(), m.routes, m.max_prefixes), ("stopped", 12, Some(12)));
    let error = "stopped: it has more than 12 routes (max_prefixes)";
    assert_eq!(m.last_error.as_deref(), Some(error));
    let log = std::fs::read_to_string(folder.path("rs0.log")).unwrap();
    assert!(log.contains(error), "{log}");
}
