use super::*;
use crate::neighbor::mac_of;
use crate::neighbor::tests::link;
use crate::traffic::order::Direction;

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn plan(table: &[(&str, &str)], updates: &[(u64, &str, &str)]) -> Result<Plan, PlanError> {
    let updates: Vec<_> = updates
        .iter()
        .map(|(due, prefix, gateway)| Update { due_ns: *due, prefix: net(prefix), gateway: ip(gateway) })
        .collect();
    let table: Vec<_> = table.iter().map(|(prefix, gateway)| (net(prefix), ip(gateway))).collect();
    Plan::new(table, &updates, &[], &[link(0), link(1)], 50_000_000, &Wanted { seed: 1, ..Wanted::default() })
}

/// The flow of a prefix of the table.
fn flow_of<'a>(plan: &'a Plan, prefix: &str) -> &'a Flow {
    plan.flows
        .iter()
        .find(|flow| net(prefix).contains(&flow.to) && plan.prefix(flow) == Some(net(prefix)))
        .unwrap()
}

fn wanted() -> Wanted {
    Wanted { seed: 1, ..Wanted::default() }
}

fn judge(plan: &Plan, gateway: &str, sent_ms: u64, back_ms: u64) -> Verdict {
    let port = usize::from(link(1).holds(ip(gateway)));
    let flow = plan.flows.iter().max_by_key(|flow| plan.changes.of(flow.route).count()).unwrap();
    plan.judge(flow, port, mac_of(ip(gateway)), sent_ms * 1_000_000, back_ms * 1_000_000)
}

#[test]
fn destination_lies_in_its_prefix_but_not_in_a_longer_one() {
    let table = [("10.0.0.0/8", "198.18.0.2"), ("10.0.0.0/9", "198.18.0.3"), ("2a00::/16", "2001:2::2")];
    let plan = plan(&table, &[]).unwrap();
    assert_eq!(plan.flows.len(), 3);
    for (prefix, gateway) in table {
        assert_eq!(plan.expected(flow_of(&plan, prefix), 0).unwrap().address, ip(gateway));
    }
    assert!(!net("10.0.0.0/9").contains(&flow_of(&plan, "10.0.0.0/8").to));
}

#[test]
fn prefix_that_longer_ones_cover_expects_the_next_hop_of_those() {
    let table = [("10.0.0.0/8", "198.18.0.2"), ("10.0.0.0/9", "198.18.0.3"), ("10.128.0.0/9", "198.18.0.3")];
    let plan = plan(&table, &[]).unwrap();
    assert!(plan.flows.iter().all(|flow| plan.expected(flow, 0).unwrap().address == ip("198.18.0.3")));
}

#[test]
fn destinations_that_no_router_forwards_are_skipped() {
    let plan = plan(
        &[("224.0.0.0/8", "198.18.0.2"), ("198.19.7.0/24", "198.18.0.2"), ("9.0.0.0/8", "198.18.0.2")],
        &[],
    );
    let plan = plan.unwrap();
    assert_eq!((plan.skipped, plan.flows.len()), (2, 1));
}

#[test]
fn only_the_timetables_next_hop_is_right_outside_of_the_settling_time() {
    let changes = [(100_000_000, "9.0.0.0/8", "198.19.0.3"), (300_000_000, "9.0.0.0/8", "198.18.0.4")];
    let plan = plan(&[("9.0.0.0/8", "198.18.0.2")], &changes).unwrap();
    let (first, second, third) = ("198.18.0.2", "198.19.0.3", "198.18.0.4");
    assert_eq!(judge(&plan, first, 50, 60), Verdict::Current);
    assert_eq!(judge(&plan, second, 50, 60), Verdict::Wrong, "before it is due");
    assert_eq!(judge(&plan, second, 99, 101), Verdict::Current);
    assert_eq!(judge(&plan, first, 140, 150), Verdict::Previous);
    assert_eq!(judge(&plan, first, 151, 152), Verdict::Wrong, "settled");
    assert_eq!(judge(&plan, second, 200, 201), Verdict::Current);
    assert_eq!(judge(&plan, third, 200, 201), Verdict::Wrong);
    assert_eq!(judge(&plan, third, 400, 401), Verdict::Current);
    assert_eq!(judge(&plan, second, 400, 401), Verdict::Wrong);
    assert_eq!((plan.changes_due(0), plan.changes_due(100_000_000), plan.changes_due(u64::MAX)), (0, 1, 2));
}

