//! The configuration files of the demo's nodes, written as an operator would write them.

use std::fmt::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};

/// Ports and paths that the nodes share.
#[derive(Debug)]
pub struct Layout {
    /// Everything that the run writes.
    pub folder: PathBuf,
    /// Where rs-a, rs-b and nh-1 serve.
    pub addresses: [String; 3],
    /// A number that no other run has at the same time.
    pub number: u16,
    /// Routes come from FRR beside each route server, not from files.
    pub frr: bool,
    /// Unix time of the first route change.
    pub first_change: f64,
}

/// Ethernet side of one link between generator and dataplane.
#[derive(Debug)]
pub struct Link {
    /// Name of the port on both sides.
    pub name: &'static str,
    /// The dataplane's IPv4 address and prefix length.
    pub ipv4: &'static str,
    /// The dataplane's IPv6 address and prefix length.
    pub ipv6: &'static str,
    /// The subnets in which the generator plays all neighbors.
    pub subnets: [&'static str; 2],
}

/// Benchmarking addresses: RFC 2544 (198.18.0.0/15) and RFC 5180 (2001:2::/48).
pub const LINKS: [Link; 2] = [
    Link {
        name: "p0",
        ipv4: "198.18.0.1/16",
        ipv6: "2001:2::1/64",
        subnets: ["198.18.0.0/16", "2001:2::/64"],
    },
    Link {
        name: "p1",
        ipv4: "198.19.0.1/16",
        ipv6: "2001:2:0:1::1/64",
        subnets: ["198.19.0.0/16", "2001:2:0:1::/64"],
    },
];

impl Layout {
    /// Picks TCP ports that are free now.
    pub fn new(folder: PathBuf, first_change: f64) -> std::io::Result<Layout> {
        let listeners = [free_port()?, free_port()?, free_port()?];
        let mut ports = [0; 3];
        for (port, listener) in ports.iter_mut().zip(&listeners) {
            *port = listener.local_addr()?.port();
        }
        let addresses = ports.map(|port| format!("127.0.0.1:{port}"));
        Ok(Layout { folder, addresses, number: ports[0], frr: false, first_change })
    }

    /// With each node on a host of its own, at these addresses, and FRR beside the route servers.
    pub fn with_frr(folder: PathBuf, hosts: [String; 3]) -> std::io::Result<Layout> {
        let number = free_port()?.local_addr()?.port();
        let addresses = hosts.map(|host| format!("{host}:7830"));
        Ok(Layout { folder, addresses, number, frr: true, first_change: f64::INFINITY })
    }

    /// A path in the folder, as text for a configuration or a command line.
    pub fn path(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }

    /// Writes all configuration files.
    pub fn write(&self) -> std::io::Result<()> {
        let [a, b, _] = &self.addresses;
        write(&self.folder, "rs-a.toml", &self.route_server("rs-a", "bgp-a", a, b))?;
        write(&self.folder, "rs-b.toml", &self.route_server("rs-b", "bgp-b", b, a))?;
        write(&self.folder, "nh-1.toml", &self.dataplane())?;
        write(&self.folder, "nh-2.toml", &self.agent())
    }

    fn route_server(&self, name: &str, origin: &str, own: &str, peer: &str) -> String {
        let source = if self.frr {
            r#"kind = "fpm"
listen = "127.0.0.1:2620"
protocol = "bgp"
end_of_table = "sentinel"
"#
            .to_owned()
        } else {
            format!(
                r#"kind = "mrt"
path = "{table}"
updates = "{updates}"
pace = "recorded"
start_at = {first_change}
"#,
                table = self.path("table.mrt"),
                updates = self.path("updates.mrt"),
                first_change = self.first_change,
            )
        };
        // FRR loads for as long as it takes.
        let ready_timeout = if self.frr { "ready_timeout_ms = 900000\n" } else { "" };
        format!(
            r#"[node]
name = "{name}"
listen = ["{own}"]
control = "{control}"
{tls}
[rib]
origin_hold_ms = 1000
{ready_timeout}
[[source]]
origin = "{origin}"
distance = 20
{source}
[[peer]]
address = "{peer}"
role = "primary"
"#,
            control = self.path(&format!("{name}.sock")),
            tls = self.tls(),
        )
    }

    /// Plain TCP between the demo's own hosts; on loopback no word is needed.
    fn tls(&self) -> &'static str {
        if self.frr { "\n[tls]\ninsecure = true\n" } else { "" }
    }

    fn dataplane(&self) -> String {
        let [a, b, own] = &self.addresses;
        let mut text = format!(
            r#"[node]
name = "nh-1"
listen = ["{own}"]
control = "{control}"
{tls}
[sync]
servers = [
    {{ address = "{a}", role = "primary" }},
    {{ address = "{b}", role = "secondary" }},
]
failback_s = 5

[eal]
args = ["--no-pci", "--no-huge", "-m", "256", "--no-shconf", "--no-telemetry", "--file-prefix", "fibcast-demo-{number}"]

[workers]
cores = [1]
idle = "sleep"
"#,
            control = self.path("nh-1.sock"),
            tls = self.tls(),
            number = self.number,
        );
        for (index, link) in LINKS.iter().enumerate() {
            // Writing to a String cannot fail.
            let _ = write!(
                text,
                r#"
[[port]]
name = "{name}"
device = "net_virtio_user{index},path={socket},queues=1,queue_size=1024"
addresses = ["{ipv4}", "{ipv6}"]
"#,
                name = link.name,
                socket = self.path(&format!("{}.vhost", link.name)),
                ipv4 = link.ipv4,
                ipv6 = link.ipv6,
            );
        }
        text
    }

    fn agent(&self) -> String {
        let [_, b, upper] = &self.addresses;
        format!(
            r#"[node]
name = "nh-2"
control = "{control}"
{tls}
[sync]
servers = [
    {{ address = "{upper}", role = "primary" }},
    {{ address = "{b}", role = "secondary" }},
]
"#,
            control = self.path("nh-2.sock"),
            tls = self.tls(),
        )
    }
}

fn free_port() -> std::io::Result<TcpListener> {
    TcpListener::bind("127.0.0.1:0")
}

fn write(folder: &Path, name: &str, text: &str) -> std::io::Result<()> {
    std::fs::write(folder.join(name), text)
}
