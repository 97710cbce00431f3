//! The state machine under a clock that the tests control.

use super::*;

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
        TestTable { table: Table::default(), now: Instant::now() }
    }

    fn after(&mut self, seconds: u64) -> Vec<Action> {
        self.now += Duration::from_secs(seconds);
        let mut actions = Vec::new();
        self.table.poll(self.now, 64, &mut actions);
        actions
    }

    fn hear(&mut self, mac: Mac, create: bool) -> Vec<Action> {
        let mut actions = Vec::new();
        self.table.heard(key(), mac, create, self.now, &mut actions);
        actions
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
    assert_eq!(context.hear(MAC, false), [Action::Changed { key: key(), mac: Some(MAC) }]);
    assert_eq!(context.state(), Some(State::Reachable));
    assert_eq!(context.hear(MAC, false), [], "the same again changes nothing");
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
    assert_eq!(context.hear(MAC, false), [Action::Changed { key: key(), mac: Some(MAC) }]);
}

#[test]
fn a_working_neighbor_is_refreshed_without_ever_being_dropped() {
    let mut context = TestTable::new();
    context.table.need(key(), context.now);
    context.hear(MAC, false);
    for _ in 0..5 {
        assert_eq!(context.after(29), []);
        assert_eq!(context.after(1), [ask(key(), Some(MAC))], "asked where it was, by unicast");
        assert_eq!(context.state(), Some(State::Probing));
        assert_eq!(context.hear(MAC, false), [], "no change, so nothing is published");
    }
}

#[test]
fn only_questions_without_an_answer_end_a_working_neighbor() {
    let mut context = TestTable::new();
    context.table.need(key(), context.now);
    context.hear(MAC, false);
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
    context.table.missed(key(), context.now);
    for _ in 0..PROBES {
        assert_eq!(context.after(1), [ask(key(), None)]);
    }
    assert_eq!(context.after(1), []);
    assert_eq!((context.state(), context.table.next_due()), (None, None));
}

#[test]
fn a_gratuitous_word_changes_known_neighbors_only() {
    let mut context = TestTable::new();
    assert_eq!(context.hear(MAC, false), []);
    assert_eq!(context.state(), None);
    assert_eq!(context.hear(MAC, true), [Action::Changed { key: key(), mac: Some(MAC) }], "it asked for us");
    assert_eq!(context.hear(OTHER, false), [Action::Changed { key: key(), mac: Some(OTHER) }]);
}

#[test]
fn a_static_neighbor_is_neither_asked_nor_changed() {
    let mut context = TestTable::new();
    let mut actions = Vec::new();
    context.table.set_static(key(), MAC, context.now, &mut actions);
    assert_eq!(actions, [Action::Changed { key: key(), mac: Some(MAC) }]);
    context.table.need(key(), context.now);
    assert_eq!(context.hear(OTHER, true), []);
    assert_eq!(context.after(1_000), []);
}

#[test]
fn a_group_address_is_nobodys_mac() {
    let mut context = TestTable::new();
    assert_eq!(context.hear(Mac::BROADCAST, true), []);
    assert_eq!(context.state(), None);
}

#[test]
fn a_host_that_packets_go_to_is_asked_again_and_another_is_not() {
    let mut context = TestTable::new();
    context.hear(MAC, true);
    context.table.mark_used(|asked| *asked == key(), context.now);
    assert_eq!(context.after(30), [ask(key(), Some(MAC))]);
    assert_eq!(context.hear(MAC, false), []);
    // No packet since that answer: it stays usable and is not probed.
    assert_eq!(context.after(30), []);
    assert_eq!((context.state(), context.table.get(&key()).unwrap().mac), (Some(State::Stale), Some(MAC)));
    // A packet: probed at once, still used.
    context.table.mark_used(|_| true, context.now);
    assert_eq!(context.after(0), [ask(key(), Some(MAC))]);
    assert_eq!(context.state(), Some(State::Probing));
}

#[test]
fn a_host_that_nobody_wants_is_forgotten_without_a_question() {
    let mut context = TestTable::new();
    context.hear(MAC, true);
    assert_eq!(context.after(30), []);
    assert_eq!(context.after(119), []);
    assert_eq!(context.after(1), [Action::Changed { key: key(), mac: None }]);
    assert_eq!(context.state(), None);
}

#[test]
fn a_scan_of_a_subnet_cannot_exhaust_the_table_and_the_newest_are_kept() {
    let mut context = TestTable::new();
    for host in 0..100_000u32 {
        context.table.missed((PortId(0), IpAddr::V4(host.into())), context.now);
    }
    assert_eq!(context.table.iter().count(), UNANSWERED_LIMIT);
    assert!(context.table.get(&(PortId(0), IpAddr::V4(99_999.into()))).is_some());
    assert_eq!(context.table.refused(), 100_000 - UNANSWERED_LIMIT as u64);
    // Other ports, stations that announce themselves and next hops are not affected.
    context.table.missed(key(), context.now);
    assert_eq!(context.state(), Some(State::Incomplete));
    context.hear(MAC, false);
    assert_eq!(context.state(), Some(State::Reachable));
    // Without answers, all of them are deleted.
    for _ in 0..200 {
        context.after(1);
    }
    assert_eq!(context.table.iter().filter(|(key, _)| key.0 == PortId(0)).count(), 0);
}

#[test]
fn stations_that_speak_are_bounded_too() {
    let mut context = TestTable::new();
    let mut actions = Vec::new();
    for host in 0..LEARNED_LIMIT as u32 + 10 {
        context.table.heard((PortId(0), IpAddr::V4(host.into())), MAC, true, context.now, &mut actions);
    }
    assert_eq!((context.table.iter().count(), context.table.refused()), (LEARNED_LIMIT, 10));
    context.table.need(key(), context.now);
    assert_eq!(context.state(), Some(State::Incomplete));
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
