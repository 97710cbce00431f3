//! What an operator adds and takes back while the router runs: routes that win over those from servers, and neighbors.

use crate::stage::*;
use fibcast_dataplane::control::own_routes::RemoveError;
use fibcast_dataplane::packet::ethernet::Mac;
use fibcast_dataplane::reason::Reason;
use fibcast_fib::{PortId, VrfId};
use std::time::Duration;

const MAC: Mac = Mac([2, 0, 0, 0, 6, 6]);

fn remove(stage: &mut Stage, prefix: &str) -> Result<(), RemoveError> {
    let removed = stage.control.remove_route(VrfId::DEFAULT, prefix.parse().unwrap());
    stage.after(Duration::ZERO);
    removed
}

fn add(stage: &mut Stage, prefix: &str, via: &str) {
    stage.control.add_route(&route(prefix, via));
    stage.after(Duration::ZERO);
}

#[test]
fn a_route_wins_over_the_servers_and_gives_way_when_it_is_taken_back() {
    let mut stage = Stage::new();
    stage.batch(vec![put(7, "198.51.100.9"), announce("172.16.0.0/12", 7)]);
    assert_eq!(stage.expect_forward(ipv4("172.16.0.1"))[..6], GATEWAY.0);
    add(&mut stage, "172.16.0.0/12", "192.0.2.7");
    stage.send(0, ipv4("172.16.0.1"));
    assert_eq!(stage.out(0).expect("out of port 0")[..6], HOST.0);
    // What the server says meanwhile is remembered.
    stage.batch(vec![put(8, "198.51.100.9"), announce("172.16.0.0/12", 8)]);
    stage.send(0, ipv4("172.16.0.1"));
    assert!(stage.out(0).is_some());
    remove(&mut stage, "172.16.0.0/12").unwrap();
    assert_eq!(stage.expect_forward(ipv4("172.16.0.1"))[..6], GATEWAY.0);
    assert_eq!(stage.control.forwarding().apply_error, None);
}

#[test]
fn a_route_whose_server_withdrew_meanwhile_is_gone_when_it_is_taken_back() {
    let mut stage = Stage::new();
    stage.batch(vec![put(7, "198.51.100.9"), announce("172.16.0.0/12", 7)]);
    add(&mut stage, "172.16.0.0/12", "192.0.2.7");
    stage.batch(vec![withdraw("172.16.0.0/12")]);
    remove(&mut stage, "172.16.0.0/12").unwrap();
    stage.expect_drop(ipv4("172.16.0.1"), Reason::NoRoute);
}

#[test]
fn a_route_can_change_and_outlives_a_whole_table() {
    let mut stage = Stage::new();
    add(&mut stage, "172.16.0.0/12", "192.0.2.7");
    add(&mut stage, "172.16.0.0/12", "198.51.100.9");
    assert_eq!(stage.expect_forward(ipv4("172.16.0.1"))[..6], GATEWAY.0);
    let groups = stage.control.groups(&[]).groups.len();
    stage.replace(vec![put(7, "192.0.2.7"), announce("172.16.0.0/12", 7)]);
    assert_eq!(stage.expect_forward(ipv4("172.16.0.1"))[..6], GATEWAY.0);
    remove(&mut stage, "172.16.0.0/12").unwrap();
    stage.send(0, ipv4("172.16.0.1"));
    assert!(stage.out(0).is_some(), "the server's");
    assert_eq!(stage.control.groups(&[]).groups.len(), groups, "one group came, one went");
}

#[test]
fn routes_of_the_configuration_can_be_taken_back_and_those_of_addresses_cannot() {
    let mut stage = Stage::new();
    remove(&mut stage, "10.66.0.0/16").unwrap();
    stage.expect_forward(ipv4("10.66.0.1"));
    let prefix = |text: &str| text.parse().unwrap();
    let (vrf, unknown, own) = (VrfId::DEFAULT, prefix("10.66.0.0/16"), prefix("192.0.2.0/24"));
    assert_eq!(remove(&mut stage, "10.66.0.0/16"), Err(RemoveError::Unknown { vrf, prefix: unknown }));
    assert_eq!(remove(&mut stage, "192.0.2.0/24"), Err(RemoveError::OfPort { vrf, prefix: own }));
}

#[test]
fn a_neighbor_is_used_at_once_and_asked_for_when_it_is_taken_back() {
    let mut stage = Stage::new();
    let address = "198.51.100.77".parse().unwrap();
    let now = stage.now;
    stage.control.add_neighbor(PortId(1), address, MAC, now);
    stage.after(Duration::ZERO);
    assert_eq!(stage.expect_forward(ipv4("198.51.100.77"))[..6], MAC.0);
    assert!(stage.control.remove_neighbor(PortId(1), address, now));
    stage.after(Duration::ZERO);
    stage.expect_held(ipv4("198.51.100.77"));
    stage.after(Duration::ZERO);
    assert_eq!(stage.out(1).expect("a question")[12..14], [8, 6]);
    assert!(!stage.control.remove_neighbor(PortId(1), address, now));
}
