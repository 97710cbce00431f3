//! Traces say what workers do: the same prefix, member, neighbor and port, or the same drop reason.

use crate::stage::*;
use fibcast_fib::VrfId;

fn trace(stage: &mut Stage, address: &str) -> fibcast_control::capture::Trace {
    stage.control.trace(VrfId::DEFAULT, address.parse().unwrap(), None, 1)
}

#[test]
fn a_routed_packet() {
    let mut stage = Stage::new();
    stage.batch(vec![put(7, "198.51.100.9"), announce("172.16.0.0/12", 7)]);
    let found = trace(&mut stage, "172.16.0.1");
    assert_eq!(found.prefix, Some("172.16.0.0/12".parse().unwrap()));
    assert_eq!(
        (found.label.as_deref(), found.origin.as_deref()),
        (Some("0000000000000007"), Some("servers"))
    );
    assert_eq!((found.serial, found.via), (1, vec!["198.51.100.9".to_owned()]));
    assert_eq!(found.next_hop.as_deref(), Some("198.51.100.9"));
    assert_eq!(found.mac, Some(GATEWAY.to_string()));
    assert_eq!((found.port.as_deref(), found.mtu), (Some("p1"), Some(1_500)));
    assert_eq!(found.outcome, "sent");
    let found = trace(&mut stage, "2001:db8:f::1");
    assert_eq!((found.origin.as_deref(), found.outcome.as_str()), (Some("own"), "sent"));
}

#[test]
fn packets_that_go_nowhere_say_why() {
    let mut stage = Stage::new();
    for (address, outcome) in [
        ("203.0.113.5", "dropped: no_route"),
        ("10.66.0.1", "dropped: blackhole"),
        ("192.0.2.1", "host"),
        ("198.51.100.50", "held: the neighbor has not answered yet"),
        ("2001:db8:dead::1", "dropped: no_route"),
        ("127.0.0.1", "dropped: martian_destination"),
        ("239.1.2.3", "dropped: multicast"),
        ("::1", "dropped: martian_destination"),
    ] {
        assert_eq!(trace(&mut stage, address).outcome, outcome, "{address}");
    }
}

#[test]
fn a_trace_sends_and_asks_nothing() {
    let mut stage = Stage::new();
    trace(&mut stage, "198.51.100.50");
    stage.after(std::time::Duration::ZERO);
    assert_eq!((stage.out(0), stage.out(1)), (None, None));
}

#[test]
fn a_source_that_cannot_be_is_refused_as_workers_do() {
    let mut stage = Stage::new();
    let from = Some("127.0.0.1".parse().unwrap());
    let found = stage.control.trace(VrfId::DEFAULT, "10.1.2.3".parse().unwrap(), from, 1);
    assert_eq!(found.outcome, "dropped: martian_source");
}
