//! The state machine under a clock that the tests control.

use std::time::Duration;

use super::entry::{DELAY_FIRST_PROBE, REACHABLE_TIME};
use super::*;

/// Most unproven entries of a port.
const UNPROVEN_LIMIT: usize = 4_096;

const LIMIT: usize = 16_384;

const MAC: Mac = Mac([2, 0, 0, 0, 0, 9]);
const OTHER: Mac = Mac([2, 0, 0, 0, 0, 10]);

fn key() -> Key {
    (PortId(1), IpAddr::from([192, 0, 2, 9]))
}

struct TestTable {
    table: Table,
    now: Instant,
}

impl TestTable {
    fn new() -> TestTable {
        TestTable { table: Table::new(LIMIT, UNPROVEN_LIMIT), now: Instant::now() }
    }

    fn after(&mut self, seconds: u64) -> Vec<Action> {
        self.now += Duration::from_secs(seconds);
        let mut actions = Vec::new();
        self.table.poll(self.now, 64, |_| true, &mut actions);
        actions
    }

    fn hear(&mut self, evidence: Evidence) -> Vec<Action> {
        let mut actions = Vec::new();
        self.table.heard(key(), evidence, self.now, &mut actions);
        actions
    }

    fn miss(&mut self, key: Key) {
        self.table.missed(key, self.now, &mut Vec::new());
    }

    fn state(&self) -> Option<State> {
        self.table.get(&key()).map(|entry| entry.state)
    }
}

const fn ask(key: Key, known: Option<Mac>) -> Action {
    Action::Ask { key, known }
}

#[test]
fn a_next_hop_is_asked_for_at_once_and_used_when_it_answers() {
    let mut context = TestTable::new();
    context.table.need(key(), context.now);
    assert_eq!(context.after(0), [ask(key(), None)]);
    assert_eq!(context.after(0), [], "one question, then a pause");
    assert_eq!(context.hear(Evidence::reply(MAC)), [Action::Changed { key: key(), mac: Some(MAC) }]);
    assert_eq!(context.state(), Some(State::Reachable));
    assert_eq!(context.hear(Evidence::reply(MAC)), [], "the same again changes nothing");
}

#[test]
fn a_next_hop_that_does_not_answer_is_asked_for_ever_with_growing_pauses() {
    let mut context = TestTable::new();
    context.table.need(key(), context.now);
    let mut asked_at = Vec::new();
    for second in 0..300 {
        let actions = context.after(u64::from(second != 0));
        if !actions.is_empty() {
            assert_eq!(actions, [ask(key(), None)]);
            asked_at.push(second);
        }
    }
    assert_eq!(asked_at[..7], [0, 1, 2, 3, 4, 6, 10]);
    let last: Vec<_> = asked_at.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(last.ends_with(&[30, 30]), "{asked_at:?}");
    assert_eq!(context.state(), Some(State::Failed));
    assert_eq!(context.hear(Evidence::reply(MAC)), [Action::Changed { key: key(), mac: Some(MAC) }]);
}

#[test]
fn a_next_hop_that_no_route_uses_any_more_is_not_asked_for_ever() {
    let mut context = TestTable::new();
    context.table.need(key(), context.now);
    (0..10).for_each(|_| _ = context.after(1));
    assert_eq!(context.state(), Some(State::Failed));
    context.table.release(key());
    context.after(30);
    assert_eq!((context.state(), context.table.next_due()), (None, None));
}

#[test]
fn a_working_neighbor_is_refreshed_without_ever_being_dropped() {
    let mut context = TestTable::new();
    context.table.need(key(), context.now);
    context.hear(Evidence::reply(MAC));
    for _ in 0..5 {
        assert_eq!(context.after(29), []);
        assert_eq!(context.after(1), [ask(key(), Some(MAC))], "asked where it was, by unicast");
        assert_eq!(context.state(), Some(State::Probe));
        assert_eq!(context.hear(Evidence::reply(MAC)), [], "no change, so nothing is published");
    }
}

#[test]
fn only_questions_without_an_answer_end_a_working_neighbor() {
    let mut context = TestTable::new();
    context.table.need(key(), context.now);
    context.hear(Evidence::reply(MAC));
    for question in 0..PROBES {
        let seconds = if question == 0 { 30 } else { 1 };
        assert_eq!(context.after(seconds), [ask(key(), Some(MAC))]);
    }
    assert_eq!(context.after(1), [Action::Changed { key: key(), mac: None }, ask(key(), None)]);
    assert_eq!(context.state(), Some(State::Incomplete), "a next hop needs it, so it is asked again");
}

