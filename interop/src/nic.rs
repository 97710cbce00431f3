//! A NIC host: a dataplane with ports on cables to other hosts.

use crate::{Host, Lab, node};

/// Connects port `pN` of a NIC host to a host: the port has 10.0.N.1 and 2001:db8:N::1, the host 10.0.N.2 and 2001:db8:N::2.
pub fn plug(lab: &Lab, nic: &Host<'_>, n: usize, end: &Host<'_>) {
    let port = format!("r{n}");
    let addresses = [format!("10.0.{n}.2/24"), format!("2001:db8:{n}::2/64")];
    lab.cable((nic, &port, &[]), (end, "eth0", &[&addresses[0], &addresses[1]]));
    // Ports have no checksum or segmentation offload: what hosts send must be whole.
    nic.sh(&format!("ethtool -K {port} tx off rx off tso off gso off gro off"));
    end.sh("ethtool -K eth0 tx off rx off tso off gso off gro off");
    // The kernel below the port must not answer besides it: packet sockets see frames before this drops them.
    nic.sh(&format!("sysctl -qw net.ipv6.conf.{port}.disable_ipv6=1"));
    nic.sh(&format!("nft add table netdev port{n}"));
    nic.sh(&format!(
        "nft 'add chain netdev port{n} in {{ type filter hook ingress device {port} priority 0; policy drop; }}'"
    ));
    end.ip(&format!("route add default via 10.0.{n}.1"));
    end.ip(&format!("-6 route add default via 2001:db8:{n}::1"));
}

/// A NIC host of one route server with two ports in a VRF; `sync` are further keys of `[sync]`.
pub fn dataplane_toml(
    host: &Host<'_>,
    name: &str,
    server: &str,
    core: usize,
    vrf: u32,
    sync: &str,
) -> String {
    let port = |n: usize| {
        format!(
            "[[port]]\nname = \"p{n}\"\ndevice = \"net_af_packet{n},iface=r{n}\"\nvrf = {vrf}\n\
             addresses = [\"10.0.{n}.1/24\", \"2001:db8:{n}::1/64\"]\n"
        )
    };
    nic_toml(host, name, "", core, &(port(0) + &port(1)))
        + &format!("[sync]\nservers = [{{ address = \"{server}\", role = \"primary\" }}]\n{sync}\n")
}

/// The part of a dataplane's configuration that every NIC host here has: little memory, no hugepages, one worker that sleeps. `more` goes
/// into its `[node]`, `ports` behind; `[sync]` is left to the caller.
pub fn nic_toml(host: &Host<'_>, name: &str, more: &str, core: usize, ports: &str) -> String {
    node(host, name, more)
        + "[tls]\ninsecure = true\n[eal]\nargs = [\"--no-huge\", \"-m\", \"128\", \"--no-pci\", \"--no-shconf\", \
           \"--no-telemetry\", \"--iova-mode=va\", \"--file-prefix\", \""
        + host.namespace()
        + &format!("\"]\n[workers]\ncores = [{core}]\nidle = \"sleep\"\n{ports}")
}
