//! Sessions between the loopbacks of two NIC hosts that are connected by two links: they live as long as one of these does.

use std::time::Duration;

use crate::lab::{Lab, has};
use fibcast_testbed::wait::eventually;

/// A host with its loopback, two ports, and routes to the other's loopback by both.
fn host(number: u8) -> Option<Lab> {
    let mut lab = Lab::new(0)?;
    let other = 3 - number;
    let port = |at: u8, v4: &str, v6: &str| {
        format!(
            "[[port]]\nname = \"p{at}\"\ndevice = \"net_tap{at},iface=ft{at},mac=02:fb:00:00:0{number}:1{at}\"\n\
             addresses = [\"{v4}.{number}/24\", \"{v6}::{number}/64\"]\nexception_path = true\n"
        )
    };
    let routes = format!(
        "[[static_route]]\nprefix = \"10.255.{other}.0/24\"\nvia = [\"192.0.2.{other}\", \"198.51.100.{other}\"]\n\
         [[static_route]]\nprefix = \"2001:db8:255:{other}::/64\"\nvia = [\"2001:db8::{other}\", \"2001:db8:1::{other}\"]\n"
    );
    let loopback = format!("loopback = [\"10.255.{number}.1/32\", \"2001:db8:255:{number}::1/128\"]\n");
    lab.start_with(
        &loopback,
        &(port(0, "192.0.2", "2001:db8") + &port(1, "198.51.100", "2001:db8:1") + &routes),
    );
    Some(lab)
}

fn hosts() -> Option<[Lab; 2]> {
    let (a, b) = (host(1)?, host(2)?);
    for link in 0..2 {
        a.bridge_number(link, &b);
    }
    eventually("both links are up", 20, || [&a, &b].iter().all(|lab| up(lab, 0) && up(lab, 1)));
    if has("ping") {
        // Next hops that were asked for before the links were up are asked again after a pause.
        eventually("both neighbors are known", 30, || {
            a.on_router("ping -n -c 8 -i 0.1 -W 1 -I 10.255.1.1 10.255.2.1").1.contains("8 received")
                && a.on_router("ping -n -c 4 -i 0.1 -W 1 -I 2001:db8:255:1::1 2001:db8:255:2::1").0
        });
    }
    Some([a, b])
}

fn up(lab: &Lab, link: usize) -> bool {
    lab.ports().ports[link].link_up
}

/// Pulls or plugs in a cable, and waits until both routers know.
#[track_caller]
fn cable(labs: &[Lab; 2], link: usize, state: &str) {
    for lab in labs {
        let (content, text) = lab.on_router(&format!("ip link set ft{link} {state}"));
        assert!(content, "{text}");
    }
    eventually("both know of the link", 20, || labs.iter().all(|lab| up(lab, link) == (state == "up")));
}

#[track_caller]
fn pings(lab: &Lab, from: &str, to: &str) {
    let (content, text) = lab.on_router(&format!("ping -n -c 3 -i 0.2 -W 5 -I {from} {to}"));
    assert!(content && text.contains("3 received"), "{text}");
}

/// A session over IPv4 and one over IPv6 while one link after the other is lost.
#[test]
fn sessions_between_loopbacks_survive_the_loss_of_each_link() {
    if !has("python3") || !has("ping") {
        return;
    }
    let Some(labs) = hosts() else { return };
    let [a, b] = &labs;
    let tool = format!("python3 {}/tests/netns/frames.py", env!("CARGO_MANIFEST_DIR"));
    let pairs = [("10.255.1.1", "10.255.2.1"), ("2001:db8:255:1::1", "2001:db8:255:2::1")];
    let mut sessions = Vec::new();
    for (own, other) in pairs {
        let mut server = b.in_router(&format!("{tool} tcp-echo {other} 7000"));
        server.wait_for("ready");
        let mut client = a.in_router(&format!("{tool} tcp-beat {own} {other} 7000 12"));
        client.wait_for("ready");
        sessions.push((client, server));
    }
    for link in [0, 1, 0] {
        cable(&labs, link, "down");
        pairs.iter().for_each(|(own, other)| pings(a, own, other));
        cable(&labs, link, "up");
        std::thread::sleep(Duration::from_millis(500));
    }
    sessions.iter_mut().for_each(|(client, _)| client.wait_for("done"));
    labs.iter().for_each(|lab| _ = lab.drops());
}

