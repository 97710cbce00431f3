//! How the router of a row is set up: its configuration file and its table.
//!
//! Each family has eight gateways behind each of two ports, and a group of one of them for each route, unless the row is about something else.

use std::fmt::Write as _;
use std::net::IpAddr;

use fibcast_fib::{Change, Group, GroupLabel, Member, NextHop, PortId, VrfId};
use ipnet::IpNet;

use super::{Traffic, frames};
use crate::Course;
use crate::input::Table;

/// Gateways of each family behind each port.
pub const GATEWAYS: usize = 8;
/// Gateways of each family.
const ALL: usize = frames::PORTS * GATEWAYS;
/// Hosts of each family in each port's connected subnet, where the row is about those: 20,000 in all.
pub const HOSTS: usize = 5_000;
/// VRFs, where the row is about those.
const VRFS: u32 = 8;
/// Tag of the sub-interfaces of VRF 0; the others follow.
const FIRST_TAG: u16 = 100;

/// The VRFs that have routes.
fn vrfs(traffic: Traffic) -> std::ops::Range<u32> {
    0..if traffic == Traffic::Vrf8 { VRFS } else { 1 }
}

/// The VLAN tag of a VRF's frames.
pub fn tag(traffic: Traffic, vrf: u32) -> Option<u16> {
    matches!(traffic, Traffic::Vlan | Traffic::Vrf8).then_some(FIRST_TAG + vrf as u16)
}