#[test]
fn who_is_not_needed_is_forgotten_when_it_does_not_answer() {
    let mut context = TestTable::new();
    context.miss(key());
    for _ in 0..PROBES {
        assert_eq!(context.after(1), [ask(key(), None)]);
    }
    assert_eq!(context.after(1), []);
    assert_eq!((context.state(), context.table.next_due()), (None, None));
}

#[test]
fn a_gratuitous_word_changes_known_neighbors_only() {
    let mut context = TestTable::new();
    assert_eq!(context.hear(Evidence::gratuitous(MAC)), []);
    assert_eq!(context.hear(Evidence::reply(MAC)), [], "nobody asked");
    assert_eq!(context.state(), None);
    assert_eq!(context.hear(Evidence::request(MAC)), [Action::Changed { key: key(), mac: Some(MAC) }]);
    assert_eq!(context.hear(Evidence::gratuitous(OTHER)), [Action::Changed { key: key(), mac: Some(OTHER) }]);
}

/// RFC 4861 §7.2.5 and appendix C, row by row: state, message, state and whether the MAC address becomes the other one.
#[test]
fn advertisements_change_what_their_flags_say() {
    let reachable = |context: &mut TestTable| {
        context.table.need(key(), context.now);
        context.hear(Evidence::reply(MAC));
        context.table.release(key());
    };
    let stale = |context: &mut TestTable| {
        context.hear(Evidence::request(MAC));
    };
    let probe = |context: &mut TestTable| {
        context.hear(Evidence::request(MAC));
        context.table.probe(|_| true, context.now);
        context.after(0);
    };
    let (s, o) = (true, true);
    type Row<'a> = (&'a dyn Fn(&mut TestTable), Evidence, State, bool);
    let rows: [Row<'_>; 16] = [
        // The answer of every Linux host to a request by unicast has no option: it confirms.
        (&reachable, Evidence::advertisement(None, s, o), State::Reachable, false),
        (&stale, Evidence::advertisement(None, s, o), State::Reachable, false),
        (&probe, Evidence::advertisement(None, s, !o), State::Reachable, false),
        (&probe, Evidence::advertisement(None, s, o), State::Reachable, false),
        (&probe, Evidence::advertisement(None, !s, o), State::Probe, false),
        // The same address.
        (&stale, Evidence::advertisement(Some(MAC), s, !o), State::Reachable, false),
        (&stale, Evidence::advertisement(Some(MAC), !s, o), State::Stale, false),
        (&reachable, Evidence::advertisement(Some(MAC), !s, o), State::Reachable, false),
        (&probe, Evidence::advertisement(Some(MAC), s, o), State::Reachable, false),
        // Another address without the override flag.
        (&reachable, Evidence::advertisement(Some(OTHER), s, !o), State::Stale, false),
        (&stale, Evidence::advertisement(Some(OTHER), s, !o), State::Stale, false),
        (&probe, Evidence::advertisement(Some(OTHER), s, !o), State::Probe, false),
        // With it.
        (&reachable, Evidence::advertisement(Some(OTHER), s, o), State::Reachable, true),
        (&reachable, Evidence::advertisement(Some(OTHER), !s, o), State::Stale, true),
        (&stale, Evidence::advertisement(Some(OTHER), s, o), State::Reachable, true),
        (&probe, Evidence::advertisement(Some(OTHER), !s, o), State::Stale, true),
    ];
    for (row, (before, evidence, state, moved)) in rows.into_iter().enumerate() {
        let mut context = TestTable::new();
        before(&mut context);
        let changes = if moved { vec![Action::Changed { key: key(), mac: Some(OTHER) }] } else { Vec::new() };
        assert_eq!(context.hear(evidence), changes, "row {row}");
        let mac = if moved { OTHER } else { MAC };
        let entry = *context.table.get(&key()).unwrap();
        assert_eq!((entry.state, entry.mac), (state, Some(mac)), "row {row}");
    }
}

#[test]
fn an_unresolved_neighbor_is_resolved_by_an_address_only() {
    for (evidence, state) in [
        (Evidence::advertisement(None, true, true), State::Incomplete),
        (Evidence::advertisement(Some(MAC), true, false), State::Reachable),
        (Evidence::advertisement(Some(MAC), false, false), State::Delay),
    ] {
        let mut context = TestTable::new();
        context.miss(key());
        context.hear(evidence);
        assert_eq!(context.state(), Some(state), "{evidence:?}");
    }
}

#[test]
fn an_unconfirmed_next_hop_is_probed_after_a_while() {
    let mut context = TestTable::new();
    context.table.need(key(), context.now);
    context.hear(Evidence::request(MAC));
    assert_eq!(context.state(), Some(State::Delay));
    assert_eq!(context.after(4), []);
    assert_eq!(context.after(1), [ask(key(), Some(MAC))]);
    assert_eq!(context.state(), Some(State::Probe));
    context.hear(Evidence::advertisement(None, true, false));
    assert_eq!(context.state(), Some(State::Reachable));
}

