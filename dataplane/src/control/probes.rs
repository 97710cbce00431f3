//! `fibcast ping` and `traceroute`: echo requests of the router itself, routed by its own table like all that it sends, and their answers.
//!
//! A request carries an identifier of this process, so answers are told from those for programs behind TAP interfaces, and a sequence number of its
//! own. Where a port has a TAP interface, its thread passes answers on to here ([`is_answer`]); the kernel ignores replies that nobody waits for.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use fibcast_control::probe::ProbeRequest;
use fibcast_fib::VrfId;

use super::{Control, PortSetup};
use crate::packet::ipv6;
use crate::packet::probe::{self, Answer, Request};

/// Identifier of this process's requests.
static ID: LazyLock<u16> = LazyLock::new(|| RandomState::new().hash_one(1) as u16);

/// An answer with the time that it took.
pub type Heard = (Answer, Duration);

/// Requests without an answer.
#[derive(Debug, Default)]
pub struct Probes {
    waiting: HashMap<u16, Waiting>,
    next: u16,
}

#[derive(Debug)]
struct Waiting {
    since: Instant,
    /// Nobody waits any more.
    until: Instant,
    destination: IpAddr,
    to: Sender<Heard>,
}

/// A request that was sent.
#[derive(Debug)]
pub struct Sent {
    /// Its source.
    pub source: IpAddr,
    /// Name of the port that the table chooses, if there is one next hop, whose MAC address is known already.
    pub port: Option<String>,
    /// Its answer.
    pub heard: Receiver<Heard>,
}

/// Whether a frame answers a request of this process.
pub fn is_answer(frame: &[u8]) -> bool {
    probe::answer(frame).is_some_and(|answer| answer.id == *ID)
}

impl Probes {
    /// Whether an answer may come any moment: the control thread looks more often then.
    pub fn is_waiting(&self, now: Instant) -> bool {
        self.waiting.values().any(|waiting| now < waiting.until)
    }

    /// Takes the answer to a request.
    pub fn hear(&mut self, frame: &[u8], now: Instant) {
        if self.waiting.is_empty() {
            return;
        }
        let Some(answer) = probe::answer(frame).filter(|answer| answer.id == *ID) else { return };
        let Some(waiting) = self.waiting.get(&answer.sequence) else { return };
        // A reply comes from whom it was sent to; errors come from anyone on the way.
        if answer.outcome == probe::Outcome::Reply && answer.from != waiting.destination {
            return;
        }
        if let Some(waiting) = self.waiting.remove(&answer.sequence) {
            let _ = waiting.to.try_send((answer, now.saturating_duration_since(waiting.since)));
        }
    }

    fn begin(&mut self, destination: IpAddr, now: Instant, wait: Duration) -> (u16, Receiver<Heard>) {
        self.waiting.retain(|_, waiting| now < waiting.until);
        self.next = self.next.wrapping_add(1);
        let (to, heard) = bounded(1);
        self.waiting.insert(self.next, Waiting { since: now, until: now + wait, destination, to });
        (self.next, heard)
    }
}

impl Control {
    /// Sends an echo request out of the port that the table chooses. `seed` is that of the flow hash.
    ///
    /// # Errors
    /// The text for the operator: there is no route, or the source is none of the router's own addresses.
    pub fn probe(&mut self, wanted: &ProbeRequest, seed: u64, now: Instant) -> Result<Sent, String> {
        let vrf = VrfId(wanted.vrf);
        let at = self.ports.iter().position(|port| port.vrf == vrf);
        let at = at.ok_or_else(|| format!("vrf: expected that of a port, found {}", wanted.vrf))?;
        // Without a source: to a trace, one's own address is that of a packet that must not come in.
        let way = self.trace(vrf, wanted.address, None, seed);
        match way.outcome.strip_prefix("dropped: ") {
            _ if way.outcome == "host" => {
                return Err(format!("{} is an address of this router itself", wanted.address));
            }
            Some(reason) => return Err(format!("{} is not sent to: {reason}", wanted.address)),
            None => {}
        }
        let out = way.port.as_ref().and_then(|name| self.ports.iter().find(|port| port.name == *name));
        let source = match wanted.source {
            Some(source) => self.own_source(vrf, source, wanted.address)?,
            None => self.source(vrf, out, wanted.address, way.next_hop.as_deref())?,
        };
        let wait = Duration::from_millis(wanted.timeout_ms.into());
        let (sequence, heard) = self.probes.begin(wanted.address, now, wait);
        let (destination, ttl, size) = (wanted.address, wanted.ttl, wanted.size);
        let request = Request { source, destination, ttl, id: *ID, sequence, size };
        let frame = probe::request(&request);
        let frame =
            frame.and_then(|frame| self.rings.first()?.long_frames.copy(at as u16, at as u16, &frame));
        let frame = frame.ok_or("size: expected one that fits the MTU of the ports")?;
        let given = self.rings.first().is_some_and(|rings| rings.originate.push(frame.routed()).is_ok());
        if !given {
            return Err("too many packets of this router wait to be sent; try again".to_owned());
        }
        // Among several next hops the worker's flow hash decides.
        let port = way.port.filter(|_| way.via.len() <= 1);
        Ok(Sent { source, port, heard })
    }

    /// A source that the operator names.
    fn own_source(&self, vrf: VrfId, source: IpAddr, destination: IpAddr) -> Result<IpAddr, String> {
        let owned = self.ports.iter().any(|port| port.vrf == vrf && port.owns(source));
        if owned && source.is_ipv4() == destination.is_ipv4() {
            return Ok(source);
        }
        let family = if destination.is_ipv4() { "IPv4" } else { "IPv6" };
        Err(format!("source: expected an {family} address of this router in vrf {}, found {source}", vrf.0))
    }

    /// The address on the link of the next hop, then any of the port, of the loopback, of another port of the VRF; for IPv6 link-local ones last, unless
    /// the destination is on a link as well (RFC 6724 §5, rule 2).
    fn source(
        &self,
        vrf: VrfId,
        out: Option<&PortSetup>,
        destination: IpAddr,
        next_hop: Option<&str>,
    ) -> Result<IpAddr, String> {
        let target = next_hop.and_then(|text| text.parse().ok()).unwrap_or(destination);
        let fits = |own: &IpAddr| {
            own.is_ipv4() == destination.is_ipv4()
                && !own.is_unspecified()
                && ipv6::is_link_local_v6(*own) == ipv6::is_link_local_v6(destination)
        };
        let on_link =
            out.map(|port| port.source_for(target)).filter(|_| target.is_ipv4() == destination.is_ipv4());
        let of_vrf = self.ports.iter().filter(|port| port.vrf == vrf);
        let all = out.into_iter().chain(of_vrf).flat_map(|port| {
            port.addresses.iter().map(|own| own.addr()).chain(port.loopback.iter().copied())
        });
        let last = out.map(|port| IpAddr::V6(port.mac.link_local())).filter(|_| destination.is_ipv6());
        on_link
            .into_iter()
            .chain(all)
            .find(fits)
            .or(last)
            .ok_or_else(|| format!("no address of this router in vrf {} can be the source; name one", vrf.0))
    }
}
