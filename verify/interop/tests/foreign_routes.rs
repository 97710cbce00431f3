//! Somebody else uses the kernel table of an agent: what shadows a route of ours is told until it is gone, and never touched.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use fibcast_control::status::KernelStatus;
use fibcast_interop::{Host, Lab, Ours, always, eventually, project, route_server_toml};

const TEXT: &str = "10.0.0.0/8 via 192.0.2.2\n10.1.0.0/16 via 192.0.2.2, 192.0.2.3*3\n10.2.0.0/16 blackhole\n\
    2001:db8:1::/48 via 2001:db8::2\n2001:db8:3::/48 blackhole\n";

fn kernel(agent: &Ours<'_>) -> KernelStatus {
    agent.status().kernel.unwrap()
}

fn healthz(h: &Host<'_>) -> String {
    h.sh("bash -c 'exec 3<>/dev/tcp/127.0.0.1/9831; printf \"GET /healthz HTTP/1.0\\r\\n\\r\\n\" >&3; cat <&3'")
}

/// A route server with these five routes, and an agent with table 200 and further lines of `[kernel]`.
fn start<'h>(h: &'h Host<'h>, more: &str) -> (Ours<'h>, Ours<'h>) {
    let path = h.file("routes.txt", TEXT);
    let source = format!("[[source]]\norigin = \"one\"\nkind = \"static\"\npath = \"{}\"\n", path.display());
    let server = h.ours("fibcast-route-server", "rs", &route_server_toml(h, "rs", "127.0.0.1:7830", &source));
    let folder = h.folder().display().to_string();
    let toml = project("docs/kernel/agent.toml")
        .replace("/run/fibcast", &folder)
        .replace("/var/lib/fibcast", &folder)
        .replace("metric = 1024\n", &format!("metric = 1024\n{more}"));
    let agent = h.ours("fibcast-agent", "host-1", &toml);
    eventually("five routes", 20, || kernel(&agent).routes == 5);
    (server, agent)
}

#[test]
fn a_route_that_the_kernel_prefers_is_told_until_it_is_gone_and_stays_where_it_is() {
    let Some(lab) = Lab::new(&["ip", "bash"]) else { return };
    let (h, up) = (lab.host("h"), lab.host("up"));
    lab.cable((&h, "eth0", &["192.0.2.1/24", "2001:db8::1/64"]), (&up, "eth0", &["192.0.2.2/24"]));
    // One of them is there before the agent.
    h.ip("route add 10.1.0.0/16 via 192.0.2.9 table 200 proto bird metric 32");
    let (_server, agent) = start(&h, "");
    let shadowed = |n: u64| eventually(&format!("{n} shadowed"), 20, || kernel(&agent).shadowed == n);
    shadowed(1);
    let text = kernel(&agent).shadow.unwrap();
    assert!(text.starts_with("10.1.0.0/16 by a route of protocol bird, metric 32, dev eth0"), "{text}");
    h.ip("route del 10.1.0.0/16 table 200 proto bird");
    shadowed(0);
    for (family, add, says) in [
        ("-4", "route add 10.0.0.0/8 via 192.0.2.9 proto static metric 10", "static, metric 10, dev eth0"),
        ("-4", "route add 10.0.0.0/8 via 192.0.2.9 proto zebra", "zebra, metric 0"),
        ("-4", "route prepend 10.0.0.0/8 via 192.0.2.9 proto static metric 1024", "metric 1024"),
        ("-4", "route add 10.0.0.0/8 tos 0x10 via 192.0.2.9 proto static metric 2000", "TOS 0x10"),
        ("-4", "route add throw 10.2.0.0/16 proto static metric 5", "metric 5"),
        ("-4", "route add 10.0.0.0/8 via 192.0.2.9 proto 217 metric 5", "protocol 217, metric 5"),
        ("-6", "route add 2001:db8:1::/48 via 2001:db8::9 proto bird metric 32", "bird, metric 32"),
        ("-6", "route add unreachable 2001:db8:3::/48 proto static metric 10", "static, metric 10"),
    ] {
        h.ip(&format!("{family} {add} table 200"));
        shadowed(1);
        let found = kernel(&agent);
        let text = found.shadow.clone().unwrap();
        assert!(text.contains(says), "{add}: {text}");
        assert_eq!((found.routes, found.refused, found.foreign), (5, 0, 1), "{add}: {found:?}");
        let health = healthz(&h);
        assert!(health.contains("503") && health.contains("shadowed by routes of others"), "{add}: {health}");
        // The command that the text names removes it, and nothing else.
        let command = text.split("to remove it: ip ").nth(1).unwrap().split(')').next().unwrap();
        h.ip(command);
        shadowed(0);
        let found = kernel(&agent);
        assert_eq!((found.routes, found.refused, found.foreign, &found.shadow), (5, 0, 0, &None), "{add}");
        assert_eq!(found.scrub.differences, 0, "{add}: {found:?}");
        eventually("healthy again", 5, || healthz(&h).contains("200 OK"));
    }
    let log = std::fs::read_to_string(h.folder().join("host-1.log")).unwrap();
    assert!(log.contains("is not shadowed any more") && log.contains("is shadowed by a route of"), "{log}");
}

