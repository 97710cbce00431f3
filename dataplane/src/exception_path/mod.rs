//! The exception path to the kernel: a TAP interface for each port that wants one, with the port's MAC and IP addresses.
//!
//! Packets for the router itself go to the TAP interface of the port that they are for (`pipeline/delivery.rs`), so ssh, ping, DHCP and routing
//! daemons on the host work. What the kernel sends to a host is routed by the router's own table, like the router's own packets: the kernel
//! needs no routes and no neighbors. So its ARP and ND requests are answered locally ([`proxy`]) and never reach the wire. What is for the
//! link (multicast, broadcast, protocols without IP) leaves by the port unchanged.
//!
//! | module | role |
//! |---|---|
//! | [`proxy`] | what happens to a frame that the kernel sends |
//! | [`host_port`] | one interface: created, restored after it was down, created again after it was deleted; its carrier and addresses |
//! | [`tap_mac`] | a changed MAC address of an interface |

pub mod host_port;
pub mod proxy;
pub mod tap_mac;

use std::collections::HashMap;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use fibcast_daemon::threads::{self, Heartbeat, Task};
use fibcast_fib::PortId;
use ipnet::IpNet;
use tap::setup::Setup;
use tap::watch::{self, Event, Watch};

use crate::control::PortSetup;
use crate::control::thread::ControlHandle;
use crate::packet::ethernet;
use crate::packet::ethernet::Mac;
use crate::pipeline::host_frame::HostFrame;
use crate::pipeline::output::Rings;
use crate::pipeline::tap_state::TapState;
use host_port::{HostPort, Seen};
use proxy::Answer;

/// Longest pause between two polls of the workers' rings; adds to the delay of an answer.
const PAUSE: Duration = Duration::from_millis(1);
/// Most frames of one interface in a row, so that the others get their turn.
const FRAMES: usize = 64;
/// Kernel routing table for what the host sends from the first port's addresses; each port has its own. An arbitrary number next to
/// fibcast's port number.
const TABLE: u32 = 7_830;
/// All tables that a dataplane of this or an earlier version may use.
const TABLES: Range<u32> = TABLE..TABLE + 1_024;
/// Prefix of the interface names.
const PREFIX: &str = "fc-";
/// Interval between two reads of the groups that the kernel is a member of.
const GROUPS: Duration = Duration::from_millis(500);

/// The TAP interfaces; dropping it removes them.
#[derive(Debug)]
pub struct ExceptionPath {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// Why an interface cannot be created.
#[derive(Debug, thiserror::Error)]
#[error("interface {name}: {error}{}", advice(error))]
pub struct TapError {
    /// Index of the port.
    pub port_index: usize,
    /// Name of the interface.
    pub name: String,
    /// The system's error.
    pub error: io::Error,
}

/// The remedy, if known.
fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound => "; /dev/net/tun is missing: modprobe tun",
        io::ErrorKind::PermissionDenied => {
            "; run as root or with CAP_NET_ADMIN, as the systemd unit does, or set exception_path = false"
        }
        io::ErrorKind::ResourceBusy => {
            "; another process has an interface of this name: ip -d link show; name the port otherwise"
        }
        _ => "",
    }
}

/// Name of a port's TAP interface.
pub fn name_of(port: &str) -> String {
    format!("{PREFIX}{port}").chars().take(tap::MAX_NAME).collect()
}

/// `has_loopback`: the kernel has the loopback on this interface.
fn setup_of(port_index: usize, port: &PortSetup, has_loopback: bool) -> Setup {
    // A table of its own: none of them depends on the state of another interface, and reverse-path filters find the right one.
    let table = TABLE + port_index as u32;
    let loopback = port.loopback.iter().copied().filter(|_| has_loopback).map(IpNet::from);
    let addresses = port.addresses.iter().copied().chain(loopback).collect();
    Setup { mac: port.mac.0, mtu: port.mtu, addresses, table }
}

