//! The generator as all neighbors of one router port: answers ARP requests (RFC 826) and neighbor solicitations (RFC 4861), and learns the
//! router's MAC address.
//!
//! Every address of the port's subnets except the router's own is a neighbor. Its MAC address is derived from its address, so that a frame
//! shows which neighbor it was meant for:
//! IPv4 `a.b.c.d` has `02:fc:a:b:c:d`; IPv6 has `06:fc:` and the last four bytes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};

use crate::checksum::{fold, sum};
use crate::frame::{ETHERNET, IPV6, Mac, read, read_u16};

const ARP: u16 = 0x0806;
const ICMPV6: u8 = 58;
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
const ND_LEN: usize = ETHERNET + 40 + 24;
const ND_WITH_OPTION_LEN: usize = ND_LEN + 8;

/// One link between the generator and the router.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    pub name: String,
    /// The generator's own MAC address, from which it sends.
    pub mac: Mac,
    pub subnet4: Option<Ipv4Net>,
    pub subnet6: Option<Ipv6Net>,
    /// The router's addresses.
    pub peer4: Option<Ipv4Addr>,
    pub peer6: Option<Ipv6Addr>,
    /// The router's MAC address, if it is not asked for.
    pub peer_mac: Option<Mac>,
    /// All frames have this tag.
    pub vlan: Option<u16>,
}

/// Meaning of a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// A request of the router; send this back. `router` is its MAC address if the request came from its own address.
    Question { answer: Vec<u8>, router: Option<Mac> },
    /// The router announced its MAC address.
    Router(Mac),
    /// Not ARP or neighbor discovery for us.
    Nothing,
}

/// The MAC address of the neighbor with this address.
pub fn mac_of(address: IpAddr) -> Mac {
    let (first, [a, b, c, d]) = match address {
        IpAddr::V4(address) => (0x02, address.octets()),
        IpAddr::V6(address) => (0x06, (u128::from(address) as u32).to_be_bytes()),
    };
    [first, 0xfc, a, b, c, d]
}

impl Link {
    /// The generator's own IPv4 address: the last host of the subnet.
    pub fn host4(&self) -> Option<Ipv4Addr> {
        self.subnet4.map(|net| Ipv4Addr::from(u32::from(net.broadcast()).wrapping_sub(1)))
    }

    /// The generator's own IPv6 address: the last but one of the subnet.
    pub fn host6(&self) -> Option<Ipv6Addr> {
        self.subnet6.map(|net| Ipv6Addr::from(u128::from(net.broadcast()).wrapping_sub(1)))
    }

