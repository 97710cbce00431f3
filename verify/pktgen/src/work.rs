//! The whole run: ports, plan, warm-up, test, report.

use std::io::IsTerminal;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dpdk::Eal;
use ipnet::IpNet;

use crate::args::{Arguments, Idle};
use crate::clock::Clock;
use crate::devices::{DeviceError, Devices, Loops};
use crate::engine::{Content, Dut, Engine, EngineError, Settings, Team};
use crate::events::Events;
use crate::input;
use crate::neighbor::Link;
use crate::pacer::Load;
use crate::plan::churn::{self, Churn};
use crate::plan::{Plan, PlanError, Set, Update, Wanted};
use crate::port::PortSpec;
use crate::rate::{Rate, Short};
use crate::report::{Figures, Phase, table};
use crate::scenario::{Family, Scenario};
use crate::search::TestKind;
use crate::serve::{Board, Control, Orders, Teller, print};
use crate::traffic::order::Direction;
use crate::traffic::pcap::{self, PcapError};
use crate::trial::Trial;

const EAL: &str = "--no-pci --no-huge --no-shconf --no-telemetry";
const RATE: Rate = Rate::PacketsPerSecond(250_000.0);
const BURST: u64 = 32;
const SILENCE_TIMEOUT_S: u64 = 120;
const SETTLE_MS: u64 = 2_000;
/// A port of this process alone. DPDK allows a ring's name, which is longer by a prefix, 28 characters.
const OWN_RING: &str = "net_ring_own";
const LIVE_EVERY_NS: u64 = 500_000_000;
/// Enough for the packets of 2 s at 1 Mpps.
const REMEMBERED: usize = 1 << 21;
/// Packets in flight that memory is kept for at most: 1 GiB.
const MOST_REMEMBERED: usize = 1 << 27;

