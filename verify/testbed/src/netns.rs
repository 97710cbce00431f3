//! Hosts of their own: network namespaces, and the links between them. They go away with the [`Namespaces`], and what runs in them ends
//! first; what a killed program left behind goes with the next one.

use std::cell::RefCell;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::Failure;
use crate::process::run;

/// Names of namespaces begin so; then the id of the process that made them.
const TAG: &str = "fct";
/// How long a command may take, in seconds.
const WITHIN_S: &str = "60";

/// The namespaces of one network.
#[derive(Debug)]
pub struct Namespaces {
    tag: String,
    made: RefCell<Vec<String>>,
}

impl Namespaces {
    /// None yet.
    pub fn new() -> Namespaces {
        sweep();
        // A process may have several networks.
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Namespaces { tag: format!("{TAG}{}-{number}", std::process::id()), made: RefCell::default() }
    }

    /// What all their names begin with; no other network has it at the same time.
    pub fn tag(&self) -> &str {
        &self.tag
    }

    /// A new host with nothing but its loopback, which is up.
    ///
    /// # Errors
    /// There can be no network namespaces here, or one of this name is there.
    pub fn add(&self, host: &str) -> Result<Namespace, Failure> {
        let name = format!("{}-{host}", self.tag);
        run("ip", &["netns", "add", &name])?;
        self.made.borrow_mut().push(name.clone());
        let namespace = Namespace { host: host.to_owned(), name };
        namespace.ip("link set lo up")?;
        Ok(namespace)
    }

    /// Connects hosts to a switch, which has a namespace of its own. Each host's interface there is `ctl`, its address `10.255.0.N`, the
    /// first host's 10.255.0.1; the switch's port to it is `to-NAME`.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn network(&self, hosts: &[&Namespace]) -> Result<Namespace, Failure> {
        let switch = self.add("switch")?;
        switch.ip("link add br0 type bridge")?;
        switch.ip("link set br0 up")?;
        for (host, number) in hosts.iter().zip(1..) {
            let port = format!("to-{}", host.host);
            host.link("ctl", &switch, &port)?;
            host.up("ctl", &[&format!("{}/24", address(number))])?;
            switch.ip(&format!("link set {port} master br0 up"))?;
        }
        Ok(switch)
    }
}

impl Default for Namespaces {
    fn default() -> Self {
        Namespaces::new()
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        self.made.borrow().iter().for_each(|namespace| remove(namespace));
    }
}

/// The address of a host on the switch, by its place from 1.
pub fn address(number: usize) -> String {
    format!("10.255.0.{number}")
}

/// A host.
#[derive(Debug, Clone)]
pub struct Namespace {
    host: String,
    name: String,
}

impl Namespace {
    /// The name of the host.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The name of its namespace.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// `ip` on it, with arguments between spaces.
    ///
    /// # Errors
    /// `ip` refuses; with what it printed.
    pub fn ip(&self, arguments: &str) -> Result<String, Failure> {
        let arguments: Vec<&str> =
            ["-n", &self.name].into_iter().chain(arguments.split_whitespace()).collect();
        run("ip", &arguments)
    }

    /// Moves the calling thread into its network, with the threads that it starts from now on.
    ///
    /// # Errors
    /// It is gone, or this process may not.
    pub fn enter(&self) -> std::io::Result<()> {
        let file = std::fs::File::open(Path::new("/run/netns").join(&self.name))?;
        let network = Some(rustix::thread::LinkNameSpaceType::Network);
        Ok(rustix::thread::move_into_link_name_space(std::os::fd::AsFd::as_fd(&file), network)?)
    }

    /// A command of the shell on it: whether it ended well, and what it printed.
    pub fn try_sh(&self, command: &str) -> (bool, String) {
        let arguments = ["netns", "exec", &self.name, "timeout", WITHIN_S, "bash", "-c", command];
        match Command::new("ip").args(arguments).stdin(Stdio::null()).output() {
            Ok(output) => {
                let printed = [output.stdout, output.stderr].concat();
                (output.status.success(), String::from_utf8_lossy(&printed).into_owned())
            }
            Err(error) => (false, error.to_string()),
        }
    }

