//! The exception path: each port that asks for it has a TAP interface in the kernel, with its MAC address and its IP addresses.
//!
//! What workers receive for the router itself goes to the TAP interface, so that ssh, ping and routing daemons on the host work. What the
//! kernel sends out of it goes the way the router's table says, like the router's own packets: the kernel needs no route and no neighbor of
//! its own. So each of its questions for a MAC address is answered on the spot ([`proxy`]), and none goes to the wire. Groups of the link
//! (routing protocols) leave by the port as they are. An interface has a carrier while the port has a link, so that a routing daemon sees a
//! cable that was pulled. [`tap_mac`] says what happens where somebody changes an interface's MAC address.

pub mod proxy;
pub mod tap_mac;

use std::collections::HashMap;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use fibcast_fib::PortId;
use tap::Tap;
use tap::setup::{self, Setup};
use tap::watch::Links;

use crate::config::MAX_VRFS;
use crate::control::PortSetup;
use crate::packet::ethernet;
use crate::packet::ethernet::Mac;
use crate::pipeline::host_frame::HostFrame;
use crate::pipeline::output::Rings;
use proxy::Answer;
use tap_mac::{Change, TapMac};

/// Longest wait before the workers' rings are looked at; what it adds to an answer.
const PAUSE: Duration = Duration::from_millis(1);
/// Frames of one interface in one go, so that the others get their turn.
const FRAMES: usize = 64;
/// The kernel's table for what the host sends from the ports' addresses; beside fibcast's well-known port, for want of a better number.
const TABLE: u32 = 7_830;
/// One table for each VRF: addresses may be the same in two of them.
const TABLES: Range<u32> = TABLE..TABLE + MAX_VRFS;
/// How the names of interfaces begin.
const PREFIX: &str = "fc-";

/// A port and its TAP interface.
#[derive(Debug)]
struct HostPort {
    port: PortSetup,
    index: u16,
    tap: Tap,
    setup: Setup,
    mac: TapMac,
    /// As it was set last.
    carrier: bool,
}

/// The interfaces at work; dropping it takes them away.
#[derive(Debug)]
pub struct HostPath {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// Why an interface cannot be made.
#[derive(Debug, thiserror::Error)]
#[error("interface {name}: {error}{}", advice(error))]
pub struct TapError {
    /// Index of the port.
    pub place: usize,
    /// Name of the interface.
    pub name: String,
    /// What the system said.
    pub error: io::Error,
}

/// What mends it, where that is known.
fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound => "; /dev/net/tun is missing: modprobe tun",
        io::ErrorKind::PermissionDenied => {
            "; run as root or with CAP_NET_ADMIN, as the systemd unit does, or set host_path = false"
        }
        io::ErrorKind::ResourceBusy => {
            "; another process has an interface of this name: ip -d link show; name the port otherwise"
        }
        _ => "",
    }
}

/// What the kernel calls the TAP interface of a port.
pub fn name_of(port: &str) -> String {
    format!("{PREFIX}{port}").chars().take(tap::MAX_NAME).collect()
}

impl HostPort {
    fn follow_link(&mut self, up: bool) {
        if self.carrier == up {
            return;
        }
        self.carrier = up;
        if let Err(error) = self.tap.set_carrier(up) {
            tracing::warn!("interface {}: cannot switch its carrier: {error}", self.tap.name());
        }
    }
}

fn setup_of(port: &PortSetup) -> Setup {
    Setup { mac: port.mac.0, mtu: port.mtu, addresses: port.addresses.clone(), table: TABLE + port.vrf.0 }
}

/// Removes what a process left that was killed. Without the rights for it nothing was left by a process of this user either.
fn clear_leftovers<'a>(wanted: impl Iterator<Item = &'a Setup>) {
    let wanted: Vec<&Setup> = wanted.collect();
    match tap::rules::clear(&TABLES, PREFIX, &wanted) {
        Ok(0) => {}
        Ok(count) => tracing::info!("removed {count} policy rules that an earlier run left (ip rule)"),
        Err(error) => {
            tracing::warn!("cannot remove policy rules that an earlier run left (ip rule): {error}")
        }
    }
}