    pub fn holds(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(address) => self.subnet4.is_some_and(|net| net.contains(&address)),
            IpAddr::V6(address) => self.subnet6.is_some_and(|net| net.contains(&address)),
        }
    }

    /// The MAC address with which we answer for `address`, if it is one of ours.
    fn answers_with(&self, address: IpAddr) -> Option<Mac> {
        let router =
            self.peer4.map(IpAddr::V4) == Some(address) || self.peer6.map(IpAddr::V6) == Some(address);
        if router || !self.holds(address) {
            return None;
        }
        let host =
            self.host4().map(IpAddr::V4) == Some(address) || self.host6().map(IpAddr::V6) == Some(address);
        Some(if host { self.mac } else { mac_of(address) })
    }

    pub fn hear(&self, frame: &[u8]) -> Heard {
        match read_u16(frame, 12) {
            Some(ARP) => self.hear_arp(frame),
            Some(IPV6) => self.hear_nd(frame),
            _ => None,
        }
        .unwrap_or(Heard::Nothing)
    }

    fn hear_arp(&self, frame: &[u8]) -> Option<Heard> {
        let arp = frame.get(ETHERNET..ETHERNET + 28)?;
        if arp.get(..6)? != [0, 1, 8, 0, 6, 4] {
            return None;
        }
        let sender_mac: Mac = read(arp, 8)?;
        let sender = Ipv4Addr::from(read::<4>(arp, 14)?);
        let target = Ipv4Addr::from(read::<4>(arp, 24)?);
        let router = (self.peer4 == Some(sender)).then_some(sender_mac);
        match read_u16(arp, 6)? {
            1 => match self.answers_with(target.into()) {
                Some(mac) if sender != target => Some(Heard::Question {
                    answer: arp_frame(2, (mac, target), (sender_mac, sender)),
                    router,
                }),
                _ => router.map(Heard::Router),
            },
            2 => router.map(Heard::Router),
            _ => None,
        }
    }

    fn hear_nd(&self, frame: &[u8]) -> Option<Heard> {
        let ip = frame.get(ETHERNET..)?;
        let length = usize::from(read_u16(ip, 4)?);
        let icmp = ip.get(40..40 + length)?;
        // RFC 4861 §7.1.1 and §7.1.2: hop limit 255, check sum, code 0, length.
        if ip.get(6) != Some(&ICMPV6) || ip.get(7) != Some(&255) || length < 24 || icmp.get(1) != Some(&0) {
            return None;
        }
        let pseudo = sum(u32::from(ICMPV6) + length as u32, ip.get(8..40)?);
        if fold(sum(pseudo, icmp)) != 0 {
            return None;
        }
        let from = Ipv6Addr::from(read::<16>(ip, 8)?);
        let target = Ipv6Addr::from(read::<16>(icmp, 8)?);
        let link_layer: Mac = link_layer_option(icmp.get(24..)?).or_else(|| read(frame, 6))?;
        match *icmp.first()? {
            SOLICITATION => {
                let router = (self.peer6 == Some(from)).then_some(link_layer);
                match self.answers_with(target.into()) {
                    // The unspecified address performs duplicate address detection: not ours to defend.
                    Some(mac) if !from.is_unspecified() => Some(Heard::Question {
                        answer: nd_frame(ADVERTISEMENT, mac, link_layer, target, from, target)?,
                        router,
                    }),
                    _ => router.map(Heard::Router),
                }
            }
            ADVERTISEMENT if self.peer6 == Some(target) => Some(Heard::Router(link_layer)),
            _ => None,
        }
    }

    /// Frames that request the router's MAC address.
    pub fn ask_for_router(&self) -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        if let (Some(host), Some(peer)) = (self.host4(), self.peer4) {
            let mut frame = arp_frame(1, (self.mac, host), ([0; 6], peer));
            if let Some(to) = frame.get_mut(..6) {
                to.fill(0xff);
            }
            frames.push(frame);
        }
        if let (Some(host), Some(peer)) = (self.host6(), self.peer6) {
            // The solicited-node group of the peer (RFC 4291 §2.7.1) and its Ethernet group (RFC 2464 §7).
            let [.., a, b, c] = peer.octets();
            let group = Ipv6Addr::from([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a, b, c]);
            frames.extend(nd_frame(SOLICITATION, self.mac, [0x33, 0x33, 0xff, a, b, c], host, group, peer));
        }
        frames
    }
}

fn arp_frame(operation: u16, from: (Mac, Ipv4Addr), to: (Mac, Ipv4Addr)) -> Vec<u8> {
    let mut frame = Vec::with_capacity(60);
    frame.extend(to.0);
    frame.extend(from.0);
    frame.extend(ARP.to_be_bytes());
    frame.extend([0, 1, 8, 0, 6, 4]);
    frame.extend(operation.to_be_bytes());
    frame.extend(from.0);
    frame.extend(from.1.octets());
    frame.extend(to.0);
    frame.extend(to.1.octets());
    frame.resize(60, 0);
    frame
}

fn nd_frame(
    kind: u8,
    mac: Mac,
    to_mac: Mac,
    from: Ipv6Addr,
    to: Ipv6Addr,
    target: Ipv6Addr,
) -> Option<Vec<u8>> {
    let mut frame = Vec::with_capacity(ND_WITH_OPTION_LEN);
    frame.extend(to_mac);
    frame.extend(mac);
    frame.extend(IPV6.to_be_bytes());
    frame.extend([0x60, 0, 0, 0, 0, 32, ICMPV6, 255]);
    frame.extend(from.octets());
    frame.extend(to.octets());
    // Advertisements are solicited and override; the option is the target's or the source's address.
    let (flags, option) = if kind == ADVERTISEMENT { (0x60, 2) } else { (0, 1) };
    frame.extend([kind, 0, 0, 0, flags, 0, 0, 0]);
    frame.extend(target.octets());
    frame.extend([option, 1]);
    frame.extend(mac);
    let pseudo = sum(u32::from(ICMPV6) + 32, frame.get(ETHERNET + 8..ETHERNET + 40)?);
    let checksum = fold(sum(pseudo, frame.get(ETHERNET + 40..)?));
    frame.get_mut(ETHERNET + 42..ETHERNET + 44)?.copy_from_slice(&checksum.to_be_bytes());
    Some(frame)
}

/// The first source or target link-layer address option.
fn link_layer_option(mut options: &[u8]) -> Option<Mac> {
    while let [kind, eighths, ..] = options {
        if matches!(kind, 1 | 2) && *eighths == 1 {
            return read(options, 2);
        }
        if *eighths == 0 {
            return None;
        }
        options = options.get(usize::from(*eighths) * 8..)?;
    }
    None
}

