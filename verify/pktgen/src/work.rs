//! The whole run: ports, plan, warm-up, test, report.

use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use dpdk::Eal;

use crate::args::{Arguments, Idle};
use crate::clock::Clock;
use crate::devices::{DeviceError, Devices};
use crate::engine::{Content, Dut, Engine, EngineError, Settings};
use crate::input;
use crate::neighbor::Link;
use crate::pacer::Load;
use crate::plan::{Plan, PlanError, Set, Wanted};
use crate::port::PortSpec;
use crate::rate::{Rate, Short};
use crate::report::{Figures, Phase};
use crate::scenario::{Family, Scenario};
use crate::search::TestKind;
use crate::serve::{Board, Control, Orders, Teller, print};
use crate::traffic::pcap::{self, PcapError};
use crate::trial::Trial;

const EAL: &str = "--no-pci --no-huge -m 256 --no-shconf --no-telemetry -l 0";
const RATE: Rate = Rate::PacketsPerSecond(250_000.0);
const BURST: u64 = 32;
const SILENCE_TIMEOUT_S: u64 = 120;
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
            Self::Device(error) => matches!(error, DeviceError::Mtu { .. }),
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
    let eal = Eal::init(scenario.eal_args.as_deref().unwrap_or(EAL).split_whitespace())?;
    eal.restore_affinity();
    let stop = Arc::new(AtomicBool::new(false));
    let flag = stop.clone();
    fibcast_daemon::signals::on_stop(move || flag.store(true, Ordering::Relaxed)).map_err(io("signals"))?;

    let board = Board::default();
    let (teller, orders) = Teller::new();
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
    let devices = Devices::open(&eal, &ports, idle, Duration::from_secs(arguments.wait), &stop)?;
    // On a small machine the router and its servers load their tables at the same time; they have priority.
    let (plan, content) = std::thread::scope(|scope| {
        let gently = || {
            let _ = rustix::process::nice(19);
            plan(arguments, scenario, &links)
        };
        scope.spawn(gently).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })?;
    let settings = settings(arguments, scenario, content);
    let engine = Engine::new(plan, links, settings, clock.now_ns())?;
    clock.turn();
    let mut bench =
        Bench { devices, engine, clock, board, orders, stop, eal: eal.clone(), live: Live::default() };
    let line = bench.line(scenario);
    bench.warm_up()?;
    match scenario.test.kind {
        TestKind::Traffic => traffic(&mut bench, scenario, line),
        _ => crate::bench::run(&mut bench, scenario, line),
    }
}

/// A generator that is ready for trials.
pub struct Bench {
    devices: Devices,
    pub engine: Engine,
    clock: Clock,
    pub board: Board,
    orders: Orders,
    stop: Arc<AtomicBool>,
    eal: Eal,
    live: Live,
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
    fn show(&mut self, engine: &mut Engine, now_ns: u64) {
        let Some(trial) = self.trial.filter(|_| now_ns >= self.next_ns && std::io::stderr().is_terminal())
        else {
            return;
        };
        self.next_ns = now_ns + LIVE_EVERY_NS;
        let figures = engine.figures(now_ns);
        let of = self.left.map_or(String::new(), |left| format!(" of about {}", trial + left));
        let seconds = engine.left_s(now_ns).map_or(String::new(), |left| format!(", {left:.0} s left"));
        // Erases the line before.
        eprint!(
            "\r\x1b[Ktrial {trial}{of}: {}pps sent, {}pps back, {} in flight, {} lost{seconds}\r",
            Short(figures.offered_pps),
            Short(figures.pps),
            figures.in_flight,
            figures.lost
        );
    }
}

impl Bench {
    /// The number of the next trial, for the terminal.
    pub fn expect(&mut self, trial: usize) {
        self.live.trial = Some(trial);
    }

    /// Trials that may still come.
    pub fn left(&mut self, trials: usize) {
        self.live.left = Some(trials);
    }

    pub fn figures(&mut self) -> Figures {
        self.engine.figures(self.clock.now_ns())
    }

