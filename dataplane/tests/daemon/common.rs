//! A router of two ports: p0 brings the packets of a file again and again, p1 swallows what is sent.

use std::path::Path;

use fibcast_control::tables::{DropList, WorkerList};
use fibcast_control::{Answer, DataplaneRequest, Request};
use fibcast_dataplane::packet::checksum;
use fibcast_testbed::wait::eventually;
use fibcast_testbed::{Node, config, pcap};

/// A daemon that runs, in a folder that goes away with it.
pub struct Router {
    node: Node,
    folder: tempfile::TempDir,
}

pub fn wait_until(what: &str, done: impl FnMut() -> bool) {
    eventually(what, 30, done);
}

/// UDP from 192.0.2.7 to an address, to the MAC address of a net_pcap port.
pub fn frame(destination: [u8; 4], source_port: u16, ttl: u8) -> Vec<u8> {
    let mut frame = vec![0x02, 0x70, 0x63, 0x61, 0x70, 0x00, 2, 0, 0, 0, 0, 7, 8, 0];
    let mut header = vec![0x45, 0, 0, 46, 0, 0, 0, 0, ttl, 17, 0, 0, 192, 0, 2, 7];
    header.extend(destination);
    let field = checksum::checksum(&header);
    header[10..12].copy_from_slice(&field.to_be_bytes());
    frame.extend(header);
    frame.extend(source_port.to_be_bytes());
    frame.extend([0; 24]);
    frame
}

impl Router {
    /// `frames` come in for ever; `cores` and `keys` go into `[workers]`, `rest` to the end.
    pub fn start(frames: &[Vec<u8>], cores: &str, keys: &str, rest: &str) -> Router {
        Router::run(frames, |path| text(path, cores, keys, rest))
    }

    /// With metrics and health.
    pub fn start_with_http(frames: &[Vec<u8>], http: std::net::SocketAddr, rest: &str) -> Router {
        Router::start_with_keys(frames, &format!("http = \"{http}\""), rest)
    }

    /// With keys of `[node]`.
    pub fn start_with_keys(frames: &[Vec<u8>], keys: &str, rest: &str) -> Router {
        let section = format!("[node]\n{keys}");
        Router::run(frames, |path| text(path, "0", "", rest).replacen("[node]", &section, 1))
    }

    fn run(frames: &[Vec<u8>], text: impl Fn(&Path) -> String) -> Router {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        std::fs::write(path.join("in.pcap"), pcap::write(frames)).unwrap();
        std::fs::write(path.join("nh-test.toml"), text(path)).unwrap();
        let program = env!("CARGO_BIN_EXE_fibcast-dataplane");
        let node = Node::ready(program.as_ref(), "nh-test", path, None).unwrap();
        Router { node, folder }
    }

    /// Ends the daemon in order, and starts it again with the files that are there.
    pub fn restart(self) -> Router {
        let Router { node, folder } = self;
        drop(node);
        let program = env!("CARGO_BIN_EXE_fibcast-dataplane");
        let node = Node::ready(program.as_ref(), "nh-test", folder.path(), None).unwrap();
        Router { node, folder }
    }

    /// Its folder, with its configuration `nh-test.toml`.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Rewrites the file.
    pub fn rewrite(&self, cores: &str, keys: &str, rest: &str) {
        let path = self.folder.path();
        std::fs::write(path.join("nh-test.toml"), text(path, cores, keys, rest)).unwrap();
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        self.node.process.output()
    }

    pub fn socket(&self) -> std::path::PathBuf {
        self.node.socket().to_owned()
    }

    pub fn pid(&self) -> u32 {
        self.node.process.pid()
    }

    pub fn ask(&self, request: impl Into<Request>) -> Result<Answer, String> {
        self.node.ask(request).map_err(|error| error.to_string())
    }

    /// What became of all packets, which must add up whenever somebody looks.
    #[track_caller]
    pub fn drops(&self) -> DropList {
        let Ok(Answer::Drops(drops)) = self.ask(DataplaneRequest::Drops) else { panic!("no answer") };
        assert_eq!(drops.received, drops.sent + drops.dropped + drops.host + drops.held, "{drops:?}");
        assert_eq!(drops.dropped, drops.drops.iter().map(|drop| drop.packets).sum::<u64>(), "{drops:?}");
        drops
    }

    pub fn workers(&self) -> WorkerList {
        let Ok(Answer::Workers(list)) = self.ask(DataplaneRequest::Workers) else { panic!("no answer") };
        list
    }
}

fn text(folder: &Path, cores: &str, keys: &str, rest: &str) -> String {
    let prefix = format!("fc-{}-{}", std::process::id(), folder.file_name().unwrap().display());
    let input = format!("net_pcap0,rx_pcap={}/in.pcap,infinite_rx=1", folder.display());
    config::node("nh-test", folder, "")
        + &config::workers(&prefix, 256, cores, keys)
        + &config::port("p0", &input, &["192.0.2.1/24"], "")
        + &config::port("p1", "net_null1,no-rx=1", &["198.51.100.1/24"], "")
        + "[[static_neighbor]]\nport = \"p1\"\nip = \"198.51.100.9\"\nmac = \"02:00:00:00:00:09\"\n"
        + rest
}

/// A route of the file to the neighbor behind p1.
pub const ROUTE: &str = "[[static_route]]\nprefix = \"10.0.0.0/8\"\nvia = \"198.51.100.9\"\n";
