//! Protocols of the link and of the host through a TAP interface, both ways, with the kernel's own addresses and groups, while an operator sets
//! interfaces down, deletes them and adds addresses.

use std::net::Ipv6Addr;
use std::time::{Duration, Instant};

use crate::lab::{Lab, Running, has};
use fibcast_dataplane::packet::checksum;

/// `frames.py` beside this file.
fn tool() -> String {
    format!("python3 {}/tests/netns/frames.py", env!("CARGO_MANIFEST_DIR"))
}

fn ready() -> Option<Lab> {
    has("python3").then(|| Lab::new(2)).flatten()
}

fn lab() -> Option<Lab> {
    let mut lab = ready()?;
    lab.start(&|_| "exception_path = true", "");
    Some(lab)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The two ends of port 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// Its TAP interface.
    Tap,
    /// The host behind it.
    Host,
}

fn listen(lab: &Lab, at: End, conditions: &str) -> Running {
    let command = |interface| format!("{} wait {interface} 10 {conditions}", tool());
    let mut running = match at {
        End::Tap => lab.in_router(&command("fc-p0")),
        End::Host => lab.in_host(0, &command("e0")),
    };
    running.wait_for("ready");
    running
}

#[track_caller]
fn send(lab: &Lab, from: End, frame: &[u8]) {
    let command = |interface| format!("{} send {interface} {}", tool(), hex(frame));
    let (content, text) = match from {
        End::Tap => lab.on_router(&command("fc-p0")),
        End::Host => lab.on(0, &command("e0")),
    };
    assert!(content, "{text}");
}

/// Sends a frame from one end, which must arrive at the other one unchanged.
#[track_caller]
fn crosses(lab: &Lab, from: End, frame: &[u8]) {
    let other = if from == End::Tap { End::Host } else { End::Tap };
    let mut listener = listen(lab, other, &format!("0:{}", hex(frame)));
    send(lab, from, frame);
    listener.wait_for("found");
}

fn mac(lab: &Lab, of: End) -> [u8; 6] {
    let (_, text) = match of {
        End::Tap => lab.on_router("cat /sys/class/net/fc-p0/address"),
        End::Host => lab.on(0, "cat /sys/class/net/e0/address"),
    };
    let bytes: Vec<u8> = text.trim().split(':').map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect();
    bytes.try_into().unwrap()
}

fn frame(to: [u8; 6], from: [u8; 6], ethertype: u16, payload: &[u8]) -> Vec<u8> {
    [&to[..], &from, &ethertype.to_be_bytes(), payload].concat()
}

#[track_caller]
fn pings(lab: &Lab, host: usize, target: &str) {
    let text = lab.ok(host, &format!("ping -n -c 3 -i 0.1 -W 2 {target}"));
    assert!(text.contains("3 received"), "{text}");
}

#[track_caller]
fn pings_from_router(lab: &Lab, source: &str, target: &str) {
    let (content, text) = lab.on_router(&format!("ping -n -c 3 -i 0.1 -W 2 -I {source} {target}"));
    assert!(content && text.contains("3 received"), "{text}");
}

#[test]
fn a_server_on_the_address_of_one_port_is_reached_through_another() {
    // Both with a TAP interface, and only that of the address; with strict reverse-path filters.
    for of_port_0 in ["exception_path = true", ""] {
        let Some(mut lab) = ready() else { return };
        let (content, text) =
            lab.on_router("for n in all default; do echo 1 > /proc/sys/net/ipv4/conf/$n/rp_filter; done");
        assert!(content, "{text}");
        let keys: &dyn Fn(usize) -> &'static str = if of_port_0.is_empty() {
            &|n| if n == 1 { "exception_path = true" } else { "" }
        } else {
            &|_| "exception_path = true"
        };
        lab.start(keys, "");
        for target in ["10.0.1.1", "2001:db8:1::1"] {
            for host in [0, 1] {
                let mut server = lab.in_router(&format!("{} tcp-server {target} 7000", tool()));
                server.wait_for("ready");
                let text = lab.ok(host, &format!("{} tcp-client {target} 7000", tool()));
                assert!(text.contains("hello"), "{text}");
            }
        }
        lab.drops();
    }
}

