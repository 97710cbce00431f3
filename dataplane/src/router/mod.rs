//! The router assembled on DPDK: opens ports, assigns queues to workers, starts and stops control side and workers in order.
//!
//! | module | role |
//! |---|---|
//! | [`eal`], `explain` | DPDK's environment; what an operator does about its failures |
//! | [`ports`], [`queues`], [`pools`] | devices with their queues and packet buffers |
//! | [`segmentation`] | senders at the other end of veth pairs cut their packets themselves |
//! | [`watch`], [`state`], [`steering`] | link state, stalled workers, device counters, software RSS |
//! | [`show`], `cleared`, `interfaces` | what an operator sees of ports, workers and drops; since counters were cleared |
//! | [`orders`], `own_routes` | changes by an operator; routes of this host's own |
//! | `ping` | pings that an operator asks for |

mod cleared;
pub mod eal;
mod explain;
mod interfaces;
pub mod orders;
mod own_routes;
mod ping;
pub mod pools;
pub mod ports;
pub mod queues;
pub mod segmentation;
pub mod show;
pub mod state;
pub mod steering;
pub mod watch;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Instant;

use fibcast_daemon::config::{Loaded, Step};
use fibcast_daemon::exit::Failure;
use fibcast_fib::Reader;

use crate::capture::Hub;
use crate::config::{Config, SavedRoutes, SoftwareRssPolicy};
use crate::control::thread::{ControlHandle, ControlThread};
use crate::control::{Control, PortSetup, Setup};
use crate::counters::WorkerCounters;
use crate::exception_path::ExceptionPath;
use crate::io::dpdk::Dpdk;
use crate::packet::ethernet;
use crate::pipeline::host_frame::LongFrames;
use crate::pipeline::links::Links;
use crate::pipeline::output::Rings;
use crate::pipeline::port::PortFacts;
use crate::pipeline::tap_state::SharedTapState;
use crate::worker::spread::Spread;
use crate::worker::{Parts, Worker, thread};
use ports::{Ports, Queues, Started};
use show::View;
use tap::veth::Uncut;
use watch::{Health, Shown, Watch, WatchedWorkers};

/// A running router. Dropping it stops workers first, then the control side, then ports, then DPDK.
#[derive(Debug)]
pub struct Router {
    workers: Vec<JoinHandle<Result<(), String>>>,
    stop: Arc<AtomicBool>,
    watch: Option<Watch>,
    exception_path: Option<ExceptionPath>,
    control: Option<ControlThread>,
    view: Arc<View>,
    _uncut: Vec<Uncut>,
}

