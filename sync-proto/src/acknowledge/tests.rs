use super::*;

fn s(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

fn report(session: SessionId, name: &str, role: Role, change: SessionChange) -> SessionReport {
    SessionReport { session, table: "fib".into(), name: name.into(), role, change }
}

/// A machine past its start, and what is done to it.
struct Bed {
    machine: Acknowledge,
    now: Duration,
    serial: u64,
}

impl Bed {
    fn new(policy: Policy) -> Self {
        let mut machine = Acknowledge::new(policy);
        machine.advance(s(0.0), 0);
        Self { machine, now: s(100.0), serial: 10 }
    }

    fn report(&mut self, session: SessionId, name: &str, change: SessionChange) -> u64 {
        self.machine.handle_session(self.now, &report(session, name, Role::Primary, change));
        self.at(0.0)
    }

    /// Activates a node that has a table.
    fn on(&mut self, session: SessionId, name: &str) -> u64 {
        self.report(session, name, SessionChange::Activated { empty: false })
    }

    fn installed(&mut self, session: SessionId, name: &str, serial: u64) -> u64 {
        self.report(session, name, SessionChange::Installed(serial))
    }

    /// The acknowledged serial after some time.
    fn at(&mut self, later: f64) -> u64 {
        self.now += s(later);
        self.machine.advance(self.now, self.serial);
        self.machine.acknowledged()
    }

    fn commit(&mut self, serial: u64) -> u64 {
        self.serial = serial;
        self.at(0.0)
    }

    fn events(&mut self) -> Vec<AcknowledgeEvent> {
        std::iter::from_fn(|| self.machine.poll_event()).collect()
    }
}

fn patient() -> Policy {
    Policy { timeout: None, ..Policy::default() }
}

#[test]
fn the_slowest_required_node_decides() {
    let mut bed = Bed::new(patient());
    assert_eq!(bed.on(1, "a"), 0);
    assert_eq!(bed.on(2, "b"), 0);
    assert_eq!(bed.installed(1, "a", 10), 0, "b has reported nothing");
    assert_eq!(bed.installed(2, "b", 7), 7);
    assert_eq!(bed.commit(20), 7);
    assert_eq!(bed.machine.waiting_since(), Some(bed.now));
    assert_eq!(bed.installed(2, "b", 20), 10);
    assert_eq!(bed.installed(1, "a", 99), 20, "no more than the table has");
    assert_eq!(bed.machine.waiting_since(), None);
}

#[test]
fn without_nodes_everything_is_acknowledged_once_the_start_is_over() {
    let mut machine = Acknowledge::new(patient());
    assert!(!machine.advance(s(1.0), 5));
    assert_eq!(machine.next_timeout(), Some(s(6.0)));
    assert!(!machine.advance(s(5.9), 6));
    assert!(machine.advance(s(6.0), 6));
    assert_eq!((machine.acknowledged(), machine.next_timeout()), (6, None));
    assert!(machine.advance(s(6.0), 7));
}

#[test]
fn a_node_that_comes_during_the_start_counts_even_with_an_empty_table() {
    let mut machine = Acknowledge::new(patient());
    machine.advance(s(1.0), 5);
    machine.handle_session(s(2.0), &report(1, "a", Role::Primary, SessionChange::Activated { empty: true }));
    assert!(!machine.advance(s(9.0), 5));
    machine.handle_session(s(9.0), &report(1, "a", Role::Primary, SessionChange::Installed(5)));
    assert!(machine.advance(s(9.0), 5));
}

#[test]
fn a_new_node_with_an_empty_table_counts_once_it_has_caught_up() {
    let mut bed = Bed::new(patient());
    assert_eq!(bed.at(0.0), 10);
    bed.report(1, "new", SessionChange::Activated { empty: true });
    assert_eq!(bed.commit(11), 11, "it does not delay others");
    assert_eq!(bed.installed(1, "new", 10), 11);
    assert_eq!(bed.events(), []);
    bed.installed(1, "new", 11);
    assert_eq!(bed.events(), [AcknowledgeEvent::Joined("new".into())]);
    assert_eq!(bed.commit(12), 11, "now it does");
    // One that forwards already, by another server until now, counts at once.
    bed.installed(1, "new", 12);
    bed.on(2, "moved");
    assert_eq!(bed.commit(13), 12);
}

#[test]
fn a_node_that_moved_in_order_stops_counting_at_once() {
    let mut bed = Bed::new(patient());
    bed.on(1, "a");
    assert_eq!(bed.report(1, "a", SessionChange::Deactivated), 10);
    assert_eq!(bed.machine.nodes().count(), 0);
}

#[test]
fn a_lost_node_counts_for_the_grace_time_and_again_when_it_has_caught_up() {
    let mut bed = Bed::new(patient());
    bed.on(1, "a");
    bed.installed(1, "a", 10);
    bed.report(1, "a", SessionChange::Closed);
    assert_eq!(bed.commit(11), 10);
    assert_eq!(bed.machine.next_timeout(), Some(bed.now + s(5.0)));
    assert_eq!(bed.at(4.9), 10);
    assert_eq!(bed.at(0.1), 11);
    assert_eq!(bed.events(), [AcknowledgeEvent::Left("a".into())]);
    // It is back, with the table that it had.
    bed.on(2, "a");
    assert_eq!(bed.commit(12), 12);
    bed.installed(2, "a", 11);
    assert_eq!(bed.events(), []);
    bed.installed(2, "a", 12);
    assert_eq!(bed.events(), [AcknowledgeEvent::Joined("a".into())]);
    assert_eq!(bed.commit(13), 12);
}

#[test]
fn a_node_that_is_back_within_the_grace_time_has_counted_all_along() {
    let mut bed = Bed::new(patient());
    bed.on(1, "a");
    bed.installed(1, "a", 10);
    // The new connection is there before the end of the former one is noticed.
    bed.on(2, "a");
    bed.report(1, "a", SessionChange::Closed);
    assert_eq!(bed.commit(11), 10);
    assert_eq!(bed.at(60.0), 10);
    bed.report(2, "a", SessionChange::Closed);
    bed.at(3.0);
    bed.on(3, "a");
    assert_eq!(bed.at(60.0), 10, "what it had installed before does not matter, it may have restarted");
    assert_eq!(bed.installed(2, "a", 11), 10, "an old session");
    assert_eq!(bed.installed(3, "a", 11), 11);
    assert_eq!(bed.events(), []);
}

#[test]
fn a_node_that_is_lost_again_before_it_caught_up_does_not_count() {
    let mut bed = Bed::new(patient());
    bed.report(1, "a", SessionChange::Activated { empty: true });
    bed.report(1, "a", SessionChange::Closed);
    assert_eq!(bed.commit(11), 11);
    assert_eq!(bed.machine.nodes().map(|(_, node)| node.standing).collect::<Vec<_>>(), [Standing::Gone]);
}

#[test]
fn after_the_timeout_a_serial_is_announced_without_the_missing_nodes() {
    let mut bed = Bed::new(Policy { timeout: Some(s(2.0)), ..Policy::default() });
    bed.on(1, "slow");
    assert_eq!(bed.at(1.0), 0);
    assert_eq!(bed.commit(11), 0);
    assert_eq!(bed.at(1.0), 10, "the later serial waits for a second yet");
    let nodes = vec!["slow".to_owned()];
    assert_eq!(bed.events(), [AcknowledgeEvent::TimedOut { serial: 10, nodes, announced: true }]);
    assert_eq!(bed.at(1.0), 11);
    assert_eq!((bed.events(), bed.machine.timeouts()), (vec![], 2), "reported once");
    bed.installed(1, "slow", 11);
    assert_eq!(bed.events(), [AcknowledgeEvent::CaughtUp]);
}

#[test]
fn with_hold_nothing_is_announced_and_the_nodes_are_named_once() {
    let policy = Policy { timeout: Some(s(2.0)), on_timeout: OnTimeout::Hold, ..Policy::default() };
    let mut bed = Bed::new(policy);
    bed.on(1, "slow");
    assert_eq!(bed.at(60.0), 0);
    let nodes = vec!["slow".to_owned()];
    assert_eq!(bed.events(), [AcknowledgeEvent::TimedOut { serial: 10, nodes, announced: false }]);
    assert_eq!((bed.machine.overdue(), bed.machine.next_timeout()), (10, None));
    assert_eq!(bed.at(60.0), 0);
    assert_eq!(bed.events(), []);
    assert_eq!(bed.installed(1, "slow", 10), 10);
    assert_eq!(bed.events(), [AcknowledgeEvent::CaughtUp]);
}

#[test]
fn a_serial_is_not_announced_before_its_own_timeout_however_many_wait() {
    let mut bed = Bed::new(Policy { timeout: Some(s(2.0)), ..Policy::default() });
    bed.on(1, "slow");
    let mut committed = vec![(bed.now, bed.serial)];
    for serial in 11..2_000 {
        bed.now += s(0.003);
        let acknowledged = bed.commit(serial);
        committed.push((bed.now, serial));
        let early = committed.iter().find(|(at, serial)| *serial <= acknowledged && bed.now < *at + s(2.0));
        assert_eq!(early, None);
        let late = committed.iter().find(|(at, serial)| *serial > acknowledged && bed.now > *at + s(2.2));
        assert_eq!(late, None);
    }
    assert!(bed.machine.waiting.len() <= 2 * STEPS as usize + 2);
}

#[test]
fn a_quorum_of_the_counting_nodes_suffices() {
    let mut bed = Bed::new(Policy { quorum: 66, ..patient() });
    for (session, name) in [(1, "a"), (2, "b"), (3, "c")] {
        bed.on(session, name);
    }
    assert_eq!(bed.installed(1, "a", 10), 0);
    assert_eq!(bed.installed(2, "b", 9), 9, "two of three");
    let mut bed = Bed::new(Policy { quorum: 1, ..patient() });
    bed.on(1, "a");
    bed.on(2, "b");
    assert_eq!(bed.installed(1, "a", 10), 10, "at least one");
}

#[test]
fn only_required_nodes_count() {
    let mut bed =
        Bed::new(Policy { require: Require::Names(vec!["nh-*".into(), "edge".into()]), ..patient() });
    bed.on(1, "lab-1");
    assert_eq!(bed.at(0.0), 10);
    bed.on(2, "nh-1");
    bed.on(3, "edge");
    assert_eq!(bed.commit(11), 10);
    bed.installed(2, "nh-1", 11);
    assert_eq!(bed.installed(3, "edge", 11), 11);

    let mut bed = Bed::new(Policy { require: Require::PrimaryTier, ..patient() });
    let second = report(1, "a", Role::Secondary, SessionChange::Activated { empty: false });
    bed.machine.handle_session(bed.now, &second);
    assert_eq!(bed.at(0.0), 10);
    bed.on(2, "b");
    assert_eq!(bed.commit(11), 10);
    assert!(!matches("nh-*1", "nh-") && matches("*", "x") && !matches("a", "ab"));
}

#[test]
fn nodes_that_left_are_forgotten_in_the_end() {
    let mut bed = Bed::new(patient());
    for n in 0..400 {
        let name = format!("n{n}");
        bed.report(n, &name, SessionChange::Activated { empty: true });
        bed.now += s(0.01);
        bed.report(n, &name, SessionChange::Closed);
    }
    assert_eq!(bed.machine.nodes().count(), MAX_GONE);
    assert!(bed.machine.nodes().any(|(name, _)| name == "n399"));
}

#[test]
fn no_call_is_due_at_once_after_a_call() {
    let mut bed = Bed::new(Policy { timeout: Some(s(2.0)), ..Policy::default() });
    bed.on(1, "a");
    for step in 0..200 {
        match step % 7 {
            0 => {
                bed.commit(bed.serial + 1);
            }
            3 => {
                bed.report(1, "a", SessionChange::Closed);
            }
            5 => {
                bed.on(1, "a");
            }
            _ => {}
        }
        assert!(bed.machine.next_timeout().is_none_or(|due| due > bed.now), "{step}");
        bed.at(0.7);
        assert!(bed.machine.next_timeout().is_none_or(|due| due > bed.now), "{step}");
    }
    // Waiting for a node since before the end of the start.
    let mut machine = Acknowledge::new(patient());
    machine.advance(s(1.0), 5);
    machine.handle_session(s(1.0), &report(1, "a", Role::Primary, SessionChange::Activated { empty: false }));
    machine.advance(s(9.0), 5);
    assert_eq!(machine.next_timeout(), None);
}

fn key(n: u8) -> RouteKey {
    (0, ipnet::Ipv4Net::new([10, n, 0, 0].into(), 16).unwrap().into())
}

impl Bed {
    /// A node says which routes it refuses from now on, and which it does no longer.
    fn refuse(&mut self, session: SessionId, name: &str, whole: bool, routes: &[u8], over: &[u8]) -> Vec<u8> {
        let routes = routes.iter().map(|n| (key(*n), Some(Reason::Kernel)));
        let routes = routes.chain(over.iter().map(|n| (key(*n), None))).collect();
        self.report(session, name, SessionChange::Refused { whole, more: 0, routes });
        self.refused()
    }

    fn refused(&mut self) -> Vec<u8> {
        self.at(0.0);
        (0..100).filter(|n| self.machine.refused().contains_key(&key(*n))).collect()
    }
}

#[test]
fn a_route_is_refused_while_one_of_all_refuses_it_and_the_serial_grows_all_the_same() {
    let mut bed = Bed::new(patient());
    bed.on(1, "a");
    bed.on(2, "b");
    assert_eq!(bed.refuse(1, "a", true, &[3, 4], &[]), [3, 4]);
    bed.installed(1, "a", 10);
    assert_eq!(bed.installed(2, "b", 10), 10);
    assert_eq!(bed.refuse(2, "b", true, &[4, 5], &[]), [3, 4, 5]);
    assert_eq!(bed.refuse(1, "a", false, &[], &[3, 4]), [4, 5], "the other one still refuses 4");
    assert!(bed.machine.take_moved().into_iter().eq([3, 4, 5].map(key)));
    assert_eq!(bed.refuse(2, "b", false, &[6], &[4]), [5, 6]);
    assert!(bed.machine.take_moved().into_iter().eq([4, 6].map(key)));
    assert_eq!(bed.refuse(2, "b", true, &[7], &[]), [7], "a whole list replaces what was said");
}

#[test]
fn a_timeout_announces_serials_but_no_refused_route() {
    let mut bed = Bed::new(Policy::default());
    bed.on(1, "a");
    bed.refuse(1, "a", true, &[3], &[]);
    assert_eq!(bed.at(20.0), 10);
    assert_eq!(bed.refused(), [3]);
}

#[test]
fn with_a_quorum_a_route_is_refused_when_too_few_are_left() {
    let mut bed = Bed::new(Policy { quorum: 60, ..patient() });
    for (session, name) in [(1, "a"), (2, "b"), (3, "c"), (4, "d"), (5, "e")] {
        bed.on(session, name);
        bed.installed(session, name, 10);
    }
    assert_eq!(bed.refuse(1, "a", true, &[3], &[]), []);
    assert_eq!(bed.refuse(2, "b", true, &[3], &[]), [], "three of five are enough");
    assert_eq!(bed.refuse(3, "c", true, &[3], &[]), [3]);
    // Of four, three are required.
    bed.refuse(3, "c", false, &[], &[3]);
    assert_eq!(bed.refused(), []);
    bed.report(5, "e", SessionChange::Deactivated);
    assert_eq!(bed.refused(), [3]);
}

#[test]
fn what_a_node_refuses_holds_while_it_is_lost_and_until_it_says_something_else() {
    let mut bed = Bed::new(patient());
    bed.on(1, "a");
    bed.refuse(1, "a", true, &[3], &[]);
    bed.installed(1, "a", 10);
    bed.on(2, "b");
    bed.refuse(2, "b", true, &[4], &[]);
    bed.installed(2, "b", 10);
    bed.report(1, "a", SessionChange::Closed);
    assert_eq!(bed.refused(), [3, 4]);
    bed.on(3, "a");
    assert_eq!(bed.refused(), [3, 4], "it is here again, and has said nothing yet");
    assert_eq!(bed.refuse(2, "b", false, &[], &[4]), [3, 4], "it may refuse what the other one takes");
    assert_eq!(bed.refuse(3, "a", true, &[4], &[]), [4]);
    bed.report(3, "a", SessionChange::Closed);
    bed.on(4, "a");
    bed.installed(4, "a", 10);
    assert_eq!(bed.refused(), [], "it would have said so before");
}

#[test]
fn what_a_node_refused_holds_for_the_grace_time_after_it_has_moved_to_another_server() {
    let mut bed = Bed::new(patient());
    bed.on(1, "a");
    bed.refuse(1, "a", true, &[3], &[]);
    bed.on(2, "b");
    bed.refuse(2, "b", true, &[4], &[]);
    bed.installed(2, "b", 10);
    bed.report(1, "a", SessionChange::Deactivated);
    assert_eq!(bed.refused(), [3, 4]);
    let due = bed.machine.next_timeout().unwrap() - bed.now;
    assert_eq!(due, patient().grace);
    bed.at(due.as_secs_f64());
    assert_eq!(bed.refused(), [4]);
}

#[test]
fn a_node_that_does_not_count_refuses_nothing() {
    let mut bed = Bed::new(Policy { require: Require::Names(vec!["nh-*".into()]), ..patient() });
    bed.on(1, "relay");
    assert_eq!(bed.refuse(1, "relay", true, &[2], &[]), []);
    bed.report(2, "nh-1", SessionChange::Activated { empty: true });
    assert_eq!(bed.refuse(2, "nh-1", true, &[3], &[]), [], "it is to catch up first");
    bed.installed(2, "nh-1", 10);
    assert_eq!(bed.refused(), [3]);
    bed.report(2, "nh-1", SessionChange::Closed);
    bed.at(5.0);
    assert_eq!(bed.refused(), [], "it is away for longer than the grace time");
    assert!(bed.machine.nodes().all(|(name, node)| name == "relay" || node.refused().is_empty()));
}

#[test]
fn no_node_can_make_a_server_keep_more_than_the_limit() {
    use crate::refusal::LIMIT;
    let mut bed = Bed::new(patient());
    bed.on(1, "a");
    for part in 0..4u32 {
        let all = (0..LIMIT as u32).map(|n| part << 20 | n << 8);
        let routes =
            all.map(|at| ((0, ipnet::Ipv4Net::new(at.into(), 24).unwrap().into()), Some(Reason::Kernel)));
        bed.report(1, "a", SessionChange::Refused { whole: false, more: 9, routes: routes.collect() });
    }
    let node = bed.machine.nodes().next().unwrap().1;
    assert_eq!((node.refused().len(), node.more_refused()), (LIMIT, 9));
    assert_eq!(bed.machine.refused().len(), LIMIT);
}
