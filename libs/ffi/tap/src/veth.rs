//! The other end of a veth pair: packets that its host left to the interface to cut.
//!
//! A veth pair offers segmentation offload and cuts nothing: a TCP packet of up to 64 KiB goes from one end to the other in one piece. A packet
//! socket takes frames of the length of its ring only. The other end is in another network namespace, often that of a container, where this
//! process changes nothing. But the kernel takes the offload from an end whose peer has an XDP program (`veth_fix_features`), because
//! programs take whole frames as well. So the own end gets a program that passes everything.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// `linux/sockios.h`, `linux/ethtool.h`.
const SIOCETHTOOL: libc::Ioctl = 0x8946;
const ETHTOOL_GDRVINFO: u32 = 0x03;
const ETHTOOL_SGRO: u32 = 0x2c;
/// `linux/bpf.h`, `linux/if_link.h`.
const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_LINK_CREATE: libc::c_int = 28;
const BPF_PROG_TYPE_XDP: u32 = 6;
const BPF_XDP: u32 = 37;
/// The program takes packets in several buffers, so it limits no MTU.
const BPF_F_XDP_HAS_FRAGS: u32 = 1 << 5;
/// By the driver, which is what changes the peer.
const XDP_FLAGS_DRV_MODE: u32 = 1 << 2;
/// `return XDP_PASS;`: move 2 to the register of the result, exit.
const PASS: [[u8; 8]; 2] = [[0xb7, 0, 0, 0, 2, 0, 0, 0], [0x95, 0, 0, 0, 0, 0, 0, 0]];

/// The head of `union bpf_attr` of each command.
#[repr(C)]
struct Load {
    kind: u32,
    instructions: u32,
    code: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel: u32,
    flags: u32,
}

#[repr(C)]
struct Create {
    program: u32,
    interface: u32,
    attach: u32,
    flags: u32,
}

/// `struct ethtool_drvinfo`.
#[repr(C)]
struct DriverInfo {
    command: u32,
    driver: [u8; 32],
    others: [u8; 160],
}

/// `struct ethtool_value`.
#[repr(C)]
struct Value {
    command: u32,
    data: u32,
}

/// The peer of an interface has no segmentation offload, until this is dropped or the process ends.
#[derive(Debug)]
pub struct Uncut {
    _link: OwnedFd,
}

/// Takes segmentation offload from the peer of an interface; `None` if the interface is no veth or does not exist.
///
/// # Errors
/// The system's error: no CAP_BPF and CAP_NET_ADMIN, a kernel without XDP, or another XDP program on the interface.
pub fn without_segmentation(interface: &str) -> io::Result<Option<Uncut>> {
    let name = CString::new(interface)?;
    // SAFETY: the name is NUL-terminated.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    if index == 0 || !is_veth(&name)? {
        return Ok(None);
    }
    let load = Load {
        kind: BPF_PROG_TYPE_XDP,
        instructions: PASS.len() as u32,
        code: PASS.as_ptr() as u64,
        license: c"Dual MIT/Apache-2.0".as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log: 0,
        kernel: 0,
        flags: BPF_F_XDP_HAS_FRAGS,
    };
    // SAFETY: the code has as many instructions as it says, the license is NUL-terminated, and both outlive the call.
    let program = unsafe { bpf(BPF_PROG_LOAD, &load) }?;
    let create = Create {
        program: program.as_raw_fd() as u32,
        interface: index,
        attach: BPF_XDP,
        flags: XDP_FLAGS_DRV_MODE,
    };
    // SAFETY: plain numbers.
    let link = unsafe { bpf(BPF_LINK_CREATE, &create) }?;
    // With a program, the kernel starts to join received packets, which would undo it.
    ethtool(&name, &mut Value { command: ETHTOOL_SGRO, data: 0 })?;
    Ok(Some(Uncut { _link: link }))
}

fn is_veth(name: &CString) -> io::Result<bool> {
    let mut info = DriverInfo { command: ETHTOOL_GDRVINFO, driver: [0; 32], others: [0; 160] };
    match ethtool(name, &mut info) {
        Ok(()) => Ok(info.driver.starts_with(b"veth\0")),
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(false),
        Err(error) => Err(error),
    }
}

/// # Safety
/// What `attributes` points to is valid for the command, and `T` is a head of `union bpf_attr`.
unsafe fn bpf<T>(command: libc::c_int, attributes: &T) -> io::Result<OwnedFd> {
    // SAFETY: the kernel reads as many bytes as it is told; the caller vouches for the rest.
    let file =
        unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attributes), size_of::<T>()) };
    if file < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a new descriptor, which nobody else has.
    Ok(unsafe { OwnedFd::from_raw_fd(file as libc::c_int) })
}

/// A request of `T`, which begins with its command and is what the kernel reads and writes for it.
fn ethtool<T>(name: &CString, request: &mut T) -> io::Result<()> {
    // SAFETY: no pointers.
    let socket = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    if socket < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: just opened, and nobody else has it.
    let socket = unsafe { OwnedFd::from_raw_fd(socket) };
    // SAFETY: ifreq is plain data, for which zero is valid.
    let mut ifreq: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in ifreq.ifr_name.iter_mut().zip(name.as_bytes_with_nul()) {
        *to = *from as libc::c_char;
    }
    ifreq.ifr_ifru.ifru_data = std::ptr::from_mut(request).cast();
    // SAFETY: the descriptor is open, the name was short enough for if_nametoindex, and the request is a whole one of its kind.
    if unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL, &mut ifreq) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn structures_have_the_sizes_of_the_kernels() {
        assert_eq!((size_of::<DriverInfo>(), size_of::<Value>()), (196, 8));
        assert_eq!((size_of::<Load>(), size_of::<Create>()), (48, 16));
    }

    #[test]
    fn other_interfaces_are_left_alone() {
        for interface in ["lo", "no-such-if"] {
            assert!(without_segmentation(interface).unwrap().is_none(), "{interface}");
        }
        assert!(without_segmentation("a\0b").is_err());
    }
}
