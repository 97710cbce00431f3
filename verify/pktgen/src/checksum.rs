//! Checksums: the Internet's (RFC 1071), and the generator's own, which detects more.

/// Sums bytes as big-endian 16-bit words, to be carried on or folded.
pub fn sum(mut total: u32, bytes: &[u8]) -> u32 {
    let mut words = bytes.chunks_exact(2);
    for word in &mut words {
        if let [high, low] = word {
            total += u32::from(u16::from_be_bytes([*high, *low]));
        }
    }
    if let [last] = words.remainder() {
        total += u32::from(*last) << 8;
    }
    total
}

/// The check sum to write for a sum of words; 0xffff for a range that holds a right one becomes 0.
pub fn fold(mut total: u32) -> u16 {
    while total > 0xffff {
        total = (total & 0xffff) + (total >> 16);
    }
    !(total as u16)
}

/// As [`sum`], by words of 32 bits, whose sum folds to the same.
#[inline]
pub fn sum_wide(mut total: u64, bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<4>();
    for word in words {
        total += u64::from(u32::from_be_bytes(*word));
    }
    for (byte, shift) in rest.iter().zip([24, 16, 8]) {
        total += u64::from(*byte) << shift;
    }
    total
}

/// As [`fold`].
#[inline]
pub fn fold_wide(total: u64) -> u16 {
    let total = (total & 0xffff_ffff) + (total >> 32);
    let total = (total & 0xffff) + ((total >> 16) & 0xffff) + (total >> 32);
    let total = (total & 0xffff) + (total >> 16);
    !((total & 0xffff) + (total >> 16)) as u16
}

/// Mixes a word into a state. A bijection of either, so that a change within one word always changes the result.
#[inline]
pub fn mix(state: u64, word: u64) -> u64 {
    let mixed = (state ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed ^ (mixed >> 29)
}

/// Of any bytes.
pub fn hash(bytes: &[u8]) -> u64 {
    bytes.chunks(8).fold(0, |state, chunk| {
        let mut word = [0; 8];
        word.iter_mut().zip(chunk).for_each(|(to, from)| *to = *from);
        mix(state, u64::from_le_bytes(word))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_of_rfc_1071_style_example_sums_to_its_check_sum() {
        let header =
            [0x45, 0, 0, 0x73, 0, 0, 0x40, 0, 0x40, 0x11, 0xb8, 0x61, 0xc0, 0xa8, 0, 1, 0xc0, 0xa8, 0, 0xc7];
        assert_eq!(fold(sum(0, &header)), 0);
        let without = sum(sum(0, &header[..10]), &header[12..]);
        assert_eq!(fold(without), 0xb861);
    }

    #[test]
    fn wide_words_sum_up_to_the_same() {
        let bytes: Vec<u8> = (0..1500_u32).map(|n| (n * 7 + n / 3) as u8 | 0x80).collect();
        for length in 0..=bytes.len() {
            let bytes = &bytes[..length];
            assert_eq!(fold_wide(sum_wide(0xffff, bytes)), fold(sum(0xffff, bytes)), "{length}");
        }
    }

    #[test]
    fn mix_sees_each_flipped_bit_and_swapped_words() {
        let bytes: Vec<u8> = (0..30).collect();
        let right = hash(&bytes);
        for bit in 0..bytes.len() * 8 {
            let mut wrong = bytes.clone();
            wrong[bit / 8] ^= 1 << (bit % 8);
            assert_ne!(hash(&wrong), right, "bit {bit}");
        }
        let mut swapped = bytes.clone();
        swapped.swap(2, 4);
        assert_ne!(hash(&swapped), right);
    }
}
