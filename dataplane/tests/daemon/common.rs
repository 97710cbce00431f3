//! A router of two ports: p0 brings the packets of a file again and again, p1 swallows what is sent.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use fibcast_control::tables::{DropList, WorkerList};
use fibcast_control::{Answer, Request, ask};
use fibcast_dataplane::packet::checksum;

/// A daemon that runs, in a folder that goes away with it.
pub struct Router {
    folder: tempfile::TempDir,
    child: Child,
}

impl Drop for Router {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(30);
    while !done() {
        assert!(Instant::now() < end, "waited for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
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

fn pcap(frames: &[Vec<u8>]) -> Vec<u8> {
    let mut file = Vec::new();
    for word in [0xa1b2_c3d4u32, 0x0004_0002, 0, 0, 65_535, 1] {
        file.extend(word.to_le_bytes());
    }
    for frame in frames {
        for word in [0, 0, frame.len() as u32, frame.len() as u32] {
            file.extend(word.to_le_bytes());
        }
        file.extend(frame);
    }
    file
}

impl Router {
    /// `frames` come in for ever; `cores` and `keys` go into `[workers]`, `rest` to the end.
    pub fn start(frames: &[Vec<u8>], cores: &str, keys: &str, rest: &str) -> Router {
        Router::run(frames, |path| text(path, cores, keys, rest))
    }

    /// With metrics and health.
    pub fn start_with_http(frames: &[Vec<u8>], http: std::net::SocketAddr, rest: &str) -> Router {
        let key = format!("[node]\nhttp = \"{http}\"");
        Router::run(frames, |path| text(path, "0", "", rest).replacen("[node]", &key, 1))
    }

    fn run(frames: &[Vec<u8>], text: impl Fn(&Path) -> String) -> Router {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        std::fs::write(path.join("in.pcap"), pcap(frames)).unwrap();
        std::fs::write(path.join("dataplane.toml"), text(path)).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_fibcast-dataplane"))
            .arg("--config")
            .arg(path.join("dataplane.toml"))
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let router = Router { folder, child };
        wait_until("the router", || router.ask(Request::Ports {}).is_ok());
        router
    }

    /// Rewrites the file.
    pub fn rewrite(&self, cores: &str, keys: &str, rest: &str) {
        let path = self.folder.path();
        std::fs::write(path.join("dataplane.toml"), text(path, cores, keys, rest)).unwrap();
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn ask(&self, request: Request) -> Result<Answer, String> {
        let socket = self.folder.path().join("control.sock");
        ask(&socket, &request, Duration::from_secs(10)).map_err(|error| error.to_string())
    }

    /// What became of all packets, which must add up whenever somebody looks.
    #[track_caller]
    pub fn drops(&self) -> DropList {
        let Ok(Answer::Drops(drops)) = self.ask(Request::Drops {}) else { panic!("no answer") };
        assert_eq!(drops.received, drops.sent + drops.dropped + drops.host + drops.held, "{drops:?}");
        assert_eq!(drops.dropped, drops.drops.iter().map(|drop| drop.packets).sum::<u64>(), "{drops:?}");
        drops
    }

    pub fn workers(&self) -> WorkerList {
        let Ok(Answer::Workers(list)) = self.ask(Request::Workers {}) else { panic!("no answer") };
        list
    }
}

fn text(folder: &Path, cores: &str, keys: &str, rest: &str) -> String {
    format!(
        r#"[node]
name = "nh-test"
control = "{folder}/control.sock"
[eal]
args = ["--no-huge", "-m", "256", "--no-pci", "--no-shconf", "--no-telemetry", "--iova-mode=va", "--file-prefix", "fc-{pid}-{name}"]
[workers]
cores = [{cores}]
idle = "sleep"
{keys}
[[port]]
name = "p0"
device = "net_pcap0,rx_pcap={folder}/in.pcap,infinite_rx=1"
addresses = ["192.0.2.1/24"]
[[port]]
name = "p1"
device = "net_null1,no-rx=1"
addresses = ["198.51.100.1/24"]
[[static_neighbor]]
port = "p1"
ip = "198.51.100.9"
mac = "02:00:00:00:00:09"
{rest}
"#,
        folder = folder.display(),
        pid = std::process::id(),
        name = folder.file_name().unwrap().to_str().unwrap().trim_start_matches('.'),
    )
}

/// A route of the file to the neighbor behind p1.
pub const ROUTE: &str = "[[static_route]]\nprefix = \"10.0.0.0/8\"\nvia = \"198.51.100.9\"\n";
