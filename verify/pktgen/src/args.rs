//! The command line.

use std::path::PathBuf;
use std::str::FromStr;

use clap::Parser;

use crate::frame::Mac;
use crate::neighbor::Link;

/// Sends packets to destinations of a whole routing table through a router, and checks each one that comes back.
///
/// Exit code 0 only if packets were counted and none was lost, misdelivered, duplicated, reordered or corrupt.
#[derive(Debug, Parser)]
#[command(name = "fibcast-pktgen", version)]
pub struct Arguments {
    /// Arguments for DPDK's EAL, separated by spaces.
    #[arg(
        long,
        default_value = "--no-pci --no-huge -m 256 --no-shconf --no-telemetry -l 0",
        allow_hyphen_values = true
    )]
    pub eal_args: String,
    /// A port, once or more: name=p0,device=DEVARGS[,mac=MAC][,subnet4=NET,peer4=ADDRESS][,subnet6=NET,peer6=ADDRESS]. All other settings
    /// go to the device; `;` in them stands for a comma.
    #[arg(long = "port", required = true)]
    pub ports: Vec<PortArgument>,
    /// The routing table: MRT (TABLE_DUMP_V2 or updates), plain or gzip; a file that ends in .txt has lines PREFIX via GATEWAY.
    #[arg(long)]
    pub table: PathBuf,
    /// Next-hop changes during the run: MRT (BGP4MP_ET), plain or gzip.
    #[arg(long, requires = "start_at")]
    pub updates: Option<PathBuf>,
    /// NAME=FILE: next hops that routes of the table get when {"change":"NAME"} arrives on the control socket; once or more. The file has
    /// the format of --table.
    #[arg(long = "change", requires = "control", conflicts_with = "updates")]
    pub changes: Vec<ChangeArgument>,
    /// Unix time in seconds at which the first change is due.
    #[arg(long)]
    pub start_at: Option<f64>,
    /// Time after a change is due in which both next hops are accepted.
    #[arg(long, default_value_t = 2_000)]
    pub settle_ms: u64,
    /// Packets per second.
    #[arg(long, default_value_t = 250_000)]
    pub pps: u64,
    /// Most packets in flight. Keep it below the descriptors of one receive queue, so that no full ring drops.
    #[arg(long, default_value_t = 768)]
    pub window: usize,
    /// Seconds of counted packets; without it, until SIGTERM or SIGINT.
    #[arg(long)]
    pub duration: Option<f64>,
    /// Report outages: times of at least this length in which no packet came back, with their losses. Packets in flight for longer do not
    /// count for --window then, so that sending resumes when the router is back. At most 1000.
    #[arg(long, value_parser = clap::value_parser!(u64).range(10..=1000))]
    pub outage_ms: Option<u64>,
    /// Before counting, wait until every flow has been forwarded once, and report when that was.
    #[arg(long)]
    pub coverage: bool,
    /// A unix socket that answers {"show":"pktgen"} with the figures, and accepts {"change":"NAME"}.
    #[arg(long)]
    pub control: Option<PathBuf>,
    /// Print the figures as one line of JSON every 200 ms, the last one at the end.
    #[arg(long)]
    pub json: bool,
    /// Seconds to wait for the peer of a port to appear.
    #[arg(long, default_value_t = 30)]
    pub wait: u64,
    /// Seed of the order of flows and of their destinations.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

/// One `--change`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangeArgument {
    pub name: String,
    pub file: PathBuf,
}

impl FromStr for ChangeArgument {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((name, file)) if !name.is_empty() && !file.is_empty() => {
                Ok(Self { name: name.to_owned(), file: file.into() })
            }
            _ => Err(format!("expected NAME=FILE, found {text:?}")),
        }
    }
}

/// One `--port`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortArgument {
    pub device: String,
    pub link: Link,
}

