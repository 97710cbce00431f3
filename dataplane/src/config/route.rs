//! `[[static_route]]`: static routes, which take precedence over those from servers.

use std::collections::HashSet;
use std::net::IpAddr;

use fibcast_daemon::config::{ConfigError, Loaded};
use fibcast_fib::{Group, Member, NextHop, PortId, Special, VrfId};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::port::Port;
use super::{Config, MAX_VRFS, is_host};
use crate::control::own_routes::StaticRoute;
use crate::packet::ipv6;

/// `[[static_route]]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// Destination prefix.
    pub prefix: IpNet,
    /// VRF.
    #[serde(default, skip_serializing_if = "is_default")]
    pub vrf: u32,
    /// Gateway, or several that share the traffic (ECMP).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub via: Option<Via>,
    /// Name of the gateways' port: they are on its link, whether one of its subnets has them or not. Without a gateway: every destination is on
    /// the link itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<String>,
    /// The gateways are on the port's link (`onlink` of Linux). `port` alone says so already; it has to be named.
    #[serde(default, skip_serializing_if = "is_default")]
    pub onlink: bool,
    /// Weights of the gateways in their order; equal by default.
    #[serde(default, skip_serializing_if = "is_default")]
    pub weights: Vec<u16>,
    /// Drop silently.
    #[serde(default, skip_serializing_if = "is_default")]
    pub blackhole: bool,
    /// Drop and send ICMP host unreachable.
    #[serde(default, skip_serializing_if = "is_default")]
    pub unreachable: bool,
    /// Drop and send ICMP administratively prohibited.
    #[serde(default, skip_serializing_if = "is_default")]
    pub prohibit: bool,
}

/// What need not be written.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// One gateway or several.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, expecting = "expected an address or a list of addresses")]
pub enum Via {
    /// A single gateway.
    One(IpAddr),
    /// Several gateways; the flow hash selects one.
    Many(Vec<IpAddr>),
}

impl Via {
    /// The gateways.
    pub fn gateways(&self) -> &[IpAddr] {
        match self {
            Via::One(gateway) => std::slice::from_ref(gateway),
            Via::Many(gateways) => gateways,
        }
    }
}

impl Config {
    pub(super) fn check_routes(&self, loaded: &Loaded<Config>) -> Result<(), ConfigError> {
        let mut seen = HashSet::new();
        for (index, route) in self.routes.iter().enumerate() {
            let wrong = |key: &str, reason: String| {
                loaded.error(&["static_route".into(), index.into(), key.into()], reason)
            };
            if !seen.insert((route.vrf, route.prefix)) {
                return Err(wrong("prefix", format!("{} is configured twice", route.prefix)));
            }
            self.route(route).map_err(|(key, reason)| wrong(key, reason))?;
        }
        Ok(())
    }

