//! Neighbor solicitations and advertisements (RFC 4861 §4.3, §4.4), parsed with the checks of §7.1, and built.

use std::net::Ipv6Addr;

use super::ethernet::{self, Mac, ipv6_at};
use super::{Malformed, checksum, ipv6, put, take};

/// IPv6 next header of ICMPv6.
pub const ICMPV6: u8 = 58;
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
const SOURCE_LINK_LAYER: u8 = 1;
const TARGET_LINK_LAYER: u8 = 2;
/// RFC 4861 §4.4: flags of an advertisement.
const ROUTER: u8 = 0x80;
const SOLICITED: u8 = 0x40;
const OVERRIDE: u8 = 0x20;
/// Bytes of the fixed part: type, code, checksum, flags, target.
const FIXED: usize = 24;
/// Bytes of a link-layer address option for Ethernet.
const OPTION: usize = 8;

/// A neighbor discovery message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message {
    /// Neighbor solicitation: who has the target?
    Solicitation {
        /// Target address.
        target: Ipv6Addr,
        /// MAC address of the sender. None in a duplicate address detection (RFC 4862 §5.4), and allowed to be missing in a request to
        /// this router alone (RFC 4861 §4.3).
        source_mac: Option<Mac>,
    },
    /// Neighbor advertisement: the sender has the target.
    Advertisement {
        /// Target address.
        target: Ipv6Addr,
        /// Its MAC address.
        target_mac: Option<Mac>,
        /// S flag: it answers a solicitation.
        solicited: bool,
        /// O flag: it overrides a cached address.
        overrides: bool,
    },
}

impl Message {
    /// Parses an IPv6 packet.
    ///
    /// # Errors
    /// [`Malformed`] if it is no valid solicitation or advertisement (RFC 4861 §7.1).
    pub fn new_checked(header: &ipv6::Ipv6Header<'_>) -> Result<Message, Malformed> {
        let wrong = |expected, found| Malformed { layer: "ND", expected, found };
        let payload = header.payload();
        if header.next_header() != ICMPV6 {
            return Err(wrong("ICMPv6", usize::from(header.next_header())));
        }
        // RFC 4861 §7.1.1, §7.1.2: a packet from another link cannot have this hop limit.
        if header.hop_limit() != 255 {
            return Err(wrong("a hop limit of 255", usize::from(header.hop_limit())));
        }
        let &[kind, code, _, _, flags, ..] =
            take::<FIXED>(payload, 0).ok_or(wrong("at least 24 bytes", payload.len()))?;
        if code != 0 {
            return Err(wrong("code 0", usize::from(code)));
        }
        if checksum::pseudo_v6(header.source(), header.destination(), ICMPV6, payload) != 0 {
            return Err(wrong("a valid checksum", 0));
        }
        let target = ipv6_at(payload, 8);
        if target.is_multicast() {
            return Err(wrong("a unicast target", 0));
        }
        let options = payload.get(FIXED..).unwrap_or_default();
        match kind {
            SOLICITATION => {
                let (source_mac, has_option) = link_layer(options, SOURCE_LINK_LAYER)?;
                // §7.1.1: a probe for duplicate addresses goes to the group of the address, without a link-layer address.
                if header.source().is_unspecified() && has_option {
                    return Err(wrong("no source link-layer address from the unspecified address", 0));
                }
                if header.source().is_unspecified() && header.destination() != solicited_node(target) {
                    return Err(wrong("the solicited-node group from the unspecified address", 0));
                }
                Ok(Message::Solicitation { target, source_mac })
            }
            ADVERTISEMENT => {
                let solicited = flags & 0x40 != 0;
                // §7.1.2: nobody asks by order of a group.
                if solicited && header.destination().is_multicast() {
                    return Err(wrong("no solicited flag to a group", 0));
                }
                let (target_mac, _) = link_layer(options, TARGET_LINK_LAYER)?;
                Ok(Message::Advertisement { target, target_mac, solicited, overrides: flags & 0x20 != 0 })
            }
            _ => Err(wrong("type 135 or 136", usize::from(kind))),
        }
    }
}

/// The MAC address of the first usable option of a kind, and whether there is any such option. Each option has a length in units of 8 bytes,
/// of which 0 is invalid (RFC 4861 §4.6).
fn link_layer(mut options: &[u8], wanted: u8) -> Result<(Option<Mac>, bool), Malformed> {
    let (mut found, mut any) = (None, false);
    while let [kind, units, ..] = *options {
        let length = usize::from(units) * 8;
        if length == 0 || length > options.len() {
            return Err(Malformed {
                layer: "ND option",
                expected: "a length within the packet",
                found: length,
            });
        }
        any |= kind == wanted;
        if kind == wanted && length == OPTION && found.is_none() {
            found = take::<6>(options, 2).copied().map(Mac).filter(|mac| mac.is_unicast());
        }
        options = options.get(length..).unwrap_or_default();
    }
    Ok((found, any))
}

