//! What the kernel tells about the machine: processor, memory, clocks, devices, permissions.

use std::path::{Path, PathBuf};

use super::{Finding, Grade};

/// What compiled code uses beyond x86-64-v2; its name in /proc/cpuinfo.
const FEATURES: [&str; 7] = ["avx2", "bmi1", "bmi2", "abm", "popcnt", "movbe", "fma"];
/// Capabilities by their bit (linux/capability.h), and what needs them.
const CAPABILITIES: [(u32, &str, &str); 4] = [
    (12, "CAP_NET_ADMIN", "twins of ports in the kernel, af_packet and TAP ports"),
    (13, "CAP_NET_RAW", "af_packet ports"),
    (14, "CAP_IPC_LOCK", "memory for devices that stays where it is"),
    (23, "CAP_SYS_NICE", "workers on cores of their own"),
];
/// Drivers that leave a device to a program.
const USER_DRIVERS: [&str; 3] = ["vfio-pci", "uio_pci_generic", "igb_uio"];
/// PCI class of network controllers.
const NETWORK: &str = "0x02";

/// A machine under a root folder.
#[derive(Debug)]
pub struct Machine {
    root: PathBuf,
}

impl Machine {
    pub fn new(root: &Path) -> Machine {
        Machine { root: root.to_owned() }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    fn read(&self, path: &str) -> Option<String> {
        std::fs::read_to_string(self.path(path)).ok()
    }

    /// Everything.
    pub fn look(&self) -> Vec<Finding> {
        let mut findings = vec![self.cpu(), self.hugepages(), self.clock(), self.governor(), self.cores()];
        findings.extend(self.drivers());
        findings.extend([self.iommu(), self.tun(), self.capabilities(), self.locked_memory()]);
        findings
    }

    fn cpu(&self) -> Finding {
        let text = self.read("/proc/cpuinfo").unwrap_or_default();
        let line = |name: &str| {
            text.lines().find(|line| line.starts_with(name)).and_then(|line| line.split_once(':'))
        };
        let Some((_, flags)) = line("flags") else {
            return Finding::of(
                Grade::Warning,
                "cpu",
                "no flags in /proc/cpuinfo",
                "nothing to do on other processors than x86",
            );
        };
        let flags: Vec<&str> = flags.split_whitespace().collect();
        let missing: Vec<&str> = FEATURES.into_iter().filter(|feature| !flags.contains(feature)).collect();
        if missing.is_empty() {
            let model = line("model name").map_or("x86-64-v3", |(_, model)| model.trim());
            return Finding::fine("cpu", format!("{model}: has all that x86-64-v3 asks for"));
        }
        Finding::of(
            Grade::Bad,
            "cpu",
            format!("lacks {}", missing.join(", ")),
            "fibcast is built for x86-64-v3 (Intel Haswell, AMD Zen and later): use another machine, or give the guest the host's CPU model",
        )
    }

    fn hugepages(&self) -> Finding {
        let text = self.read("/proc/meminfo").unwrap_or_default();
        let number = |name: &str| {
            let line = text.lines().find(|line| line.starts_with(name))?;
            line.split_whitespace().nth(1)?.parse::<u64>().ok()
        };
        let (total, free, size) = (
            number("HugePages_Total:").unwrap_or(0),
            number("HugePages_Free:").unwrap_or(0),
            number("Hugepagesize:").unwrap_or(0),
        );
        let mounted = self
            .read("/proc/mounts")
            .is_some_and(|text| text.lines().any(|line| line.contains(" hugetlbfs ")));
        let found =
            format!("{free} of {total} free, {size} KiB each, {}mounted", if mounted { "" } else { "not " });
        if free * size >= 256 << 10 && mounted {
            return Finding::fine("hugepages", found);
        }
        Finding::of(
            Grade::Warning,
            "hugepages",
            found,
            "sysctl vm.nr_hugepages=512 and mount -t hugetlbfs nodev /dev/hugepages, or run with [eal] args --no-huge (no physical ports then)",
        )
    }

    fn clock(&self) -> Finding {
        let path = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
        let Some(source) = self.read(path) else {
            return Finding::of(
                Grade::Warning,
                "clock",
                "the kernel does not say which it uses",
                "look at dmesg for the clock source",
            );
        };
        match source.trim() {
            source @ ("tsc" | "kvm-clock" | "arch_sys_counter" | "hyperv_clocksource_tsc_page") => {
                Finding::fine("clock", format!("{source}: read without a system call"))
            }
            other => Finding::of(
                Grade::Warning,
                "clock",
                format!("{other}: each look at the time is a system call"),
                "boot with clocksource=tsc tsc=reliable where the processor's counter is sound",
            ),
        }
    }

    fn governor(&self) -> Finding {
        match self.read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor") {
            None => Finding::fine("frequency", "set by the hypervisor or the firmware"),
            Some(governor) if governor.trim() == "performance" => Finding::fine("frequency", "performance"),
            Some(governor) => Finding::of(
                Grade::Warning,
                "frequency",
                format!("governor {}", governor.trim()),
                "cpupower frequency-set -g performance: a worker that polls should not wait for its core to speed up",
            ),
        }
    }

