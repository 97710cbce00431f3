//! Namespaces, veth pairs, the router between them, and commands inside of them; all of it goes away with the [`Lab`].

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use fibcast_control::tables::{DropList, PortList};
use fibcast_control::{Answer, DataplaneRequest};
use fibcast_testbed::process::{Process, find};
use fibcast_testbed::{Frr, Namespace, Namespaces, Node, config};

/// Hosts h0, h1, … each on a port p0, p1, … of the router: hN is 10.0.N.2 and 2001:db8:N::2, the router 10.0.N.1 and 2001:db8:N::1.
pub struct Lab {
    node: Option<Node>,
    router: Namespace,
    hosts: Vec<Namespace>,
    namespaces: Namespaces,
    folder: tempfile::TempDir,
}

/// Whether a program is there.
pub fn has(program: &str) -> bool {
    let found = find(program).is_some();
    if !found {
        eprintln!("skipped in part: {program} is not installed");
    }
    found
}

impl Lab {
    /// Namespaces and links of so many hosts; none where this machine cannot have them.
    pub fn new(hosts: usize) -> Option<Lab> {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: not root");
            return None;
        }
        if ["ip", "nft", "ethtool"].iter().any(|program| !has(program)) {
            eprintln!("skipped: a program is missing");
            return None;
        }
        let namespaces = Namespaces::new();
        let router = match namespaces.add("r") {
            Ok(router) => router,
            Err(failure) => {
                eprintln!("skipped: no network namespaces here: {failure}");
                return None;
            }
        };
        let hosts: Vec<Namespace> = (0..hosts).map(|n| namespaces.add(&format!("h{n}")).unwrap()).collect();
        for (n, host) in hosts.iter().enumerate() {
            let own = [format!("10.0.{n}.2/24"), format!("2001:db8:{n}::2/64")];
            let gateways = [format!("10.0.{n}.1"), format!("2001:db8:{n}::1")];
            let [own, gateways] = [&own, &gateways].map(|pair| pair.each_ref().map(String::as_str));
            router.port(n, host, "e0", &own, gateways).unwrap();
        }
        Some(Lab { node: None, router, hosts, namespaces, folder: tempfile::tempdir().unwrap() })
    }

    /// Starts the router: `keys` are added to each port by its number, `rest` to the file.
    pub fn start(&mut self, keys: &dyn Fn(usize) -> &'static str, rest: &str) {
        let ports = (0..self.hosts.len()).map(|n| {
            let addresses = [format!("10.0.{n}.1/24"), format!("2001:db8:{n}::1/64")];
            config::veth_port(n, &addresses.each_ref().map(String::as_str), keys(n))
        });
        self.start_with("", &(ports.collect::<String>() + rest));
    }

    /// Starts the router with ports of the test's own; `keys` are added to `[node]`.
    pub fn start_with(&mut self, keys: &str, ports: &str) {
        let folder = self.folder.path();
        let text =
            config::node("lab", folder, keys) + &config::workers(self.namespaces.tag(), 128, "0", "") + ports;
        std::fs::write(folder.join("lab.toml"), text).unwrap();
        let program = env!("CARGO_BIN_EXE_fibcast-dataplane");
        self.node = Some(Node::ready(program.as_ref(), "lab", folder, Some(self.router.name())).unwrap());
    }

    /// The router with nothing special.
    pub fn plain(hosts: usize) -> Option<Lab> {
        let mut lab = Lab::new(hosts)?;
        lab.start(&|_| "", "");
        Some(lab)
    }

    /// Runs a command on a host; what it printed, and whether it was content.
    pub fn on(&self, host: usize, command: &str) -> (bool, String) {
        self.hosts[host].try_sh(command)
    }

    /// Runs a command on a host that must be content.
    #[track_caller]
    pub fn ok(&self, host: usize, command: &str) -> String {
        let (content, text) = self.on(host, command);
        assert!(content, "h{host}: {command}\n{text}\ndrops: {:?}", self.drops());
        text
    }

    /// Connects interface `ft0` of this router (a net_tap port) to that of another one, by a bridge on each side. The kernel's end needs another
    /// MAC address than the port: a bridge keeps frames to the addresses of its own interfaces.
    pub fn bridge_to(&self, other: &Lab) {
        self.bridge_number(0, other);
    }

    /// The same for interface `ftN`.
    pub fn bridge_number(&self, n: usize, other: &Lab) {
        let wire = format!("w{n}");
        self.router.link(&wire, &other.router, &wire).unwrap();
        for lab in [self, other] {
            let commands = format!(
                "ip link add br{n} type bridge && \
                 for i in br{n} w{n} ft{n}; do sysctl -qw net.ipv6.conf.$i.disable_ipv6=1; done && \
                 ip link set ft{n} down && ip link set ft{n} address 02:fb:00:00:01:0{n} && \
                 for i in w{n} ft{n}; do ip link set $i master br{n} && ip link set $i up; done && ip link set br{n} up"
            );
            let (content, text) = lab.on_router(&commands);
            assert!(content, "{text}");
        }
    }

    /// Runs a command in the router's namespace.
    pub fn on_router(&self, command: &str) -> (bool, String) {
        self.router.try_sh(command)
    }

    /// Asks the router.
    pub fn ask(&self, request: DataplaneRequest) -> Result<Answer, String> {
        self.node.as_ref().ok_or("not started")?.ask(request).map_err(|error| error.to_string())
    }

    fn answer(&self, request: DataplaneRequest) -> Option<Answer> {
        self.node.as_ref()?.ask(request).ok()
    }

    /// The router's counters, which must add up whenever they are looked at.
    pub fn drops(&self) -> DropList {
        let Some(Answer::Drops(drops)) = self.answer(DataplaneRequest::Drops) else { panic!("no answer") };
        assert_eq!(drops.received, drops.sent + drops.dropped + drops.host + drops.held);
        drops
    }

    /// How many packets were dropped for a reason.
    pub fn dropped(&self, reason: &str) -> u64 {
        self.drops().drops.iter().filter(|drop| drop.reason == reason).map(|drop| drop.packets).sum()
    }

    /// What would happen to a packet.
    pub fn trace(&self, to: &str, from: &str) -> fibcast_control::capture::Trace {
        let (address, from) = (to.parse().unwrap(), Some(from.parse().unwrap()));
        let Some(Answer::Trace(trace)) = self.answer(DataplaneRequest::Trace { address, from, vrf: 0 })
        else {
            panic!("no answer")
        };
        *trace
    }

    /// A command that runs in the router's namespace until it is dropped.
    pub fn in_router(&self, command: &str) -> Running {
        Running::start(self.router.name(), command)
    }

    /// A command that runs on a host until it is dropped.
    pub fn in_host(&self, host: usize, command: &str) -> Running {
        Running::start(self.hosts[host].name(), command)
    }

    /// The router's ports.
    pub fn ports(&self) -> PortList {
        let Some(Answer::Ports(ports)) = self.answer(DataplaneRequest::Ports) else { panic!("no answer") };
        ports
    }

    /// FRR with some daemons on the router's host, or on another.
    pub fn frr(&self, host: Option<usize>, conf: &str, daemons: &[&str]) -> Frr {
        use std::os::unix::fs::PermissionsExt;
        // FRR runs as a user of its own, which has to reach its folder.
        std::fs::set_permissions(self.folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let at = host.map_or(&self.router, |host| &self.hosts[host]);
        let folder = self.folder.path().join(host.map_or("frr-r".to_owned(), |host| format!("frr-h{host}")));
        let frr = Frr::new(at, folder, conf).unwrap();
        daemons.iter().for_each(|daemon| frr.start(daemon, 0).unwrap());
        frr.configure().unwrap();
        frr
    }

    /// A folder that goes away with the lab.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}

/// A command that runs in a namespace; dropping it ends it.
pub struct Running(Child);

impl Running {
    fn start(name: &str, command: &str) -> Running {
        let child = Command::new("ip")
            .args(["netns", "exec", name, "bash", "-c", &format!("exec 2>&1; {command}")])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn();
        Running(child.unwrap())
    }

    /// Reads until a line is just this.
    pub fn wait_for(&mut self, word: &str) {
        let mut lines = BufReader::new(self.0.stdout.as_mut().unwrap()).lines();
        let mut output = String::new();
        while let Some(Ok(line)) = lines.next() {
            if line == word {
                return;
            }
            output += &(line + "\n");
        }
        panic!("ended without {word:?}: {output}");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // The whole group that was started above: a shell leaves its children behind.
        let group = rustix::process::Pid::from_child(&self.0);
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        let _ = self.0.wait();
    }
}

impl Lab {
    /// Ends the router at once, as a crash would.
    pub fn kill(&mut self) {
        self.node.take().iter_mut().for_each(|node| node.process.kill());
    }

    /// The router's process.
    pub fn process(&self) -> &Process {
        &self.node.as_ref().expect("it runs").process
    }

    /// What the router logged.
    pub fn log(&self) -> String {
        self.process().output()
    }

    /// Ends the router, in order.
    pub fn stop(&mut self) {
        self.node = None;
    }
}
