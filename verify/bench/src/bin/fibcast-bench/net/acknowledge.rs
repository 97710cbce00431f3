//! What acknowledgements to a routing daemon cost, and how long they take: two route servers, one of which has `[acknowledge]`, each with a
//! table by FPM and two NIC hosts, take turns in one run with the same changes.
//!
//! A turn is over when the slower worker uses the last change. An answer's latency is from the moment that the slower worker uses the change
//! until zebra's end of the connection has the answer.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use fibcast_dataplane::control::Control;
use fibcast_dataplane::control::sink::ControlSink;
use fibcast_dataplane::control::thread::ControlThread;
use fibcast_netlink::testing as wire;
use fibcast_sync_agent::agent::{AgentHandle, Sink, SinkError};
use fibcast_sync_agent::sink::{Refusals, Wake};
use fibcast_sync_proto::{Batch, ChangeRef};
use fibcast_testbed::{Node, config, process::free_addresses};
use ipnet::{IpNet, Ipv4Net};

use super::{agent_named, percentile, status, until, without_ports};
use crate::input::{Random, Table};
use crate::row::{Better, Row, median};
use crate::{Course, Failure};

const NAME: &str = "acknowledge";
/// Routes of the table.
const ROUTES: usize = 200_000;
/// NIC hosts of each server.
const HOSTS: usize = 2;
/// At 10,000 changes a second: changes at once, once in a millisecond, for so many milliseconds.
const AT_ONCE: usize = 10;
const MILLISECONDS: usize = 3_000;
/// Changes of a turn at full speed.
const FULL: usize = 150_000;

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The route of a number, of those that change.
type Numbers = Arc<HashMap<IpNet, u32>>;

/// What a host has seen of the changes of this turn.
#[derive(Default)]
struct Seen {
    /// Serials of the agent's table with the changes that came with them.
    arrivals: Mutex<Vec<(u64, u32)>>,
    /// Serials that the worker used, and since when.
    used: Mutex<Vec<(u64, Instant)>>,
}

/// The sink of a NIC host, and a note of what passed it.
struct Tap {
    inner: ControlSink,
    numbers: Numbers,
    seen: Arc<Seen>,
}

impl Sink for Tap {
    fn apply(&mut self, batch: &Batch<'_>) -> Result<(), SinkError> {
        self.inner.apply(batch)?;
        let serial = batch.serial();
        let numbers = batch.changes().filter_map(|change| match change {
            ChangeRef::Route { prefix, .. } => self.numbers.get(&prefix).map(|&n| (serial, n)),
            _ => None,
        });
        let numbers: Vec<_> = numbers.collect();
        locked(&self.seen.arrivals).extend(numbers);
        Ok(())
    }

    fn reset(&mut self) {
        self.inner.reset();
    }

    fn installed(&self) -> Option<u64> {
        self.inner.installed()
    }

    fn refusals(&mut self, known: u64) -> Option<Refusals> {
        self.inner.refusals(known)
    }

    fn on_installed(&mut self, wake: Wake) {
        self.inner.on_installed(wake);
    }
}

/// A NIC host with one worker.
struct Host {
    agent: AgentHandle,
    seen: Arc<Seen>,
    _control: ControlThread,
    worker: Option<JoinHandle<()>>,
    stop: Arc<AtomicBool>,
}

impl Host {
    fn start(name: &str, server: SocketAddr, numbers: &Numbers) -> Result<Self, Failure> {
        let mut control =
            Control::new(without_ports(), Instant::now()).map_err(|e| Failure::Net(e.to_string()))?;
        let mut reader = control.reader("worker");
        let control = ControlThread::spawn(control)?;
        let (seen, stop): (Arc<Seen>, Arc<AtomicBool>) = Default::default();
        let worker = std::thread::Builder::new().name("worker".into()).spawn({
            let (seen, stop) = (seen.clone(), stop.clone());
            move || {
                let mut last = 0;
                while !stop.load(Ordering::Acquire) {
                    let serial = reader.burst().serial();
                    if serial != last {
                        locked(&seen.used).push((serial, Instant::now()));
                        last = serial;
                    }
                    // The cores are few: a worker that spins would take one from what is measured.
                    std::thread::sleep(Duration::from_micros(20));
                }
            }
        })?;
        let inner = ControlSink::new(control.handle.clone(), Vec::new());
        let tap = Tap { inner, numbers: numbers.clone(), seen: seen.clone() };
        let agent = agent_named(name, &[server], Box::new(tap))?;
        Ok(Self { agent, seen, _control: control, worker: Some(worker), stop })
    }

    /// When the worker used each change; a later generation has it as well.
    fn times(&self, changes: usize) -> Vec<Option<Instant>> {
        let used = locked(&self.seen.used);
        let mut times = vec![None; changes];
        for &(serial, number) in locked(&self.seen.arrivals).iter() {
            let at = used.partition_point(|&(s, _)| s < serial);
            if let (Some(&(_, at)), Some(time)) = (used.get(at), times.get_mut(number as usize)) {
                *time = Some(at);
            }
        }
        times
    }

