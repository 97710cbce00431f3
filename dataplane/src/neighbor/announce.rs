//! Announcements of the router's own addresses, and duplicate address detection.
//!
//! At the start and when a link comes up, other stations may have an older MAC address for an address of ours, and switches may send frames
//! to it elsewhere. IPv4 addresses are announced twice by ARP (RFC 5227 §2.3), IPv6 addresses up to three times by unsolicited
//! advertisements (RFC 4861 §7.2.6). Before that, an IPv6 address is probed once (RFC 4862 §5.4). It is used meanwhile (RFC 4429), and
//! afterwards even if another station has it: a router's addresses are configured, and to drop one would cut off all who use it. The
//! conflict is logged and counted, as for IPv4 (RFC 5227 §2.4).

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Interval between two ARP announcements (RFC 5227 §1.1, ANNOUNCE_INTERVAL), and their number (ANNOUNCE_NUM).
const ARP: (Duration, u8) = (Duration::from_secs(2), 2);
/// The same for advertisements (RFC 4861 §10, RETRANS_TIMER and MAX_NEIGHBOR_ADVERTISEMENT).
const ND: (Duration, u8) = (Duration::from_secs(1), 3);

/// What could not be sent is sent again after this time.
const AGAIN: Duration = Duration::from_millis(100);

/// A frame to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Announcement {
    /// A solicitation from no address: does another station have it?
    Probe,
    /// An ARP announcement or an unsolicited advertisement.
    Announce,
}

/// What is still to be sent, by time, port and address.
#[derive(Debug, Default)]
pub struct Announcer {
    due: BTreeMap<(Instant, u16, IpAddr), Next>,
}

#[derive(Debug, Clone, Copy)]
struct Next {
    send: Announcement,
    /// How many follow.
    left: u8,
}

impl Announcer {
    /// Announces an address from now on. What is pending for it is replaced.
    pub fn start(&mut self, port: u16, address: IpAddr, now: Instant) {
        self.stop(port, address);
        let next = match address {
            IpAddr::V4(_) => Next { send: Announcement::Announce, left: ARP.1 - 1 },
            IpAddr::V6(_) => Next { send: Announcement::Probe, left: ND.1 },
        };
        self.due.insert((now, port, address), next);
    }

    /// The address is no longer the router's.
    pub fn stop(&mut self, port: u16, address: IpAddr) {
        self.due.retain(|&(_, other, pending), _| (other, pending) != (port, address));
    }

    /// Another station claims an address: one more announcement, which corrects whoever believed it (RFC 5227 §2.4). The caller limits how
    /// often.
    pub fn defend(&mut self, port: u16, address: IpAddr, now: Instant) {
        let next = Next { send: Announcement::Announce, left: 0 };
        self.due.entry((now, port, address)).or_insert(next);
    }

    /// Passes what is due to `send`, at most `limit` frames: port, address and what to send. Where that returns false, it is passed again.
    pub fn poll(
        &mut self,
        now: Instant,
        limit: usize,
        mut send: impl FnMut(u16, IpAddr, Announcement) -> bool,
    ) {
        for _ in 0..limit {
            let Some(first) = self.due.first_entry().filter(|first| first.key().0 <= now) else { return };
            let ((_, port, address), next) = first.remove_entry();
            if !send(port, address, next.send) {
                self.due.insert((now + AGAIN, port, address), next);
                continue;
            }
            if let Some(left) = next.left.checked_sub(1) {
                let pause = if address.is_ipv4() { ARP.0 } else { ND.0 };
                let next = Next { send: Announcement::Announce, left };
                self.due.insert((now + pause, port, address), next);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(address: &str, seconds: u64) -> Vec<(u64, Announcement)> {
        let (begin, mut announcer, mut sent) = (Instant::now(), Announcer::default(), Vec::new());
        announcer.start(1, address.parse().unwrap(), begin);
        for second in 0..seconds {
            announcer.poll(begin + Duration::from_secs(second), 10, |_, _, what| {
                sent.push((second, what));
                true
            });
        }
        sent
    }

    #[test]
    fn an_ipv4_address_is_announced_twice() {
        assert_eq!(run("192.0.2.1", 20), [(0, Announcement::Announce), (2, Announcement::Announce)]);
    }

    #[test]
    fn an_ipv6_address_is_probed_and_then_announced_three_times() {
        let announced = [1, 2, 3].map(|second| (second, Announcement::Announce));
        assert_eq!(run("2001:db8::1", 20), [&[(0, Announcement::Probe)][..], &announced].concat());
    }

    #[test]
    fn a_link_that_comes_again_starts_over_and_the_limit_holds() {
        let (now, mut announcer) = (Instant::now(), Announcer::default());
        for _ in 0..3 {
            (0..100).for_each(|port| announcer.start(port, "192.0.2.1".parse().unwrap(), now));
        }
        let mut sent = 0;
        let mut send = |_, _, _| {
            sent += 1;
            true
        };
        announcer.poll(now, 64, &mut send);
        announcer.poll(now, 64, &mut send);
        assert_eq!(sent, 100);
    }

    #[test]
    fn what_finds_no_room_is_sent_later() {
        let (now, mut announcer) = (Instant::now(), Announcer::default());
        announcer.start(1, "192.0.2.1".parse().unwrap(), now);
        announcer.start(2, "192.0.2.1".parse().unwrap(), now);
        let mut sent = Vec::new();
        for (full, at) in [(true, now), (true, now + AGAIN), (false, now + 2 * AGAIN)] {
            announcer.poll(at, 64, |port, _, _| {
                let room = !full || port != 1;
                sent.extend(room.then_some(port));
                room
            });
        }
        assert_eq!(sent, [2, 1]);
    }
}
