//! A host without DPDK, configured as `docs/kernel/` says, has the forwarding table in a kernel table of its own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use fibcast_interop::{Lab, eventually, project, route_server_toml};

const TEXT: &str = "10.0.0.0/8 via 192.0.2.2\n10.1.0.0/16 via 192.0.2.2, 192.0.2.3*3\n10.2.0.0/16 blackhole\n\
    10.3.0.0/16 unreachable\n10.4.0.0/16 prohibit\n10.5.0.0/16 via 2001:db8::2\n\
    2001:db8:1::/48 via 2001:db8::2\n2001:db8:2::/48 via 2001:db8::2, 2001:db8::3\n2001:db8:3::/48 blackhole\n";

fn kernel(agent: &fibcast_interop::Ours<'_>) -> fibcast_control::status::KernelStatus {
    agent.status().kernel.unwrap()
}

#[test]
fn the_kernel_forwards_by_the_table_and_nobody_elses_routes_are_touched() {
    let Some(lab) = Lab::new(&["ip"]) else { return };
    let (h, up) = (lab.host("h"), lab.host("up"));
    lab.cable(
        (&h, "eth0", &["192.0.2.1/24", "2001:db8::1/64"]),
        (&up, "eth0", &["192.0.2.2/24", "2001:db8::2/64", "10.0.0.1/8"]),
    );
    let path = h.file("routes.txt", TEXT);
    let other = h.file("more.txt", "10.9.0.0/16 via 203.0.113.1\n172.16.0.0/12 via 192.0.2.2\n");
    let vrf = h.file("vrf.txt", "10.20.0.0/16 blackhole\n");
    let nine = h.file("nine.txt", "10.21.0.0/16 blackhole\n");
    let source = |origin: &str, path: &std::path::Path, vrf: u32| {
        format!(
            "[[source]]\norigin = \"{origin}\"\nkind = \"static\"\npath = \"{}\"\nvrf = {vrf}\n",
            path.display()
        )
    };
    let sources = |more: bool| {
        let more = if more { source("more", &other, 0) } else { String::new() };
        let text = source("one", &path, 0) + &source("seven", &vrf, 7) + &source("nine", &nine, 9) + &more;
        route_server_toml(&h, "rs", "127.0.0.1:7830", &text)
    };
    let mut server = h.ours("fibcast-route-server", "rs", &sources(true));
    // Routes of an earlier run, one right and one wrong; and foreign routes, one with the key of ours.
    h.ip("route add 10.0.0.0/8 via 192.0.2.2 table 200 proto 217 metric 1024");
    h.ip("route add 10.99.0.0/16 via 192.0.2.2 table 200 proto 217 metric 1024");
    h.ip("route add 10.98.0.0/16 via 192.0.2.2 table 200 proto static");
    h.ip("route add 172.16.0.0/12 via 192.0.2.9 table 200 proto static metric 1024");
    let folder = h.folder().display().to_string();
    let toml = project("docs/kernel/agent.toml")
        .replace("/run/fibcast", &folder)
        .replace("/var/lib/fibcast", &folder);
    let mut agent = h.ours("fibcast-agent", "host-1", &toml);
    eventually("ten routes, two refused", 20, || {
        let kernel = kernel(&agent);
        (kernel.routes, kernel.refused, kernel.left_out) == (10, 2, 1)
    });
    assert_eq!(kernel(&agent).leftovers, 2);
    let table = h.ip("route show table 200") + &h.ip("-6 route show table 200");
    let has = |line: &str| {
        assert!(
            table.lines().any(|l| l.replace(" proto fibcast", " proto 217").trim().starts_with(line)),
            "{line}\n{table}"
        )
    };
    has("10.0.0.0/8 via 192.0.2.2 dev eth0 proto 217 metric 1024");
    has("10.5.0.0/16 via inet6 2001:db8::2 dev eth0 proto 217 metric 1024");
    has("blackhole 10.2.0.0/16 proto 217");
    has("unreachable 10.3.0.0/16 proto 217");
    has("prohibit 10.4.0.0/16 proto 217");
    has("10.98.0.0/16 via 192.0.2.2 dev eth0 proto static");
    has("172.16.0.0/12 via 192.0.2.9 dev eth0 proto static");
    has("2001:db8:1::/48 via 2001:db8::2 dev eth0 proto 217 metric 1024");
    has("blackhole 2001:db8:3::/48 dev lo proto 217");
    assert!(table.contains("weight 3") && !table.contains("10.99.0.0"), "{table}");
    assert!(h.ip("route show table 207").contains("blackhole 10.20.0.0/16"));
    let metrics = agent.cli("show status");
    assert_eq!(metrics["kernel"]["refused"], 2, "{metrics}");

    // It forwards.
    h.ip("rule add priority 1000 lookup main suppress_prefixlength 0");
    h.ip("rule add priority 1001 lookup 200");
    h.sh("ping -c 1 -W 2 10.0.0.1");

    // The gateway that was refused comes within reach, and somebody else's route goes.
    h.ip("address add 203.0.113.2/24 dev eth0");
    h.ip("route del 172.16.0.0/12 table 200 proto static");
    eventually("nothing is refused any more", 20, || {
        (kernel(&agent).routes, kernel(&agent).refused) == (12, 0)
    });

    // The kernel drops routes with the link, without a word.
    h.ip("link set eth0 down");
    h.ip("link set eth0 up");
    h.sh("ip -6 address add 2001:db8::1/64 dev eth0 nodad || true");
    h.ip("route replace 10.98.0.0/16 via 192.0.2.2 table 200 proto static");
    eventually("all are back", 40, || {
        kernel(&agent).routes == 12 && h.ip("route show table 200 proto 217").lines().count() >= 8
    });

    // The agent dies; a route goes meanwhile; its next life sweeps what is too much and touches nothing else.
    agent.kill();
    assert!(h.ip("route show table 200").contains("10.9.0.0/16"));
    server.stop();
    server.rewrite(&sources(false));
    server.start();
    agent.start();
    eventually("two less", 20, || kernel(&agent).routes == 10 && kernel(&agent).leftovers >= 11);
    let table = h.ip("route show table 200");
    assert!(!table.contains("10.9.0.0/16") && !table.contains("172.16.0.0"), "{table}");
    assert!(table.contains("10.98.0.0/16"), "{table}");
    assert!(kernel(&agent).written <= 4, "what was right was not written again: {:?}", kernel(&agent));
}