    fn cores(&self) -> Finding {
        let isolated = self.read("/sys/devices/system/cpu/isolated").unwrap_or_default();
        let online = self.read("/sys/devices/system/cpu/online").unwrap_or_default();
        let nodes = std::fs::read_dir(self.path("/sys/devices/system/node")).map_or(0, |entries| {
            entries.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with("node")).count()
        });
        let found = format!("online {}, {} NUMA nodes", online.trim(), nodes.max(1));
        if isolated.trim().is_empty() {
            return Finding::of(
                Grade::Warning,
                "cores",
                format!("{found}, none isolated"),
                "boot with isolcpus= and nohz_full= for the cores in [workers], so that the kernel puts nothing else on them",
            );
        }
        Finding::fine("cores", format!("{found}, isolated {}", isolated.trim()))
    }

    /// Each network device: who drives it.
    fn drivers(&self) -> Vec<Finding> {
        let Ok(devices) = std::fs::read_dir(self.path("/sys/bus/pci/devices")) else {
            return vec![Finding::fine("driver", "no PCI bus: ports are virtual")];
        };
        let mut names: Vec<String> =
            devices.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort_unstable();
        let is_network = |name: &String| {
            self.read(&format!("/sys/bus/pci/devices/{name}/class"))
                .is_some_and(|class| class.starts_with(NETWORK))
        };
        let found: Vec<Finding> =
            names.iter().filter(|name| is_network(name)).map(|name| self.driver(name)).collect();
        if found.is_empty() {
            vec![Finding::fine("driver", "no network device on the PCI bus: ports are virtual")]
        } else {
            found
        }
    }

    fn driver(&self, device: &str) -> Finding {
        let link = std::fs::read_link(self.path(&format!("/sys/bus/pci/devices/{device}/driver"))).ok();
        let driver =
            link.as_deref().and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned());
        match driver {
            Some(driver) if USER_DRIVERS.contains(&driver.as_str()) => {
                Finding::fine("driver", format!("{device} is bound to {driver}"))
            }
            // These share the device with the kernel.
            Some(driver) if driver.starts_with("mlx") => {
                Finding::fine("driver", format!("{device} is driven by {driver}, which the kernel shares"))
            }
            Some(driver) => Finding::of(
                Grade::Warning,
                "driver",
                format!("{device} is the kernel's ({driver})"),
                "if it is to be a port: take its addresses away, modprobe vfio-pci, dpdk-devbind.py -b vfio-pci and its address",
            ),
            None => Finding::of(
                Grade::Warning,
                "driver",
                format!("{device} has no driver"),
                "if it is to be a port: modprobe vfio-pci, dpdk-devbind.py -b vfio-pci and its address",
            ),
        }
    }

    fn iommu(&self) -> Finding {
        let groups =
            std::fs::read_dir(self.path("/sys/kernel/iommu_groups")).map_or(0, |entries| entries.count());
        if groups != 0 {
            return Finding::fine("iommu", format!("{groups} groups"));
        }
        Finding::of(
            Grade::Warning,
            "iommu",
            "off",
            "physical ports: boot with intel_iommu=on or amd_iommu=on, or set vfio's enable_unsafe_noiommu_mode; virtual ports need none",
        )
    }

    fn tun(&self) -> Finding {
        if self.path("/dev/net/tun").exists() {
            return Finding::fine("tun", "/dev/net/tun is there");
        }
        Finding::of(
            Grade::Warning,
            "tun",
            "/dev/net/tun is missing",
            "modprobe tun: host_path and TAP ports need it",
        )
    }

    fn capabilities(&self) -> Finding {
        let text = self.read("/proc/self/status").unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("CapEff:"));
        let bits = line.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok()).unwrap_or(0);
        let missing: Vec<String> = CAPABILITIES
            .iter()
            .filter(|(bit, ..)| bits >> bit & 1 == 0)
            .map(|(_, name, why)| format!("{name} ({why})"))
            .collect();
        if missing.is_empty() {
            return Finding::fine("permissions", "all capabilities that ports of any kind need");
        }
        Finding::of(
            Grade::Warning,
            "permissions",
            format!("this user lacks {}", missing.join(", ")),
            "run the daemon by its systemd unit, which gives it these, or look again as root",
        )
    }

    fn locked_memory(&self) -> Finding {
        let text = self.read("/proc/self/limits").unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with("Max locked memory"));
        let soft = line.and_then(|line| line.split_whitespace().nth(3)).unwrap_or("?").to_owned();
        match soft.parse::<u64>() {
            Ok(bytes) if bytes < 1 << 30 => Finding::of(
                Grade::Warning,
                "memlock",
                format!("{bytes} bytes may be locked"),
                "ulimit -l unlimited, or LimitMEMLOCK=infinity in the unit: devices need memory that stays where it is",
            ),
            _ => Finding::fine("memlock", soft),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Root(tempfile::TempDir);

    impl Root {
        fn new() -> Root {
            Root(tempfile::tempdir().unwrap())
        }

        fn file(&self, path: &str, text: &str) -> &Root {
            let path = self.0.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
            self
        }

        fn machine(&self) -> Machine {
            Machine::new(self.0.path())
        }
    }

    #[test]
    fn a_processor_without_a_feature_is_named_with_it() {
        let root = Root::new();
        root.file("proc/cpuinfo", "model name : Old\nflags : popcnt avx2 bmi1 abm movbe fma\n");
        let finding = root.machine().cpu();
        assert_eq!((finding.grade, finding.found.as_str()), (Grade::Bad, "lacks bmi2"));
        root.file("proc/cpuinfo", "model name : New\nflags : popcnt avx2 bmi1 bmi2 abm movbe fma\n");
        assert_eq!(root.machine().cpu().grade, Grade::Fine);
    }

    #[test]
    fn hugepages_are_fine_when_there_are_enough_and_they_are_mounted() {
        let root = Root::new();
        root.file("proc/meminfo", "HugePages_Total: 512\nHugePages_Free: 500\nHugepagesize: 2048 kB\n");
        assert_eq!(root.machine().hugepages().grade, Grade::Warning);
        root.file("proc/mounts", "nodev /dev/hugepages hugetlbfs rw 0 0\n");
        assert_eq!(root.machine().hugepages().grade, Grade::Fine);
        root.file("proc/meminfo", "HugePages_Total: 512\nHugePages_Free: 3\nHugepagesize: 2048 kB\n");
        let finding = root.machine().hugepages();
        assert!(finding.grade == Grade::Warning && finding.advice.contains("vm.nr_hugepages"), "{finding:?}");
    }

    #[test]
    fn a_device_of_the_kernel_comes_with_the_way_to_bind_it() {
        let root = Root::new();
        root.file("sys/bus/pci/devices/0000:03:00.0/class", "0x020000\n");
        root.file("sys/bus/pci/devices/0000:03:00.1/class", "0x020000\n");
        root.file("sys/bus/pci/devices/0000:04:00.0/class", "0x010802\n");
        for (device, driver) in [("0000:03:00.0", "ixgbe"), ("0000:03:00.1", "vfio-pci")] {
            let to = format!("../../../../bus/pci/drivers/{driver}");
            std::os::unix::fs::symlink(
                to,
                root.0.path().join(format!("sys/bus/pci/devices/{device}/driver")),
            )
            .unwrap();
        }
        let found = root.machine().drivers();
        assert_eq!(found.len(), 2, "no disk among them: {found:?}");
        assert!(found[0].found.contains("ixgbe") && found[0].advice.contains("dpdk-devbind.py"));
        assert_eq!(found[1], Finding::fine("driver", "0000:03:00.1 is bound to vfio-pci"));
    }

    #[test]
    fn a_slow_clock_and_missing_rights_are_told() {
        let root = Root::new();
        root.file("sys/devices/system/clocksource/clocksource0/current_clocksource", "hpet\n");
        assert!(root.machine().clock().advice.contains("clocksource=tsc"));
        root.file("proc/self/status", "Name:\tx\nCapEff:\t0000000000001000\n");
        let finding = root.machine().capabilities();
        assert!(
            !finding.found.contains("CAP_NET_ADMIN") && finding.found.contains("CAP_SYS_NICE"),
            "{finding:?}"
        );
        root.file(
            "proc/self/limits",
            "Max locked memory         65536                65536                bytes\n",
        );
        assert_eq!(root.machine().locked_memory().grade, Grade::Warning);
    }

    #[test]
    fn an_empty_machine_is_looked_at_to_the_end() {
        assert!(Root::new().machine().look().len() >= 10);
    }
}