#[test]
fn what_is_no_fault_raises_no_alarm() {
    let Some(lab) = Lab::new(&["ip", "bash"]) else { return };
    let (h, up) = (lab.host("h"), lab.host("up"));
    lab.cable((&h, "eth0", &["192.0.2.1/24", "2001:db8::1/64"]), (&up, "eth0", &["192.0.2.2/24"]));
    let (_server, agent) = start(&h, "");
    for route in [
        // More specific, less specific, less preferred, behind ours, a connected subnet.
        "-4 route add 10.0.7.0/24 via 192.0.2.9 proto static metric 1",
        "-4 route add default via 192.0.2.9 proto static",
        "-4 route add 10.0.0.0/8 via 192.0.2.9 proto static metric 2000",
        "-4 route append 10.0.0.0/8 via 192.0.2.9 proto static metric 1024",
        "-4 route add 10.2.0.0/16 dev eth0 proto kernel scope link",
        "-6 route add 2001:db8:1:7::/64 via 2001:db8::9 proto static metric 1",
        "-6 route add 2001:db8:1::/48 via 2001:db8::9 proto static metric 2000",
    ] {
        h.ip(&format!("{route} table 200"));
    }
    eventually("all are seen", 20, || kernel(&agent).foreign == 7);
    let found = kernel(&agent);
    assert_eq!((found.shadowed, found.routes, found.refused, found.scrub.differences), (0, 5, 0, 0));
    assert!(healthz(&h).contains("200 OK"));
    // What others do in other tables causes no comparison.
    eventually("no pass is due", 20, || {
        let passes = kernel(&agent).scrub.passes;
        std::thread::sleep(std::time::Duration::from_secs(2));
        kernel(&agent).scrub.passes == passes
    });
    let passes = kernel(&agent).scrub.passes;
    for n in 0..50 {
        h.ip(&format!("route add 198.51.100.{n}/32 via 192.0.2.9"));
        h.ip(&format!("route add 198.51.100.{n}/32 via 192.0.2.9 table 7000"));
    }
    always("no pass", 2, || kernel(&agent).scrub.passes == passes);
}

