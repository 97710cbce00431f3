//! The host path: each port that asks for it has a TAP twin in the kernel, with its MAC address and its IP addresses.
//!
//! What workers receive for the router itself goes to the twin, so that ssh, ping and routing daemons on the host work. What the kernel sends
//! out of a twin goes the way the router's table says, like the router's own packets: the kernel needs no route and no neighbour of its own.
//! So each of its questions for a MAC address is answered on the spot ([`proxy`]), and none goes to the wire. Groups of the link (routing
//! protocols) leave by the port as they are.

pub mod proxy;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use tap::Tap;
use tap::setup::{self, Setup};

use crate::control::PortSetup;
use crate::pipeline::output::{HOST_FRAME, HostFrame, Rings};
use proxy::Answer;

/// Longest wait before the workers' rings are looked at; what it adds to an answer.
const PAUSE: Duration = Duration::from_millis(1);
/// Frames of one twin in one go, so that the others get their turn.
const FRAMES: usize = 64;
/// The kernel's table for what the host sends from the ports' addresses; beside fibcast's well-known port, for want of a better number.
const TABLE: u32 = 7_830;

/// A port and its twin.
#[derive(Debug)]
struct Twin {
    port: PortSetup,
    place: u16,
    tap: Tap,
    setup: Setup,
}

/// The twins at work; dropping it takes them away.
#[derive(Debug)]
pub struct HostPath {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// Why a twin cannot be made.
#[derive(Debug, thiserror::Error)]
#[error("interface {name}: {error}")]
pub struct TwinError {
    /// Place of the port.
    pub place: usize,
    /// Name of the interface.
    pub name: String,
    /// What the system said.
    pub error: io::Error,
}

/// What the kernel calls the twin of a port.
pub fn name_of(port: &str) -> String {
    format!("fc-{port}").chars().take(tap::MAX_NAME).collect()
}

impl HostPath {
    /// Makes the twins of the ports that ask for one, and the thread that carries frames; none where no port does.
    pub fn start(ports: &[PortSetup], rings: Vec<Rings>) -> Result<Option<HostPath>, TwinError> {
        let mut twins = Vec::new();
        for (place, port) in ports.iter().enumerate().filter(|(_, port)| port.host_path) {
            let name = name_of(&port.name);
            let failed = |error| TwinError { place, name: name.clone(), error };
            let tap = Tap::open(&name).map_err(failed)?;
            let setup = Setup {
                mac: port.mac.0,
                // A frame must fit into the rings.
                mtu: port.mtu.min(HOST_FRAME as u16 - 14),
                addresses: port.addresses.clone(),
                // One for each VRF: addresses may be the same in two of them.
                table: TABLE + port.vrf.0,
            };
            setup::apply(&tap, &setup).map_err(failed)?;
            tracing::info!("port {}: its twin in the kernel is {name}", port.name);
            twins.push(Twin { port: port.clone(), place: place as u16, tap, setup });
        }
        if twins.is_empty() {
            return Ok(None);
        }
        let stop = Arc::new(AtomicBool::new(false));
        let thread = std::thread::Builder::new().name("host-path".into()).spawn({
            let stop = stop.clone();
            move || run(&twins, &rings, &stop)
        });
        let thread = thread.map_err(|error| TwinError { place: 0, name: "host-path".to_owned(), error })?;
        Ok(Some(HostPath { stop, thread: Some(thread) }))
    }
}

impl Drop for HostPath {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the host path's thread had ended by a defect");
        }
    }
}

fn run(twins: &[Twin], rings: &[Rings], stop: &AtomicBool) {
    let mut room = [0; HOST_FRAME];
    while !stop.load(Ordering::Acquire) {
        for rings in rings {
            for _ in 0..rings.kernel.len() {
                let Some(frame) = rings.kernel.pop() else { break };
                if let Some(twin) = twins.iter().find(|twin| twin.place == frame.port) {
                    // An interface that somebody took down takes nothing, and says so to whoever asks it.
                    let _ = twin.tap.write(frame.bytes());
                }
            }
        }
        let mut busy = false;
        if let Some(out) = rings.first() {
            for twin in twins {
                busy |= from_kernel(twin, out, &mut room);
            }
        }
        if !busy {
            tap::wait(twins.iter().map(|twin| &twin.tap), PAUSE);
        }
    }
    for twin in twins {
        let _ = setup::take_back(&twin.setup);
    }
}

/// Carries what the kernel sent out of a twin.
fn from_kernel(twin: &Twin, out: &Rings, room: &mut [u8]) -> bool {
    for taken in 0..FRAMES {
        // While workers are behind, frames wait in the kernel, which knows how to slow down.
        if out.originate.is_full() {
            return false;
        }
        let Ok(Some(length)) = twin.tap.read(room) else { return taken != 0 };
        let frame = room.get(..length).unwrap_or_default();
        let sent = match proxy::answer(frame, &twin.port) {
            Answer::Reply(reply) => {
                let _ = twin.tap.write(&reply);
                continue;
            }
            Answer::Ignore => continue,
            Answer::Wire => HostFrame::new(twin.place, frame),
            Answer::Route => HostFrame::routed(twin.place, frame),
        };
        if let Some(frame) = sent {
            let _ = out.originate.push(frame);
        }
    }
    true
}
