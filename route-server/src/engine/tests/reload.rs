//! New rules at work: routes that a source tells as they were change nothing, and what it does not tell again is withdrawn.

use super::net::Net;
use crate::engine::{SLICE, SourceRules, Until};
use crate::filter::{Action, Filter, FilterKeys, LengthKeys};
use crate::source::Event;

/// Rules without a filter.
fn rules(origin: &str, thread: usize, again: Option<Until>) -> SourceRules {
    SourceRules {
        origin: origin.into(),
        kind: "static",
        distance: 20,
        filter: Filter::default(),
        thread,
        again,
    }
}

fn denies(prefix: &str, max_prefixes: Option<u64>) -> Filter {
    let prefix = Some(prefix.parse().unwrap());
    let deny = FilterKeys { action: Action::Deny, prefix, family: None, ge: None, le: None };
    Filter::new(&[deny], &LengthKeys::default(), max_prefixes).unwrap()
}

fn at_most(routes: u64) -> Filter {
    Filter::new(&[], &LengthKeys::default(), Some(routes)).unwrap()
}

fn reload(net: &mut Net, n: usize, rules: SourceRules) {
    let now = net.now;
    net.engine(n).reload(now, vec![rules], &[]).unwrap();
}

/// Two servers, the first with three routes.
fn three() -> Net {
    let mut net = Net::new(&[&[("bgp", 20)], &[("ospf", 110)]], &[(0, 1)]);
    tell(&mut net, 0, &["10.0.0.0/8", "10.1.0.0/16", "10.2.0.0/16"]);
    (0..2).for_each(|n| net.end_of_table(n));
    net.run(0.5);
    net
}

fn tell(net: &mut Net, thread: usize, prefixes: &[&str]) {
    prefixes.iter().for_each(|prefix| net.announce(0, thread, prefix, "192.0.2.1"));
}

fn prefixes(net: &Net, n: usize) -> Vec<String> {
    net.shows(n).iter().filter_map(|route| Some(route.split_once(' ')?.0.to_owned())).collect()
}

#[test]
fn a_new_thread_that_tells_the_same_changes_nothing_and_the_old_one_is_not_heard() {
    let mut net = three();
    let serials = |net: &mut Net| [0, 1].map(|n| net.engine(n).fib().serial());
    let before = serials(&mut net);
    reload(&mut net, 0, rules("bgp", 7, Some(Until::EndOfTable)));
    net.announce(0, 0, "10.9.0.0/16", "192.0.2.9");
    net.say(0, 0, Event::Failed("too late".into()));
    tell(&mut net, 7, &["10.2.0.0/16", "10.0.0.0/8", "10.1.0.0/16"]);
    net.say(0, 7, Event::EndOfTable);
    net.run(0.5);
    assert_eq!(serials(&mut net), before);
    assert_eq!(net.engine(0).source_status()[0].state, "live");
}

#[test]
fn what_is_not_told_again_is_withdrawn_at_the_end_and_not_before() {
    let mut net = three();
    reload(&mut net, 0, rules("bgp", 7, Some(Until::EndOfTable)));
    tell(&mut net, 7, &["10.0.0.0/8", "10.5.0.0/16"]);
    net.run(0.5);
    assert_eq!(prefixes(&net, 1), ["10.0.0.0/8", "10.1.0.0/16", "10.2.0.0/16", "10.5.0.0/16"]);
    // Announced and withdrawn meanwhile; and another end is not that of the table.
    net.announce(0, 7, "10.6.0.0/16", "192.0.2.1");
    net.withdraw(0, 7, "10.6.0.0/16");
    net.say(0, 7, Event::Refreshed { complete: true });
    net.run(0.1);
    assert_eq!(prefixes(&net, 1).len(), 4);
    net.say(0, 7, Event::EndOfTable);
    net.run(0.1);
    assert_eq!(prefixes(&net, 1), ["10.0.0.0/8", "10.5.0.0/16"]);
    assert!(net.all_equal());
}