#[cfg(test)]
pub mod tests {
    use super::*;

    pub fn link(number: u8) -> Link {
        Link {
            name: format!("p{number}"),
            mac: [2, 0xfb, 0, 0, 0, number],
            subnet4: Some(format!("198.{}.0.0/16", 18 + number).parse().unwrap()),
            subnet6: Some(format!("2001:2:0:{number}::/64").parse().unwrap()),
            peer4: Some(format!("198.{}.0.1", 18 + number).parse().unwrap()),
            peer6: Some(format!("2001:2:0:{number}::1").parse().unwrap()),
            peer_mac: None,
            vlan: None,
        }
    }

    const ROUTER: Mac = [2, 0, 0, 0, 0, 0x99];

    fn arp_question(target: &str) -> Vec<u8> {
        arp_frame(1, (ROUTER, link(0).peer4.unwrap()), ([0; 6], target.parse().unwrap()))
    }

    fn nd_question(target: &str) -> Vec<u8> {
        let target = target.parse().unwrap();
        nd_frame(SOLICITATION, ROUTER, [0x33; 6], link(0).peer6.unwrap(), target, target).unwrap()
    }

    #[test]
    fn every_gateway_answers_with_the_mac_of_its_address() {
        let Heard::Question { answer, router } = link(0).hear(&arp_question("198.18.3.4")) else { panic!() };
        assert_eq!(router, Some(ROUTER));
        assert_eq!(answer[..12], [&ROUTER[..], &[2, 0xfc, 198, 18, 3, 4]].concat());
        assert_eq!((answer[21], &answer[22..28], &answer[28..32]), (2, &answer[6..12], &[198, 18, 3, 4][..]));

        let Heard::Question { answer, .. } = link(0).hear(&nd_question("2001:2::5:6")) else { panic!() };
        assert_eq!(answer[6..12], [6, 0xfc, 0, 5, 0, 6]);
        let mut router_side = link(0);
        router_side.peer6 = Some("2001:2::5:6".parse().unwrap());
        assert_eq!(router_side.hear(&answer), Heard::Router([6, 0xfc, 0, 5, 0, 6]), "a valid advertisement");
    }

    #[test]
    fn own_host_answers_with_its_own_mac() {
        let Heard::Question { answer, .. } = link(0).hear(&arp_question("198.18.255.254")) else { panic!() };
        assert_eq!(answer[6..12], link(0).mac);
    }

    #[test]
    fn no_answer_for_the_router_itself_for_strangers_and_for_announcements() {
        let link = link(0);
        assert_eq!(link.hear(&arp_question("198.18.0.1")), Heard::Router(ROUTER), "gratuitous, but it tells");
        assert_eq!(link.hear(&arp_question("198.19.0.2")), Heard::Router(ROUTER));
        assert_eq!(link.hear(&nd_question("2001:2::1")), Heard::Router(ROUTER));
        let target = "2001:2::7".parse().unwrap();
        let probing =
            nd_frame(SOLICITATION, ROUTER, [0x33; 6], Ipv6Addr::UNSPECIFIED, target, target).unwrap();
        assert_eq!(link.hear(&probing), Heard::Nothing);
    }

    #[test]
    fn solicitation_with_wrong_check_sum_or_hop_limit_is_ignored() {
        for byte in [ETHERNET + 7, ETHERNET + 43, ETHERNET + 60] {
            let mut frame = nd_question("2001:2::7");
            frame[byte] ^= 1;
            assert_eq!(link(0).hear(&frame), Heard::Nothing, "byte {byte}");
        }
    }

    #[test]
    fn questions_for_the_router_are_understood_and_its_answers_learned() {
        // The other side of the link, seen as a Link whose neighbors include the router's address.
        let mut other = link(0);
        other.peer4 = link(0).host4();
        other.peer6 = link(0).host6();
        for question in link(0).ask_for_router() {
            let Heard::Question { answer, router } = other.hear(&question) else { panic!() };
            assert_eq!(router, Some(link(0).mac));
            assert!(matches!(link(0).hear(&answer), Heard::Router(mac) if mac == answer[6..12]));
        }
    }

    #[test]
    fn no_length_panics() {
        for frame in [arp_question("198.18.3.4"), nd_question("2001:2::5")] {
            for length in 0..frame.len() {
                let _ = link(0).hear(&frame[..length]);
            }
        }
    }
}
