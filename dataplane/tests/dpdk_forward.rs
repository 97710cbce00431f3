//! The real binary on DPDK: packets from one pcap file go out into another, by a static route to a static neighbor.
#![cfg(feature = "dpdk")]
#![allow(clippy::unwrap_used, clippy::panic)]

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use fibcast_control::{Answer, Request, ask};
use fibcast_dataplane::packet::checksum;

/// net_pcap ports have this address unless configured otherwise, with the port's number in the last byte.
const PACKETS: u32 = 1_000;

struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn binary() -> Command {
    Command::new(env!("CARGO_BIN_EXE_fibcast-dataplane"))
}

fn write(folder: &Path, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, content).unwrap();
    path
}

fn config(folder: &Path, ports: &str) -> PathBuf {
    let text = format!(
        r#"[node]
name = "nh-test"
control = "{folder}/control.sock"
[eal]
args = ["--no-huge", "-m", "128", "--no-pci", "--no-shconf", "--no-telemetry", "--iova-mode=va", "--file-prefix", "fc-{pid}-{name}"]
[workers]
cores = [0]
idle = "sleep"
{ports}"#,
        folder = folder.display(),
        pid = std::process::id(),
        name = folder.file_name().unwrap().to_str().unwrap().trim_start_matches('.'),
    );
    write(folder, "dataplane.toml", text)
}

fn run(config: &Path) -> Output {
    binary().arg("--config").arg(config).output().unwrap()
}

fn request(folder: &Path, request: Request) -> Option<Answer> {
    ask(&folder.join("control.sock"), &request, Duration::from_secs(5)).ok()
}

fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(30);
    while !done() {
        assert!(Instant::now() < end, "waited for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// An Ethernet frame with a UDP packet to 10.0.0.0/8.
fn frame(number: u32) -> Vec<u8> {
    let mut frame = vec![0xff; 12];
    // All net_pcap ports of this test get this address by `phy_mac=0` and their default, see `own_mac`.
    frame[..6].copy_from_slice(&[0x02, 0x70, 0x63, 0x61, 0x70, 0x00]);
    frame[6..12].copy_from_slice(&[2, 0, 0, 0, 0, 7]);
    frame.extend([8, 0]);
    let mut header = vec![0x45, 0, 0, 46, 0, 0, 0, 0, 64, 17, 0, 0, 192, 0, 2, 7];
    header.extend((0x0a00_0000 + number).to_be_bytes());
    let field = checksum::checksum(&header);
    header[10..12].copy_from_slice(&field.to_be_bytes());
    frame.extend(header);
    frame.extend([0; 26]);
    frame
}

fn pcap(frames: impl Iterator<Item = Vec<u8>>) -> Vec<u8> {
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

fn frames(path: &Path) -> Vec<Vec<u8>> {
    let mut bytes = Vec::new();
    std::fs::File::open(path).unwrap().read_to_end(&mut bytes).unwrap();
    let (mut rest, mut frames) = (&bytes[24..], Vec::new());
    while !rest.is_empty() {
        let length = u32::from_le_bytes(rest[8..12].try_into().unwrap()) as usize;
        frames.push(rest[16..16 + length].to_vec());
        rest = &rest[16 + length..];
    }
    frames
}

#[test]
fn packets_go_from_port_to_port_and_everything_is_given_back() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let input = write(folder, "in.pcap", pcap((0..PACKETS).map(frame)));
    let output = folder.join("out.pcap");
    let config = config(
        folder,
        &format!(
            r#"[[port]]
name = "p0"
device = "net_pcap0,rx_pcap={},tx_pcap={}"
addresses = ["192.0.2.1/24"]
[[port]]
name = "p1"
device = "net_pcap1,rx_pcap={},tx_pcap={}"
addresses = ["198.51.100.1/24"]
[[static_neighbor]]
port = "p1"
ip = "198.51.100.9"
mac = "02:00:00:00:00:09"
[[static_route]]
prefix = "10.0.0.0/8"
via = "198.51.100.9"
"#,
            input.display(),
            folder.join("unused.pcap").display(),
            write(folder, "empty.pcap", pcap(std::iter::empty())).display(),
            output.display()
        ),
    );
    let child = binary().arg("--config").arg(&config).stderr(Stdio::inherit()).spawn().unwrap();
    let mut daemon = Daemon(child);
    wait_until("all packets sent", || {
        let Some(Answer::Drops(drops)) = request(folder, Request::Drops {}) else { return false };
        assert_eq!(drops.received, drops.sent + drops.dropped + drops.host + drops.held);
        assert_eq!(drops.drops, []);
        drops.sent == u64::from(PACKETS)
    });
    let Some(Answer::Ports(list)) = request(folder, Request::Ports {}) else { panic!("no answer") };
    assert_eq!((list.ports[0].rx_packets, list.ports[1].tx_packets), (1_000, 1_000));
    assert_eq!((list.ports[0].rx_bytes, list.ports[1].tx_bytes), (60_000, 60_000));
    let own_mac = list.ports[1].mac.clone();

    // SIGTERM: the pcap file is complete only if the port was closed in order.
    let pid = rustix::process::Pid::from_child(&daemon.0);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert!(daemon.0.wait().unwrap().success());
    assert!(!folder.join("control.sock").exists());

    let sent = frames(&output);
    assert_eq!(sent.len(), PACKETS as usize);
    let own_mac: Vec<u8> = own_mac.split(':').map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect();
    for (number, frame) in sent.iter().enumerate() {
        let before = self::frame(number as u32);
        assert_eq!(frame[..6], [2, 0, 0, 0, 0, 9], "to the neighbor");
        assert_eq!(frame[6..12], own_mac, "from the port");
        assert_eq!(frame[14 + 8], 63);
        assert_eq!(checksum::sum(&frame[14..34]), 0xffff);
        assert_eq!(frame[26..], before[26..], "in order, unchanged but for the header");
    }
}

#[test]
fn an_unknown_device_is_one_clear_line_and_exit_code_1() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path(), "[[port]]\nname = \"p0\"\ndevice = \"net_nonsense0\"\n");
    let output = run(&config);
    let text = String::from_utf8_lossy(&output.stderr);
    let last = text.lines().last().unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(
        last.contains("dataplane.toml:11: port[0].device: cannot probe device net_nonsense0: "),
        "{last}"
    );
}

#[test]
fn a_core_that_does_not_exist_is_one_clear_line_and_exit_code_1() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path(), "[[port]]\nname = \"p0\"\ndevice = \"net_null0\"\n");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replace("cores = [0]", "cores = [0, 999]")).unwrap();
    let output = run(&config);
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(
        text.lines()
            .last()
            .unwrap()
            .contains("dataplane.toml:7: workers.cores: there is no core 999: this machine has"),
        "{text}"
    );
}

#[test]
fn a_configuration_is_checked_without_touching_a_device() {
    let folder = tempfile::tempdir().unwrap();
    let good = config(folder.path(), "[[port]]\nname = \"p0\"\ndevice = \"net_nonsense0\"\n");
    let output = binary().arg("--check-config").arg("--config").arg(&good).output().unwrap();
    assert_eq!((output.status.code(), output.stderr.len()), (Some(0), 0));
    let bad = write(folder.path(), "bad.toml", "[node]\nname = \"x\"\nlissen = []\n");
    let output = run(&bad);
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2));
    assert!(text.contains("bad.toml:3: node.lissen: unknown field"), "{text}");
}