    /// A route in the form of the control side. An error comes with the key that is wrong.
    ///
    /// # Errors
    /// The key and the reason if a value is invalid.
    pub fn route(&self, route: &Route) -> Result<StaticRoute, (&'static str, String)> {
        if route.prefix.trunc() != route.prefix {
            return Err(("prefix", format!("expected {}, found host bits set", route.prefix.trunc())));
        }
        if route.vrf >= MAX_VRFS {
            return Err(("vrf", format!("expected a number below {MAX_VRFS}, found {}", route.vrf)));
        }
        let is_of = |port: &&Port| {
            let mut own = port.addresses.iter().flat_map(|own| [own.trunc(), IpNet::from(own.addr())]);
            port.vrf == route.vrf && own.any(|own| own == route.prefix)
        };
        if let Some(port) = self.ports.iter().find(is_of) {
            return Err((
                "prefix",
                format!("{} follows from an address of port {}", route.prefix, port.name),
            ));
        }
        if let Some(name) = &route.port
            && self.port_of(name).is_none()
        {
            return Err(("port", format!("expected the name of a [[port]], found {name:?}")));
        }
        let gateways = route.via.as_ref().map_or(&[][..], Via::gateways);
        if route.onlink && (route.port.is_none() || gateways.is_empty()) {
            return Err(("onlink", "expected via and port as well: the gateway and its link".to_owned()));
        }
        if route.port.is_some() && (route.blackhole || route.unreachable || route.prohibit) {
            return Err(("port", "has no effect on packets that are dropped".to_owned()));
        }
        // RFC 8950: IPv4 packets may go to an IPv6 next hop, but not the other way round.
        let unfit = |via: &&IpAddr| via.is_ipv4() && matches!(route.prefix, IpNet::V6(_)) || !is_host(**via);
        if let Some(via) = gateways.iter().find(unfit) {
            return Err(("via", format!("expected a gateway for {}, found {via}", route.prefix)));
        }
        if let Some(via) = gateways.iter().find(|via| ipv6::is_link_local_v6(**via) && route.port.is_none()) {
            return Err(("port", format!("{via} is link-local: expected the port's name as well")));
        }
        let port = route.port.as_ref().and_then(|name| self.ports.iter().find(|port| port.name == *name));
        let vrf = port.map_or(route.vrf, |port| port.vrf);
        if let Some(via) = gateways.iter().find(|via| self.owns(vrf, **via)) {
            return Err(("via", format!("expected a gateway, found {via}, an address of this router")));
        }
        if !route.weights.is_empty() && route.weights.len() != gateways.len() {
            let (expected, found) = (gateways.len(), route.weights.len());
            return Err(("weights", format!("expected one for each of {expected}, found {found}")));
        }
        let group = self.group_of(route).map_err(|reason| ("via", reason))?;
        Ok(StaticRoute { vrf: VrfId(route.vrf), prefix: route.prefix, group })
    }

    /// The next-hop group of a configured route.
    fn group_of(&self, route: &Route) -> Result<Group, String> {
        let port = route
            .port
            .as_ref()
            .and_then(|name| self.port_of(name))
            .map(|port_index| PortId(port_index as u16));
        let groups = [
            (route.blackhole, Group::Special(Special::Blackhole)),
            (route.unreachable, Group::Special(Special::Unreachable)),
            (route.prohibit, Group::Special(Special::Prohibit)),
        ];
        let mut chosen: Vec<Group> =
            groups.into_iter().filter(|(asked, _)| *asked).map(|(_, group)| group).collect();
        if let Some(via) = &route.via {
            let weights = route.weights.iter().copied().chain(std::iter::repeat(1));
            let member = |(gateway, weight): (&IpAddr, u16)| Member {
                next_hop: NextHop { gateway: Some(*gateway), port },
                weight,
            };
            let members = via.gateways().iter().zip(weights).map(member).collect();
            chosen.push(Group::hops(members).map_err(|error| error.to_string())?);
        } else if let (Some(port), true) = (port, chosen.is_empty()) {
            chosen.push(Group::one(NextHop::connected(port)).map_err(|error| error.to_string())?);
        }
        match (chosen.len(), chosen.pop()) {
            (1, Some(group)) => Ok(group),
            _ => {
                Err("expected one of via, port, blackhole = true, unreachable = true, prohibit = true"
                    .to_owned())
            }
        }
    }

    /// Whether an address of a VRF is one of the router's own.
    fn owns(&self, vrf: u32, address: IpAddr) -> bool {
        let ports = self.ports.iter().filter(|port| port.vrf == vrf);
        let loopback = self.node.loopback.iter().filter(|_| vrf == VrfId::DEFAULT.0);
        ports.flat_map(|port| &port.addresses).chain(loopback).any(|own| own.addr() == address)
    }

    /// `[[static_route]]` in the form of the control side.
    pub fn static_routes(&self) -> Vec<StaticRoute> {
        self.routes.iter().filter_map(|route| self.route(route).ok()).collect()
    }
}