/// Removes what a killed process left behind. Without the needed rights there is nothing to remove, as a process of this user could not
/// have created it.
fn clear_leftovers<'a>(wanted: impl Iterator<Item = &'a Setup>) {
    let wanted: Vec<&Setup> = wanted.collect();
    match tap::rules::clear(&TABLES, PREFIX, &wanted) {
        Ok(0) => {}
        Ok(count) => tracing::info!("removed {count} policy rules (ip rule) of an earlier run"),
        Err(error) => {
            tracing::warn!("cannot remove policy rules (ip rule) of an earlier run: {error}")
        }
    }
}

impl ExceptionPath {
    /// Creates the interfaces of the ports that want one, and the thread that moves frames; none if no port does. `control` learns the
    /// addresses that others add to the interfaces.
    ///
    /// # Errors
    /// [`TapError`] with the port and the system's error if an interface or the thread cannot be created.
    pub fn start(
        ports: &[PortSetup],
        rings: Vec<Rings>,
        control: ControlHandle,
    ) -> Result<Option<ExceptionPath>, TapError> {
        let wanted = ports.iter().enumerate().filter(|(_, port)| port.exception_path);
        // One interface for it, both ways: see [`crate::pipeline::delivery`].
        let with_loopback =
            wanted.clone().find(|(_, port)| !port.loopback.is_empty()).map(|(first, _)| first);
        let wanted: Vec<_> = wanted
            .map(|(port_index, port)| {
                (port_index, port, setup_of(port_index, port, with_loopback == Some(port_index)))
            })
            .collect();
        clear_leftovers(wanted.iter().map(|(.., setup)| setup));
        let Some((first, ..)) = wanted.first() else { return Ok(None) };
        let first = *first;
        let of_all = |name: &str, error| TapError { port_index: first, name: name.to_owned(), error };
        // Before the first interface is created, so that no event is missed.
        let watch = Watch::open().map_err(|error| of_all("rtnetlink", error))?;
        let mut all = Vec::new();
        for (port_index, port, setup) in wanted {
            let name = name_of(&port.name);
            let made = HostPort::create(port_index as u16, port.clone(), name.clone(), setup, Instant::now());
            all.push(made.map_err(|error| TapError { port_index, name: name.clone(), error })?);
            tracing::info!("port {}: its TAP interface is {name}", port.name);
        }
        let stop = Arc::new(AtomicBool::new(false));
        let interfaces = Interfaces {
            all,
            watch,
            control,
            rings,
            state: TapState::default(),
            groups_at: Instant::now(),
            addresses_due: true,
        };
        let thread = threads::spawn(Task::essential("exception-path"), {
            let stop = stop.clone();
            move |heartbeat| interfaces.run(&stop, heartbeat)
        });
        let (thread, _) = thread.map_err(|error| of_all("exception-path", error))?;
        Ok(Some(ExceptionPath { stop, thread: Some(thread) }))
    }
}

impl Drop for ExceptionPath {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the exception path's thread panicked");
        }
    }
}

/// What the thread owns.
struct Interfaces {
    all: Vec<HostPort>,
    watch: Watch,
    control: ControlHandle,
    rings: Vec<Rings>,
    /// As last published to the workers.
    state: TapState,
    groups_at: Instant,
    /// The addresses changed, and were not read since.
    addresses_due: bool,
}

impl Interfaces {
    fn run(mut self, stop: &AtomicBool, heartbeat: &Heartbeat) {
        let longest = self.all.iter().map(|own| usize::from(own.port().mtu)).max().unwrap_or_default();
        let mut room = vec![0; longest + ethernet::HEADER];
        while !stop.load(Ordering::Acquire) {
            let now = Instant::now();
            heartbeat.beat_at(now);
            self.follow(now);
            if let Some(rings) = self.rings.first() {
                self.all
                    .iter_mut()
                    .for_each(|own| own.follow_link(!rings.links.is_down(PortId(own.index()))));
            }
            self.deliver();
            let busy = self.take(&mut room);
            if !busy {
                tap::wait(self.all.iter().filter_map(HostPort::tap), PAUSE);
            }
        }
        self.all.iter().for_each(HostPort::take_back);
    }

    /// Passes the frames of the workers to the interfaces.
    fn deliver(&self) {
        for rings in &self.rings {
            for _ in 0..rings.kernel.len() {
                let Some(mut frame) = rings.kernel.pop() else { break };
                if let Some(own) = self.all.iter().find(|own| own.index() == frame.port) {
                    own.write(frame.bytes_mut());
                }
            }
        }
    }

