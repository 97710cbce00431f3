//! Pings through the router and of the router itself, over IPv4 and IPv6; none is lost, not even the first.

use crate::lab::{Lab, has};

#[test]
fn hosts_ping_each_other_through_the_router() {
    let Some(lab) = Lab::plain(2) else { return };
    if !has("ping") {
        return;
    }
    for (host, target) in [(0, "10.0.1.2"), (1, "10.0.0.2"), (0, "2001:db8:1::2"), (1, "2001:db8:0::2")] {
        let text = lab.ok(host, &format!("ping -n -c 5 -i 0.1 -W 2 {target}"));
        assert!(text.contains("5 received, 0% packet loss"), "{text}");
    }
    // As large as the link takes, and the answer has lost one hop.
    let text = lab.ok(0, "ping -n -c 2 -i 0.1 -W 2 -M do -s 1472 10.0.1.2");
    assert!(text.contains("ttl=63") && text.contains("2 received"), "{text}");
}

#[test]
fn the_router_answers_pings_of_all_its_addresses() {
    let Some(lab) = Lab::plain(2) else { return };
    if !has("ping") {
        return;
    }
    for target in ["10.0.0.1", "10.0.1.1", "2001:db8:0::1", "2001:db8:1::1"] {
        let text = lab.ok(0, &format!("ping -n -c 3 -i 0.1 -W 2 {target}"));
        assert!(text.contains("3 received"), "{text}");
    }
    let (content, text) = lab.on(0, "ping -n -c 1 -W 5 10.0.1.77");
    assert!(!content && text.contains("From 10.0.0.1 icmp_seq=1 Destination Host Unreachable"), "{text}");
    let (content, text) = lab.on(0, "ping -n -c 1 -W 2 203.0.113.1");
    assert!(!content && text.contains("From 10.0.0.1 icmp_seq=1 Destination Net Unreachable"), "{text}");
}
