//! Frames of FRR's forwarding plane manager (FPM): version, type, length with header, big-endian; then netlink messages.

/// Bytes of a frame header.
pub const HEADER: usize = 4;
/// Longest frame.
pub const LONGEST: usize = u16::MAX as usize;
/// The only version.
const VERSION: u8 = 1;
/// Type of frames with netlink messages.
const NETLINK: u8 = 1;

/// Why a stream is not FPM. It cannot be continued.
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

/// The first frame of `bytes`: its content and its total length; none if it is incomplete.
///
/// # Errors
/// [`FrameError`] if the header is invalid.
pub fn first(bytes: &[u8]) -> Result<Option<(&[u8], usize)>, FrameError> {
    // A header is checked as far as it has arrived.
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
