//! A port and its TAP interface, through what the kernel and an operator do to it.
//!
//! Set down, an interface loses its IPv6 addresses and its routes: they are restored when it is set up again. Deleted, it is created again,
//! as the port's exception path has no other end. Addresses that somebody else adds are routed like configured ones.

use std::io;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use fibcast_fib::VrfId;
use ipnet::IpNet;
use tap::Tap;
use tap::setup::{self, Setup};

use super::tap_mac::{Change, TapMac};
use crate::control::PortSetup;
use crate::packet::ethernet::Mac;
use crate::packet::ipv6;
use crate::pipeline::delivery::LOOPBACK;

/// Pause before a deleted interface is created again, and between attempts.
const PAUSE: Duration = Duration::from_secs(1);

/// What notifications said about an interface since the last time.
#[derive(Debug, Clone, Copy, Default)]
pub struct Seen {
    /// Its last state and whether it was down in between; `None`: not reported.
    up: Option<bool>,
    was_down: bool,
    mac: Option<Mac>,
    mtu: Option<u32>,
    /// It was deleted, or left its namespace.
    pub deleted: bool,
}

impl Seen {
    /// A notification about its state.
    pub fn link(&mut self, up: bool, mac: Option<Mac>, mtu: Option<u32>) {
        self.up = Some(up);
        self.was_down |= !up;
        self.mac = mac.or(self.mac);
        self.mtu = mtu.or(self.mtu);
    }

    /// After lost notifications: the interface is deleted, unless [`found`](Self::found) follows.
    pub fn not_found() -> Seen {
        Seen { deleted: true, ..Seen::default() }
    }

    /// After lost notifications: its state now. It may have been down meanwhile.
    pub fn found(up: bool, mac: Option<Mac>, mtu: Option<u32>) -> Seen {
        Seen { up: Some(up), was_down: true, mac, mtu, deleted: false }
    }
}

/// What an interface is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The host's end of a port.
    Port,
    /// The addresses of the router that are on no link.
    Loopback,
}

/// A port and its TAP interface; or the loopback, which is routed like what the port with this index sends.
#[derive(Debug)]
pub struct HostPort {
    index: u16,
    role: Role,
    port: PortSetup,
    name: String,
    setup: Setup,
    /// `None` while it is deleted.
    tap: Option<Tap>,
    mac: TapMac,
    /// The carrier as last set.
    carrier: bool,
    up: bool,
    /// Addresses that the kernel has besides the configured ones.
    others: Vec<IpNet>,
    /// When a deleted interface is created again.
    again_at: Instant,
    /// The last attempt failed.
    failed: bool,
}

impl HostPort {
    /// Creates and configures the interface of the port with this index.
    ///
    /// # Errors
    /// The system's error.
    pub fn create(
        index: u16,
        role: Role,
        port: PortSetup,
        name: String,
        setup: Setup,
        now: Instant,
    ) -> io::Result<HostPort> {
        let tap = Tap::open(&name)?;
        setup::apply(&tap, &setup)?;
        let mac = TapMac::new(port.mac, now);
        Ok(HostPort {
            index,
            role,
            port,
            name,
            setup,
            tap: Some(tap),
            mac,
            carrier: true,
            up: true,
            others: Vec::new(),
            again_at: now,
            failed: false,
        })
    }

    /// Index of the port.
    pub fn index(&self) -> u16 {
        self.index
    }

    /// What the interface is for.
    pub fn role(&self) -> Role {
        self.role
    }

    /// How workers name this interface.
    pub fn receiver(&self) -> u16 {
        match self.role {
            Role::Port => self.index,
            Role::Loopback => LOOPBACK,
        }
    }

    /// The port.
    pub fn port(&self) -> &PortSetup {
        &self.port
    }

    /// The interface, unless it is deleted.
    pub fn tap(&self) -> Option<&Tap> {
        self.tap.as_ref()
    }

    /// Whether the interface has this index.
    pub fn is(&self, index: u32) -> bool {
        self.tap.as_ref().is_some_and(|tap| tap.index() == index)
    }

    /// The carrier follows the link of the port.
    pub fn follow_link(&mut self, up: bool) {
        let Some(tap) = self.tap.as_ref().filter(|_| self.carrier != up) else { return };
        self.carrier = up;
        if let Err(error) = tap.set_carrier(up) {
            tracing::warn!("interface {}: cannot switch its carrier: {error}", self.name);
        }
    }

    /// Passes a frame to the kernel.
    pub fn write(&self, frame: &mut [u8]) {
        self.mac.to_kernel(frame);
        if let Some(tap) = &self.tap {
            // An interface that is administratively down refuses frames, and its users see why.
            let _ = tap.write(frame);
        }
    }

    /// Adapts a frame of the kernel that leaves by the port unchanged otherwise.
    pub fn to_wire(&self, frame: &mut [u8]) {
        self.mac.to_wire(frame);
    }