#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error(transparent)]
    Input(#[from] input::InputError),
    #[error(transparent)]
    Pcap(#[from] PcapError),
    #[error("{what}: {error}")]
    Plan { what: String, error: PlanError },
    #[error(transparent)]
    Device(#[from] DeviceError),
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error("{0}: {1}")]
    Io(String, std::io::Error),
    #[error("{0}")]
    Usage(String),
    #[error("{0}")]
    Work(String),
}

impl Failure {
    /// Whether the options or files are wrong, not the work.
    pub fn is_usage(&self) -> bool {
        match self {
            Self::Input(_) | Self::Pcap(_) | Self::Plan { .. } | Self::Engine(_) | Self::Usage(_) => true,
            Self::Device(error) => {
                matches!(
                    error,
                    DeviceError::Mtu { .. } | DeviceError::Queues { .. } | DeviceError::Core { .. }
                )
            }
            Self::Io(..) | Self::Work(_) => false,
        }
    }
}

impl From<dpdk::Error> for Failure {
    fn from(error: dpdk::Error) -> Self {
        Self::Device(error.into())
    }
}

fn io(what: &str) -> impl FnOnce(std::io::Error) -> Failure {
    let what = what.to_owned();
    move |error| Failure::Io(what, error)
}

/// True if all was well.
pub fn work(arguments: &Arguments, scenario: &Scenario) -> Result<bool, Failure> {
    let mut clock = Clock::new();
    // EAL pins this thread; threads started from it must be unpinned.
    let eal = Eal::init(eal_arguments(scenario).split_whitespace())?;
    eal.restore_affinity();
    let stop = Arc::new(AtomicBool::new(false));
    let flag = stop.clone();
    fibcast_daemon::signals::on_stop(move || flag.store(true, Ordering::Relaxed)).map_err(io("signals"))?;

    let board = Board::default();
    let (teller, orders) = Teller::new(scenario.cores.len().max(1));
    let _control = match &arguments.control {
        Some(path) => {
            let control = Control::start(path, board.clone(), teller);
            Some(control.map_err(io(&format!("control socket {}", path.display())))?)
        }
        None => None,
    };
    if arguments.json {
        print(board.clone()).map_err(io("standard output"))?;
    }

    let links: Vec<Link> = scenario
        .port
        .iter()
        .map(|port| port.link(scenario.dut))
        .collect::<Result<_, _>>()
        .map_err(Failure::Usage)?;
    let ports: Vec<_> = scenario.port.iter().map(|port| (port, scenario.mtu(port))).collect();
    let default_idle = if scenario.load.window.is_some() { Idle::Sleep } else { Idle::Spin };
    let idle = arguments.idle.unwrap_or(default_idle);
    // Before the table is read: the router's side of a vhost-user port may be waiting for it.
    let loops = Loops { cores: &scenario.cores, idle };
    let devices = Devices::open(&eal, &ports, loops, Duration::from_secs(arguments.wait), &stop)?;
    // On a small machine the router and its servers load their tables at the same time; they have priority.
    let (plan, content) = std::thread::scope(|scope| {
        let gently = || {
            let _ = rustix::process::nice(19);
            plan(scenario, &links)
        };
        scope.spawn(gently).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })?;
    let settings = settings(arguments, scenario, content);
    let team = Team::new(plan, &links, &settings, scenario.cores.len().max(1), clock.now_ns())?;
    clock.turn();
    let mut bench =
        Bench { devices, team, clock, board, orders, stop, eal: eal.clone(), live: Mutex::default() };
    let line = bench.line(scenario);
    bench.warm_up()?;
    bench.wait_until(scenario.changes.churn.and(scenario.changes.start_at).map(nanoseconds));
    let _events = Events::start(&scenario.event, &bench.stop).map_err(io("events"))?;
    match scenario.test.kind {
        TestKind::Traffic => traffic(&mut bench, scenario, line, arguments.json),
        _ => crate::bench::run(&mut bench, scenario, line),
    }
}

/// A generator that is ready for trials.
pub struct Bench {
    devices: Devices,
    pub team: Team,
    clock: Clock,
    pub board: Board,
    orders: Vec<Orders>,
    stop: Arc<AtomicBool>,
    eal: Eal,
    live: Mutex<Live>,
}

/// One line on a terminal about the trial that runs.
#[derive(Debug, Default)]
struct Live {
    /// None: silent.
    trial: Option<usize>,
    left: Option<usize>,
    next_ns: u64,
}

impl Live {
    fn show(&mut self, board: &Board, left_s: Option<f64>, now_ns: u64) {
        let Some(trial) = self.trial.filter(|_| now_ns >= self.next_ns && std::io::stderr().is_terminal())
        else {
            return;
        };
        self.next_ns = now_ns + LIVE_EVERY_NS;
        // Erases the line before.
        eprint!("\r\x1b[K{}\r", live_line(trial, self.left, &board.latest(), left_s));
    }
}

/// About the trial that runs.
fn live_line(trial: usize, left: Option<usize>, figures: &Figures, left_s: Option<f64>) -> String {
    let of = left.map_or(String::new(), |left| format!(" of about {}", trial + left));
    let seconds = left_s.map_or(String::new(), |left| format!(", {left:.0} s left"));
    format!(
        "trial {trial}{of}: {}pps sent, {}pps back, {} in flight, {} lost{seconds}",
        Short(figures.offered_pps),
        Short(figures.pps),
        figures.in_flight,
        figures.lost
    )
}

impl Bench {
    /// The number of the next trial, for the terminal.
    pub fn expect(&mut self, trial: usize) {
        self.live.get_mut().unwrap_or_else(PoisonError::into_inner).trial = Some(trial);
    }

    /// Trials that may still come.
    pub fn left(&mut self, trials: usize) {
        self.live.get_mut().unwrap_or_else(PoisonError::into_inner).left = Some(trials);
    }

    pub fn figures(&mut self) -> Figures {
        let figures = self.team.figures(self.clock.now_ns());
        Figures { queues: self.devices.queues(), ..figures }
    }

    /// Returns at this time, or when it is stopped.
    fn wait_until(&self, ns: Option<u64>) {
        while ns.is_some_and(|ns| self.clock.now_ns() < ns) && !self.is_stopped() {
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// A generator on a ring inside this process, ready for trials, with one core.
    pub fn loopback(&self, team: impl FnOnce(u64) -> Result<Team, Failure>) -> Result<Self, Failure> {
        let port = PortSpec::of_device(OWN_RING);
        let loops = Loops { cores: &self.devices.first_core(), idle: self.devices.idle() };
        let devices = Devices::open(&self.eal, &[(&port, 1500)], loops, Duration::ZERO, &self.stop)?;
        let clock = self.clock.clone();
        let team = team(clock.now_ns())?;
        let (_, orders) = Teller::new(1);
        let board = Board::default();
        let (stop, eal) = (self.stop.clone(), self.eal.clone());
        let mut bench = Self { devices, team, clock, board, orders, stop, eal, live: Mutex::default() };
        bench.warm_up()?;
        Ok(bench)
    }

    /// The sum of the lines of the ports that send, if all are known.
    fn line(&mut self, scenario: &Scenario) -> Option<f64> {
        let senders = scenario.traffic.direction.senders(scenario.port.len());
        let lines = scenario
            .port
            .iter()
            .enumerate()
            .map(|(number, port)| port.line().or_else(|| self.devices.line(number)));
        lines.take(senders.max(1)).sum()
    }

    pub fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn warm_up(&mut self) -> Result<(), Failure> {
        let goes_on = |engine: &Engine, now_ns: u64| match engine.silence(now_ns) {
            Some(words) => Err(words),
            None => Ok(engine.phase() != Phase::Ready),
        };
        let Self { devices, team, clock, board, orders, stop, .. } = self;
        devices.run(team, clock, (board, orders), stop, &goes_on, &|_, _| ()).map_err(Failure::Work)
    }

    /// Runs a trial. None if it was stopped before it began.
    pub fn trial(&mut self, load: Load) -> Option<Trial> {
        let Self { devices, team, clock, board, orders, stop, live, .. } = self;
        devices.dropped();
        if !team.start(load, clock.now_ns()) {
            return None;
        }
        let live: &Mutex<Live> = live;
        let show = |engine: &Engine, now_ns: u64| {
            let mut live = live.lock().unwrap_or_else(PoisonError::into_inner);
            live.show(board, engine.left_s(now_ns), now_ns);
        };
        let goes_on = |engine: &Engine, _| Ok(engine.phase() != Phase::Ready);
        // It never fails.
        let _ = devices.run(team, clock, (board, orders), stop, &goes_on, &show);
        let mut trial = team.result()?;
        trial.generator_dropped = devices.dropped();
        Some(trial)
    }

    pub fn finish(&mut self) {
        self.team.finish();
        let figures = self.figures();
        self.board.put_all(figures);
    }
}

/// One trial in which every packet counts.
fn traffic(bench: &mut Bench, scenario: &Scenario, line: Option<f64>, json: bool) -> Result<bool, Failure> {
    let rate = scenario.load.rate.unwrap_or(RATE);
    let pps = rate.packets(bench.team.mean_size(), line).map_err(Failure::Usage)?;
    let closed = scenario.load.window.is_some();
    let load = Load {
        pps,
        burst: scenario.load.burst.unwrap_or(if closed { 1 } else { BURST }),
        duration_ns: scenario.load.duration.map(nanoseconds),
        count: None,
        windowed: closed,
    };
    bench.expect(1);
    let trial = bench.trial(load);
    bench.finish();
    let figures = bench.board.latest();
    match trial.as_ref().filter(|_| !json && std::io::stdout().is_terminal()) {
        Some(trial) => println!("{}", table::traffic(trial, &figures)),
        None => println!("{}", bench.board.line()),
    }
    for fault in &figures.faults {
        eprintln!("fibcast-pktgen: {fault}");
    }
    let mut fine = figures.clean();
    if let Some(trial) = trial.filter(|_| !closed) {
        if let Some(words) = trial.not_offered() {
            eprintln!("fibcast-pktgen: {words}");
            fine = false;
        }
        if trial.generator_dropped > 0 {
            eprintln!(
                "fibcast-pktgen: {} packets were dropped by the generator's own ports when they came back: they count as lost, and the device may be faster",
                trial.generator_dropped
            );
        }
    }
    Ok(fine)
}

/// Of a search: its ports' lines.
fn default_rate(scenario: &Scenario) -> Rate {
    if scenario.test.kind == TestKind::Traffic { RATE } else { Rate::Percent(100.0) }
}

fn settings(arguments: &Arguments, scenario: &Scenario, content: Content) -> Settings {
    let lost_after_ns = nanoseconds(scenario.test.wait.unwrap_or(2.0)).max(1_000_000);
    let pps = match scenario.test.max_rate.or(scenario.load.rate).unwrap_or(default_rate(scenario)) {
        Rate::PacketsPerSecond(pps) => pps,
        // At most the smallest frames on any line of today.
        Rate::BitsPerSecond(bits) => bits / 512.0,
        Rate::Percent(_) => 20e6,
    };
    let needed = (pps * (lost_after_ns as f64 / 1e9) * 1.5) as usize;
    let one_in = if scenario.load.window.is_some() { 1 } else { 8 };
    // A closed loop may be started before the routers have their tables.
    let silence_timeout =
        arguments.silence_timeout.or(scenario.load.window.is_none().then_some(SILENCE_TIMEOUT_S));
    Settings {
        dut: scenario.dut,
        content,
        direction: scenario.traffic.direction.clone(),
        zipf: scenario.traffic.zipf,
        seed: scenario.seed(),
        window: scenario.load.window,
        coverage: scenario.changes.coverage,
        outage_ns: scenario.changes.outage_ms.map(|ms| ms * 1_000_000),
        lost_after_ns,
        remembered: needed.clamp(REMEMBERED, MOST_REMEMBERED),
        latency_one_in: scenario.latency.one_in.unwrap_or(one_in),
        silence_timeout_ns: silence_timeout.map(|seconds| seconds.saturating_mul(1_000_000_000)),
    }
}

fn plan(scenario: &Scenario, links: &[Link]) -> Result<(Plan, Content), Failure> {
    let traffic = &scenario.traffic;
    let mut wanted = Wanted {
        ipv4: traffic.families.contains(&Family::Ipv4),
        ipv6: traffic.families.contains(&Family::Ipv6),
        within: traffic.prefixes.clone(),
        flows: traffic.flows,
        exactly: None,
        direction: traffic.direction.clone(),
        seed: scenario.seed(),
    };
    let content = match &traffic.pcap {
        None => Content::Own { protocol: traffic.protocol, sizes: scenario.sizes().pattern().to_vec() },
        Some(file) => {
            let capture = pcap::read_file(file)?;
            if capture.left_out > 0 {
                eprintln!(
                    "fibcast-pktgen: {}: {} of {} packets left out: not UDP or TCP, or too short for a signature",
                    file.display(),
                    capture.left_out,
                    capture.left_out + capture.packets.len()
                );
            }
            if !traffic.rewrite {
                wanted.exactly =
                    Some(capture.packets.iter().filter_map(|packet| pcap::destination(packet)).collect());
            }
            Content::Captured { packets: capture.packets, replay: !traffic.rewrite }
        }
    };
    let settle = scenario.changes.settle_ms.unwrap_or(SETTLE_MS).saturating_mul(1_000_000);
    let plan = match &scenario.table {
        Some(file) if scenario.dut == Dut::Router => {
            let in_file = |error| Failure::Plan { what: file.display().to_string(), error };
            let table = input::table(file)?;
            let updates = updates(scenario, &table, links)?;
            let mut sets = Vec::new();
            for set in &scenario.changes.set {
                sets.push(Set { name: set.name.clone(), routes: input::table(&set.file)? });
            }
            Plan::new(table, &updates, &sets, links, settle, &wanted).map_err(in_file)?
        }
        _ => Plan::without_table(links, &wanted)
            .map_err(|error| Failure::Plan { what: "destinations".into(), error })?,
    };
    Ok((plan, content))
}

/// Changes that are known beforehand: read, or made up and written.
fn updates(scenario: &Scenario, table: &[(IpNet, IpAddr)], links: &[Link]) -> Result<Vec<Update>, Failure> {
    let (Some(file), Some(start_at)) = (&scenario.changes.updates, scenario.changes.start_at) else {
        return Ok(Vec::new());
    };
    let Some(per_s) = scenario.changes.churn else {
        return Ok(input::updates(file, nanoseconds(start_at))?);
    };
    let churn = Churn {
        per_s,
        seconds: scenario.churn_s(),
        start_ns: nanoseconds(start_at),
        seed: scenario.seed(),
        any_port: scenario.traffic.direction == Direction::Mesh,
    };
    let updates = churn::timetable(table, links, &churn)
        .map_err(|error| Failure::Plan { what: "changes".into(), error })?;
    churn::write(file, &updates).map_err(io(&file.display().to_string()))?;
    eprintln!(
        "fibcast-pktgen: {} changes written to {}, the first due at {start_at}",
        updates.len(),
        file.display()
    );
    Ok(updates)
}

/// Lcores as cores, so that drivers make as many queues.
fn eal_arguments(scenario: &Scenario) -> String {
    let cores: Vec<String> = match scenario.cores.as_slice() {
        [] => vec!["0".to_owned()],
        cores => cores.iter().map(usize::to_string).collect(),
    };
    let megabytes = 256 * cores.len();
    scenario.eal_args.clone().unwrap_or_else(|| format!("{EAL} -m {megabytes} -l {}", cores.join(",")))
}

fn nanoseconds(seconds: f64) -> u64 {
    (seconds.max(0.0) * 1e9) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn live_line_says_what_runs_and_how_long() {
        let figures = Figures { offered_pps: 2e6, pps: 1.5e6, in_flight: 12, lost: 3, ..Figures::default() };
        assert_eq!(
            live_line(4, Some(6), &figures, Some(17.6)),
            "trial 4 of about 10: 2Mpps sent, 1.5Mpps back, 12 in flight, 3 lost, 18 s left"
        );
        assert_eq!(
            live_line(1, None, &figures, None),
            "trial 1: 2Mpps sent, 1.5Mpps back, 12 in flight, 3 lost"
        );
    }

    #[test]
    fn lcores_are_the_cores_unless_the_arguments_say_otherwise() {
        let scenario = |cores: &[usize], eal: Option<&str>| Scenario {
            cores: cores.to_vec(),
            eal_args: eal.map(str::to_owned),
            ..Scenario::default()
        };
        assert!(eal_arguments(&scenario(&[], None)).ends_with("-m 256 -l 0"));
        assert!(eal_arguments(&scenario(&[2, 5], None)).ends_with("-m 512 -l 2,5"));
        assert_eq!(eal_arguments(&scenario(&[2, 5], Some("-l 2,5 --in-memory"))), "-l 2,5 --in-memory");
    }
}
