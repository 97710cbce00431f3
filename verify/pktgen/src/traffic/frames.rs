//! The frames of all ports: writes a packet, and says of one that came back whether it is what it must be now.
//!
//! The check compares the whole packet with its template and what differs from packet to packet, as the router had to send it: there is no
//! part of a packet that nobody looks at. Only if they differ it builds the packet once more, and looks for the reason.

use std::net::IpAddr;

use crate::checksum::{fold, sum};
use crate::frame::network_header;
use crate::traffic::address::Address;
use crate::traffic::signature::{LEN, Signature};
use crate::traffic::sizes::{FCS, LARGEST};
use crate::traffic::template::{Layout, LinkLayer, Stamp, TCP, Template, UDP};

/// The largest frame with a tag, without FCS.
pub const MAX_FRAME: usize = LARGEST as usize;

/// Transport protocols of what is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    #[default]
    Udp,
    Tcp,
    /// Each flow has one of the two.
    Both,
}

/// Sources of the packets of a port.
#[derive(Debug, Clone, Copy)]
pub struct Source {
    pub link: LinkLayer,
    pub from4: Option<std::net::Ipv4Addr>,
    pub from6: Option<std::net::Ipv6Addr>,
}

/// One destination as frames need it.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    pub to: Address,
    pub ingress: u8,
    /// The core whose flow it is.
    pub core: u8,
    pub flow: u32,
}

/// Where a packet's template is: by size, or by captured packet.
#[derive(Debug)]
enum Choice {
    /// The n-th packet has the n-th size of the pattern.
    Sizes(Vec<u16>),
    /// The n-th packet has the n-th template of its family.
    Captured,
    /// The n-th flow has the n-th template.
    Replay,
}

/// Of a port and a family.
type Group = Vec<Template>;

#[derive(Debug)]
pub struct Frames {
    choice: Choice,
    protocol: Protocol,
    /// By port, then by class: IPv4, IPv6, and the same for the second protocol.
    groups: Vec<[Group; 4]>,
    scratch: Vec<u8>,
}

/// A packet of ours that came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrived {
    pub signature: Signature,
    pub to: Address,
    /// Where its IP header is in the frame.
    ip: usize,
    /// Of the signature's words.
    sum: u64,
}

