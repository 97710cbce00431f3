//! `fibcast nic` on a machine that is a folder.

#![allow(clippy::unwrap_used)]

use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

fn file(root: &Path, path: &str, text: &str) {
    let path = root.join(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

/// One device of ixgbe with an interface, and one of vfio-pci.
fn machine() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    for (address, driver) in [("0000:03:00.0", "ixgbe"), ("0000:03:00.1", "vfio-pci")] {
        let device = format!("sys/bus/pci/devices/{address}");
        file(root, &format!("{device}/class"), "0x020000\n");
        file(root, &format!("{device}/vendor"), "0x8086\n");
        file(root, &format!("{device}/numa_node"), "-1\n");
        file(root, &format!("{device}/driver_override"), "(null)\n");
        file(root, &format!("sys/bus/pci/drivers/{driver}/unbind"), "");
        symlink(format!("../../drivers/{driver}"), root.join(&device).join("driver")).unwrap();
    }
    file(root, "sys/bus/pci/drivers_probe", "");
    file(root, "sys/bus/pci/devices/0000:03:00.0/net/eth7/x", "");
    file(root, "sys/class/net/eth7/address", "02:00:00:00:00:07\n");
    file(root, "sys/class/net/eth7/flags", "0x1003\n");
    folder
}

fn fibcast(root: &Path, arguments: &str) -> (Option<i32>, String, String) {
    let mut program = Command::new(env!("CARGO_BIN_EXE_fibcast"));
    program.args(["nic", "--root"]).arg(root).args(arguments.split(' '));
    let output = program.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn devices_are_listed_for_people_and_programs() {
    let folder = machine();
    file(folder.path(), "etc/fibcast/nic.d/0000:03:00.1", "vfio-pci\n");
    let (code, text, _) = fibcast(folder.path(), "list");
    let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(code, Some(0));
    assert_eq!(rows[1], ["0000:03:00.0", "ixgbe", "-", "eth7", "02:00:00:00:00:07", "-"]);
    assert_eq!(rows[2], ["0000:03:00.1", "vfio-pci", "-", "-", "-", "vfio-pci"]);
    let (_, text, _) = fibcast(folder.path(), "list --json");
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(value["devices"][0]["interfaces"][0], "eth7");
    assert_eq!(value["devices"][1]["at_boot"], "vfio-pci");
}

#[test]
fn what_cannot_be_bound_is_told_in_a_line_for_each_device_and_not_remembered() {
    let folder = machine();
    let (code, text, error) = fibcast(folder.path(), "bind 0000:03:00.0 03.0 0000:09:00.0 --driver vfio-pci");
    assert_eq!((code, text.as_str()), (Some(1), ""));
    let lines: Vec<&str> = error.lines().collect();
    assert!(lines[0].starts_with("fibcast: 0000:03:00.0: vfio-pci needs an IOMMU"), "{error}");
    assert!(
        lines[1].starts_with("fibcast: expected a PCI address such as 0000:03:00.0, found \"03.0\""),
        "{error}"
    );
    assert!(lines[2].starts_with("fibcast: there is no PCI device 0000:09:00.0"), "{error}");
    assert_eq!(lines.len(), 3, "{error}");
    assert!(!folder.path().join("etc/fibcast/nic.d").exists());
}

#[test]
fn a_driver_that_has_the_device_already_is_remembered() {
    let folder = machine();
    let kept = || std::fs::read_to_string(folder.path().join("etc/fibcast/nic.d/0000:03:00.1")).ok();
    let (code, text, error) = fibcast(folder.path(), "bind 03:00.1 --no-save");
    assert!(
        code == Some(0) && text.starts_with("0000:03:00.1: vfio-pci until the next boot"),
        "{text}{error}"
    );
    assert_eq!(kept(), None);
    let (code, ..) = fibcast(folder.path(), "bind 03:00.1");
    assert_eq!((code, kept().as_deref()), (Some(0), Some("vfio-pci\n")));
    let (code, text, error) = fibcast(folder.path(), "apply");
    assert_eq!((code, text.as_str(), error.as_str()), (Some(0), "", ""));
}
