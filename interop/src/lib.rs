//! A laboratory for tests with real routing daemons: hosts are network namespaces, cables are veth pairs, and daemons of FRR and BIRD
//! run beside ours, each with files and sockets of its own.
//!
//! Begin with [`Lab::new`], which says in one line why it cannot be where it cannot, then [`Lab::host`], and [`Lab::cable`] or [`Lab::network`]. On a [`Host`],
//! [`Host::frr`], [`Host::bird`] and [`Host::ours`] start daemons. [`eventually`] waits for something to come true. All of it goes away with
//! the [`Lab`], also when a test panics; what a killed test left behind goes with the next lab.
//!
//! Tests run only with `FIBCAST_INTEROP=1`, which `make test-interop` sets, one at a time: they start a dozen of processes each.
// A failed check panics, as in any test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::missing_panics_doc)]

mod bird;
mod frr;
mod host;
mod internet;
mod network;
mod nic;
mod ours;
mod process;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

pub use bird::Bird;
pub use frr::Frr;
pub use host::Host;
pub use internet::{Internet, ROUTES, SUBNETS, Tap};
pub use network::{Network, mirror_of_table, table};
pub use nic::{dataplane_toml, nic_toml, plug};
pub use ours::{Ours, agent_toml, built, node, route_server_toml};
pub use process::Process;

/// Names of namespaces begin so; then the id of the process that made them.
const TAG: &str = "fci";

/// Namespaces, cables, files and processes of one test.
#[derive(Debug)]
pub struct Lab {
    tag: String,
    folder: tempfile::TempDir,
    hosts: std::cell::RefCell<Vec<String>>,
}

impl Lab {
    /// An empty laboratory; none, with a line that says why, where this machine cannot have one or a program is missing.
    pub fn new(programs: &[&str]) -> Option<Lab> {
        let skip = |why: &str| {
            eprintln!("{}: skipped: {why}", std::thread::current().name().unwrap_or("a test"));
            None
        };
        if std::env::var_os("FIBCAST_INTEROP").is_none() {
            return skip("run by `make test-interop` (FIBCAST_INTEROP=1)");
        }
        if !rustix::process::geteuid().is_root() {
            return skip("not root");
        }
        for program in programs.iter().chain(&["ip"]) {
            if find(program).is_none() {
                return skip(&format!("{program} is not installed"));
            }
        }
        sweep();
        // Tests of one program run one after another, distinguished by a number.
        static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let tag = format!("{TAG}{}-{number}", std::process::id());
        let probe = run("ip", &["netns", "add", &format!("{tag}-probe")]);
        if !probe.status.success() {
            return skip(&format!("no network namespaces: {}", text(&probe)));
        }
        run("ip", &["netns", "del", &format!("{tag}-probe")]);
        let folder = tempfile::Builder::new().prefix(&tag).tempdir().unwrap();
        // Daemons of FRR run as a user of their own.
        open(folder.path());
        Some(Lab { tag, folder, hosts: Default::default() })
    }

    /// A new host with nothing but its loopback.
    pub fn host(&self, name: &str) -> Host<'_> {
        let namespace = format!("{}-{name}", self.tag);
        must("ip", &["netns", "add", &namespace]);
        self.hosts.borrow_mut().push(namespace.clone());
        let folder = self.folder.path().join(name);
        std::fs::create_dir(&folder).unwrap();
        open(&folder);
        let host = Host::new(self, name, namespace, folder);
        host.ip("link set lo up");
        host.sh(
            "sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 net.ipv4.conf.all.rp_filter=0",
        );
        host
    }

    /// Connects two hosts: on each an interface with addresses.
    pub fn cable(&self, a: (&Host<'_>, &str, &[&str]), b: (&Host<'_>, &str, &[&str])) {
        let (left, right) = (a.0.namespace(), b.0.namespace());
        must("ip", &["-n", left, "link", "add", a.1, "type", "veth", "peer", "name", b.1, "netns", right]);
        for (host, interface, addresses) in [a, b] {
            host.ip(&format!("link set {interface} up"));
            for address in addresses {
                let nodad = if address.contains(':') { "nodad" } else { "" };
                host.ip(&format!("address add {address} dev {interface} {nodad}"));
            }
        }
    }

    /// A folder that goes away with the laboratory; FRR may write in it.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for namespace in self.hosts.borrow().iter() {
            remove(namespace);
        }
    }
}

/// Ends what runs in a namespace of ours, and removes it.
fn remove(namespace: &str) {
    let pids = run("ip", &["netns", "pids", namespace]);
    for pid in String::from_utf8_lossy(&pids.stdout).split_whitespace() {
        run("kill", &["-KILL", pid]);
    }
    run("ip", &["netns", "del", namespace]);
}

/// Removes what a killed test left behind.
fn sweep() {
    let list = run("ip", &["netns", "list"]);
    for namespace in String::from_utf8_lossy(&list.stdout).lines().filter_map(|l| l.split_whitespace().next())
    {
        let maker = namespace.strip_prefix(TAG).and_then(|rest| rest.split('-').next());
        if maker.is_some_and(|pid| pid.parse::<u32>().is_ok() && !Path::new("/proc").join(pid).exists()) {
            remove(namespace);
        }
    }
}

fn open(folder: &Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o777)).unwrap();
}

/// Where a program is: in PATH, or among the daemons of FRR.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders =
        std::env::split_paths(&path).chain(["/usr/lib/frr", "/usr/sbin", "/sbin"].map(PathBuf::from));
    folders.map(|folder| folder.join(program)).find(|file| file.is_file())
}

/// A file of the project.
pub fn project(path: &str) -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
    std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

/// Waits until something is true, and fails where that takes longer.
#[track_caller]
pub fn eventually(what: &str, seconds: u64, mut condition: impl FnMut() -> bool) -> Duration {
    let begin = Instant::now();
    while !condition() {
        assert!(begin.elapsed() < Duration::from_secs(seconds), "not within {seconds} s: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
    begin.elapsed()
}

/// Fails where something does not stay true.
#[track_caller]
pub fn always(what: &str, seconds: u64, mut condition: impl FnMut() -> bool) {
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(seconds) {
        assert!(condition(), "no longer after {:?}: {what}", begin.elapsed());
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn run(program: &str, arguments: &[&str]) -> Output {
    Command::new(program).args(arguments).stdin(Stdio::null()).output().unwrap()
}

fn must(program: &str, arguments: &[&str]) {
    let output = run(program, arguments);
    assert!(output.status.success(), "{program} {}: {}", arguments.join(" "), text(&output));
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned()
}
