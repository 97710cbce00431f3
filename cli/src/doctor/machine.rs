//! Checks of the machine: CPU, memory, clocks, devices, permissions.

use fibcast_machine::hugepages::{EXAMPLE_MIB, free_kib, how_to_reserve};
use fibcast_machine::pci::{Device, Driver, HOW_TO_IOMMU};

use super::finding::{Finding, Grade};

/// CPU features beyond x86-64-v2 that compiled code uses, as named in /proc/cpuinfo.
const FEATURES: [&str; 7] = ["avx2", "bmi1", "bmi2", "abm", "popcnt", "movbe", "fma"];
/// Capabilities by bit (linux/capability.h), with their users.
const CAPABILITIES: [(u32, &str, &str); 4] = [
    (12, "CAP_NET_ADMIN", "exception_path, af_packet ports and TAP ports"),
    (13, "CAP_NET_RAW", "af_packet ports"),
    (14, "CAP_IPC_LOCK", "pinned memory for devices"),
    (23, "CAP_SYS_NICE", "workers pinned to cores"),
];
/// `CAP_IPC_LOCK`: its holder is not subject to limits of locked memory.
const IPC_LOCK: u32 = 14;

/// A machine, and the daemon on it.
#[derive(Debug)]
pub struct Machine {
    machine: fibcast_machine::Machine,
    /// Process of the dataplane, if one answers: its limits and capabilities count, not those of the shell.
    dataplane: Option<u32>,
}

impl Machine {
    pub fn new(machine: fibcast_machine::Machine, dataplane: Option<u32>) -> Machine {
        Machine { machine, dataplane }
    }

    fn read(&self, path: &str) -> Option<String> {
        self.machine.read(path)
    }