/// What is wrong with a packet's header, other than its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Header {
    pub ttl: u8,
    pub expected_ttl: u8,
    /// The IPv4 header check sum is right (always true for IPv6).
    pub checksum_right: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Judged {
    /// As it must be.
    Right,
    /// TTL or header check sum are wrong, and the rest is right.
    WrongHeader(Header),
    /// Modified in a way that no router may.
    Corrupt(&'static str),
}

impl Frames {
    /// Frames of our own; `sizes` with FCS.
    pub fn new(sources: &[Source], protocol: Protocol, sizes: &[u16]) -> Option<Self> {
        let mut distinct = sizes.to_vec();
        distinct.sort_unstable();
        distinct.dedup();
        let pattern = sizes.iter().filter_map(|size| distinct.binary_search(size).ok().map(|at| at as u16));
        let protocols = match protocol {
            Protocol::Udp => [Some(UDP), None],
            Protocol::Tcp => [Some(TCP), None],
            Protocol::Both => [Some(UDP), Some(TCP)],
        };
        let mut groups = Vec::with_capacity(sources.len());
        for source in sources {
            let mut classes = [const { Group::new() }; 4];
            for (class, group) in classes.iter_mut().enumerate() {
                let from =
                    if class % 2 == 0 { source.from4.map(IpAddr::V4) } else { source.from6.map(IpAddr::V6) };
                if let (Some(from), Some(protocol)) = (from, protocols.get(class / 2).copied().flatten()) {
                    for &size in &distinct {
                        group.push(Template::new(&source.link, from, protocol, size)?);
                    }
                }
            }
            groups.push(classes);
        }
        Some(Self {
            choice: Choice::Sizes(pattern.collect()),
            protocol,
            groups,
            scratch: vec![0; MAX_FRAME + 64],
        })
    }

    /// Frames of captured packets. `replay`: each flow has its own one, and keeps its destination. Packets that cannot carry a signature
    /// must have been left out.
    pub fn captured(sources: &[Source], packets: &[Vec<u8>], replay: bool) -> Option<Self> {
        let mut groups = Vec::with_capacity(sources.len());
        for source in sources {
            let mut classes = [const { Group::new() }; 4];
            for packet in packets {
                let class = if replay { 0 } else { usize::from(packet.first()? >> 4 == 6) };
                classes.get_mut(class)?.push(Template::captured(&source.link, packet)?);
            }
            groups.push(classes);
        }
        let choice = if replay { Choice::Replay } else { Choice::Captured };
        Some(Self { choice, protocol: Protocol::Udp, groups, scratch: vec![0; MAX_FRAME + 64] })
    }

    #[inline(always)]
    fn template<'a>(
        (choice, protocol, groups): (&Choice, Protocol, &'a [[Group; 4]]),
        target: &Target,
        seq: u64,
    ) -> Option<&'a Template> {
        let second = protocol == Protocol::Both && target.flow & 1 == 1;
        let class = usize::from(target.to.is_ipv6()) + if second { 2 } else { 0 };
        let port = groups.get(usize::from(target.ingress))?;
        match choice {
            Choice::Sizes(pattern) => {
                // A division is worth avoiding.
                let at = if pattern.len() == 1 { 0 } else { seq % pattern.len() as u64 };
                let size = *pattern.get(at as usize)?;
                port.get(class)?.get(usize::from(size))
            }
            Choice::Captured => {
                let group = port.get(class)?;
                group.get((seq % (group.len() as u64).max(1)) as usize)
            }
            Choice::Replay => port.first()?.get(target.flow as usize),
        }
    }

    /// Writes a packet; its length. None if `out` is too small, or the port has no address of the family.
    #[inline(always)]
    pub fn write(&self, target: &Target, warm_up: bool, seq: u64, out: &mut [u8]) -> Option<usize> {
        let signature = Signature { warm_up, core: target.core, flow: target.flow, seq };
        let chosen = (&self.choice, self.protocol, self.groups.as_slice());
        Self::template(chosen, target, signature.masked())?
            .write(&Stamp { to: target.to, ttl: ttl(target.flow), signature }, out)
    }

    /// A packet of ours in a frame; none if it is something else.
    #[inline(always)]
    pub fn recognise(frame: &[u8], vlan: Option<u16>) -> Option<Arrived> {
        let ip = network_header(frame, vlan)?;
        let packet = frame.get(ip..)?;
        let layout = Layout::of(packet)?;
        let to = layout.destination(packet)?;
        let bytes: &[u8; LEN] = packet.get(layout.payload..)?.first_chunk()?;
        let (signature, sum) = Signature::read(bytes, to)?;
        Some(Arrived { signature, to, ip, sum })
    }

    /// Whether it is the packet that was sent, after so many hops. `target` is what its signature says.
    #[inline(always)]
    pub fn judge(&mut self, frame: &[u8], arrived: &Arrived, target: &Target, hops: u8) -> Judged {
        let signature = arrived.signature;
        let chosen = (&self.choice, self.protocol, self.groups.as_slice());
        let Some(template) = Self::template(chosen, target, signature.masked()) else {
            return Judged::Corrupt("of a kind that was never sent");
        };
        let stamp = Stamp { to: target.to, ttl: ttl(target.flow).wrapping_sub(hops), signature };
        let found = frame.get(arrived.ip..).unwrap_or_default();
        let is_of_its_type = template.has_type_of(frame, arrived.ip);
        if is_of_its_type && template.matches(&stamp, arrived.sum, found) {
            return Judged::Right;
        }
        if !is_of_its_type {
            return Judged::Corrupt("EtherType changed");
        }
        let Some(length) = template.write(&stamp, &mut self.scratch) else {
            return Judged::Corrupt("truncated");
        };
        let expected = self.scratch.get(template.ip()..length).unwrap_or_default();
        match found.get(..expected.len()) {
            Some(found) => reason(found, expected),
            None => Judged::Corrupt("truncated"),
        }
    }

    /// The smallest frame of a family with FCS.
    pub fn smallest(&self, v6: bool) -> Option<usize> {
        let of_family = |classes: &[Group; 4]| {
            let all = classes.iter().skip(usize::from(v6)).step_by(2).flatten();
            all.map(|template| template.len() + usize::from(FCS)).min()
        };
        self.groups.iter().filter_map(of_family).min()
    }

    /// Mean size with FCS of a family's frames.
    pub fn mean_size(&self, v6: bool) -> Option<f64> {
        let group = self
            .groups
            .iter()
            .find_map(|port| port.get(usize::from(v6)).filter(|group| !group.is_empty()))?;
        let size = |template: &Template| template.len() as f64 + f64::from(FCS);
        let mean = match &self.choice {
            Choice::Sizes(pattern) => {
                let sizes = pattern.iter().filter_map(|&at| group.get(usize::from(at)).map(size));
                sizes.sum::<f64>() / pattern.len() as f64
            }
            _ => group.iter().map(size).sum::<f64>() / group.len() as f64,
        };
        Some(mean)
    }
}

