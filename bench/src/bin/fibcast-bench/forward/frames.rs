//! The frames that both sides receive for ever: a pcap file per port, as small as Ethernet has them.

use std::io;
use std::path::{Path, PathBuf};

use fibcast_dataplane::packet::checksum;

use super::Traffic;
use crate::input::{Family, Random, Table};

/// Ports on either side.
pub const PORTS: usize = 2;
/// Frames per port, each with a destination of its own. DPDK copies them into mbufs at start.
const FRAMES: usize = 8192;

/// The file of a port.
pub fn file(folder: &Path, port: usize) -> PathBuf {
    folder.join(format!("port{port}.pcap"))
}

/// The driver's arguments for a port that receives its file for ever and drops what it sends.
pub fn device(folder: &Path, port: usize) -> String {
    format!("net_pcap{port},rx_pcap={},infinite_rx=1", file(folder, port).display())
}

/// Writes the files of all ports.
pub fn write(table: &Table, traffic: Traffic, folder: &Path) -> io::Result<()> {
    let v4: Vec<(u32, u8)> = table.of::<u32>().map(|(prefix, _)| prefix).collect();
    let v6: Vec<(u128, u8)> = table.of::<u128>().map(|(prefix, _)| prefix).collect();
    let mut random = Random(8);
    for port in 0..PORTS {
        let mut pcap = Vec::new();
        // Magic number, version 2.4, time zone, accuracy, longest frame, Ethernet.
        for word in [0xa1b2_c3d4u32, 0x0004_0002, 0, 0, 65_535, 1] {
            pcap.extend(word.to_le_bytes());
        }
        for _ in 0..FRAMES {
            let sixth = match traffic {
                Traffic::Mixed => random.below(2) == 1,
                Traffic::Ipv6 => true,
                Traffic::Ipv4 | Traffic::OneFlow => false,
            };
            // The address that the driver gives to its port: 02:70:63:61:70 ("pcap"), then its number.
            let mut frame = vec![0x02, 0x70, 0x63, 0x61, 0x70, port as u8, 2, 0, 0, 0, 0, 7];
            if traffic == Traffic::OneFlow {
                frame.extend(ipv4(v4.first().map_or(0, |prefix| prefix.0)));
            } else if sixth && !v6.is_empty() {
                frame.extend(ipv6(u128::within(v6[random.below(v6.len())], &mut random)));
            } else if !v4.is_empty() {
                frame.extend(ipv4(u32::within(v4[random.below(v4.len())], &mut random)));
            }
            for word in [0, 0, frame.len() as u32, frame.len() as u32] {
                pcap.extend(word.to_le_bytes());
            }
            pcap.extend(frame);
        }
        std::fs::write(file(folder, port), pcap)?;
    }
    Ok(())
}

/// The frames that [`write`] made for a port.
pub fn read(folder: &Path, port: usize) -> io::Result<Vec<Vec<u8>>> {
    let pcap = std::fs::read(file(folder, port))?;
    let mut frames = Vec::new();
    let mut rest = pcap.get(24..).unwrap_or_default();
    // Seconds, microseconds, length there, length on the wire.
    while let Some((head, more)) = rest.split_first_chunk::<16>() {
        let [.., a, b, c, d, _, _, _, _] = *head;
        let length = u32::from_le_bytes([a, b, c, d]) as usize;
        let Some((frame, more)) = more.split_at_checked(length) else { break };
        frames.push(frame.to_vec());
        rest = more;
    }
    Ok(frames)
}

/// UDP in a frame of 60 bytes.
fn ipv4(destination: u32) -> Vec<u8> {
    let mut header = vec![0x45, 0, 0, 46, 0, 0, 0, 0, 255, 17, 0, 0, 198, 18, 0, 7];
    header.extend(destination.to_be_bytes());
    let sum = checksum::checksum(&header);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    [[8, 0].as_slice(), &header, &[0; 26]].concat()
}

/// UDP in a frame of 62 bytes.
fn ipv6(destination: u128) -> Vec<u8> {
    let source: u128 = 0x2001_0002 << 96 | 7;
    let header = [0x86, 0xdd, 0x60, 0, 0, 0, 0, 8, 17, 255];
    [header.as_slice(), &source.to_be_bytes(), &destination.to_be_bytes(), &[0; 8]].concat()
}