#[test]
fn protocols_without_ip_cross_both_ways() {
    let Some(lab) = lab() else { return };
    let isis = |last| [1, 0x80, 0xc2, 0, 0, last];
    for from in [End::Host, End::Tap] {
        let own = mac(&lab, from);
        // LLDP and LACP.
        crosses(&lab, from, &frame([1, 0x80, 0xc2, 0, 0, 0x0e], own, 0x88cc, &[5; 200]));
        crosses(&lab, from, &frame([1, 0x80, 0xc2, 0, 0, 2], own, 0x8809, &[1; 110]));
        // IS-IS: LLC behind a length, padded to the MTU.
        let mut hello = vec![0xfe, 0xfe, 3, 0x83];
        hello.resize(1_500, 0);
        for group in [isis(0x14), isis(0x15), [9, 0, 0x2b, 0, 0, 5]] {
            crosses(&lab, from, &frame(group, own, 1_500, &hello));
        }
    }
    lab.drops();
}

/// A UDP packet over IPv4.
fn udp(source: [u8; 4], destination: [u8; 4], ports: [u16; 2]) -> Vec<u8> {
    let mut packet = vec![0x45, 0, 0, 48, 0, 0, 0, 0, 64, 17, 0, 0];
    packet.extend([source, destination].concat());
    let field = checksum::checksum(&packet);
    packet[10..12].copy_from_slice(&field.to_be_bytes());
    packet.extend(ports.into_iter().flat_map(u16::to_be_bytes));
    packet.extend([0, 28, 0, 0]);
    packet.extend([9; 20]);
    packet
}

#[test]
fn dhcp_crosses_both_ways() {
    let Some(lab) = lab() else { return };
    let (host, tap) = (mac(&lab, End::Host), mac(&lab, End::Tap));
    let everybody = [0xff; 6];
    for (from, own) in [(End::Host, host), (End::Tap, tap)] {
        let discover = udp([0; 4], [255; 4], [68, 67]);
        crosses(&lab, from, &frame(everybody, own, 0x0800, &discover));
        let offer = udp([10, 0, 0, if from == End::Tap { 1 } else { 2 }], [255; 4], [67, 68]);
        crosses(&lab, from, &frame(everybody, own, 0x0800, &offer));
    }
    // A server on the host sends to a client that does not answer ARP yet.
    crosses(&lab, End::Tap, &frame(host, tap, 0x0800, &udp([10, 0, 0, 1], [10, 0, 0, 77], [67, 68])));
    // A client that knows its server.
    crosses(&lab, End::Host, &frame(tap, host, 0x0800, &udp([0; 4], [10, 0, 0, 1], [68, 67])));
    // A broadcast of a socket of the kernel.
    let mut listener = listen(&lab, End::Host, "0:ffffffffffff 12:0800 30:ffffffff");
    let (content, text) = lab.on_router(
        "python3 -c \"import socket as s; o = s.socket(s.AF_INET, s.SOCK_DGRAM); o.setsockopt(s.SOL_SOCKET, s.SO_BROADCAST, 1); \
         o.setsockopt(s.SOL_SOCKET, 25, b'fc-p0'); o.sendto(b'hello', ('255.255.255.255', 68))\"",
    );
    assert!(content, "{text}");
    listener.wait_for("found");
    lab.drops();
}

/// ICMPv6 from the link-local address of a MAC address, with hop limit 255.
fn icmpv6(from: [u8; 6], to: &str, message: &[u8]) -> Vec<u8> {
    let source = fibcast_dataplane::packet::ethernet::Mac(from).link_local();
    let to: Ipv6Addr = to.parse().unwrap();
    let mut message = message.to_vec();
    let field = checksum::pseudo_v6(source, to, 58, &message);
    message[2..4].copy_from_slice(&field.to_be_bytes());
    let mut packet = vec![0x60, 0, 0, 0, 0, message.len() as u8, 58, 255];
    packet.extend([source.octets(), to.octets()].concat());
    packet.extend(message);
    packet
}

