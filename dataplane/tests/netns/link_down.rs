//! A link that goes down takes its next hops out of the groups at once, and they are back when it is.

use crate::lab::Lab;
use std::time::{Duration, Instant};

/// Until the router's table has what its devices say: a link that is down is looked at ten times a second.
const NOTICED: Duration = Duration::from_millis(150);

#[test]
fn a_link_that_goes_down_is_noticed_and_its_packets_take_the_other_next_hop() {
    let Some(mut lab) = Lab::new(2) else { return };
    // A TAP port, whose link the test can take down; its neighbor is the kernel that has the other end.
    let rest = "[[port]]\nname = \"tap\"\ndevice = \"net_tap0,iface=ft0\"\naddresses = [\"10.8.0.1/24\"]\n\
                [[static_neighbor]]\nport = \"tap\"\nip = \"10.8.0.2\"\nmac = \"02:00:00:00:08:02\"\n\
                [[static_route]]\nprefix = \"10.99.0.0/24\"\nvia = [\"10.0.1.2\", \"10.8.0.2\"]\n";
    lab.start(&|_| "", rest);
    lab.ok(1, "ip route add blackhole 10.99.0.0/24");
    let up = |lab: &Lab| lab.ports().ports[2].link_up;
    let wait = |lab: &Lab, wanted: bool| {
        let start = Instant::now();
        while up(lab) != wanted {
            assert!(start.elapsed() < Duration::from_secs(5));
        }
        std::thread::sleep(NOTICED);
    };
    wait(&lab, true);
    let flows = "for flow in $(seq 100); do echo x >/dev/udp/10.99.0.1/$((9000 + flow)); done; sleep 0.2";
    lab.ok(0, "echo x >/dev/udp/10.99.0.1/9; sleep 0.5");
    let sent = |lab: &Lab| lab.ports().ports[1..].iter().map(|port| port.tx_packets).collect::<Vec<_>>();
    let before = sent(&lab);
    lab.ok(0, flows);
    let both = sent(&lab);
    assert!(both[1] - before[1] > 20 && both[0] - before[0] > 20, "{before:?} {both:?}");
    let (content, text) = lab.on_router("ip link set ft0 down");
    assert!(content, "{text}");
    wait(&lab, false);
    let before = sent(&lab);
    lab.ok(0, flows);
    let one = sent(&lab);
    assert_eq!(one[1] - before[1], 0);
    assert!(one[0] - before[0] >= 100, "{before:?} {one:?}");
    lab.on_router("ip link set ft0 up");
    wait(&lab, true);
    let before = sent(&lab);
    lab.ok(0, flows);
    assert!(sent(&lab)[1] - before[1] > 20);
}

#[test]
fn groups_move_within_ten_milliseconds_of_a_link_that_goes_down() {
    let Some(mut lab) = Lab::new(2) else { return };
    let rest = "[[port]]\nname = \"tap\"\ndevice = \"net_tap0,iface=ft0\"\naddresses = [\"10.8.0.1/24\"]\n\
                [[static_neighbor]]\nport = \"tap\"\nip = \"10.8.0.2\"\nmac = \"02:00:00:00:08:02\"\n\
                [[static_neighbor]]\nport = \"p1\"\nip = \"10.0.1.2\"\nmac = \"02:00:00:00:01:02\"\n\
                [[static_route]]\nprefix = \"10.99.0.0/24\"\nvia = [\"10.0.1.2\", \"10.8.0.2\"]\n";
    lab.start(&|_| "", rest);
    // A flow that the port has while its link is up.
    let wait = |lab: &Lab, up: bool| {
        let start = Instant::now();
        while lab.ports().ports[2].link_up != up {
            assert!(start.elapsed() < Duration::from_secs(5));
        }
        std::thread::sleep(NOTICED);
    };
    wait(&lab, true);
    let on_tap = |lab: &Lab, from: u8| {
        lab.trace("10.99.0.1", &format!("192.0.2.{from}")).port.as_deref() == Some("tap")
    };
    let from = (1..100).find(|from| on_tap(&lab, *from)).expect("a flow by the tap port");
    let took: Vec<Duration> = (0..7)
        .map(|_| {
            let mut link = lab.in_router("ip link set ft0 down && echo down && sleep 30");
            link.wait_for("down");
            let start = Instant::now();
            while on_tap(&lab, from) {
                assert!(start.elapsed() < Duration::from_secs(2));
            }
            let took = start.elapsed();
            drop(link);
            lab.on_router("ip link set ft0 up");
            wait(&lab, true);
            assert!(on_tap(&lab, from), "and back when the link is");
            took
        })
        .collect();
    eprintln!("groups moved after {took:?}");
    // The fastest: other programs on the machine only add to it.
    assert!(took.iter().min() <= Some(&Duration::from_millis(10)), "{took:?}");
}

#[test]
fn the_tap_interface_of_a_port_has_a_carrier_while_the_port_has_a_link() {
    let Some(mut lab) = Lab::new(2) else { return };
    let rest = "[[port]]\nname = \"tap\"\ndevice = \"net_tap0,iface=ft0\"\naddresses = [\"10.8.0.1/24\"]\nexception_path = true\n";
    lab.start(&|_| "", rest);
    for (change, wanted) in [("up", "1"), ("down", "0"), ("up", "1")] {
        lab.on_router(&format!("ip link set ft0 {change}"));
        let start = Instant::now();
        let carrier = || lab.on_router("cat /sys/class/net/fc-tap/carrier").1;
        while carrier().trim() != wanted {
            assert!(start.elapsed() < Duration::from_secs(5), "{change}: {}", carrier());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}
