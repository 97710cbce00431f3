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

mod host;
mod internet;
mod network;
mod nic;
mod ours;
mod suppress;

use std::path::Path;

pub use fibcast_testbed::config::{LANS, veth_port};
pub use fibcast_testbed::internet::ROUTES;
pub use fibcast_testbed::process::find;
pub use fibcast_testbed::wait::{always, eventually};
pub use fibcast_testbed::{Bird, Frr, Process};
use fibcast_testbed::{Namespace, Namespaces};
pub use host::{Host, RETAIN_S};
pub use internet::{Tap, oracle};
pub use network::{Network, mirror_of_table, table};
pub use nic::{dataplane_toml, nic_toml, plug};
pub use ours::{Ours, agent_toml, programs, route_server_toml};
pub use suppress::{announcing_bird_conf, suppress_frr_conf, suppress_lab};

/// Hosts, cables, files and processes of one test.
#[derive(Debug)]
pub struct Lab {
    namespaces: Namespaces,
    folder: tempfile::TempDir,
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
        let namespaces = Namespaces::new();
        if let Err(failure) = namespaces.add("probe") {
            return skip(&format!("no network namespaces: {failure}"));
        }
        let folder = tempfile::Builder::new().prefix(namespaces.tag()).tempdir().unwrap();
        // Daemons of FRR run as a user of their own.
        open(folder.path());
        Some(Lab { namespaces, folder })
    }

    /// A new host with nothing but its loopback.
    pub fn host(&self, name: &str) -> Host<'_> {
        let namespace = self.namespaces.add(name).unwrap_or_else(|failure| panic!("{failure}"));
        let folder = self.folder.path().join(name);
        std::fs::create_dir(&folder).unwrap();
        open(&folder);
        let host = Host::new(self, namespace, folder);
        host.sh(
            "sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 net.ipv4.conf.all.rp_filter=0",
        );
        host
    }

    /// Connects two hosts: on each an interface with addresses.
    pub fn cable(&self, a: (&Host<'_>, &str, &[&str]), b: (&Host<'_>, &str, &[&str])) {
        let ends: [(&Namespace, _, _); 2] = [a, b].map(|(host, name, own)| (host.namespace(), name, own));
        ends[0].0.link(a.1, ends[1].0, b.1).unwrap();
        ends.iter().for_each(|(host, name, own)| host.up(name, own).unwrap());
    }

    /// A folder that goes away with the laboratory; FRR may write in it.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}

fn open(folder: &Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o777)).unwrap();
}

/// A file of the project.
pub fn project(path: &str) -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path);
    std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}
