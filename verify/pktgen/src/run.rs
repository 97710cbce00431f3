//! The packet loop: DPDK ports around the [`Engine`].

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use dpdk::{Burst, Eal, Mempool, Port, PortConfig, RxQueue, TxQueue};

use crate::args::PortArgument;
use crate::engine::Engine;
use crate::frame::MAX_FRAME;
use crate::serve::{Board, Orders, remove_stale};

const BURST: usize = 64;
const POOL: u32 = 8191;
/// Short enough for a full window at full rate, long enough to cost little.
const NAP: Duration = Duration::from_micros(60);
const FIGURES_EVERY_NS: u64 = 100_000_000;

/// Nanoseconds since 1970 that never go back: read once from the wall clock, then counted.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    origin: Instant,
    origin_ns: u64,
}

impl Clock {
    pub fn new() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { origin: Instant::now(), origin_ns: since.as_nanos() as u64 }
    }

    pub fn now_ns(&self) -> u64 {
        self.origin_ns + self.origin.elapsed().as_nanos() as u64
    }
}

struct Device {
    rx: RxQueue,
    tx: TxQueue,
    unsent: Burst<BURST>,
    _port: Port,
}

/// The open ports and their pool.
pub struct Devices {
    devices: Vec<Device>,
    pool: Mempool,
}

impl Devices {
    /// Opens the ports. A virtio-user port needs its peer's socket, which may appear later.
    pub fn open(eal: &Eal, ports: &[PortArgument], wait: Duration, stop: &AtomicBool) -> dpdk::Result<Self> {
        let pool = Mempool::new(eal, "pktgen", POOL, 256, 2048, None)?;
        let until = Instant::now() + wait;
        let mut devices = Vec::new();
        for port in ports {
            await_socket(&port.device, until, stop);
            remove_stale_socket(&port.device);
            let mut port = Port::open(eal, &port.device)?;
            let (mut rx, mut tx) = port.start(&PortConfig::default(), std::slice::from_ref(&pool))?;
            if let (Some(rx), Some(tx)) = (rx.pop(), tx.pop()) {
                devices.push(Device { rx, tx, unsent: Burst::new(), _port: port });
            }
        }
        Ok(Self { devices, pool })
    }

    /// Runs until the engine is done, reports to `board`, and executes orders.
    pub fn run(
        &mut self,
        engine: &mut Engine,
        clock: Clock,
        (board, orders): (&Board, &Orders),
        stop: &Arc<AtomicBool>,
    ) {
        let mut figures_due = 0;
        let mut received = Burst::<BURST>::new();
        while !engine.is_done() {
            if stop.load(Ordering::Relaxed) {
                engine.stop(clock.now_ns());
            }
            orders.each(|name| engine.change(name, clock.now_ns()));
            let mut busy = false;
            for (number, device) in self.devices.iter_mut().enumerate() {
                let count = device.rx.receive(&mut received);
                if count > 0 {
                    busy |= count > BURST / 2;
                    let now = clock.now_ns();
                    for packet in received.iter() {
                        engine.handle_frame(number, packet.data(), now);
                    }
                    received.clear();
                }
            }
            let now = clock.now_ns();
            engine.handle_time(now);
            busy |= self.transmit(engine, now);
            if now >= figures_due {
                figures_due = now + FIGURES_EVERY_NS;
                board.put(engine.figures(now));
            }
            if !busy {
                std::thread::sleep(NAP);
            }
        }
        board.put(engine.figures(clock.now_ns()));
    }

    /// Sends due packets; true if more may be due.
    fn transmit(&mut self, engine: &mut Engine, now_ns: u64) -> bool {
        let mut frame = [0; MAX_FRAME];
        let mut more = false;
        // Packets that a port did not take go first; the engine is asked for no more than the bursts hold.
        let room = self.devices.iter().map(|device| device.unsent.room()).min().unwrap_or(0);
        let mut fresh = Burst::<BURST>::new();
        let allocated = self.pool.allocate(&mut fresh, room);
        for _ in 0..allocated {
            let Some((port, length)) = engine.poll_transmit(now_ns, &mut frame) else { break };
            let (Some(mut packet), Some(bytes)) = (fresh.pop(), frame.get(..length)) else { break };
            if let Some(device) = self.devices.get_mut(port)
                && packet.set_data(bytes)
            {
                // There is room: at most `room` packets are added to each.
                let _ = device.unsent.push(packet);
            }
            more = fresh.is_empty();
        }
        for device in &mut self.devices {
            device.tx.send(&mut device.unsent);
            more &= device.unsent.is_empty();
        }
        more
    }
}

/// DPDK's virtio-user port fails at once if there is no socket.
fn await_socket(device: &str, until: Instant, stop: &AtomicBool) {
    let socket = device.split(',').find_map(|setting| setting.strip_prefix("path="));
    let server = device.split(',').any(|setting| setting == "server=1");
    if let (Some(socket), false, true) = (socket, server, device.starts_with("net_virtio_user")) {
        while !Path::new(socket).exists() && Instant::now() < until && !stop.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(50));
        }
    }
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
