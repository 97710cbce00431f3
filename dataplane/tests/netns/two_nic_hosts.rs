//! FRR on two NIC hosts that are connected to each other, over the TAP interfaces of their ports: OSPF, IS-IS, BGP between addresses and
//! unnumbered. Sessions come up and stay, and end with the carrier. `TWO_NIC_HOSTS_S` says for how many seconds they have to stay (20 by
//! default). The hello timers are far longer than the test waits, so nothing but the carrier can end a session in time.

use std::time::Duration;

use crate::lab::{Lab, has};
use fibcast_testbed::Frr;
use fibcast_testbed::wait::eventually;

const DAEMONS: [&str; 4] = ["zebra", "ospfd", "isisd", "bgpd"];

fn conf(number: u8) -> String {
    let other = 3 - number;
    format!(
        "interface lo\n ip address 10.255.1.{number}/32\n ip ospf area 0\n ip router isis x\n isis passive\n\
         interface fc-p0\n ip ospf area 0\n ip ospf hello-interval 1\n ip ospf dead-interval 600\n ip ospf network point-to-point\n \
         ip router isis x\n isis hello-interval 1\n isis hello-multiplier 100\n isis network point-to-point\n \
         ipv6 nd ra-interval 1\n no ipv6 nd suppress-ra\n\
         router ospf\n ospf router-id 10.255.1.{number}\n\
         router isis x\n net 49.0001.0000.0000.000{number}.00\n is-type level-2-only\n\
         router bgp 6500{number}\n bgp router-id 10.255.1.{number}\n no bgp ebgp-requires-policy\n no bgp network import-check\n \
         neighbor 192.0.2.{other} remote-as external\n neighbor 192.0.2.{other} timers connect 1\n \
         neighbor fc-p0 interface remote-as external\n neighbor fc-p0 timers connect 1\n \
         address-family ipv4 unicast\n  network 10.50.{number}.0/24\n exit-address-family\n"
    )
}

fn host(number: u8) -> Option<Lab> {
    let mut lab = Lab::new(0)?;
    let port = format!(
        "[[port]]\nname = \"p0\"\ndevice = \"net_tap0,iface=ft0,mac=02:fb:00:00:00:0{number}\"\n\
         addresses = [\"192.0.2.{number}/24\", \"2001:db8::{number}/64\"]\nexception_path = true\n"
    );
    lab.start_with("", &port);
    Some(lab)
}

fn counts(frr: &Frr) -> [usize; 3] {
    let [ospf, isis, bgp] = ["show ip ospf neighbor", "show isis neighbor", "show bgp neighbors"]
        .map(|command| frr.vtysh(&[command]));
    let isis = isis.lines().filter(|line| line.contains(" Up ")).count();
    [ospf.matches("Full/").count(), isis, bgp.matches("BGP state = Established").count()]
}

#[test]
fn routing_daemons_of_two_nic_hosts_keep_their_sessions_and_lose_them_with_the_carrier() {
    if ["vtysh"].iter().chain(&DAEMONS).any(|program| !has(program)) {
        return;
    }
    let (Some(a), Some(b)) = (host(1), host(2)) else { return };
    a.bridge_to(&b);
    let [first, second] = [(&a, 1), (&b, 2)].map(|(lab, number)| lab.frr(None, &conf(number), &DAEMONS));
    let all_up = || [&first, &second].iter().all(|frr| counts(frr) == [1, 1, 2]);
    // As the kernel has them: that is what the host forwards its own packets by.
    let route =
        |lab: &Lab, prefix: &str| lab.on_router(&format!("ip route show {prefix}")).1.contains("fc-p0");
    let routes = |there: bool| {
        [(&a, 2), (&b, 1)].iter().all(|(lab, other)| {
            route(lab, &format!("10.255.1.{other}")) == there
                && route(lab, &format!("10.50.{other}.0/24")) == there
        })
    };
    eventually("all sessions are up", 90, all_up);
    eventually("routes came by them", 30, || routes(true));
    let seconds: u64 = std::env::var("TWO_NIC_HOSTS_S").ok().and_then(|text| text.parse().ok()).unwrap_or(20);
    for _ in 0..seconds {
        std::thread::sleep(Duration::from_secs(1));
        assert!(all_up(), "{:?} {:?}", counts(&first), counts(&second));
    }
    let cable = |state: &str| {
        for lab in [&a, &b] {
            let (content, text) = lab.on_router(&format!("ip link set ft0 {state}"));
            assert!(content, "{text}");
        }
    };
    cable("down");
    eventually("sessions ended with the carrier", 20, || {
        [&first, &second].iter().all(|frr| counts(frr) == [0, 0, 0])
    });
    eventually("routes left with it", 20, || routes(false));
    cable("up");
    eventually("all sessions are up again", 90, all_up);
    eventually("and the routes", 30, || routes(true));
    a.drops();
    b.drops();
}
