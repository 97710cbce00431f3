//! A port as it is described: `--port`, or `[[port]]` of a scenario.

use std::str::FromStr;

use ipnet::{Ipv4Net, Ipv6Net};
use serde::Deserialize;

use crate::engine::Dut;
use crate::frame::Mac;
use crate::neighbor::Link;
use crate::rate::Rate;

const KEYS: &str =
    "name, mac, subnet4, peer4, subnet6, peer6, peer_mac, vlan, mtu, line_rate, and device last";

/// One port.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PortSpec {
    /// The device's name unless given.
    #[serde(default)]
    pub name: Option<String>,
    /// DPDK devargs or a PCI address.
    pub device: String,
    #[serde(default, deserialize_with = "optional")]
    pub mac: Option<MacAddress>,
    #[serde(default)]
    pub subnet4: Option<Ipv4Net>,
    #[serde(default)]
    pub peer4: Option<std::net::Ipv4Addr>,
    #[serde(default)]
    pub subnet6: Option<Ipv6Net>,
    #[serde(default)]
    pub peer6: Option<std::net::Ipv6Addr>,
    #[serde(default, deserialize_with = "optional")]
    pub peer_mac: Option<MacAddress>,
    #[serde(default)]
    pub vlan: Option<u16>,
    #[serde(default)]
    pub mtu: Option<u16>,
    #[serde(default)]
    pub line_rate: Option<Rate>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MacAddress(pub Mac);

fn optional<'de, D: serde::Deserializer<'de>>(source: D) -> Result<Option<MacAddress>, D::Error> {
    let text = Option::<String>::deserialize(source)?;
    text.map(|text| text.parse().map_err(serde::de::Error::custom)).transpose()
}

impl FromStr for MacAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bytes: Option<Vec<u8>> = text.split(':').map(|byte| u8::from_str_radix(byte, 16).ok()).collect();
        let mac: Option<Mac> = bytes.and_then(|bytes| bytes.try_into().ok());
        match mac {
            Some(mac) if mac.first().is_some_and(|first| first & 1 == 0) => Ok(Self(mac)),
            _ => Err(format!("{text}: expected a unicast MAC address such as 02:fb:00:00:00:01")),
        }
    }
}

impl FromStr for PortSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // Devargs have commas and equals signs of their own, so the device comes last.
        let at = if text.starts_with("device=") { Some(0) } else { text.find(",device=").map(|at| at + 1) };
        let (settings, device) = match at.and_then(|at| text.split_at_checked(at)) {
            Some((settings, device)) => {
                (settings.trim_end_matches(','), device.trim_start_matches("device="))
            }
            None => (text, ""),
        };
        let mut port = Self::of_device(device);
        for word in settings.split(',').filter(|word| !word.is_empty()) {
            match word.split_once('=') {
                Some(("name", value)) => port.name = Some(value.to_owned()),
                Some(("mac", value)) => port.mac = Some(parse("mac", value)?),
                Some(("subnet4", value)) => port.subnet4 = Some(parse("subnet4", value)?),
                Some(("subnet6", value)) => port.subnet6 = Some(parse("subnet6", value)?),
                Some(("peer4", value)) => port.peer4 = Some(parse("peer4", value)?),
                Some(("peer6", value)) => port.peer6 = Some(parse("peer6", value)?),
                Some(("peer_mac", value)) => port.peer_mac = Some(parse("peer_mac", value)?),
                Some(("vlan", value)) => port.vlan = Some(parse("vlan", value)?),
                Some(("mtu", value)) => port.mtu = Some(parse("mtu", value)?),
                Some(("line_rate", value)) => port.line_rate = Some(parse("line_rate", value)?),
                _ => return Err(format!("unknown setting {word:?}, expected {KEYS}")),
            }
        }
        if device.is_empty() {
            return Err(format!("device=DEVARGS is missing, expected {KEYS}"));
        }
        Ok(port)
    }
}

impl PortSpec {
    pub fn of_device(device: &str) -> Self {
        Self {
            name: None,
            device: device.to_owned(),
            mac: None,
            subnet4: None,
            peer4: None,
            subnet6: None,
            peer6: None,
            peer_mac: None,
            vlan: None,
            mtu: None,
            line_rate: None,
        }
    }

    pub fn name(&self) -> &str {
        self.name.as_deref().unwrap_or_else(|| self.device.split(',').next().unwrap_or_default())
    }

    /// Its bit/s, if the driver reports them.
    pub fn line(&self) -> Option<f64> {
        match self.line_rate {
            Some(Rate::BitsPerSecond(bits)) => Some(bits),
            _ => None,
        }
    }

