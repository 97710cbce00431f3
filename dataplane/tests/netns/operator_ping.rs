//! Pings and traces that an operator asks of the router itself, to real hosts, with and without an exception path.

use fibcast_control::probe::{ProbeAnswer, ProbeOutcome, ProbeRequest};
use fibcast_control::{Answer, DataplaneRequest};

use crate::lab::Lab;

fn ask(lab: &Lab, address: &str, ttl: u8, size: u16) -> Option<ProbeAnswer> {
    let address = address.parse().unwrap();
    let request = ProbeRequest { address, source: None, vrf: 0, size, ttl, timeout_ms: 3_000 };
    match lab.ask(DataplaneRequest::Probe(Box::new(request))) {
        Ok(Answer::Probed(probed)) => probed.answer,
        other => panic!("{other:?}"),
    }
}

/// Hosts on both ports answer, and the kernel of a host that forwards is a hop.
fn pings(lab: &Lab) {
    for target in ["10.0.0.2", "10.0.1.2", "2001:db8:0::2", "2001:db8:1::2"] {
        // The first one waits for ARP or ND.
        for size in [56, 1_400] {
            let answer = ask(lab, target, 64, size).unwrap_or_else(|| panic!("{target}: no answer"));
            assert_eq!((answer.outcome, answer.bytes), (ProbeOutcome::Reply, size + 8), "{target}");
            assert_eq!((answer.from.to_string(), answer.ttl), (target.replace(":0:", ":"), 64));
            assert!(answer.rtt_us < 3_000_000, "{answer:?}");
        }
    }
    // Host 1 forwards half of a network, and has no way to the other half. As in Linux, the route comes before the time to live.
    lab.ok(
        1,
        "sysctl -qw net.ipv4.ip_forward=1 && ip route replace 203.0.113.0/25 via 10.0.1.1 && ip route replace unreachable 203.0.113.128/25",
    );
    let hop = ask(lab, "203.0.113.9", 1, 56).expect("the hop");
    assert_eq!((hop.outcome, hop.from.to_string().as_str()), (ProbeOutcome::TimeExceeded, "10.0.1.2"));
    let end = ask(lab, "203.0.113.130", 9, 56).expect("the end");
    assert_eq!((end.outcome, end.code), (ProbeOutcome::Unreachable, Some(1)));
}

const ROUTE: &str = "[[static_route]]\nprefix = \"203.0.113.0/24\"\nvia = \"10.0.1.2\"\n";

#[test]
fn an_operator_pings_hosts_by_the_routers_table() {
    let Some(mut lab) = Lab::new(2) else { return };
    lab.start(&|_| "", ROUTE);
    pings(&lab);
}

#[test]
fn an_operator_pings_hosts_where_the_kernel_has_the_ports_too() {
    let Some(mut lab) = Lab::new(2) else { return };
    lab.start(&|_| "exception_path = true", ROUTE);
    pings(&lab);
}