impl Signature {
    fn masked(self) -> u64 {
        self.seq & crate::traffic::signature::SEQ_MASK
    }
}

/// Differs from flow to flow, so that none but the right one is right.
#[inline]
fn ttl(flow: u32) -> u8 {
    40 + (flow % 200) as u8
}

/// Why two packets of one length differ.
#[cold]
fn reason(found: &[u8], expected: &[u8]) -> Judged {
    let v4 = expected.first().is_some_and(|first| first >> 4 == 4);
    let header_len = if v4 { expected.first().map_or(20, |first| usize::from(first & 15) * 4) } else { 40 };
    let may_differ = if v4 { vec![8, 10, 11] } else { vec![7] };
    let differs =
        (0..expected.len()).find(|at| !may_differ.contains(at) && found.get(*at) != expected.get(*at));
    match differs {
        Some(at) if at >= header_len => Judged::Corrupt("payload or port changed"),
        Some(at) => Judged::Corrupt(if v4 { ipv4_field(at) } else { ipv6_field(at) }),
        None => {
            let ttl_at = if v4 { 8 } else { 7 };
            let byte = |bytes: &[u8]| bytes.get(ttl_at).copied().unwrap_or(0);
            let (ttl, expected_ttl) = (byte(found), byte(expected));
            let checksum_right =
                !v4 || found.get(..header_len).is_some_and(|header| fold(sum(0, header)) == 0);
            if ttl == expected_ttl && checksum_right {
                // Zero has two forms in one's complement (RFC 1624 §3).
                return Judged::Right;
            }
            Judged::WrongHeader(Header { ttl, expected_ttl, checksum_right })
        }
    }
}

fn ipv4_field(at: usize) -> &'static str {
    match at {
        0..2 => "IPv4 version, header length or DSCP changed",
        2..4 => "IPv4 total length changed",
        4..6 => "IPv4 identification changed",
        6 | 7 => "IPv4 flags or fragment offset changed",
        9 => "IPv4 protocol changed",
        _ => "IPv4 address or option changed",
    }
}

