//! The frames that both sides receive for ever: a pcap file per port, as small as Ethernet has them.

use std::io;
use std::path::{Path, PathBuf};

use fibcast_dataplane::packet::checksum;
use fibcast_testbed::pcap;

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
        let mut frames = Vec::new();
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
            frames.push(frame);
        }
        std::fs::write(file(folder, port), pcap::write(frames))?;
    }
    Ok(())
}

/// The frames that [`write`] made for a port.
pub fn read(folder: &Path, port: usize) -> io::Result<Vec<Vec<u8>>> {
    Ok(pcap::read(&std::fs::read(file(folder, port))?))
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
