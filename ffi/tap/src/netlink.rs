//! As much of rtnetlink as an interface needs to be set up: requests that are acknowledged (rtnetlink(7), netlink(7)).

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

const ALIGN: usize = 4;
const HEADER: usize = 16;

/// A request under construction.
#[derive(Debug)]
pub(crate) struct Message {
    bytes: Vec<u8>,
}

impl Message {
    /// With the fixed part that belongs to its type.
    pub(crate) fn new(kind: u16, flags: i32, fixed: &[u8]) -> Message {
        let flags = (flags | libc::NLM_F_REQUEST | libc::NLM_F_ACK) as u16;
        let mut bytes = vec![0; 4];
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(flags.to_ne_bytes());
        bytes.extend([0; 8]);
        bytes.extend(fixed);
        let mut message = Message { bytes };
        message.pad();
        message
    }

    /// Adds an attribute.
    pub(crate) fn attribute(mut self, kind: u16, value: &[u8]) -> Message {
        self.bytes.extend(((4 + value.len()) as u16).to_ne_bytes());
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend(value);
        self.pad();
        self
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(ALIGN), 0);
    }

    fn finish(mut self) -> Vec<u8> {
        let length = (self.bytes.len() as u32).to_ne_bytes();
        if let Some(room) = self.bytes.get_mut(..4) {
            room.copy_from_slice(&length);
        }
        self.bytes
    }
}

/// A socket to the kernel's routing side.
#[derive(Debug)]
pub(crate) struct Socket(OwnedFd);

impl Socket {
    pub(crate) fn open() -> io::Result<Socket> {
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
        // SAFETY: a plain system call.
        let socket = unsafe { libc::socket(libc::AF_NETLINK, kind, libc::NETLINK_ROUTE) };
        if socket < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: just opened, and nobody else has it.
        Ok(Socket(unsafe { OwnedFd::from_raw_fd(socket) }))
    }

    /// Sends a request and waits for its acknowledgement.
    pub(crate) fn ask(&self, message: Message) -> io::Result<()> {
        let bytes = message.finish();
        // SAFETY: `bytes` is readable for its length; without an address the kernel is meant.
        let sent = unsafe { libc::send(self.0.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), 0) };
        if sent < 0 {
            return Err(io::Error::last_os_error());
        }
        let mut room = [0u8; 8_192];
        // SAFETY: `room` is writable for its length.
        let count = unsafe { libc::recv(self.0.as_raw_fd(), room.as_mut_ptr().cast(), room.len(), 0) };
        let Ok(count) = usize::try_from(count) else { return Err(io::Error::last_os_error()) };
        let answer = room.get(..count).unwrap_or_default();
        let word = |at: usize| answer.get(at..at + 4)?.first_chunk::<4>().copied();
        let kind =
            answer.get(4..6).and_then(|bytes| bytes.first_chunk::<2>()).copied().map(u16::from_ne_bytes);
        match (kind, word(HEADER).map(i32::from_ne_bytes)) {
            (Some(kind), Some(0)) if i32::from(kind) == libc::NLMSG_ERROR => Ok(()),
            (Some(kind), Some(error)) if i32::from(kind) == libc::NLMSG_ERROR => {
                Err(io::Error::from_raw_os_error(-error))
            }
            _ => Err(io::Error::new(io::ErrorKind::InvalidData, "expected an acknowledgement")),
        }
    }
}
