//! Tells which interfaces got another MAC address. udev may give a TAP interface one of its own (`MACAddressPolicy`), and an operator may.

use std::io;

use fibcast_netlink::{Link, Received, Socket, group};

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
