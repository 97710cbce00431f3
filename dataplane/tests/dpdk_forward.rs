//! The real binary on DPDK: packets from one pcap file go out into another, by a static route to a static neighbor.
#![cfg(feature = "dpdk")]
#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use fibcast_control::{Answer, DataplaneRequest};
use fibcast_dataplane::packet::checksum;
use fibcast_testbed::wait::eventually;
use fibcast_testbed::{Node, config as sections, pcap};

/// net_pcap ports have this address unless configured otherwise, with the port's number in the last byte.
const PACKETS: u32 = 1_000;

const PROGRAM: &str = env!("CARGO_BIN_EXE_fibcast-dataplane");

fn binary() -> Command {
    Command::new(PROGRAM)
}

fn write(folder: &Path, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, content).unwrap();
    path
}

fn config(folder: &Path, ports: &str) -> PathBuf {
    let prefix = format!("fc-{}-{}", std::process::id(), folder.file_name().unwrap().display());
    let text = sections::node("nh-test", folder, "") + &sections::workers(&prefix, 128, "0", "") + ports;
    write(folder, "nh-test.toml", text)
}

fn run(config: &Path) -> Output {
    binary().arg("--config").arg(config).output().unwrap()
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

#[test]
fn packets_go_from_port_to_port_and_everything_is_given_back() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let input = write(folder, "in.pcap", pcap::write((0..PACKETS).map(frame)));
    let output = folder.join("out.pcap");
    config(
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
            write(folder, "empty.pcap", pcap::write::<&[u8]>([])).display(),
            output.display()
        ),
    );
    let mut daemon = Node::ready(PROGRAM.as_ref(), "nh-test", folder, None).unwrap();
    eventually("all packets sent", 30, || {
        let Ok(Answer::Drops(drops)) = daemon.ask(DataplaneRequest::Drops) else { return false };
        assert_eq!(drops.received, drops.sent + drops.dropped + drops.host + drops.held);
        assert_eq!(drops.drops, []);
        drops.sent == u64::from(PACKETS)
    });
    let Ok(Answer::Ports(list)) = daemon.ask(DataplaneRequest::Ports) else { panic!("no answer") };
    assert_eq!((list.ports[0].rx_packets, list.ports[0].rx_bytes), (1_000, 60_000));
    // And what the router announces of itself, and the groups that it reports.
    let own = list.ports[1].tx_packets - u64::from(PACKETS);
    assert!(own < 20, "{own}");
    let own_mac = list.ports[1].mac.clone();

    // SIGTERM: the pcap file is complete only if the port was closed in order.
    assert!(daemon.process.stop().unwrap().success());
    assert!(!daemon.socket().exists());

    let mut sent = pcap::read(&std::fs::read(&output).unwrap());
    sent.retain(|frame| frame[0] & 1 == 0);
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
    let expected = "nh-test.toml:11: port[0].device: port p0: DPDK has no driver for net_nonsense0: ";
    assert!(last.contains(expected), "{last}");
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
            .contains("nh-test.toml:7: workers.cores: there is no core 999: this machine has"),
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
