//! Follows what the kernel and an operator change of the interfaces: state, MAC address, addresses, deletion.

use std::io;
use std::net::IpAddr;

use fibcast_netlink::{Address, Link, Received, Socket, group};
use ipnet::IpNet;

use crate::netlink::Kernel;

/// Receive buffer in bytes, for what the kernel reports between two reads.
const ROOM: usize = 256 * 1024;

/// A notification about an interface, ours or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// Its state, changed or not.
    Link {
        /// Interface index.
        index: u32,
        /// It is administratively up.
        up: bool,
        /// Its MAC address.
        mac: Option<[u8; 6]>,
        /// Its MTU.
        mtu: Option<u32>,
    },
    /// It was deleted, or left this network namespace or a bridge.
    Deleted(u32),
    /// An address of it is there, changed or gone.
    Addresses(u32),
    /// Notifications were lost: anything may have changed.
    Lost,
}

/// Notifications of the kernel, from the time of opening.
#[derive(Debug)]
pub struct Watch {
    socket: Socket,
}

impl Watch {
    /// Subscribes to notifications about links and addresses.
    ///
    /// # Errors
    /// The system's error.
    pub fn open() -> io::Result<Watch> {
        let socket = Socket::open(ROOM)?;
        socket.subscribe(group::LINK)?;
        socket.subscribe(group::IPV4_ADDRESS)?;
        // A kernel without IPv6 has no such group.
        let _ = socket.subscribe(group::IPV6_ADDRESS);
        Ok(Watch { socket })
    }

    /// The events since the last call, in their order. Does not block.
    ///
    /// # Errors
    /// The system's error.
    pub fn events(&mut self) -> io::Result<Vec<Event>> {
        let mut events = Vec::new();
        loop {
            match self.socket.receive()? {
                Received::Nothing => return Ok(events),
                Received::Lost => events.push(Event::Lost),
                Received::Messages(messages) => {
                    for message in messages.flatten() {
                        let link = || Link::read(&message).map(event);
                        let deleted = || Link::deleted(&message).map(Event::Deleted);
                        let addresses = || Address::changed(&message).map(Event::Addresses);
                        events.extend(link().or_else(deleted).or_else(addresses));
                    }
                }
            }
        }
    }
}

fn event(link: Link) -> Event {
    let Link { index, up, mac, mtu, .. } = link;
    Event::Link { index, up, mac, mtu }
}

/// The state of all interfaces, an [`Event::Link`] each: what to compare with after [`Event::Lost`].
///
/// # Errors
/// The system's error.
pub fn links() -> io::Result<Vec<Event>> {
    Kernel::open()?.dump(Link::dump, |message| Link::read(message).map(event))
}

/// The addresses in use on all interfaces, each with its interface index.
///
/// # Errors
/// The system's error.
pub fn addresses() -> io::Result<Vec<(u32, IpNet)>> {
    let found = Kernel::open()?.dump(Address::dump, Address::read_usable)?;
    Ok(found.into_iter().map(|found| (found.interface, found.address)).collect())
}

/// The multicast groups that the kernel is a member of on each interface. It reports their changes by no notification.
///
/// # Errors
/// The system's error: /proc is not mounted.
pub fn groups() -> io::Result<Vec<(u32, IpAddr)>> {
    // Those of this thread's network namespace.
    let mut groups = igmp(&std::fs::read_to_string("/proc/thread-self/net/igmp")?);
    // A kernel without IPv6 does not have this file.
    groups.extend(igmp6(&std::fs::read_to_string("/proc/thread-self/net/igmp6").unwrap_or_default()));
    Ok(groups)
}

/// Parses /proc/net/igmp: a line of each interface that begins with its index, then an indented line of each group, whose first word is the
/// address as a number in the machine's byte order.
fn igmp(text: &str) -> Vec<(u32, IpAddr)> {
    let (mut index, mut groups) = (None, Vec::new());
    for line in text.lines().skip(1) {
        let Some(first) = line.split_whitespace().next() else { continue };
        if !line.starts_with(char::is_whitespace) {
            index = first.parse().ok();
        } else if let (Some(index), Ok(bits)) = (index, u32::from_str_radix(first, 16)) {
            groups.push((index, IpAddr::from(bits.to_ne_bytes())));
        }
    }
    groups
}

/// Parses /proc/net/igmp6: in each line the index of an interface, its name, and the address of a group as 32 digits.
fn igmp6(text: &str) -> Vec<(u32, IpAddr)> {
    let group = |line: &str| {
        let mut words = line.split_whitespace();
        let (index, bits) = (words.next()?.parse().ok()?, u128::from_str_radix(words.nth(1)?, 16).ok()?);
        Some((index, IpAddr::from(bits.to_be_bytes())))
    };
    text.lines().filter_map(group).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn groups_are_read_from_proc() {
        let first = u32::from_ne_bytes([224, 0, 0, 1]);
        let second = u32::from_ne_bytes([239, 1, 2, 3]);
        let text = format!(
            "Idx\tDevice    : Count Querier\tGroup    Users Timer\tReporter\n1\tlo        :     1      V3\n\t\t\t\t{first:08X}     \
             1 0:00000000\t\t0\n7\tfc-p0     :     2      V3\n\t\t\t\t{second:08X}     1 0:00000000\t\t0\n"
        );
        assert_eq!(igmp(&text), [(1, [224, 0, 0, 1].into()), (7, [239, 1, 2, 3].into())]);
        let text = "7    fc-p0           ff0200000000000000000001ff000001     1 00000004 0\n";
        assert_eq!(igmp6(text), [(7, "ff02::1:ff00:1".parse().unwrap())]);
        assert_eq!((igmp(""), igmp6("x y z\n")), (Vec::new(), Vec::new()));
    }
}
