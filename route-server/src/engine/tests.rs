//! Engines in pairs, chains, rings and meshes: same routes, same forwarding table, and nothing of a dead server remains.

mod liveness;
mod net;
mod reload;

use std::time::Duration;

use fibcast_control::protocol::{RouteQuery, RouteRequest};
use fibcast_control::routes::RouteFilter;
use net::Net;

/// Two servers in sync: one with bgp (distance 20), one with ospf (110), one prefix in both.
fn pair() -> Net {
    let mut net = Net::new(&[&[("bgp", 20)], &[("ospf", 110)]], &[(0, 1)]);
    net.announce(0, 0, "10.0.0.0/8", "192.0.2.1");
    net.announce(0, 0, "10.1.0.0/16", "192.0.2.1");
    net.announce(1, 0, "10.0.0.0/8", "192.0.2.2");
    net.announce(1, 0, "2001:db8::/32", "2001:2::1");
    (0..2).for_each(|n| net.end_of_table(n));
    net.run(0.5);
    net
}

/// `n` servers in a ring or a chain, each with one origin of its own that has one route of its own.
fn many(n: usize, ring: bool) -> Net {
    let names = [[("o0", 20)], [("o1", 21)], [("o2", 22)], [("o3", 23)], [("o4", 24)]];
    let origins: Vec<&[(&'static str, u8)]> = names.iter().take(n).map(|o| o.as_slice()).collect();
    let mut pairs: Vec<(usize, usize)> = (1..n).map(|k| (k - 1, k)).collect();
    if ring {
        pairs.push((n - 1, 0));
    }
    let mut net = Net::new(&origins, &pairs);
    for k in 0..n {
        net.announce(k, 0, &format!("10.{k}.0.0/16"), &format!("192.0.2.{k}"));
        net.end_of_table(k);
    }
    net.run(1.0);
    net
}

#[test]
fn servers_with_different_origins_reach_equal_forwarding_tables() {
    let net = pair();
    let expected = [
        "10.0.0.0/8 via 192.0.2.1 of bgp",
        "10.1.0.0/16 via 192.0.2.1 of bgp",
        "2001:db8::/32 via 2001:2::1 of ospf",
    ];
    assert_eq!(net.shows(0), expected);
    assert_eq!(net.shows(1), expected);
    assert!(net.all_equal());
    assert!(net.nodes.iter().all(|node| node.engine().ready()));
}

#[test]
fn changes_on_one_server_reach_the_other_and_the_best_path_follows() {
    let mut net = pair();
    net.withdraw(0, 0, "10.0.0.0/8");
    net.settle();
    assert_eq!(net.shows(1)[0], "10.0.0.0/8 via 192.0.2.2 of ospf");
    assert!(net.all_equal());
    net.announce(0, 0, "10.0.0.0/8", "192.0.2.9");
    net.settle();
    assert_eq!(net.shows(1)[0], "10.0.0.0/8 via 192.0.2.9 of bgp");
    assert!(net.all_equal());
}

#[test]
fn routes_of_a_dead_server_give_way_at_once_stay_alone_for_lease_and_hold_time_and_then_go() {
    let mut net = pair();
    net.kill(0);
    net.settle();
    // 10.0.0.0/8 was changed recently by the own source: selected first, before the sweep.
    assert_eq!(net.shows(1)[0], "10.0.0.0/8 via 192.0.2.2 of ospf");
    assert_eq!(net.origin(1, "bgp"), "bgp live stale [a]");
    net.run(3.2);
    assert_eq!(net.origin(1, "bgp"), "bgp stale stale [a]");
    assert_eq!(net.shows(1)[1], "10.1.0.0/16 via 192.0.2.1 of bgp");
    net.run(1.0);
    assert_eq!(net.shows(1), ["10.0.0.0/8 via 192.0.2.2 of ospf", "2001:db8::/32 via 2001:2::1 of ospf"]);
    assert_eq!(net.origin(1, "bgp"), "bgp expired ineligible []");
    assert_eq!(net.nodes[1].engine().rib_tables().count(), 1, "and its memory with it");
}

#[test]
fn server_that_comes_back_counts_again_when_its_table_is_whole_and_not_before() {
    let mut net = pair();
    net.kill(0);
    net.run(6.0);
    net.restart(0);
    net.announce(0, 0, "10.2.0.0/16", "192.0.2.3");
    net.run(1.0);
    assert_eq!(net.shows(1).len(), 2);
    assert!(!net.nodes[0].engine().ready());
    net.end_of_table(0);
    net.run(0.2);
    assert_eq!(net.shows(1).len(), 3);
    assert!(net.all_equal());
}

#[test]
fn chain_and_ring_of_servers_converge_though_most_are_not_registered_with_each_other() {
    for (n, ring) in [(3, false), (4, true), (5, false), (5, true)] {
        let mut net = many(n, ring);
        assert_eq!(net.shows(n / 2).len(), n);
        assert!(net.all_equal() && net.nodes.iter().all(|node| node.engine().ready()), "{n} {ring}");
        net.withdraw(0, 0, "10.0.0.0/16");
        net.announce(0, 0, "10.1.0.0/16", "192.0.2.100");
        net.settle();
        assert_eq!(net.shows(n - 1)[0], "10.1.0.0/16 via 192.0.2.100 of o0");
        assert!(net.all_equal());
    }
}

#[test]
fn dead_origin_expires_on_all_servers_within_a_moment_and_comes_back_with_its_server() {
    for (n, ring) in [(4, false), (4, true)] {
        let mut net = many(n, ring);
        let killed = net.now;
        net.kill(0);
        let mut gone = vec![None; n];
        while net.now < killed + Duration::from_secs(8) {
            net.run(0.02);
            for (at, gone) in gone.iter_mut().enumerate().skip(1) {
                let there = net.shows(at).iter().any(|route| route.ends_with("of o0"));
                if !there && gone.is_none() {
                    *gone = Some(net.now - killed);
                }
            }
        }
        let gone: Vec<Duration> = gone.into_iter().flatten().collect();
        let (first, last) = (gone.iter().min().unwrap(), gone.iter().max().unwrap());
        assert_eq!(gone.len(), n - 1);
        // Lease 3 s since the last sequence, hold time 1 s.
        assert!(*first >= Duration::from_secs(3) && *last <= Duration::from_millis(4_200), "{gone:?}");
        assert!(*last - *first <= Duration::from_millis(60), "{gone:?}");
        assert!(net.all_equal());
        net.restart(0);
        net.announce(0, 0, "10.0.0.0/16", "192.0.2.7");
        net.end_of_table(0);
        net.run(3.0);
        assert_eq!(net.shows(n - 1)[0], "10.0.0.0/16 via 192.0.2.7 of o0");
        assert!(net.all_equal());
    }
}

#[test]
fn ring_that_is_cut_somewhere_takes_the_other_way_and_ranks_nothing_last() {
    let mut net = many(4, true);
    assert_eq!(net.origin(1, "o0"), "o0 live live [a]");
    net.cut(0, 1);
    net.run(0.1);
    assert_eq!(net.origin(1, "o0"), "o0 live live [a d c]");
    net.announce(0, 0, "10.9.0.0/16", "192.0.2.9");
    net.settle();
    assert_eq!(net.shows(1).len(), 5);
    assert!(net.all_equal());
    net.mend();
    net.run(6.0);
    assert_eq!(net.origin(1, "o0"), "o0 live live [a]", "its own server is preferred again");
}

#[test]
fn chain_that_is_cut_loses_the_other_half_and_gets_it_back() {
    let mut net = many(4, false);
    net.cut(1, 2);
    net.run(6.0);
    assert_eq!((net.shows(0).len(), net.shows(3).len()), (2, 2));
    net.mend();
    net.run(4.0);
    assert_eq!(net.shows(0).len(), 4);
    assert!(net.all_equal());
}

#[test]
fn server_without_sources_is_not_ready_before_it_knows_what_its_peers_peers_know() {
    let mut net = Net::new(&[&[("o0", 20)], &[], &[]], &[(0, 1), (1, 2)]);
    net.announce(0, 0, "10.0.0.0/16", "192.0.2.1");
    net.cut(0, 1);
    net.run(2.0);
    assert!(!net.nodes[1].engine().ready() && !net.nodes[2].engine().ready());
    net.mend();
    net.run(4.0);
    assert!(!net.nodes[2].engine().ready(), "o0 has not reached the end of its table");
    net.end_of_table(0);
    net.settle();
    assert!(net.nodes.iter().all(|node| node.engine().ready() && node.engine().fib().counts().routes() == 1));
}

#[test]
fn two_servers_with_one_origin_name_are_reported_with_both_names_and_agree_on_the_winner() {
    let mut net = Net::new(&[&[("bgp", 20)], &[("bgp", 20)]], &[(0, 1)]);
    for n in 0..2 {
        net.announce(n, 0, "10.0.0.0/8", &format!("192.0.2.{n}"));
        net.end_of_table(n);
    }
    net.run(0.5);
    for node in &net.nodes {
        let all = node.engine().origin_status(net.now);
        let text = "origin \"bgp\" is configured at a and at b: rename one of them";
        assert!(all.iter().all(|o| o.conflict.as_deref() == Some(text)), "{all:?}");
    }
    assert!(net.all_equal());
}

#[test]
fn every_origins_route_is_shown_with_what_decided() {
    let net = pair();
    let candidates = |n: usize, prefix: &str| {
        let query = RouteQuery::Prefix(prefix.parse().unwrap());
        let request = RouteRequest { query, all: true, ..RouteRequest::default() };
        let mut list = net.nodes[n].engine().routes(net.now, &request);
        list.routes.iter_mut().for_each(|route| assert!(route.age_ms.take().is_some()));
        list
    };
    let lists = [0, 1].map(|n| candidates(n, "10.0.0.0/8"));
    assert_eq!(lists[0], lists[1]);
    let decisions: Vec<String> = lists[0]
        .routes
        .iter()
        .map(|route| {
            let choice = route.choice.as_ref().unwrap();
            let origin = route.origin.as_deref().unwrap();
            format!("{origin}@{} {} {} {}", choice.server, choice.best, choice.distance, choice.decided_by)
        })
        .collect();
    assert_eq!(decisions, ["bgp@a true 20 distance", "ospf@b false 110 distance"]);
    let list = candidates(1, "10.1.0.0/16");
    assert_eq!(list.routes[0].choice.as_ref().unwrap().decided_by, "only route");
}

#[test]
fn a_server_is_ready_with_all_its_sources_and_peers_or_when_the_time_is_over() {
    let mut net = Net::new(&[&[("bgp", 20)], &[]], &[(0, 1)]);
    net.kill(1);
    net.end_of_table(0);
    net.run(1.0);
    assert!(net.nodes[0].engine().sources_ready() && !net.nodes[0].engine().ready());
    net.run(60.0);
    assert!(net.nodes[0].engine().ready());
}

#[test]
fn a_source_that_begins_anew_keeps_its_routes_until_its_table_ends_again() {
    let mut net = Net::new(&[&[("bgp", 20)]], &[]);
    for prefix in ["10.0.0.0/8", "10.1.0.0/16", "10.2.0.0/16"] {
        net.announce(0, 0, prefix, "192.0.2.1");
    }
    net.end_of_table(0);
    let routes = |net: &Net| net.nodes[0].engine().table_status().ipv4_routes;
    let status = |net: &Net| net.nodes[0].engine().source_status().remove(0);
    net.run(1.0);
    assert_eq!(routes(&net), 3);
    net.restart_source(0, 0);
    net.run(1.0);
    assert_eq!((routes(&net), status(&net).state.as_str()), (3, "restarting"));
    net.announce(0, 0, "10.1.0.0/16", "192.0.2.1");
    net.withdraw(0, 0, "10.2.0.0/16");
    net.run(1.0);
    assert_eq!(routes(&net), 2, "what its new life says counts at once");
    net.end_of_table(0);
    net.run(1.0);
    assert_eq!(routes(&net), 1, "10.0.0.0/8 was not announced again");
    // Its next session is an ordinary one.
    net.end_of_table(0);
    net.run(1.0);
    assert_eq!(routes(&net), 1);
}

#[test]
fn routes_are_shown_by_origin_and_next_hop_with_their_ages() {
    let mut net = pair();
    net.run(60.0);
    net.announce(0, 0, "10.1.0.0/16", "192.0.2.7");
    net.run(5.0);
    let shown = |n: usize, filter: RouteFilter, all: bool| {
        let request = RouteRequest { filter, all, ..RouteRequest::default() };
        let routes = net.nodes[n].engine().routes(net.now, &request).routes;
        let word = |route: &fibcast_control::tables::Route| {
            format!(
                "{} {} {}",
                route.prefix,
                route.origin.as_deref().unwrap(),
                route.age_ms.unwrap() / 10_000
            )
        };
        routes.iter().map(word).collect::<Vec<_>>()
    };
    let of = |origin: &str| RouteFilter { origin: Some(origin.into()), ..RouteFilter::default() };
    for n in [0, 1] {
        assert_eq!(shown(n, of("bgp"), false), ["10.0.0.0/8 bgp 6", "10.1.0.0/16 bgp 0"]);
        assert_eq!(shown(n, of("ospf"), false), ["2001:db8::/32 ospf 6"]);
        let all = ["10.0.0.0/8 bgp 6", "10.0.0.0/8 ospf 6", "2001:db8::/32 ospf 6"];
        assert_eq!(shown(n, of("ospf"), true), all, "where it has a route");
        assert_eq!(shown(n, of("rip"), false), [""; 0]);
        let via = RouteFilter { next_hop: "192.0.2.7".parse().ok(), ..RouteFilter::default() };
        assert_eq!(shown(n, via, false), ["10.1.0.0/16 bgp 0"]);
    }
}