#[test]
fn a_route_of_somebody_else_in_the_place_of_ours_is_never_replaced() {
    let Some(lab) = Lab::new(&["ip", "bash"]) else { return };
    let (h, up) = (lab.host("h"), lab.host("up"));
    lab.cable((&h, "eth0", &["192.0.2.1/24", "2001:db8::1/64"]), (&up, "eth0", &["192.0.2.2/24"]));
    let (mut server, agent) = start(&h, "");
    for (n, route, delete) in [
        (1, "-4 route replace 10.0.0.0/8 via 192.0.2.9", "-4 route del 10.0.0.0/8"),
        (2, "-4 route replace blackhole 10.2.0.0/16", "-4 route del 10.2.0.0/16"),
        (3, "-6 route replace 2001:db8:1::/48 via 2001:db8::9", "-6 route del 2001:db8:1::/48"),
    ] {
        h.ip(&format!("{route} table 200 proto static metric 1024"));
        eventually("ours is refused", 20, || (kernel(&agent).refused, kernel(&agent).routes) == (1, 4));
        let found = kernel(&agent);
        assert_eq!((found.shadowed, found.scrub.differences), (0, n), "{route}: {found:?}");
        let last = found.scrub.last_difference.unwrap();
        assert!(last.contains("found a route of somebody else in its place"), "{last}");
        let refusal = found.last_refusal.unwrap();
        assert!(refusal.contains("a route of somebody else has its prefix and metric 1024"), "{refusal}");
        assert!(healthz(&h).contains("503"));
        // Ours changes, and is withdrawn, and comes back: the other one stays.
        let changed = TEXT.replace("192.0.2.2\n", "192.0.2.3\n").replace("blackhole", "prohibit");
        for (text, routes, refused) in
            [(changed.as_str(), 4, 1), ("192.88.99.0/24 blackhole\n", 1, 0), (TEXT, 4, 1)]
        {
            server.stop();
            h.file("routes.txt", text);
            server.start();
            eventually("the change", 30, || {
                let now = kernel(&agent);
                (now.routes, now.refused) == (routes, refused) && agent.count() == routes + refused
            });
            let table =
                h.ip("-4 route show table 200 proto static") + &h.ip("-6 route show table 200 proto static");
            assert_eq!(table.lines().count(), 1, "{route}: {table}");
        }
        h.ip(&format!("{delete} table 200 proto static"));
        eventually("ours is back", 70, || (kernel(&agent).refused, kernel(&agent).routes) == (0, 5));
    }
}

#[test]
fn what_somebody_does_to_our_routes_is_mended_within_seconds() {
    let Some(lab) = Lab::new(&["ip", "bash"]) else { return };
    let (h, up) = (lab.host("h"), lab.host("up"));
    lab.cable((&h, "eth0", &["192.0.2.1/24", "2001:db8::1/64"]), (&up, "eth0", &["192.0.2.2/24"]));
    let (_server, agent) = start(&h, "");
    let ours = || h.ip("-4 route show table 200 proto 217") + &h.ip("-6 route show table 200 proto 217");
    let before = ours();
    for (n, commands) in [
        (1, vec!["route del 10.0.0.0/8 table 200"]),
        (2, vec!["-6 route del 2001:db8:1::/48 table 200"]),
        (3, vec!["route replace 10.0.0.0/8 via 192.0.2.77 table 200 proto 217 metric 1024"]),
        (4, vec!["route replace blackhole 10.1.0.0/16 table 200 proto 217 metric 1024"]),
        (5, vec!["route change 10.2.0.0/16 via 192.0.2.3 dev eth0 table 200 proto 217 metric 1024"]),
        // By a next-hop object, which takes the route with it.
        (
            6,
            vec![
                "nexthop add id 7 via 192.0.2.3 dev eth0",
                "route replace 10.0.0.0/8 nhid 7 table 200 proto 217 metric 1024",
                "nexthop del id 7",
            ],
        ),
    ] {
        commands.iter().for_each(|command| _ = h.ip(command));
        eventually(&format!("{commands:?}"), 20, || kernel(&agent).scrub.mended >= n && ours() == before);
    }
    assert_eq!((kernel(&agent).shadowed, kernel(&agent).refused, kernel(&agent).routes), (0, 0, 5));
}

#[test]
fn an_operator_may_accept_overrides() {
    let Some(lab) = Lab::new(&["ip", "bash"]) else { return };
    let (h, up) = (lab.host("h"), lab.host("up"));
    lab.cable((&h, "eth0", &["192.0.2.1/24", "2001:db8::1/64"]), (&up, "eth0", &["192.0.2.2/24"]));
    let (_server, agent) = start(&h, "accept_shadowed = true\n");
    h.ip("route add blackhole 10.0.0.0/8 table 200 proto static metric 1");
    eventually("it is counted", 20, || kernel(&agent).shadowed == 1);
    assert!(healthz(&h).contains("200 OK"), "{}", healthz(&h));
}
