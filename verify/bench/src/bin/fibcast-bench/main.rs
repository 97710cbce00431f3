//! `fibcast-bench`: what fibcast's parts cost, beside what the peers on this machine cost in the same run.
//!
//! `input` makes the tables and the addresses, `measure` says how figures come about, `rte_fib` is DPDK's peer for lookups, `forward` a
//! router and its peer, `net` the whole system over TCP, `row` shows figures. One file or folder for each bench.

mod apply;
mod codec;
mod cpu;
mod forward;
mod input;
mod lpm;
mod measure;
mod net;
mod row;
mod rte_fib;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use fibcast_testbed::tablegen::{PrefixesError, read_prefixes};

use crate::input::Table;
use crate::row::{Report, Row};

/// Measures fibcast's parts beside their peers, and prints a table or lines of JSON.
///
/// Sides take turns, round by round; each figure is the median of its rounds. A ratio says how many times better than the peer: above 1 is
/// better, also where less is better. Peers are DPDK's rte_fib in this process, dpdk-test-fib and dpdk-testpmd (Debian's package
/// dpdk-dev), dpdk-l3fwd (built by scripts/build-l3fwd), and the crate ip_network_table-deps-treebitmap.
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "lpm: cycles of the time-stamp counter per lookup. Bursts of 32 one after another, as a worker has them, lower quartile of slices of a \
                  pass; _fenced: bursts of 64, each with a fenced clock around it, mean of a pass, as dpdk-test-fib measures itself. \
                  _zipf, _third_outside: other addresses; _4000_groups: home groups for blocks of prefixes; _4x: a table 4 times as large.\n\n\
                  virtio: fibcast-pktgen, which must stand beside this program, has the other core, copies each packet twice and checks it, so it may \
                  be what bounds the rate; latency is from before a packet is given to its port until after it is taken from one, so testpmd's \
                  shows what the measurement costs; cores_together says how many times longer arithmetic takes on one core while the other is \
                  busy: 1 for cores, up to 2 for threads of one core, where whoever computes more per packet loses more.\n\n\
                  load, latency, failover, acknowledge and fanout run route servers as processes: fibcast-route-server must stand beside this program; \
                  for ndr all programs. \
                  Ports of load are DPDK's."
)]
struct Options {
    /// What to measure
    #[arg(value_enum)]
    bench: Bench,
    /// One JSON object per line: bench, metric, value, unit, and where there is one peer, peer_value, ratio
    #[arg(long)]
    json: bool,
    /// Times that each side has its turn
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// List of prefixes, one on each line, plain or gzip
    #[arg(long, default_value = "verify/data/full-table-2024.prefixes.txt.gz")]
    prefixes: PathBuf,
    /// A table with the next hops of a real router, MRT; codec says bytes per route of it where it is there
    #[arg(long, default_value = "verify/data/full-transfer-2015.mrt.gz")]
    transfer: PathBuf,
    /// Next-hop groups that the routes of lpm and apply are spread over
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(2..=1_000_000))]
    groups: u32,
    /// Core to measure on; the last one unless given
    #[arg(long)]
    core: Option<usize>,
    /// `forward`, `churn` and `virtio` with packets in hugepages, on all sides; rows end in _hugepages. 2,560 pages of 2 MiB must be free (sysctl
    /// vm.nr_hugepages)
    #[arg(long)]
    hugepages: bool,
    /// Is the router of `forward` and `churn`, with this traffic
    #[arg(long, hide = true, requires = "folder")]
    child: Option<forward::Traffic>,
    /// Where the traffic is
    #[arg(long, hide = true)]
    folder: Option<PathBuf>,
    /// Is the NIC host of `load`, with this route server
    #[arg(long, hide = true, requires = "folder")]
    server: Option<std::net::SocketAddr>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Bench {
    /// Cycles per lookup and memory, beside rte_fib and treebitmap; what route changes cost lookups
    Lpm,
    /// Route changes applied and published, and the build of the whole table, beside rte_fib's additions
    Apply,
    /// Bytes of the protocol per route, routes per second through its receiver, changes per second into a server's table
    Codec,
    /// Packets per second on one worker core with the table loaded, beside testpmd, which looks nothing up, and l3fwd
    Forward,
    /// Packets per second, and latency at half of that, by virtio-user ports, beside testpmd before the same generator
    Virtio,
    /// Packets lost and speed lost while 10,000 routes change a second
    Churn,
    /// Seconds from an empty NIC host's connect to the first packet forwarded by the full table
    Load,
    /// Microseconds from a source's word to the workers while 10,000 routes change a second
    Latency,
    /// Milliseconds and bytes of a failover
    Failover,
    /// Route changes per second with acknowledgements to FRR, beside without; time from the last worker's use of a change to its answer
    Acknowledge,
    /// A thousand clients at one server: memory, copies at once, a storm of failovers
    Fanout,
    /// NDR and PDR at rest, while 1,000 routes change a second, and while the primary route server dies as well. Takes five minutes a round
    Ndr,
    /// All of these but acknowledge and ndr
    All,
}