#[test]
fn router_discovery_crosses_both_ways() {
    let Some(lab) = lab() else { return };
    for from in [End::Host, End::Tap] {
        let own = mac(&lab, from);
        let option = [&[1, 1][..], &own].concat();
        let solicitation = [&[133, 0, 0, 0, 0, 0, 0, 0][..], &option].concat();
        let advertisement = [&[134, 0, 0, 0, 64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0][..], &option].concat();
        for (group, last, message) in [("ff02::2", 2, &solicitation), ("ff02::1", 1, &advertisement)] {
            crosses(
                &lab,
                from,
                &frame([0x33, 0x33, 0, 0, 0, last], own, 0x86dd, &icmpv6(own, group, message)),
            );
        }
        // To one neighbor, by its MAC address: an answer to a solicitation.
        let (other, to) = if from == End::Tap {
            (mac(&lab, End::Host), End::Host)
        } else {
            (mac(&lab, End::Tap), End::Tap)
        };
        let link_local = fibcast_dataplane::packet::ethernet::Mac(mac(&lab, to)).link_local().to_string();
        crosses(&lab, from, &frame(other, own, 0x86dd, &icmpv6(own, &link_local, &advertisement)));
    }
    // The interface of a router is not configured by advertisements.
    let (_, text) = lab.on_router("cat /proc/sys/net/ipv6/conf/fc-p0/accept_ra; ip -6 route show default");
    assert_eq!(text.trim(), "0");
}

#[test]
fn an_interface_that_was_down_has_its_addresses_and_routes_again() {
    let Some(lab) = lab() else { return };
    const LOOK: &str = "ip -br address show fc-p0; ip -6 route show table 7830; ip route show table 7830; ip rule; ip -6 rule";
    let before = until(&lab, LOOK, |text| text.contains("fe80::"));
    for _ in 0..2 {
        let (content, text) = lab.on_router("ip link set fc-p0 down");
        assert!(content, "{text}");
        // The other port does not depend on it.
        pings(&lab, 0, "10.0.1.1");
        pings(&lab, 0, "2001:db8:1::1");
        let (content, text) = lab.on_router("ip link set fc-p0 up");
        assert!(content, "{text}");
        until(&lab, LOOK, |text| *text == before);
        for target in ["10.0.0.1", "2001:db8:0::1"] {
            pings(&lab, 0, target);
        }
        pings_from_router(&lab, "10.0.0.1", "10.0.1.2");
        pings_from_router(&lab, "2001:db8:0::1", "2001:db8:1::2");
    }
}