#[test]
fn set_changes_its_routes_when_told_and_settles_like_any_change() {
    let table = [("8.0.0.0/8", "198.18.0.2"), ("9.0.0.0/8", "198.18.0.2")].map(|(p, g)| (net(p), ip(g)));
    let set = |name: &str, gateway| Set { name: name.into(), routes: vec![(net("8.0.0.0/8"), ip(gateway))] };
    let sets = [set("away", "198.19.0.3"), set("home", "198.18.0.2")];
    let mut plan = Plan::new(table, &[], &sets, &[link(0), link(1)], 50_000_000, &wanted()).unwrap();
    let (home, away) = ("198.18.0.2", "198.19.0.3");
    assert_eq!(
        (judge(&plan, home, 100, 101), judge(&plan, away, 100, 101)),
        (Verdict::Current, Verdict::Wrong)
    );
    assert_eq!((plan.change_set("away", 100_000_000), plan.change_set("else", 100_000_000)), (Some(1), None));
    let number = plan.flows.iter().position(|flow| plan.prefix(flow) == Some(net("8.0.0.0/8"))).unwrap();
    assert_eq!(plan.change(0), Some((100_000_000, Some(number as u32))));
    assert_eq!(
        (judge(&plan, home, 140, 150), judge(&plan, away, 101, 102)),
        (Verdict::Previous, Verdict::Current)
    );
    assert_eq!(judge(&plan, home, 151, 152), Verdict::Wrong, "settled");
    plan.change_set("home", 300_000_000);
    assert_eq!(
        (judge(&plan, away, 310, 320), judge(&plan, home, 400, 401)),
        (Verdict::Previous, Verdict::Current)
    );
    assert_eq!(plan.changes_due(u64::MAX), 2);
    let unknown = [Set { name: "x".into(), routes: vec![(net("7.0.0.0/8"), ip(home))] }];
    let error = Plan::new(table, &[], &unknown, &[link(0)], 0, &wanted()).unwrap_err().to_string();
    assert_eq!(
        error,
        "change of 7.0.0.0/8, which is not in the table: only changes of next hops can be checked"
    );
}

#[test]
fn changes_of_a_timetable_and_of_a_set_count_together_in_order_of_time() {
    let table = [("8.0.0.0/8", "198.18.0.2"), ("9.0.0.0/8", "198.18.0.2")].map(|(p, g)| (net(p), ip(g)));
    let update =
        |ms: u64, gateway| Update { due_ns: ms * 1_000_000, prefix: net("8.0.0.0/8"), gateway: ip(gateway) };
    let updates = [update(100, "198.18.0.4"), update(500, "198.18.0.5")];
    let sets = [Set { name: "away".into(), routes: vec![(net("8.0.0.0/8"), ip("198.19.0.3"))] }];
    let mut plan = Plan::new(table, &updates, &sets, &[link(0), link(1)], 50_000_000, &wanted()).unwrap();
    assert_eq!(plan.change_set("away", 300_000_000), Some(1));
    let due: Vec<u64> = (0..4).map_while(|number| Some(plan.change(number)?.0 / 1_000_000)).collect();
    assert_eq!(due, [100, 300, 500]);
    for (gateway, ms) in [("198.18.0.2", 50), ("198.18.0.4", 200), ("198.19.0.3", 400), ("198.18.0.5", 600)] {
        assert_eq!(judge(&plan, gateway, ms, ms + 1), Verdict::Current, "{ms}");
        for other in [50, 200, 400, 600].into_iter().filter(|&other| other != ms) {
            assert_eq!(judge(&plan, gateway, other, other + 1), Verdict::Wrong, "{gateway} at {other} ms");
        }
    }
}

