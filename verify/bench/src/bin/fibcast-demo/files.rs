//! Where the demo's nodes are, and their configuration files.

use std::path::PathBuf;

use fibcast_testbed::process::free_addresses;
use fibcast_testbed::{Failure, Internet, config};

/// The NIC host with a dataplane.
pub const NIC_HOST: &str = "nh-1";

/// Addresses and files of a run.
#[derive(Debug)]
pub struct Layout {
    /// Everything that the run writes.
    pub folder: PathBuf,
    /// The table and its changes.
    pub internet: Internet,
    /// Where rs-a, rs-b and nh-1 serve.
    pub addresses: [String; 3],
    /// Routes come from FRR beside each route server, not from files.
    pub frr: bool,
    /// Unix time of the first route change.
    pub first_change: f64,
}

impl Layout {
    /// All nodes on loopback, at ports that are free now.
    pub fn new(folder: PathBuf, internet: Internet, first_change: f64) -> Result<Layout, Failure> {
        let addresses = free_addresses()?.map(|address| address.to_string());
        Ok(Layout { folder, internet, addresses, frr: false, first_change })
    }

    /// Each node on a host of its own, at these addresses, and FRR beside the route servers.
    pub fn with_frr(folder: PathBuf, internet: Internet, hosts: [String; 3]) -> Layout {
        let addresses = hosts.map(|host| format!("{host}:7830"));
        Layout { folder, internet, addresses, frr: true, first_change: f64::INFINITY }
    }

    /// What a DPDK process of this run calls its files, which no other run does at the same time.
    pub fn prefix(&self, of: &str) -> String {
        format!("fibcast-demo-{}-{of}", std::process::id())
    }

    /// Writes all configuration files.
    pub fn write(&self) -> std::io::Result<()> {
        let [a, b, upper] = &self.addresses;
        self.file("rs-a", a, &self.route_server("bgp-a", b))?;
        self.file("rs-b", b, &self.route_server("bgp-b", a))?;
        let dataplane = config::workers(&self.prefix(NIC_HOST), 256, "1", "")
            + &config::virtio_ports(&self.folder, NIC_HOST)
            + &config::sync([a, b], "failback_s = 5");
        self.file(NIC_HOST, upper, &dataplane)?;
        self.file("nh-2", "", &config::sync([upper, b], ""))
    }

    fn file(&self, name: &str, serves: &str, rest: &str) -> std::io::Result<()> {
        let serves = if serves.is_empty() { String::new() } else { config::listen(serves) };
        // Plain TCP between the demo's own hosts; on loopback no word is needed.
        let tls = if self.frr { config::INSECURE } else { "" };
        let text = config::node(name, &self.folder, &serves) + tls + rest;
        std::fs::write(self.folder.join(format!("{name}.toml")), text)
    }

    fn route_server(&self, origin: &str, peer: &str) -> String {
        let (rib, source) = if self.frr {
            let fpm = "kind = \"fpm\"\nlisten = \"127.0.0.1:2620\"\nprotocol = \"bgp\"\nend_of_table = \"sentinel\"\n";
            // FRR loads for as long as it takes.
            ("ready_timeout_ms = 900000\n", fpm.to_owned())
        } else {
            let (updates, at) = (self.internet.updates.display(), self.first_change);
            let keys = format!("updates = \"{updates}\"\npace = \"recorded\"\nstart_at = {at}");
            ("", self.internet.source(&keys))
        };
        format!(
            "[rib]\norigin_hold_ms = 1000\n{rib}[[source]]\norigin = \"{origin}\"\ndistance = 20\n{source}"
        ) + &config::peers([peer])
    }
}
