//! Against devices that are not ours: DPDK's testpmd, and the Linux kernel.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::time::Duration;

use common::{eal, figures, pktgen, words};
use fibcast_testbed::process::{command, find};
use fibcast_testbed::wait::until;
use fibcast_testbed::{Failure, Namespaces, Process};

const WRONG: [&str; 4] = ["misdelivered", "duplicated", "reordered", "corrupt"];

/// Two vhost-user ports of ours, two virtio-user ports of testpmd's. Returns the figures.
fn testpmd(mode: &str) -> Option<serde_json::Value> {
    let Some(program) = find("dpdk-testpmd") else {
        eprintln!("{mode}: skipped: dpdk-testpmd is not installed");
        return None;
    };
    let folder = tempfile::tempdir().unwrap();
    let socket = |port: usize| folder.path().join(format!("p{port}"));
    let port = |at: usize| format!("name=p{at},device=net_vhost{at},iface={},queues=1", socket(at).display());
    let arguments = [
        "--dut",
        "bridge",
        "--prefixes",
        "9.0.0.0/8,2a00::/16",
        "--flows",
        "200",
        "--sizes",
        "64-200",
        "--protocol",
        "both",
    ];
    let load = ["--window", "64", "--rate", "5k", "--duration", "1"];
    let ports = ["--port", &port(0), "--port", &port(1)];
    let ours = pktgen(folder.path(), &[&arguments[..], &load, &ports].concat());
    let generator = std::thread::spawn({
        let mut ours = ours;
        move || ours.output().unwrap()
    });
    until("the sockets", Duration::from_secs(30), || {
        Ok::<_, Failure>(socket(0).exists() && socket(1).exists())
    })
    .unwrap();
    let mut theirs = command(&program, None).unwrap();
    theirs.args(eal("testpmd").replace("-l 0", "--lcores 0@0,1@0").split_whitespace());
    for at in 0..2 {
        theirs.args(["--vdev", &format!("net_virtio_user{at},path={},queue_size=256", socket(at).display())]);
    }
    theirs.args(["--", "--total-num-mbufs=4096", "--stats-period=1", &format!("--forward-mode={mode}")]);
    let mut theirs = Process::start("testpmd", theirs, folder.path()).unwrap();
    let output = generator.join().unwrap();
    theirs.kill();
    let seen = figures(&output);
    for key in WRONG {
        assert_eq!(seen[key], 0, "{mode}: {key}: {}", words(&output));
    }
    assert!(seen["received"].as_u64().unwrap() > 500, "{mode}: {}", words(&output));
    Some(seen)
}

#[test]
fn testpmd_mac_forwards_all() {
    let Some(seen) = testpmd("mac") else { return };
    assert_eq!(seen["lost"], 0, "{seen}");
}

#[test]
fn testpmd_macswap_forwards_all() {
    let Some(seen) = testpmd("macswap") else { return };
    assert_eq!(seen["lost"], 0, "{seen}");
}

/// A router in a namespace, connected to two af_packet ports by veth pairs.
#[test]
fn linux_kernel_routes_all_and_a_wrong_route_is_found() {
    let skip = |why: &str| eprintln!("linux_kernel_routes_all: skipped: {why}");
    if !rustix::process::geteuid().is_root() {
        return skip("not root");
    }
    let namespaces = Namespaces::new();
    let (Ok(router), Ok(ours)) = (namespaces.add("router"), namespaces.add("generator")) else {
        return skip("no network namespaces");
    };
    let folder = tempfile::tempdir().unwrap();
    let mut table = String::new();
    for at in 0..2 {
        let (theirs, mine) = (format!("e{at}"), format!("g{at}"));
        router.link(&theirs, &ours, &mine).unwrap();
        router.up(&theirs, &[&format!("198.{}.0.1/16", 18 + at), &format!("2001:2:0:{at}::1/64")]).unwrap();
        ours.up(&mine, &[]).unwrap();
        for (host, interface) in [(&router, &theirs), (&ours, &mine)] {
            host.sh(&format!("ethtool -K {interface} tx off rx off tso off gso off gro off || true"))
                .unwrap();
        }
        ours.sh(&format!("sysctl -qw net.ipv6.conf.{mine}.disable_ipv6=1")).unwrap();
        for (prefix, gateway) in [
            (format!("9.{at}.0.0/16"), format!("198.{}.0.7", 18 + at)),
            (format!("2a0{at}::/16"), format!("2001:2:0:{at}::7")),
        ] {
            let family = if prefix.contains(':') { "-6 " } else { "" };
            router.ip(&format!("{family}route add {prefix} via {gateway}")).unwrap();
            table += &format!("{prefix} via {gateway}\n");
        }
    }
    router.sh("sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1").unwrap();
    std::fs::write(folder.path().join("table.txt"), &table).unwrap();
    // As if the router had the next hop of the other network.
    std::fs::write(
        folder.path().join("wrong.txt"),
        table.replace("9.0.0.0/16 via 198.18.0.7", "9.0.0.0/16 via 198.18.0.8"),
    )
    .unwrap();
    let port = |at: u32, queues: usize| {
        format!(
            "name=p{at},subnet4=198.{}.0.0/16,peer4=198.{}.0.1,subnet6=2001:2:0:{at}::/64,peer6=2001:2:0:{at}::1,device=net_af_packet{at},iface=g{at},qpairs={queues}",
            18 + at,
            18 + at
        )
    };
    let run = |table: &str, more: &[&str]| {
        // A queue that nobody serves would swallow its part.
        let queues = if more.is_empty() { 1 } else { 2 };
        let ports = [
            "--port",
            &port(0, queues),
            "--port",
            &port(1, queues),
            "--table",
            table,
            "--flows",
            "40",
            "--silence-timeout",
            "15",
        ];
        let load =
            ["--window", "32", "--rate", "2k", "--duration", "1", "--sizes", "64-400", "--protocol", "both"];
        let command = pktgen(folder.path(), &[&ports[..], &load, more].concat());
        let mut inside = std::process::Command::new("ip");
        inside
            .args(["netns", "exec", ours.name()])
            .arg(command.get_program())
            .args(command.get_args())
            .current_dir(folder.path());
        inside.output().unwrap()
    };
    // The kernel spreads what comes back over the queues by a hash of its own, so that cores get packets of each other.
    let one_core: &[&str] = &[];
    let two_cores: &[&str] = &["--cores", "0,1"];
    for cores in [one_core, two_cores] {
        if !cores.is_empty() && std::thread::available_parallelism().unwrap().get() < 2 {
            eprintln!("skipped in part: one core");
            break;
        }
        let output = run("table.txt", cores);
        let seen = figures(&output);
        for key in WRONG {
            assert_eq!(seen[key], 0, "{key}: {}", words(&output));
        }
        assert!(output.status.success() && seen["received"].as_u64().unwrap() > 100, "{}", words(&output));
        let queues = seen["queues"].as_array().unwrap();
        assert_eq!(queues.len(), if cores.is_empty() { 2 } else { 4 });
        let handed: u64 = queues.iter().map(|queue| queue["of_other_cores"].as_u64().unwrap()).sum();
        assert_eq!(handed > 0, !cores.is_empty(), "{queues:?}");
    }
    // The next hop is never reached, so the warm-up does not end.
    let output = run("wrong.txt", &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(words(&output).contains("did not come back"), "{}", words(&output));
}
