//! What an operator does about a failure of EAL or of a device's driver, found by what DPDK logged during it.
//!
//! What can be checked before DPDK starts is in [`crate::preflight`]. Here is what only DPDK notices: an argument that it does not know, a lock that
//! another process holds, a permission that is missing in the middle of its start. Texts are those of DPDK 22.11 to 25.11; one that is not known
//! here stays as it is.

use dpdk::Error;
use fibcast_machine::{Machine, pci};

use crate::preflight;

/// Where a failure happened.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scene<'s> {
    /// The machine.
    pub machine: &'s Machine,
    /// MiB of packet buffers and queues that the configuration needs.
    pub memory_mib: u64,
    /// The device with its arguments, where it is about one; otherwise EAL itself failed.
    pub device: Option<&'s str>,
}

/// A failure in the operator's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Explained {
    /// What is wrong and what helps, in one line.
    pub reason: String,
    /// The configuration is wrong, and a retry cannot help.
    pub wrong_argument: bool,
}

/// Translates a failure; the line of DPDK by which it was recognised comes last, for those who search for it.
pub(super) fn explain(error: &Error, scene: Scene<'_>) -> Explained {
    let Error::Call { log, .. } = error else {
        return Explained { reason: error.to_string(), wrong_argument: false };
    };
    match RULES.iter().find_map(|rule| Some((rule, log.iter().find(|line| rule.matches(line))?))) {
        Some((rule, line)) => Explained {
            reason: format!("{} (DPDK: {line})", (rule.advice)(line, scene)),
            wrong_argument: rule.wrong_argument,
        },
        None => Explained { reason: error.to_string(), wrong_argument: false },
    }
}

/// A known failure.
struct Rule {
    /// Any of these is in a line of DPDK's log.
    texts: &'static [&'static str],
    /// All of these as well.
    and: &'static [&'static str],
    wrong_argument: bool,
    advice: fn(&str, Scene<'_>) -> String,
}

impl Rule {
    const fn new(texts: &'static [&'static str], advice: fn(&str, Scene<'_>) -> String) -> Self {
        Rule { texts, and: &[], wrong_argument: false, advice }
    }

    const fn and(self, and: &'static [&'static str]) -> Self {
        Rule { and, ..self }
    }

    const fn wrong(self) -> Self {
        Rule { wrong_argument: true, ..self }
    }

    fn matches(&self, line: &str) -> bool {
        self.texts.iter().any(|text| line.contains(text)) && self.and.iter().all(|text| line.contains(text))
    }
}

/// Lines that tell of a missing permission.
const DENIED: [&str; 2] = ["Permission denied", "Operation not permitted"];

