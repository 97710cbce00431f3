//! `[[port]]`: devices and sub-interfaces.

use std::collections::HashSet;
use std::net::IpAddr;

use fibcast_daemon::config::{ConfigError, Loaded};
use fibcast_fib::VrfId;
use fibcast_machine::pci;
use ipnet::IpNet;
use serde::Deserialize;

use super::{Config, MAX_VRFS, is_host};
use crate::control::PortSetup;
use crate::exception_path::name_of;
use crate::packet::ethernet::Mac;
use crate::packet::ipv6;
use crate::pipeline::port::{Link, ReversePath};
use crate::preflight::is_on_interface;

/// Smallest MTU: that of IPv6 (RFC 8200 §5).
const MIN_MTU: u16 = 1_280;
/// Most ports; more than one machine has.
const MAX_PORTS: usize = 256;
/// Most queues of a port; more than a device needs.
const MAX_QUEUES: u16 = 256;

/// `[[port]]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Port {
    /// Its name.
    pub name: String,
    /// DPDK devargs or PCI address; none for a sub-interface.
    pub device: Option<String>,
    /// Name of the port that this VLAN sub-interface belongs to.
    pub parent: Option<String>,
    /// VLAN id (IEEE 802.1Q), 1 to 4094.
    pub vlan: Option<u16>,
    /// VRF of the port.
    #[serde(default)]
    pub vrf: u32,
    /// Reverse-path check of source addresses (RFC 3704): `off`, `loose` or `strict`.
    #[serde(default)]
    pub reverse_path: ReversePath,
    /// Addresses of the port, each with its prefix length.
    #[serde(default)]
    pub addresses: Vec<IpNet>,
    /// MTU: largest IP packet in bytes.
    #[serde(default = "Port::default_mtu")]
    pub mtu: u16,
    /// Create a TAP interface of the port in the kernel: the exception path for packets to the router itself.
    #[serde(default)]
    pub exception_path: bool,
    /// Number of receive queues. Default: one for each worker if the device (RSS) or its peer spreads flows over them, otherwise one.
    pub rx_queues: Option<u16>,
    /// Number of transmit queues. Default: one for each worker if the device has them. Workers share them if there are fewer.
    pub tx_queues: Option<u16>,
    /// Descriptors of each receive queue.
    #[serde(default = "Port::default_descriptors")]
    pub rx_desc: u16,
    /// Descriptors of each transmit queue.
    #[serde(default = "Port::default_descriptors")]
    pub tx_desc: u16,
}

impl Port {
    fn default_mtu() -> u16 {
        1_500
    }

    fn default_descriptors() -> u16 {
        1_024
    }

    /// Name of its device in DPDK's form, PCI addresses with their domain; none for a sub-interface.
    pub fn device_name(&self) -> Option<String> {
        let name = self.device.as_deref()?.split(',').next()?;
        Some(pci::address(name).unwrap_or_else(|| name.to_owned()))
    }

    /// Devargs of its device: name and arguments.
    pub fn devargs(&self) -> Option<String> {
        let (_, arguments) = self.device.as_deref()?.split_once(',').unwrap_or_default();
        let name = self.device_name()?;
        Some(if arguments.is_empty() { name } else { format!("{name},{arguments}") })
    }

    /// The interface of the kernel that its device is, if its driver has one.
    pub fn interface(&self) -> Option<String> {
        let device = self.devargs().filter(|device| is_on_interface(device))?;
        device.split(',').find_map(|argument| argument.strip_prefix("iface=")).map(str::to_owned)
    }

    /// PCI devices that a virtual device uses, as named by `net_bonding` and `net_failsafe`.
    pub fn members(&self) -> Vec<String> {
        let words = self.device.as_deref().unwrap_or_default().split([',', '=', '(', ')']);
        words.skip(1).filter_map(pci::address).collect()
    }

    /// Whether its device is on the PCI bus.
    pub fn is_on_pci(&self) -> bool {
        self.device_name().is_some_and(|name| pci::address(&name).is_some())
    }
}