impl Router {
    /// Starts everything, with the routes that operators have saved.
    ///
    /// # Errors
    /// [`Failure`] with file, line and key of what is wrong, or the error of DPDK or the system.
    pub fn start(loaded: &Loaded<Config>) -> Result<Router, Failure> {
        let config = &loaded.value;
        let saved = SavedRoutes::load(loaded)?;
        let eal = eal::init(loaded)?;
        let uncut = segmentation::without(config);
        let started = Ports::start(&eal, loaded)?;
        let Started { ports, queues, pools, states, ipv4_checksum, partial_checksums, software_rss } =
            started;
        let now = Instant::now();

        let macs: Vec<_> = states.iter().map(|state| state.mac).collect();
        let setups = config.port_setups(&macs);
        let facts = |port: &PortSetup| {
            let of_device = |all: &[bool]| all.get(usize::from(port.link.device)).copied().unwrap_or(false);
            let (ipv4_checksum, partial_checksums) =
                (of_device(&ipv4_checksum), of_device(&partial_checksums));
            PortFacts {
                ipv4_checksum,
                partial_checksums,
                allow_class_e: config.ip.allow_class_e,
                ..port.facts()
            }
        };
        let facts: Vec<PortFacts> = setups.iter().map(facts).collect();
        let links = Arc::new(Links::default());
        let largest = config.ports.iter().map(|port| usize::from(port.mtu)).max().unwrap_or_default();
        let long_frames = LongFrames::new(largest + ethernet::HEADER);
        let taps = SharedTapState::default();
        let made = || Rings {
            links: links.clone(),
            taps: taps.clone(),
            long_frames: long_frames.clone(),
            ..Rings::default()
        };
        let rings: Vec<Rings> = config.workers.cores.iter().map(|_| made()).collect();
        let devices: Vec<u16> = facts.iter().map(|port| port.link.device).collect();
        let counters: Vec<Arc<WorkerCounters>> = queues
            .iter()
            .map(|own| Arc::new(WorkerCounters::with_queues(facts.len(), own.rx.len())))
            .collect();
        let polled: Vec<Vec<usize>> =
            queues.iter().map(|own| own.rx.iter().map(|slot| slot.port).collect()).collect();
        let workers = config.workers.cores.len();
        let software_rss =
            Some(software_rss).filter(|_| workers > 1 && config.workers.spread != SoftwareRssPolicy::Off);
        let mut spreads = software_rss
            .iter()
            .flat_map(|ports| Spread::<Dpdk>::among(workers, ports))
            .collect::<Vec<_>>()
            .into_iter();

        let setup = Setup {
            ports: setups.clone(),
            // The first of two to the same destination counts.
            routes: [saved.static_routes(config), config.static_routes()].concat(),
            neighbors: config.static_neighbors(),
            limits: config.fib.limits(),
            icmp: config.icmp,
            allow_class_e: config.ip.allow_class_e,
            rings: rings.clone(),
            counters: counters.clone(),
        };
        let mut control = Control::new(setup, now).map_err(Failure::work)?;
        control.scrub_every(config.scrub.pass());
        let readers: Vec<Reader> =
            (0..rings.len()).map(|number| control.reader(&worker_name(number))).collect();
        let control = ControlThread::spawn(control).map_err(Failure::work)?;
        let exception_path =
            ExceptionPath::start(&setups, config.loopback_interface(), rings.clone(), control.handle.clone())
                .map_err(|error| {
                    let key = [Step::Key("port"), Step::At(error.port_index), Step::Key("exception_path")];
                    Failure::work(loaded.error(&key, error.to_string()))
                })?;

        let health: Arc<[Health]> = counters.iter().map(|_| Health::default()).collect();
        let handle = control.handle.clone();
        let names: Vec<String> = config.ports.iter().map(|port| port.name.clone()).collect();
        let capture = Arc::new(Hub::new(names.clone()));
        let view = View::new(
            (config, saved),
            states.clone(),
            health.clone(),
            capture.clone(),
            counters.clone(),
            polled.clone(),
            handle.clone(),
        );
        let view = Arc::new(view);
        let shown = Shown { links, devices, states, health, software_rss, names };
        let stop = Arc::new(AtomicBool::new(false));
        let mut router = Router {
            workers: Vec::new(),
            stop,
            watch: None,
            exception_path,
            control: Some(control),
            view,
            _uncut: uncut,
        };
        let seed = seed(&config.node.name);
        let icmp = config.icmp.share(config.workers.cores.len() as u32);
        let watched_counters = counters.clone();
        let parts = readers.into_iter().zip(rings).zip(counters).zip(queues).zip(&config.workers.cores);
        let mut pulses = Vec::new();
        for (number, ((((reader, rings), counters), queues), &core)) in parts.enumerate() {
            let Queues { rx, tx, .. } = queues;
            let (ports, backlog, eal) = (facts.clone(), config.workers.tx_backlog, eal.clone());
            let Some(pool) = pools.of(ports::node_of(core)).cloned() else { continue };
            let spread = spreads.next();
            let capture = capture.clone();
            let build = move || {
                let registered = eal.register_thread().map_err(|error| error.to_string())?;
                let parts =
                    Parts { rx, tx, pool, ports, seed, backlog, icmp, capture, reader, counters, rings };
                let mut worker = Worker::<Dpdk>::new(parts);
                worker.share(spread);
                Ok((worker, registered))
            };
            let worker = thread::spawn(number, core, config.workers.idle, router.stop.clone(), build);
            let (worker, pulse) = worker.map_err(Failure::work)?;
            router.workers.push(worker);
            pulses.push(pulse);
        }
        router.started(loaded)?;
        let watched = WatchedWorkers { counters: watched_counters, pulses, polled };
        router.watch = Some(Watch::start(ports, shown, watched, handle).map_err(Failure::work)?);
        Ok(router)
    }

    /// A worker that cannot start ends within moments.
    fn started(&mut self, loaded: &Loaded<Config>) -> Result<(), Failure> {
        std::thread::sleep(std::time::Duration::from_millis(20));
        let Some(dead) = self.workers.iter().position(JoinHandle::is_finished) else { return Ok(()) };
        let reason = match self.workers.swap_remove(dead).join() {
            Ok(Ok(())) => "a worker ended immediately".to_owned(),
            Ok(Err(reason)) => reason,
            Err(_) => "a worker panicked".to_owned(),
        };
        Err(Failure::work(loaded.error(&[Step::Key("workers"), Step::Key("cores")], reason)))
    }

    /// Handle to the control side.
    pub fn control(&self) -> Option<ControlHandle> {
        self.control.as_ref().map(|control| control.handle.clone())
    }

    /// The operator's view.
    pub fn view(&self) -> Arc<View> {
        self.view.clone()
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        // Ports are closed on this thread, after the workers that use their queues.
        let _ports = self.watch.take().and_then(Watch::stop);
        self.exception_path = None;
        self.stop.store(true, Ordering::Release);
        for worker in self.workers.drain(..) {
            match worker.join() {
                Ok(Ok(())) => {}
                Ok(Err(reason)) => tracing::error!("{reason}"),
                Err(_) => tracing::error!("a worker panicked"),
            }
        }
        self.control = None;
    }
}

/// Name of a worker at the publisher.
fn worker_name(number: usize) -> String {
    format!("worker {number}")
}

/// Seed of the flow hash: differs between hosts by the node's name, and survives a restart.
fn seed(name: &str) -> u64 {
    // FNV-1a: any hash that distributes short names is good enough.
    name.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}
