//! bgpd announces a route once the hosts forward by it: `[acknowledge]` of the route server, with `bgp suppress-fib-pending` and
//! `zebra --asic-offload=notify_on_offload`, as `docs/frr.md` says.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use fibcast_interop::{
    Host, Lab, Ours, agent_toml, always, announcing_bird_conf, eventually, project, suppress_frr_conf,
    suppress_lab,
};
use fibcast_testbed::{Bird, Frr};

/// BIRD's control commands see what a neighbor has.
const SHOW: &str = "birdc -s";

/// The neighbor to which bgpd announces them.
const DOWNSTREAM: &str = "router id 198.51.100.2;\nprotocol device {}\n\
     protocol bgp v4 { local as 65002; neighbor 198.51.100.1 as 65000; ipv4 { import all; export none; }; }\n";

/// FRR between two neighbors, and a route server beside it.
struct Bed<'h, 'l> {
    down: &'h Host<'l>,
    server: Ours<'h>,
    up_bird: Bird,
    _down_bird: Bird,
    frr: Frr,
}

impl<'h, 'l> Bed<'h, 'l> {
    fn new(a: &'h Host<'l>, up: &'h Host<'l>, down: &'h Host<'l>, acknowledge: &str) -> Self {
        let lab = a.lab();
        lab.cable((a, "eth0", &["192.0.2.1/24", "2001:db8::1/64"]), (up, "eth0", &["192.0.2.2/24"]));
        lab.cable((a, "eth1", &["198.51.100.1/24"]), (down, "eth0", &["198.51.100.2/24"]));
        let toml =
            project("docs/frr/route-server.toml").replace("/run/fibcast", &a.folder().display().to_string());
        let toml = toml + "\n[rib]\nready_timeout_ms = 2000\n[acknowledge]\n" + acknowledge;
        let server = a.ours("fibcast-route-server", "rs-a", &toml);
        let up_bird = up.bird(&announcing_bird_conf::<&str>(&[]));
        let down_bird = down.bird(DOWNSTREAM);
        let frr =
            a.frr_with(&["staticd", "bgpd"], &suppress_frr_conf(), &["--asic-offload=notify_on_offload"]);
        Self { down, server, up_bird, _down_bird: down_bird, frr }
    }

    /// Whether the neighbor downstream has heard of a prefix.
    fn heard(&self, prefix: &str) -> bool {
        let socket = self.down.folder().join("bird.ctl");
        let (_, output) = self.down.try_sh(&format!("{SHOW} {} 'show route {prefix}'", socket.display()));
        output.contains(prefix)
    }

    /// What zebra thinks of a prefix.
    fn zebra(&self, prefix: &str) -> String {
        self.frr.vtysh(&[&format!("show ip route {prefix}")])
    }

    #[track_caller]
    fn hears(&self, prefix: &str) {
        eventually(&format!("{prefix} is announced"), 60, || self.heard(prefix));
    }

    /// The route server has a prefix, and the neighbor does not hear of it for a while.
    #[track_caller]
    fn is_held_back(&self, prefix: &str) {
        eventually("the route server has it", 30, || self.server.via(prefix).is_some());
        always(&format!("{prefix} is held back"), 4, || !self.heard(prefix));
    }
}

fn lab() -> Option<Lab> {
    suppress_lab(&["zebra", "bgpd", "staticd", "vtysh", "bird"])
}