#[test]
fn the_interface_has_its_addresses_and_a_carrier_whatever_the_ports_have() {
    let Some(labs) = hosts() else { return };
    let [a, b] = &labs;
    let shown = |lab: &Lab| lab.on_router("ip address show dev fc-lo").1;
    cable(&labs, 0, "down");
    cable(&labs, 1, "down");
    let text = shown(a);
    for part in ["10.255.1.1/32", "2001:db8:255:1::1/128", "LOWER_UP"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!a.on_router("ip address show dev fc-p0").1.contains("10.255.1.1"));
    cable(&labs, 1, "up");
    if !has("ping") {
        return;
    }
    // An address that the operator adds is one of the router itself, on each port.
    for (command, address) in [
        ("address add 10.255.2.77/32 dev fc-lo", "10.255.2.77"),
        ("address add 2001:db8:255:2::77/128 dev fc-lo", "2001:db8:255:2::77"),
    ] {
        b.on_router(&format!("ip {command}"));
        let own = if address.contains(':') { "2001:db8:255:1::1" } else { "10.255.1.1" };
        eventually("the address is known", 20, || {
            a.on_router(&format!("ping -n -c 1 -W 1 -I {own} {address}")).0
        });
        let other = if address.contains(':') { "2001:db8:255:1::1" } else { "10.255.1.1" };
        pings(b, address, other);
    }
    b.on_router("ip address del 10.255.2.77/32 dev fc-lo");
    eventually("it is gone", 20, || !a.on_router("ping -n -c 1 -W 1 -I 10.255.1.1 10.255.2.77").0);
    // Set down and up, and deleted: it comes back with its addresses and routes.
    for command in ["ip link set fc-lo down && ip link set fc-lo up", "ip link del fc-lo"] {
        a.on_router(command);
        eventually("it is back", 20, || {
            shown(a).contains("2001:db8:255:1::1/128")
                && a.on_router("ping -n -c 1 -W 1 -I 2001:db8:255:1::1 2001:db8:255:2::1").0
                && a.on_router("ping -n -c 1 -W 1 -I 10.255.1.1 10.255.2.1").0
        });
    }
}

#[test]
fn a_packet_of_the_kernel_that_exceeds_a_link_is_fragmented_or_told_of() {
    if !has("ping") {
        return;
    }
    let Some(labs) = hosts() else { return };
    let [a, _] = &labs;
    pings(a, "10.255.1.1", "10.255.2.1");
    for (from, to) in [("10.255.1.1", "10.255.2.1"), ("2001:db8:255:1::1", "2001:db8:255:2::1")] {
        let (content, text) = a.on_router(&format!("ping -n -c 3 -i 0.2 -W 5 -s 4000 -I {from} {to}"));
        assert!(content && text.contains("3 received"), "{text}");
    }
    // The way in is by another TAP interface than the way out, with strict reverse-path filters as well.
    let filters =
        "for n in all default fc-lo fc-p0 fc-p1; do echo 1 > /proc/sys/net/ipv4/conf/$n/rp_filter; done";
    assert!(a.on_router(filters).0);
    pings(a, "10.255.1.1", "10.255.2.1");
}

#[test]
fn bgp_between_loopbacks_survives_the_loss_of_a_link() {
    if ["vtysh", "zebra", "bgpd"].iter().any(|program| !has(program)) {
        return;
    }
    let Some(labs) = hosts() else { return };
    let conf = |number: u8| {
        let other = 3 - number;
        format!(
            "router bgp 6500{number}\n bgp router-id 10.255.{number}.1\n no bgp ebgp-requires-policy\n no bgp network import-check\n \
             neighbor 10.255.{other}.1 remote-as external\n neighbor 10.255.{other}.1 update-source 10.255.{number}.1\n \
             neighbor 10.255.{other}.1 ebgp-multihop 5\n neighbor 10.255.{other}.1 disable-connected-check\n \
             neighbor 10.255.{other}.1 timers 1 5\n neighbor 10.255.{other}.1 timers connect 1\n"
        )
    };
    // bgpd asks zebra for a route to its peer, which the kernel does not need.
    for (lab, other) in labs.iter().zip([2, 1]) {
        assert!(lab.on_router(&format!("ip route add 10.255.{other}.1/32 dev fc-lo")).0);
    }
    let frrs =
        [(&labs[0], 1), (&labs[1], 2)].map(|(lab, number)| lab.frr(None, &conf(number), &["zebra", "bgpd"]));
    let established = || {
        frrs.iter()
            .all(|frr| frr.vtysh(&["show bgp neighbors"]).matches("BGP state = Established").count() == 1)
    };
    eventually("the session is up", 90, established);
    let drops = |text: &str| text.lines().find(|line| line.contains("dropped")).map(str::to_owned);
    let before = drops(&frrs[0].vtysh(&["show bgp neighbors"]));
    for link in [0, 1] {
        cable(&labs, link, "down");
        // Longer than the hold time.
        std::thread::sleep(Duration::from_secs(7));
        assert!(established(), "{}", frrs[0].vtysh(&["show bgp neighbors"]));
        cable(&labs, link, "up");
        std::thread::sleep(Duration::from_secs(1));
    }
    assert_eq!(drops(&frrs[0].vtysh(&["show bgp neighbors"])), before, "the same session all the time");
}