    /// Whether the worker uses this change.
    fn uses(&self, number: u32) -> bool {
        let serial = locked(&self.seen.arrivals).iter().rev().find(|(_, n)| *n == number).map(|(s, _)| *s);
        let used = locked(&self.seen.used).last().map(|(serial, _)| *serial);
        serial.zip(used).is_some_and(|(serial, used)| serial <= used)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(worker) = self.worker.take() {
            let _ = worker.join();
        }
    }
}

/// zebra's end of the connection, with the time of each answer.
struct Zebra {
    stream: TcpStream,
    answers: Arc<Mutex<Vec<(IpNet, Instant)>>>,
}

impl Zebra {
    fn new(address: SocketAddr) -> Result<Self, Failure> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        let answers: Arc<Mutex<Vec<_>>> = Arc::default();
        let (mut from, list) = (stream.try_clone()?, answers.clone());
        std::thread::Builder::new().name("zebra".into()).spawn(move || {
            let (mut bytes, mut buffer) = (Vec::new(), vec![0; 1 << 18]);
            while let Ok(n @ 1..) = from.read(&mut buffer) {
                let now = Instant::now();
                bytes.extend_from_slice(buffer.get(..n).unwrap_or_default());
                let (mut at, mut found) = (0, Vec::new());
                while let Some(&[_, _, a, b]) = bytes.get(at..).and_then(<[u8]>::first_chunk) {
                    let length = usize::from(u16::from_be_bytes([a, b]));
                    let Some(frame) = bytes.get(at..at + length) else { break };
                    // struct rtmsg follows the frame's and the message's header; the destination is the last attribute.
                    if let (Some(bits), Some(&address)) = (frame.get(21), frame.last_chunk::<4>())
                        && let Ok(prefix) = Ipv4Net::new(Ipv4Addr::from(address), *bits)
                    {
                        found.push((IpNet::V4(prefix), now));
                    }
                    at += length;
                }
                bytes.drain(..at);
                locked(&list).extend(found);
            }
        })?;
        Ok(Self { stream, answers })
    }

    fn send(&mut self, frames: &[u8]) -> Result<(), Failure> {
        Ok(self.stream.write_all(frames)?)
    }
}

impl Drop for Zebra {
    fn drop(&mut self) {
        let _ = self.stream.shutdown(std::net::Shutdown::Both);
    }
}

/// A frame as FRR 10 sends it: one route.
fn frame(prefix: IpNet, gateway: u8) -> Vec<u8> {
    let message =
        wire::route_of(24, &prefix.to_string(), 254, 1, &[wire::gateway(&format!("192.0.2.{gateway}"))]);
    let length = (message.len() + 4) as u16;
    [&[1, 1][..], &length.to_be_bytes(), &message].concat()
}

/// A server with its hosts.
struct Side {
    node: Node,
    hosts: Vec<Host>,
    zebra: Zebra,
    gateway: u8,
}

/// What a turn took.
struct Turn {
    changes_per_second: f64,
    /// Microseconds of the server's processor time for each change.
    cpu: f64,
    /// Microseconds from a change's use by the slower worker to its answer.
    latency: Vec<f64>,
    answered: usize,
}

impl Side {
    fn start(
        folder: &Path,
        name: &str,
        keys: &str,
        prefixes: &[IpNet],
        numbers: &Numbers,
    ) -> Result<Self, Failure> {
        let [listen, fpm] = free_addresses()?;
        let text = config::node(name, folder, &config::listen(&listen.to_string()))
            + keys
            + &format!(
                "[[source]]\norigin = \"bgp\"\nkind = \"fpm\"\nlisten = \"{fpm}\"\nend_of_table = \"quiet\"\n"
            );
        std::fs::write(folder.join(format!("{name}.toml")), text)?;
        let program = std::env::current_exe()?.with_file_name("fibcast-route-server");
        let node = Node::start(&program, name, folder, None)?;
        until(&format!("{name} answers"), || Ok(node.status().is_some()))?;
        let mut zebra = Zebra::new(fpm)?;
        for part in prefixes.chunks(1_000) {
            zebra.send(&part.iter().flat_map(|&prefix| frame(prefix, 1)).collect::<Vec<u8>>())?;
        }
        let hosts = (0..HOSTS).map(|n| Host::start(&format!("{name}-{n}"), listen, numbers));
        let hosts = hosts.collect::<Result<Vec<_>, _>>()?;
        for host in &hosts {
            until("the NIC host has the table", || {
                let now = status(&host.agent)?;
                Ok(now.ready && now.table.ipv4_routes == prefixes.len() as u64)
            })?;
        }
        Ok(Self { node, hosts, zebra, gateway: 1 })
    }

