//! The other end of the virtio-user ports: `fibcast-pktgen` with vhost-user ports, on the core that the forwarder does not have. It checks
//! every packet, before both sides of a comparison with the same frames.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ChildStdout;

use fibcast_testbed::Process;
use fibcast_testbed::config::LANS;
use fibcast_testbed::process::command;
use ipnet::IpNet;
use serde::Deserialize;

use super::setting;
use crate::input::{Random, Table};
use crate::{Course, Failure};

/// Destinations, half of each family.
const FLOWS: usize = 16_384;
/// Packets in flight that fill no queue: a queue has 1,024 descriptors.
const WINDOW: &str = "1000";
/// More than any machine forwards here.
const AS_MANY_AS_GO: &str = "100Mpps";
const SECONDS: &str = "2";

/// What the generator says, as far as it matters here.
#[derive(Debug, Default, Deserialize)]
pub struct Figures {
    pub sent: u64,
    pub received: u64,
    /// Packets/s that came back.
    pub mean_pps: f64,
    pub latency_p50_us: f64,
    pub latency_p99_us: f64,
    pub misdelivered: u64,
    pub corrupt: u64,
    pub faults: Vec<String>,
}

/// The socket of a port.
pub fn socket(folder: &Path, port: usize) -> PathBuf {
    folder.join(format!("port{port}.sock"))
}

/// The forwarder's end of a port.
pub fn device(folder: &Path, port: usize) -> String {
    let path = socket(folder, port);
    format!("net_virtio_user{port},path={},mac=02:70:63:61:70:0{port},queue_size=1024", path.display())
}

fn scenario(folder: &Path, router: bool) -> PathBuf {
    folder.join(if router { "router.toml" } else { "bridge.toml" })
}

/// Writes the router's table and a scenario for each side.
pub fn write(table: &Table, folder: &Path) -> std::io::Result<()> {
    let mut routes = String::new();
    for &(prefix, draw) in &table.routes {
        let _ =
            writeln!(routes, "{prefix} via {}", setting::gateway_of(draw as usize, prefix.addr().is_ipv6()));
    }
    std::fs::write(folder.join("table.txt"), routes)?;
    let mut random = Random(8);
    let mut of_family = |sixth: bool| {
        let all: Vec<IpNet> = table
            .routes
            .iter()
            .map(|(prefix, _)| *prefix)
            .filter(|prefix| prefix.addr().is_ipv6() == sixth)
            .collect();
        let draw = |_| all.get(random.below(all.len().max(1))).copied();
        (0..FLOWS / 2).filter_map(draw).map(|prefix| format!("{:?}", prefix.to_string())).collect::<Vec<_>>()
    };
    let prefixes = [of_family(false), of_family(true)].concat().join(", ");
    for router in [true, false] {
        let mut text = String::from(if router { "table = \"table.txt\"\n" } else { "dut = \"bridge\"\n" });
        for (port, lan) in LANS.iter().enumerate() {
            let _ = writeln!(
                text,
                "[[port]]\nname = \"{}\"\ndevice = \"net_vhost{port},iface={},queues=1\"",
                lan.port,
                socket(folder, port).display()
            );
            if router {
                let ([subnet4, peer4], [subnet6, peer6]) = (lan.ipv4, lan.ipv6);
                let _ = writeln!(
                    text,
                    "subnet4 = \"{subnet4}\"\npeer4 = \"{peer4}\"\nsubnet6 = \"{subnet6}\"\npeer6 = \"{peer6}\""
                );
            }
        }
        let _ = writeln!(text, "[traffic]\nprefixes = [{prefixes}]\nflows = {FLOWS}");
        std::fs::write(scenario(folder, router), text)?;
    }
    Ok(())
}

/// Starts it before a router or a bridge, at a rate in Mpps; none: as many as go, in a closed loop.
pub fn start(
    folder: &Path,
    course: Course,
    router: bool,
    rate: Option<f64>,
) -> Result<(Process, ChildStdout), Failure> {
    let program = std::env::current_exe()?.with_file_name("fibcast-pktgen");
    let mut eal = course.memory(256);
    let (core, prefix) = (course.other.to_string(), format!("fibcast-peer-{}", std::process::id()));
    eal.extend(["--no-telemetry", "--log-level=3", "-l", &core, "--file-prefix", &prefix].map(str::to_owned));
    let mut command = command(&program, None)?;
    command
        .arg("--scenario")
        .arg(scenario(folder, router))
        .args(["--eal-args", &eal.join(" "), "--cores", &core, "--idle", "spin"])
        .args(["--duration", SECONDS, "--latency-one-in", "8"]);
    match rate {
        Some(mpps) => command.args(["--rate", &format!("{}pps", mpps * 1e6), "--burst", "8"]),
        None => command.args(["--rate", AS_MANY_AS_GO, "--window", WINDOW, "--burst", "32"]),
    };
    Ok(Process::start_piped("pktgen", command, folder)?)
}
