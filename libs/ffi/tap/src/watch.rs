//! Tells which interfaces got another MAC address. udev may give a TAP interface one of its own (`MACAddressPolicy`), and an operator may.

use std::io;

use fibcast_netlink::{Attributes, Message, Received, Socket, group, kind};

use crate::Tap;

/// Room for what the kernel says between two looks.
const ROOM: usize = 256 * 1024;

/// What the kernel says of links, from when it was opened.
#[derive(Debug)]
pub struct Links {
    socket: Socket,
}

impl Links {
    /// Begins to listen.
    pub fn open() -> io::Result<Links> {
        let socket = Socket::open(ROOM)?;
        socket.subscribe(group::LINK)?;
        Ok(Links { socket })
    }

    /// Calls `changed` with the index and the MAC address of each interface that the kernel told of since the last call, changed or not.
    /// Does not wait. Where the kernel told more than there was room for, each of `taps` is asked.
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