#[test]
fn shares_have_all_flows_once_with_their_changes() {
    let table: Vec<_> = (1..=31).map(|n| (net(&format!("9.{n}.0.0/16")), ip("198.18.0.2"))).collect();
    let update = Update { due_ns: 7, prefix: net("9.5.0.0/16"), gateway: ip("198.18.0.3") };
    let links = [link(0), link(1)];
    let whole = Plan::new(table, &[update], &[], &links, 0, &wanted()).unwrap();
    for of in [1, 2, 3] {
        let shares: Vec<Plan> = (0..of).map(|number| whole.share(number, of)).collect();
        let mut all: Vec<IpAddr> =
            shares.iter().flat_map(|share| share.flows.iter().map(|flow| flow.to)).collect();
        all.sort();
        let mut expected: Vec<IpAddr> = whole.flows.iter().map(|flow| flow.to).collect();
        expected.sort();
        assert_eq!(all, expected);
        let mut concerned = 0;
        for share in &shares {
            for (port, lane) in share.lanes.iter().enumerate() {
                let flows = &share.flows[lane.start as usize..lane.end as usize];
                assert!(flows.len() >= 15 / of && flows.iter().all(|flow| usize::from(flow.ingress) == port));
            }
            let (due_ns, flow) = share.change(0).unwrap();
            assert_eq!(due_ns, 7);
            if let Some(flow) = flow {
                assert_eq!(share.prefix(&share.flows[flow as usize]), Some(update.prefix));
                concerned += 1;
            }
        }
        assert_eq!(concerned, 1);
    }
}

#[test]
fn changes_come_in_order_of_time_with_the_flow_that_they_concern() {
    let changes =
        [(30, "9.0.0.0/8", "198.18.0.3"), (10, "8.0.0.0/8", "198.18.0.3"), (20, "9.0.0.0/8", "198.18.0.4")];
    let plan = plan(&[("8.0.0.0/8", "198.18.0.2"), ("9.0.0.0/8", "198.18.0.2")], &changes).unwrap();
    let all: Vec<_> = (0..4).map_while(|number| plan.change(number)).collect();
    let number = |prefix| {
        plan.flows.iter().position(|flow| plan.prefix(flow) == Some(net(prefix))).map(|at| at as u32)
    };
    let (eight, nine) = (number("8.0.0.0/8"), number("9.0.0.0/8"));
    assert!(eight.is_some() && nine.is_some());
    assert_eq!(all, [(10, eight), (20, nine), (30, nine)]);
}

#[test]
fn right_mac_on_the_wrong_port_is_wrong() {
    let plan = plan(&[("9.0.0.0/8", "198.18.0.2")], &[]).unwrap();
    assert_eq!(plan.judge(&plan.flows[0], 1, mac_of(ip("198.18.0.2")), 0, 1), Verdict::Wrong);
}

#[test]
fn what_cannot_be_checked_is_refused_by_name() {
    let no_port = plan(&[("9.0.0.0/8", "192.0.2.1")], &[]).unwrap_err().to_string();
    assert_eq!(no_port, "9.0.0.0/8 via 192.0.2.1: no port's subnet holds this next hop");
    let unknown = plan(&[("9.0.0.0/8", "198.18.0.2")], &[(0, "9.0.0.0/9", "198.18.0.2")]).unwrap_err();
    assert!(matches!(unknown, PlanError::UnknownPrefix(prefix) if prefix == net("9.0.0.0/9")));
    let same = plan(&[("9.0.0.0/8", "2001:2::1:2"), ("8.0.0.0/8", "2001:2::1:0:1:2")], &[]).unwrap_err();
    assert!(matches!(same, PlanError::SameMac { .. }), "{same}");
    assert!(matches!(plan(&[], &[]).unwrap_err(), PlanError::Empty));
}

#[test]
fn route_given_twice_counts_once_with_its_last_next_hop() {
    let plan = plan(&[("9.0.0.0/8", "198.18.0.2"), ("9.0.0.0/8", "198.18.0.3")], &[]).unwrap();
    assert_eq!(plan.flows.len(), 1);
    assert_eq!(judge(&plan, "198.18.0.3", 0, 1), Verdict::Current);
}

