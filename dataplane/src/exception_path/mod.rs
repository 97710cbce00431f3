//! The exception path to the kernel: a TAP interface for each port that wants one, with the port's MAC and IP addresses.
//!
//! Packets for the router itself go to the TAP interface, so ssh, ping and routing daemons on the host work. What the kernel sends out of
//! it is routed by the router's own table, like the router's own packets: the kernel needs no routes and no neighbors. So its ARP and ND
//! requests are answered locally ([`proxy`]) and never reach the wire. Link-local multicast (routing protocols) leaves by the port
//! unchanged. An interface has a carrier while its port has link, so a routing daemon sees a pulled cable. [`tap_mac`] handles a changed
//! MAC address of an interface.

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
use ipnet::IpNet;
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

/// Longest pause between two polls of the workers' rings; adds to the delay of an answer.
const PAUSE: Duration = Duration::from_millis(1);
/// Most frames of one interface in a row, so that the others get their turn.
const FRAMES: usize = 64;
/// Kernel routing table for what the host sends from the ports' addresses. An arbitrary number next to fibcast's port number.
const TABLE: u32 = 7_830;
/// One table for each VRF, since two VRFs may use the same addresses.
const TABLES: Range<u32> = TABLE..TABLE + MAX_VRFS;
/// Prefix of the interface names.
const PREFIX: &str = "fc-";

/// A port and its TAP interface.
#[derive(Debug)]
struct HostPort {
    port: PortSetup,
    index: u16,
    tap: Tap,
    setup: Setup,
    mac: TapMac,
    /// The carrier as last set.
    carrier: bool,
}

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
    // The loopback is on each of them: whichever port its packets arrive on, the kernel has the address there.
    let loopback = port.loopback.iter().copied().map(IpNet::from);
    let addresses = port.addresses.iter().copied().chain(loopback).collect();
    Setup { mac: port.mac.0, mtu: port.mtu, addresses, table: TABLE + port.vrf.0 }
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
    /// Creates the interfaces of the ports that want one, and the thread that moves frames; none if no port does.
    ///
    /// # Errors
    /// [`TapError`] with the port and the system's error if an interface or the thread cannot be created.
    pub fn start(ports: &[PortSetup], rings: Vec<Rings>) -> Result<Option<ExceptionPath>, TapError> {
        let wanted = ports.iter().enumerate().filter(|(_, port)| port.exception_path);
        let wanted: Vec<(usize, &PortSetup, Setup)> =
            wanted.map(|(port_index, port)| (port_index, port, setup_of(port))).collect();
        clear_leftovers(wanted.iter().map(|(_, _, setup)| setup));
        let Some(&(first, ..)) = wanted.first() else { return Ok(None) };
        let of_all = |name: &str, error| TapError { port_index: first, name: name.to_owned(), error };
        // Before the first interface is created, so that no event is missed.
        let links = Links::open().map_err(|error| of_all("rtnetlink", error))?;
        let mut all = Vec::new();
        for (port_index, port, setup) in wanted {
            let name = name_of(&port.name);
            let failed = |error| TapError { port_index, name: name.clone(), error };
            let tap = Tap::open(&name).map_err(failed)?;
            setup::apply(&tap, &setup).map_err(failed)?;
            let mac = TapMac::new(port.mac, Instant::now());
            tracing::info!("port {}: its TAP interface is {name}", port.name);
            all.push(HostPort {
                port: port.clone(),
                index: port_index as u16,
                tap,
                setup,
                mac,
                carrier: true,
            });
        }
        let stop = Arc::new(AtomicBool::new(false));
        let thread = std::thread::Builder::new().name("exception-path".into()).spawn({
            let stop = stop.clone();
            move || run(all, links, &rings, &stop)
        });
        let thread = thread.map_err(|error| of_all("exception-path", error))?;
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
                    // An interface that is administratively down refuses frames, and its users see why.
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

/// Follows changes of the interfaces' MAC addresses.
fn follow(all: &mut [HostPort], links: &mut Links) {
    // Only the latest matters: the first read includes the events of the creation.
    let mut reported = HashMap::new();
    // An error means that the interface is gone; there is nothing to follow then.
    let _ = links.look(all.iter().map(|own| &own.tap), |index, mac| {
        reported.insert(index, Mac(mac));
    });
    for (index, mac) in reported {
        if let Some(own) = all.iter_mut().find(|own| own.tap.index() == index)
            && let Some(change) = own.mac.reported(mac, Instant::now())
        {
            changed(&own.tap, &own.port, change);
        }
    }
}

fn changed(tap: &Tap, port: &PortSetup, change: Change) {
    let name = tap.name();
    match change {
        Change::Follow => {
            tracing::info!("interface {name} has a new MAC address; frames of port {} use it", port.name)
        }
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

/// Forwards what the kernel sent out of an interface.
fn from_kernel(own: &HostPort, out: &Rings, room: &mut [u8]) -> bool {
    for taken in 0..FRAMES {
        // While workers are busy, frames stay in the kernel, which applies its own backpressure.
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
