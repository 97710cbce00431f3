//! VRFs: a port forwards by the table that it is bound to, and by no other.

use crate::stage::*;
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
