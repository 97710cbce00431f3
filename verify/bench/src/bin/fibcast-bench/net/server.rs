//! A route server as a process of its own, with its table from an MRT file that is written here.

use std::io::BufWriter;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;

use fibcast_control::status::Status;
use fibcast_mrt::Writer;
use fibcast_testbed::{Node, config};
use ipnet::IpNet;
use rustix::process::Signal;

use super::until;
use crate::Failure;

/// Writes a RIB dump.
pub fn write_mrt(path: &Path, routes: impl IntoIterator<Item = (IpNet, IpAddr)>) -> Result<(), Failure> {
    let mut writer = Writer::new(BufWriter::new(std::fs::File::create(path)?));
    writer.peer_index(1, "bench", IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)))?;
    for (prefix, next_hop) in routes {
        writer.rib(1, prefix, next_hop)?;
    }
    let mut out = writer.into_inner();
    std::io::Write::flush(&mut out)?;
    Ok(())
}

/// A route server that runs; it ends when dropped.
pub struct Server {
    node: Node,
    pub address: SocketAddr,
}

impl Server {
    /// Starts it and waits until it is ready with its whole table.
    pub fn start(folder: &Path, name: &str, address: SocketAddr, mrt: &Path) -> Result<Self, Failure> {
        let text = config::node(name, folder, &config::listen(&address.to_string()))
            + "[limits]\nconnections = 8192\nper_address = 8192\nhalf_open = 8192\n"
            + &format!("[[source]]\norigin = \"bgp\"\nkind = \"mrt\"\npath = {mrt:?}\n");
        std::fs::write(folder.join(format!("{name}.toml")), text)?;
        let program = std::env::current_exe()?.with_file_name("fibcast-route-server");
        let server = Self { node: Node::start(&program, name, folder, None)?, address };
        until(&format!("{name} is ready"), || Ok(server.status().is_ok_and(|s| s.ready)))?;
        Ok(server)
    }

    pub fn status(&self) -> Result<Status, Failure> {
        self.node.status().ok_or_else(|| Failure::Net(format!("{} does not answer", self.node.name())))
    }

    /// Sends a signal, and waits for the end where it is SIGKILL.
    pub fn signal(&mut self, signal: Signal) {
        match signal {
            Signal::KILL => self.node.process.kill(),
            other => self.node.process.signal(other),
        }
    }
}
