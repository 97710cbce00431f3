//! A route server as a process of its own, with its table from an MRT file that is written here.

use std::io::BufWriter;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use fibcast_control::protocol::{Answer, Request};
use fibcast_control::status::Status;
use fibcast_mrt::Writer;
use ipnet::IpNet;

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

/// A port that was free a moment ago.
pub fn free_address() -> Result<SocketAddr, Failure> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

/// A route server that runs; it ends when dropped.
pub struct Server {
    child: Child,
    folder: std::path::PathBuf,
    name: String,
    pub address: SocketAddr,
}

impl Server {
    /// Starts it and waits until it is ready with its whole table.
    pub fn start(folder: &Path, name: &str, address: SocketAddr, mrt: &Path) -> Result<Self, Failure> {
        let config = folder.join(format!("{name}.toml"));
        let socket = folder.join(format!("{name}.sock"));
        let text = format!(
            "[node]\nname = \"{name}\"\nlisten = [\"{address}\"]\ncontrol = {socket:?}\n[limits]\nconnections = 8192\n\
             per_address = 8192\nhalf_open = 8192\n[[source]]\norigin = \"bgp\"\nkind = \"mrt\"\npath = {mrt:?}\n"
        );
        std::fs::write(&config, text)?;
        let program = std::env::current_exe()?.with_file_name("fibcast-route-server");
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--"])
            .arg(&program)
            .arg("--config")
            .arg(&config)
            .env("FIBCAST_LOG", "warn")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .map_err(|e| Failure::Net(format!("{}: {e}", program.display())))?;
        let server = Self { child, folder: folder.to_owned(), name: name.to_owned(), address };
        until(&format!("{name} is ready"), || Ok(server.status().is_ok_and(|s| s.ready)))?;
        Ok(server)
    }

    pub fn status(&self) -> Result<Status, Failure> {
        let socket = self.folder.join(format!("{}.sock", self.name));
        match fibcast_control::ask(&socket, &Request::Status, Duration::from_secs(20)) {
            Ok(Answer::Status(status)) => Ok(*status),
            Ok(_) => Err(Failure::Net("another answer than the status".into())),
            Err(e) => Err(Failure::Net(e.to_string())),
        }
    }

    /// SIGKILL, STOP or CONT.
    pub fn signal(&mut self, name: &str) -> Result<(), Failure> {
        let pid = self.child.id().to_string();
        Command::new("kill").args([&format!("-{name}"), &pid]).status()?;
        if name == "KILL" {
            self.child.wait()?;
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
