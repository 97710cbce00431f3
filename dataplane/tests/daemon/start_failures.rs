//! A machine or a configuration with which DPDK does not start: one line says what helps, and the exit code whether a retry does.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const PROGRAM: &str = env!("CARGO_BIN_EXE_fibcast-dataplane");
/// No hugepages, no files: nothing of the machine is needed.
const PLAIN: &str = "\"--no-huge\", \"--no-shconf\", \"--no-telemetry\", \"-m\", \"64\"";

fn write(folder: &Path, args: &str, device: &str) -> PathBuf {
    let path = folder.join("nh.toml");
    let text = format!(
        "[node]\nname = \"nh\"\n[workers]\ncores = [0]\n[eal]\nargs = [{args}]\n[[port]]\nname = \"p0\"\ndevice = \"{device}\"\n"
    );
    std::fs::write(&path, text).unwrap();
    path
}

/// How a start ends: exit code, the one line that says why without the folder of the file, and the log before it.
fn end_of(mut command: Command, file: &Path) -> (i32, String, String) {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let (stdout, stderr) = (String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap());
    assert!(!format!("{stdout}{stderr}").contains("EAL common options"), "usage: {stdout}{stderr}");
    let ours = |line: &&str| line.starts_with("fibcast-dataplane: ");
    assert_eq!(stderr.lines().filter(ours).count(), 1, "one line: {stderr}");
    let line =
        stderr.lines().find(ours).unwrap().replace(&format!("{}/", file.parent().unwrap().display()), "");
    // Whatever EAL says has a time and a level of ours.
    for line in stderr.lines().filter(|line| !ours(line)) {
        assert!(["INFO", "WARN", "ERROR", "DEBUG"].iter().any(|level| line.contains(level)), "{line}");
    }
    (status.code().unwrap(), line, stderr)
}

fn start(args: &str, device: &str) -> (i32, String, String) {
    let folder = tempfile::tempdir().unwrap();
    let file = write(folder.path(), args, device);
    let mut command = Command::new("timeout");
    command.args(["60", PROGRAM, "--config"]).arg(&file);
    end_of(command, &file)
}

#[track_caller]
fn assert_end(found: (i32, String, String), code: i32, begin: &str, parts: &[&str]) {
    let (found_code, line, log) = found;
    assert!(line.starts_with(&format!("fibcast-dataplane: nh.toml:{begin}")), "{line}\n{log}");
    parts.iter().for_each(|part| assert!(line.contains(part), "{part}: {line}\n{log}"));
    assert_eq!(found_code, code, "{line}\n{log}");
}

#[test]
fn an_argument_that_eal_does_not_know_is_wrong_configuration() {
    let wrong = start(&format!("{PLAIN}, \"--nosuchargument\""), "net_null0");
    // EAL of 25.11 ends the process by itself.
    if wrong.1.contains("--nosuchargument") {
        assert_end(
            wrong,
            2,
            "6: eal.args: EAL does not know an argument of this list",
            &["--nosuchargument"],
        );
    }
    let list = start(&format!("{PLAIN}, \"-l\", \"one\""), "net_null0");
    assert_end(list, 2, "6: eal.args: a list of cores cannot be read: expected such as -l 0", &["(DPDK: "]);
    let help = start(&format!("{PLAIN}, \"--help\""), "net_null0");
    assert_end(help, 2, "6: eal.args: --help ends the process: leave it out", &[]);
}

#[test]
fn a_core_of_eal_that_is_not_there_comes_with_those_that_are() {
    let online = std::fs::read_to_string("/sys/devices/system/cpu/online").unwrap();
    let here = format!("(it has {})", online.trim());
    let end = start(&format!("{PLAIN}, \"-l\", \"127\""), "net_null0");
    assert_end(
        end,
        1,
        "6: eal.args: -l, -c or --lcores names a core that this machine does not have",
        &[&here],
    );
}

#[test]
fn hugepages_that_are_missing_are_counted_and_come_with_the_command() {
    let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap();
    if !meminfo.lines().any(|line| line.split_whitespace().eq(["HugePages_Total:", "0"])) {
        eprintln!("skipped: this machine has hugepages");
        return;
    }
    let end = start("\"--in-memory\"", "net_null0");
    let parts = ["MiB of hugepages are needed, 0 MiB are free: ", "nr_hugepages", "--no-huge"];
    assert_end(end, 1, "6: eal.args: ", &parts);
}

#[test]
fn devices_that_are_not_there_are_named_with_their_port() {
    for (device, parts) in [
        ("0000:fe:1f.7", &["there is no PCI device 0000:fe:1f.7; network devices here: "][..]),
        ("net_nosuch0", &["DPDK has no driver for net_nosuch0: check the name", "(DPDK: "]),
        ("net_af_packet0,iface=nosuch", &["there is no interface nosuch: ip link lists them"]),
    ] {
        assert_end(start(PLAIN, device), 1, "9: port[0].device: port p0: ", parts);
    }
}

#[test]
fn a_device_of_the_kernel_comes_with_the_command_that_binds_it() {
    let devices = std::fs::read_dir("/sys/bus/pci/devices").into_iter().flatten().flatten();
    let of_kernel = |path: &PathBuf| {
        let class = std::fs::read_to_string(path.join("class")).unwrap_or_default();
        let driver = std::fs::read_link(path.join("driver")).unwrap_or_default();
        class.starts_with("0x02") && !driver.as_os_str().is_empty() && !driver.ends_with("vfio-pci")
    };
    let Some(device) = devices.map(|entry| entry.path()).find(of_kernel) else {
        eprintln!("skipped: no network device of this machine is bound to a driver of the kernel");
        return;
    };
    let address = device.file_name().unwrap().to_str().unwrap().to_owned();
    let end = start(PLAIN, &address);
    let expected = format!("9: port[0].device: port p0: {address} is bound to the kernel driver ");
    assert_end(end, 1, &expected, &["to use it with DPDK: "]);
}

#[test]
fn a_permission_that_is_missing_is_named() {
    if std::fs::metadata("/proc/self").map(|of| std::os::unix::fs::MetadataExt::uid(&of)).ok() != Some(0) {
        eprintln!("skipped: not root");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    // Where nobody may read the program.
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let program = folder.path().join("fibcast-dataplane");
    std::fs::copy(PROGRAM, &program).unwrap();
    for (device, parts) in [
        ("net_af_packet0,iface=lo", ["needs CAP_NET_RAW", "it runs with uid 65534"]),
        ("net_tap0,iface=fct-denied", ["needs CAP_NET_ADMIN", "it runs with uid 65534"]),
    ] {
        let file = write(folder.path(), PLAIN, device);
        let mut command = Command::new("timeout");
        command.args(["60", "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]);
        command.arg(&program).arg("--config").arg(&file);
        assert_end(end_of(command, &file), 1, "9: port[0].device: port p0: ", &parts);
    }
}
