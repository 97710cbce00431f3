//! VRFs: a port forwards by the table that it is bound to, and by no other.

use crate::stage::*;
use fibcast_control::protocol::{RouteQuery, RouteRequest};
use fibcast_dataplane::reason::Reason;
use fibcast_fib::{Change, Group, GroupLabel, NextHop, PortId, VrfId};

fn stage() -> Stage {
    Stage::with(|setup| setup.ports[0].vrf = VrfId(7))
}

#[test]
fn routes_of_another_vrf_are_not_used() {
    let mut stage = stage();
    stage.expect_drop(ipv4("10.1.2.3"), Reason::NoRoute);
    stage.expect_drop(ipv4("198.51.100.9"), Reason::NoRoute);
    stage.expect_drop(ipv6("2001:db8:f::1"), Reason::NoRoute);
}

#[test]
fn a_route_of_the_ports_vrf_is_used() {
    let mut stage = stage();
    let leak =
        Change::Announce { vrf: VrfId(7), prefix: "10.0.0.0/8".parse().unwrap(), label: GroupLabel(9) };
    // The gateway is in the default VRF: naming its port says that this is meant.
    let next_hop = NextHop { gateway: Some("198.51.100.9".parse().unwrap()), port: Some(PortId(1)) };
    let group = Group::one(next_hop).unwrap();
    stage.batch(vec![Change::PutGroup { label: GroupLabel(9), group }, leak]);
    stage.expect_forward(ipv4("10.1.2.3"));
    // The blackhole of the default VRF is inside of it, and not here.
    stage.expect_forward(ipv4("10.66.0.1"));
}

#[test]
fn a_vrf_that_no_port_has_is_kept_and_bothers_nobody() {
    let mut stage = stage();
    let route =
        Change::Announce { vrf: VrfId(99), prefix: "10.0.0.0/8".parse().unwrap(), label: GroupLabel(9) };
    stage.batch(vec![put(9, "198.51.100.9"), route]);
    assert_eq!(stage.control.forwarding().apply_error, None);
    stage.expect_drop(ipv4("10.1.2.3"), Reason::NoRoute);
}

#[test]
fn routes_of_every_vrf_are_shown() {
    let mut stage = stage();
    let announce = |vrf, prefix: &str| Change::Announce {
        vrf: VrfId(vrf),
        prefix: prefix.parse().unwrap(),
        label: GroupLabel(9),
    };
    stage.batch(vec![put(9, "198.51.100.9"), announce(7, "10.0.0.0/8"), announce(99, "10.1.0.0/16")]);
    let shown = |query: RouteQuery, limit| {
        let list = stage.control.routes(&RouteRequest { query, limit, ..RouteRequest::default() });
        let routes = list.routes.into_iter().map(|route| (route.vrf, route.prefix.to_string()));
        (routes.collect::<Vec<_>>(), list.total as usize)
    };
    let (all, total) = shown(RouteQuery::All, usize::MAX);
    assert_eq!(all.len(), total);
    for vrf in [0, 7, 99] {
        assert!(all.iter().any(|route| route.0 == vrf), "no route of VRF {vrf}: {all:?}");
    }
    assert!(all.is_sorted_by_key(|route| route.0));
    assert_eq!(shown(RouteQuery::All, 3).0, all[..3]);
    let prefix = shown(RouteQuery::Prefix("10.1.0.0/16".parse().unwrap()), 10).0;
    assert_eq!(prefix, [(99, "10.1.0.0/16".to_owned())]);
    let address = shown(RouteQuery::Address("10.1.2.3".parse().unwrap()), 10).0;
    assert!(
        address.contains(&(7, "10.0.0.0/8".into())) && address.contains(&(99, "10.1.0.0/16".into())),
        "{address:?}"
    );
}
