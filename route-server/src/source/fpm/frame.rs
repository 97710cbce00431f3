//! Frames of the forwarding plane manager: version, type, length with the header, big-endian; then netlink messages.

/// Bytes of a frame's header.
pub const HEADER: usize = 4;
/// Longest frame that its length can say.
pub const LONGEST: usize = u16::MAX as usize;
/// The only version there is.
const VERSION: u8 = 1;
/// Netlink messages follow.
const NETLINK: u8 = 1;

/// A stream that is not FPM. It cannot be read on from there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Another version, or not FPM at all.
    #[error("a frame of version {0}, expected version 1 of FPM")]
    Version(u8),
    /// Another encoding.
    #[error("a frame of type {0}, expected type 1, netlink (zebra's module dplane_fpm_nl)")]
    Type(u8),
    /// Shorter than its own header.
    #[error("a frame of length {0}, expected 4 to 65535")]
    Length(u16),
}

/// The first frame of `bytes`: its content and how many bytes it takes; none: it is not complete yet.
pub fn first(bytes: &[u8]) -> Result<Option<(&[u8], usize)>, FrameError> {
    // What can be said of a header is said before all of it is there.
    match bytes {
        [version, ..] if *version != VERSION => return Err(FrameError::Version(*version)),
        [_, kind, ..] if *kind != NETLINK => return Err(FrameError::Type(*kind)),
        _ => {}
    }
    let Some(&[_, _, high, low]) = bytes.first_chunk::<HEADER>() else { return Ok(None) };
    let length = u16::from_be_bytes([high, low]);
    if usize::from(length) < HEADER {
        return Err(FrameError::Length(length));
    }
    Ok(bytes.get(HEADER..usize::from(length)).map(|content| (content, usize::from(length))))
}
