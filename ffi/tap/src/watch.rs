//! Reports interfaces whose MAC address changed, by udev (`MACAddressPolicy`) or an operator.

use std::io;

use fibcast_netlink::{Attributes, Message, Received, Socket, group, kind};

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
                    for (index, mac) in messages.flatten().filter_map(|message| read(&message)) {
                        changed(index, mac);
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

/// `struct ifinfomsg`, and the attribute with the MAC address.
fn read(message: &Message<'_>) -> Option<(u32, [u8; 6])> {
    if message.kind != kind::NEW_LINK {
        return None;
    }
    let (header, attributes) = message.body.split_at_checked(16)?;
    let index = header.get(4..8)?.first_chunk::<4>().copied().map(u32::from_ne_bytes)?;
    let address = Attributes::new(attributes, 0).flatten().find(|a| a.kind == libc::IFLA_ADDRESS)?;
    Some((index, address.value.try_into().ok()?))
}
