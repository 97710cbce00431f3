//! Acknowledged rtnetlink requests, and dumps (rtnetlink(7), netlink(7)).

use std::io::{self, ErrorKind};
use std::time::Duration;

use fibcast_netlink::{Dumped, Message, Received, Socket, Writer, flag, kind};

/// Receive buffer in bytes; a dump comes in portions of 32 KiB.
const ROOM: usize = 256 * 1024;
/// Longest wait for an acknowledgement. Others may hold the kernel's routing lock while they change a full table.
const ACK_TIMEOUT: Duration = Duration::from_secs(10);

/// The routing side of the kernel.
#[derive(Debug)]
pub(crate) struct Kernel {
    socket: Socket,
}

impl Kernel {
    pub(crate) fn open() -> io::Result<Kernel> {
        Ok(Kernel { socket: Socket::open(ROOM)? })
    }

    /// Sends the request that `write` writes with this sequence number, and waits for its acknowledgement.
    pub(crate) fn ask(&mut self, write: impl FnOnce(&mut Writer, u32)) -> io::Result<()> {
        let sequence = self.socket.sequence();
        let mut writer = Writer::default();
        write(&mut writer, sequence);
        writer.flag(flag::REQUEST | flag::ACK);
        self.socket.send(writer.bytes())?;
        loop {
            if !self.socket.wait(ACK_TIMEOUT)? {
                return Err(io::Error::new(ErrorKind::TimedOut, "the kernel did not acknowledge a request"));
            }
            let Received::Messages(messages) = self.socket.receive()? else { continue };
            for message in messages.flatten() {
                if message.kind == kind::ERROR && message.sequence == sequence {
                    return message.error().map_or(Ok(()), Err);
                }
            }
        }
    }

    /// Asks for all that `write` requests; again from the start where it changed meanwhile.
    pub(crate) fn dump<T>(
        &mut self,
        write: impl Fn(&mut Writer, u32),
        read: impl Fn(&Message<'_>) -> Option<T>,
    ) -> io::Result<Vec<T>> {
        const TRIES: usize = 5;
        for _ in 0..TRIES {
            let mut found = Vec::new();
            if self.socket.dump_of(&write, |message| found.extend(read(message)))? == Dumped::Whole {
                return Ok(found);
            }
        }
        Err(io::Error::new(ErrorKind::ResourceBusy, "the kernel's data changed during each of five dumps"))
    }
}