    /// Passes the frames of the interfaces to the first worker.
    fn take(&self, room: &mut [u8]) -> bool {
        let mut busy = false;
        if let Some(out) = self.rings.first() {
            for own in &self.all {
                busy |= from_kernel(own, out, room);
            }
        }
        busy
    }

    /// Follows what the kernel and an operator change of the interfaces.
    fn follow(&mut self, now: Instant) {
        let mut seen: HashMap<u32, Seen> = HashMap::new();
        let (mut lost, mut addresses) = (false, false);
        match self.watch.events() {
            Ok(events) => {
                for event in events {
                    match event {
                        Event::Link { index, up, mac, mtu } => {
                            seen.entry(index).or_default().link(up, mac.map(Mac), mtu)
                        }
                        Event::Deleted(index) => seen.entry(index).or_default().deleted = true,
                        Event::Addresses(index) => addresses |= self.all.iter().any(|own| own.is(index)),
                        Event::Lost => lost = true,
                    }
                }
            }
            // Its messages are lost. An error that stays must not keep the thread busy.
            Err(error) => {
                tracing::debug!("rtnetlink: {error}");
                lost = now >= self.groups_at;
            }
        }
        for own in &mut self.all {
            let of_own = own.tap().and_then(|tap| seen.remove(&tap.index()));
            if let Some(seen) = of_own.or_else(|| lost.then(Seen::anything)) {
                addresses |= own.changed(&seen, now);
            }
            addresses |= own.create_again(now);
        }
        let groups = now >= self.groups_at;
        if groups {
            self.groups_at = now + GROUPS;
        }
        if addresses || lost || groups {
            self.publish(addresses || lost, groups);
        }
    }

    /// Tells workers and control thread what the kernel has on the interfaces.
    fn publish(&mut self, addresses: bool, groups: bool) {
        let mut state = self.state.clone();
        self.addresses_due |= addresses;
        if self.addresses_due {
            match watch::addresses() {
                Ok(found) => {
                    self.addresses_due = false;
                    for own in &mut self.all {
                        if let Some(others) = own.addresses_changed(&found) {
                            let port_index = usize::from(own.index());
                            self.control.order(move |control| {
                                control.set_kernel_addresses(port_index, others, Instant::now());
                            });
                        }
                    }
                    state.addresses = self.all.iter().flat_map(HostPort::other_addresses).collect();
                }
                Err(error) => tracing::warn!("cannot read the addresses of the TAP interfaces: {error}"),
            }
        }
        if groups && let Ok(found) = watch::groups() {
            let of_own = |(index, group)| {
                let own = self.all.iter().find(|own| own.is(index))?;
                Some((own.index(), group))
            };
            state.groups = found.into_iter().filter_map(of_own).collect();
        }
        if state != self.state {
            self.rings.iter().for_each(|rings| rings.taps.store(Arc::new(state.clone())));
            self.state = state;
        }
    }
}

/// Forwards what the kernel sent out of an interface.
fn from_kernel(own: &HostPort, out: &Rings, room: &mut [u8]) -> bool {
    let Some(tap) = own.tap() else { return false };
    for taken in 0..FRAMES {
        // While workers are busy, frames stay in the kernel, which applies its own backpressure.
        if out.originate.is_full() || !out.long_frames.has_room() {
            // Frames that wait would end a wait for frames at once.
            std::thread::sleep(PAUSE);
            return false;
        }
        let Ok(Some(length)) = tap.read(room) else { return taken != 0 };
        let frame = room.get_mut(..length).unwrap_or_default();
        let sent = match proxy::answer(frame, own.port()) {
            Answer::Reply(mut reply) => {
                own.write(&mut reply);
                continue;
            }
            Answer::Ignore => continue,
            Answer::Wire => {
                own.to_wire(frame);
                if !proxy::keep_memberships(frame, own.port()) {
                    continue;
                }
                out.long_frames.copy(own.index(), frame)
            }
            Answer::Route => out.long_frames.copy(own.index(), frame).map(HostFrame::routed),
        };
        if let Some(frame) = sent {
            let _ = out.originate.push(frame);
        }
    }
    true
}