#[test]
fn a_route_is_announced_once_the_paused_host_goes_on() {
    let Some(lab) = lab() else { return };
    let (a, up, down) = (lab.host("a"), lab.host("up"), lab.host("down"));
    let bed = Bed::new(&a, &up, &down, "timeout_ms = 0\ngrace_ms = 600000\n");
    let servers = ["127.0.0.1:7830"];
    let host = a.ours("fibcast-agent", "nh-1", &agent_toml(&a, "nh-1", None, &servers, ""));
    eventually("the host is active", 30, || bed.server.status().clients.iter().any(|client| client.active));
    // For the grace time after the start nothing is announced.
    bed.up_bird.configure(&announcing_bird_conf(&["10.0.0.0/8"]));
    bed.is_held_back("10.0.0.0/8");
    drop(bed);
    drop(host);

    // The same with a start that is over soon.
    let lab = self::lab().unwrap();
    let (a, up, down) = (lab.host("a"), lab.host("up"), lab.host("down"));
    let mut bed = Bed::new(&a, &up, &down, "timeout_ms = 0\ngrace_ms = 3000\n");
    let host = a.ours("fibcast-agent", "nh-1", &agent_toml(&a, "nh-1", None, &servers, ""));
    bed.up_bird.configure(&announcing_bird_conf(&["10.0.0.0/8"]));
    bed.hears("10.0.0.0/8");
    assert!(bed.zebra("10.0.0.0/8").contains("Offloaded") || bed.server.counter("bgp", "acknowledged") > 0);

    host.process().pause();
    bed.up_bird.configure(&announcing_bird_conf(&["10.0.0.0/8", "10.1.0.0/16"]));
    eventually("the route server has it", 30, || bed.server.via("10.1.0.0/16").is_some());
    always("it is held back", 2, || !bed.heard("10.1.0.0/16"));
    let waiting = bed.server.status().acknowledge.unwrap();
    assert!(waiting.behind > 0 && waiting.waiting_ms.is_some(), "{waiting:?}");
    host.process().resume();
    bed.hears("10.1.0.0/16");
    let client = bed.server.status().clients.into_iter().find(|client| client.name == "nh-1").unwrap();
    assert_eq!(client.installed, Some(bed.server.status().table.serial));

    // zebra is told again after it has connected again, and bgpd keeps announcing.
    bed.frr.fpm_to(2620);
    let before = bed.server.counter("bgp", "acknowledged");
    eventually("answers to the new connection", 60, || {
        bed.server.counter("bgp", "acknowledged") >= before + 2
    });
    always("the routes stay announced", 2, || bed.heard("10.0.0.0/8") && bed.heard("10.1.0.0/16"));

    // A host that is gone for longer than the grace time is not waited for; a restarted one with an empty table neither.
    host.process().pause();
    bed.up_bird.configure(&announcing_bird_conf(&["10.0.0.0/8", "10.1.0.0/16", "10.2.0.0/16"]));
    bed.hears("10.2.0.0/16");
    let nodes = bed.server.status().acknowledge.unwrap().nodes;
    assert!(nodes.iter().any(|node| node.name == "nh-1" && node.state == "gone"), "{nodes:?}");
    host.process().resume();
    eventually("it counts again", 30, || {
        bed.server.status().acknowledge.unwrap().nodes.iter().any(|node| node.state == "counts")
    });
    bed.server.stop();
}

#[test]
fn a_route_that_a_hosts_kernel_refuses_is_announced_when_it_takes_it_and_holds_back_no_other() {
    let Some(lab) = lab() else { return };
    let (a, up, down) = (lab.host("a"), lab.host("up"), lab.host("down"));
    let bed = Bed::new(&a, &up, &down, "timeout_ms = 0\ngrace_ms = 2000\n");
    let folder = a.folder().display().to_string();
    let toml = project("docs/kernel/agent.toml")
        .replace("/run/fibcast", &folder)
        .replace("/var/lib/fibcast", &folder);
    // Another program's route in the same place.
    a.ip("route add 10.1.0.0/16 via 192.0.2.2 table 200 proto static metric 1024");
    let _host = a.ours("fibcast-agent", "host-1", &toml);
    bed.up_bird.configure(&announcing_bird_conf(&["10.0.0.0/8"]));
    bed.hears("10.0.0.0/8");
    bed.up_bird.configure(&announcing_bird_conf(&["10.0.0.0/8", "10.1.0.0/16", "10.2.0.0/16"]));
    bed.hears("10.2.0.0/16");
    bed.is_held_back("10.1.0.0/16");
    assert!(bed.server.counter("bgp", "acknowledged_failed") > 0, "zebra is told that it failed");
    let client = bed.server.status().clients.into_iter().find(|client| client.name == "host-1").unwrap();
    let first = client.refused_first.first().map(|route| (route.prefix.to_string(), route.reason.clone()));
    assert_eq!(first, Some(("10.1.0.0/16".into(), "a route of somebody else".into())));
    a.ip("route del 10.1.0.0/16 table 200 proto static");
    bed.hears("10.1.0.0/16");
    assert!(a.ip("route show table 200").contains("10.1.0.0/16"));
}

#[test]
fn after_the_timeout_a_route_is_announced_or_reported_as_failed() {
    let Some(lab) = lab() else { return };
    for (then, announced) in [("announce", true), ("hold", false)] {
        let (a, up, down) =
            (lab.host(&format!("a{then}")), lab.host(&format!("u{then}")), lab.host(&format!("d{then}")));
        let keys =
            format!("timeout_ms = 3000\non_timeout = \"{then}\"\ngrace_ms = 2000\nrequire = [\"nh-*\"]\n");
        let bed = Bed::new(&a, &up, &down, &keys);
        let servers = ["127.0.0.1:7830"];
        let host = a.ours(
            "fibcast-agent",
            "nh-1",
            &agent_toml(&a, "nh-1", None, &servers, "heartbeat_ms = 10000\n"),
        );
        bed.up_bird.configure(&announcing_bird_conf(&["10.0.0.0/8"]));
        bed.hears("10.0.0.0/8");
        host.process().pause();
        bed.up_bird.configure(&announcing_bird_conf(&["10.0.0.0/8", "10.1.0.0/16"]));
        eventually("the timeout", 30, || bed.server.status().acknowledge.unwrap().timeouts > 0);
        if announced {
            bed.hears("10.1.0.0/16");
        } else {
            bed.is_held_back("10.1.0.0/16");
            eventually("zebra is told", 10, || bed.server.counter("bgp", "acknowledged_failed") > 0);
        }
        host.process().resume();
        bed.hears("10.1.0.0/16");
    }
}
