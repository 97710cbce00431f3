//! Hosts of their own for a demo with routing daemons: network namespaces on one bridge. They go away with the [`Network`], and what runs in
//! them ends first; what a killed demo left behind goes with the next one.

use std::path::Path;
use std::process::{Command, Stdio};

/// Names of namespaces begin so; then the id of the demo's process.
const TAG: &str = "fcd";

/// Namespaces, and the bridge that connects them.
#[derive(Debug)]
pub struct Network {
    tag: String,
    namespaces: Vec<String>,
}

impl Network {
    /// Hosts with these names; the first has the address 10.255.0.1 on the bridge.
    pub fn new(names: &[&str]) -> Result<Network, String> {
        sweep();
        let mut network = Network { tag: format!("{TAG}{}", std::process::id()), namespaces: Vec::new() };
        let bridge = network.add("bridge")?;
        ip(&["-n", &bridge, "link", "add", "br0", "type", "bridge"])?;
        ip(&["-n", &bridge, "link", "set", "br0", "up"])?;
        for (name, number) in names.iter().zip(1..) {
            let (host, port) = (network.add(name)?, format!("to-{name}"));
            let mut cable = vec!["-n", &host, "link", "add", "ctl", "type", "veth"];
            cable.extend(["peer", "name", &port, "netns", &bridge]);
            ip(&cable)?;
            ip(&["-n", &host, "address", "add", &format!("{}/24", address(number)), "dev", "ctl"])?;
            for interface in ["lo", "ctl"] {
                ip(&["-n", &host, "link", "set", interface, "up"])?;
            }
            ip(&["-n", &bridge, "link", "set", &port, "master", "br0", "up"])?;
        }
        Ok(network)
    }

    fn add(&mut self, name: &str) -> Result<String, String> {
        let namespace = self.namespace(name);
        ip(&["netns", "add", &namespace])?;
        self.namespaces.push(namespace.clone());
        Ok(namespace)
    }

    /// The namespace of a host.
    pub fn namespace(&self, name: &str) -> String {
        format!("{}-{name}", self.tag)
    }

    /// Gives a host an interface that has these subnets behind it, for the next hops of routes.
    pub fn uplink(&self, name: &str, addresses: &[&str]) -> Result<(), String> {
        let host = self.namespace(name);
        ip(&["-n", &host, "link", "add", "up0", "type", "veth", "peer", "name", "up1"])?;
        for address in addresses {
            let mut add = vec!["-n", &host, "address", "add", address, "dev", "up0"];
            // Nobody else is there who could have the address.
            add.extend(address.contains(':').then_some("nodad"));
            ip(&add)?;
        }
        for interface in ["up1", "up0"] {
            ip(&["-n", &host, "link", "set", interface, "up"])?;
        }
        Ok(())
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.namespaces.iter().for_each(|namespace| remove(namespace));
    }
}

/// The address of a host, by its place from 1.
pub fn address(number: usize) -> String {
    format!("10.255.0.{number}")
}

fn ip(arguments: &[&str]) -> Result<(), String> {
    let output = Command::new("ip").args(arguments).stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("ip: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("ip {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim()))
}

/// Ends what runs in a namespace, and removes it.
fn remove(namespace: &str) {
    if let Ok(pids) = Command::new("ip").args(["netns", "pids", namespace]).output() {
        for pid in String::from_utf8_lossy(&pids.stdout).split_whitespace() {
            let _ = Command::new("kill").args(["-KILL", pid]).stderr(Stdio::null()).status();
        }
    }
    // It may be gone, which is what is wanted.
    let _ = ip(&["netns", "del", namespace]);
}

fn sweep() {
    let Ok(list) = Command::new("ip").args(["netns", "list"]).output() else { return };
    let text = String::from_utf8_lossy(&list.stdout);
    for namespace in text.lines().filter_map(|line| line.split_whitespace().next()) {
        let maker = namespace.strip_prefix(TAG).and_then(|rest| rest.split('-').next());
        if maker.is_some_and(|pid| pid.parse::<u32>().is_ok() && !Path::new("/proc").join(pid).exists()) {
            remove(namespace);
        }
    }
}
