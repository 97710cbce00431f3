//! Leases on a clock by hand.

use super::*;

const HOLD: Duration = Duration::from_secs(10);

fn s(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

fn value(epoch: u64, sequence: u64) -> OriginValue {
    OriginValue {
        name: "bgp".into(),
        server: "a".into(),
        epoch,
        sequence,
        ready: true,
        lease_ms: 3_000,
        stale: false,
    }
}

fn id() -> OriginId {
    OriginId::instance("a", "bgp")
}

fn events(o: &mut Origins) -> Vec<OriginEvent> {
    std::iter::from_fn(|| o.poll_event()).collect()
}

fn catalog(o: &Origins) -> Vec<OriginValue> {
    o.catalog()
        .others()
        .filter_map(|(_, v)| if let Value::Origin(v) = v { Some((**v).clone()) } else { None })
        .collect()
}

#[test]
fn lease_lasts_as_long_as_new_sequences_come() {
    let mut o = Origins::new("b", 1, HOLD);
    for n in 1..20u32 {
        o.heard(s(f64::from(n)), &value(1, n.into())).unwrap();
        o.handle_timeout(s(f64::from(n))).unwrap();
    }
    assert_eq!(events(&mut o), [OriginEvent::Appeared(id()), OriginEvent::Live(id())]);
    assert_eq!(o.poll_timeout(), Some(s(22.0)));
    o.handle_timeout(s(22.0)).unwrap();
    assert_eq!(events(&mut o), [OriginEvent::Stale(id())]);
    assert!(catalog(&o)[0].stale);
    o.handle_timeout(s(32.0)).unwrap();
    assert_eq!(events(&mut o), [OriginEvent::Expired(id())]);
    assert!(catalog(&o).is_empty());
}

#[test]
fn looped_description_refreshes_nothing_and_does_not_come_back() {
    let mut o = Origins::new("b", 1, HOLD);
    for n in 1..40u32 {
        // The same repeatedly, and an older one.
        o.heard(s(f64::from(n)), &value(5, 7)).unwrap();
        o.heard(s(f64::from(n)), &value(5, 6)).unwrap();
        o.handle_timeout(s(f64::from(n))).unwrap();
    }
    let all = [
        OriginEvent::Appeared(id()),
        OriginEvent::Live(id()),
        OriginEvent::Stale(id()),
        OriginEvent::Expired(id()),
    ];
    assert_eq!(events(&mut o), all);
    o.heard(s(50.0), &value(5, 8)).unwrap();
    assert_eq!(events(&mut o), [OriginEvent::Live(id())]);
    assert_eq!(catalog(&o), [value(5, 8)]);
}

#[test]
fn newer_epoch_counts_whatever_its_sequence() {
    let mut o = Origins::new("b", 1, HOLD);
    o.heard(s(1.0), &value(5, 700)).unwrap();
    o.heard(s(2.0), &value(6, 1)).unwrap();
    o.heard(s(3.0), &value(5, 701)).unwrap();
    assert_eq!(o.describe(id()).map(|v| (v.epoch, v.sequence)), Some((6, 1)));
    assert_eq!(o.state(id()), Some(OriginState::Live { until: s(5.0) }));
}

#[test]
fn restart_that_is_not_ready_yet_gives_the_old_routes_no_new_lease() {
    let mut o = Origins::new("b", 1, HOLD);
    o.heard(s(1.0), &value(5, 9)).unwrap();
    let loading = OriginValue { ready: false, ..value(6, 1) };
    o.heard(s(2.0), &loading).unwrap();
    assert_eq!(o.state(id()), Some(OriginState::Live { until: s(4.0) }));
    o.handle_timeout(s(4.0)).unwrap();
    o.heard(s(5.0), &OriginValue { sequence: 2, ..loading }).unwrap();
    assert_eq!(o.state(id()), Some(OriginState::Stale { since: s(4.0) }));
    o.heard(s(6.0), &value(6, 3)).unwrap();
    assert_eq!(o.state(id()), Some(OriginState::Live { until: s(9.0) }));
}

#[test]
fn origin_that_never_gets_ready_is_forgotten_when_its_server_is_gone() {
    let mut o = Origins::new("b", 1, HOLD);
    o.heard(s(1.0), &OriginValue { ready: false, ..value(6, 1) }).unwrap();
    o.heard(s(2.0), &OriginValue { ready: false, ..value(6, 2) }).unwrap();
    o.handle_timeout(s(4.5)).unwrap();
    assert_eq!(o.state(id()), Some(OriginState::Loading { until: s(5.0) }));
    o.handle_timeout(s(5.0)).unwrap();
    assert_eq!(events(&mut o), [OriginEvent::Appeared(id()), OriginEvent::Expired(id())]);
    assert!(catalog(&o).is_empty());
    o.heard(s(6.0), &value(6, 3)).unwrap();
    assert_eq!(events(&mut o), [OriginEvent::Live(id())]);
}

#[test]
fn server_whose_clock_was_set_back_is_heard_again_once_its_past_is_forgotten() {
    let mut o = Origins::new("b", 1, HOLD);
    o.heard(s(1.0), &value(5, 9)).unwrap();
    [4.0, 14.0].into_iter().for_each(|t| o.handle_timeout(s(t)).unwrap());
    o.heard(s(15.0), &value(4, 1)).unwrap();
    assert!(matches!(o.state(id()), Some(OriginState::Expired { .. })));
    o.handle_timeout(s(79.0)).unwrap();
    o.heard(s(79.1), &value(4, 70)).unwrap();
    assert_eq!(o.state(id()), Some(OriginState::Live { until: s(82.1) }));
}

#[test]
fn one_that_starts_learns_a_stale_origin_as_stale() {
    let mut o = Origins::new("b", 1, HOLD);
    o.heard(s(1.0), &OriginValue { stale: true, ..value(5, 9) }).unwrap();
    assert_eq!(events(&mut o), [OriginEvent::Appeared(id()), OriginEvent::Stale(id())]);
    assert_eq!(o.poll_timeout(), Some(s(11.0)));
}

#[test]
fn an_origin_that_its_own_server_calls_stale_stays_stale_and_is_live_again_when_it_says_so() {
    for hold in [Duration::ZERO, HOLD] {
        let (mut a, mut b) = (Origins::new("a", 5, hold), Origins::new("b", 1, hold));
        let own = a.add(s(0.0), "bgp", LEASE).unwrap();
        a.ready(s(0.0), own).unwrap();
        a.set_stale(s(0.5), own, true).unwrap();
        for n in 0..100 {
            let now = s(0.5 + f64::from(n));
            a.handle_timeout(now).unwrap();
            b.heard(now, &catalog(&a)[0]).unwrap();
            b.handle_timeout(now).unwrap();
            assert!(matches!(b.state(own), Some(OriginState::Stale { .. })) || n == 0, "{hold:?} {n}");
        }
        a.set_stale(s(100.0), own, false).unwrap();
        b.heard(s(100.0), &catalog(&a)[0]).unwrap();
        assert_eq!(b.state(own), Some(OriginState::Live { until: s(103.0) }));
        a.set_stale(s(101.0), own, true).unwrap();
        b.heard(s(101.0), &catalog(&a)[0]).unwrap();
        // Its server is gone now: lease and hold time.
        assert_eq!(b.poll_timeout(), Some(s(104.0) + hold));
    }
}

#[test]
fn own_origins_are_refreshed_and_outrank_their_past() {
    let mut o = Origins::new("a", 5, HOLD);
    let own = o.add(s(0.0), "bgp", LEASE).unwrap();
    assert_eq!(own, id());
    o.ready(s(0.1), own).unwrap();
    o.handle_timeout(s(1.2)).unwrap();
    assert_eq!(catalog(&o), [value(5, 3)]);
    // From before a restart with a clock that was set back.
    o.heard(s(1.3), &value(900, 4)).unwrap();
    o.heard(s(1.4), &value(900, 4)).unwrap();
    assert_eq!(events(&mut o), [OriginEvent::Contested(own)]);
    assert_eq!(o.poll_timeout(), Some(s(2.3)));
    o.handle_timeout(s(2.3)).unwrap();
    assert_eq!(catalog(&o), [value(901, 4)]);
    o.heard(s(2.4), &value(901, 4)).unwrap();
    assert_eq!(catalog(&o), [value(901, 4)]);
    assert!(events(&mut o).is_empty());
    // An origin that we do not run must not be relayed by us.
    o.heard(s(1.5), &OriginValue { name: "old".into(), ..value(1, 1) }).unwrap();
    assert_eq!(catalog(&o).len(), 1);
}

#[test]
fn origins_are_bounded_and_the_longest_expired_one_makes_room() {
    let mut o = Origins::new("b", 1, HOLD);
    let named = |n: usize| OriginValue { name: format!("o{n}"), ..value(1, 1) };
    (0..MAX_ORIGINS + 5).for_each(|n| o.heard(s(1.0), &named(n)).unwrap());
    assert_eq!(o.others().count(), MAX_ORIGINS);
    for t in [4.0, 14.0] {
        o.handle_timeout(s(t)).unwrap();
    }
    assert!(o.catalog().is_empty());
    o.heard(s(15.0), &named(999)).unwrap();
    assert_eq!((o.others().count(), o.catalog().len()), (MAX_ORIGINS, 1));
}

#[test]
fn table_names_lead_back_to_their_origins() {
    assert_eq!(origin_of(&table_name(id())), Some(id()));
    for other in ["rib", "rib/", "fib", "rib/12", "rib/zzzzzzzzzzzzzzzz"] {
        assert_eq!(origin_of(other), None);
    }
}

#[test]
fn a_removed_origin_ends_with_its_lease_and_one_of_its_name_is_newer() {
    let (mut a, mut b) = (Origins::new("a", 5, HOLD), Origins::new("b", 1, HOLD));
    let own = a.add(s(0.0), "bgp", LEASE).unwrap();
    a.ready(s(0.0), own).unwrap();
    b.heard(s(0.0), &catalog(&a)[0]).unwrap();
    a.remove(own).unwrap();
    // Whatever is said of it.
    a.ready(s(0.5), own).unwrap();
    a.set_stale(s(0.5), own, true).unwrap();
    a.heard(s(0.5), &value(900, 4)).unwrap();
    a.handle_timeout(s(5.0)).unwrap();
    assert!(catalog(&a).is_empty());
    b.handle_timeout(s(3.0)).unwrap();
    b.handle_timeout(s(13.0)).unwrap();
    assert!(matches!(b.state(own), Some(OriginState::Expired { .. })));
    assert_eq!(a.add(s(14.0), "bgp", LEASE), Ok(own));
    a.ready(s(14.0), own).unwrap();
    b.heard(s(14.0), &catalog(&a)[0]).unwrap();
    assert_eq!(b.state(own), Some(OriginState::Live { until: s(17.0) }));
}
