//! NDR and PDR of a NIC host with the full table: at rest, while routes change, and while the primary route server dies as well. Real
//! processes, with `fibcast-pktgen` at the other end of virtio-user ports.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fibcast_testbed::config::{self, LANS};
use fibcast_testbed::process::{command, free_addresses};
use fibcast_testbed::wait::until;
use fibcast_testbed::{Internet, Node, Process};
use serde::Deserialize;

use crate::row::{Better, Row, median};
use crate::{Course, Failure, Options};

const NAME: &str = "ndr";
const HOST: &str = "nh-1";
/// Changes of next hops per second.
const CHURN: &str = "1000";
/// From the first change on; a search takes a minute.
const CHURN_S: &str = "240";
/// Enough for three processes to load their tables on two cores.
const START: Duration = Duration::from_secs(45);
/// After the first trial began.
const KILL_AFTER_S: u32 = 5;
/// For so long the old next hop is right, too: the surviving server ranks the dead one's routes behind its own after a second.
const SETTLE_MS: &str = "3000";
/// Longest search, its start included.
const END: Duration = Duration::from_secs(300);
/// Shorter trials than the defaults, with which a search takes minutes.
const SEARCH: [&str; 10] = [
    "--test",
    "mlrsearch",
    "--trial",
    "0.5",
    "--duration-sum",
    "4",
    "--search-max",
    "90",
    "--loss-wait",
    "0.5",
];
const MAX_RATE: &str = "10Mpps";

/// What happens beside the packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Beside {
    Nothing,
    Churn,
    ChurnAndFailover,
}

/// What the generator found, as far as it matters here.
#[derive(Debug, Deserialize)]
struct Outcome {
    results: Vec<Found>,
    trials: Vec<Trial>,
    reconvergence: Option<Reconvergence>,
    warnings: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Found {
    name: String,
    pps: Option<f64>,
}

#[derive(Debug, Deserialize)]
struct Trial {
    misdelivered: u64,
    duplicated: u64,
    reordered: u64,
    corrupt: u64,
    changes: u64,
}

#[derive(Debug, Clone, Copy, Deserialize)]
struct Reconvergence {
    p50_ms: f64,
    p99_ms: f64,
    missing: u64,
}

impl Outcome {
    fn mpps(&self, name: &str) -> f64 {
        self.results.iter().find(|found| found.name == name).and_then(|found| found.pps).unwrap_or(0.0) / 1e6
    }

