//! Namespaces, veth pairs, the router between them, and commands inside of them; all of it goes away with the [`Lab`].

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use fibcast_control::tables::{DropList, PortList};
use fibcast_control::{Answer, Request, ask};

/// Hosts h0, h1, … each on a port p0, p1, … of the router: hN is 10.0.N.2 and 2001:db8:N::2, the router 10.0.N.1 and 2001:db8:N::1.
pub struct Lab {
    hosts: usize,
    tag: String,
    folder: tempfile::TempDir,
    daemon: Option<Child>,
}

/// Whether a program is there.
pub fn has(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).any(|folder| folder.join(program).is_file());
    if !found {
        eprintln!("skipped in part: {program} is not installed");
    }
    found
}

fn run(program: &str, arguments: &str) -> Output {
    Command::new(program).args(arguments.split_whitespace()).stdin(Stdio::null()).output().unwrap()
}

fn must(program: &str, arguments: &str) {
    let output = run(program, arguments);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments}: {errors}");
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
        let tag = format!("fc{}", std::process::id());
        let probe = run("ip", &format!("netns add {tag}-r"));
        if !probe.status.success() {
            eprintln!("skipped: no network namespaces here: {}", String::from_utf8_lossy(&probe.stderr));
            return None;
        }
        let lab = Lab { hosts, tag, folder: tempfile::tempdir().unwrap(), daemon: None };
        for host in 0..hosts {
            lab.connect(host);
        }
        Some(lab)
    }

    fn connect(&self, host: usize) {
        let (router, name) = (self.router_name(), self.name(host));
        must("ip", &format!("netns add {name}"));
        must("ip", &format!("-n {router} link add r{host} type veth peer name e0 netns {name}"));
        // Ports have no checksum or segmentation offload: what hosts send must be whole.
        let off = "tx off rx off tso off gso off gro off";
        must("ip", &format!("netns exec {name} ethtool -K e0 {off}"));
        must("ip", &format!("netns exec {router} ethtool -K r{host} {off}"));
        must("ip", &format!("netns exec {router} sysctl -qw net.ipv6.conf.r{host}.disable_ipv6=1"));
        must("ip", &format!("-n {router} link set r{host} up"));
        // The kernel below the port must not answer besides it: packet sockets see frames before this drops them.
        must("ip", &format!("netns exec {router} nft add table netdev lab{host}"));
        let hook = format!("{{ type filter hook ingress device r{host} priority 0; policy drop; }}");
        must("ip", &format!("netns exec {router} nft add chain netdev lab{host} in {hook}"));
        must("ip", &format!("-n {name} link set lo up"));
        must("ip", &format!("-n {name} link set e0 up"));
        must("ip", &format!("-n {name} address add 10.0.{host}.2/24 dev e0"));
        must("ip", &format!("-n {name} -6 address add 2001:db8:{host}::2/64 dev e0 nodad"));
        must("ip", &format!("-n {name} route add default via 10.0.{host}.1"));
        must("ip", &format!("-n {name} -6 route add default via 2001:db8:{host}::1"));
    }

    fn name(&self, host: usize) -> String {
        format!("{}-h{host}", self.tag)
    }

    fn router_name(&self) -> String {
        format!("{}-r", self.tag)
    }

    /// Starts the router: `keys` are added to each port by its number, `rest` to the file.
    pub fn start(&mut self, keys: &dyn Fn(usize) -> &'static str, rest: &str) {
        let folder = self.folder.path();
        let mut text = format!(
            "[node]\nname = \"lab\"\ncontrol = \"{folder}/control.sock\"\n[workers]\ncores = [0]\nidle = \"sleep\"\n\
             [eal]\nargs = [\"--no-huge\", \"-m\", \"128\", \"--no-pci\", \"--no-shconf\", \"--no-telemetry\", \
             \"--iova-mode=va\", \"--file-prefix\", \"{tag}\"]\n",
            folder = folder.display(),
            tag = self.tag
        );
        for host in 0..self.hosts {
            text += &format!(
                "[[port]]\nname = \"p{host}\"\ndevice = \"net_af_packet{host},iface=r{host}\"\n\
                 addresses = [\"10.0.{host}.1/24\", \"2001:db8:{host}::1/64\"]\n{}\n",
                keys(host)
            );
        }
        text += rest;
        let file = folder.join("dataplane.toml");
        std::fs::write(&file, text).unwrap();
        let child = Command::new("ip")
            .args(["netns", "exec", &self.router_name(), env!("CARGO_BIN_EXE_fibcast-dataplane"), "--config"])
            .arg(&file)
            .env("RUNTIME_DIRECTORY", folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        self.daemon = Some(child);
        let end = Instant::now() + Duration::from_secs(30);
        while self.answer(Request::Ports {}).is_none() {
            assert!(Instant::now() < end, "the router did not start");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// The router with nothing special.
    pub fn plain(hosts: usize) -> Option<Lab> {
        let mut lab = Lab::new(hosts)?;
        lab.start(&|_| "", "");
        Some(lab)
    }

    /// Runs a command on a host; what it printed, and whether it was content.
    pub fn on(&self, host: usize, command: &str) -> (bool, String) {
        self.inside(&self.name(host), command)
    }

    /// Runs a command on a host that must be content.
    #[track_caller]
    pub fn ok(&self, host: usize, command: &str) -> String {
        let (content, text) = self.on(host, command);
        assert!(content, "h{host}: {command}\n{text}\ndrops: {:?}", self.drops());
        text
    }

    /// Runs a command in the router's namespace.
    pub fn on_router(&self, command: &str) -> (bool, String) {
        self.inside(&self.router_name(), command)
    }

    fn inside(&self, name: &str, command: &str) -> (bool, String) {
        let output = Command::new("ip")
            .args(["netns", "exec", name, "timeout", "20", "bash", "-c", command])
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&text).into_owned())
    }

    fn answer(&self, request: Request) -> Option<Answer> {
        ask(&self.folder.path().join("control.sock"), &request, Duration::from_secs(5)).ok()
    }

    /// The router's counters, which must add up whenever they are looked at.
    pub fn drops(&self) -> DropList {
        let Some(Answer::Drops(drops)) = self.answer(Request::Drops {}) else { panic!("no answer") };
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
        let Some(Answer::Trace(trace)) = self.answer(Request::Trace { address, from, vrf: 0 }) else {
            panic!("no answer")
        };
        *trace
    }

    /// A command that runs in the router's namespace until it is dropped.
    pub fn in_router(&self, command: &str) -> Running {
        Running::start(&self.router_name(), command)
    }

    /// A command that runs on a host until it is dropped.
    pub fn in_host(&self, host: usize, command: &str) -> Running {
        Running::start(&self.name(host), command)
    }

    /// The router's ports.
    pub fn ports(&self) -> PortList {
        let Some(Answer::Ports(ports)) = self.answer(Request::Ports {}) else { panic!("no answer") };
        ports
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
        if let Some(mut daemon) = self.daemon.take() {
            daemon.kill().unwrap();
            daemon.wait().unwrap();
        }
    }

    /// Ends the router, in order.
    pub fn stop(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            let pid = rustix::process::Pid::from_child(&daemon);
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
            let end = Instant::now() + Duration::from_secs(5);
            while matches!(daemon.try_wait(), Ok(None)) {
                if Instant::now() > end {
                    let _ = daemon.kill();
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.stop();
        for name in (0..self.hosts).map(|host| self.name(host)).chain([self.router_name()]) {
            run("ip", &format!("netns del {name}"));
        }
    }
}
