//! FRR on the router's host, over a TAP interface, with FRR on a host of the link: OSPF, OSPFv3, IS-IS, BGP between addresses and unnumbered.

use crate::lab::{Lab, has};
use fibcast_testbed::Frr;
use fibcast_testbed::wait::eventually;

/// A router whose first port has a TAP interface, and FRR on both sides of that port; `conf` is told the interface and the number.
fn both(conf: &dyn Fn(&str, u8) -> String, daemons: &[&str]) -> Option<(Lab, Frr, Frr)> {
    if ["zebra", "vtysh"].iter().chain(daemons).any(|program| !has(program)) {
        return None;
    }
    let mut lab = Lab::new(2)?;
    lab.start(&|n| if n == 0 { "exception_path = true" } else { "" }, "");
    let daemons = [&["zebra"], daemons].concat();
    let own = lab.frr(None, &conf("fc-p0", 1), &daemons);
    let other = lab.frr(Some(0), &conf("e0", 2), &daemons);
    Some((lab, own, other))
}

#[test]
fn ospf_and_is_is_become_neighbors() {
    let conf = |interface: &str, number: u8| {
        format!(
            "interface {interface}\n ip ospf hello-interval 1\n ip ospf dead-interval 4\n ip ospf area 0\n ipv6 ospf6 area 0\n \
             ipv6 ospf6 hello-interval 1\n ipv6 ospf6 dead-interval 4\n ip router isis x\n isis hello-interval 1\n isis circuit-type level-2-only\n\
             router ospf\n ospf router-id 10.255.1.{number}\nrouter ospf6\n ospf6 router-id 10.255.1.{number}\n\
             router isis x\n net 49.0001.0000.0000.000{number}.00\n is-type level-2-only\n"
        )
    };
    let Some((lab, own, other)) = both(&conf, &["ospfd", "ospf6d", "isisd"]) else { return };
    for frr in [&own, &other] {
        eventually("OSPF is full", 60, || frr.vtysh(&["show ip ospf neighbor"]).contains("Full/"));
        eventually("OSPFv3 is full", 60, || frr.vtysh(&["show ipv6 ospf6 neighbor"]).contains("Full/"));
        // Its hellos are padded to the MTU of the interface.
        eventually("IS-IS is up", 60, || frr.vtysh(&["show isis neighbor"]).contains("Up"));
    }
    lab.drops();
}

#[test]
fn bgp_speaks_between_addresses_and_unnumbered() {
    let conf = |interface: &str, number: u8| {
        let other = 3 - number;
        format!(
            "interface {interface}\n ipv6 nd ra-interval 1\n no ipv6 nd suppress-ra\nrouter bgp 6500{number}\n bgp router-id 10.255.1.{number}\n \
             no bgp ebgp-requires-policy\n neighbor 10.0.0.{other} remote-as external\n neighbor 10.0.0.{other} timers connect 1\n \
             neighbor 2001:db8:0::{other} remote-as external\n neighbor 2001:db8:0::{other} timers connect 1\n \
             neighbor {interface} interface remote-as external\n neighbor {interface} timers connect 1\n"
        )
    };
    let Some((lab, own, other)) = both(&conf, &["bgpd"]) else { return };
    for frr in [&own, &other] {
        eventually("three sessions are established", 90, || {
            let text = frr.vtysh(&["show bgp neighbors"]);
            text.matches("BGP state = Established").count() == 3
        });
    }
    lab.drops();
}