    fn count(&self, of: fn(&Trial) -> u64) -> u64 {
        self.trials.iter().map(of).sum()
    }
}

/// The rows of `ndr`.
pub fn run(options: &Options, course: Course) -> Result<Vec<Row>, Failure> {
    let folder = tempfile::tempdir()?;
    let programs = std::env::current_exe()?.parent().map(Path::to_path_buf).unwrap_or_default();
    let data = options.prefixes.parent().map(Path::to_path_buf).unwrap_or_default();
    // Its changes are not used: the generator makes its own.
    let internet = Internet::make(&programs, &data, folder.path(), &["1/s:1s".to_owned()])?;
    let mut rows = Vec::new();
    let mut rest = [0.0; 2];
    for (beside, word) in [
        (Beside::Nothing, "rest"),
        (Beside::Churn, "churn"),
        (Beside::ChurnAndFailover, "churn_and_failover"),
    ] {
        let mut outcomes = Vec::new();
        for _ in 0..course.rounds.min(3) {
            let outcome = once(&programs, &internet, course, beside)?;
            outcome.warnings.iter().for_each(|words| eprintln!("fibcast-bench: {word}: {words}"));
            outcomes.push(outcome);
        }
        for (at, name) in ["NDR", "PDR"].into_iter().enumerate() {
            let value = median(outcomes.iter().map(|outcome| outcome.mpps(name)).collect());
            let row = Row::new(NAME, &format!("{}_{word}", name.to_lowercase()), value, "Mpps");
            if beside == Beside::Nothing {
                rest[at] = value;
                rows.push(row);
            } else {
                rows.push(row.beside("at rest", rest[at], Better::More));
            }
        }
        let mut count = |name: &str, unit, of: fn(&Trial) -> u64| {
            let count = outcomes.iter().map(|outcome| outcome.count(of)).sum::<u64>();
            rows.push(Row::new(NAME, &format!("{name}_{word}"), count as f64, unit));
        };
        count("misdelivered", "packets", |trial| trial.misdelivered);
        count("duplicated", "packets", |trial| trial.duplicated);
        count("reordered", "packets", |trial| trial.reordered);
        count("corrupt", "packets", |trial| trial.corrupt);
        count("changes", "changes", |trial| trial.changes);
        if beside == Beside::Nothing {
            continue;
        }
        let seen: Vec<Reconvergence> = outcomes.iter().filter_map(|outcome| outcome.reconvergence).collect();
        let figure = |of: fn(&Reconvergence) -> f64| median(seen.iter().map(of).collect());
        rows.push(Row::new(NAME, &format!("reconvergence_p50_{word}"), figure(|seen| seen.p50_ms), "ms"));
        rows.push(Row::new(NAME, &format!("reconvergence_p99_{word}"), figure(|seen| seen.p99_ms), "ms"));
        let missing = seen.iter().map(|seen| seen.missing).sum::<u64>();
        rows.push(Row::new(NAME, &format!("never_{word}"), missing as f64, "routes"));
    }
    Ok(rows)
}

/// One search, with processes of its own.
fn once(programs: &Path, internet: &Internet, course: Course, beside: Beside) -> Result<Outcome, Failure> {
    let run = tempfile::tempdir()?;
    let folder = run.path();
    let first_change = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default() + START;
    let [a, b] = free_addresses::<2>()?.map(|address| address.to_string());
    let updates = folder.join("updates.mrt");
    let churns = beside != Beside::Nothing;
    let mut generator = generator(programs, internet, course, folder)?;
    if churns {
        generator.args(["--churn", CHURN, "--churn-s", CHURN_S, "--settle-ms", SETTLE_MS]);
        generator.arg("--updates").arg(&updates);
        generator.args(["--start-at", &first_change.as_secs_f64().to_string()]);
    }
    if beside == Beside::ChurnAndFailover {
        let kill = format!("kill -KILL $(cat {})", folder.join("rs-a.pid").display());
        generator.args(["--event", &format!("{KILL_AFTER_S}:{kill}")]);
    }
    let mut generator = Process::start("pktgen", generator, folder)?;
    until("the generator has its ports and the changes", END, || {
        generator.check()?;
        let ports = LANS.iter().all(|lan| lan.socket(folder, HOST).exists());
        Ok::<_, Failure>(ports && (!churns || updates.exists()))
    })?;
    let mut nodes = Vec::new();
    for (name, address, peer) in [("rs-a", &a, &b), ("rs-b", &b, &a)] {
        let keys = if churns {
            let at = first_change.as_secs_f64();
            format!("updates = \"{}\"\npace = \"recorded\"\nstart_at = {at}", updates.display())
        } else {
            String::new()
        };
        let text = config::node(name, folder, &config::listen(address))
            + config::INSECURE
            + &format!("[rib]\norigin_hold_ms = 1000\n[[source]]\norigin = \"{name}\"\ndistance = 20\n")
            + &internet.source(&keys)
            + &config::peers([peer]);
        std::fs::write(folder.join(format!("{name}.toml")), text)?;
        let node = Node::start(&programs.join("fibcast-route-server"), name, folder, None)?;
        std::fs::write(folder.join(format!("{name}.pid")), node.process.pid().to_string())?;
        nodes.push(node);
    }
    let prefix = format!("fibcast-bench-{}-{HOST}", std::process::id());
    let text = config::node(HOST, folder, "")
        + &config::workers(&prefix, 256, &course.core.to_string(), "").replace("\"sleep\"", "\"spin\"")
        + &config::virtio_ports(folder, HOST)
        + &config::sync([&a, &b], "");
    std::fs::write(folder.join(format!("{HOST}.toml")), text)?;
    nodes.push(Node::start(&programs.join("fibcast-dataplane"), HOST, folder, None)?);
    until("the generator ends", END, || Ok::<_, Failure>(!generator.runs()))?;
    let report = folder.join("report.json");
    let text = std::fs::read_to_string(&report)
        .map_err(|_| Failure::Child(format!("the generator has no result:\n{}", generator.end_of_log())))?;
    Ok(serde_json::from_str(&text).map_err(std::io::Error::from)?)
}

fn generator(
    programs: &Path,
    internet: &Internet,
    course: Course,
    folder: &Path,
) -> Result<std::process::Command, Failure> {
    let prefix = format!("fibcast-bench-{}-peer", std::process::id());
    let mut command = command(&programs.join("fibcast-pktgen"), None)?;
    command
        .args(config::generator(folder, HOST, course.other, &prefix))
        .args(["--cores", &course.other.to_string(), "--idle", "spin", "--max-rate", MAX_RATE])
        .args(SEARCH)
        .arg("--table")
        .arg(&internet.table)
        .arg("--json-file")
        .arg(folder.join("report.json"));
    Ok(command)
}
