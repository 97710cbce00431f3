//! Origins whose source is not live: stale on all servers within a lease, and no route is lost.

use super::net::Net;
use super::{many, pair};
use crate::source::{Event, Report};

/// The default lease, in seconds.
const LEASE: f64 = 3.0;

fn report(net: &mut Net, n: usize, state: &'static str) {
    let live = state == "live";
    net.say(n, 0, Event::Report(Report { state, live, end_of_table: Some("sentinel"), ..Report::default() }));
}

#[test]
fn an_origin_whose_source_dies_is_stale_everywhere_within_a_lease_and_loses_no_route() {
    let mut net = pair();
    report(&mut net, 0, "live");
    net.run(1.0);
    report(&mut net, 0, "disconnected");
    net.run(0.5);
    assert_eq!(net.origin(1, "bgp"), "bgp live live [a]", "a short gap moves nothing");
    net.run(LEASE - 0.5);
    let expected = [
        "10.0.0.0/8 via 192.0.2.2 of ospf",
        "10.1.0.0/16 via 192.0.2.1 of bgp",
        "2001:db8::/32 via 2001:2::1 of ospf",
    ];
    for n in 0..2 {
        assert_eq!(net.shows(n), expected, "server {n}");
        assert!(net.origin(n, "bgp").starts_with("bgp stale stale"), "{}", net.origin(n, "bgp"));
    }
    // Longer than lease and hold time: its server lives.
    net.run(30.0);
    assert_eq!(
        (net.shows(0), net.shows(1)),
        (expected.map(String::from).to_vec(), expected.map(String::from).to_vec())
    );
    // It announces its table again: live when that is complete, and not before.
    report(&mut net, 0, "loading");
    net.run(5.0);
    assert_eq!(net.shows(1)[0], "10.0.0.0/8 via 192.0.2.2 of ospf");
    report(&mut net, 0, "live");
    net.run(0.2);
    for n in 0..2 {
        assert_eq!(net.shows(n)[0], "10.0.0.0/8 via 192.0.2.1 of bgp", "server {n}");
        assert!(net.origin(n, "bgp").starts_with("bgp live live"));
    }
    assert!(net.all_equal());
}

#[test]
fn a_gap_shorter_than_the_grace_changes_nothing() {
    let mut net = pair();
    report(&mut net, 0, "live");
    net.run(1.0);
    let digests = net.digests();
    for _ in 0..10 {
        report(&mut net, 0, "disconnected");
        net.run(0.6);
        report(&mut net, 0, "live");
        net.run(0.6);
        assert_eq!(net.digests(), digests);
        assert_eq!(net.origin(1, "bgp"), "bgp live live [a]");
    }
}

#[test]
fn all_ways_of_not_being_live_make_the_origin_stale() {
    type Cause = fn(&mut Net);
    let causes: [(&str, Cause); 3] = [
        ("failed", |net| net.say(0, 0, Event::Failed("netlink socket: gone".to_owned()))),
        ("stalled", |net| net.engine(0).source_stalled(0, true)),
        ("incomplete", |net| report(net, 0, "incomplete")),
    ];
    for (what, cause) in causes {
        let mut net = pair();
        cause(&mut net);
        net.run(LEASE);
        assert!(net.origin(1, "bgp").starts_with("bgp stale stale"), "{what}: {}", net.origin(1, "bgp"));
        assert_eq!(net.shows(1)[0], "10.0.0.0/8 via 192.0.2.2 of ospf", "{what}");
        assert!(net.all_equal(), "{what}");
    }
    let mut net = pair();
    net.engine(0).source_stalled(0, true);
    net.run(LEASE);
    net.engine(0).source_stalled(0, false);
    net.run(0.2);
    assert_eq!(net.origin(1, "bgp"), "bgp live live [a]");
}

#[test]
fn a_source_beyond_its_limit_is_stale() {
    let mut net = Net::limited(&[&[("bgp", 20)], &[("ospf", 110)]], &[(0, 1)], 2);
    for (n, via) in [(0, "192.0.2.1"), (1, "192.0.2.2")] {
        net.announce(n, 0, "10.0.0.0/8", via);
        net.end_of_table(n);
    }
    net.announce(0, 0, "10.1.0.0/16", "192.0.2.1");
    net.run(1.0);
    assert_eq!(net.shows(1)[0], "10.0.0.0/8 via 192.0.2.1 of bgp");
    net.announce(0, 0, "10.2.0.0/16", "192.0.2.1");
    net.run(LEASE);
    assert_eq!(net.shows(1)[0], "10.0.0.0/8 via 192.0.2.2 of ospf");
    assert_eq!(net.shows(1).len(), 2, "nothing else is lost");
}

#[test]
fn stale_routes_of_a_single_origin_still_forward_and_a_chain_hears_of_it_in_time() {
    let mut net = many(4, false);
    report(&mut net, 0, "disconnected");
    net.run(LEASE);
    for n in 0..4 {
        assert!(net.origin(n, "o0").starts_with("o0 stale stale"), "server {n}: {}", net.origin(n, "o0"));
        assert_eq!(net.shows(n).len(), 4);
    }
    net.run(30.0);
    assert!((0..4).all(|n| net.shows(n).len() == 4));
    assert!(net.all_equal());
}

#[test]
fn a_source_that_fails_before_the_end_of_its_table_does_not_end_the_server() {
    let mut net = Net::new(&[&[("bgp", 20), ("static", 1)]], &[]);
    net.announce(0, 0, "10.0.0.0/8", "192.0.2.1");
    net.say(0, 0, Event::Failed("x.mrt: at byte 3: truncated".to_owned()));
    net.announce(0, 1, "10.1.0.0/16", "192.0.2.2");
    net.say(0, 1, Event::EndOfTable);
    net.run(1.0);
    let status = net.nodes[0].engine().source_status();
    assert_eq!((status[0].state.as_str(), status[1].state.as_str()), ("failed", "live"));
    assert_eq!(status[0].last_error.as_deref(), Some("x.mrt: at byte 3: truncated"));
    assert!(!net.nodes[0].engine().ready(), "its table is incomplete");
    net.run(61.0);
    assert!(net.nodes[0].engine().ready(), "after the time limit");
    assert!(net.origin(0, "bgp").starts_with("bgp stale stale"));
    assert_eq!(net.nodes[0].engine().source_status()[0].end_of_table_by.as_deref(), Some("timeout"));
    assert_eq!(net.shows(0).len(), 2);
}

#[test]
fn a_quiet_time_makes_ready_once_and_says_so() {
    let mut net = Net::new(&[&[("bgp", 20)]], &[]);
    net.announce(0, 0, "10.0.0.0/8", "192.0.2.1");
    let quiet = Report { state: "live", live: true, end_of_table: Some("quiet"), ..Report::default() };
    net.say(0, 0, Event::Quiet);
    net.say(0, 0, Event::Report(quiet));
    net.run(1.0);
    assert!(net.nodes[0].engine().ready());
    assert_eq!(net.nodes[0].engine().source_status()[0].end_of_table_by.as_deref(), Some("quiet"));
}
