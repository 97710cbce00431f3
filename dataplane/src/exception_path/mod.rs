//! The exception path to the kernel: a TAP interface for each port that wants one, with the port's MAC and IP addresses.
//!
//! Packets for the router itself go to the TAP interface of the port that they are for (`pipeline/delivery.rs`), so ssh, ping, DHCP and routing
//! daemons on the host work. What the kernel sends to a host is routed by the router's own table, like the router's own packets: the kernel
//! needs no routes and no neighbors. So its ARP and ND requests are answered locally ([`proxy`]) and never reach the wire. What is for the
//! link (multicast, broadcast, protocols without IP) leaves by the port unchanged.
//!
//! The router's loopback has a TAP interface of its own, which is on no link: it always has a carrier, and its packets are routed by the table
//! whichever ports have a link. So sessions between loopbacks survive the loss of a port.
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
use crate::control::probes;
use crate::control::thread::ControlHandle;
use crate::packet::ethernet;
use crate::packet::ethernet::Mac;
use crate::pipeline::host_frame::HostFrame;
use crate::pipeline::output::Rings;
use crate::pipeline::rings;
use crate::pipeline::tap_state::TapState;
use host_port::{HostPort, Role, Seen};
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
/// The table for what the host sends from the loopback, behind those of all ports.
const LOOPBACK_TABLE: u32 = TABLE + 256;
/// Prefix of the interface names.
pub const PREFIX: &str = "fc-";
/// Name of the loopback's interface, unless the configuration has another one.
pub const LOOPBACK: &str = "fc-lo";
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

/// Each has a table of its own: none of them depends on the state of another interface, and reverse-path filters find the right one.
fn setup_of(port: &PortSetup, table: u32) -> Setup {
    Setup { mac: port.mac.0, mtu: port.mtu, addresses: port.addresses.clone(), table }
}

