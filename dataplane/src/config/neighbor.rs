//! `[[static_neighbor]]`: static neighbors.

use std::collections::HashSet;
use std::net::IpAddr;

use fibcast_daemon::config::{ConfigError, Loaded};
use serde::{Deserialize, Deserializer};

use super::{Config, is_host};
use crate::packet::ethernet::Mac;

/// `[[static_neighbor]]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StaticNeighbor {
    /// Name of its port.
    pub port: String,
    /// Its address.
    pub ip: IpAddr,
    /// Its MAC address.
    #[serde(deserialize_with = "mac")]
    pub mac: Mac,
}

fn mac<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Mac, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(|_| {
        serde::de::Error::custom(format!("expected a MAC address like 02:00:00:00:00:01, found {text:?}"))
    })
}

impl Config {
    pub(super) fn check_neighbors(&self, loaded: &Loaded<Config>) -> Result<(), ConfigError> {
        let mut seen = HashSet::new();
        for (index, neighbor) in self.neighbors.iter().enumerate() {
            let wrong = |key: &str, reason: String| {
                loaded.error(&["static_neighbor".into(), index.into(), key.into()], reason)
            };
            let port = self.neighbor(neighbor).map_err(|(key, reason)| wrong(key, reason))?;
            if !seen.insert((port, neighbor.ip)) {
                return Err(wrong("ip", format!("{} is configured twice", neighbor.ip)));
            }
        }
        Ok(())
    }

    /// Index of a static neighbor's port. An error comes with the key that is wrong.
    ///
    /// # Errors
    /// The key and the reason if the port does not exist, or an address is not that of a single host.
    pub fn neighbor(&self, neighbor: &StaticNeighbor) -> Result<usize, (&'static str, String)> {
        let Some(port) = self.port_of(&neighbor.port) else {
            return Err(("port", format!("expected the name of a [[port]], found {:?}", neighbor.port)));
        };
        if !is_host(neighbor.ip) {
            return Err(("ip", format!("expected a host's address, found {}", neighbor.ip)));
        }
        if !neighbor.mac.is_unicast() {
            return Err(("mac", format!("expected the address of one station, found {}", neighbor.mac)));
        }
        Ok(port)
    }

    /// `[[static_neighbor]]` in the form of the control side: port index, address, MAC address.
    pub fn static_neighbors(&self) -> Vec<(usize, IpAddr, Mac)> {
        let resolved = |neighbor: &StaticNeighbor| {
            self.port_of(&neighbor.port).map(|port_index| (port_index, neighbor.ip, neighbor.mac))
        };
        self.neighbors.iter().filter_map(resolved).collect()
    }
}
