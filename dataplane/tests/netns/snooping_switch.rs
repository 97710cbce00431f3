//! A switch that passes multicast only to those that report their groups: neighbors find the router's IPv6 addresses through it.

use std::time::Duration;

use crate::lab::{Lab, has};

/// The host's own bridge between its address and the router, as a switch: it asks every second, and forgets who did not answer for four.
const SWITCH: &str = "ip link add br0 type bridge mcast_snooping 1 mcast_querier 1 mcast_query_interval 100 \
    mcast_query_response_interval 50 mcast_startup_query_interval 50 mcast_membership_interval 400";
const MOVE: &str = "set -e; ip link set br0 up; ip address flush dev e0 scope global; ip -6 route flush default; ip link set e0 master br0
    ip address add 10.0.0.2/24 dev br0; ip -6 address add 2001:db8:0::2/64 dev br0 nodad
    ip route replace default via 10.0.0.1; ip -6 route add default via 2001:db8:0::1";

#[test]
fn the_router_answers_behind_a_snooping_switch() {
    if !has("ping") || !has("bridge") {
        return;
    }
    for key in ["", "exception_path = true"] {
        let Some(mut lab) = Lab::new(2) else { return };
        let (content, text) = lab.on(0, SWITCH);
        if !content {
            eprintln!("skipped: no bridge with multicast snooping here: {text}");
            return;
        }
        lab.ok(0, MOVE);
        lab.start(if key.is_empty() { &|_| "" } else { &|_| "exception_path = true" }, "");
        // Longer than a report without an answer to a query lasts.
        std::thread::sleep(Duration::from_secs(7));
        let groups = lab.ok(0, "bridge mdb show dev br0");
        assert!(groups.contains("port e0 grp ff02::1:ff00:1"), "{groups}");
        lab.ok(0, "ip -6 neigh flush dev br0");
        let text = lab.ok(0, "ping -n -c 3 -i 0.1 -W 2 2001:db8:0::1");
        assert!(text.contains("3 received"), "{text}");
        // Through it, in both directions.
        let text = lab.ok(1, "ping -n -c 3 -i 0.1 -W 2 2001:db8:0::2");
        assert!(text.contains("3 received"), "{text}");
    }
}