/// ff02::1:ffXX:XXXX, the solicited-node multicast address of `target` (RFC 4291 §2.7.1).
pub fn solicited_node(target: Ipv6Addr) -> Ipv6Addr {
    let [.., a, b, c] = target.octets();
    Ipv6Addr::from([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a, b, c])
}

/// A neighbor solicitation: to the solicited-node group, or unicast to `known` to probe a neighbor.
pub fn solicitation(mac: Mac, source: Ipv6Addr, target: Ipv6Addr, known: Option<Mac>) -> Vec<u8> {
    let destination = if known.is_some() { target } else { solicited_node(target) };
    let to = known.unwrap_or_else(|| Mac::of_group(destination));
    build(Envelope { to, mac, source, destination }, SOLICITATION, 0, target, Some(SOURCE_LINK_LAYER))
}

/// The solicitation of a duplicate address detection (RFC 4862 §5.4.2): from no address, to the solicited-node group.
pub fn probe(mac: Mac, target: Ipv6Addr) -> Vec<u8> {
    let destination = solicited_node(target);
    let envelope =
        Envelope { to: Mac::of_group(destination), mac, source: Ipv6Addr::UNSPECIFIED, destination };
    build(envelope, SOLICITATION, 0, target, None)
}

/// The neighbor advertisement for `target` from `mac`, in answer to a solicitation from `asker`.
pub fn advertisement(mac: Mac, target: Ipv6Addr, asker: Ipv6Addr, asker_mac: Mac) -> Vec<u8> {
    // RFC 4861 §7.2.4: to all nodes and not marked as solicited if the asker has no address yet.
    let (destination, to, solicited) = if asker.is_unspecified() {
        let all_nodes = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
        (all_nodes, Mac::of_group(all_nodes), 0)
    } else {
        (asker, asker_mac, SOLICITED)
    };
    let flags = ROUTER | OVERRIDE | solicited;
    let envelope = Envelope { to, mac, source: target, destination };
    build(envelope, ADVERTISEMENT, flags, target, Some(TARGET_LINK_LAYER))
}

/// The same for an anycast address of several routers: it overrides no other router's (RFC 4861 §7.2.4). The asker has an address.
pub fn anycast_advertisement(mac: Mac, target: Ipv6Addr, asker: Ipv6Addr, asker_mac: Mac) -> Vec<u8> {
    let envelope = Envelope { to: asker_mac, mac, source: target, destination: asker };
    build(envelope, ADVERTISEMENT, ROUTER | SOLICITED, target, Some(TARGET_LINK_LAYER))
}

struct Envelope {
    to: Mac,
    mac: Mac,
    source: Ipv6Addr,
    destination: Ipv6Addr,
}

