//! Configuration files of our daemons, by sections: a file is some of these, one after the other. `fibcast-nodeconfig` prints whole ones for
//! shell scripts.

use std::fmt::Write;
use std::path::{Path, PathBuf};

/// Connections between nodes are plain TCP.
pub const INSECURE: &str = "[tls]\ninsecure = true\n";

/// Lines that end, and none where there is nothing.
fn lines(text: &str) -> String {
    if text.is_empty() || text.ends_with('\n') { text.to_owned() } else { format!("{text}\n") }
}

/// `[node]`, with the control socket in a folder, and further keys.
pub fn node(name: &str, folder: &Path, keys: &str) -> String {
    let control = folder.join(format!("{name}.sock"));
    format!("[node]\nname = \"{name}\"\ncontrol = \"{}\"\n{}", control.display(), lines(keys))
}

/// A key of `[node]`: it serves at this address.
pub fn listen(address: &str) -> String {
    format!("listen = [\"{address}\"]")
}

/// The other route servers.
pub fn peers<A: AsRef<str>>(addresses: impl IntoIterator<Item = A>) -> String {
    let peers =
        addresses.into_iter().map(|address| format!("[[peer]]\naddress = \"{}\"\n", address.as_ref()));
    peers.collect()
}

/// `[sync]` of an agent or a NIC host: its servers, the first the primary and the second the secondary, and further keys.
pub fn sync<A: AsRef<str>>(servers: impl IntoIterator<Item = A>, keys: &str) -> String {
    let servers: Vec<String> = servers
        .into_iter()
        .zip(["primary", "secondary"])
        .map(|(address, role)| format!("    {{ address = \"{}\", role = \"{role}\" }},\n", address.as_ref()))
        .collect();
    format!("[sync]\nservers = [\n{}]\n{}", servers.concat(), lines(keys))
}

/// Arguments of DPDK's EAL for a process among others, on a machine without hugepages and NICs. No other process has this prefix.
pub fn eal_arguments(prefix: &str, megabytes: u32) -> Vec<String> {
    let memory = ["--no-pci", "--no-huge", "-m", &megabytes.to_string(), "--no-shconf", "--no-telemetry"];
    memory.iter().chain(&["--iova-mode=va", "--file-prefix", prefix]).map(|&word| word.to_owned()).collect()
}

/// `[eal]` and `[workers]` of a NIC host that shares a machine: so much memory, workers that sleep, further keys of `[workers]`.
pub fn workers(prefix: &str, megabytes: u32, cores: &str, keys: &str) -> String {
    let arguments = eal_arguments(prefix, megabytes);
    format!("[eal]\nargs = {arguments:?}\n[workers]\ncores = [{cores}]\nidle = \"sleep\"\n{}", lines(keys))
}

/// A port, and further keys.
pub fn port(name: &str, device: &str, addresses: &[&str], keys: &str) -> String {
    format!("[[port]]\nname = \"{name}\"\ndevice = \"{device}\"\naddresses = {addresses:?}\n{}", lines(keys))
}

/// A port that is interface `rN` of the host, see [`Namespace::port`](crate::Namespace::port).
pub fn veth_port(number: usize, addresses: &[&str], keys: &str) -> String {
    port(&format!("p{number}"), &format!("net_af_packet{number},iface=r{number}"), addresses, keys)
}

/// One of the two LANs that a NIC host of a demo or a container is on. All next hops of the generated tables are there.
#[derive(Debug)]
pub struct Lan {
    /// Name of the port.
    pub port: &'static str,
    /// Of IPv4, with the NIC host's address.
    pub ipv4: [&'static str; 2],
    /// Of IPv6, with the NIC host's address.
    pub ipv6: [&'static str; 2],
}

/// Benchmarking addresses: RFC 2544 (198.18.0.0/15) and RFC 5180 (2001:2::/48).
pub const LANS: [Lan; 2] = [
    Lan { port: "p0", ipv4: ["198.18.0.0/16", "198.18.0.1"], ipv6: ["2001:2::/64", "2001:2::1"] },
    Lan { port: "p1", ipv4: ["198.19.0.0/16", "198.19.0.1"], ipv6: ["2001:2:0:1::/64", "2001:2:0:1::1"] },
];

impl Lan {
    /// An address of each family with its prefix length, by the last number: 1 is the NIC host, gateways begin at 257.
    pub fn addresses(&self, number: u8) -> [String; 2] {
        let [v4, v6] = [self.ipv4[1], self.ipv6[1]].map(|own| own.strip_suffix('1').unwrap_or(own));
        [format!("{v4}{number}/16"), format!("{v6}{number:x}/64")]
    }

    /// Where the port of a NIC host meets that of its generator, which owns the socket.
    pub fn socket(&self, folder: &Path, host: &str) -> PathBuf {
        folder.join(format!("{host}-{}", self.port))
    }
}

/// The ports of NIC host `nh-N` on both LANs: virtio-user, by sockets in a folder.
pub fn virtio_ports(folder: &Path, host: &str) -> String {
    let number = host.rsplit('-').next().unwrap_or_default();
    let mut text = String::new();
    for (at, lan) in LANS.iter().enumerate() {
        let device = format!(
            "net_virtio_user{at},path={},queues=1,queue_size=1024,mac=02:fb:00:00:0{number}:0{at}",
            lan.socket(folder, host).display()
        );
        let addresses = lan.addresses(1);
        text += &port(lan.port, &device, &addresses.each_ref().map(String::as_str), "");
    }
    text
}

/// The other ends: arguments of `fibcast-pktgen`, on a core of its own.
pub fn generator(folder: &Path, host: &str, core: usize, prefix: &str) -> Vec<String> {
    let mut eal = format!("-l {core}");
    eal_arguments(prefix, 256).iter().for_each(|word| _ = write!(eal, " {word}"));
    let mut arguments = vec!["--eal-args".to_owned(), eal];
    for (at, lan) in LANS.iter().enumerate() {
        let ([subnet4, peer4], [subnet6, peer6]) = (lan.ipv4, lan.ipv6);
        arguments.push("--port".to_owned());
        arguments.push(format!(
            "name={},subnet4={subnet4},subnet6={subnet6},peer4={peer4},peer6={peer6},device=net_vhost{at},iface={},queues=1",
            lan.port,
            lan.socket(folder, host).display()
        ));
    }
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lan_has_addresses_of_both_families_with_their_lengths() {
        assert_eq!(LANS[1].addresses(254), ["198.19.0.254/16", "2001:2:0:1::fe/64"]);
    }
}
