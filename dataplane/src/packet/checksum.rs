//! The Internet checksum (RFC 1071), and its incremental update (RFC 1624).

use std::net::Ipv6Addr;

/// Ones' complement sum of the 16-bit words of `bytes`, not complemented. An odd last byte is padded with zero.
#[inline]
pub fn sum(bytes: &[u8]) -> u16 {
    // RFC 1071 §2: the sum does not depend on byte order, and carries may be deferred.
    let (words, rest) = bytes.as_chunks::<4>();
    let mut total: u64 = words.iter().map(|word| u64::from(u32::from_be_bytes(*word))).sum();
    let mut last = [0; 4];
    if let Some(room) = last.get_mut(..rest.len()) {
        room.copy_from_slice(rest);
    }
    total += u64::from(u32::from_be_bytes(last));
    fold(total)
}

/// The sum of 16-bit words with its carries added (RFC 1071 §4.1).
#[inline]
pub fn fold(mut total: u64) -> u16 {
    total = (total >> 32) + (total & 0xffff_ffff);
    total = (total >> 16) + (total & 0xffff);
    total = (total >> 16) + (total & 0xffff);
    total = (total >> 16) + (total & 0xffff);
    total as u16
}

/// The checksum of `bytes`, in which the checksum field is zero.
pub fn checksum(bytes: &[u8]) -> u16 {
    !sum(bytes)
}

/// The checksum of an upper-layer packet over IPv6 with its pseudo-header (RFC 8200 §8.1); the checksum field is zero.
pub fn pseudo_v6(source: Ipv6Addr, destination: Ipv6Addr, next_header: u8, payload: &[u8]) -> u16 {
    let parts = [
        u64::from(sum(&source.octets())),
        u64::from(sum(&destination.octets())),
        payload.len() as u64,
        u64::from(next_header),
        u64::from(sum(payload)),
    ];
    !fold(parts.iter().sum())
}

/// The checksum after one 16-bit word of the header changed from `old` to `new`.
///
/// RFC 1624 §3, equation 3: `HC' = ~(~HC + ~m + m')`. Equation 4 of RFC 1141 is wrong if the result is zero.
#[inline]
pub fn update(field: u16, old: u16, new: u16) -> u16 {
    let total = u32::from(!field) + u32::from(!old) + u32::from(new);
    let total = (total >> 16) + (total & 0xffff);
    !(((total >> 16) + total) as u16)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_example_of_rfc_1071_gives_its_sum() {
        assert_eq!(sum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), 0xddf2);
    }

    #[test]
    fn the_corner_case_of_rfc_1624_gives_zero_and_not_its_complement() {
        // RFC 1624 §4: HC = 0xDD2F, m = 0x5555, m' = 0x3285: the right answer is 0x0000.
        assert_eq!(update(0xdd2f, 0x5555, 0x3285), 0x0000);
    }

    proptest! {
        #[test]
        fn an_updated_checksum_verifies(mut header in prop::collection::vec(any::<u8>(), 20), ttl in 1u8..=255) {
            header[8] = ttl;
            header[10..12].fill(0);
            let field = checksum(&header);
            let old = u16::from_be_bytes([header[8], header[9]]);
            header[8] -= 1;
            let new = u16::from_be_bytes([header[8], header[9]]);
            header[10..12].copy_from_slice(&update(field, old, new).to_be_bytes());
            prop_assert_eq!(sum(&header), 0xffff);
        }

        #[test]
        fn the_sum_is_that_of_a_plain_loop(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut plain = 0u32;
            for pair in bytes.chunks(2) {
                plain += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
            }
            while plain > 0xffff {
                plain = (plain >> 16) + (plain & 0xffff);
            }
            prop_assert_eq!(sum(&bytes), plain as u16);
        }
    }
}