#[test]
fn a_filter_counts_for_routes_that_are_there_and_for_those_that_were_denied() {
    let mut net = three();
    let ordered = |filter| SourceRules { filter, ..rules("bgp", 0, Some(Until::Refreshed)) };
    reload(&mut net, 0, ordered(denies("10.1.0.0/16", None)));
    let all = ["10.0.0.0/8", "10.1.0.0/16", "10.2.0.0/16"];
    tell(&mut net, 0, &all);
    net.say(0, 0, Event::Refreshed { complete: true });
    net.run(0.1);
    assert_eq!(prefixes(&net, 1), ["10.0.0.0/8", "10.2.0.0/16"]);
    reload(&mut net, 0, ordered(denies("10.2.0.0/16", None)));
    tell(&mut net, 0, &all);
    net.say(0, 0, Event::Refreshed { complete: true });
    net.run(0.1);
    assert_eq!(prefixes(&net, 1), ["10.0.0.0/8", "10.1.0.0/16"]);
}

#[test]
fn another_distance_moves_the_best_path_on_all_servers() {
    let mut net = three();
    net.announce(1, 0, "10.0.0.0/8", "192.0.2.2");
    net.run(0.5);
    reload(&mut net, 0, SourceRules { distance: 200, ..rules("bgp", 0, Some(Until::Refreshed)) });
    tell(&mut net, 0, &["10.0.0.0/8", "10.1.0.0/16", "10.2.0.0/16"]);
    net.say(0, 0, Event::Refreshed { complete: true });
    net.run(0.5);
    for n in 0..2 {
        assert_eq!(net.shows(n)[0], "10.0.0.0/8 via 192.0.2.2 of ospf");
        assert_eq!(net.shows(n)[1], "10.1.0.0/16 via 192.0.2.1 of bgp");
    }
}

#[test]
fn a_source_that_its_limit_stopped_goes_on_with_a_higher_one_and_leaves_no_ghost() {
    let mut net = three();
    reload(&mut net, 0, SourceRules { filter: at_most(3), ..rules("bgp", 0, Some(Until::Refreshed)) });
    tell(&mut net, 0, &["10.0.0.0/8", "10.1.0.0/16", "10.2.0.0/16"]);
    net.say(0, 0, Event::Refreshed { complete: true });
    tell(&mut net, 0, &["10.3.0.0/16"]);
    net.run(0.1);
    assert_eq!(net.engine(0).source_status()[0].state, "stopped");
    // Not heard: it is gone when the source continues.
    net.withdraw(0, 0, "10.1.0.0/16");
    net.run(2.0);
    assert_eq!(net.origin(1, "bgp"), "bgp stale stale [a]");
    reload(&mut net, 0, SourceRules { filter: at_most(4), ..rules("bgp", 0, Some(Until::Refreshed)) });
    tell(&mut net, 0, &["10.0.0.0/8", "10.2.0.0/16", "10.3.0.0/16"]);
    net.say(0, 0, Event::Refreshed { complete: true });
    net.run(2.0);
    assert_eq!(prefixes(&net, 1), ["10.0.0.0/8", "10.2.0.0/16", "10.3.0.0/16"]);
    assert_eq!(net.engine(0).source_status()[0].state, "live");
    assert_eq!(net.origin(1, "bgp"), "bgp live live [a]");
}

#[test]
fn a_table_that_is_told_again_counts_once_against_the_limit() {
    let mut net = three();
    reload(&mut net, 0, SourceRules { filter: at_most(3), ..rules("bgp", 7, Some(Until::EndOfTable)) });
    tell(&mut net, 7, &["10.7.0.0/16", "10.8.0.0/16", "10.9.0.0/16"]);
    net.say(0, 7, Event::EndOfTable);
    net.run(0.1);
    assert_eq!(prefixes(&net, 1), ["10.7.0.0/16", "10.8.0.0/16", "10.9.0.0/16"]);
    // One route too many stops it, and nothing is withdrawn then.
    reload(&mut net, 0, SourceRules { filter: at_most(2), ..rules("bgp", 8, Some(Until::EndOfTable)) });
    tell(&mut net, 8, &["10.1.0.0/16", "10.2.0.0/16", "10.3.0.0/16"]);
    net.say(0, 8, Event::EndOfTable);
    net.run(0.1);
    assert_eq!(prefixes(&net, 1).len(), 5);
    assert_eq!(net.engine(0).source_status()[0].state, "stopped");
}