#[test]
fn a_static_neighbor_is_neither_asked_nor_changed() {
    let mut context = TestTable::new();
    let mut actions = Vec::new();
    context.table.set_static(key(), MAC, context.now, &mut actions);
    assert_eq!(actions, [Action::Changed { key: key(), mac: Some(MAC) }]);
    context.table.need(key(), context.now);
    assert_eq!(context.hear(Evidence::request(OTHER)), []);
    assert_eq!(context.after(1_000), []);
}

#[test]
fn a_group_address_is_nobodys_mac() {
    let mut context = TestTable::new();
    assert_eq!(context.hear(Evidence::request(Mac::BROADCAST)), []);
    assert_eq!(context.state(), None);
}

#[test]
fn a_host_that_packets_go_to_is_asked_again_and_another_is_not() {
    let mut context = TestTable::new();
    context.miss(key());
    context.hear(Evidence::reply(MAC));
    context.table.mark_used(|asked| *asked == key(), context.now);
    assert_eq!(context.after(REACHABLE_TIME.as_secs()), []);
    assert_eq!(context.state(), Some(State::Delay));
    assert_eq!(context.after(DELAY_FIRST_PROBE.as_secs()), [ask(key(), Some(MAC))]);
    assert_eq!(context.hear(Evidence::advertisement(None, true, false)), []);
    // No packet since that answer: it stays usable and is not probed.
    assert_eq!(context.after(30), []);
    assert_eq!((context.state(), context.table.get(&key()).unwrap().mac), (Some(State::Stale), Some(MAC)));
    // A packet: still used, and probed soon.
    context.table.mark_used(|_| true, context.now);
    assert_eq!((context.state(), context.after(4)), (Some(State::Delay), Vec::new()));
    assert_eq!(context.after(1), [ask(key(), Some(MAC))]);
    assert_eq!(context.state(), Some(State::Probe));
}

#[test]
fn a_host_that_nobody_wants_is_forgotten_without_a_question() {
    let mut context = TestTable::new();
    context.hear(Evidence::request(MAC));
    assert_eq!((context.state(), context.after(119)), (Some(State::Stale), Vec::new()));
    assert_eq!(context.after(1), [Action::Changed { key: key(), mac: None }]);
    assert_eq!((context.state(), context.table.next_due()), (None, None));
}

#[test]
fn a_scan_of_a_subnet_cannot_exhaust_the_table_and_the_newest_are_kept() {
    let mut context = TestTable::new();
    for host in 0..100_000u32 {
        context.miss((PortId(0), IpAddr::V4(host.into())));
    }
    assert_eq!(context.table.iter().count(), UNPROVEN_LIMIT);
    assert!(context.table.get(&(PortId(0), IpAddr::V4(99_999.into()))).is_some());
    assert_eq!(context.table.refused(), 100_000 - UNPROVEN_LIMIT as u64);
    // Other ports, stations that announce themselves and next hops are not affected.
    context.miss(key());
    assert_eq!(context.state(), Some(State::Incomplete));
    context.hear(Evidence::reply(MAC));
    assert_eq!(context.state(), Some(State::Reachable));
    // Without answers, all of them are deleted.
    for _ in 0..400 {
        context.after(1);
    }
    assert_eq!(context.table.iter().filter(|(key, _)| key.0 == PortId(0)).count(), 0);
}

#[test]
fn made_up_senders_displace_each_other_and_nobody_who_answered() {
    let mut context = TestTable::new();
    let mut actions = Vec::new();
    let station = |host: u32| (PortId(0), IpAddr::V4(host.into()));
    // Stations that answered, on the port that is flooded later.
    for host in 0..5_000 {
        context.table.missed(station(host), context.now, &mut actions);
        context.table.heard(station(host), Evidence::reply(MAC), context.now, &mut actions);
    }
    for host in 1_000_000..1_050_000 {
        context.table.heard(station(host), Evidence::request(OTHER), context.now, &mut actions);
    }
    assert_eq!(context.table.iter().count(), 5_000 + UNPROVEN_LIMIT);
    assert!((0..5_000).all(|host| context.table.get(&station(host)).is_some()));
    // A deleted one is gone for the workers too.
    let gone = actions.iter().filter(|action| matches!(action, Action::Changed { mac: None, .. })).count();
    assert_eq!(gone, 50_000 - UNPROVEN_LIMIT);
    context.hear(Evidence::request(MAC));
    assert_eq!(context.state(), Some(State::Stale));
}

