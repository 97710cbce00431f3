//! The rtnetlink socket.

use std::collections::BTreeSet;
use std::io::{Error, ErrorKind, Result};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use netlink_sys::SocketAddr;
use netlink_sys::protocols::NETLINK_ROUTE;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::sockopt;
use socket2::{SockFilter, SockRef};

use crate::bytes::u32_at;
use crate::kind;
use crate::message::{Message, Messages};
use crate::writer::{Writer, flag};

/// The kernel fills up to 32 KiB of a buffer; a message may have 64 KiB.
const BUFFER: usize = 128 * 1024;
/// Longest pause within a dump.
const REPLY_TIMEOUT: Duration = Duration::from_secs(30);

/// `RTNLGRP_*`: groups to subscribe to.
pub mod group {
    /// Links.
    pub const LINK: u32 = 1;
    /// IPv4 addresses.
    pub const IPV4_ADDRESS: u32 = 5;
    /// IPv4 routes.
    pub const IPV4_ROUTE: u32 = 7;
    /// IPv6 addresses.
    pub const IPV6_ADDRESS: u32 = 9;
    /// IPv6 routes.
    pub const IPV6_ROUTE: u32 = 11;
    /// Next-hop objects.
    pub const NEXTHOP: u32 = 32;
}

/// Result of a read.
#[derive(Debug)]
pub enum Received<'a> {
    /// Messages.
    Messages(Messages<'a>),
    /// Nothing is available.
    Nothing,
    /// The kernel's buffer overflowed and messages were lost (`ENOBUFS`).
    Lost,
}

/// Result of a dump.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dumped {
    /// Complete.
    Whole,
    /// The table changed during the dump, so entries may be missing (`NLM_F_DUMP_INTR`).
    Interrupted,
}

/// A socket to the kernel's routing tables in this process's network namespace.
#[derive(Debug)]
pub struct Socket {
    inner: netlink_sys::Socket,
    buffer: Vec<u8>,
    sequence: u32,
}

impl Socket {
    /// Opens a socket with a receive buffer of `room` bytes. More than the system's limit needs CAP_NET_ADMIN.
    ///
    /// # Errors
    /// The system's error.
    pub fn open(room: usize) -> Result<Self> {
        let mut inner = netlink_sys::Socket::new(NETLINK_ROUTE)?;
        inner.bind_auto()?;
        // From then on only the kernel can send to it.
        inner.connect(&SocketAddr::new(0, 0))?;
        inner.set_non_blocking(true)?;
        if sockopt::set_socket_recv_buffer_size_force(inner.as_fd(), room).is_err() {
            sockopt::set_socket_recv_buffer_size(inner.as_fd(), room)?;
        }
        // Kernels before 4.20 lack this option; a dump then returns more than was requested.
        let _ = inner.set_netlink_get_strict_chk(true);
        Ok(Self { inner, buffer: vec![0; BUFFER], sequence: 0 })
    }

    /// Joins a multicast group of changes; see [`group`].
    ///
    /// # Errors
    ///
    /// The kernel knows no such group, or this process may not join it.
    pub fn subscribe(&self, group: u32) -> Result<()> {
        self.inner.add_membership(group)
    }

    /// Lets only notifications about routes of these tables pass that no request of `own` caused. For a socket that is subscribed to routes alone.
    ///
    /// The kernel checks this (BPF): a full table that we write, or a daemon beside us in another table, costs this socket nothing. Tables from 256
    /// on have one number in the header (`RT_TABLE_COMPAT`), so whoever reads the messages looks at [`crate::Route::table`] nevertheless.
    ///
    /// # Errors
    /// The system's error.
    pub fn hear_routes_of_others(&self, tables: impl IntoIterator<Item = u32>, own: &Socket) -> Result<()> {
        let mut address = SocketAddr::new(0, 0);
        own.inner.get_address(&mut address)?;
        let tables: BTreeSet<u32> =
            tables.into_iter().map(|table| if table < 256 { table } else { COMPAT }).collect();
        SockRef::from(&self.inner).attach_filter(&routes_of_others(&tables, address.port_number()))
    }

    /// Sequence number of the next request.
    pub fn sequence(&mut self) -> u32 {
        self.sequence = self.sequence.wrapping_add(1).max(1);
        self.sequence
    }

    /// Sends messages.
    ///
    /// # Errors
    /// The system's error.
    pub fn send(&self, bytes: &[u8]) -> Result<()> {
        self.inner.send(bytes, 0).map(|_| ())
    }