/// Runs a command in the router's namespace until its output is as wanted.
#[track_caller]
fn until(lab: &Lab, command: &str, wanted: impl Fn(&String) -> bool) -> String {
    let end = Instant::now() + Duration::from_secs(15);
    loop {
        let (_, text) = lab.on_router(command);
        if wanted(&text) {
            return text;
        }
        assert!(Instant::now() < end, "{text}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn an_mtu_above_that_of_the_port_is_put_right() {
    let Some(lab) = lab() else { return };
    let (content, text) = lab.on_router("ip link set fc-p0 mtu 1400");
    assert!(content, "{text}");
    pings(&lab, 0, "10.0.0.1");
    let (content, text) =
        lab.on_router("ip link show fc-p0 | grep -q 'mtu 1400 ' && ip link set fc-p0 mtu 9000");
    assert!(content, "a smaller one is the operator's choice: {text}");
    until(&lab, "ip link show fc-p0", |text| text.contains("mtu 1500 "));
    pings(&lab, 0, "-M do -s 1472 10.0.0.1");
}

#[test]
fn a_deleted_interface_is_created_again() {
    let Some(lab) = lab() else { return };
    for _ in 0..2 {
        let (content, text) = lab.on_router("ip link del fc-p0");
        assert!(content, "{text}");
        pings(&lab, 0, "10.0.1.1");
        until(&lab, "ip -br address show fc-p0", |text| {
            text.contains("10.0.0.1/24") && text.contains("2001:db8::1/64")
        });
        for target in ["10.0.0.1", "2001:db8:0::1"] {
            pings(&lab, 0, target);
        }
        pings_from_router(&lab, "10.0.0.1", "10.0.1.2");
    }
    let (_, rules) = lab.on_router("ip rule");
    assert_eq!(rules.matches("from 10.0.0.1 ").count(), 1, "{rules}");
}

#[test]
fn an_address_that_an_operator_adds_is_the_ports() {
    let Some(mut lab) = lab() else { return };
    lab.ok(0, "ip address add 10.9.0.2/24 dev e0; ip -6 address add 2001:db8:9::2/64 dev e0 nodad");
    let (content, text) = lab.on_router(
        "ip address add 10.9.0.1/24 dev fc-p0 && ip -6 address add 2001:db8:9::1/64 dev fc-p0 && ip -6 address add fe80::77/64 dev fc-p0",
    );
    assert!(content, "{text}");
    // The last one: the kernel looks for a duplicate first.
    until(&lab, "ip -6 rule", |text| text.contains("from 2001:db8:9::1 "));
    until(&lab, "ip -6 -br address show fc-p0 -tentative", |text| text.contains("fe80::77"));
    for target in ["10.9.0.1", "2001:db8:9::1", "fe80::77%e0"] {
        pings(&lab, 0, target);
    }
    // From another port, and to another port.
    pings(&lab, 1, "10.9.0.1");
    pings(&lab, 1, "2001:db8:9::1");
    pings_from_router(&lab, "10.9.0.1", "10.0.1.2");
    pings_from_router(&lab, "2001:db8:9::1", "2001:db8:1::2");
    // Its subnet is connected.
    lab.ok(0, "ip route add default via 10.9.0.1 metric 1");
    pings(&lab, 1, "10.9.0.2");
    let (content, text) = lab.on_router("ip address del 10.9.0.1/24 dev fc-p0");
    assert!(content, "{text}");
    until(&lab, "ip rule", |text| !text.contains("10.9.0.1"));
    let (content, text) = lab.on(1, "ping -n -c 1 -W 1 10.9.0.1");
    assert!(!content, "{text}");
    lab.stop();
    let (_, after) = lab.on_router("ip rule; ip -6 rule");
    assert!(!after.contains("7830"), "{after}");
}

#[test]
fn a_killed_router_leaves_nothing_of_an_operators_address() {
    let Some(mut lab) = lab() else { return };
    let (_, before) = lab.on_router("ip rule; ip -6 rule");
    for _ in 0..2 {
        let (content, text) = lab.on_router("ip address add 10.9.0.1/32 dev fc-p0");
        assert!(content, "{text}");
        until(&lab, "ip rule", |text| text.contains("from 10.9.0.1 "));
        pings(&lab, 1, "10.9.0.1");
        lab.kill();
        lab.start(&|_| "exception_path = true", "");
        assert_eq!(lab.on_router("ip rule; ip -6 rule").1, before);
    }
}

#[test]
fn a_deleted_interface_whose_name_is_taken_returns_when_the_name_is_free() {
    let Some(lab) = lab() else { return };
    let (content, text) = lab.on_router("ip link del fc-p0 && ip link add fc-p0 type bridge");
    assert!(content, "{text}");
    std::thread::sleep(Duration::from_secs(2));
    pings(&lab, 0, "10.0.1.1");
    pings_from_router(&lab, "10.0.1.1", "10.0.0.2");
    let (content, text) = lab.on_router("ip link del fc-p0");
    assert!(content, "{text}");
    until(&lab, "ip -br address show fc-p0", |text| text.contains("10.0.0.1/24"));
    pings(&lab, 0, "10.0.0.1");
}

#[test]
fn groups_are_reported_at_the_start_and_to_a_querier() {
    for key in ["", "exception_path = true"] {
        let Some(mut lab) = ready() else { return };
        let report = "0:333300000016 12:86dd 54:3a0005020000 62:8f";
        let mut at_start = listen(&lab, End::Host, report);
        lab.start(if key.is_empty() { &|_| "" } else { &|_| "exception_path = true" }, "");
        at_start.wait_for("found");
        // The solicited-node group of 2001:db8:0::1, in an answer.
        let group = "ff02::1:ff00:1".parse::<Ipv6Addr>().unwrap();
        let source: Ipv6Addr = "fe80::9".parse().unwrap();
        let mut message = [&[130, 0, 0, 0, 0, 100, 0, 0][..], &group.octets(), &[2, 125, 0, 0]].concat();
        let field = checksum::pseudo_v6(source, group, 58, &message);
        message[2..4].copy_from_slice(&field.to_be_bytes());
        let mut packet = vec![0x60, 0, 0, 0, 0, 36, 0, 1];
        packet.extend([source.octets(), group.octets()].concat());
        packet.extend([58, 0, 5, 2, 0, 0, 1, 0]);
        packet.extend(message);
        let conditions = format!("{report} 69:01 70:02000000{}", hex(&group.octets()));
        let mut answer = listen(&lab, End::Host, &conditions);
        send(&lab, End::Host, &frame([0x33, 0x33, 0xff, 0, 0, 1], mac(&lab, End::Host), 0x86dd, &packet));
        answer.wait_for("found");
        // IGMPv3, the group of all routers.
        let mut packet =
            vec![0x46, 0, 0, 36, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 0, 0, 224, 0, 0, 1, 0x94, 4, 0, 0];
        let field = checksum::checksum(&packet);
        packet[10..12].copy_from_slice(&field.to_be_bytes());
        let mut message = vec![0x11, 10, 0, 0, 0, 0, 0, 0, 2, 125, 0, 0];
        let field = checksum::checksum(&message);
        message[2..4].copy_from_slice(&field.to_be_bytes());
        packet.extend(message);
        let mut answer = listen(&lab, End::Host, "0:01005e000016 38:22 46:02000000e0000002");
        send(&lab, End::Host, &frame([1, 0, 0x5e, 0, 0, 1], mac(&lab, End::Host), 0x0800, &packet));
        answer.wait_for("found");
    }
}

#[test]
fn a_group_that_a_program_joins_is_reported_and_received() {
    let Some(lab) = lab() else { return };
    let mut report = listen(&lab, End::Host, "0:01005e000016 38:22 46:04000000ef010203");
    let mut program = lab.in_router(
        "python3 -c \"import socket as s; o = s.socket(s.AF_INET, s.SOCK_DGRAM); o.bind(('239.1.2.3', 7001)); \
         o.setsockopt(s.IPPROTO_IP, s.IP_ADD_MEMBERSHIP, s.inet_aton('239.1.2.3') + s.inet_aton('10.0.0.1')); print('ready', flush=True); \
         o.recv(100); print('found', flush=True)\"",
    );
    program.wait_for("ready");
    report.wait_for("found");
    // The exception path follows the kernel's groups within half a second.
    std::thread::sleep(Duration::from_secs(1));
    let packet = udp([10, 0, 0, 2], [239, 1, 2, 3], [7001, 7001]);
    send(&lab, End::Host, &frame([1, 0, 0x5e, 1, 2, 3], mac(&lab, End::Host), 0x0800, &packet));
    program.wait_for("found");
    let before = lab.dropped("multicast");
    let packet = udp([10, 0, 0, 2], [239, 1, 2, 4], [7001, 7001]);
    send(&lab, End::Host, &frame([1, 0, 0x5e, 1, 2, 4], mac(&lab, End::Host), 0x0800, &packet));
    let end = Instant::now() + Duration::from_secs(5);
    while lab.dropped("multicast") == before {
        assert!(Instant::now() < end, "a group that nobody joined was not dropped");
        std::thread::sleep(Duration::from_millis(20));
    }
}
