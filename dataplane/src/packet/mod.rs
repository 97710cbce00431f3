//! Protocol headers: views that validate lengths once, and builders for the few packets that the router itself sends.
//!
//! `new_checked` of a view validates all lengths; its accessors cannot fail afterwards. Nothing here has state or knows about ports, routes
//! or buffers. Values are in host byte order unless stated otherwise.
//!
//! | module | protocol |
//! |---|---|
//! | [`ethernet`] | frame header and MAC addresses |
//! | [`ipv4`], [`ipv6`] | network headers |
//! | [`arp`], [`nd`] | address resolution |
//! | [`echo`] | replies to pings of own addresses |
//! | [`probe`] | echo requests of the router itself, and what comes back |
//! | [`igmp`], [`mld`], [`membership`] | group membership: queries, reports, and what both have in common |
//! | [`options`] | IPv4 options that an echo reply returns |
//! | [`icmp_error`] | which packets may cause an error, and the message |
//! | [`icmp_kind`] | kinds of messages, which limits and counters tell apart |
//! | [`upper_layer`] | what is said about IPv6 packets that nothing accepts |
//! | [`checksum`] | the Internet checksum, full and incremental |

pub mod arp;
pub mod checksum;
pub mod echo;
pub mod ethernet;
pub mod icmp_error;
pub mod icmp_kind;
pub mod igmp;
pub mod ipv4;
pub mod ipv6;
pub mod membership;
pub mod mld;
pub mod nd;
pub mod options;
pub mod probe;
pub mod upper_layer;

/// Why bytes cannot be parsed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{layer}: expected {expected}, found {found}")]
pub struct Malformed {
    /// Name of the protocol.
    pub layer: &'static str,
    /// What was expected.
    pub expected: &'static str,
    /// The length or field value that was found.
    pub found: usize,
}

/// The first `N` bytes from `at`; `None` if there are fewer.
#[inline]
pub(crate) fn take<const N: usize>(bytes: &[u8], at: usize) -> Option<&[u8; N]> {
    bytes.get(at..)?.first_chunk()
}

/// Four bytes at `at` in little-endian order. Both bounds are constant, so no bounds check remains.
#[inline]
pub(crate) fn le32<const N: usize>(head: &[u8; N], at: usize) -> u32 {
    u32::from_le_bytes(take::<4>(head, at).copied().unwrap_or_default())
}

/// Writes `value` at `at`, as far as there is room: for builders, whose buffers are large enough.
pub(crate) fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    if let Some(room) = bytes.get_mut(at..at + value.len()) {
        room.copy_from_slice(value);
    }
}
