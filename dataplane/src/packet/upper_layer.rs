//! What a node says about an IPv6 packet to one of its addresses that nothing on it accepts: the extension headers in their order (RFC 8200
//! §4), then the upper layer.

use super::icmp_error::Error;
use super::{ipv6, nd, take};

const HOP_BY_HOP: u8 = 0;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const NO_NEXT_HEADER: u8 = 59;
const DESTINATION_OPTIONS: u8 = 60;

/// The error that is due, if any. No reassembly happens here: a fragment is dropped without a word.
pub fn refusal(header: &ipv6::Ipv6Header<'_>) -> Option<Error> {
    // Offsets are from the start of the IPv6 header, as a pointer counts them.
    let (mut next, mut next_at, mut at) = (header.next_header(), 6, ipv6::HEADER);
    for _ in 0..ipv6::MOST_HEADERS {
        let bytes = header.payload().get(at - ipv6::HEADER..)?;
        let length = match next {
            // RFC 4443 §3.1: nothing listens there.
            TCP | UDP => return Some(Error { kind: 1, code: 4, argument: 0 }),
            // RFC 4443 §2.4 (b): unknown messages are dropped. RFC 8200 §4.7: there is no next header.
            nd::ICMPV6 | NO_NEXT_HEADER => return None,
            // RFC 8200 §4.1: hop-by-hop options are recognized behind the IPv6 header only.
            HOP_BY_HOP if at == ipv6::HEADER => options(bytes, at)?,
            DESTINATION_OPTIONS => options(bytes, at)?,
            // §4.4: with segments left, an unrecognized type is an error that points to the type.
            ROUTING if take::<4>(bytes, 0)?[3] != 0 => return parameter_problem(0, at + 2),
            ROUTING => Ok(extent(bytes)?),
            // §4.5: a whole packet with a fragment header (RFC 6946).
            FRAGMENT if matches!(take::<4>(bytes, 0)?, [.., 0, low] if low & !6 == 0) => Ok(8),
            FRAGMENT => return None,
            // §4: an unrecognized next header.
            _ => return parameter_problem(1, next_at),
        };
        let length = match length {
            Ok(length) => length,
            Err(error) => return error,
        };
        (next, next_at) = (*bytes.first()?, at);
        at += length;
    }
    None
}

/// RFC 4443 §3.4.
fn parameter_problem(code: u8, pointer: usize) -> Option<Error> {
    Some(Error { kind: 4, code, argument: pointer as u32 })
}

/// Length of an extension header, which is in units of 8 bytes without the first.
fn extent(bytes: &[u8]) -> Option<usize> {
    Some(8 + usize::from(*bytes.get(1)?) * 8)
}

/// RFC 8200 §4.2: the length of the header, or what an unrecognized option asks for in the two highest bits of its type.
fn options(bytes: &[u8], start: usize) -> Option<Result<usize, Option<Error>>> {
    let length = extent(bytes)?;
    let all = bytes.get(..length)?;
    let mut at = 2;
    while let Some(&kind) = all.get(at) {
        let after = match kind {
            // Pad1 has neither length nor data.
            0 => at + 1,
            _ => at + 2 + usize::from(*all.get(at + 1)?),
        };
        match kind >> 6 {
            // Pad1, PadN and Router Alert (RFC 2711) are among these; any other is skipped.
            0 => {}
            1 => return Some(Err(None)),
            // The packet is to one of our addresses, not to a group: 2 and 3 mean the same.
            _ => return Some(Err(parameter_problem(2, start + at))),
        }
        at = after;
    }
    Some(Ok(length))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn packet(next: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0x60, 0, 0, 0, 0, payload.len() as u8, next, 64];
        bytes.extend([0; 32]);
        bytes.extend(payload);
        bytes
    }

    fn found(next: u8, payload: &[u8]) -> Option<(u8, u8, u32)> {
        let bytes = packet(next, payload);
        let header = ipv6::Ipv6Header::new_checked(&bytes, bytes.len()).unwrap();
        refusal(&header).map(|error| (error.kind, error.code, error.argument))
    }

    fn extension(next: u8, rest: [u8; 6]) -> Vec<u8> {
        [&[next, 0][..], &rest].concat()
    }

    #[test]
    fn an_unrecognized_next_header_is_pointed_to_where_it_is_named() {
        assert_eq!(found(253, &[0; 8]), Some((4, 1, 6)));
        assert_eq!(found(60, &[extension(253, [1, 4, 0, 0, 0, 0]), vec![0; 8]].concat()), Some((4, 1, 40)));
        let two =
            [extension(60, [1, 4, 0, 0, 0, 0]), extension(132, [1, 4, 0, 0, 0, 0]), vec![0; 8]].concat();
        assert_eq!(found(0, &two), Some((4, 1, 48)));
        // Hop-by-hop options anywhere but first.
        let late = [extension(0, [1, 4, 0, 0, 0, 0]), extension(17, [1, 4, 0, 0, 0, 0])].concat();
        assert_eq!(found(60, &late), Some((4, 1, 40)));
    }

    #[test]
    fn the_upper_layer_is_found_behind_extension_headers() {
        let options = |next| extension(next, [1, 4, 0, 0, 0, 0]);
        for upper in [6, 17] {
            assert_eq!(found(upper, &[0; 20]), Some((1, 4, 0)));
            assert_eq!(found(60, &[options(upper), vec![0; 20]].concat()), Some((1, 4, 0)));
            assert_eq!(found(43, &[extension(upper, [0; 6]), vec![0; 20]].concat()), Some((1, 4, 0)));
            // A fragment header of a whole packet.
            assert_eq!(found(44, &[extension(upper, [0; 6]), vec![0; 20]].concat()), Some((1, 4, 0)));
        }
        for silent in [58, 59] {
            assert_eq!(found(silent, &[0; 20]), None);
            assert_eq!(found(60, &[options(silent), vec![0; 20]].concat()), None);
        }
    }

    #[test]
    fn fragments_wait_for_nobody() {
        assert_eq!(found(44, &[vec![17, 0, 0, 1, 0, 0, 0, 0], vec![0; 20]].concat()), None, "the first");
        assert_eq!(found(44, &[vec![17, 0, 1, 0, 0, 0, 0, 0], vec![0; 20]].concat()), None, "the last");
    }

    #[test]
    fn a_route_with_segments_left_is_pointed_to_by_its_type() {
        assert_eq!(found(43, &[extension(17, [7, 1, 0, 0, 0, 0]), vec![0; 20]].concat()), Some((4, 0, 42)));
    }

    #[test]
    fn an_unrecognized_option_says_itself_what_to_do() {
        let with = |kind| found(60, &[extension(17, [1, 0, kind, 2, 0, 0]), vec![0; 20]].concat());
        assert_eq!(with(0x1e), Some((1, 4, 0)), "skip over it");
        assert_eq!(with(0x5e), None, "discard");
        assert_eq!(with(0x9e), Some((4, 2, 44)));
        assert_eq!(with(0xde), Some((4, 2, 44)));
    }

    proptest! {
        #[test]
        fn any_bytes_end(next in any::<u8>(), payload in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = found(next, &payload);
        }
    }
}