    /// All of these routes change, as fast as it goes or at 10,000 a second.
    fn turn(&mut self, prefixes: &[IpNet], paced: bool, acknowledges: bool) -> Result<Turn, Failure> {
        // Another one than in any turn before: all of them change, whatever changed last.
        self.gateway = self.gateway % 250 + 1;
        for host in &self.hosts {
            locked(&host.seen.arrivals).clear();
            locked(&host.seen.used).clear();
        }
        locked(&self.zebra.answers).clear();
        let frames: Vec<Vec<u8>> = prefixes.iter().map(|&prefix| frame(prefix, self.gateway)).collect();
        let before = processor_time(self.node.process.pid())?;
        let begin = Instant::now();
        let mut due = begin;
        for part in frames.chunks(if paced { AT_ONCE } else { 500 }) {
            if paced {
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
                due += Duration::from_millis(1);
            }
            self.zebra.send(&part.concat())?;
        }
        let last = prefixes.len() as u32 - 1;
        until("the last change is used", || Ok(self.hosts.iter().all(|host| host.uses(last))))?;
        let took = begin.elapsed();
        if acknowledges {
            until("all changes are answered", || Ok(locked(&self.zebra.answers).len() >= prefixes.len()))?;
        }
        let cpu = processor_time(self.node.process.pid())? - before;
        let used: Vec<Vec<Option<Instant>>> =
            self.hosts.iter().map(|host| host.times(prefixes.len())).collect();
        let numbers: HashMap<IpNet, usize> = prefixes.iter().enumerate().map(|(n, &p)| (p, n)).collect();
        let answers = locked(&self.zebra.answers);
        let latency = answers.iter().filter_map(|(prefix, at)| {
            let number = *numbers.get(prefix)?;
            let slower =
                used.iter().map(|of| of.get(number).copied().flatten()).collect::<Option<Vec<_>>>()?;
            Some(at.saturating_duration_since(slower.into_iter().max()?).as_secs_f64() * 1e6)
        });
        Ok(Turn {
            changes_per_second: prefixes.len() as f64 / took.as_secs_f64(),
            cpu: cpu.as_secs_f64() * 1e6 / prefixes.len() as f64,
            latency: latency.collect(),
            answered: answers.len(),
        })
    }
}

/// Processor time of a process so far.
fn processor_time(pid: u32) -> Result<Duration, Failure> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields = text.rsplit_once(") ").map_or("", |(_, rest)| rest).split(' ');
    let ticks: u64 = fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    Ok(Duration::from_micros(ticks * 1_000_000 / rustix::param::clock_ticks_per_second()))
}

/// All rows of this bench.
pub fn run(table: &Table, course: Course) -> Result<Vec<Row>, Failure> {
    let folder = tempfile::tempdir()?;
    let v4 = table.routes.iter().map(|&(prefix, _)| prefix).filter(|prefix| prefix.addr().is_ipv4());
    let mut prefixes: Vec<IpNet> = v4.collect();
    let mut random = Random(5);
    for at in 0..prefixes.len() {
        let other = random.below(prefixes.len());
        prefixes.swap(at, other);
    }
    prefixes.truncate(ROUTES);
    let numbers: Numbers = Arc::new(prefixes.iter().zip(0..).map(|(&prefix, n)| (prefix, n)).collect());
    let keys = "[acknowledge]\ntimeout_ms = 0\ngrace_ms = 1000\n";
    let mut with = Side::start(folder.path(), "with", keys, &prefixes, &numbers)?;
    let mut without = Side::start(folder.path(), "without", "", &prefixes, &numbers)?;
    until("the table is acknowledged", || {
        let answered = locked(&with.zebra.answers).len();
        Ok(answered >= prefixes.len())
    })?;

    let mut rows = Vec::new();
    let mut latency = Vec::new();
    for (metric, paced) in [("offered_10000", true), ("full_speed", false)] {
        let changes = if paced { AT_ONCE * MILLISECONDS } else { FULL };
        let part = prefixes.get(..changes).unwrap_or(&prefixes);
        let (mut here, mut there, mut answered) = (Vec::new(), Vec::new(), 0);
        for round in 0..course.rounds {
            // Each goes first in every second round.
            let first = if round % 2 == 0 { [true, false] } else { [false, true] };
            for acknowledges in first {
                let side = if acknowledges { &mut with } else { &mut without };
                let turn = side.turn(part, paced, acknowledges)?;
                let list = if acknowledges { &mut here } else { &mut there };
                list.push((turn.changes_per_second, turn.cpu));
                answered += turn.answered;
                if paced {
                    latency.extend(turn.latency);
                }
            }
        }
        let rate = |of: &[(f64, f64)]| median(of.iter().map(|(rate, _)| *rate).collect());
        let cpu = |of: &[(f64, f64)]| median(of.iter().map(|(_, cpu)| *cpu).collect());
        rows.push(Row::new(NAME, metric, rate(&here), "changes/s").beside(
            "without",
            rate(&there),
            Better::More,
        ));
        rows.push(Row::new(NAME, &format!("{metric}_cpu"), cpu(&here), "us/change").beside(
            "without",
            cpu(&there),
            Better::Less,
        ));
        let share = answered as f64 / (part.len() * course.rounds as usize) as f64;
        rows.push(Row::new(NAME, &format!("{metric}_answered"), share * 100.0, "percent"));
    }
    latency.sort_by(f64::total_cmp);
    rows.push(Row::new(NAME, "latency_p50", percentile(&latency, 0.5), "us"));
    rows.push(Row::new(NAME, "latency_p99", percentile(&latency, 0.99), "us"));
    Ok(rows)
}
