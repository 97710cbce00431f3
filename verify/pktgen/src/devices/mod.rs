//! DPDK ports around the engines: opens them, and runs the packet loops, one for each core.
//!
//! Each core has a queue of each port in both directions, and an engine of its own. What comes back to another core's queue is enqueued to
//! the core that sent it.

mod queues;

use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use dpdk::{Burst, Eal, Mempool, Port, PortConfig};
use rustix::thread::{CpuSet, sched_setaffinity};

use self::queues::{Queue, Queues, Run};
use crate::args::Idle;
use crate::clock::Clock;
use crate::engine::{Engine, Team};
use crate::port::PortSpec;
use crate::report::QueueFigures;
use crate::serve::{Board, Orders, remove_stale};
use crate::traffic::frames::MAX_FRAME;

/// More than the driver's default: a generator that is late for a moment must not drop what comes back.
const DESCRIPTORS: u16 = 4096;
/// Buffers beside those in descriptors, for each core.
const SPARE: u32 = 8192;
const SMALL_ROOM: u16 = 2048;

#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    #[error(transparent)]
    Dpdk(#[from] dpdk::Error),
    #[error("port {port}: frames of the chosen sizes need an MTU of {needed}, the device allows {allowed}")]
    Mtu { port: String, needed: u16, allowed: u16 },
    #[error(
        "port {port}: {needed} cores need as many queues, the device has {allowed}: expected fewer cores, or queues={needed} (virtio-user, vhost), qpairs={needed} (af_packet)"
    )]
    Queues { port: String, needed: usize, allowed: u16 },
    #[error("core {core}: {error}")]
    Core { core: usize, error: std::io::Error },
    #[error("port {port}: {device} did not come up within {seconds} s")]
    Down { port: String, device: String, seconds: u64 },
}

struct Device {
    port: Port,
    dropped_before: u64,
}

/// The open ports and the queues of each core.
pub struct Devices {
    // Queues are gone before their ports.
    cores: Vec<Queues>,
    devices: Vec<Device>,
    eal: Eal,
    idle: Idle,
    enqueue_failures_before: u64,
}

/// How the packet loops run.
#[derive(Debug, Clone, Copy)]
pub struct Loops<'a> {
    /// A loop on each of these. None: one loop on the calling thread, wherever that runs.
    pub cores: &'a [usize],
    pub idle: Idle,
}

impl Devices {
    /// Opens the ports, each with the MTU that it needs. A virtio-user port needs its peer's socket, which may appear later.
    pub fn open(
        eal: &Eal,
        ports: &[(&PortSpec, u16)],
        loops: Loops<'_>,
        wait: Duration,
        stop: &AtomicBool,
    ) -> Result<Self, DeviceError> {
        check_cores(loops.cores)?;
        let cores = if loops.cores.is_empty() {
            vec![None]
        } else {
            loops.cores.iter().copied().map(Some).collect::<Vec<_>>()
        };
        let largest = ports.iter().map(|(_, mtu)| *mtu).max().unwrap_or(1500);
        let room = if largest > 1600 { MAX_FRAME as u16 + 32 } else { SMALL_ROOM };
        let wanted = (ports.len() as u32 * 2 * u32::from(DESCRIPTORS) + SPARE) * cores.len() as u32;
        let pool = Mempool::new(eal, "pktgen", wanted.next_power_of_two() - 1, 256, room, None)?;
        let until = Instant::now() + wait;
        let mut queues = Queues::new(&cores, &pool, loops.idle);
        let mut devices = Vec::new();
        for (spec, mtu) in ports {
            let found = await_socket(&spec.device, until, stop);
            if !found && !stop.load(Ordering::Relaxed) {
                let (port, device, seconds) = (spec.name().to_owned(), spec.device.clone(), wait.as_secs());
                return Err(DeviceError::Down { port, device, seconds });
            }
            remove_stale_socket(&spec.device);
            let mut port = Port::open(eal, &spec.device)?;
            let info = port.info()?;
            if *mtu > info.max_mtu {
                let (port, allowed) = (spec.name().to_owned(), info.max_mtu);
                return Err(DeviceError::Mtu { port, needed: *mtu, allowed });
            }
            let allowed = info.max_rx_queues.min(info.max_tx_queues);
            if cores.len() > usize::from(allowed) {
                let (port, needed) = (spec.name().to_owned(), cores.len());
                return Err(DeviceError::Queues { port, needed, allowed });
            }
            let config = PortConfig {
                mtu: *mtu,
                rx_queues: cores.len() as u16,
                tx_queues: cores.len() as u16,
                rss: cores.len() > 1 && info.rss,
                rx_descriptors: DESCRIPTORS,
                tx_descriptors: DESCRIPTORS,
                ..PortConfig::default()
            };
            let (rx, tx) = port.start(&config, std::slice::from_ref(&pool))?;
            // It receives for all next hops; virtual devices may not know the mode, and pass on everything.
            let _ = port.set_promiscuous(true);
            for (of_core, (rx, tx)) in queues.iter_mut().zip(rx.into_iter().zip(tx)) {
                let figures = QueueFigures {
                    port: spec.name().to_owned(),
                    queue: of_core.number,
                    core: of_core.core,
                    ..QueueFigures::default()
                };
                of_core.queues.push(Queue { rx, tx, unsent: Burst::new(), figures });
            }
            devices.push(Device { port, dropped_before: 0 });
        }
        let (eal, idle) = (eal.clone(), loops.idle);
        Ok(Self { cores: queues, devices, eal, idle, enqueue_failures_before: 0 })
    }

