//! traceroute sees the router as a hop, by its address on the near side.

use crate::lab::{Lab, has};

#[test]
fn the_router_is_a_hop_over_ipv4_and_ipv6() {
    let Some(lab) = Lab::plain(2) else { return };
    if !has("traceroute") {
        return;
    }
    for (near, far) in [("10.0.0.1", "10.0.1.2"), ("2001:db8::1", "2001:db8:1::2")] {
        let text = lab.ok(0, &format!("traceroute -n -w 2 -q 2 -m 4 {far}"));
        let hops: Vec<&str> = text.lines().skip(1).map(str::trim).collect();
        assert_eq!(hops.len(), 2, "{text}");
        assert!(hops[0].starts_with(&format!("1  {near} ")), "{text}");
        assert!(hops[1].starts_with(&format!("2  {far} ")), "{text}");
    }
}

#[test]
fn a_traceroute_to_the_router_itself_ends_there() {
    let Some(lab) = Lab::plain(1) else { return };
    if !has("traceroute") {
        return;
    }
    let text = lab.ok(0, "traceroute -n -w 2 -q 1 -m 3 10.0.0.1");
    assert_eq!(text.lines().count(), 2, "{text}");
    assert!(text.contains("1  10.0.0.1 ") && !text.contains('*'), "{text}");
}
