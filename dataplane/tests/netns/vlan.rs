//! A host on a VLAN sub-interface (802.1Q), beside the untagged ones.

use crate::lab::{Lab, has};

#[test]
fn a_host_behind_a_tag_is_reached_and_the_untagged_one_too() {
    let Some(mut lab) = Lab::new(2) else { return };
    if !has("ping") {
        return;
    }
    let sub = "[[port]]\nname = \"p1.100\"\nparent = \"p1\"\nvlan = 100\naddresses = [\"10.9.0.1/24\", \"2001:db8:9::1/64\"]\n";
    lab.start(&|_| "", sub);
    let (content, text) =
        lab.on(1, "ip link add link e0 name e0.100 type vlan id 100 && ip link set e0.100 up");
    if !content && text.contains("Unknown device type") {
        eprintln!("skipped: this kernel has no 802.1Q interfaces");
        return;
    }
    assert!(content, "{text}");
    lab.ok(1, "ip address add 10.9.0.2/24 dev e0.100 && ip -6 address add 2001:db8:9::2/64 dev e0.100 nodad");
    for target in ["10.9.0.2", "2001:db8:9::2", "10.0.1.2", "10.9.0.1"] {
        let text = lab.ok(0, &format!("ping -n -c 3 -i 0.1 -W 2 {target}"));
        assert!(text.contains("3 received"), "{text}");
    }
    let ports = lab.ports();
    assert!(ports.ports[2].rx_packets >= 6 && ports.ports[2].tx_packets >= 6, "{ports:?}");
    lab.ok(1, "ip link add link e0 name e0.7 type vlan id 7 && ip link set e0.7 up");
    lab.ok(1, "ip address add 10.7.0.2/24 dev e0.7; ping -n -c 1 -W 1 10.7.0.1; true");
    assert!(lab.dropped("unknown_vlan") > 0);
}