impl FromStr for PortArgument {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut device = Vec::new();
        let (mut name, mut mac) = (None, None);
        let (mut subnet4, mut subnet6, mut peer4, mut peer6) = (None, None, None, None);
        for word in text.split(',') {
            match word.split_once('=') {
                Some(("name", value)) => name = Some(value.to_owned()),
                Some(("device", value)) => device.push(value.replace(';', ",")),
                Some(("mac", value)) => mac = Some(parse_mac(value)?),
                Some(("subnet4", value)) => subnet4 = Some(parse("subnet4", value)?),
                Some(("subnet6", value)) => subnet6 = Some(parse("subnet6", value)?),
                Some(("peer4", value)) => peer4 = Some(parse("peer4", value)?),
                Some(("peer6", value)) => peer6 = Some(parse("peer6", value)?),
                // The remaining settings belong to the device, once there is one.
                _ if !device.is_empty() => device.push(word.replace(';', ",")),
                _ => return Err(format!("unknown setting {word:?}, expected name, device, mac, subnet4, …")),
            }
        }
        if device.is_empty() {
            return Err("device=DEVARGS is missing".into());
        }
        if peer4.is_none() && peer6.is_none() {
            return Err("peer4 or peer6, the router's address, is missing".into());
        }
        if subnet4.is_some() != peer4.is_some() || subnet6.is_some() != peer6.is_some() {
            return Err("a subnet needs its peer, and a peer its subnet".into());
        }
        let device = device.join(",");
        let name = name.unwrap_or_else(|| device.split(',').next().unwrap_or_default().to_owned());
        let mac = mac.unwrap_or_else(|| default_mac(&name));
        Ok(Self { device, link: Link { name, mac, subnet4, subnet6, peer4, peer6 } })
    }
}

/// Locally administered, and unlike those of the gateways.
fn default_mac(name: &str) -> Mac {
    let hash = crate::checksum::mix(0, name.as_bytes()).to_be_bytes();
    let [a, b, c, d, ..] = hash;
    [0x02, 0xfb, a, b, c, d]
}

fn parse<T: FromStr>(key: &str, value: &str) -> Result<T, String>
where
    T::Err: std::fmt::Display,
{
    value.parse().map_err(|error| format!("{key}={value}: {error}"))
}

fn parse_mac(text: &str) -> Result<Mac, String> {
    let bytes: Option<Vec<u8>> = text.split(':').map(|byte| u8::from_str_radix(byte, 16).ok()).collect();
    let mac: Option<Mac> = bytes.and_then(|bytes| bytes.try_into().ok());
    match mac {
        Some(mac) if mac.first().is_some_and(|first| first & 1 == 0) => Ok(mac),
        _ => Err(format!("mac={text}: expected a unicast address such as 02:fb:00:00:00:01")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_of_the_device_are_told_from_those_of_the_port() {
        let text = "name=p0,device=net_virtio_user0,path=/run/p0,queue_size=1024,mac=02:fb:0:0:0:1,\
                    subnet4=198.18.0.0/16,peer4=198.18.0.1";
        let port: PortArgument = text.parse().unwrap();
        assert_eq!(port.device, "net_virtio_user0,path=/run/p0,queue_size=1024");
        assert_eq!((port.link.name.as_str(), port.link.mac), ("p0", [2, 0xfb, 0, 0, 0, 1]));
        let semicolons: PortArgument =
            "device=net_vhost0;iface=/x;queues=1,subnet6=2001:2::/64,peer6=2001:2::1".parse().unwrap();
        assert_eq!(
            (semicolons.device.as_str(), semicolons.link.name.as_str()),
            ("net_vhost0,iface=/x,queues=1", "net_vhost0")
        );
    }

    #[test]
    fn mistakes_are_named() {
        for (text, words) in [
            ("name=p0,peer4=1.2.3.4", "device=DEVARGS is missing"),
            ("nam=p0,device=x", "unknown setting \"nam=p0\""),
            ("device=x", "peer4 or peer6"),
            ("device=x,peer4=1.2.3.4", "a subnet needs its peer"),
            ("device=x,peer4=1.2.3", "peer4=1.2.3: "),
            ("device=x,mac=03:0:0:0:0:0,peer4=1.2.3.4", "unicast"),
        ] {
            let error = text.parse::<PortArgument>().unwrap_err();
            assert!(error.contains(words), "{error}");
        }
    }
}