    /// A generator on a ring inside this process, ready for trials.
    pub fn loopback(&self, engine: impl FnOnce(u64) -> Result<Engine, Failure>) -> Result<Self, Failure> {
        let port = PortSpec::of_device("net_ring_fibcast_loopback");
        let devices =
            Devices::open(&self.eal, &[(&port, 1500)], self.devices.idle(), Duration::ZERO, &self.stop)?;
        let clock = self.clock.clone();
        let engine = engine(clock.now_ns())?;
        let (_, orders) = Teller::new();
        let board = Board::default();
        let (stop, eal) = (self.stop.clone(), self.eal.clone());
        let mut bench = Self { devices, engine, clock, board, orders, stop, eal, live: Live::default() };
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
        let mut silent = None;
        let Self { devices, engine, clock, board, orders, stop, .. } = self;
        devices.run(engine, clock, (board, orders), stop, |engine, now_ns| {
            silent = engine.silence(now_ns);
            engine.phase() != Phase::Ready && silent.is_none()
        });
        silent.map_or(Ok(()), |words| Err(Failure::Work(words)))
    }

    /// Runs a trial. None if it was stopped before it began.
    pub fn trial(&mut self, load: Load) -> Option<Trial> {
        let Self { devices, engine, clock, board, orders, stop, live, .. } = self;
        devices.dropped();
        if !engine.start(load, clock.now_ns()) {
            return None;
        }
        devices.run(engine, clock, (board, orders), stop, |engine, now_ns| {
            live.show(engine, now_ns);
            engine.phase() != Phase::Ready
        });
        let mut trial = engine.result()?;
        trial.generator_dropped = devices.dropped();
        Some(trial)
    }

    pub fn finish(&mut self) {
        self.engine.finish();
        self.board.put(self.engine.figures(self.clock.now_ns()));
    }
}

/// One trial in which every packet counts.
fn traffic(bench: &mut Bench, scenario: &Scenario, line: Option<f64>) -> Result<bool, Failure> {
    let rate = scenario.load.rate.unwrap_or(RATE);
    let pps = rate.packets(bench.engine.mean_size(), line).map_err(Failure::Usage)?;
    let closed = scenario.load.window.is_some();
    let load = Load {
        pps,
        burst: scenario.load.burst.unwrap_or(if closed { 1 } else { BURST }),
        duration_ns: scenario.load.duration.map(nanoseconds),
        count: None,
        windowed: closed,
    };
    let trial = bench.trial(load);
    bench.finish();
    let figures = bench.board.latest();
    println!("{}", bench.board.line());
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
        coverage: arguments.coverage,
        outage_ns: arguments.outage_ms.map(|ms| ms * 1_000_000),
        lost_after_ns,
        remembered: needed.clamp(REMEMBERED, MOST_REMEMBERED),
        latency_one_in: scenario.latency.one_in.unwrap_or(one_in),
        silence_timeout_ns: silence_timeout.map(|seconds| seconds.saturating_mul(1_000_000_000)),
    }
}

fn plan(arguments: &Arguments, scenario: &Scenario, links: &[Link]) -> Result<(Plan, Content), Failure> {
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
    let settle = arguments.settle_ms.saturating_mul(1_000_000);
    let plan = match &scenario.table {
        Some(file) if scenario.dut == Dut::Router => {
            let table = input::table(file)?;
            let updates = match (&scenario.updates, arguments.start_at) {
                (Some(file), Some(start)) => input::updates(file, nanoseconds(start))?,
                _ => Vec::new(),
            };
            let mut sets = Vec::new();
            for change in &arguments.changes {
                sets.push(Set { name: change.name.clone(), routes: input::table(&change.file)? });
            }
            Plan::new(table, &updates, &sets, links, settle, &wanted)
                .map_err(|error| Failure::Plan { what: file.display().to_string(), error })?
        }
        _ => Plan::without_table(links, &wanted)
            .map_err(|error| Failure::Plan { what: "destinations".into(), error })?,
    };
    Ok((plan, content))
}

fn nanoseconds(seconds: f64) -> u64 {
    (seconds.max(0.0) * 1e9) as u64
}
