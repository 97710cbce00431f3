//! The next hops of the table, by number, and the port that each is behind.

use std::collections::HashMap;
use std::net::IpAddr;

use ipnet::IpNet;

use super::PlanError;
use crate::frame::Mac;
use crate::neighbor::{Link, mac_of};

/// The expected receiver of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gateway {
    pub address: IpAddr,
    pub mac: Mac,
    pub port: usize,
}

#[derive(Default)]
pub struct Gateways {
    pub list: Vec<Gateway>,
    numbers: HashMap<IpAddr, u32>,
    macs: HashMap<(usize, Mac), IpAddr>,
}

impl Gateways {
    /// The number of a next hop, which is new or not; an error if no port has it.
    pub fn number(&mut self, prefix: IpNet, address: IpAddr, links: &[Link]) -> Result<u32, PlanError> {
        if let Some(&number) = self.numbers.get(&address) {
            return Ok(number);
        }
        let found = links.iter().enumerate().find(|(_, link)| link.holds(address));
        let (port, link) = found.ok_or(PlanError::NoPort { prefix, gateway: address })?;
        let gateway = Gateway { address, mac: mac_of(address), port };
        if let Some(&other) = self.macs.get(&(port, gateway.mac)) {
            return Err(PlanError::SameMac { one: other, other: address, port: link.name.clone() });
        }
        self.macs.insert((port, gateway.mac), address);
        let number = self.list.len() as u32;
        self.list.push(gateway);
        self.numbers.insert(address, number);
        Ok(number)
    }
}
