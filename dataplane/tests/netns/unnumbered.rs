//! A port without an address: Linux on the other side answers the requests that come from the router's loopback, and asks for it.

use crate::lab::{Lab, has};
use fibcast_testbed::config;

const ROUTES: &str = r#"
[[static_route]]
prefix = "198.18.0.0/15"
via = "172.31.1.1"
port = "p1"
[[static_route]]
prefix = "100.64.0.0/10"
port = "p1"
[[static_route]]
prefix = "2001:db8:98::/48"
via = "2001:db8:99::1"
port = "p1"
[[static_route]]
prefix = "2001:db8:97::/48"
port = "p1"
"#;

/// Port 1 has no address, and the router this loopback, if any.
fn lab(loopback: &str, gateways: [&str; 2]) -> Option<Lab> {
    let mut lab = Lab::new(2)?;
    let ports =
        config::veth_port(0, &["10.0.0.1/24", "2001:db8:0::1/64"], "") + &config::veth_port(1, &[], "");
    lab.start_with(loopback, &(ports + ROUTES));
    for address in ["172.31.1.1/32", "198.18.0.9/32", "100.64.0.9/32"] {
        lab.ok(1, &format!("ip address add {address} dev e0"));
    }
    for address in ["2001:db8:99::1/128", "2001:db8:98::9/128", "2001:db8:97::9/128"] {
        lab.ok(1, &format!("ip address add {address} dev e0 nodad"));
    }
    for gateway in gateways {
        lab.ok(1, &format!("ip route replace default via {gateway} dev e0 onlink"));
    }
    Some(lab)
}

#[test]
fn hosts_behind_an_unnumbered_port_are_reached_and_reach_the_router_by_its_loopback() {
    let keys = "loopback = [\"203.0.113.1/32\", \"2001:db8:ff::1/128\"]";
    let Some(lab) = lab(keys, ["203.0.113.1", "2001:db8:ff::1"]) else { return };
    if !has("ping") {
        return;
    }
    for target in
        ["198.18.0.9", "100.64.0.9", "2001:db8:98::9", "2001:db8:97::9", "203.0.113.1", "2001:db8:ff::1"]
    {
        let text = lab.ok(0, &format!("ping -n -c 3 -i 0.1 -W 2 {target}"));
        assert!(text.contains("3 received"), "{text}");
    }
    for (target, source) in [("203.0.113.1", "198.18.0.9"), ("2001:db8:ff::1", "2001:db8:98::9")] {
        let text = lab.ok(1, &format!("ping -n -c 3 -i 0.1 -W 2 -I {source} {target}"));
        assert!(text.contains("3 received"), "{text}");
    }
    // Errors about packets of that port come from the loopback.
    let (_, text) = lab.on(1, "ping -n -c 1 -W 2 -t 1 -I 198.18.0.9 10.0.0.2");
    assert!(text.contains("From 203.0.113.1 icmp_seq=1 Time to live exceeded"), "{text}");
    let (_, text) = lab.on(1, "ping -n -c 1 -W 2 -t 1 -I 2001:db8:98::9 2001:db8:0::2");
    assert!(text.contains("From 2001:db8:ff::1 icmp_seq=1 Time exceeded"), "{text}");
}

#[test]
fn linux_answers_a_request_that_comes_from_no_address() {
    // Nobody needs the way back: the neighbor is asked for and its answer is used.
    let Some(lab) = lab("", ["203.0.113.1", "fe80::1"]) else { return };
    if !has("ping") {
        return;
    }
    lab.on(0, "ping -n -c 3 -i 0.3 -W 1 198.18.0.9");
    let trace = lab.trace("198.18.0.9", "10.0.0.2");
    assert_eq!(
        (trace.outcome.as_str(), trace.next_hop.as_deref()),
        ("sent", Some("172.31.1.1")),
        "{trace:?}"
    );
}
