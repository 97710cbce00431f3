//! `fibcast clear`, `fibcast neighbor` and `fibcast route`: changes of a running dataplane, until its next start unless they
//! are saved.

use std::net::IpAddr;

use fibcast_control::DataplaneRequest;
use fibcast_control::protocol::OwnRoute;
use ipnet::IpNet;

/// What begins at zero.
#[derive(Debug, Clone, Copy, clap::Subcommand)]
pub enum Clear {
    /// Counters of a dataplane's ports, workers, drops and groups: `fibcast show` counts from then on, for all operators. Metrics of Prometheus,
    /// `fibcast top` and `fibcast doctor` go on with totals since the start, so rates and alerts are not disturbed.
    Counters,
}

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
        /// As in iproute2: [via GATEWAY]... [dev PORT], or blackhole, unreachable or prohibit; instead of the options.
        #[arg(value_name = "WORD", conflicts_with_all = ["via", "port", "special"])]
        words: Vec<String>,
        /// Gateway; several share the traffic (ECMP).
        #[arg(long, required_unless_present_any = ["special", "port", "words"], conflicts_with = "special")]
        via: Vec<IpAddr>,
        /// Name of the gateways' port: they are on its link. Without a gateway, the destinations are.
        #[arg(long, conflicts_with = "special")]
        port: Option<String>,
        /// The gateways are on the port's link, as `--port` alone says already.
        #[arg(long, requires_all = ["via", "port"], conflicts_with = "words")]
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
        /// Write it to the daemon's file of saved routes ([saved_routes]), so that it survives a restart; without it, it lasts until the next start.
        #[arg(long)]
        save: bool,
    },
    /// Removes such a route; a server's route to the prefix is used again.
    #[command(visible_alias = "delete")]
    Del {
        /// Destination.
        prefix: IpNet,
        /// VRF.
        #[arg(long, default_value_t = 0)]
        vrf: u32,
        /// Forget a saved route; without it, the route is there again at the next start.
        #[arg(long)]
        save: bool,
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
            Route::Add { prefix, words, via, port, onlink, weights, special, vrf, save } => {
                let mut route = OwnRoute {
                    vrf: *vrf,
                    prefix: Some(whole(prefix)?),
                    via: via.clone(),
                    port: port.clone(),
                    onlink: *onlink,
                    weights: weights.clone(),
                    special: special.clone(),
                    save: *save,
                };
                read_words(words, &mut route)?;
                DataplaneRequest::RouteAdd(Box::new(route))
            }
            Route::Del { prefix, vrf, save } => {
                DataplaneRequest::RouteDelete { vrf: *vrf, prefix: whole(prefix)?, save: *save }
            }
        })
    }
}

/// Reads a route's next hops in the form of iproute2.
fn read_words(words: &[String], route: &mut OwnRoute) -> Result<(), String> {
    let mut words = words.iter().map(String::as_str);
    let forms = "expected `via GATEWAY`, `dev PORT`, `onlink`, `blackhole`, `unreachable` or `prohibit`";
    let twice = |key: &str| format!("{key:?} is given twice; a route has one port, or is special");
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("nothing follows {word:?}; {forms}"));
        match word {
            "via" => {
                let text = value()?;
                let gateway =
                    text.parse().map_err(|_| format!("via: expected an address, found {text:?}"))?;
                route.via.push(gateway);
            }
            "dev" => {
                if route.port.replace(value()?.to_owned()).is_some() {
                    return Err(twice(word));
                }
            }
            "onlink" => route.onlink = true,
            "blackhole" | "unreachable" | "prohibit" => {
                if route.special.replace(word.to_owned()).is_some() {
                    return Err(twice(word));
                }
            }
            other => return Err(format!("found {other:?}; {forms}")),
        }
    }
    if route.special.is_some() && (!route.via.is_empty() || route.port.is_some()) {
        return Err("a blackhole, unreachable or prohibit route has neither gateway nor port".to_owned());
    }
    if route.onlink && (route.via.is_empty() || route.port.is_none()) {
        return Err("onlink needs a gateway and its port: via GATEWAY dev PORT onlink".to_owned());
    }
    Ok(())
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

    #[test]
    fn the_words_of_iproute2_mean_the_same_as_the_options() {
        for (words, options) in [
            ("via 172.31.1.1", "--via 172.31.1.1"),
            ("dev p1", "--port p1"),
            ("via 172.31.1.1 dev p1", "--via 172.31.1.1 --port p1"),
            ("via 172.31.1.1 dev p1 onlink", "--via 172.31.1.1 --port p1 --onlink"),
            (
                "via 172.31.1.1 via 172.31.1.2 --weights 1,2",
                "--via 172.31.1.1 --via 172.31.1.2 --weights 1,2",
            ),
            ("blackhole --vrf 7", "--special blackhole --vrf 7"),
        ] {
            assert_eq!(added(words).unwrap(), added(options).unwrap(), "{words}");
        }
        for (wrong, reason) in [
            ("via", "nothing follows \"via\""),
            ("via p1", "via: expected an address, found \"p1\""),
            ("over 172.31.1.1", "found \"over\"; expected `via GATEWAY`"),
            ("dev p1 dev p2", "given twice"),
            ("blackhole dev p1", "neither gateway nor port"),
            ("via 172.31.1.1 onlink", "onlink needs a gateway and its port"),
            ("via 172.31.1.1 --port p1", "cannot be used with"),
        ] {
            let error = added(wrong).unwrap_err();
            assert!(error.contains(reason), "{wrong}: {error}");
        }
    }
}