impl Config {
    pub(super) fn check_ports(&self, loaded: &Loaded<Config>) -> Result<(), ConfigError> {
        if self.ports.is_empty() || self.ports.len() > MAX_PORTS {
            let found = self.ports.len();
            return Err(
                loaded.error(&["port".into()], format!("expected 1 to {MAX_PORTS} ports, found {found}"))
            );
        }
        let (mut names, mut devices, mut addresses) = (HashSet::new(), HashSet::new(), HashSet::new());
        let (mut tags, mut interfaces) = (HashSet::new(), HashSet::new());
        for (port_index, port) in self.ports.iter().enumerate() {
            let wrong = |key: &str, reason: String| {
                loaded.error(&["port".into(), port_index.into(), key.into()], reason)
            };
            if port.name.is_empty() || !names.insert(&port.name) {
                return Err(wrong("name", format!("expected a unique name, found {:?}", port.name)));
            }
            match (&port.device, &port.parent, port.vlan) {
                (Some(_), None, None) => {
                    let device = port.device_name().unwrap_or_default();
                    if device.is_empty() || !devices.insert(device.clone()) {
                        return Err(wrong(
                            "device",
                            format!("expected a device that no other port uses, found {device:?}"),
                        ));
                    }
                }
                (None, Some(parent), Some(vlan)) => {
                    let found = self.ports.iter().find(|port| port.name == *parent);
                    if found.is_none_or(|parent| parent.device.is_none()) {
                        return Err(wrong(
                            "parent",
                            format!("expected the name of a [[port]] with a device, found {parent:?}"),
                        ));
                    }
                    if !(1..=4_094).contains(&vlan) || !tags.insert((parent, vlan)) {
                        return Err(wrong(
                            "vlan",
                            format!("expected an unused VLAN of {parent} from 1 to 4094, found {vlan}"),
                        ));
                    }
                    if found.is_some_and(|parent| parent.mtu < port.mtu) {
                        let reason = format!("expected at most the MTU of {parent}, found {}", port.mtu);
                        return Err(wrong("mtu", reason));
                    }
                }
                _ => {
                    return Err(wrong(
                        "device",
                        "expected either a device, or parent and vlan of a sub-interface".to_owned(),
                    ));
                }
            }
            if port.vrf >= MAX_VRFS {
                return Err(wrong("vrf", format!("expected a number below {MAX_VRFS}, found {}", port.vrf)));
            }
            if port.mtu < MIN_MTU {
                return Err(wrong("mtu", format!("expected at least {MIN_MTU}, found {}", port.mtu)));
            }
            if port.exception_path && !interfaces.insert(name_of(&port.name)) {
                let reason =
                    format!("the TAP interface of another port already has the name {}", name_of(&port.name));
                return Err(wrong("exception_path", reason));
            }
            for (key, found) in [("rx_queues", port.rx_queues), ("tx_queues", port.tx_queues)] {
                let Some(found) = found else { continue };
                if port.device.is_none() {
                    return Err(wrong(key, "a sub-interface uses the queues of its parent".to_owned()));
                }
                if !(1..=MAX_QUEUES).contains(&found) {
                    return Err(wrong(key, format!("expected 1 to {MAX_QUEUES} queues, found {found}")));
                }
            }
            for (key, found) in [("rx_desc", port.rx_desc), ("tx_desc", port.tx_desc)] {
                if !(32..=32_768).contains(&found) {
                    return Err(wrong(key, format!("expected 32 to 32768 descriptors, found {found}")));
                }
            }
            for address in &port.addresses {
                if !is_host(address.addr()) {
                    return Err(wrong("addresses", format!("expected a host's address, found {address}")));
                }
                // RFC 4291 §2.5.6: a link-local address is one of its link alone; several ports may have the same (fe80::1).
                let link = ipv6::is_link_local_v6(address.addr()).then_some(port_index);
                if !addresses.insert((port.vrf, address.addr(), link)) {
                    return Err(wrong("addresses", format!("{} is configured twice", address.addr())));
                }
            }
        }
        Ok(())
    }

    /// `[[port]]` in the form of the control side. `macs` are the MAC addresses of the devices, by port index.
    pub fn port_setups(&self, macs: &[Mac]) -> Vec<PortSetup> {
        let loopback: Vec<IpAddr> = self.node.loopback.iter().map(IpNet::addr).collect();
        let setup = |(port_index, port): (usize, &Port)| {
            let parent = port.parent.as_ref().and_then(|name| self.port_of(name));
            let device = parent.unwrap_or(port_index);
            PortSetup {
                name: port.name.clone(),
                mac: macs.get(device).copied().unwrap_or_default(),
                addresses: port.addresses.clone(),
                loopback: if port.vrf == VrfId::DEFAULT.0 { loopback.clone() } else { Vec::new() },
                mtu: port.mtu,
                vrf: VrfId(port.vrf),
                link: Link { device: device as u16, vlan: port.vlan },
                reverse_path: port.reverse_path,
                exception_path: port.exception_path,
            }
        };
        self.ports.iter().enumerate().map(setup).collect()
    }
}