impl Bench {
    fn includes(self, bench: Bench) -> bool {
        self == bench || self == Bench::All
    }
}

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{0}")]
    Prefixes(#[from] PrefixesError),
    #[error("--core: expected one of {cores:?}, found {found}")]
    Core { cores: Vec<usize>, found: usize },
    #[error(transparent)]
    Peer(#[from] rte_fib::PeerError),
    #[error("the table was refused: {0}")]
    Apply(#[from] fibcast_fib::ApplyError),
    #[error("{address}: expected group {expected:?} by the treebitmap crate, found {found:?}")]
    Wrong { address: String, expected: Option<u32>, found: Option<u32> },
    #[error("the receiver's table is not the sender's")]
    Copy,
    #[error("the rule for next hops does not work")]
    Rule,
    #[error("a commit was refused: {0}")]
    Commit(#[from] fibcast_sync_proto::TableError),
    #[error("{0}")]
    Frames(#[from] fibcast_sync_proto::wire::ProtocolError),
    #[error("{0}")]
    Mrt(#[from] fibcast_mrt::MrtError),
    #[error("the router: {0}")]
    Child(String),
    #[error("the router's worker or control thread does not answer")]
    Router,
    #[error("{0}")]
    Net(String),
    #[error("dpdk-testpmd ended without statistics")]
    Testpmd,
    #[error("dpdk-l3fwd ended, or forwards nothing: it must have room for the table (scripts/build-l3fwd)")]
    L3fwd,
    #[error("{0}")]
    Testbed(#[from] fibcast_testbed::Failure),
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

/// Where and how often to measure.
#[derive(Clone, Copy, Debug)]
struct Course {
    rounds: u32,
    /// The core that is measured.
    core: usize,
    /// The core for everything else; the same where there is only one.
    other: usize,
    /// Packets are in hugepages.
    hugepages: bool,
}

impl Course {
    /// A metric's name, which says where packets were.
    fn metric(self, name: &str) -> String {
        if self.hugepages { format!("{name}_hugepages") } else { name.to_owned() }
    }

    /// What tells DPDK where packets are, with so many MiB of memory: the same for all sides.
    fn memory(self, megabytes: u32) -> Vec<String> {
        // A vhost-user peer maps eight pieces of memory at most: hugepages have to be one file.
        let kind: &[&str] =
            if self.hugepages { &["--in-memory", "--single-file-segments"] } else { &["--no-huge"] };
        let rest = ["--no-pci", "--no-shconf", "-m", &megabytes.to_string()];
        kind.iter().chain(&rest).map(|&word| word.to_owned()).collect()
    }
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("fibcast-bench: {failure}");
            ExitCode::from(if matches!(failure, Failure::Core { .. } | Failure::Prefixes(_)) { 2 } else { 1 })
        }
    }
}

fn run(options: &Options) -> Result<(), Failure> {
    let cores = cpu::cores()?;
    let core = options.core.or_else(|| cores.last().copied()).unwrap_or(0);
    if !cores.contains(&core) {
        return Err(Failure::Core { cores, found: core });
    }
    let other = cores.iter().copied().find(|&other| other != core).unwrap_or(core);
    let course = Course { rounds: options.rounds, core, other, hugepages: options.hugepages };
    if let (Some(server), Some(folder)) = (options.server, &options.folder) {
        return net::load::host(folder, course, server);
    }
    let table = Table::new(read_prefixes(&options.prefixes)?, options.groups);
    if let (Some(traffic), Some(folder)) = (options.child, &options.folder) {
        if options.bench == Bench::Virtio {
            return forward::router::serve(&table, folder, course);
        }
        return forward::router::run(&table, traffic, folder, course, options.bench == Bench::Churn);
    }

    let mut report = Report::new(options.json);
    let load =
        |report: &mut Report, metric| report.rows(&[Row::new("machine", metric, cpu::load(), "runnable")]);
    load(&mut report, "load_before")?;
    if cpu::load() > 1.0 {
        eprintln!(
            "fibcast-bench: other programs run: figures go up and down; rely on those of a quiet machine"
        );
    }
    if options.bench.includes(Bench::Lpm) || options.bench.includes(Bench::Apply) {
        tables(&table, options, course, &mut report)?;
    }
    if options.bench.includes(Bench::Codec) {
        report.rows(&codec::run(&table, options, course)?)?;
    }
    cpu::pin(&cores)?;
    if options.bench.includes(Bench::Forward) {
        report.rows(&forward::run(&table, options, course)?)?;
    }
    if options.bench.includes(Bench::Virtio) {
        report.rows(&forward::virtio::run(&table, options, course)?)?;
    }
    if options.bench.includes(Bench::Churn) {
        report.rows(&forward::churn(&table, options, course)?)?;
    }
    if options.bench.includes(Bench::Load) {
        report.rows(&net::load::run(&table, options, course)?)?;
    }
    if options.bench.includes(Bench::Latency) {
        report.rows(&net::latency::run(&table, course)?)?;
    }
    if options.bench.includes(Bench::Failover) {
        report.rows(&net::failover::run(&table, course)?)?;
    }
    if options.bench == Bench::Acknowledge {
        report.rows(&net::acknowledge::run(&table, course)?)?;
    }
    if options.bench.includes(Bench::Fanout) {
        report.rows(&net::fanout::run(&table, course)?)?;
    }
    if options.bench == Bench::Ndr {
        report.rows(&net::ndr::run(options, course)?)?;
    }
    load(&mut report, "load_after")?;
    Ok(())
}

/// The benches of the forwarding table, beside DPDK's in this process.
fn tables(table: &Table, options: &Options, course: Course, report: &mut Report) -> Result<(), Failure> {
    if !rte_fib::program::installed() {
        eprintln!("fibcast-bench: dpdk-test-fib is not in PATH (package dpdk-dev): no figures of it");
    }
    let library = rte_fib::Library::start(course.core);
    if let Err(error) = &library {
        eprintln!("fibcast-bench: no figures of rte_fib: {error}");
    }
    let library = library.ok();
    if options.bench.includes(Bench::Lpm) {
        report.rows(&lpm::run(table, course, library.as_ref())?)?;
    }
    if options.bench.includes(Bench::Apply) {
        report.rows(&apply::run(table, course, library.as_ref())?)?;
    }
    Ok(())
}