fn ipv6_field(at: usize) -> &'static str {
    match at {
        0..4 => "IPv6 version, traffic class or flow label changed",
        4..6 => "IPv6 payload length changed",
        6 => "IPv6 next header changed",
        _ => "IPv6 address changed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source() -> Source {
        Source {
            link: LinkLayer { from: [2, 0, 0, 0, 0, 1], to: [2, 0, 0, 0, 0, 2], vlan: None },
            from4: Some("198.18.0.9".parse().unwrap()),
            from6: Some("2001:2::9".parse().unwrap()),
        }
    }

    fn target(v6: bool, flow: u32) -> Target {
        let to: IpAddr = if v6 { "2a00:1::5" } else { "192.0.2.77" }.parse().unwrap();
        Target { to: to.into(), ingress: 0, core: 0, flow }
    }

    /// As a router sends it on.
    fn forwarded(frame: &[u8]) -> Vec<u8> {
        let mut frame = frame.to_vec();
        crate::tests::decrement(&mut frame);
        frame
    }

    fn sent(frames: &Frames, target: &Target, seq: u64) -> Vec<u8> {
        let mut out = [0; MAX_FRAME];
        let length = frames.write(target, false, seq, &mut out).unwrap();
        out[..length].to_vec()
    }

    fn judge(frames: &mut Frames, frame: &[u8], target: &Target) -> Option<Judged> {
        let arrived = Frames::recognise(frame, None)?;
        Some(frames.judge(frame, &arrived, target, 1))
    }

    #[test]
    fn packet_that_was_forwarded_is_right_and_one_that_was_not_is_not() {
        let mut frames = Frames::new(&[source()], Protocol::Both, &[64, 90, 64, 1518]).unwrap();
        for (v6, flow, seq) in [(false, 1, 0), (false, 2, 3), (true, 3, 1), (true, 4, u64::MAX - 1)] {
            let target = target(v6, flow);
            let frame = sent(&frames, &target, seq);
            let arrived = Frames::recognise(&frame, None).unwrap();
            assert_eq!((arrived.to, arrived.signature.flow), (target.to, flow));
            assert_eq!(judge(&mut frames, &forwarded(&frame), &target), Some(Judged::Right));
            let twice = forwarded(&forwarded(&frame));
            for (frame, hops) in [(&frame, 1), (&twice, 2)] {
                let Some(Judged::WrongHeader(header)) = judge(&mut frames, frame, &target) else {
                    panic!("{hops}")
                };
                assert!(header.checksum_right && header.ttl != header.expected_ttl);
            }
            // Padding is none of the packet's business.
            let padded = [forwarded(&frame), vec![0xee; 8]].concat();
            assert_eq!(judge(&mut frames, &padded, &target), Some(Judged::Right));
        }
    }

    /// A router may change MAC addresses, TTL and the IPv4 check sum, and nothing else.
    #[test]
    fn each_other_bit_that_changes_is_found() {
        for size in [64, 128, 571] {
            let mut frames = Frames::new(&[source()], Protocol::Both, &[size]).unwrap();
            for (v6, flow) in [(false, 4), (true, 4), (false, 5), (true, 5)] {
                let target = target(v6, flow);
                let right = forwarded(&sent(&frames, &target, 0x1_0002_0003));
                for bit in 12 * 8..right.len() * 8 {
                    let mut wrong = right.clone();
                    wrong[bit / 8] ^= 1 << (bit % 8);
                    let judged = judge(&mut frames, &wrong, &target);
                    let header = if v6 { vec![21] } else { vec![22, 24, 25] };
                    match judged {
                        // No longer one of ours: it counts as lost.
                        None | Some(Judged::Corrupt(_)) => {}
                        Some(Judged::WrongHeader(_)) => {
                            assert!(header.contains(&(bit / 8)), "byte {}", bit / 8)
                        }
                        Some(Judged::Right) => panic!("size {size}: bit {} of byte {}", bit % 8, bit / 8),
                    }
                }
            }
        }
    }

    #[test]
    fn frame_that_lost_its_end_is_corrupt() {
        let mut frames = Frames::new(&[source()], Protocol::Udp, &[200]).unwrap();
        for v6 in [false, true] {
            let target = target(v6, 0);
            let right = forwarded(&sent(&frames, &target, 1));
            for length in right.len() - 100..right.len() {
                assert_eq!(judge(&mut frames, &right[..length], &target), Some(Judged::Corrupt("truncated")));
            }
        }
    }

    #[test]
    fn other_traffic_is_foreign_and_no_length_panics() {
        let mut frames = Frames::new(&[source()], Protocol::Tcp, &[100]).unwrap();
        let target = target(true, 0);
        let right = sent(&frames, &target, 1);
        for length in 0..right.len() {
            let _ = judge(&mut frames, &right[..length], &target);
        }
        assert_eq!(Frames::recognise(&[], None), None);
        assert_eq!(Frames::recognise(&[0xff; 60], None), None);
        assert_eq!(Frames::recognise(&right, Some(3)), None, "no tag");
    }

    #[test]
    fn zero_of_the_check_sum_has_two_forms() {
        let expected = [0x45, 0, 0, 20, 0, 0, 0, 0, 1, 17, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let mut found = expected;
        let checksum = fold(sum(0, &expected));
        found[10..12].copy_from_slice(&checksum.to_be_bytes());
        assert_eq!(reason(&found, &expected), Judged::Right);
    }

    #[test]
    fn sizes_follow_the_pattern_and_their_mean_is_known() {
        let frames = Frames::new(
            &[source()],
            Protocol::Udp,
            "imix".parse::<super::super::sizes::Sizes>().unwrap().pattern(),
        )
        .unwrap();
        let lengths: Vec<_> = (0..24).map(|seq| sent(&frames, &target(false, 9), seq).len() + 4).collect();
        assert_eq!(lengths.iter().filter(|&&length| length == 570).count(), 8);
        assert_eq!(lengths[..12], lengths[12..]);
        assert!((frames.mean_size(false).unwrap() - 353.83).abs() < 0.01);
        assert_eq!((frames.smallest(false), frames.smallest(true)), (Some(64), Some(78)));
    }

    #[test]
    fn replayed_flow_keeps_its_packet() {
        let mut packets = Vec::new();
        let own = Frames::new(&[source()], Protocol::Udp, &[100, 300]).unwrap();
        for flow in 0..2 {
            packets.push(sent(&own, &target(flow == 1, flow), u64::from(flow))[14..].to_vec());
        }
        let mut frames = Frames::captured(&[source()], &packets, true).unwrap();
        for flow in 0..2 {
            let target = target(flow == 1, flow);
            let frame = sent(&frames, &target, 1000 + u64::from(flow));
            assert_eq!(frame.len(), packets[flow as usize].len() + 14);
            assert_eq!(judge(&mut frames, &forwarded(&frame), &target), Some(Judged::Right));
        }
    }
}
