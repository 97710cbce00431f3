//! Checks before DPDK starts. DPDK's own message ("No such device") names neither the port nor the command that helps.
//!
//! Only what certainly fails is refused. Everything else is left to DPDK, whose message becomes part of the error.

use fibcast_daemon::config::{ConfigError, Loaded, Step};
use fibcast_daemon::exit::Failure;
use fibcast_machine::{Machine, hugepages};

use crate::config::Config;
use crate::memory;
use crate::worker::thread::pin;

/// Arguments by which EAL prints its usage and ends the process, with exit code 0.
const HELP: [&str; 2] = ["-h", "--help"];

/// Checks this machine.
///
/// # Errors
/// [`Failure`] with file, line, key and remedy: a missing core or device, or too few hugepages.
pub fn check(loaded: &Loaded<Config>) -> Result<(), Failure> {
    let machine = Machine::here();
    help(loaded)?;
    cores(&machine, loaded).map_err(Failure::work)?;
    devices(&machine, loaded).map_err(Failure::work)?;
    interfaces(&machine, loaded).map_err(Failure::work)?;
    memory(&machine, loaded).map_err(Failure::work)?;
    // Cores that exist may still be forbidden by a control group.
    for &core in &loaded.value.workers.cores {
        let allowed = std::thread::spawn(move || pin(core)).join().unwrap_or(Ok(()));
        if let Err(error) = allowed {
            let reason = format!(
                "core {core} may not be used by this process ({error}): see Cpus_allowed_list in /proc/self/status, and AllowedCPUs= of the unit \
                 or the container's cpuset"
            );
            return Err(Failure::work(loaded.error(&[Step::Key("workers"), Step::Key("cores")], reason)));
        }
    }
    Ok(())
}

fn help(loaded: &Loaded<Config>) -> Result<(), ConfigError> {
    match loaded.value.eal.args.iter().find(|argument| HELP.contains(&argument.as_str())) {
        None => Ok(()),
        Some(argument) => {
            let reason = format!(
                "{argument} ends the process: leave it out (dpdk-testpmd --help lists EAL's arguments)"
            );
            Err(loaded.error(&[Step::Key("eal"), Step::Key("args")], reason))
        }
    }
}

fn cores(machine: &Machine, loaded: &Loaded<Config>) -> Result<(), ConfigError> {
    let Some(online) = machine.online_cores() else { return Ok(()) };
    let Some(core) = loaded.value.workers.cores.iter().find(|core| !online.contains(core)) else {
        return Ok(());
    };
    let text = machine.read("/sys/devices/system/cpu/online").unwrap_or_default();
    let reason = format!("there is no core {core}: this machine has {} (lscpu -e lists them)", text.trim());
    Err(loaded.error(&[Step::Key("workers"), Step::Key("cores")], reason))
}

fn devices(machine: &Machine, loaded: &Loaded<Config>) -> Result<(), ConfigError> {
    for (index, port) in loaded.value.ports.iter().enumerate() {
        let name = port.device_name().filter(|_| port.is_on_pci());
        if let Some(reason) = name.and_then(|address| machine.obstacle(&address)) {
            let key = [Step::Key("port"), Step::At(index), Step::Key("device")];
            return Err(loaded.error(&key, format!("port {}: {reason}", port.name)));
        }
    }
    Ok(())
}

/// Drivers of ports on an interface of the kernel. The kernel drops what exceeds the interface's MTU without a word to the driver, which then
/// counts it as sent (`PACKET_LOSS` of packet(7)).
const ON_INTERFACE: [&str; 4] = ["net_af_packet", "eth_af_packet", "net_af_xdp", "eth_af_xdp"];

/// Whether a driver, or a device by its name, is one of those.
pub fn is_on_interface(name: &str) -> bool {
    ON_INTERFACE.iter().any(|driver| name.starts_with(driver))
}

