//! TAP interfaces of the kernel: Ethernet frames read and written through a file descriptor.
//!
//! [`Tap::open`] makes one, [`setup`] gives it addresses and routes by rtnetlink, [`wait`] sleeps until one has a frame, [`watch`] tells of
//! MAC addresses that change. An interface goes away with its [`Tap`]; [`rules`] looks after what does not.

mod netlink;
pub mod rules;
pub mod setup;
pub mod watch;

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

/// Longest name of an interface, as the kernel has it.
pub const MAX_NAME: usize = libc::IFNAMSIZ - 1;

/// `linux/if_tun.h`, since Linux 5.0.
const TUNSETCARRIER: libc::Ioctl = 0x4004_54e2;

/// A TAP interface that this process made.
#[derive(Debug)]
pub struct Tap {
    file: OwnedFd,
    name: String,
    index: u32,
}

impl Tap {
    /// Makes an interface of this name, down and without addresses. Reading and writing do not block.
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

    /// Its number in the kernel.
    pub fn index(&self) -> u32 {
        self.index
    }

    /// Its MAC address as it is now.
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

    /// Plugs the interface in or pulls it out (`ip link` says `NO-CARRIER`). A new one is plugged in.
    pub fn set_carrier(&self, up: bool) -> io::Result<()> {
        let up = libc::c_int::from(up);
        // SAFETY: the descriptor is open, and the kernel reads one int.
        if unsafe { libc::ioctl(self.file.as_raw_fd(), TUNSETCARRIER, &up) } < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }

    /// Takes a frame that the kernel sent; `None` where there is none.
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

    /// Hands the kernel a frame as if it had come from the wire.
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