    /// Follows notifications; returns whether its addresses may have changed.
    pub fn changed(&mut self, seen: &Seen, now: Instant) -> bool {
        let Some(tap) = &self.tap else { return false };
        if seen.deleted && tap.is_deleted() {
            tracing::warn!("interface {} was deleted; it is created again", self.name);
            self.tap = None;
            self.again_at = now + PAUSE;
            return true;
        }
        if let Some(mac) = seen.mac
            && let Some(change) = self.mac.reported(mac, now)
        {
            changed(tap, &self.port, change);
        }
        // What the kernel would send then does not fit into the frames of the port.
        if seen.mtu.is_some_and(|mtu| mtu > u32::from(self.port.mtu)) {
            tracing::warn!(
                "interface {}: its MTU is set to {}, that of port {}",
                self.name,
                self.port.mtu,
                self.port.name
            );
            if let Err(error) = setup::set_mtu(tap, self.port.mtu) {
                tracing::warn!("interface {}: cannot set its MTU: {error}", self.name);
            }
        }
        let Some(up) = seen.up else { return false };
        let restore = up && (seen.was_down || !self.up);
        if std::mem::replace(&mut self.up, up) != up {
            tracing::warn!("interface {} is set {}", self.name, if up { "up" } else { "down" });
        }
        if restore {
            self.restore();
        }
        restore
    }

    /// Adds what vanished while the interface was down.
    fn restore(&self) {
        let Some(tap) = &self.tap else { return };
        if let Err(error) = setup::restore(tap, &self.setup) {
            tracing::warn!("interface {}: cannot restore its addresses and routes: {error}", self.name);
        }
        self.others.iter().for_each(|other| self.add_source(other.addr()));
    }

    fn add_source(&self, address: IpAddr) {
        if let Some(tap) = self.tap.as_ref().filter(|_| !ipv6::is_link_local_v6(address))
            && let Err(error) = setup::add_source(tap, address, self.setup.table)
        {
            tracing::warn!("interface {}: cannot route what is sent from {address}: {error}", self.name);
        }
    }

    fn remove_source(&self, address: IpAddr) {
        if !ipv6::is_link_local_v6(address)
            && let Err(error) = setup::remove_source(address, self.setup.table)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!("interface {}: cannot remove the rule (ip rule) of {address}: {error}", self.name);
        }
    }

    /// Creates a deleted interface again when it is time; returns whether it did.
    pub fn create_again(&mut self, now: Instant) -> bool {
        if self.tap.is_some() || now < self.again_at {
            return false;
        }
        self.again_at = now + PAUSE;
        match Tap::open(&self.name).and_then(|tap| setup::apply(&tap, &self.setup).map(|()| tap)) {
            Ok(tap) => {
                tracing::info!("interface {} of port {} is there again", self.name, self.port.name);
                self.mac = TapMac::new(self.port.mac, now);
                (self.tap, self.carrier, self.up, self.failed) = (Some(tap), true, true, false);
                true
            }
            Err(error) => {
                if !std::mem::replace(&mut self.failed, true) {
                    tracing::error!(
                        "interface {}: cannot create it again: {error}; port {} has no exception path until it can",
                        self.name,
                        self.port.name
                    );
                }
                false
            }
        }
    }

    /// Takes the addresses that the kernel has on all interfaces; returns those of this one besides the configured ones if they changed.
    pub fn addresses_changed(&mut self, all: &[(u32, IpNet)]) -> Option<Vec<IpNet>> {
        let configured = |address: &IpNet| {
            self.port.addresses.iter().any(|own| own.addr() == address.addr())
                || self.port.loopback.contains(&address.addr())
        };
        let own = all.iter().filter(|(index, _)| self.is(*index)).map(|(_, address)| *address);
        let mut others: Vec<IpNet> = own.filter(|address| !configured(address)).collect();
        others.sort();
        if others == self.others {
            return None;
        }
        let before = std::mem::replace(&mut self.others, others.clone());
        let has = |list: &[IpNet], address: IpAddr| list.iter().any(|other| other.addr() == address);
        for gone in before.iter().filter(|gone| !has(&others, gone.addr())) {
            self.remove_source(gone.addr());
        }
        for new in others.iter().filter(|new| !has(&before, new.addr())) {
            self.add_source(new.addr());
        }
        Some(others)
    }

    /// The addresses that the kernel has besides the configured ones, with VRF and receiver, as far as they identify the port.
    pub fn other_addresses(&self) -> impl Iterator<Item = ((VrfId, IpAddr), u16)> {
        let addresses =
            self.others.iter().map(IpNet::addr).filter(|address| !ipv6::is_link_local_v6(*address));
        addresses.map(|address| ((self.port.vrf, address), self.receiver()))
    }

    /// Removes what does not disappear with the interface.
    pub fn take_back(&self) {
        let _ = setup::take_back(&self.setup);
        self.others.iter().for_each(|other| self.remove_source(other.addr()));
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