#[test]
fn a_large_table_is_swept_in_slices() {
    let mut net = three();
    for number in 0..2 * SLICE as u32 + 10 {
        let address = std::net::Ipv4Addr::from((20 << 24) + (number << 8));
        net.announce(0, 0, &format!("{address}/24"), "192.0.2.1");
    }
    net.run(0.5);
    let routes = |net: &mut Net, n: usize| net.engine(n).fib().counts().routes();
    assert_eq!(routes(&mut net, 1), 2 * SLICE as u64 + 13);
    reload(&mut net, 0, rules("bgp", 7, Some(Until::EndOfTable)));
    tell(&mut net, 7, &["10.0.0.0/8"]);
    net.say(0, 7, Event::EndOfTable);
    // One turn takes one slice.
    net.engine(0).withdraw_unrefreshed().unwrap();
    assert!(routes(&mut net, 0) > SLICE as u64);
    net.run(0.5);
    assert_eq!([0, 1].map(|n| routes(&mut net, n)), [1, 1]);
    assert!(net.all_equal());
}

#[test]
fn a_new_source_is_an_origin_on_all_servers() {
    let mut net = three();
    reload(&mut net, 0, rules("more", 7, Some(Until::EndOfTable)));
    net.announce(0, 7, "11.0.0.0/8", "192.0.2.1");
    net.run(0.5);
    assert_eq!(net.origin(0, "more"), "more loading live []");
    net.say(0, 7, Event::EndOfTable);
    net.run(0.5);
    assert_eq!(net.shows(1).last().unwrap(), "11.0.0.0/8 via 192.0.2.1 of more");
    assert_eq!(net.origin(1, "more"), "more live live [a]");
}

#[test]
fn an_order_in_a_restart_does_not_end_it() {
    let mut net = three();
    net.restart_source(0, 0);
    // Its new life knows one route only.
    tell(&mut net, 0, &["10.0.0.0/8"]);
    reload(&mut net, 0, SourceRules { distance: 9, ..rules("bgp", 0, Some(Until::Refreshed)) });
    tell(&mut net, 0, &["10.0.0.0/8"]);
    net.say(0, 0, Event::Refreshed { complete: false });
    net.run(0.1);
    assert_eq!(prefixes(&net, 1).len(), 3);
    tell(&mut net, 0, &["10.1.0.0/16"]);
    net.say(0, 0, Event::EndOfTable);
    net.run(0.1);
    assert_eq!(prefixes(&net, 1), ["10.0.0.0/8", "10.1.0.0/16"]);
}

#[test]
fn a_removed_source_is_gone_on_all_servers_and_may_come_back() {
    let mut net = three();
    net.announce(1, 0, "10.0.0.0/8", "192.0.2.2");
    net.run(0.5);
    let now = net.now;
    net.engine(0).reload(now, Vec::new(), &["bgp".to_owned()]).unwrap();
    net.announce(0, 0, "10.9.0.0/16", "192.0.2.9");
    net.run(0.5);
    for n in 0..2 {
        assert_eq!(net.shows(n), ["10.0.0.0/8 via 192.0.2.2 of ospf"]);
    }
    assert!(net.engine(0).source_status().is_empty());
    // Lease and hold time.
    net.run(10.0);
    assert!(net.origin(1, "bgp").starts_with("bgp expired"));
    assert_eq!(net.engine(0).rib_tables().count(), 1);
    for wait in [0.5, 10.0] {
        reload(&mut net, 0, rules("bgp", 7, Some(Until::EndOfTable)));
        net.announce(0, 7, "10.1.0.0/16", "192.0.2.1");
        net.say(0, 7, Event::EndOfTable);
        net.run(1.0);
        assert_eq!(prefixes(&net, 1), ["10.0.0.0/8", "10.1.0.0/16"]);
        assert_eq!(net.origin(1, "bgp"), "bgp live live [a]");
        let now = net.now;
        net.engine(0).reload(now, Vec::new(), &["bgp".to_owned()]).unwrap();
        net.run(wait);
        assert_eq!(prefixes(&net, 1), ["10.0.0.0/8"]);
    }
    assert!(net.all_equal());
}