    /// A command of the shell on it: what it printed.
    ///
    /// # Errors
    /// It did not end well; with what it printed.
    pub fn sh(&self, command: &str) -> Result<String, Failure> {
        match self.try_sh(command) {
            (true, output) => Ok(output),
            (false, output) => Err(Failure::Command { command: format!("{}: {command}", self.host), output }),
        }
    }

    /// A veth pair to another host; neither end is up.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn link(&self, interface: &str, other: &Namespace, theirs: &str) -> Result<(), Failure> {
        self.ip(&format!("link add {interface} type veth peer name {theirs} netns {}", other.name)).map(drop)
    }

    /// Takes an interface up, with addresses.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn up(&self, interface: &str, addresses: &[&str]) -> Result<(), Failure> {
        self.ip(&format!("link set {interface} up"))?;
        for address in addresses {
            // Nobody else is there who could have it.
            let nodad = if address.contains(':') { "nodad" } else { "" };
            self.ip(&format!("address add {address} dev {interface} {nodad}"))?;
        }
        Ok(())
    }

    /// An interface that has the subnets of these addresses behind it, for the next hops of routes.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn uplink(&self, addresses: &[&str]) -> Result<(), Failure> {
        self.ip("link add up0 type veth peer name up1")?;
        self.up("up1", &[])?;
        self.up("up0", addresses)
    }

    /// Makes interface `rN` of a NIC host, for its port `pN`, and connects it to `interface` of another host, which gets addresses, and the port's
    /// as its gateways.
    ///
    /// # Errors
    /// The kernel refuses, or nft or ethtool.
    pub fn port(
        &self,
        number: usize,
        other: &Namespace,
        interface: &str,
        addresses: &[&str],
        gateways: [&str; 2],
    ) -> Result<(), Failure> {
        let port = format!("r{number}");
        self.link(&port, other, interface)?;
        // Ports have no checksum or segmentation offload: what hosts send must be whole.
        for (host, interface) in [(self, port.as_str()), (other, interface)] {
            host.sh(&format!("ethtool -K {interface} tx off rx off tso off gso off gro off"))?;
        }
        // The kernel below the port must not answer besides it: packet sockets see frames before this drops them.
        self.sh(&format!("sysctl -qw net.ipv6.conf.{port}.disable_ipv6=1 && nft add table netdev {port}"))?;
        let hook = format!("{{ type filter hook ingress device {port} priority 0; policy drop; }}");
        self.sh(&format!("nft 'add chain netdev {port} in {hook}'"))?;
        self.up(&port, &[])?;
        other.up(interface, addresses)?;
        let [v4, v6] = gateways;
        other.ip(&format!("route add default via {v4}"))?;
        other.ip(&format!("-6 route add default via {v6}")).map(drop)
    }
}

/// Ends what runs in a namespace of ours, and removes it. What is gone already is as it should be.
fn remove(namespace: &str) {
    let pids = run("ip", &["netns", "pids", namespace]).unwrap_or_default();
    for pid in pids.split_whitespace() {
        let _ = run("kill", &["-KILL", pid]);
    }
    let _ = run("ip", &["netns", "del", namespace]);
}

/// Removes what a killed program left behind.
fn sweep() {
    let list = run("ip", &["netns", "list"]).unwrap_or_default();
    for namespace in list.lines().filter_map(|line| line.split_whitespace().next()) {
        let maker = namespace.strip_prefix(TAG).and_then(|rest| rest.split('-').next());
        if maker.is_some_and(|pid| pid.parse::<u32>().is_ok() && !Path::new("/proc").join(pid).exists()) {
            remove(namespace);
        }
    }
}