impl HostPath {
    /// Makes the interfaces of the ports that ask for one, and the thread that carries frames; none where no port does.
    pub fn start(ports: &[PortSetup], rings: Vec<Rings>) -> Result<Option<HostPath>, TapError> {
        let wanted = ports.iter().enumerate().filter(|(_, port)| port.host_path);
        let wanted: Vec<(usize, &PortSetup, Setup)> =
            wanted.map(|(place, port)| (place, port, setup_of(port))).collect();
        clear_leftovers(wanted.iter().map(|(_, _, setup)| setup));
        let Some(&(first, ..)) = wanted.first() else { return Ok(None) };
        let of_all = |name: &str, error| TapError { place: first, name: name.to_owned(), error };
        // Before the first interface is made, so that nothing is missed.
        let links = Links::open().map_err(|error| of_all("rtnetlink", error))?;
        let mut all = Vec::new();
        for (place, port, setup) in wanted {
            let name = name_of(&port.name);
            let failed = |error| TapError { place, name: name.clone(), error };
            let tap = Tap::open(&name).map_err(failed)?;
            setup::apply(&tap, &setup).map_err(failed)?;
            let mac = TapMac::new(port.mac, Instant::now());
            tracing::info!("port {}: its TAP interface is {name}", port.name);
            all.push(HostPort { port: port.clone(), index: place as u16, tap, setup, mac, carrier: true });
        }
        let stop = Arc::new(AtomicBool::new(false));
        let thread = std::thread::Builder::new().name("host-path".into()).spawn({
            let stop = stop.clone();
            move || run(all, links, &rings, &stop)
        });
        let thread = thread.map_err(|error| of_all("host-path", error))?;
        Ok(Some(HostPath { stop, thread: Some(thread) }))
    }
}

impl Drop for HostPath {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the host path's thread had panicked");
        }
    }
}

fn run(mut all: Vec<HostPort>, mut links: Links, rings: &[Rings], stop: &AtomicBool) {
    let longest = all.iter().map(|own| usize::from(own.port.mtu)).max().unwrap_or_default();
    let mut room = vec![0; longest + ethernet::HEADER];
    while !stop.load(Ordering::Acquire) {
        follow(&mut all, &mut links);
        if let Some(rings) = rings.first() {
            all.iter_mut().for_each(|own| own.follow_link(!rings.links.is_down(PortId(own.index))));
        }
        for rings in rings {
            for _ in 0..rings.kernel.len() {
                let Some(mut frame) = rings.kernel.pop() else { break };
                if let Some(own) = all.iter().find(|own| own.index == frame.port) {
                    own.mac.to_kernel(frame.bytes_mut());
                    // An interface that somebody took down takes nothing, and says so to whoever asks it.
                    let _ = own.tap.write(frame.bytes());
                }
            }
        }
        let mut busy = false;
        if let Some(out) = rings.first() {
            for own in &all {
                busy |= from_kernel(own, out, &mut room);
            }
        }
        if !busy {
            tap::wait(all.iter().map(|own| &own.tap), PAUSE);
        }
    }
    for own in &all {
        let _ = setup::take_back(&own.setup);
    }
}

/// Takes over the MAC addresses that the kernel tells of.
fn follow(all: &mut [HostPort], links: &mut Links) {
    // The newest counts: the first look finds all that led to what an interface was made with.
    let mut told = HashMap::new();
    // An error is that of an interface that is gone; there is nothing to follow then.
    let _ = links.look(all.iter().map(|own| &own.tap), |index, mac| {
        told.insert(index, Mac(mac));
    });
    for (index, mac) in told {
        if let Some(own) = all.iter_mut().find(|own| own.tap.index() == index)
            && let Some(change) = own.mac.told(mac, Instant::now())
        {
            changed(&own.tap, &own.port, change);
        }
    }
}

fn changed(tap: &Tap, port: &PortSetup, change: Change) {
    let name = tap.name();
    match change {
        Change::Follow => tracing::info!(
            "interface {name} has another MAC address now: frames of port {} follow",
            port.name
        ),
        Change::SetAgain => {
            tracing::warn!(
                "interface {name}: its MAC address was changed right after the start, and is set to {} again; udev does not do that \
                 where /etc/systemd/network has 10-fibcast-tap.link",
                port.mac
            );
            if let Err(error) = setup::set_mac(tap, port.mac.0) {
                tracing::warn!("interface {name}: cannot set its MAC address: {error}");
            }
        }
    }
}

/// Carries what the kernel sent out of an interface.
fn from_kernel(own: &HostPort, out: &Rings, room: &mut [u8]) -> bool {
    for taken in 0..FRAMES {
        // While workers are behind, frames wait in the kernel, which knows how to slow down.
        if out.originate.is_full() || !out.long_frames.has_room() {
            return false;
        }
        let Ok(Some(length)) = own.tap.read(room) else { return taken != 0 };
        let frame = room.get_mut(..length).unwrap_or_default();
        let sent = match proxy::answer(frame, &own.port) {
            Answer::Reply(reply) => {
                let _ = own.tap.write(&reply);
                continue;
            }
            Answer::Ignore => continue,
            Answer::Wire => {
                own.mac.to_wire(frame);
                out.long_frames.copy(own.index, frame)
            }
            Answer::Route => out.long_frames.copy(own.index, frame).map(HostFrame::routed),
        };
        if let Some(frame) = sent {
            let _ = out.originate.push(frame);
        }
    }
    true
}