/// The first one with a matching line counts, so the more specific ones come first.
const RULES: &[Rule] = &[
    Rule::new(
        &["unrecognized option", "invalid option", "requires an argument", "unknown argument", "unknown option"],
        |_, _| "EAL does not know an argument of this list, or its value is missing; dpdk-testpmd --help lists them".into(),
    )
    .wrong(),
    Rule::new(&["core list syntax", "coremask syntax", "core mask syntax", "lcores syntax"], |_, _| {
        "a list of cores cannot be read: expected such as -l 0 or -l 0-1; without one EAL gets the first of [workers] cores".into()
    })
    .wrong(),
    Rule::new(&["lcore"], |_, scene| no_core(scene)).and(&["unavailable"]),
    Rule::new(&["invalid core list", "invalid coremask", "invalid core mask"], |_, scene| no_core(scene)),
    Rule::new(&["not compatible with --in-memory"], |_, _| {
        "this release of DPDK does not take --no-huge together with --in-memory: use --no-shconf instead of --in-memory".into()
    })
    .wrong(),
    Rule::new(&["Is another primary process running"], |_, _| {
        "another DPDK process of this machine has the same --file-prefix (\"rte\" without one): stop it, or give this one its own, \
         --file-prefix=NAME, or --in-memory, which shares nothing"
            .into()
    }),
    Rule::new(&DENIED, |_, _| {
        format!("this user may not open the device's VFIO group: run as root, or let it, as a udev rule does (chown or chmod of /dev/vfio/N); {}", who())
    })
    .and(&["/dev/vfio"]),
    Rule::new(&DENIED, |_, _| {
        format!(
            "this user may not create files in the hugetlbfs mount: run as root, mount it with uid= or gid= and mode=, or use --in-memory, which needs no files; {}",
            who()
        )
    })
    .and(&["huge"]),
    Rule::new(&DENIED, |_, _| {
        format!(
            "this user may not create EAL's folder: let it write to it (RuntimeDirectory= of the unit, XDG_RUNTIME_DIR), or use --no-shconf or --in-memory; {}",
            who()
        )
    })
    .and(&["run/dpdk"]),
    Rule::new(&["TUNSETIFF", "/dev/net/tun", "Unable to create TAP interface"], |_, _| {
        format!("the driver cannot create its TAP interface: it needs CAP_NET_ADMIN and /dev/net/tun; {}", who())
    }),
    Rule::new(&["Could not open AF_PACKET socket"], |_, _| {
        format!("the driver cannot open a packet socket: it needs CAP_NET_RAW; {}", who())
    }),
    Rule::new(&["group is not viable", "not viable!"], |_, _| {
        "devices of its IOMMU group belong to the kernel: bind all of them to vfio-pci (dpdk-devbind.py -s; /sys/kernel/iommu_groups lists groups)".into()
    }),
    Rule::new(&["Device or resource busy", "is already in use"], |_, scene| {
        format!("another process uses {}: find it with fuser -v /dev/vfio/* /dev/uio*", device(scene))
    }),
    Rule::new(&["not managed by VFIO", "not managed by UIO"], |_, scene| match address(scene) {
        Some(address) => format!("{address} is not bound to a driver for DPDK: {}", scene.machine.how_to_bind(&address)),
        None => "the device is not bound to a driver for DPDK: dpdk-devbind.py -b vfio-pci ADDRESS".into(),
    }),
    Rule::new(
        &["failed to select IOMMU type", "no supported IOMMU", "No supported IOMMU", "VFIO support could not be initialized", "iommu_group"],
        |_, _| format!("VFIO has no IOMMU to work with: {}", pci::HOW_TO_IOMMU),
    ),
    Rule::new(&["Cannot use IOVA as 'PA'", "physical addresses are not available"], |_, _| {
        "--iova-mode=pa needs root (CAP_SYS_ADMIN), for the addresses of its memory: run as root, or with an IOMMU and --iova-mode=va".into()
    }),
    Rule::new(
        &[
            "Cannot get hugepage information",
            "Cannot init memory",
            "couldn't find suitable memseg",
            "Not enough memory available",
            "Failed to reserve hugepages",
            "No mounted hugetlbfs",
        ],
        |_, scene| {
            let mib = scene.memory_mib;
            format!("there is too little memory for DPDK: {}", preflight::how_to_get(scene.machine, mib))
        },
    ),
    Rule::new(&["SIOCGIFINDEX", "No such device exists"], |_, scene| {
        let interface = scene.device.and_then(|device| device.split(',').find_map(|word| word.strip_prefix("iface=")));
        format!("there is no interface {}: ip link lists them", interface.unwrap_or("of this name"))
    }),
    Rule::new(&["failed to parse device", "Cannot find driver", "no driver found", "cannot be used"], |_, scene| {
        format!("DPDK has no driver for {}: check the name, and that the driver's package is installed (apt-cache search librte-net)", device(scene))
    }),
];

fn no_core(scene: Scene<'_>) -> String {
    let text = scene.machine.read("/sys/devices/system/cpu/online").unwrap_or_default();
    let here = match text.trim() {
        "" => String::new(),
        cores => format!(" (it has {cores})"),
    };
    format!(
        "-l, -c or --lcores names a core that this machine does not have{here}: leave it out, and EAL gets the first of [workers] cores"
    )
}

/// The name of the device that it is about.
fn device(scene: Scene<'_>) -> &str {
    scene.device.map_or("the device", |device| device.split(',').next().unwrap_or(device))
}

