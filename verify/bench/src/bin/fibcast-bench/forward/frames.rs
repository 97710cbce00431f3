//! The frames that both sides receive for ever: a pcap file per port, as small as Ethernet has them.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use fibcast_dataplane::packet::checksum;
use fibcast_testbed::pcap;

use super::{Traffic, setting};
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
    let mut drawn = Drawn { v4: table.of().collect(), v6: table.of().collect(), random: Random(8) };
    for port in 0..PORTS {
        let frames = (0..FRAMES).filter_map(|_| drawn.frame(traffic, port)).collect::<Vec<_>>();
        std::fs::write(file(folder, port), pcap::write(frames))?;
    }
    Ok(())
}

/// Routes of both families, with their draws.
struct Drawn {
    v4: Vec<((u32, u8), u32)>,
    v6: Vec<((u128, u8), u32)>,
    random: Random,
}

impl Drawn {
    /// The next frame for a port; none where there is no route.
    fn frame(&mut self, traffic: Traffic, port: usize) -> Option<Vec<u8>> {
        let sixth = match traffic {
            Traffic::Ipv6 => true,
            Traffic::Ipv4 | Traffic::OneFlow => false,
            _ => self.random.below(2) == 1 && !self.v6.is_empty(),
        };
        let size = match traffic {
            // IMIX: 7 of 64, 4 of 570, 1 of 1,518 bytes, all with the frame check sequence.
            Traffic::Imix => [60, 60, 60, 60, 60, 60, 60, 566, 566, 566, 566, 1514][self.random.below(12)],
            Traffic::Size1518 => 1514,
            _ => 60,
        };
        let (source, destination, vrf) = match (traffic, sixth) {
            (Traffic::Connected, _) => {
                let to = setting::host(PORTS - 1 - port, self.random.below(setting::HOSTS), sixth);
                (None, to, 0)
            }
            (_, true) => pick(&self.v6, traffic, port, &mut self.random)?,
            (_, false) => pick(&self.v4, traffic, port, &mut self.random)?,
        };
        // The address that the driver gives to its port: 02:70:63:61:70 ("pcap"), then its number.
        let mut frame = vec![0x02, 0x70, 0x63, 0x61, 0x70, port as u8, 2, 0, 0, 0, 0, 7];
        if let Some(tag) = setting::tag(traffic, vrf) {
            frame.extend([0x81, 0]);
            frame.extend(tag.to_be_bytes());
        }
        frame.extend(match (source, destination) {
            (source, IpAddr::V4(destination)) => {
                let source = source.and_then(v4).unwrap_or(Ipv4Addr::new(198, 18 + port as u8, 0, 7));
                ipv4(source, destination, size - 14)
            }
            (source, IpAddr::V6(destination)) => {
                let own = Ipv6Addr::new(0x2001, 2, 0, port as u16, 0, 0, 0, 7);
                ipv6(source.and_then(v6).unwrap_or(own), destination, size.max(62) - 14)
            }
        });
        Some(frame)
    }
}

fn v4(address: IpAddr) -> Option<Ipv4Addr> {
    if let IpAddr::V4(address) = address { Some(address) } else { None }
}

fn v6(address: IpAddr) -> Option<Ipv6Addr> {
    if let IpAddr::V6(address) = address { Some(address) } else { None }
}

/// A destination in a route of the table, its VRF, and, where the router looks for it, a source whose route leads back to the port.
fn pick<F: Family>(
    routes: &[((F, u8), u32)],
    traffic: Traffic,
    port: usize,
    random: &mut Random,
) -> Option<(Option<IpAddr>, IpAddr, u32)> {
    let address = |prefix: (F, u8), random: &mut Random| {
        F::net((F::within(prefix, random), prefix.1)).map(|net| net.addr())
    };
    if traffic == Traffic::OneFlow {
        let (prefix, _) = *routes.first()?;
        return Some((None, F::net(prefix)?.network(), 0));
    }
    if routes.is_empty() {
        return None;
    }
    let (prefix, _) = routes[random.below(routes.len())];
    let destination = address(prefix, random)?;
    let back = |random: &mut Random| {
        let mut draws = std::iter::repeat_with(|| routes[random.below(routes.len())]).take(1_000);
        draws.find(|(_, draw)| setting::port_of(*draw as usize) == port)
    };
    let back = if traffic == Traffic::UrpfStrict { back(random) } else { None };
    let source = back.and_then(|(prefix, _)| address(prefix, random));
    Some((source, destination, setting::vrf_of(traffic, F::net(prefix)?)))
}

/// UDP in a packet of so many bytes.
fn ipv4(source: Ipv4Addr, destination: Ipv4Addr, length: usize) -> Vec<u8> {
    let mut header = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 255, 17, 0, 0];
    header[2..4].copy_from_slice(&(length as u16).to_be_bytes());
    header.extend(source.octets());
    header.extend(destination.octets());
    let sum = checksum::checksum(&header);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    [[8, 0].as_slice(), &header, &vec![0; length - 20]].concat()
}

/// The same.
fn ipv6(source: Ipv6Addr, destination: Ipv6Addr, length: usize) -> Vec<u8> {
    let mut header = vec![0x86, 0xdd, 0x60, 0, 0, 0, 0, 0, 17, 255];
    header[6..8].copy_from_slice(&(length as u16 - 40).to_be_bytes());
    [header.as_slice(), &source.octets(), &destination.octets(), &vec![0; length - 40]].concat()
}