    /// None where no cores were chosen.
    pub fn first_core(&self) -> Vec<usize> {
        self.cores.first().and_then(|queues| queues.core).into_iter().collect()
    }

    pub fn idle(&self) -> Idle {
        self.idle
    }

    /// Bit/s of a port's line, as far as its device knows. Virtual ones make it up.
    pub fn line(&mut self, number: usize) -> Option<f64> {
        let port = &mut self.devices.get_mut(number)?.port;
        let real = port.info().is_ok_and(|info| info.bus == "pci" && !info.driver.contains("virtio"));
        let speed = port.link().ok()?.speed_mbps.filter(|_| real)?;
        Some(f64::from(speed) * 1e6)
    }

    /// By port and queue.
    pub fn queues(&self) -> Vec<QueueFigures> {
        let mut all: Vec<_> = self.cores.iter().flat_map(Queues::figures).collect();
        let place = |of: &QueueFigures| {
            self.cores.first()?.queues.iter().position(|queue| queue.figures.port == of.port)
        };
        all.sort_by_key(|figures| (place(figures), figures.queue));
        all
    }

    /// Packets that the ports or this process dropped when they came back, since the last call.
    pub fn dropped(&mut self) -> u64 {
        let mut all = 0;
        for device in &mut self.devices {
            let dropped = device.port.stats().map_or(0, |stats| stats.rx_missed + stats.rx_no_buffer);
            all += dropped.saturating_sub(device.dropped_before);
            device.dropped_before = dropped;
        }
        let failures: u64 = self.cores.iter().flat_map(Queues::figures).map(|figures| figures.dropped).sum();
        all + failures - std::mem::replace(&mut self.enqueue_failures_before, failures)
    }

    /// Runs each engine on its core while `goes_on`, reports to `board`, and executes orders. An error of `goes_on` ends all.
    pub fn run(
        &mut self,
        team: &mut Team,
        clock: &mut Clock,
        (board, orders): (&Board, &mut [Orders]),
        stop: &AtomicBool,
        goes_on: &(dyn Fn(&Engine, u64) -> Result<bool, String> + Sync),
        watch: &(dyn Fn(&Engine, u64) + Sync),
    ) -> Result<(), String> {
        let active = AtomicUsize::new(self.cores.len());
        let run = Run { board, stop, active, failure: OnceLock::new(), goes_on, watch };
        let (run, eal) = (&run, &self.eal);
        let unpinned = self.cores.iter().all(|queues| queues.core.is_none());
        let each = self.cores.iter_mut().zip(team.engines()).zip(orders);
        if unpinned {
            each.for_each(|((queues, engine), orders)| queues.run(engine, clock, orders, run));
        } else {
            *clock = std::thread::scope(|scope| {
                let started: Vec<_> = each
                    .map(|((queues, engine), orders)| {
                        let mut clock = clock.clone();
                        scope.spawn(move || {
                            // It was checked that this is possible. Registered, a thread has a cache of buffers.
                            queues.core.map(pin);
                            let _registered = eal.register_thread();
                            queues.run(engine, &mut clock, orders, run);
                            clock
                        })
                    })
                    .collect();
                let clocks: Vec<Clock> = started
                    .into_iter()
                    .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
                    .collect();
                clocks.into_iter().max_by_key(Clock::now_ns).unwrap_or_else(|| clock.clone())
            });
        }
        run.failure.get().cloned().map_or(Ok(()), Err)
    }
}

fn pin(core: usize) -> std::io::Result<()> {
    let none = || std::io::Error::new(std::io::ErrorKind::InvalidInput, "there is no such core");
    if core >= CpuSet::MAX_CPU {
        return Err(none());
    }
    let mut cores = CpuSet::new();
    cores.set(core);
    sched_setaffinity(None, &cores).map_err(|_| none())
}

/// Tries them, on a thread of its own, which takes the change with it.
fn check_cores(cores: &[usize]) -> Result<(), DeviceError> {
    let check = |&core: &usize| pin(core).map_err(|error| DeviceError::Core { core, error });
    std::thread::scope(|scope| {
        let checked = scope.spawn(|| cores.iter().try_for_each(check)).join();
        checked.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// DPDK's virtio-user port fails at once if there is no socket. False if there still is none.
fn await_socket(device: &str, until: Instant, stop: &AtomicBool) -> bool {
    let socket = device.split(',').find_map(|setting| setting.strip_prefix("path="));
    let server = device.split(',').any(|setting| setting == "server=1");
    if let (Some(socket), false, true) = (socket, server, device.starts_with("net_virtio_user")) {
        while !Path::new(socket).exists() && Instant::now() < until && !stop.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(50));
        }
        return Path::new(socket).exists();
    }
    true
}

/// DPDK's vhost-user port does not start if a killed process left its socket.
fn remove_stale_socket(device: &str) {
    let socket = device.split(',').find_map(|setting| setting.strip_prefix("iface="));
    let client = device.split(',').any(|setting| setting == "client=1");
    if let (Some(socket), false, true) = (socket, client, device.starts_with("net_vhost")) {
        // If it cannot be removed, DPDK says so in a moment.
        let _ = remove_stale(Path::new(socket));
    }
}