    /// The link, if the settings make sense for this kind of device.
    pub fn link(&self, dut: Dut) -> Result<Link, String> {
        let fail = |what: &str| Err(format!("port {}: {what}", self.name()));
        if dut == Dut::Router && self.peer4.is_none() && self.peer6.is_none() {
            return fail("peer4 or peer6, the router's address, is missing");
        }
        if self.subnet4.is_some() != self.peer4.is_some() || self.subnet6.is_some() != self.peer6.is_some() {
            return fail("a subnet needs its peer, and a peer its subnet");
        }
        let inside4 = self.subnet4.zip(self.peer4).is_none_or(|(net, peer)| net.contains(&peer));
        let inside6 = self.subnet6.zip(self.peer6).is_none_or(|(net, peer)| net.contains(&peer));
        if !inside4 || !inside6 {
            return fail("the peer is outside of its subnet");
        }
        if self.vlan.is_some_and(|id| !(1..=4094).contains(&id)) {
            return fail("expected a vlan from 1 to 4094");
        }
        if self.line_rate.is_some() && self.line().is_none() {
            return fail("expected a line_rate in bit/s, such as 10Gbit/s");
        }
        Ok(Link {
            name: self.name().to_owned(),
            mac: self.mac.map_or_else(|| default_mac(self.name()), |MacAddress(mac)| mac),
            subnet4: self.subnet4,
            subnet6: self.subnet6,
            peer4: self.peer4,
            peer6: self.peer6,
            peer_mac: self.peer_mac.map(|MacAddress(mac)| mac),
            vlan: self.vlan,
        })
    }
}

/// Locally administered, and unlike those of the gateways.
fn default_mac(name: &str) -> Mac {
    let hash = crate::checksum::hash(name.as_bytes()).to_be_bytes();
    let [a, b, c, d, ..] = hash;
    [0x02, 0xfb, a, b, c, d]
}

fn parse<T: FromStr>(key: &str, value: &str) -> Result<T, String>
where
    T::Err: std::fmt::Display,
{
    value.parse().map_err(|error| format!("{key}={value}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_comes_last_and_keeps_its_commas() {
        let text = "name=p0,mac=02:fb:0:0:0:1,subnet4=198.18.0.0/16,peer4=198.18.0.1,vlan=7,line_rate=10Gbit/s,\
                    device=net_virtio_user0,path=/run/p0,queue_size=1024";
        let port: PortSpec = text.parse().unwrap();
        assert_eq!(port.device, "net_virtio_user0,path=/run/p0,queue_size=1024");
        assert_eq!((port.name(), port.vlan, port.line()), ("p0", Some(7), Some(1e10)));
        assert_eq!(port.link(Dut::Router).unwrap().mac, [2, 0xfb, 0, 0, 0, 1]);
        let bare: PortSpec = "device=net_ring0".parse().unwrap();
        assert_eq!((bare.name(), bare.link(Dut::Loopback).is_ok()), ("net_ring0", true));
    }

    #[test]
    fn the_same_by_toml() {
        let text = "device = \"0000:03:00.0\"\npeer_mac = \"02:00:00:00:00:09\"\nline_rate = \"25Gbit/s\"";
        let port: PortSpec = toml::from_str(text).unwrap();
        assert_eq!(port.peer_mac, Some(MacAddress([2, 0, 0, 0, 0, 9])));
        assert!(
            toml::from_str::<PortSpec>("device = \"x\"\nspeed = 1")
                .unwrap_err()
                .to_string()
                .contains("speed")
        );
    }

    #[test]
    fn mistakes_are_named() {
        for (text, words) in [
            ("name=p0,peer4=1.2.3.4", "device=DEVARGS is missing"),
            ("nam=p0,device=x", "unknown setting \"nam=p0\""),
            ("peer4=1.2.3,device=x", "peer4=1.2.3: "),
            ("mac=03:0:0:0:0:0,peer4=1.2.3.4,device=x", "unicast"),
        ] {
            let error = text.parse::<PortSpec>().unwrap_err();
            assert!(error.contains(words), "{error}");
        }
        for (text, words) in [
            ("device=x", "peer4 or peer6"),
            ("peer4=1.2.3.4,device=x", "a subnet needs its peer"),
            ("peer4=1.2.3.4,subnet4=9.0.0.0/8,device=x", "outside of its subnet"),
            ("peer4=9.2.3.4,subnet4=9.0.0.0/8,vlan=4095,device=x", "1 to 4094"),
            ("peer4=9.2.3.4,subnet4=9.0.0.0/8,line_rate=50%,device=x", "in bit/s"),
        ] {
            let error = text.parse::<PortSpec>().unwrap().link(Dut::Router).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
    }
}