#[test]
fn a_table_that_has_expired_leaves_the_kernel_and_comes_back_with_the_server() {
    let Some(lab) = Lab::new(&["ip"]) else { return };
    let (h, up) = (lab.host("h"), lab.host("up"));
    lab.cable((&h, "eth0", &["192.0.2.1/24", "2001:db8::1/64"]), (&up, "eth0", &["192.0.2.2/24"]));
    let path = h.file("routes.txt", TEXT);
    let source = format!("[[source]]\norigin = \"one\"\nkind = \"static\"\npath = \"{}\"\n", path.display());
    let mut server =
        h.ours("fibcast-route-server", "rs", &route_server_toml(&h, "rs", "127.0.0.1:7830", &source));
    let folder = h.folder().display().to_string();
    let toml = project("docs/kernel/agent.toml")
        .replace("/run/fibcast", &folder)
        .replace("/var/lib/fibcast", &folder)
        .replace("[sync]\n", "[sync]\nexpire_s = 10\n");
    assert!(toml.contains("expire_s"), "{toml}");
    let agent = h.ours("fibcast-agent", "host-1", &toml);
    // Members of a multipath route stand on lines of their own.
    let ours = || {
        let routes_of = |family: &str| h.ip(&format!("{family} route show table 200 proto 217"));
        let count =
            |family: &str| routes_of(family).lines().filter(|l| !l.starts_with(char::is_whitespace)).count();
        (count("-4"), count("-6"))
    };
    eventually("nine routes", 20, || ours().0 == 6 && kernel(&agent).routes == 9);
    h.ip("route add 10.98.0.0/16 via 192.0.2.2 table 200 proto static");

    server.kill();
    eventually("the loss of the server", 5, || agent.status().stale);
    assert_eq!(kernel(&agent).routes, 9, "what is known is forwarded by until it expires");
    eventually("its routes are withdrawn", 20, || ours() == (0, 0) && kernel(&agent).routes == 0);
    assert!(h.ip("route show table 200").contains("10.98.0.0/16"), "somebody else's route stays");

    server.start();
    eventually("its routes are back", 20, || ours().0 == 6 && kernel(&agent).routes == 9);
}