#[test]
fn hosts_that_are_dead_for_long_take_one_place_each_and_are_asked_once_a_second() {
    let mut context = TestTable::new();
    let mut asked = 0;
    for _ in 0..2_000 {
        // Packets go to them all the time, also right after an entry is gone.
        (0..20).for_each(|host| context.miss((PortId(0), IpAddr::V4((host as u32).into()))));
        asked += context.after(1).len();
    }
    assert_eq!(context.table.refused(), 0);
    assert!(asked <= 20 * 2_001, "{asked}");
    assert!(asked >= 20 * 1_400, "{asked}");
}

#[test]
fn the_configured_limit_is_the_limit_and_unproven_entries_give_way_first() {
    let mut context = TestTable { table: Table::new(100, UNPROVEN_LIMIT), now: Instant::now() };
    let mut actions = Vec::new();
    let host = |port: u16, number: u32| (PortId(port), IpAddr::V4(number.into()));
    (0..60).for_each(|number| context.miss(host(0, number)));
    for number in 0..90 {
        context.table.missed(host(1, number), context.now, &mut actions);
        context.table.heard(host(1, number), Evidence::reply(MAC), context.now, &mut actions);
    }
    assert_eq!(context.table.iter().count(), 100);
    assert!((0..90).all(|number| context.table.get(&host(1, number)).is_some()));
    assert_eq!(context.table.refused(), 50);
    // Full of stations that answered: the next one is refused, a next hop is not.
    for number in 100..110 {
        context.table.missed(host(1, number), context.now, &mut actions);
        context.table.heard(host(1, number), Evidence::reply(MAC), context.now, &mut actions);
    }
    context.miss(host(1, 200));
    assert!(context.table.get(&host(1, 200)).is_none());
    assert_eq!((context.table.iter().count(), context.table.refused()), (100, 61));
    context.table.need(key(), context.now);
    assert_eq!(context.state(), Some(State::Incomplete));
}

#[test]
fn requests_go_out_in_the_order_in_which_they_are_due() {
    let mut context = TestTable::new();
    for host in 0..200u32 {
        context.miss((PortId(0), IpAddr::V4(host.into())));
    }
    context.now += Duration::from_millis(1);
    context.miss(key());
    // Three full calls for the older ones, then its turn, before any of them is asked again.
    let mut asked = Vec::new();
    for _ in 0..4 {
        asked.extend(context.after(0));
    }
    assert_eq!((asked.len(), asked.last()), (201, Some(&ask(key(), None))));
}

#[test]
fn a_static_neighbor_that_is_taken_back_is_asked_for_where_it_is_needed() {
    let mut context = TestTable::new();
    let mut actions = Vec::new();
    context.table.set_static(key(), MAC, context.now, &mut actions);
    actions.clear();
    assert!(context.table.remove_static(key(), true, context.now, &mut actions));
    assert_eq!(actions, [Action::Changed { key: key(), mac: None }]);
    assert_eq!(context.after(0), [ask(key(), None)]);
    assert!(!context.table.remove_static(key(), true, context.now, &mut actions));
}

#[test]
fn questions_beyond_the_limit_come_with_the_next_call() {
    let mut context = TestTable::new();
    for host in 0..100u32 {
        context.table.need((PortId(0), IpAddr::V4(host.into())), context.now);
    }
    assert_eq!((context.after(0).len(), context.after(0).len(), context.after(0).len()), (64, 36, 0));
}

#[test]
fn a_port_without_room_for_requests_delays_no_other_and_loses_none_of_its_own() {
    let mut context = TestTable::new();
    let at = |port: u16, last: u8| (PortId(port), IpAddr::from([192, 0, port as u8, last]));
    for last in 1..=200 {
        context.miss(at(0, last));
    }
    context.table.need(key(), context.now);
    context.miss(at(2, 7));
    // Port 0 is flooded for as long as a neighbor lives that does not answer.
    let mut asked = Vec::new();
    for _ in 0..500 {
        context.now += Duration::from_millis(20);
        let mut actions = Vec::new();
        context.table.poll(context.now, 64, |port| port != PortId(0), &mut actions);
        asked.extend(actions);
    }
    assert!(asked.contains(&ask(key(), None)) && asked.contains(&ask(at(2, 7), None)), "{asked:?}");
    assert!(asked.iter().all(|action| !matches!(action, Action::Ask { key, .. } if key.0 == PortId(0))));
    let waiting = context.table.iter().filter(|(key, _)| key.0 == PortId(0)).count();
    assert_eq!(waiting, 200, "what could not be asked has not been silent");
    context.now += Duration::from_millis(20);
    let (mut left, mut actions) = (3, Vec::new());
    let room = |_| {
        left -= i32::from(left > 0);
        left > 0
    };
    context.table.poll(context.now, 64, room, &mut actions);
    assert_eq!(actions.len(), 2, "as many as there is room for");
}