    /// All checks.
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
            return Finding::fine("cpu", format!("{model}: has all features of x86-64-v3"));
        }
        Finding::of(
            Grade::Bad,
            "cpu",
            format!("lacks {}", missing.join(", ")),
            "fibcast is built for x86-64-v3 (Intel Haswell, AMD Zen and later): use another machine, or give the guest the host's CPU model",
        )
    }

    fn hugepages(&self) -> Finding {
        let pages = self.machine.hugepages();
        let list: Vec<String> =
            pages.iter().map(|p| format!("{} of {} free, {} KiB each", p.free, p.total, p.kib)).collect();
        let found = if list.is_empty() { "the kernel has none".to_owned() } else { list.join("; ") };
        match self.dataplane.map(|pid| self.machine.hugepages_of(pid).unwrap_or(0)) {
            Some(0) => Finding::of(
                Grade::Warning,
                "hugepages",
                format!("the daemon uses none; {found}"),
                "physical ports and full speed need them: remove --no-huge from [eal] args; fibcast-dataplane --check-config prints how many",
            ),
            Some(held) => Finding::fine("hugepages", format!("the daemon has {} MiB; {found}", held >> 10)),
            None if free_kib(&pages) >= EXAMPLE_MIB << 10 => Finding::fine("hugepages", found),
            None => Finding::of(
                Grade::Warning,
                "hugepages",
                found,
                &format!(
                    "two ports and a worker want {EXAMPLE_MIB} MiB: {}; fibcast-dataplane --check-config says what your ports want; virtual \
                     ports also run without (--no-huge in [eal] args)",
                    how_to_reserve(&pages, EXAMPLE_MIB << 10)
                ),
            ),
        }
    }

    fn clock(&self) -> Finding {
        let path = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
        let Some(source) = self.read(path) else {
            return Finding::of(
                Grade::Warning,
                "clock",
                "the kernel does not report its clock source",
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
                format!("{other}: reading the time is a system call"),
                "boot with clocksource=tsc tsc=reliable if the CPU's counter is reliable",
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
        let nodes = self
            .machine
            .names("/sys/devices/system/node")
            .iter()
            .filter(|name| name.starts_with("node"))
            .count();
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

    /// The driver of each network device.
    fn drivers(&self) -> Vec<Finding> {
        let devices = self.machine.network_devices();
        if devices.is_empty() {
            return vec![Finding::fine("driver", "no network device on the PCI bus: ports are virtual")];
        }
        devices.iter().map(|device| self.driver(device)).collect()
    }

    fn driver(&self, device: &Device) -> Finding {
        let address = &device.address;
        let bind = || format!("to use it as a port: {}", self.machine.how_to_bind(address));
        match &device.driver {
            Driver::ForPrograms(driver) => Finding::fine("driver", format!("{address} is bound to {driver}")),
            Driver::Shared(driver) => {
                Finding::fine("driver", format!("{address} uses {driver}, which shares it with DPDK"))
            }
            Driver::Kernel(driver) => {
                let interface = device.interfaces.first().map(|name| format!(", interface {name}"));
                let found =
                    format!("{address} uses the kernel driver {driver}{}", interface.unwrap_or_default());
                Finding::of(Grade::Warning, "driver", found, &bind())
            }
            Driver::None => {
                Finding::of(Grade::Warning, "driver", format!("{address} has no driver"), &bind())
            }
        }
    }

    fn iommu(&self) -> Finding {
        let groups = self.machine.names("/sys/kernel/iommu_groups").len();
        if groups != 0 {
            return Finding::fine("iommu", format!("{groups} groups"));
        }
        let advice = format!(
            "physical ports: {HOW_TO_IOMMU}; or bind them to uio_pci_generic and add --iova-mode=pa to [eal] args; virtual ports need none"
        );
        Finding::of(Grade::Warning, "iommu", "off", &advice)
    }

    fn tun(&self) -> Finding {
        if self.machine.path("/dev/net/tun").exists() {
            return Finding::fine("tun", "/dev/net/tun exists");
        }
        Finding::of(
            Grade::Warning,
            "tun",
            "/dev/net/tun is missing",
            "modprobe tun: exception_path and TAP ports need it",
        )
    }

    /// The process whose capabilities and limits count, and its name in messages.
    fn process(&self) -> (String, &'static str) {
        match self.dataplane {
            Some(pid) => (pid.to_string(), "the daemon"),
            None => ("self".to_owned(), "this user"),
        }
    }

    fn rights(&self, process: &str) -> u64 {
        let text = self.read(&format!("/proc/{process}/status")).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("CapEff:"));
        line.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok()).unwrap_or(0)
    }

    fn capabilities(&self) -> Finding {
        let (process, who) = self.process();
        let bits = self.rights(&process);
        let missing: Vec<String> = CAPABILITIES
            .iter()
            .filter(|(bit, ..)| bits >> bit & 1 == 0)
            .map(|(_, name, why)| format!("{name} ({why})"))
            .collect();
        if missing.is_empty() {
            return Finding::fine(
                "permissions",
                format!("{who} has the capabilities for all kinds of ports"),
            );
        }
        Finding::of(
            Grade::Warning,
            "permissions",
            format!("{who} lacks {}", missing.join(", ")),
            "run the daemon by its unit, fibcast-dataplane.service, which grants these, or as root",
        )
    }

    /// Memory that devices access is pinned and counts as locked (RLIMIT_MEMLOCK).
    fn locked_memory(&self) -> Finding {
        let Some(pid) = self.dataplane else {
            return Finding::fine("memlock", "no dataplane is running; its unit sets LimitMEMLOCK=infinity");
        };
        if self.rights(&pid.to_string()) >> IPC_LOCK & 1 == 1 {
            return Finding::fine("memlock", "the daemon has CAP_IPC_LOCK: no limit applies");
        }
        let text = self.read(&format!("/proc/{pid}/limits")).unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with("Max locked memory"));
        let soft = line.and_then(|line| line.split_whitespace().nth(3)).unwrap_or("?").to_owned();
        match soft.parse::<u64>() {
            Ok(bytes) if bytes < EXAMPLE_MIB << 20 => Finding::of(
                Grade::Warning,
                "memlock",
                format!("the daemon may lock {bytes} bytes"),
                "LimitMEMLOCK=infinity in its unit, or ulimit -l unlimited before its start: devices need pinned memory",
            ),
            _ => Finding::fine(
                "memlock",
                format!("the daemon may lock {soft} bytes").replace("unlimited bytes", "any amount"),
            ),
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
            Machine::new(fibcast_machine::Machine::new(self.0.path()), None)
        }

        fn with_daemon(&self, pid: u32) -> Machine {
            Machine { dataplane: Some(pid), ..self.machine() }
        }

        fn pages(&self, total: u32, free: u32) {
            let folder = "sys/kernel/mm/hugepages/hugepages-2048kB";
            self.file(&format!("{folder}/nr_hugepages"), &total.to_string());
            self.file(&format!("{folder}/free_hugepages"), &free.to_string());
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
    fn hugepages_are_fine_when_enough_are_free_or_the_daemon_has_them() {
        let root = Root::new();
        root.pages(512, 500);
        assert_eq!(root.machine().hugepages().grade, Grade::Fine);
        root.pages(512, 3);
        let finding = root.machine().hugepages();
        assert_eq!(finding.grade, Grade::Warning);
        assert!(
            finding.advice.contains(&format!("vm.nr_hugepages={}", 509 + EXAMPLE_MIB / 2)),
            "{finding:?}"
        );
        root.file("proc/7/status", "Name:\tx\nHugetlbPages:\t   65536 kB\n");
        let finding = root.with_daemon(7).hugepages();
        assert!(
            finding.grade == Grade::Fine && finding.found.contains("the daemon has 64 MiB"),
            "{finding:?}"
        );
        root.file("proc/7/status", "Name:\tx\nHugetlbPages:\t   0 kB\n");
        assert!(root.with_daemon(7).hugepages().advice.contains("--no-huge"));
    }

    #[test]
    fn the_limits_and_rights_of_the_daemon_count_and_not_those_of_the_shell() {
        let root = Root::new();
        let limits = |bytes: &str| {
            format!("Max locked memory         {bytes}                {bytes}                bytes\n")
        };
        root.file("proc/self/limits", &limits("65536"));
        assert_eq!(root.machine().locked_memory().grade, Grade::Fine, "of no importance");
        root.file("proc/7/status", "Name:\tx\nCapEff:\t0000000000001000\n");
        root.file("proc/7/limits", &limits("65536"));
        assert!(root.with_daemon(7).locked_memory().advice.contains("LimitMEMLOCK=infinity"));
        root.file("proc/7/limits", &limits("unlimited"));
        assert_eq!(
            root.with_daemon(7).locked_memory(),
            Finding::fine("memlock", "the daemon may lock any amount")
        );
        root.file("proc/7/limits", &limits("65536"));
        root.file("proc/7/status", "Name:\tx\nCapEff:\t0000000000807000\n");
        assert_eq!(root.with_daemon(7).locked_memory().grade, Grade::Fine, "CAP_IPC_LOCK");
        let finding = root.with_daemon(7).capabilities();
        assert_eq!(finding.grade, Grade::Fine, "{finding:?}");
        assert!(root.machine().capabilities().found.starts_with("this user lacks CAP_NET_ADMIN"));
    }

    #[test]
    fn without_an_iommu_the_advice_works_on_any_kernel() {
        let advice = Root::new().machine().iommu().advice;
        for part in ["intel_iommu=on", "firmware", "uio_pci_generic", "--iova-mode=pa"] {
            assert!(advice.contains(part), "{part}: {advice}");
        }
        assert!(!advice.contains("noiommu"), "{advice}");
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
    }

    #[test]
    fn an_empty_machine_is_looked_at_to_the_end() {
        assert!(Root::new().machine().look().len() >= 10);
    }
}
