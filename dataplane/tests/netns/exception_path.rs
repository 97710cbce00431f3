//! The exception path: programs on the router's host listen and connect with the port's addresses, through the router's own table.

use std::time::{Duration, Instant};

use crate::lab::{Lab, has};

fn lab() -> Option<Lab> {
    let mut lab = Lab::new(2)?;
    lab.start(&|_| "exception_path = true", "");
    Some(lab)
}

#[test]
fn the_kernel_answers_pings_and_pings_hosts_by_the_routers_table() {
    let Some(lab) = lab() else { return };
    if !has("ping") {
        return;
    }
    for target in ["10.0.0.1", "10.0.1.1", "2001:db8:0::1"] {
        let text = lab.ok(0, &format!("ping -n -c 3 -i 0.1 -W 2 {target}"));
        assert!(text.contains("3 received") && text.contains("ttl=64"), "{text}");
    }
    for target in ["10.0.0.2", "2001:db8:1::2"] {
        let (content, text) = lab.on_router(&format!("ping -n -c 3 -i 0.1 -W 2 {target}"));
        assert!(content && text.contains("3 received"), "{text}");
    }
    // From one port's address to a host behind another: the way that the table says, not the kernel's.
    let (content, text) = lab.on_router("ping -n -c 3 -i 0.1 -W 2 -I 10.0.0.1 10.0.1.2");
    assert!(content && text.contains("3 received"), "{text}");
}

#[test]
fn tcp_to_a_program_on_the_routers_host() {
    let Some(lab) = lab() else { return };
    if !has("iperf3") {
        return;
    }
    for target in ["10.0.1.1", "2001:db8:1::1"] {
        let log = lab.folder().join("server.log");
        let (content, text) =
            lab.on_router(&format!("iperf3 -s -1 -D -B {target} --logfile {}; sleep 0.5", log.display()));
        assert!(content, "{text}");
        // Not on its own subnet: the answers go back by the port's table.
        let text = lab.ok(0, &format!("iperf3 -c {target} -t 1 -f m"));
        assert!(text.contains("receiver"), "{text}");
    }
    lab.drops();
}

fn mac_of(lab: &Lab, interface: &str) -> String {
    let (content, text) = lab.on_router(&format!("cat /sys/class/net/{interface}/address"));
    assert!(content, "{text}");
    text.trim().to_owned()
}

fn pings_both_ways(lab: &Lab, when: &str) {
    for target in ["10.0.0.1", "2001:db8:0::1"] {
        let text = lab.ok(0, &format!("ping -n -c 3 -i 0.1 -W 2 {target}"));
        assert!(text.contains("3 received"), "{when}: {text}");
    }
    let (content, text) = lab.on_router("ping -n -c 3 -i 0.1 -W 2 -I 10.0.0.1 10.0.0.2");
    assert!(content && text.contains("3 received"), "{when}: {text}");
}

#[test]
fn another_mac_address_of_a_tap_interface_costs_nothing() {
    let Some(lab) = lab() else { return };
    if !has("ping") {
        return;
    }
    let port = mac_of(&lab, "fc-p0");
    // Right after the start this is what udev does, and is put right.
    let (content, text) = lab.on_router("ip link set fc-p0 address 02:00:00:00:aa:01");
    assert!(content, "{text}");
    let end = Instant::now() + Duration::from_secs(5);
    while mac_of(&lab, "fc-p0") != port {
        assert!(Instant::now() < end, "the first change was not put right");
        std::thread::sleep(Duration::from_millis(20));
    }
    pings_both_ways(&lab, "put right");
    // Whoever does it again means it.
    let (content, text) = lab.on_router("ip link set fc-p0 address 02:00:00:00:aa:02");
    assert!(content, "{text}");
    pings_both_ways(&lab, "changed");
    assert_eq!(mac_of(&lab, "fc-p0"), "02:00:00:00:aa:02");
}

const LOOK: &str =
    "ip rule; ip -6 rule; ip route show table 7830 | cut -d' ' -f1-3; ip -br link | cut -d' ' -f1";

#[test]
fn tap_interfaces_and_their_rules_go_away_with_the_router() {
    let Some(mut lab) = lab() else { return };
    let (_, before) = lab.on_router(LOOK);
    assert!(before.contains("from 10.0.0.1 lookup 7830") && before.contains("fc-p1"), "{before}");
    lab.stop();
    let (_, after) = lab.on_router(LOOK);
    assert!(!after.contains("7830") && !after.contains("fc-p"), "{after}");
}

#[test]
fn a_killed_router_leaves_no_rule_to_its_next_life() {
    let Some(mut lab) = lab() else { return };
    let (_, before) = lab.on_router(LOOK);
    for _ in 0..2 {
        lab.kill();
        lab.start(&|_| "exception_path = true", "");
        assert_eq!(lab.on_router(LOOK).1, before);
    }
    lab.kill();
    // What earlier versions left, twice; what another dataplane at work has; what an operator added.
    let (content, text) = lab.on_router(
        "set -e; for n in 1 2; do ip rule add from 10.7.0.1 lookup 7830 protocol 0; done; ip rule add from 10.7.0.2 lookup 7837 protocol 217
        ip tuntap add fc-other mode tap; ip address add 10.7.0.3/24 dev fc-other; ip rule add from 10.7.0.3 lookup 7830 protocol 217
        ip address add 10.7.0.4/32 dev lo; ip rule add from 10.7.0.4 lookup 7830",
    );
    assert!(content, "{text}");
    lab.start(&|_| "", "");
    let (_, after) = lab.on_router("ip rule; ip -6 rule");
    for gone in ["10.0.0.1", "2001:db8::1", "10.7.0.1", "10.7.0.2"] {
        assert!(!after.contains(&format!("from {gone} ")), "{gone}: {after}");
    }
    for kept in ["10.7.0.3", "10.7.0.4"] {
        assert!(after.contains(&format!("from {kept} ")), "{kept}: {after}");
    }
}