    /// Waits until a message is available. False after a timeout.
    ///
    /// # Errors
    /// The system's error.
    pub fn wait(&self, time: Duration) -> Result<bool> {
        let time = Timespec {
            tv_sec: time.as_secs().try_into().unwrap_or(i64::MAX),
            tv_nsec: time.subsec_nanos().into(),
        };
        match poll(&mut [PollFd::new(&self.inner, PollFlags::IN)], Some(&time)) {
            Ok(ready) => Ok(ready > 0),
            Err(Errno::INTR) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Reads without blocking.
    ///
    /// # Errors
    /// The system's error, except for an overflow.
    pub fn receive(&mut self) -> Result<Received<'_>> {
        let mut room = self.buffer.as_mut_slice();
        match self.inner.recv(&mut room, 0) {
            Ok(n) => Ok(Received::Messages(Messages::new(self.buffer.get(..n).unwrap_or_default()))),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(Received::Nothing),
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(Received::Nothing),
            Err(error) if error.raw_os_error() == Some(Errno::NOBUFS.raw_os_error()) => Ok(Received::Lost),
            Err(error) => Err(error),
        }
    }

    /// Dumps what `write` requests with a sequence number, each message of it to `each`.
    ///
    /// # Errors
    /// As [`Self::dump`].
    pub fn dump_of(
        &mut self,
        write: impl FnOnce(&mut Writer, u32),
        mut each: impl FnMut(&Message<'_>),
    ) -> Result<Dumped> {
        let (sequence, mut writer) = (self.sequence(), Writer::default());
        write(&mut writer, sequence);
        self.dump(writer.bytes(), sequence, |message| {
            message.into_iter().for_each(&mut each);
            true
        })
    }

    /// Requests a dump and passes each message and the end of each portion to `each`, until it returns that it has enough.
    ///
    /// # Errors
    /// The system's error, that of the kernel's answer, or `TimedOut`.
    pub fn dump(
        &mut self,
        request: &[u8],
        sequence: u32,
        mut each: impl FnMut(Option<&Message<'_>>) -> bool,
    ) -> Result<Dumped> {
        self.send(request)?;
        let mut interrupted = false;
        loop {
            if !self.wait(REPLY_TIMEOUT)? {
                return Err(Error::new(ErrorKind::TimedOut, "the kernel stopped in the middle of a dump"));
            }
            let messages = match self.receive()? {
                Received::Messages(messages) => messages,
                Received::Nothing => continue,
                // What was lost may be an entry.
                Received::Lost => {
                    interrupted = true;
                    continue;
                }
            };
            for message in messages {
                let message = message.map_err(|e| Error::new(ErrorKind::InvalidData, e))?;
                if message.sequence != sequence {
                    continue;
                }
                interrupted |= message.flags & flag::DUMP_INTERRUPTED != 0;
                match message.kind {
                    kind::DONE | kind::ERROR => {
                        return match message.error() {
                            Some(error) => Err(error),
                            None if interrupted => Ok(Dumped::Interrupted),
                            None => Ok(Dumped::Whole),
                        };
                    }
                    kind::NOOP => {}
                    _ if !each(Some(&message)) => return Ok(Dumped::Interrupted),
                    _ => {}
                }
            }
            if !each(None) {
                return Ok(Dumped::Interrupted);
            }
        }
    }
}

/// `nlmsg_pid` in `struct nlmsghdr`: whose request the notification is about.
const REQUESTER: u32 = 12;
/// `rtm_table` in `struct rtmsg`, behind the header.
const TABLE: u32 = 16 + 4;
/// `RT_TABLE_COMPAT`: a table whose number does not fit `rtm_table`.
const COMPAT: u32 = 252;

/// The filter of [`Socket::hear_routes_of_others`], in classic BPF (`linux/filter.h`, `linux/bpf_common.h`).
fn routes_of_others(tables: &BTreeSet<u32>, own: u32) -> Vec<SockFilter> {
    const LOAD_WORD: u16 = 0x20;
    const LOAD_BYTE: u16 = 0x30;
    const JUMP_IF_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    // A load is from network byte order; the kernel wrote the number in its own.
    let own = u32::from_be_bytes(own.to_ne_bytes());
    let mut program = vec![
        SockFilter::new(LOAD_WORD, 0, 0, REQUESTER),
        SockFilter::new(JUMP_IF_EQUAL, 0, 1, own),
        SockFilter::new(RETURN, 0, 0, 0),
        SockFilter::new(LOAD_BYTE, 0, 0, TABLE),
    ];
    for table in tables {
        program.push(SockFilter::new(JUMP_IF_EQUAL, 0, 1, *table));
        program.push(SockFilter::new(RETURN, 0, 0, u32::MAX));
    }
    program.push(SockFilter::new(RETURN, 0, 0, 0));
    program
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inner.as_fd()
    }
}

impl Message<'_> {
    /// The error in an answer (`NLMSG_ERROR`); none: success.
    pub fn error(&self) -> Option<Error> {
        let code = u32_at(self.body, 0).map_or(0, u32::cast_signed);
        (code < 0).then(|| Error::from_raw_os_error(code.checked_neg().unwrap_or(i32::MAX)))
    }
}
