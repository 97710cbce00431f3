//! Changes by an operator at run time, and by a reloaded configuration file.

use std::net::IpAddr;
use std::sync::{MutexGuard, PoisonError};
use std::time::Instant;

use fibcast_fib::{PortId, VrfId};
use ipnet::IpNet;

use super::show::{CONTROL_TIMEOUT, View, late};
use crate::config::{Config, Route, StaticNeighbor};
use crate::packet::ethernet::Mac;

impl View {
    /// Adds a static neighbor; says what was done, as the others do.
    pub(super) fn add_neighbor(&self, port: String, address: IpAddr, mac: &str) -> Result<String, String> {
        let mac: Mac = mac
            .parse()
            .map_err(|_| format!("expected a MAC address like 02:00:00:00:00:01, found {mac:?}"))?;
        let wanted = StaticNeighbor { port, ip: address, mac };
        let port_index =
            self.config().neighbor(&wanted).map_err(|(key, reason)| format!("{key}: {reason}"))?;
        let port = PortId(port_index as u16);
        self.control
            .ask_mut(CONTROL_TIMEOUT, move |c| c.add_neighbor(port, address, mac, Instant::now()))
            .ok_or_else(late)?;
        Ok(format!("{address} is at {mac} on port {}", wanted.port))
    }

    pub(super) fn config(&self) -> MutexGuard<'_, Config> {
        self.config.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a static neighbor back.
    pub(super) fn delete_neighbor(&self, port: &str, address: IpAddr) -> Result<String, String> {
        let port_index = self.config().port_of(port);
        let port_index =
            port_index.ok_or_else(|| format!("port: expected the name of a [[port]], found {port:?}"))?;
        let removed = self.control.ask_mut(CONTROL_TIMEOUT, move |c| {
            c.remove_neighbor(PortId(port_index as u16), address, Instant::now())
        });
        if removed.ok_or_else(late)? {
            Ok(format!("{address} on port {port} is asked for from now on"))
        } else {
            Err(format!("port {port} has no static neighbor {address}"))
        }
    }

    /// Applies static routes and neighbors of a configuration, which is checked and differs in nothing else: see [`Config::may_reload`].
    ///
    /// # Errors
    /// The control thread does not answer.
    pub fn reload(&self, new: &Config) -> Result<String, String> {
        let mut operators = self.operators();
        let mut config = self.config();
        // What an operator saved counts before the file.
        let counts = |route: &&Route| !operators.is_saved(route.vrf, route.prefix);
        let gone_routes: Vec<(VrfId, IpNet)> = config
            .routes
            .iter()
            .filter(counts)
            .filter(|old| !new.routes.iter().any(|route| (route.vrf, route.prefix) == (old.vrf, old.prefix)))
            .map(|route| (VrfId(route.vrf), route.prefix))
            .collect();
        let fresh = new.routes.iter().filter(counts).filter(|route| !config.routes.contains(route));
        let fresh_routes: Vec<_> = fresh.filter_map(|route| new.route(route).ok()).collect();
        let port_id = |neighbor: &StaticNeighbor| {
            new.port_of(&neighbor.port).map(|port_index| PortId(port_index as u16))
        };
        let gone = config.neighbors.iter().filter(|old| {
            !new.neighbors.iter().any(|neighbor| (&neighbor.port, neighbor.ip) == (&old.port, old.ip))
        });
        let gone_neighbors: Vec<_> = gone.filter_map(|old| Some((port_id(old)?, old.ip))).collect();
        let fresh = new.neighbors.iter().filter(|neighbor| !config.neighbors.contains(neighbor));
        let fresh_neighbors: Vec<_> =
            fresh.filter_map(|neighbor| Some((port_id(neighbor)?, neighbor.ip, neighbor.mac))).collect();
        let summary = format!(
            "routes: {} added or changed, {} removed; neighbors: {} added or changed, {} removed",
            fresh_routes.len(),
            gone_routes.len(),
            fresh_neighbors.len(),
            gone_neighbors.len()
        );
        let done = self.control.ask_mut(CONTROL_TIMEOUT, move |control| {
            let now = Instant::now();
            for (vrf, prefix) in gone_routes {
                // An operator may have removed one by hand.
                let _ = control.remove_route(vrf, prefix);
            }
            fresh_routes.iter().for_each(|route| control.add_route(route));
            for (port, address) in gone_neighbors {
                control.remove_neighbor(port, address, now);
            }
            for (port, address, mac) in fresh_neighbors {
                control.add_neighbor(port, address, mac, now);
            }
        });
        done.ok_or_else(late)?;
        // Those that the file has changed are its own again.
        let changed = |of: &Config, other: &Config, (vrf, prefix): (u32, IpNet)| {
            let mut routes = of.routes.iter().filter(|route| (route.vrf, route.prefix) == (vrf, prefix));
            routes.any(|route| !other.routes.contains(route))
        };
        operators.forget_temporary(|key| changed(new, &config, key) || changed(&config, new, key));
        *config = new.clone();
        Ok(summary)
    }
}
