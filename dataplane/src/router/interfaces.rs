//! `fibcast show interfaces`: ports, VLAN sub-interfaces and the loopback, with what the driver says of their links.

use fibcast_control::interfaces::{Interface, InterfaceList};
use ipnet::IpNet;

use super::show::{CONTROL_TIMEOUT, View};
use super::state::DeviceState;
use crate::config::Port;
use crate::packet::ethernet::Mac;

/// Name of the loopback, as in Linux and FRR.
const LOOPBACK: &str = "lo";
/// Prefix length of link-local addresses (RFC 4291 §2.5.6).
const LINK_LOCAL: u8 = 64;

impl View {
    /// All interfaces. Without an answer of the control thread, addresses are those of the configuration.
    pub(super) fn interfaces(&self) -> InterfaceList {
        let (addresses, loopback) =
            self.control.ask(CONTROL_TIMEOUT, |control| control.addresses()).unwrap_or_else(|| {
                (self.configured.iter().map(|port| port.addresses.clone()).collect(), Vec::new())
            });
        let ports = self.configured.iter().zip(addresses).enumerate();
        let mut interfaces: Vec<Interface> = ports
            .map(|(port_index, (port, addresses))| interface(port, self.device(port_index), addresses))
            .collect();
        if !loopback.is_empty() {
            interfaces.push(Interface {
                name: LOOPBACK.to_owned(),
                link_up: Some(true),
                addresses: loopback.into_iter().map(IpNet::from).collect(),
                ..Interface::default()
            });
        }
        InterfaceList { interfaces }
    }
}

fn interface(port: &Port, device: Option<&DeviceState>, mut addresses: Vec<IpNet>) -> Interface {
    if let Some(mac) = device.map(|device| device.mac).filter(|mac| *mac != Mac::default())
        && let Ok(link_local) = IpNet::new(mac.link_local().into(), LINK_LOCAL)
        && !addresses.iter().any(|own| own.addr() == link_local.addr())
    {
        addresses.push(link_local);
    }
    Interface {
        name: port.name.clone(),
        parent: port.parent.clone(),
        vlan: port.vlan,
        device: port.device.clone(),
        driver: device.map(|device| device.driver.clone()),
        link_up: device.and_then(DeviceState::link_up),
        speed_mbps: device.and_then(DeviceState::speed_mbps),
        mtu: Some(port.mtu),
        vrf: port.vrf,
        mac: device.map(|device| device.mac.to_string()),
        addresses,
    }
}
