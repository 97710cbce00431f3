//! Admission of connections: limits, and a log that a flood cannot fill.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

pub use fibcast_daemon::sections::Limits;

/// Counters of refused connections.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Refusals {
    /// Connections refused because of a limit.
    pub turned_away: u64,
    /// Failed or slow handshakes, and plain peers where TLS is required or the reverse.
    pub handshake: u64,
    /// Peers with a valid certificate that the allow lists do not permit.
    pub not_allowed: u64,
}

/// Counts accepted connections by address and registration.
#[derive(Debug)]
pub(super) struct Gate {
    pub limits: Limits,
    addresses: HashMap<IpAddr, usize>,
    open: usize,
    half_open: usize,
}

impl Gate {
    pub fn new(limits: Limits) -> Self {
        Self { limits, addresses: HashMap::new(), open: 0, half_open: 0 }
    }

    /// Admits a connection as half open, or returns the limit that it exceeds.
    pub fn enter(&mut self, address: IpAddr) -> Result<(), String> {
        let of_address = self.addresses.get(&address).copied().unwrap_or(0);
        let Limits { connections, per_address, half_open, .. } = self.limits;
        if self.open >= connections {
            return Err(format!("{connections} connections are open (limits.connections)"));
        }
        if self.half_open >= half_open {
            return Err(format!("{half_open} connections have not registered yet (limits.half_open)"));
        }
        if of_address >= per_address {
            return Err(format!("its address has {per_address} connections (limits.per_address)"));
        }
        self.open += 1;
        self.half_open += 1;
        self.addresses.insert(address, of_address + 1);
        Ok(())
    }

    /// The peer has registered.
    pub fn registered(&mut self) {
        self.half_open = self.half_open.saturating_sub(1);
    }

    /// The connection was closed.
    pub fn leave(&mut self, address: IpAddr, registered: bool) {
        self.open = self.open.saturating_sub(1);
        if !registered {
            self.half_open = self.half_open.saturating_sub(1);
        }
        match self.addresses.get_mut(&address) {
            Some(n) if *n > 1 => *n -= 1,
            _ => {
                self.addresses.remove(&address);
            }
        }
    }
}

/// Log lines per second.
const LINES: u32 = 10;

/// Passes the first lines of each second and counts the rest, so that strangers cannot fill a disk.
#[derive(Debug, Default)]
pub(super) struct Throttle {
    since: Duration,
    lines: u32,
    kept_back: u64,
}

impl Throttle {
    /// Whether a line may be written now, and the number of suppressed lines before it.
    pub fn line(&mut self, now: Duration) -> Option<u64> {
        if now >= self.since + Duration::from_secs(1) {
            self.since = now;
            self.lines = 0;
        }
        if self.lines >= LINES {
            self.kept_back += 1;
            return None;
        }
        self.lines += 1;
        Some(std::mem::take(&mut self.kept_back))
    }

    /// Logs a warning about a peer, or counts it.
    pub fn warn(&mut self, now: Duration, peer: &str, reason: &str) {
        match self.line(now) {
            Some(0) => tracing::warn!("{peer}: {reason}"),
            Some(n) => tracing::warn!("{peer}: {reason} ({n} similar lines suppressed)"),
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate() -> Gate {
        Gate::new(Limits { connections: 4, per_address: 2, half_open: 3, handshake_ms: 1000 })
    }

    fn address(n: u8) -> IpAddr {
        [127, 0, 0, n].into()
    }

    #[test]
    fn one_address_does_not_take_the_places_of_others() {
        let mut gate = gate();
        gate.enter(address(1)).unwrap();
        gate.enter(address(1)).unwrap();
        assert!(gate.enter(address(1)).unwrap_err().contains("limits.per_address"));
        gate.enter(address(2)).unwrap();
    }

    #[test]
    fn those_who_do_not_register_have_places_of_their_own() {
        let mut gate = gate();
        for n in 1..=3 {
            gate.enter(address(n)).unwrap();
        }
        assert!(gate.enter(address(4)).unwrap_err().contains("limits.half_open"));
        gate.registered();
        gate.enter(address(4)).unwrap();
        assert!(gate.enter(address(5)).unwrap_err().contains("limits.connections"));
        gate.leave(address(1), true);
        gate.leave(address(2), false);
        gate.enter(address(5)).unwrap();
    }

    #[test]
    fn a_flood_of_lines_is_counted_and_told_later() {
        let mut throttle = Throttle::default();
        let lines = (0..100).filter(|_| throttle.line(Duration::from_secs(5)).is_some()).count();
        assert_eq!(lines, LINES as usize);
        assert_eq!(throttle.line(Duration::from_secs(6)), Some(90));
    }
}
