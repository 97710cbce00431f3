//! `fibcast neighbor` and `fibcast route`: changes of a running dataplane until its next start.

use std::net::IpAddr;

use fibcast_control::DataplaneRequest;
use fibcast_control::protocol::OwnRoute;
use ipnet::IpNet;

/// Neighbors.
#[derive(Debug, Clone, clap::Subcommand)]
pub enum Neighbor {
    /// Adds a static neighbor, which is never solicited.
    Add {
        /// Name of the port.
        port: String,
        /// Its address.
        address: IpAddr,
        /// Its MAC address.
        mac: String,
    },
    /// Removes a static neighbor; the address is resolved dynamically again.
    Del {
        /// Name of the port.
        port: String,
        /// Its address.
        address: IpAddr,
    },
}

impl Neighbor {
    /// What to ask of the daemon.
    pub fn request(&self) -> DataplaneRequest {
        match self.clone() {
            Neighbor::Add { port, address, mac } => DataplaneRequest::NeighborAdd { port, address, mac },
            Neighbor::Del { port, address } => DataplaneRequest::NeighborDelete { port, address },
        }
    }
}

/// Routes.
#[derive(Debug, clap::Subcommand)]
pub enum Route {
    /// Adds a route that takes precedence over those from servers.
    Add {
        /// Destination.
        prefix: IpNet,
        /// Gateway; several share the traffic (ECMP).
        #[arg(long, required_unless_present_any = ["special", "port"], conflicts_with = "special")]
        via: Vec<IpAddr>,
        /// Name of the gateways' port: they are on its link. Without a gateway, the destinations are.
        #[arg(long, conflicts_with = "special")]
        port: Option<String>,
        /// The gateways are on the port's link, as `--port` alone says already.
        #[arg(long, requires_all = ["via", "port"])]
        onlink: bool,
        /// Weights of the gateways, in their order.
        #[arg(long, value_delimiter = ',')]
        weights: Vec<u16>,
        /// Instead of a gateway: blackhole, unreachable or prohibit.
        #[arg(long, value_parser = ["blackhole", "unreachable", "prohibit"])]
        special: Option<String>,
        /// VRF.
        #[arg(long, default_value_t = 0)]
        vrf: u32,
    },
    /// Removes such a route; a server's route to the prefix is used again.
    Del {
        /// Destination.
        prefix: IpNet,
        /// VRF.
        #[arg(long, default_value_t = 0)]
        vrf: u32,
    },
}

impl Route {
    /// What to ask of the daemon.
    pub fn request(&self) -> Result<DataplaneRequest, String> {
        let whole = |prefix: &IpNet| {
            if prefix.trunc() == *prefix {
                Ok(*prefix)
            } else {
                Err(format!("{prefix}: host bits are set; did you mean {}?", prefix.trunc()))
            }
        };
        Ok(match self {
            Route::Add { prefix, via, port, onlink, weights, special, vrf } => {
                DataplaneRequest::RouteAdd(Box::new(OwnRoute {
                    vrf: *vrf,
                    prefix: Some(whole(prefix)?),
                    via: via.clone(),
                    port: port.clone(),
                    onlink: *onlink,
                    weights: weights.clone(),
                    special: special.clone(),
                }))
            }
            Route::Del { prefix, vrf } => DataplaneRequest::RouteDelete { vrf: *vrf, prefix: whole(prefix)? },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(subcommand)]
        route: Route,
    }

    fn added(words: &str) -> Result<OwnRoute, String> {
        let line = Line::try_parse_from(format!("route add 0.0.0.0/0 {words}").split_whitespace());
        match line.map_err(|error| error.to_string())?.route.request()? {
            DataplaneRequest::RouteAdd(route) => Ok(*route),
            other => Err(format!("{other:?}")),
        }
    }

    #[test]
    fn a_route_names_a_gateway_a_port_or_both() {
        let gateway = "172.31.1.1".parse().unwrap();
        let route = added("--via 172.31.1.1").unwrap();
        assert_eq!((route.via, route.port, route.onlink), (vec![gateway], None, false));
        let route = added("--port p1").unwrap();
        assert_eq!((route.via, route.port, route.onlink), (vec![], Some("p1".to_owned()), false));
        let route = added("--via 172.31.1.1 --port p1 --onlink").unwrap();
        assert_eq!((route.via, route.port, route.onlink), (vec![gateway], Some("p1".to_owned()), true));
        assert_eq!(added("--special blackhole").unwrap().special.as_deref(), Some("blackhole"));
        for wrong in [
            "",
            "--onlink",
            "--via 172.31.1.1 --onlink",
            "--port p1 --onlink",
            "--special blackhole --port p1",
        ] {
            assert!(added(wrong).is_err(), "{wrong}");
        }
    }
}
