//! Who owns a TCP socket of this host (`sock_diag(7)`, `linux/inet_diag.h`).

use std::io::{Error, ErrorKind, Result};
use std::net::{IpAddr, SocketAddr};

use netlink_sys::SocketAddr as NetlinkAddress;
use netlink_sys::protocols::NETLINK_SOCK_DIAG;
use rustix::io::Errno;

use crate::bytes::u32_at;
use crate::kind;
use crate::message::Messages;
use crate::writer::{Writer, flag};

/// `SOCK_DIAG_BY_FAMILY`.
const BY_FAMILY: u16 = 20;
/// `IPPROTO_TCP`.
const TCP: u8 = 6;
/// `TCP_ESTABLISHED` (`linux/tcp_states.h`).
const ESTABLISHED: u8 = 1;
/// Offsets in `inet_diag_msg`.
const STATE: usize = 1;
const UID: usize = 64;
const INODE: usize = 68;
/// An answer is one message of some hundred bytes.
const ROOM: usize = 4096;

/// Owner of the established TCP socket at `local` that is connected to `remote`, as a user id; none: no process of this network namespace
/// has it.
///
/// A socket that its process has closed is nobody's: the kernel reports it as root's.
///
/// # Errors
/// The system's error; `Unsupported` or `NotFound` without the kernel's `tcp_diag`.
pub fn socket_owner(local: SocketAddr, remote: SocketAddr) -> Result<Option<u32>> {
    let mut socket = netlink_sys::Socket::new(NETLINK_SOCK_DIAG)?;
    socket.bind_auto()?;
    socket.connect(&NetlinkAddress::new(0, 0))?;
    socket.set_non_blocking(true)?;
    let mut request = Writer::default();
    request.begin(BY_FAMILY, flag::REQUEST, 1, &question(local, remote));
    request.end();
    socket.send(request.bytes(), 0)?;
    // The kernel answers before `send` returns.
    let mut buffer = vec![0; ROOM];
    let n = socket.recv(&mut buffer.as_mut_slice(), 0)?;
    let answer = Messages::new(buffer.get(..n).unwrap_or_default()).next();
    let answer =
        answer.ok_or(ErrorKind::UnexpectedEof)?.map_err(|e| Error::new(ErrorKind::InvalidData, e))?;
    match answer.kind {
        kind::ERROR => match answer.error() {
            Some(error) if error.raw_os_error() == Some(Errno::NOENT.raw_os_error()) => Ok(None),
            Some(error) => Err(error),
            None => Ok(None),
        },
        _ => {
            let is_open = answer.body.get(STATE) == Some(&ESTABLISHED)
                && u32_at(answer.body, INODE).is_some_and(|inode| inode != 0);
            Ok(u32_at(answer.body, UID).filter(|_| is_open))
        }
    }
}

/// `inet_diag_req_v2` for one socket.
fn question(local: SocketAddr, remote: SocketAddr) -> Vec<u8> {
    let (from, to) = (local.ip().to_canonical(), remote.ip().to_canonical());
    // AF_INET, AF_INET6.
    let family = if from.is_ipv4() { 2 } else { 10 };
    let interface = match (local, from) {
        (SocketAddr::V6(address), IpAddr::V6(_)) => address.scope_id(),
        _ => 0,
    };
    let mut bytes = vec![family, TCP, 0, 0];
    // All states: the answer says which.
    bytes.extend(u32::MAX.to_ne_bytes());
    bytes.extend(local.port().to_be_bytes());
    bytes.extend(remote.port().to_be_bytes());
    for address in [from, to] {
        let mut octets = [0; 16];
        match address {
            IpAddr::V4(address) => octets[..4].copy_from_slice(&address.octets()),
            IpAddr::V6(address) => octets = address.octets(),
        }
        bytes.extend(octets);
    }
    bytes.extend(interface.to_ne_bytes());
    // INET_DIAG_NOCOOKIE.
    bytes.extend([0xff; 8]);
    bytes
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    /// A connection over these addresses: the connecting end, and the accepted one.
    fn connected(listen: &str, to: &str) -> Option<(TcpStream, TcpStream)> {
        // Not every machine has IPv6.
        let listener = TcpListener::bind((listen, 0)).ok()?;
        let port = listener.local_addr().unwrap().port();
        let client = TcpStream::connect((to, port)).unwrap();
        Some((client, listener.accept().unwrap().0))
    }

    fn owner(accepted: &TcpStream) -> Option<u32> {
        socket_owner(accepted.peer_addr().unwrap(), accepted.local_addr().unwrap()).unwrap()
    }

    #[test]
    fn the_other_end_of_a_local_connection_is_ours_over_ipv4_ipv6_and_mapped_addresses() {
        let own = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata("/proc/self").unwrap());
        for (listen, to) in [
            ("127.0.0.1", "127.0.0.1"),
            ("::1", "::1"),
            ("::", "127.0.0.1"),
            ("127.0.0.1", "::ffff:127.0.0.1"),
        ] {
            let Some((_client, accepted)) = connected(listen, to) else { continue };
            assert_eq!(owner(&accepted), Some(own), "{listen} {to}");
        }
    }

    #[test]
    fn a_socket_that_was_closed_is_nobodys_and_so_is_one_that_never_was() {
        let (client, accepted) = connected("127.0.0.1", "127.0.0.1").unwrap();
        drop(client);
        assert_eq!(owner(&accepted), None);
        let nowhere = "127.0.0.1:1".parse().unwrap();
        assert_eq!(socket_owner(nowhere, accepted.local_addr().unwrap()).unwrap(), None);
    }
}
