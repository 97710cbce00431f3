//! The interfaces of this host, which decide whether next hops of a zebra on the same host are in use: see [`Mirror`].

use std::io::Result;
use std::os::fd::{AsFd, BorrowedFd};

use fibcast_netlink::{Address, Dumped, Link, Received, Socket, group};

use crate::source::mirror::Mirror;

/// Receive buffers for notifications and for dumps.
const ROOM: usize = 4 << 20;

/// Sockets that follow interfaces and their addresses.
#[derive(Debug)]
pub(super) struct Interfaces {
    events: Socket,
    /// All interfaces were read, and no notification was lost since.
    whole: bool,
}

impl Interfaces {
    /// # Errors
    /// The system's error.
    pub fn open() -> Result<Self> {
        let events = Socket::open(ROOM)?;
        for group in [group::LINK, group::IPV4_ADDRESS, group::IPV6_ADDRESS] {
            events.subscribe(group)?;
        }
        Ok(Self { events, whole: false })
    }

    /// Tells the mirror what has changed.
    ///
    /// # Errors
    /// The system's error. The next call reads all interfaces again.
    pub fn follow(&mut self, mirror: &mut Mirror) -> Result<()> {
        if !self.whole {
            self.whole = read(mirror)?;
        }
        loop {
            match self.events.receive() {
                Ok(Received::Messages(messages)) => {
                    messages.flatten().for_each(|message| mirror.hear_interface(&message));
                }
                Ok(Received::Nothing) => return Ok(()),
                Ok(Received::Lost) => self.whole = false,
                Err(error) => {
                    self.whole = false;
                    return Err(error);
                }
            }
        }
    }
}

impl AsFd for Interfaces {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.events.as_fd()
    }
}

/// Reads all interfaces and addresses. False: the kernel changed them meanwhile, or the answer is not complete.
fn read(mirror: &mut Mirror) -> Result<bool> {
    let mut dumps = Socket::open(ROOM)?;
    mirror.read_interfaces_again();
    let links = dumps.dump_of(Link::dump, |message| mirror.hear_interface(message))?;
    let addresses = dumps.dump_of(Address::dump, |message| mirror.hear_interface(message))?;
    mirror.interfaces_were_read();
    Ok((links, addresses) == (Dumped::Whole, Dumped::Whole))
}
