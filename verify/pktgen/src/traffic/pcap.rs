//! Captured frames: files in pcap format, either byte order, micro- or nanoseconds.
//! <https://www.ietf.org/archive/id/draft-gharris-opsawg-pcap-01.html>

use std::net::IpAddr;
use std::path::Path;

use crate::frame::{ETHERNET, IPV4, IPV6, TAG, VLAN, read, read_u16};
use crate::traffic::template::{Layout, LinkLayer, Template};

const FILE_HEADER: usize = 24;
const RECORD_HEADER: usize = 16;
const ETHERNET_LINK: u32 = 1;
/// Larger records are a sign of a damaged file.
const LARGEST_RECORD: usize = 262_144;

#[derive(Debug, thiserror::Error)]
pub enum PcapError {
    #[error("{0}: {1}")]
    Io(String, std::io::Error),
    #[error("{0}: pcapng: expected pcap; convert it with: editcap -F pcap IN OUT")]
    NextGeneration(String),
    #[error("{0}: expected a pcap file")]
    NoPcap(String),
    #[error("{0}: link type {1}: expected 1, Ethernet")]
    LinkType(String, u32),
    #[error("{file}: record {record} at byte {at} is cut off or damaged")]
    CutOff { file: String, record: usize, at: usize },
    #[error("{0}: no UDP or TCP packet with a payload of at least 12 bytes")]
    Nothing(String),
}

/// Packets of a capture that can carry a signature, from their IP headers on, and how many others there were.
#[derive(Debug, PartialEq, Eq)]
pub struct Capture {
    pub packets: Vec<Vec<u8>>,
    pub left_out: usize,
}

pub fn read_file(path: &Path) -> Result<Capture, PcapError> {
    let name = path.display().to_string();
    let file = std::fs::read(path).map_err(|error| PcapError::Io(name.clone(), error))?;
    capture(&file, &name)
}

/// Where a captured packet goes.
pub fn destination(packet: &[u8]) -> Option<IpAddr> {
    Layout::of(packet)?.destination(packet).map(IpAddr::from)
}

fn capture(file: &[u8], name: &str) -> Result<Capture, PcapError> {
    let name = || name.to_owned();
    let magic = read::<4>(file, 0).map(u32::from_le_bytes).ok_or_else(|| PcapError::NoPcap(name()))?;
    let big = match magic {
        0xa1b2_c3d4 | 0xa1b2_3c4d => false,
        0xd4c3_b2a1 | 0x4d3c_b2a1 => true,
        0x0a0d_0d0a => return Err(PcapError::NextGeneration(name())),
        _ => return Err(PcapError::NoPcap(name())),
    };
    let word = |at| {
        read::<4>(file, at)
            .map(|bytes| if big { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) })
    };
    let link = word(20).ok_or_else(|| PcapError::NoPcap(name()))? & 0xffff;
    if link != ETHERNET_LINK {
        return Err(PcapError::LinkType(name(), link));
    }
    let probe = LinkLayer { from: [0; 6], to: [0; 6], vlan: None };
    let (mut at, mut record) = (FILE_HEADER, 0);
    let mut capture = Capture { packets: Vec::new(), left_out: 0 };
    while at < file.len() {
        record += 1;
        let cut_off = || PcapError::CutOff { file: name(), record, at };
        let length = word(at + 8).map(|length| length as usize).filter(|&length| length <= LARGEST_RECORD);
        let length = length.ok_or_else(cut_off)?;
        let from = at + RECORD_HEADER;
        let frame = file.get(from..from + length).ok_or_else(cut_off)?;
        match network(frame).filter(|packet| Template::captured(&probe, packet).is_some()) {
            Some(packet) => capture.packets.push(packet.to_vec()),
            None => capture.left_out += 1,
        }
        at = from + length;
    }
    if capture.packets.is_empty() {
        return Err(PcapError::Nothing(name()));
    }
    Ok(capture)
}

/// The IP packet of a frame, behind one tag or none.
fn network(frame: &[u8]) -> Option<&[u8]> {
    let at = if read_u16(frame, 12)? == VLAN { ETHERNET + TAG } else { ETHERNET };
    matches!(read_u16(frame, at - 2)?, IPV4 | IPV6).then_some(frame.get(at..)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::traffic::frames::{Frames, Protocol, Source, Target};

    fn frame(v6: bool) -> Vec<u8> {
        let link = LinkLayer { from: [2; 6], to: [4; 6], vlan: None };
        let source =
            Source { link, from4: Some("9.0.0.1".parse().unwrap()), from6: Some("2a00::1".parse().unwrap()) };
        let frames = Frames::new(&[source], Protocol::Udp, &[120]).unwrap();
        let to: IpAddr = if v6 { "2a00::2" } else { "9.0.0.2" }.parse().unwrap();
        let mut out = [0; 200];
        let length = frames
            .write(&Target { to: to.into(), ingress: 0, core: 0, flow: 3 }, false, 4, &mut out)
            .unwrap();
        out[..length].to_vec()
    }

    #[test]
    fn packets_are_read_in_both_byte_orders_and_others_counted() {
        let arp = [&[0xff; 12][..], &[8, 6], &[0; 46]].concat();
        let frames = [frame(false), arp, frame(true)];
        let file = fibcast_testbed::pcap::write(&frames);
        let expected =
            Capture { packets: vec![frames[0][14..].to_vec(), frames[2][14..].to_vec()], left_out: 1 };
        assert_eq!(capture(&file, "x").unwrap(), expected);
        let mut swapped = Vec::new();
        swapped.extend(0xa1b2_c3d4_u32.to_be_bytes());
        swapped.extend([0, 2, 0, 4]);
        for word in [0, 0, 65_535, 1] {
            swapped.extend(u32::to_be_bytes(word));
        }
        for frame in &frames {
            for word in [1, 2, frame.len() as u32, frame.len() as u32] {
                swapped.extend(word.to_be_bytes());
            }
            swapped.extend(frame);
        }
        assert_eq!(capture(&swapped, "x").unwrap(), expected);
    }

    #[test]
    fn file_that_is_cut_off_is_refused_with_its_place() {
        let file = fibcast_testbed::pcap::write([frame(false), frame(true)]);
        for length in file.len() - 50..file.len() {
            let error = capture(&file[..length], "x.pcap").unwrap_err().to_string();
            assert_eq!(
                error,
                format!("x.pcap: record 2 at byte {} is cut off or damaged", 24 + 16 + frame(false).len())
            );
        }
    }

    #[test]
    fn what_is_no_capture_of_ethernet_is_refused() {
        let words = |words: &[u32]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>();
        for (file, expected) in [
            (vec![], "expected a pcap file"),
            (b"hello, world".to_vec(), "expected a pcap file"),
            (words(&[0x0a0d_0d0a, 0, 0]), "pcapng"),
            (words(&[0xa1b2_c3d4, 4, 0, 0, 0, 101]), "link type 101"),
            (words(&[0xa1b2_c3d4, 4, 0, 0, 0, 1]), "no UDP or TCP packet"),
        ] {
            let error = capture(&file, "x").unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
