//! TAP interfaces of the kernel: Ethernet frames read and written through a file descriptor.
//!
//! [`Tap::open`] creates an interface, [`setup`] configures addresses and routes by rtnetlink, [`wait`] sleeps until one has a frame,
//! [`watch`] reports what changes of them, [`veth`] takes segmentation offload from the other end of a veth pair. An interface disappears with its [`Tap`]; [`rules`] cleans up what does not.

mod netlink;
pub mod rules;
pub mod setup;
pub mod veth;
pub mod watch;

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

/// Longest interface name in bytes, as defined by the kernel.
pub const MAX_NAME: usize = libc::IFNAMSIZ - 1;

/// `linux/if_tun.h`, since Linux 5.0.
const TUNSETCARRIER: libc::Ioctl = 0x4004_54e2;

/// A TAP interface that this process created.
#[derive(Debug)]
pub struct Tap {
    file: OwnedFd,
    name: String,
    index: u32,
}

impl Tap {
    /// Creates an interface with this name, down and without addresses. Reads and writes do not block.
    ///
    /// # Errors
    /// `InvalidInput` if the name is too long or has a '/'; otherwise the system's error: no /dev/net/tun, no CAP_NET_ADMIN, or the name is
    /// in use.
    pub fn open(name: &str) -> io::Result<Tap> {
        if name.is_empty() || name.len() > MAX_NAME || name.bytes().any(|byte| byte == 0 || byte == b'/') {
            let text = format!("expected 1 to {MAX_NAME} bytes without '/', found {name:?}");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        let flags = libc::O_RDWR | libc::O_NONBLOCK | libc::O_CLOEXEC;
        // SAFETY: the path is a NUL-terminated constant.
        let file = unsafe { libc::open(c"/dev/net/tun".as_ptr(), flags) };
        if file < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: just opened, and nobody else has it.
        let file = unsafe { OwnedFd::from_raw_fd(file) };
        // SAFETY: ifreq is plain data, for which zero is valid.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
            *to = from as libc::c_char;
        }
        request.ifr_ifru.ifru_flags = (libc::IFF_TAP | libc::IFF_NO_PI) as libc::c_short;
        // SAFETY: the descriptor is open, the request is a whole ifreq with a NUL-terminated name.
        if unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &mut request) } < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel wrote the name back, NUL-terminated.
        let index = unsafe { libc::if_nametoindex(request.ifr_name.as_ptr()) };
        if index == 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Tap { file, name: name.to_owned(), index })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its interface index.
    pub fn index(&self) -> u32 {
        self.index
    }

    /// Its current MAC address.
    ///
    /// # Errors
    /// The system's error.
    pub fn mac(&self) -> io::Result<[u8; 6]> {
        // SAFETY: ifreq is plain data, for which zero is valid.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        // SAFETY: the descriptor is open, and the request is a whole ifreq, which the kernel writes to.
        if unsafe { libc::ioctl(self.file.as_raw_fd(), libc::SIOCGIFHWADDR, &mut request) } < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the call has written this member of the union.
        let address = unsafe { request.ifr_ifru.ifru_hwaddr }.sa_data;
        let mut mac = [0; 6];
        for (to, from) in mac.iter_mut().zip(address) {
            *to = from as u8;
        }
        Ok(mac)
    }

    /// Whether the interface was deleted (`ip link del`), so that this descriptor is of no use any more.
    pub fn is_deleted(&self) -> bool {
        matches!(self.mac(), Err(error) if error.raw_os_error() == Some(libc::EBADFD))
    }

    /// Sets its carrier (`ip link` shows `NO-CARRIER` without). A new interface has one.
    ///
    /// # Errors
    /// The system's error.
    pub fn set_carrier(&self, up: bool) -> io::Result<()> {
        let up = libc::c_int::from(up);
        // SAFETY: the descriptor is open, and the kernel reads one int.
        if unsafe { libc::ioctl(self.file.as_raw_fd(), TUNSETCARRIER, &up) } < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }

    /// Reads a frame that the kernel sent; `None` if there is none.
    ///
    /// # Errors
    /// The system's error, for instance if the interface was deleted.
    pub fn read(&self, room: &mut [u8]) -> io::Result<Option<usize>> {
        // SAFETY: `room` is writable for its length.
        let count = unsafe { libc::read(self.file.as_raw_fd(), room.as_mut_ptr().cast(), room.len()) };
        match usize::try_from(count) {
            Ok(count) => Ok(Some(count)),
            Err(_) => match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
                error => Err(error),
            },
        }
    }

    /// Passes a frame to the kernel as if it came from the wire.
    ///
    /// # Errors
    /// The system's error, for instance if the interface is down.
    pub fn write(&self, frame: &[u8]) -> io::Result<()> {
        // SAFETY: `frame` is readable for its length.
        let count = unsafe { libc::write(self.file.as_raw_fd(), frame.as_ptr().cast(), frame.len()) };
        if count < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

/// Sleeps until one of the interfaces has a frame, at most `timeout`.
pub fn wait<'a>(taps: impl Iterator<Item = &'a Tap>, timeout: Duration) {
    let mut files: Vec<libc::pollfd> =
        taps.map(|tap| libc::pollfd { fd: tap.file.as_raw_fd(), events: libc::POLLIN, revents: 0 }).collect();
    let milliseconds = timeout.as_millis().min(i32::MAX as u128) as i32;
    // SAFETY: the array has as many entries as it says.
    unsafe { libc::poll(files.as_mut_ptr(), files.len() as libc::nfds_t, milliseconds) };
}