/// The loopback in the form of a port, and how its interface is configured. `first` is the first port of its VRF with a TAP interface.
fn loopback_of(first: &PortSetup, ports: &[PortSetup]) -> (PortSetup, Setup) {
    let [a, rest @ ..] = first.mac.0;
    let [b, c, d, e, f] = rest;
    // The smallest: what the kernel sends by default fits all ports.
    let mtus = ports.iter().filter(|port| port.vrf == first.vrf).map(|port| port.mtu);
    let port = PortSetup {
        name: "loopback".to_owned(),
        // Locally administered, and not that of the port.
        mac: Mac([(a ^ 0x20) | 2, b, c, d, e, f]),
        addresses: Vec::new(),
        mtu: mtus.min().unwrap_or(first.mtu),
        ..first.clone()
    };
    let addresses = port.loopback.iter().copied().map(IpNet::from).collect();
    let setup = Setup { addresses, ..setup_of(&port, LOOPBACK_TABLE) };
    (port, setup)
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
    /// Creates the interfaces of the ports that want one, that of the loopback if there is one, named `loopback`, and the thread that moves
    /// frames; none if no port wants one. `control` learns the addresses that others add to the interfaces.
    ///
    /// # Errors
    /// [`TapError`] with the port and the system's error if an interface or the thread cannot be created.
    pub fn start(
        ports: &[PortSetup],
        loopback: &str,
        rings: Vec<Rings>,
        control: ControlHandle,
    ) -> Result<Option<ExceptionPath>, TapError> {
        let with_tap = ports.iter().enumerate().filter(|(_, port)| port.exception_path);
        let of_loopback = with_tap.clone().find(|(_, port)| !port.loopback.is_empty());
        let mut wanted: Vec<_> = with_tap
            .map(|(index, port)| {
                let setup = setup_of(port, TABLE + index as u32);
                (index, Role::Port, name_of(&port.name), port.clone(), setup)
            })
            .collect();
        wanted.extend(of_loopback.map(|(index, first)| {
            let (port, setup) = loopback_of(first, ports);
            (index, Role::Loopback, loopback.to_owned(), port, setup)
        }));
        clear_leftovers(wanted.iter().map(|(.., setup)| setup));
        let Some((first, ..)) = wanted.first() else { return Ok(None) };
        let first = *first;
        let of_all = |name: &str, error| TapError { port_index: first, name: name.to_owned(), error };
        // Before the first interface is created, so that no event is missed.
        let watch = Watch::open().map_err(|error| of_all("rtnetlink", error))?;
        let mut all = Vec::new();
        for (port_index, role, name, port, setup) in wanted {
            tracing::info!("port {}: its TAP interface is {name}", port.name);
            let made = HostPort::create(port_index as u16, role, port, name.clone(), setup, Instant::now());
            all.push(made.map_err(|error| TapError { port_index, name, error })?);
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
            links_due: false,
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
    /// Notifications were lost, and the interfaces were not read since.
    links_due: bool,
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
                    .filter(|own| own.role() == Role::Port)
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
                // Answers to pings of an operator go to the control thread as well; the kernel ignores those that nobody there waits for.
                if probes::is_answer(frame.bytes())
                    && let Some(copy) = rings.long_frames.copy(frame.port, frame.from, frame.bytes())
                {
                    let _ = rings.host.push(copy);
                }
                if let Some(own) = self.all.iter().find(|own| own.receiver() == frame.port) {
                    own.write(frame.bytes_mut());
                }
            }
        }
    }

    /// Passes the frames of the interfaces to the first worker.
    fn take(&self, room: &mut [u8]) -> bool {
        let (mut busy, mut waiting) = (false, false);
        if let Some(out) = self.rings.first() {
            for own in &self.all {
                match from_kernel(own, out, room) {
                    Polled::Nothing => {}
                    Polled::Some => busy = true,
                    Polled::NoRoom => waiting = true,
                }
            }
        }
        if waiting && !busy {
            // Frames that wait would end a wait for frames at once.
            std::thread::sleep(PAUSE);
            return true;
        }
        busy
    }

    /// Follows what the kernel and an operator change of the interfaces.
    fn follow(&mut self, now: Instant) {
        let mut seen: HashMap<u32, Seen> = HashMap::new();
        let mut addresses = false;
        match self.watch.events() {
            Ok(events) => {
                for event in events {
                    match event {
                        Event::Link { index, up, mac, mtu } => {
                            seen.entry(index).or_default().link(up, mac.map(Mac), mtu)
                        }
                        Event::Deleted(index) => seen.entry(index).or_default().deleted = true,
                        Event::Addresses(index) => addresses |= self.all.iter().any(|own| own.is(index)),
                        Event::Lost => self.links_due = true,
                    }
                }
            }
            // Its messages are lost. An error that stays must not keep the thread busy.
            Err(error) => {
                tracing::debug!("rtnetlink: {error}");
                self.links_due |= now >= self.groups_at;
            }
        }
        let lost = self.links_due && self.catch_up(&mut seen);
        for own in &mut self.all {
            if let Some(seen) = own.tap().and_then(|tap| seen.remove(&tap.index())) {
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

    /// After lost notifications, replaces what they said by what the kernel has now. False if it cannot be read: the next turn tries again.
    fn catch_up(&mut self, seen: &mut HashMap<u32, Seen>) -> bool {
        let found = match watch::links() {
            Ok(found) => found,
            Err(error) => {
                tracing::debug!("rtnetlink: {error}");
                return false;
            }
        };
        tracing::info!("the kernel's notifications about interfaces were lost: reading their state again");
        self.links_due = false;
        *seen = self.all.iter().filter_map(|own| Some((own.tap()?.index(), Seen::not_found()))).collect();
        for link in found {
            if let Event::Link { index, up, mac, mtu } = link
                && let Some(own) = seen.get_mut(&index)
            {
                *own = Seen::found(up, mac.map(Mac), mtu);
            }
        }
        true
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
                            let (role, port_index) = (own.role(), usize::from(own.index()));
                            self.control.order(move |control| match role {
                                Role::Port => {
                                    control.set_kernel_addresses(port_index, others, Instant::now());
                                }
                                Role::Loopback => control.set_kernel_loopback(others, Instant::now()),
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
                let own = self.all.iter().find(|own| own.is(index) && own.role() == Role::Port)?;
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

/// What a read of an interface found.
enum Polled {
    Nothing,
    Some,
    /// Frames may wait, but workers are busy.
    NoRoom,
}

/// Forwards what the kernel sent out of an interface.
fn from_kernel(own: &HostPort, out: &Rings, room: &mut [u8]) -> Polled {
    let Some(tap) = own.tap() else { return Polled::Nothing };
    let share = rings::share_of_programs(own.index());
    for taken in 0..FRAMES {
        // While workers are busy, frames stay in the kernel, which applies its own backpressure.
        if !out.originate.has_room(share) || !out.long_frames.has_room(share) {
            return if taken == 0 { Polled::NoRoom } else { Polled::Some };
        }
        let Ok(Some(length)) = tap.read(room) else {
            return if taken == 0 { Polled::Nothing } else { Polled::Some };
        };
        let frame = room.get_mut(..length).unwrap_or_default();
        let sent = match proxy::answer(frame, own.port()) {
            Answer::Reply(mut reply) => {
                own.write(&mut reply);
                continue;
            }
            Answer::Ignore => continue,
            // There is no link.
            Answer::Wire if own.role() == Role::Loopback => continue,
            Answer::Wire => {
                own.to_wire(frame);
                if !proxy::keep_memberships(frame, own.port()) {
                    continue;
                }
                out.long_frames.copy(own.index(), share, frame)
            }
            Answer::Route => out.long_frames.copy(own.index(), share, frame).map(HostFrame::routed),
        };
        if let Some(frame) = sent {
            let _ = out.originate.push(frame);
        }
    }
    Polled::Some
}
