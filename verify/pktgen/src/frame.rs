//! What all parts know of Ethernet frames.

pub type Mac = [u8; 6];

pub const ETHERNET: usize = 14;
pub const IPV4: u16 = 0x0800;
pub const IPV6: u16 = 0x86dd;
/// IEEE 802.1Q.
pub const VLAN: u16 = 0x8100;
/// Of a tag.
pub const TAG: usize = 4;

#[inline]
pub fn read<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

#[inline]
pub fn read_u16(bytes: &[u8], at: usize) -> Option<u16> {
    read(bytes, at).map(u16::from_be_bytes)
}

/// Where the IP header of a frame with this tag begins; none if it has another tag, or none where there must be one.
#[inline]
pub fn network_header(frame: &[u8], vlan: Option<u16>) -> Option<usize> {
    match (read_u16(frame, 12)?, vlan) {
        (VLAN, Some(id)) if read_u16(frame, 14)? & 0x0fff == id => Some(ETHERNET + TAG),
        (VLAN, _) | (_, Some(_)) => None,
        _ => Some(ETHERNET),
    }
}

/// A frame with a tag put in.
pub fn tagged(frame: &[u8], id: u16) -> Vec<u8> {
    let (addresses, rest) = frame.split_at_checked(12).unwrap_or((frame, &[]));
    [addresses, &VLAN.to_be_bytes(), &id.to_be_bytes(), rest].concat()
}

/// A frame without its tag.
pub fn untagged(frame: &[u8]) -> Vec<u8> {
    [frame.get(..12).unwrap_or_default(), frame.get(16..).unwrap_or_default()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_put_in_and_taken_out() {
        let plain: Vec<u8> = [&[1; 12][..], &IPV4.to_be_bytes(), &[9; 46]].concat();
        let with = tagged(&plain, 7);
        assert_eq!(untagged(&with), plain);
        assert_eq!((network_header(&plain, None), network_header(&with, Some(7))), (Some(14), Some(18)));
        assert_eq!((network_header(&with, None), network_header(&with, Some(8))), (None, None));
        assert_eq!(network_header(&plain, Some(7)), None);
        assert_eq!(network_header(&plain[..13], None), None);
    }
}
