//! A NIC host: a dataplane with ports on cables to other hosts.

use fibcast_testbed::config;

use crate::Host;

/// Connects port `pN` of a NIC host to a host: the port has 10.0.N.1 and 2001:db8:N::1, the host 10.0.N.2 and 2001:db8:N::2.
pub fn plug(nic: &Host<'_>, n: usize, end: &Host<'_>) {
    let own = [format!("10.0.{n}.2/24"), format!("2001:db8:{n}::2/64")];
    let gateways = [format!("10.0.{n}.1"), format!("2001:db8:{n}::1")];
    let (own, gateways) = (own.each_ref().map(String::as_str), gateways.each_ref().map(String::as_str));
    nic.namespace().port(n, end.namespace(), "eth0", &own, gateways).unwrap();
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
        let addresses = [format!("10.0.{n}.1/24"), format!("2001:db8:{n}::1/64")];
        config::veth_port(n, &addresses.each_ref().map(String::as_str), &format!("vrf = {vrf}"))
    };
    nic_toml(host, name, "", core, &(port(0) + &port(1))) + &config::sync([server], sync)
}

/// The part of a dataplane's configuration that every NIC host here has: little memory, no hugepages, one worker that sleeps. `more` goes
/// into its `[node]`, `ports` behind; `[sync]` is left to the caller.
pub fn nic_toml(host: &Host<'_>, name: &str, more: &str, core: usize, ports: &str) -> String {
    config::node(name, host.folder(), more)
        + config::INSECURE
        + &config::workers(host.namespace().name(), 128, &core.to_string(), "")
        + ports
}
