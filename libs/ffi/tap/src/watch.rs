//! Reports interfaces whose MAC address changed, by udev (`MACAddressPolicy`) or an operator.

use std::io;

use fibcast_netlink::{Link, Received, Socket, group};

use crate::Tap;

/// Receive buffer in bytes, for what the kernel reports between two reads.
const ROOM: usize = 256 * 1024;

/// Link notifications of the kernel, from the time of opening.
#[derive(Debug)]
pub struct Links {
    socket: Socket,
}

impl Links {
    /// Subscribes to link notifications.
    ///
    /// # Errors
    /// The system's error.
    pub fn open() -> io::Result<Links> {
        let socket = Socket::open(ROOM)?;
        socket.subscribe(group::LINK)?;
        Ok(Links { socket })
    }

    /// Calls `changed` with index and MAC address of each interface that the kernel reported since the last call, changed or not. Does not
    /// block. After an overrun each of `taps` is queried.
    ///
    /// # Errors
    /// The system's error.
    pub fn look<'a>(
        &mut self,
        taps: impl Iterator<Item = &'a Tap>,
        mut changed: impl FnMut(u32, [u8; 6]),
    ) -> io::Result<()> {
        loop {
            match self.socket.receive()? {
                Received::Nothing => return Ok(()),
                Received::Messages(messages) => {
                    for link in messages.flatten().filter_map(|message| Link::read(&message)) {
                        if let Some(mac) = link.mac {
                            changed(link.index, mac);
                        }
                    }
                }
                Received::Lost => break,
            }
        }
        for tap in taps {
            changed(tap.index(), tap.mac()?);
        }
        Ok(())
    }
}