fn build(envelope: Envelope, kind: u8, flags: u8, target: Ipv6Addr, option: Option<u8>) -> Vec<u8> {
    let mut message = vec![0; FIXED + if option.is_some() { OPTION } else { 0 }];
    put(&mut message, 0, &[kind]);
    put(&mut message, 4, &[flags]);
    put(&mut message, 8, &target.octets());
    if let Some(option) = option {
        put(&mut message, FIXED, &[option, 1]);
        put(&mut message, FIXED + 2, &envelope.mac.0);
    }
    let field = checksum::pseudo_v6(envelope.source, envelope.destination, ICMPV6, &message);
    put(&mut message, 2, &field.to_be_bytes());
    let mut packet = vec![0; ipv6::HEADER + message.len()];
    put(&mut packet, 0, &[0x60]);
    put(&mut packet, 4, &(message.len() as u16).to_be_bytes());
    put(&mut packet, 6, &[ICMPV6, 255]);
    put(&mut packet, 8, &envelope.source.octets());
    put(&mut packet, 24, &envelope.destination.octets());
    put(&mut packet, ipv6::HEADER, &message);
    ethernet::build(envelope.to, envelope.mac, ethernet::IPV6, &packet)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const OWN: Mac = Mac([2, 0, 0, 0, 0, 1]);

    fn read(frame: &[u8]) -> Result<Message, Malformed> {
        let header = ipv6::Ipv6Header::new_checked(&frame[14..], frame.len() - 14).unwrap();
        Message::new_checked(&header)
    }

    #[test]
    fn a_solicitation_reads_as_built_and_goes_to_the_solicited_node_group() {
        let (own, target): (Ipv6Addr, Ipv6Addr) =
            ("2001:db8::1".parse().unwrap(), "2001:db8::ab:cdef".parse().unwrap());
        let frame = solicitation(OWN, own, target, None);
        assert_eq!(frame[..6], [0x33, 0x33, 0xff, 0xab, 0xcd, 0xef]);
        assert_eq!(read(&frame), Ok(Message::Solicitation { target, source_mac: Some(OWN) }));
    }

    #[test]
    fn an_advertisement_reads_as_built() {
        let (own, asker): (Ipv6Addr, Ipv6Addr) =
            ("2001:db8::1".parse().unwrap(), "2001:db8::9".parse().unwrap());
        let frame = advertisement(OWN, own, asker, Mac([4; 6]));
        let message =
            Message::Advertisement { target: own, target_mac: Some(OWN), solicited: true, overrides: true };
        assert_eq!(read(&frame), Ok(message));
    }

    #[test]
    fn who_has_no_address_yet_is_answered_by_multicast() {
        let own: Ipv6Addr = "2001:db8::1".parse().unwrap();
        let frame = advertisement(OWN, own, Ipv6Addr::UNSPECIFIED, Mac([4; 6]));
        assert_eq!(frame[..6], [0x33, 0x33, 0, 0, 0, 1]);
        assert!(matches!(read(&frame), Ok(Message::Advertisement { solicited: false, .. })));
    }

    #[test]
    fn a_probe_names_no_link_layer_address() {
        let target: Ipv6Addr = "2001:db8::ab:cdef".parse().unwrap();
        let frame = probe(OWN, target);
        assert_eq!((frame.len(), &frame[..6]), (14 + 40 + 24, &[0x33, 0x33, 0xff, 0xab, 0xcd, 0xef][..]));
        assert_eq!(read(&frame), Ok(Message::Solicitation { target, source_mac: None }));
    }

    /// RFC 4861 §7.1: each of these is discarded.
    #[test]
    fn invalid_combinations_are_refused() {
        let (own, asker): (Ipv6Addr, Ipv6Addr) =
            ("2001:db8::1".parse().unwrap(), "2001:db8::9".parse().unwrap());
        let group = solicited_node(own);
        let none = Ipv6Addr::UNSPECIFIED;
        let of = |source, destination, kind, flags, target, option| {
            build(Envelope { to: OWN, mac: OWN, source, destination }, kind, flags, target, option)
        };
        let expected = [
            (
                of(none, group, SOLICITATION, 0, own, Some(SOURCE_LINK_LAYER)),
                "no source link-layer address from the unspecified address",
            ),
            (
                of(none, own, SOLICITATION, 0, own, None),
                "the solicited-node group from the unspecified address",
            ),
            (
                of(none, solicited_node(asker), SOLICITATION, 0, "2001:db8::2".parse().unwrap(), None),
                "the solicited-node group from the unspecified address",
            ),
            (
                of(asker, group, ADVERTISEMENT, 0x60, asker, Some(TARGET_LINK_LAYER)),
                "no solicited flag to a group",
            ),
            (of(asker, own, ADVERTISEMENT, 0x60, group, Some(TARGET_LINK_LAYER)), "a unicast target"),
            (of(asker, own, SOLICITATION, 0, group, Some(SOURCE_LINK_LAYER)), "a unicast target"),
        ];
        for (frame, why) in expected {
            assert_eq!(read(&frame).unwrap_err().expected, why);
        }
        let mut cut = of(asker, own, ADVERTISEMENT, 0x60, asker, None);
        cut.truncate(14 + 40 + 20);
        cut[18..20].copy_from_slice(&20u16.to_be_bytes());
        assert_eq!(read(&cut).unwrap_err().expected, "at least 24 bytes");
    }

    #[test]
    fn a_packet_from_beyond_the_link_is_refused() {
        let own: Ipv6Addr = "2001:db8::1".parse().unwrap();
        let mut frame = solicitation(OWN, own, own, None);
        frame[14 + 7] = 254;
        assert_eq!(read(&frame).unwrap_err().expected, "a hop limit of 255");
    }

    #[test]
    fn a_changed_byte_fails_the_checksum() {
        let own: Ipv6Addr = "2001:db8::1".parse().unwrap();
        let mut frame = solicitation(OWN, own, own, None);
        frame[14 + 40 + 20] ^= 4;
        assert_eq!(read(&frame).unwrap_err().expected, "a valid checksum");
    }

    proptest! {
        #[test]
        fn any_options_are_read_or_refused(options in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = link_layer(&options, SOURCE_LINK_LAYER);
        }
    }
}