#[test]
fn order_of_flows_is_shuffled_and_the_same_for_the_same_seed() {
    let table: Vec<_> = (1..=200).map(|n| (net(&format!("9.{n}.0.0/16")), ip("198.18.0.2"))).collect();
    let one = |seed| {
        let plan =
            Plan::new(table.clone(), &[], &[], &[link(0)], 0, &Wanted { seed, ..Wanted::default() }).unwrap();
        plan.flows.iter().map(|flow| flow.to).collect::<Vec<_>>()
    };
    assert_eq!(one(5), one(5));
    assert_ne!(one(5), one(6));
    assert!(!one(5).is_sorted());
}

fn planned(wanted: &Wanted) -> Result<Plan, PlanError> {
    let table = [("8.0.0.0/8", "198.18.0.2"), ("9.0.0.0/8", "198.19.0.3"), ("2a00::/16", "2001:2:0:1::5")];
    let table: Vec<_> = table.iter().map(|(prefix, gateway)| (net(prefix), ip(gateway))).collect();
    Plan::new(table, &[], &[], &[link(0), link(1)], 0, wanted)
}

#[test]
fn families_prefixes_and_number_of_flows_can_be_chosen() {
    let only = planned(&Wanted { ipv6: true, ..wanted() }).unwrap();
    assert!(only.flows.len() == 1 && only.flows[0].to.is_ipv6());
    let within = vec![net("9.1.2.0/24"), net("8.8.8.8/32")];
    let inside = planned(&Wanted { within: within.clone(), flows: Some(50), ..wanted() }).unwrap();
    assert_eq!(inside.flows.len(), 50);
    assert!(inside.flows.iter().all(|flow| within.iter().any(|net| net.contains(&flow.to))));
    assert!(inside.flows.iter().all(|flow| plan_matches(&inside, flow)));
    assert_eq!(planned(&Wanted { flows: Some(1), ..wanted() }).unwrap().flows.len(), 1);
    let nowhere = planned(&Wanted { within: vec![net("7.0.0.0/8")], ..wanted() }).unwrap_err();
    assert_eq!(nowhere.to_string(), "7.0.0.0/8: the table has no route for it");
}

fn plan_matches(plan: &Plan, flow: &Flow) -> bool {
    plan.prefix(flow).unwrap().contains(&flow.to)
}

#[test]
fn no_flow_enters_by_the_port_that_it_leaves_by_unless_in_a_mesh() {
    for direction in [Direction::Unidirectional, Direction::Bidirectional] {
        let plan = planned(&Wanted { direction: direction.clone(), flows: Some(30), ..wanted() }).unwrap();
        for (port, lane) in plan.lanes.iter().enumerate() {
            for flow in &plan.flows[lane.start as usize..lane.end as usize] {
                assert_eq!(usize::from(flow.ingress), port);
                assert_ne!(plan.expected(flow, 0).unwrap().port, port);
            }
        }
        assert_eq!(plan.lanes[1].is_empty(), direction == Direction::Unidirectional);
    }
    let back = Wanted { direction: Direction::Unidirectional, within: vec![net("8.0.0.0/8")], ..wanted() };
    assert!(matches!(planned(&back).unwrap_err(), PlanError::NoDestination));
}

#[test]
fn given_addresses_are_kept_and_numbered() {
    let exactly = vec![ip("9.9.9.9"), ip("8.8.8.8"), ip("9.9.9.8")];
    let plan =
        planned(&Wanted { exactly: Some(exactly.clone()), direction: Direction::Bidirectional, ..wanted() })
            .unwrap();
    assert_eq!(plan.flows.len(), 3);
    for (flow, origin) in plan.flows.iter().zip(&plan.origins) {
        assert_eq!(flow.to, exactly[*origin as usize]);
    }
    let none = Wanted { exactly: Some(vec![ip("7.7.7.7")]), ..wanted() };
    assert!(matches!(planned(&none).unwrap_err(), PlanError::NoRoute(_)));
}

#[test]
fn device_without_a_table_gets_addresses_of_the_given_prefixes() {
    let wanted = Wanted { within: vec![net("9.0.0.0/8")], flows: Some(10), ..wanted() };
    let plan = Plan::without_table(&[link(0), link(1)], &wanted).unwrap();
    assert_eq!((plan.flows.len(), plan.lanes.clone()), (10, vec![0..5, 5..10]));
    assert!(plan.first_gateway(&plan.flows[0]).is_none());
}
