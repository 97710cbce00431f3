//! DPDK ports around the [`Engine`]: opens them, and runs the packet loop.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use dpdk::{Burst, Eal, Mempool, Port, PortConfig, RxQueue, TxQueue};

use crate::args::Idle;
use crate::clock::Clock;
use crate::engine::Engine;
use crate::port::PortSpec;
use crate::serve::{Board, Orders, remove_stale};
use crate::traffic::frames::MAX_FRAME;

const BURST: usize = 64;
/// More than the driver's default: a generator that is late for a moment must not drop what comes back.
const DESCRIPTORS: u16 = 4096;
/// Buffers beside those in descriptors.
const SPARE: u32 = 4096;
const SMALL_ROOM: u16 = 2048;
/// Short enough for a full window at full rate, long enough to cost little.
const NAP: Duration = Duration::from_micros(60);
const FIGURES_EVERY_NS: u64 = 100_000_000;
/// Turns of the loop between two looks at what is not urgent.
const SELDOM: u32 = 64;

#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    #[error(transparent)]
    Dpdk(#[from] dpdk::Error),
    #[error("port {port}: frames of the chosen sizes need an MTU of {needed}, the device allows {allowed}")]
    Mtu { port: String, needed: u16, allowed: u16 },
    #[error("port {port}: {device} did not come up within {seconds} s")]
    Down { port: String, device: String, seconds: u64 },
}

struct Device {
    rx: RxQueue,
    tx: TxQueue,
    unsent: Burst<BURST>,
    port: Port,
    dropped_before: u64,
}

/// The open ports and their pool.
pub struct Devices {
    devices: Vec<Device>,
    pool: Mempool,
    idle: Idle,
}

impl Devices {
    /// Opens the ports, each with the MTU that it needs. A virtio-user port needs its peer's socket, which may appear later.
    pub fn open(
        eal: &Eal,
        ports: &[(&PortSpec, u16)],
        idle: Idle,
        wait: Duration,
        stop: &AtomicBool,
    ) -> Result<Self, DeviceError> {
        let largest = ports.iter().map(|(_, mtu)| *mtu).max().unwrap_or(1500);
        let room = if largest > 1600 { MAX_FRAME as u16 + 32 } else { SMALL_ROOM };
        let wanted = ports.len() as u32 * 2 * u32::from(DESCRIPTORS) + SPARE;
        let pool = Mempool::new(eal, "pktgen", wanted.next_power_of_two() - 1, 256, room, None)?;
        let until = Instant::now() + wait;
        let mut devices = Vec::new();
        for (spec, mtu) in ports {
            let found = await_socket(&spec.device, until, stop);
            if !found && !stop.load(Ordering::Relaxed) {
                let (port, device, seconds) = (spec.name().to_owned(), spec.device.clone(), wait.as_secs());
                return Err(DeviceError::Down { port, device, seconds });
            }
            remove_stale_socket(&spec.device);
            let mut port = Port::open(eal, &spec.device)?;
            let allowed = port.info()?.max_mtu;
            if *mtu > allowed {
                return Err(DeviceError::Mtu { port: spec.name().to_owned(), needed: *mtu, allowed });
            }
            let config = PortConfig {
                mtu: *mtu,
                rx_descriptors: DESCRIPTORS,
                tx_descriptors: DESCRIPTORS,
                ..PortConfig::default()
            };
            let (mut rx, mut tx) = port.start(&config, std::slice::from_ref(&pool))?;
            // It receives for all next hops; virtual devices may not know the mode, and pass on everything.
            let _ = port.set_promiscuous(true);
            if let (Some(rx), Some(tx)) = (rx.pop(), tx.pop()) {
                devices.push(Device { rx, tx, unsent: Burst::new(), port, dropped_before: 0 });
            }
        }
        Ok(Self { devices, pool, idle })
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

    /// Packets that the ports dropped when they received, since the last call.
    pub fn dropped(&mut self) -> u64 {
        let mut all = 0;
        for device in &mut self.devices {
            let dropped = device.port.stats().map_or(0, |stats| stats.rx_missed + stats.rx_no_buffer);
            all += dropped.saturating_sub(device.dropped_before);
            device.dropped_before = dropped;
        }
        all
    }

    /// Runs while `goes_on`, reports to `board`, and executes orders.
    pub fn run(
        &mut self,
        engine: &mut Engine,
        clock: &mut Clock,
        (board, orders): (&Board, &Orders),
        stop: &AtomicBool,
        mut goes_on: impl FnMut(&mut Engine, u64) -> bool,
    ) {
        let (mut figures_due, mut turn) = (0, 0_u32);
        let mut received = Burst::<BURST>::new();
        loop {
            turn = turn.wrapping_add(1);
            let mut busy = false;
            for (number, device) in self.devices.iter_mut().enumerate() {
                let count = device.rx.receive(&mut received);
                if count > 0 {
                    busy |= count > BURST / 2;
                    received.iter().for_each(dpdk::Packet::prefetch);
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
            let sleeps = self.idle == Idle::Sleep && !busy && engine.idle_until().is_none_or(|due| due > now);
            if sleeps || turn.is_multiple_of(SELDOM) {
                if stop.load(Ordering::Relaxed) {
                    engine.stop(now);
                }
                orders.each(|name| engine.change(name, now));
                if now >= figures_due {
                    figures_due = now + FIGURES_EVERY_NS;
                    board.put(engine.figures(now));
                    clock.turn();
                }
                if engine.is_done() || !goes_on(engine, now) {
                    break;
                }
            }
            if sleeps {
                std::thread::sleep(NAP);
            }
        }
        board.put(engine.figures(clock.now_ns()));
    }

    /// Sends due packets; true if more may be due.
    #[inline]
    fn transmit(&mut self, engine: &mut Engine, now_ns: u64) -> bool {
        let mut more = false;
        // Packets that a port did not take go first; the engine is asked for no more than the bursts hold.
        let room = self.devices.iter().map(|device| device.unsent.room()).min().unwrap_or(0);
        let wanted = engine.due().min(room);
        if wanted > 0 {
            let mut fresh = Burst::<BURST>::new();
            let allocated = self.pool.allocate(&mut fresh, wanted);
            for _ in 0..allocated {
                let Some(mut packet) = fresh.pop() else { break };
                let tailroom = packet.tailroom();
                let Some(frame) = packet.append(tailroom) else { break };
                let Some((port, length)) = engine.poll_transmit(now_ns, frame) else { break };
                packet.truncate(length);
                if let Some(device) = self.devices.get_mut(port) {
                    // There is room: at most `room` packets are added to each.
                    let _ = device.unsent.push(packet);
                }
                more = fresh.is_empty();
            }
        }
        for device in &mut self.devices {
            device.tx.send(&mut device.unsent);
            more &= device.unsent.is_empty();
        }
        more
    }
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