fn interfaces(machine: &Machine, loaded: &Loaded<Config>) -> Result<(), ConfigError> {
    for (index, port) in loaded.value.ports.iter().enumerate() {
        let Some(interface) = port.interface() else { continue };
        let Some(found) = machine.number(&format!("/sys/class/net/{interface}/mtu")) else { continue };
        if found < u64::from(port.mtu) {
            let reason = format!(
                "port {} has an MTU of {}, its interface {interface} only {found}: ip link set {interface} mtu {}, or mtu = {found} here",
                port.name, port.mtu, port.mtu
            );
            return Err(loaded.error(&[Step::Key("port"), Step::At(index), Step::Key("mtu")], reason));
        }
    }
    Ok(())
}

/// How much memory DPDK needs and has, and how to get the rest.
pub(crate) fn how_to_get(machine: &Machine, mib: u64) -> String {
    let pages = machine.hugepages();
    format!(
        "{mib} MiB of hugepages are needed, {} MiB are free: {}; without physical ports also --no-huge, --no-shconf and -m {mib} here",
        hugepages::free_kib(&pages) >> 10,
        hugepages::how_to_reserve(&pages, mib << 10)
    )
}

fn memory(machine: &Machine, loaded: &Loaded<Config>) -> Result<(), ConfigError> {
    let config = &loaded.value;
    let given = |option: &str| config.eal.args.iter().any(|argument| argument.starts_with(option));
    if given("--no-huge") {
        return Ok(());
    }
    let key = [Step::Key("eal"), Step::Key("args")];
    let pages = machine.hugepages();
    let (free, wanted) = (hugepages::free_kib(&pages), memory::wanted(config) >> 10);
    let least = memory::PoolSize::of(config, |_| true).bytes() >> 10;
    let advice = || how_to_get(machine, memory::wanted_mib(config));
    // Without --in-memory EAL first removes the files of a killed process: their memory is as good as free.
    let attainable = if given("--in-memory") { free } else { hugepages::total_kib(&pages) };
    if attainable < least {
        return Err(loaded.error(&key, advice()));
    }
    if free < wanted {
        tracing::warn!("{}", advice());
    }
    if !given("--in-memory") && !given("--huge-dir") && !machine.hugetlbfs_is_mounted() {
        let reason = "no hugetlbfs is mounted: mount -t hugetlbfs nodev /dev/hugepages, or add --in-memory, which needs none";
        return Err(loaded.error(&key, reason));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Root(tempfile::TempDir);

    impl Root {
        fn new() -> Root {
            Root(tempfile::tempdir().unwrap())
        }

        fn file(&self, path: &str, text: &str) {
            let path = self.0.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }

        fn pages(&self, total: u32, free: u32) {
            let folder = "sys/kernel/mm/hugepages/hugepages-2048kB";
            self.file(&format!("{folder}/nr_hugepages"), &total.to_string());
            self.file(&format!("{folder}/free_hugepages"), &free.to_string());
        }

        fn machine(&self) -> Machine {
            Machine::new(self.0.path())
        }
    }

    fn configured(args: &str, device: &str) -> Loaded<Config> {
        let text = format!(
            "[node]\nname = \"nh\"\n[workers]\ncores = [1]\n[eal]\nargs = [{args}]\n[[port]]\nname = \"p0\"\ndevice = \"{device}\"\n"
        );
        fibcast_daemon::config::parse("x.toml".as_ref(), text).unwrap()
    }

    #[test]
    fn a_core_that_is_not_there_comes_with_those_that_are() {
        let root = Root::new();
        let loaded = configured("", "net_null0");
        assert_eq!(cores(&root.machine(), &loaded), Ok(()), "the kernel does not say");
        root.file("sys/devices/system/cpu/online", "0\n");
        let error = cores(&root.machine(), &loaded).unwrap_err().to_string();
        assert!(
            error.starts_with("x.toml:4: workers.cores: there is no core 1: this machine has 0"),
            "{error}"
        );
        root.file("sys/devices/system/cpu/online", "0-1\n");
        assert_eq!(cores(&root.machine(), &loaded), Ok(()));
    }

    #[test]
    fn an_argument_that_ends_the_process_is_refused() {
        let error = help(&configured("\"--no-huge\", \"-h\"", "net_null0")).unwrap_err().to_string();
        assert!(error.starts_with("x.toml:6: eal.args: -h ends the process: leave it out"), "{error}");
        assert_eq!(help(&configured("\"--huge-dir\", \"/mnt\"", "net_null0")), Ok(()));
    }

    #[test]
    fn a_device_that_cannot_be_taken_is_named_with_its_port() {
        let root = Root::new();
        let error = devices(&root.machine(), &configured("", "03:00.0,x=1")).unwrap_err().to_string();
        assert!(
            error.starts_with("x.toml:9: port[0].device: port p0: there is no PCI device 0000:03:00.0"),
            "{error}"
        );
        assert_eq!(devices(&root.machine(), &configured("", "net_null0,copy=1")), Ok(()));
    }

    #[test]
    fn an_interface_with_a_smaller_mtu_than_its_port_is_named_with_both() {
        let root = Root::new();
        root.file("sys/class/net/r0/mtu", "1400\n");
        let check = |device: &str| interfaces(&root.machine(), &configured("", device));
        for device in [
            "net_af_packet0,iface=r0",
            "net_af_xdp0,start_queue=0,iface=r0",
            "eth_af_packet0,qpairs=1,iface=r0",
        ] {
            let error = check(device).unwrap_err().to_string();
            assert!(
                error.contains("port[0].mtu: port p0 has an MTU of 1500, its interface r0 only 1400: ip link set r0 mtu 1500"),
                "{error}"
            );
        }
        // An interface that DPDK creates, or that is not there.
        for device in ["net_tap0,iface=r0", "net_af_packet0,iface=r1", "net_af_packet0", "net_null0"] {
            assert_eq!(check(device), Ok(()), "{device}");
        }
        for enough in ["1500", "9000"] {
            root.file("sys/class/net/r0/mtu", enough);
            assert_eq!(check("net_af_packet0,iface=r0"), Ok(()));
        }
    }

    #[test]
    fn too_few_hugepages_come_with_both_figures_and_the_command() {
        let root = Root::new();
        root.file("proc/mounts", "nodev /dev/hugepages hugetlbfs rw 0 0\n");
        root.pages(10, 4);
        let in_memory = "\"--in-memory\"";
        let error = memory(&root.machine(), &configured(in_memory, "net_null0")).unwrap_err().to_string();
        let wanted = memory::wanted_mib(&configured("", "net_null0").value);
        assert!(error.starts_with("x.toml:6: eal.args: "), "{error}");
        assert!(error.contains(&format!("{wanted} MiB of hugepages are needed, 8 MiB are free")), "{error}");
        assert!(error.contains(&format!("sysctl -w vm.nr_hugepages={}", 6 + wanted / 2)), "{error}");
        assert_eq!(memory(&root.machine(), &configured("\"--no-huge\"", "net_null0")), Ok(()));
        root.pages(200, 4);
        assert!(memory(&root.machine(), &configured(in_memory, "net_null0")).is_err());
        assert_eq!(memory(&root.machine(), &configured("", "net_null0")), Ok(()), "files may hold them");
        root.pages(4, 4);
        assert!(memory(&root.machine(), &configured("", "net_null0")).is_err());
        root.pages(200, 200);
        assert_eq!(memory(&root.machine(), &configured(in_memory, "net_null0")), Ok(()));
    }

    #[test]
    fn without_a_mount_memory_must_be_anonymous() {
        let root = Root::new();
        root.pages(200, 200);
        let error = memory(&root.machine(), &configured("", "net_null0")).unwrap_err().to_string();
        assert!(error.contains("no hugetlbfs is mounted") && error.contains("--in-memory"), "{error}");
        assert_eq!(memory(&root.machine(), &configured("\"--in-memory\"", "net_null0")), Ok(()));
    }
}
