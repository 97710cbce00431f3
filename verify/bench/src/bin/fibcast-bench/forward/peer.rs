//! The other end of the virtio-user ports: vhost-user ports that send frames for ever, or at a rate, and take the time of those that
//! come back. A process of its own, on the core that the forwarder does not have; both sides of a comparison have the same one.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use dpdk::{Burst, Eal, Mempool, Port, PortConfig, RxQueue, TxQueue};
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::frames;
use crate::{Course, Failure, cpu};

const BURST: usize = 32;
/// Packets that must have come back before anything is measured: the forwarder has its table.
const WARM: u64 = 20_000;
const START_TIMEOUT: Duration = Duration::from_secs(60);
const SETTLE: Duration = Duration::from_millis(500);
const WINDOW: Duration = Duration::from_secs(2);

/// What the peer tells its parent.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Heard {
    /// Millions of packets per second that came back.
    pub rate: f64,
    /// Microseconds from before a packet was given to the port until after it was taken from one.
    pub p50: f64,
    /// The same.
    pub p99: f64,
    /// Of those that were sent, packets that did not come back, in percent.
    pub missing: f64,
}

/// The socket of a port.
pub fn socket(folder: &Path, port: usize) -> PathBuf {
    folder.join(format!("port{port}.sock"))
}

/// The forwarder's end of a port. It has the address that the frames are for.
pub fn device(folder: &Path, port: usize) -> String {
    let path = socket(folder, port);
    format!("net_virtio_user{port},path={},mac=02:70:63:61:70:0{port},queue_size=1024", path.display())
}

struct Device {
    rx: RxQueue,
    tx: TxQueue,
    frames: Vec<Vec<u8>>,
    next: usize,
    unsent: Burst<BURST>,
    _port: Port,
}

/// Measures, and prints [`Heard`] as JSON. `rate` is in millions of packets per second over all ports; none: as many as go.
pub fn run(folder: &Path, course: Course, rate: Option<f64>) -> Result<(), Failure> {
    cpu::pin(&[course.other])?;
    let failed = |error: dpdk::Error| Failure::Child(error.to_string());
    let (core, prefix) = (course.other.to_string(), format!("fibcast-peer-{}", std::process::id()));
    let mut words = course.memory(256);
    words.extend(
        ["--no-telemetry", "--log-level=3", "-l", &core, "--file-prefix", &prefix].map(str::to_owned),
    );
    let eal = Eal::init(words.iter().map(String::as_str)).map_err(failed)?;
    let pool = Mempool::new(&eal, "peer", 16_383, 256, 2048, None).map_err(failed)?;
    let mut devices = Vec::new();
    for number in 0..frames::PORTS {
        let name = format!("net_vhost{number},iface={},queues=1", socket(folder, number).display());
        let mut port = Port::open(&eal, &name).map_err(failed)?;
        let (mut rx, mut tx) =
            port.start(&PortConfig::default(), std::slice::from_ref(&pool)).map_err(failed)?;
        if let (Some(rx), Some(tx)) = (rx.pop(), tx.pop()) {
            let frames = frames::read(folder, number)?;
            devices.push(Device { rx, tx, frames, next: 0, unsent: Burst::new(), _port: port });
        }
    }
    let mut peer = Peer { devices, pool, sent: 0, received: 0, times: None };
    let start = Instant::now();
    // Slowly, until the first packets come back.
    while peer.received < WARM {
        peer.turn(BURST);
        if peer.received == 0 {
            std::thread::sleep(Duration::from_micros(200));
        }
        if start.elapsed() > START_TIMEOUT {
            return Err(Failure::Child("nothing came back to the peer".into()));
        }
    }
    let hertz = cpu::hertz();
    let mut pace = Pace { ticks: rate.map(|rate| hertz / rate / 1e6), due: cpu::ticks() as f64 };
    peer.run(&mut pace, SETTLE);
    let histogram = Histogram::new_with_bounds(1, 60_000_000_000, 3);
    peer.times = Some(histogram.map_err(|error| Failure::Child(error.to_string()))?);
    let (sent, received, from) = (peer.sent, peer.received, Instant::now());
    peer.run(&mut pace, WINDOW);
    let (took, sent, received) = (from.elapsed(), peer.sent - sent, peer.received - received);
    let times = peer.times.as_ref();
    let us = |quantile| times.map_or(0.0, |times| times.value_at_quantile(quantile) as f64 / hertz * 1e6);
    let heard = Heard {
        rate: received as f64 / took.as_secs_f64() / 1e6,
        p50: us(0.5),
        p99: us(0.99),
        missing: sent.saturating_sub(received) as f64 / sent.max(1) as f64 * 100.0,
    };
    println!("{}", serde_json::to_string(&heard).map_err(std::io::Error::from)?);
    Ok(())
}

/// When packets are due.
struct Pace {
    /// Between two packets; none: always.
    ticks: Option<f64>,
    due: f64,
}

impl Pace {
    /// How many packets are due now. What a pause of the machine kept back is not made up for: it would be measured as the forwarder's.
    fn take(&mut self, now: u64) -> usize {
        let Some(ticks) = self.ticks else { return BURST };
        let count = ((now as f64 - self.due) / ticks).max(0.0) as usize;
        if count > BURST {
            self.due = now as f64;
            return BURST;
        }
        self.due += count as f64 * ticks;
        count
    }
}

struct Peer {
    devices: Vec<Device>,
    pool: Mempool,
    sent: u64,
    received: u64,
    times: Option<Histogram<u64>>,
}

impl Peer {
    fn run(&mut self, pace: &mut Pace, time: Duration) {
        let start = Instant::now();
        while start.elapsed() < time {
            for _ in 0..64 {
                let count = pace.take(cpu::ticks());
                self.turn(count);
            }
        }
    }

    /// Takes what came, and sends so many packets, by the ports in turn.
    fn turn(&mut self, count: usize) {
        let mut received = Burst::<BURST>::new();
        for device in &mut self.devices {
            if device.rx.receive(&mut received) == 0 {
                continue;
            }
            self.received += received.len() as u64;
            if let Some(times) = &mut self.times {
                let now = cpu::ticks();
                for packet in received.iter() {
                    if let Some(stamp) = packet.data().last_chunk::<8>() {
                        times.saturating_record(now.saturating_sub(u64::from_le_bytes(*stamp)));
                    }
                }
            }
            received.clear();
        }
        let ports = self.devices.len().max(1);
        let first = self.sent as usize;
        for (number, device) in self.devices.iter_mut().enumerate() {
            // One more for some where they do not share evenly.
            let wanted = (count + (first + number) % ports) / ports;
            let mut fresh = Burst::<BURST>::new();
            let room = device.unsent.room().min(wanted);
            if room != 0 && self.pool.allocate(&mut fresh, room) != 0 {
                let now = cpu::ticks().to_le_bytes();
                while let Some(mut packet) = fresh.pop() {
                    device.next = if device.next + 1 < device.frames.len() { device.next + 1 } else { 0 };
                    if let Some(frame) = device.frames.get(device.next)
                        && packet.set_data(frame)
                        && let Some(stamp) = packet.data_mut().last_chunk_mut::<8>()
                    {
                        *stamp = now;
                        // There is room: no more were asked for.
                        let _ = device.unsent.push(packet);
                    }
                }
            }
            self.sent += device.tx.send(&mut device.unsent) as u64;
        }
    }
}