#[test]
fn routes_that_somebody_deletes_replaces_or_adds_are_found_and_mended_by_the_scrubber() {
    let Some(lab) = Lab::new(&["ip"]) else { return };
    let (h, up) = (lab.host("h"), lab.host("up"));
    lab.cable((&h, "eth0", &["192.0.2.1/24", "2001:db8::1/64"]), (&up, "eth0", &["192.0.2.2/24"]));
    let path = h.file("routes.txt", TEXT);
    let source = format!("[[source]]\norigin = \"one\"\nkind = \"static\"\npath = \"{}\"\n", path.display());
    let _server =
        h.ours("fibcast-route-server", "rs", &route_server_toml(&h, "rs", "127.0.0.1:7830", &source));
    let folder = h.folder().display().to_string();
    let toml = project("docs/kernel/agent.toml")
        .replace("/run/fibcast", &folder)
        .replace("/var/lib/fibcast", &folder)
        + "\n[scrub]\npass_s = 1\n";
    let agent = h.ours("fibcast-agent", "host-1", &toml);
    eventually("nine routes", 20, || kernel(&agent).routes == 9);
    eventually("two passes", 20, || kernel(&agent).scrub.passes >= 2);
    assert_eq!(kernel(&agent).scrub.differences, 0, "{:?}", kernel(&agent).scrub);
    // Somebody else's routes in the table are no difference.
    h.ip("route add 10.98.0.0/16 via 192.0.2.2 table 200 proto static");
    for (n, command, text) in [
        (
            1,
            "route del 10.2.0.0/16 table 200",
            "10.2.0.0/16 in VRF 0: wanted Special(Blackhole), found no route",
        ),
        (
            2,
            "route replace 10.0.0.0/8 via 192.0.2.77 table 200 proto 217 metric 1024",
            "found Hops([(Some(192.0.2.77)",
        ),
        (
            3,
            "route add blackhole 10.97.0.0/16 table 200 proto 217 metric 1024",
            "10.97.0.0/16 in VRF 0: wanted no route",
        ),
        (4, "-6 route del 2001:db8:2::/48 table 200", "2001:db8:2::/48 in VRF 0: wanted Hops"),
        (
            5,
            "-6 route replace blackhole 2001:db8:7::/48 table 200 proto 217 metric 1024",
            "2001:db8:7::/48 in VRF 0",
        ),
    ] {
        h.ip(command);
        eventually(command, 20, || kernel(&agent).scrub.mended >= n);
        let scrub = kernel(&agent).scrub;
        assert_eq!((scrub.differences, scrub.mended), (n, n), "{command}: {scrub:?}");
        let last = scrub.last_difference.unwrap();
        assert!(last.contains(text), "{command}: {last}");
    }
    let table = h.ip("route show table 200") + &h.ip("-6 route show table 200");
    for gone in ["192.0.2.77", "10.97.0.0", "2001:db8:7::"] {
        assert!(!table.contains(gone), "{table}");
    }
    for there in ["blackhole 10.2.0.0/16", "10.0.0.0/8 via 192.0.2.2", "2001:db8:2::/48", "10.98.0.0/16"] {
        assert!(table.contains(there), "{table}");
    }
}