/// The PCI address, if the device has one.
fn address(scene: Scene<'_>) -> Option<String> {
    pci::address(device(scene))
}

/// Who runs this process, for failures of permissions.
fn who() -> String {
    use std::os::unix::fs::MetadataExt;
    let uid = std::fs::metadata("/proc/self").map_or_else(|_| "?".to_owned(), |of| of.uid().to_string());
    format!("it runs with uid {uid} (packaging/systemd/README.md says how to run without root)")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn explained(log: &[&str], device: Option<&str>) -> Explained {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in [
            ("sys/devices/system/cpu/online", "0-3\n"),
            ("sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages", "0\n"),
            ("sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", "0\n"),
        ] {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let error = Error::Call {
            operation: "initialise",
            subject: "EAL".into(),
            errno: 22,
            reason: "Invalid argument".into(),
            log: log.iter().map(|line| (*line).to_owned()).collect(),
        };
        let machine = Machine::new(root.path());
        explain(&error, Scene { machine: &machine, memory_mib: 52, device })
    }

    #[test]
    fn known_failures_say_what_helps_and_end_with_dpdks_own_line() {
        for (line, device, expected) in [
            ("fibcast: unrecognized option '--nosuch'", None, "EAL does not know an argument of this list"),
            ("lcore 77 unavailable", None, "names a core that this machine does not have (it has 0-3)"),
            (
                "Cannot create lock on '/var/run/dpdk/rte/config'. Is another primary process running?",
                None,
                "--file-prefix=NAME",
            ),
            (
                "Cannot open /dev/vfio/7: Permission denied",
                Some("0000:03:00.0"),
                "may not open the device's VFIO group",
            ),
            (
                "get_seg_fd(): open '/dev/hugepages/rtemap_0' failed: Permission denied",
                None,
                "--in-memory, which needs no files",
            ),
            ("Error creating '/run/dpdk/rte': Permission denied", None, "may not create EAL's folder"),
            (
                "0000:03:00.0 VFIO group is not viable! Not all devices in IOMMU group bound to VFIO or unbound",
                None,
                "bind all of them to vfio-pci",
            ),
            (
                "error getting device: Device or resource busy",
                Some("0000:03:00.0,x=1"),
                "another process uses 0000:03:00.0: find it with fuser -v",
            ),
            (
                "0000:03:00.0 not managed by VFIO driver, skipping",
                Some("03:00.0"),
                "0000:03:00.0 is not bound to a driver for DPDK: ",
            ),
            ("0000:03:00.0 failed to select IOMMU type", Some("0000:03:00.0"), "intel_iommu=on"),
            (
                "FATAL: Cannot use IOVA as 'PA' since physical addresses are not available",
                None,
                "--iova-mode=pa needs root",
            ),
            (
                "FATAL: Cannot get hugepage information.",
                None,
                "52 MiB of hugepages are needed, 0 MiB are free: sysctl -w vm.nr_hugepages=26",
            ),
            (
                "tun_alloc(): Unable to set TUNSETIFF for x: Operation not permitted",
                Some("net_tap0"),
                "CAP_NET_ADMIN",
            ),
            (
                "net_af_packet0: ioctl failed (SIOCGIFINDEX):No such device",
                Some("net_af_packet0,iface=eth7"),
                "there is no interface eth7",
            ),
            (
                "failed to parse device \"net_nosuch0\"",
                Some("net_nosuch0"),
                "DPDK has no driver for net_nosuch0",
            ),
        ] {
            let found =
                explained(&["something before", line, "Failed to attach device on primary process"], device);
            assert!(found.reason.contains(expected), "{line}: {}", found.reason);
            assert!(found.reason.ends_with(&format!(" (DPDK: {line})")), "{}", found.reason);
            assert_eq!(found.wrong_argument, line.contains("option"), "{line}");
        }
    }

    #[test]
    fn an_unknown_failure_stays_as_dpdk_tells_it() {
        let found = explained(&["the moon is full"], None);
        assert_eq!(
            found.reason,
            "cannot initialise EAL: Invalid argument (errno 22); EAL log: the moon is full"
        );
        assert!(!found.wrong_argument);
    }
}