/// The VRF that has the route to a prefix.
pub fn vrf_of(traffic: Traffic, prefix: IpNet) -> u32 {
    let bits = match prefix {
        IpNet::V4(net) => u128::from(net.network().to_bits()),
        IpNet::V6(net) => net.network().to_bits(),
    };
    // Any bit that differs matters: prefixes have zeros at their ends.
    let mixed = (bits ^ bits >> 64) as u64 ^ u64::from(prefix.prefix_len());
    (mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as u32 % vrfs(traffic).end
}

/// The gateway's address.
pub fn gateway(port: usize, number: usize, sixth: bool) -> IpAddr {
    if sixth {
        IpAddr::from([0x2001, 2, 0, port as u16, 0, 0, 0, 0x100 + number as u16])
    } else {
        IpAddr::from([198, 18 + port as u8, 1, number as u8])
    }
}

/// The address of a host in a port's connected subnet.
pub fn host(port: usize, number: usize, sixth: bool) -> IpAddr {
    if sixth {
        IpAddr::from([0x2001, 2, 0, port as u16, 0, 0, 1, number as u16])
    } else {
        IpAddr::from([198, 18 + port as u8, 2 + (number / 256) as u8, (number % 256) as u8])
    }
}

/// The gateway of a route, by the route's draw.
pub fn gateway_of(draw: usize, sixth: bool) -> IpAddr {
    gateway(port_of(draw), draw % GATEWAYS, sixth)
}

/// Index of the port behind which the gateway of a route is, by the route's draw.
pub fn port_of(draw: usize) -> usize {
    draw % ALL / GATEWAYS
}

/// The configuration file: two devices, all neighbors known beforehand, one worker that never rests.
pub fn config(traffic: Traffic, course: Course, rx_desc: u16, device: impl Fn(usize) -> String) -> String {
    let mut toml = interfaces(traffic, course, rx_desc, device);
    for vrf in vrfs(traffic) {
        for port in 0..frames::PORTS {
            neighbors(&mut toml, traffic, port, &name(traffic, port, vrf));
        }
    }
    toml
}

/// The name of a VRF's port or sub-interface.
fn name(traffic: Traffic, port: usize, vrf: u32) -> String {
    tag(traffic, vrf).map_or(format!("p{port}"), |tag| format!("p{port}.{tag}"))
}

/// The same without neighbors: somebody answers for them.
pub fn interfaces(
    traffic: Traffic,
    course: Course,
    rx_desc: u16,
    device: impl Fn(usize) -> String,
) -> String {
    let mut toml = format!(
        "[node]\nname = \"bench\"\n[eal]\nargs = [{}, \"--no-telemetry\", \"-l\", \"{}\", \"--log-level=3\", \"--file-prefix\", \"fibcast-bench-{}\"]\n\
         [workers]\ncores = [{}]\nidle = \"spin\"\n",
        course.memory(512).iter().map(|word| format!("{word:?}")).collect::<Vec<_>>().join(", "),
        course.other,
        std::process::id(),
        course.core
    );
    for port in 0..frames::PORTS {
        let device = device(port);
        let _ = writeln!(toml, "[[port]]\nname = \"p{port}\"\ndevice = \"{device}\"\nrx_desc = {rx_desc}");
        if tag(traffic, 0).is_none() {
            interface(&mut toml, traffic, port);
        }
    }
    for vrf in vrfs(traffic) {
        for port in 0..frames::PORTS {
            if let Some(tag) = tag(traffic, vrf) {
                let name = name(traffic, port, vrf);
                let _ = writeln!(
                    toml,
                    "[[port]]\nname = \"{name}\"\nparent = \"p{port}\"\nvlan = {tag}\nvrf = {vrf}"
                );
                interface(&mut toml, traffic, port);
            }
        }
    }
    toml
}

/// What a port or sub-interface with addresses has.
fn interface(toml: &mut String, traffic: Traffic, port: usize) {
    let _ = writeln!(toml, "addresses = [\"198.{}.0.1/16\", \"2001:2:0:{port}::1/64\"]", 18 + port);
    if traffic == Traffic::UrpfStrict {
        toml.push_str("reverse_path = \"strict\"\n");
    }
}

/// The neighbors of a port with this name.
fn neighbors(toml: &mut String, traffic: Traffic, port: usize, name: &str) {
    let hosts = if traffic == Traffic::Connected { HOSTS } else { 0 };
    for sixth in [false, true] {
        let gateways = (0..GATEWAYS).map(|number| (gateway(port, number, sixth), number));
        for (ip, number) in gateways.chain((0..hosts).map(|number| (host(port, number, sixth), number))) {
            let _ = writeln!(
                toml,
                "[[static_neighbor]]\nport = \"{name}\"\nip = \"{ip}\"\nmac = \"02:00:00:0{port}:{:02x}:{:02x}\"",
                number / 256,
                number % 256
            );
        }
    }
}

fn label(vrf: u32, sixth: bool, draw: usize) -> GroupLabel {
    GroupLabel((1 + draw % ALL + ALL * (usize::from(sixth) + 2 * vrf as usize)) as u64)
}

/// A route by the group of a draw.
pub fn announce(traffic: Traffic, prefix: IpNet, draw: usize) -> Change {
    let vrf = vrf_of(traffic, prefix);
    Change::Announce { vrf: VrfId(vrf), prefix, label: label(vrf, prefix.addr().is_ipv6(), draw) }
}

/// All groups and all routes.
pub fn fill(table: &Table, traffic: Traffic) -> Vec<Change> {
    let mut changes = Vec::new();
    for vrf in vrfs(traffic) {
        for sixth in [false, true] {
            for draw in 0..ALL {
                let label = label(vrf, sixth, draw);
                changes
                    .extend(group(traffic, vrf, sixth, draw).map(|group| Change::PutGroup { label, group }));
            }
        }
    }
    changes.extend(table.routes.iter().map(|&(prefix, group)| announce(traffic, prefix, group as usize)));
    changes
}

/// The group of a draw: one gateway, or four of different ports.
fn group(traffic: Traffic, vrf: u32, sixth: bool, draw: usize) -> Option<Group> {
    let hop = |draw: usize| {
        let at = draw % ALL;
        let port = at / GATEWAYS;
        // By address a gateway is looked for in the default VRF. Ports are numbered as in the file: devices, then the sub-interfaces VRF by VRF.
        let index = frames::PORTS * (1 + vrf as usize) + port;
        let port = tag(traffic, vrf).map(|_| PortId(index as u16));
        NextHop { port, ..NextHop::via(gateway(at / GATEWAYS, at % GATEWAYS, sixth)) }
    };
    if traffic != Traffic::Ecmp4 {
        return Group::one(hop(draw)).ok();
    }
    // 5 and 16 have no common divisor.
    Group::hops((0..4).map(|n| Member { next_hop: hop(draw + 5 * n), weight: 1 }).collect()).ok()
}
