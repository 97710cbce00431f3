//! The host path: programs on the router's host listen and dial by the port's addresses, through the router's own table.

use crate::lab::{Lab, has};

fn lab() -> Option<Lab> {
    let mut lab = Lab::new(2)?;
    lab.start(&|_| "host_path = true", "");
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

#[test]
fn twins_and_their_rules_go_away_with_the_router() {
    let Some(mut lab) = lab() else { return };
    let (_, before) = lab.on_router("ip rule; ip -6 rule; ip link");
    assert!(before.contains("from 10.0.0.1 lookup 7830") && before.contains("fc-p1"), "{before}");
    lab.stop();
    let (_, after) = lab.on_router("ip rule; ip -6 rule; ip link");
    assert!(!after.contains("7830") && !after.contains("fc-p"), "{after}");
}
