//! `fibcast trace`: the forwarding decision for a packet, without sending one.

use std::fmt::Write;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use fibcast_control::capture::Trace as Found;
use fibcast_control::{Answer, DataplaneRequest, ask};

use crate::json;

/// The packet to trace.
#[derive(Debug, clap::Args)]
pub struct Trace {
    /// Destination.
    address: IpAddr,
    /// Source address; part of the flow hash that selects among several next hops.
    #[arg(long)]
    from: Option<IpAddr>,
    /// VRF.
    #[arg(long, default_value_t = 0)]
    vrf: u32,
}

/// Sends the request, and formats the answer as text or JSON.
pub fn run(trace: &Trace, socket: &Path, timeout: Duration, as_json: bool) -> Result<String, String> {
    let request = DataplaneRequest::Trace { address: trace.address, from: trace.from, vrf: trace.vrf };
    let found = match ask(socket, &request.into(), timeout).map_err(|error| error.to_string())? {
        Answer::Trace(found) => found,
        _ => return Err("the daemon sent an unexpected answer".to_owned()),
    };
    if as_json {
        return json::line(&found);
    }
    Ok(words(&found))
}

fn words(found: &Found) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            let _ = writeln!(text, "{name:<12}{value}");
        }
    };
    line("vrf", Some(found.vrf.to_string()));
    line("prefix", found.prefix.map(|prefix| prefix.to_string()));
    line("origin", found.origin.clone().map(|origin| format!("{origin}, serial {}", found.serial)));
    line("group", found.label.clone().map(|label| format!("{label}: {}", found.via.join(", "))));
    line("next hop", found.next_hop.clone());
    line("neighbor", found.mac.clone());
    line("port", found.port.clone());
    line("mtu", found.mtu.map(|mtu| mtu.to_string()));
    line("outcome", Some(found.outcome.clone()));
    text
}
