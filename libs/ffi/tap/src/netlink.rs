//! Requests to rtnetlink that are acknowledged, and dumps (rtnetlink(7), netlink(7)).

use std::io::{self, ErrorKind};
use std::time::Duration;

use fibcast_netlink::{Message, Received, Socket, Writer, flag, kind};

/// Room for what the kernel says; a dump comes in portions of 32 KiB.
const ROOM: usize = 256 * 1024;
/// Longest wait for an acknowledgement. Others may hold the kernel's routing lock for as long as a full table takes.
const PATIENCE: Duration = Duration::from_secs(10);

/// An attribute: its type and value.
pub(crate) type Attribute<'a> = (u16, &'a [u8]);

/// The routing side of the kernel.
#[derive(Debug)]
pub(crate) struct Kernel {
    socket: Socket,
}

impl Kernel {
    pub(crate) fn open() -> io::Result<Kernel> {
        Ok(Kernel { socket: Socket::open(ROOM)? })
    }

    /// Sends a request and waits for its acknowledgement.
    pub(crate) fn ask(
        &mut self,
        kind: u16,
        flags: u16,
        header: &[u8],
        attributes: &[Attribute<'_>],
    ) -> io::Result<()> {
        let sequence = self.socket.sequence();
        let mut writer = Writer::default();
        writer.begin(kind, flags | flag::REQUEST | flag::ACK, sequence, header);
        for (kind, value) in attributes {
            writer.attribute(*kind, value);
        }
        writer.end();
        self.socket.send(writer.bytes())?;
        loop {
            if !self.socket.wait(PATIENCE)? {
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

    /// Asks for all there is of a kind; again from the start where it changed meanwhile.
    pub(crate) fn dump<T>(
        &mut self,
        kind: u16,
        header: &[u8],
        read: impl Fn(&Message<'_>) -> Option<T>,
    ) -> io::Result<Vec<T>> {
        const TRIES: usize = 5;
        for _ in 0..TRIES {
            let sequence = self.socket.sequence();
            let mut writer = Writer::default();
            writer.begin(kind, flag::REQUEST | flag::DUMP, sequence, header);
            writer.end();
            let mut found = Vec::new();
            let dumped = self.socket.dump(writer.bytes(), sequence, |message| {
                found.extend(message.and_then(&read));
                true
            })?;
            if dumped == fibcast_netlink::Dumped::Whole {
                return Ok(found);
            }
        }
        Err(io::Error::new(ErrorKind::ResourceBusy, "what the kernel has changed during each of five dumps"))
    }
}
