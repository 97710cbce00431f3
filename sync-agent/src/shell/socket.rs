//! What sessions and links do with a TCP stream: bounded reads and writes.

use std::io::{self, Read, Write};
use std::net::SocketAddr;

use mio::net::{TcpListener, TcpStream};

/// A listener that can be opened again right after its program was killed.
pub(super) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let domain = socket2::Domain::for_address(address);
    let socket = socket2::Socket::new(domain, socket2::Type::STREAM, None)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(1024)?;
    Ok(TcpListener::from_std(socket.into()))
}

/// State of a read or a write.
#[derive(Debug)]
pub(super) enum Flow {
    /// The budget is used up; there may be more.
    More,
    /// The system has nothing, or takes nothing, at the moment.
    Blocked,
    /// The connection is over.
    Closed(String),
}

/// Reads up to `budget` bytes in portions, each given to `take`, which says whether to go on.
pub(super) fn read(
    stream: &mut TcpStream,
    buffer: &mut [u8],
    budget: usize,
    mut take: impl FnMut(&[u8]) -> bool,
) -> Flow {
    let mut total = 0;
    while total < budget {
        match stream.read(buffer) {
            Ok(0) => return Flow::Closed("connection closed by peer".into()),
            Ok(n) => {
                total += n;
                if !take(buffer.get(..n).unwrap_or_default()) {
                    return Flow::Blocked;
                }
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Flow::Blocked,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Flow::Closed(e.to_string()),
        }
    }
    Flow::More
}

/// Writes some of `bytes`.
pub(super) fn write(stream: &mut TcpStream, bytes: &[u8]) -> Result<usize, Flow> {
    loop {
        match stream.write(bytes) {
            Ok(n) => return Ok(n),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Err(Flow::Blocked),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(Flow::Closed(e.to_string())),
        }
    }
}
