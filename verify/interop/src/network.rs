//! A network that several hosts are on, whose cables can be cut.

use fibcast_testbed::Namespace;

use crate::{Host, Lab};

/// A switch; each host's interface on it is `ctl`, its address `10.255.0.N`.
#[derive(Debug)]
pub struct Network(Namespace);

impl Lab {
    /// Connects hosts: the first gets the address 10.255.0.1.
    pub fn network(&self, hosts: &[&Host<'_>]) -> Network {
        let hosts: Vec<&Namespace> = hosts.iter().map(|host| host.namespace()).collect();
        Network(self.namespaces.network(&hosts).unwrap())
    }
}

impl Network {
    /// Pulls a host's cable: nothing passes in either direction, and no connection is reset.
    pub fn cut(&self, host: &Host<'_>) {
        self.0.ip(&format!("link set to-{} down", host.name())).unwrap();
    }

    /// Plugs it in again.
    pub fn mend(&self, host: &Host<'_>) {
        self.0.ip(&format!("link set to-{} up", host.name())).unwrap();
    }
}

impl Host<'_> {
    /// From now on it hears nothing from an address; what it sends gets there.
    pub fn deafen(&self, from: &str) {
        self.sh("nft add table ip deaf");
        self.sh("nft \"add chain ip deaf in { type filter hook input priority 0; }\"");
        self.sh(&format!("nft add rule ip deaf in ip saddr {from} drop"));
    }

    /// It hears again.
    pub fn hear(&self) {
        self.sh("nft delete table ip deaf");
    }

    /// Runs commands of `ip` in one go, as fast as the kernel takes them.
    #[track_caller]
    pub fn ip_batch(&self, lines: &str) {
        let file = self.file("batch", lines);
        self.sh(&format!("ip -batch {}", file.display()));
    }
}

/// Source of a route server that mirrors kernel table 100, which [`Host::uplink`] makes possible and [`table`] fills.
pub fn mirror_of_table(origin: &str) -> String {
    format!("[[source]]\norigin = \"{origin}\"\nkind = \"netlink\"\ntable = 100\n")
}

/// Commands for [`Host::ip_batch`]: `add`, `del` or `replace` /24s from 16.0.0.0 on, by their numbers.
pub fn table(verb: &str, numbers: std::ops::Range<u32>, via: &str) -> String {
    numbers.fold(String::new(), |mut text, n| {
        let [_, a, b, c] = (0x10_0000 + n).to_be_bytes();
        text += &format!("route {verb} {a}.{b}.{c}.0/24 via {via} table 100\n");
        text
    })
}

impl Host<'_> {
    /// An interface that has all of 192.0.2.0/24 and 2001:db8::/64 behind it, for next hops of routes.
    pub fn uplink(&self) {
        self.namespace().uplink(&["192.0.2.1/24", "2001:db8::1/64"]).unwrap();
    }
}
