//! Two next hops with weights 1 and 3: flows spread over both in that proportion.

use crate::lab::Lab;

#[test]
fn flows_spread_over_next_hops_by_weight() {
    let Some(mut lab) = Lab::new(3) else { return };
    let route =
        "[[static_route]]\nprefix = \"10.99.0.0/24\"\nvia = [\"10.0.1.2\", \"10.0.2.2\"]\nweights = [1, 3]\n";
    lab.start(&|_| "", route);
    for host in [1, 2] {
        // Nobody answers there: what comes back would only be noise.
        lab.ok(host, "ip route add blackhole 10.99.0.0/24");
    }
    let sent = |lab: &Lab| {
        let ports = lab.ports().ports;
        (ports[1].tx_packets, ports[2].tx_packets)
    };
    lab.ok(0, "echo x >/dev/udp/10.99.0.1/9; sleep 1");
    let before = sent(&lab);
    lab.ok(0, "for flow in $(seq 400); do echo x >/dev/udp/10.99.0.1/$((9000 + flow)); done; sleep 0.3");
    let after = sent(&lab);
    let (one, three) = (after.0 - before.0, after.1 - before.1);
    // ARP for the neighbors is among them.
    assert!((400..410).contains(&(one + three)), "{one} + {three}");
    assert!((60..150).contains(&one), "{one} to {three}");
}
