//! PCI devices: their driver, and whether a program can use them.

use std::fs::OpenOptions;
use std::io;

use crate::Machine;

const DEVICES: &str = "/sys/bus/pci/devices";
/// PCI class of network controllers.
const NETWORK: &str = "0x02";
/// Vendor of virtio devices. DPDK also uses their legacy kind without a driver.
const VIRTIO: &str = "0x1af4";
/// Drivers that give a device to a program.
const FOR_PROGRAMS: [&str; 3] = ["vfio-pci", "uio_pci_generic", "igb_uio"];
/// Bifurcated drivers: the kernel keeps the device and shares it with a program.
const SHARED: [&str; 3] = ["mlx5_core", "mlx4_core", "mana"];

/// Driver of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Driver {
    /// A driver that gives the device to a program.
    ForPrograms(String),
    /// A kernel driver that shares it with a program (bifurcated).
    Shared(String),
    /// A kernel driver.
    Kernel(String),
    /// No driver.
    None,
}

/// A device on the PCI bus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// PCI address, such as `0000:03:00.0`.
    pub address: String,
    /// Its driver.
    pub driver: Driver,
    /// Names of its kernel interfaces.
    pub interfaces: Vec<String>,
    class: String,
    vendor: String,
    /// Number of its IOMMU group; none if the IOMMU is off.
    group: Option<String>,
}

/// The full form of a PCI address, `0000:03:00.0`, whose domain may be omitted; none if it is invalid.
pub fn address(text: &str) -> Option<String> {
    let text = text.strip_prefix("pci:").unwrap_or(text);
    let (rest, function) = text.split_once('.')?;
    let parts: Vec<&str> = rest.split(':').collect();
    let (domain, bus, slot) = match parts[..] {
        [bus, slot] => ("0", bus, slot),
        [domain, bus, slot] => (domain, bus, slot),
        _ => return None,
    };
    let number = |text: &str| u32::from_str_radix(text, 16).ok();
    let (domain, bus, slot) = (number(domain)?, number(bus)?, number(slot)?);
    let function = number(function)?;
    (bus < 256 && slot < 32 && function < 8)
        .then(|| format!("{domain:04x}:{bus:02x}:{slot:02x}.{function:x}"))
}

impl Device {
    /// Whether it is a network controller.
    pub(crate) fn is_network(&self) -> bool {
        self.class.starts_with(NETWORK)
    }

    /// Whether it is behind an IOMMU.
    pub(crate) fn has_group(&self) -> bool {
        self.group.is_some()
    }
}

impl Machine {
    /// The device with this address, in the form of [`address`].
    pub fn device(&self, address: &str) -> Option<Device> {
        let file = |name: &str| format!("{DEVICES}/{address}/{name}");
        let text = |name: &str| self.read(&file(name)).unwrap_or_default().trim().to_owned();
        if !self.path(&format!("{DEVICES}/{address}")).exists() {
            return None;
        }
        let driver = match self.link(&file("driver")) {
            None => Driver::None,
            Some(name) if FOR_PROGRAMS.contains(&name.as_str()) => Driver::ForPrograms(name),
            Some(name) if SHARED.contains(&name.as_str()) => Driver::Shared(name),
            Some(name) => Driver::Kernel(name),
        };
        Some(Device {
            address: address.to_owned(),
            driver,
            // The interfaces of a virtio device are one folder below.
            interfaces: [self.names(&file("net")), self.virtio_interfaces(address)].concat(),
            class: text("class"),
            vendor: text("vendor"),
            group: self.link(&file("iommu_group")),
        })
    }

    fn virtio_interfaces(&self, address: &str) -> Vec<String> {
        let folders = self.names(&format!("{DEVICES}/{address}")).into_iter();
        let virtio = folders.filter(|name| name.starts_with("virtio"));
        virtio.flat_map(|name| self.names(&format!("{DEVICES}/{address}/{name}/net"))).collect()
    }

    /// All network devices.
    pub fn network_devices(&self) -> Vec<Device> {
        let all = self.names(DEVICES).into_iter().filter_map(|address| self.device(&address));
        all.filter(Device::is_network).collect()
    }

    /// Whether the IOMMU is on.
    fn has_iommu(&self) -> bool {
        !self.names("/sys/kernel/iommu_groups").is_empty()
    }

    /// The commands that bind a device to a driver for programs.
    pub fn how_to_bind(&self, address: &str) -> String {
        let load = |module: &str, folder: &str| {
            if self.path(&format!("/sys/module/{folder}")).exists() {
                String::new()
            } else {
                format!("modprobe {module} && ")
            }
        };
        if self.has_iommu() {
            return format!(
                "fibcast nic bind {address}, or {}dpdk-devbind.py -b vfio-pci {address}",
                load("vfio-pci", "vfio_pci")
            );
        }
        format!(
            "{}, then fibcast nic bind {address}; or, without an IOMMU: {}dpdk-devbind.py -b uio_pci_generic {address} and \
             --iova-mode=pa in [eal] args",
            HOW_TO_IOMMU,
            load("uio_pci_generic", "uio_pci_generic"),
        )
    }

    /// What prevents a program from using a port's device, and how to fix it; none if nothing is known. `address` has the form of
    /// [`address`].
    pub fn obstacle(&self, address: &str) -> Option<String> {
        let Some(device) = self.device(address) else {
            let mut known: Vec<String> =
                self.network_devices().into_iter().map(|device| device.address).collect();
            known.truncate(16);
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            return Some(format!("there is no PCI device {address}; network devices here: {known}"));
        };
        if !device.is_network() {
            return Some(format!(
                "{address} is no network device (PCI class {}): dpdk-devbind.py -s lists those",
                device.class
            ));
        }
        match &device.driver {
            Driver::ForPrograms(driver) if driver == "vfio-pci" => self.vfio_obstacle(&device),
            Driver::ForPrograms(_) | Driver::Shared(_) => None,
            Driver::Kernel(driver) => {
                let interface = match device.interfaces.first() {
                    Some(name) => format!(" (interface {name}: remove its addresses first)"),
                    None => String::new(),
                };
                Some(format!(
                    "{address} is bound to the kernel driver {driver}{interface}; to use it with DPDK: {}",
                    self.how_to_bind(address)
                ))
            }
            Driver::None if device.vendor == VIRTIO => None,
            Driver::None => {
                Some(format!("{address} has no driver; to use it with DPDK: {}", self.how_to_bind(address)))
            }
        }
    }

    /// Checks a device of vfio-pci: its group must exist, be accessible, and contain no device of the kernel.
    fn vfio_obstacle(&self, device: &Device) -> Option<String> {
        let address = &device.address;
        let Some(group) = &device.group else {
            return Some(format!("{address} is bound to vfio-pci, but in no IOMMU group: {HOW_TO_IOMMU}"));
        };
        let members = self.names(&format!("/sys/kernel/iommu_groups/{group}/devices"));
        let others =
            members.iter().filter(|member| *member != address).filter_map(|member| self.device(member));
        for other in others {
            if let Driver::Kernel(driver) | Driver::Shared(driver) = &other.driver
                && driver != "pcieport"
            {
                return Some(format!(
                    "{address} shares IOMMU group {group} with {}, which the kernel's driver {driver} has: bind that to vfio-pci as well \
                     (dpdk-devbind.py -b vfio-pci {})",
                    other.address, other.address
                ));
            }
        }
        // Without an IOMMU the file has another name, if the kernel supports that.
        let [plain, without_iommu] = ["", "noiommu-"].map(|kind| format!("/dev/vfio/{kind}{group}"));
        let path = if self.path(&without_iommu).exists() { without_iommu } else { plain };
        match OpenOptions::new().read(true).write(true).open(self.path(&path)) {
            Ok(_) => None,
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Some(format!(
                "{address}: this user cannot open {path}: run as root, or change the owner (chown USER {path}, or a udev rule)"
            )),
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
                Some(format!("{address}: another process uses {path}: find it with fuser -v {path}"))
            }
            Err(error) => Some(format!(
                "{address}: {path} cannot be opened ({error}): modprobe vfio-pci, and bind the device again"
            )),
        }
    }
}

/// How to enable the IOMMU.
pub const HOW_TO_IOMMU: &str = "switch the IOMMU on (VT-d or AMD-Vi in the firmware, and the kernel parameters intel_iommu=on iommu=pt, on AMD iommu=pt)";

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::os::unix::fs::symlink;

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

        fn device(&self, address: &str, class: &str, driver: Option<&str>, group: Option<&str>) {
            let folder = format!("sys/bus/pci/devices/{address}");
            self.file(&format!("{folder}/class"), class);
            self.file(&format!("{folder}/vendor"), "0x8086\n");
            let folder = self.0.path().join(folder);
            if let Some(driver) = driver {
                symlink(format!("../../../../bus/pci/drivers/{driver}"), folder.join("driver")).unwrap();
            }
            if let Some(group) = group {
                symlink(format!("../../../kernel/iommu_groups/{group}"), folder.join("iommu_group")).unwrap();
                self.file(&format!("sys/kernel/iommu_groups/{group}/devices/{address}"), "");
            }
        }

        fn obstacle(&self, address: &str) -> String {
            Machine::new(self.0.path()).obstacle(address).unwrap_or_default()
        }
    }

    const NIC: &str = "0x020000\n";

    #[test]
    fn addresses_are_told_from_names_of_virtual_devices() {
        assert_eq!(address("0000:03:00.1").as_deref(), Some("0000:03:00.1"));
        assert_eq!(address("3:0.1").as_deref(), Some("0000:03:00.1"));
        assert_eq!(address("pci:10000:0A:1f.7").as_deref(), Some("10000:0a:1f.7"));
        for other in ["net_tap0", "net_pcap0,x=1.2", "0000:03:00", "0000:03:40.0", "1:2:3:4.0", ""] {
            assert_eq!(address(other), None, "{other}");
        }
    }

    #[test]
    fn a_device_that_is_not_there_comes_with_those_that_are() {
        let root = Root::new();
        root.device("0000:03:00.0", NIC, None, None);
        root.device("0000:04:00.0", "0x010802\n", Some("nvme"), None);
        assert_eq!(
            root.obstacle("0000:05:00.0"),
            "there is no PCI device 0000:05:00.0; network devices here: 0000:03:00.0"
        );
        assert!(root.obstacle("0000:04:00.0").contains("no network device (PCI class 0x010802)"));
    }

    #[test]
    fn a_device_of_the_kernel_comes_with_its_interface_and_the_commands() {
        let root = Root::new();
        root.device("0000:03:00.0", NIC, Some("ixgbe"), Some("7"));
        root.file("sys/bus/pci/devices/0000:03:00.0/net/eth0/mtu", "1500\n");
        let found = root.obstacle("0000:03:00.0");
        assert!(found.contains("the kernel driver ixgbe (interface eth0"), "{found}");
        assert!(found.ends_with("modprobe vfio-pci && dpdk-devbind.py -b vfio-pci 0000:03:00.0"), "{found}");
        root.file("sys/module/vfio_pci/refcnt", "0\n");
        let found = root.obstacle("0000:03:00.0");
        assert!(
            found.ends_with(
                "DPDK: fibcast nic bind 0000:03:00.0, or dpdk-devbind.py -b vfio-pci 0000:03:00.0"
            ),
            "{found}"
        );
    }

    #[test]
    fn without_an_iommu_the_ways_that_work_are_named() {
        let root = Root::new();
        root.device("0000:03:00.0", NIC, None, None);
        let found = root.obstacle("0000:03:00.0");
        for part in ["has no driver", "intel_iommu=on", "uio_pci_generic", "--iova-mode=pa"] {
            assert!(found.contains(part), "{part}: {found}");
        }
        assert!(!found.contains("noiommu"), "{found}");
    }

    #[test]
    fn devices_for_programs_and_shared_ones_are_fine() {
        let root = Root::new();
        root.device("0000:03:00.0", NIC, Some("vfio-pci"), Some("7"));
        root.device("0000:03:00.1", NIC, Some("uio_pci_generic"), None);
        root.device("0000:03:00.2", NIC, Some("mlx5_core"), Some("8"));
        root.file("dev/vfio/7", "");
        for address in ["0000:03:00.0", "0000:03:00.1", "0000:03:00.2"] {
            assert_eq!(root.obstacle(address), "");
        }
    }

    #[test]
    fn a_group_must_be_there_whole_and_open() {
        let root = Root::new();
        root.device("0000:03:00.0", NIC, Some("vfio-pci"), None);
        assert!(root.obstacle("0000:03:00.0").contains("in no IOMMU group"));
        root.device("0000:04:00.0", NIC, Some("vfio-pci"), Some("9"));
        assert!(root.obstacle("0000:04:00.0").contains("/dev/vfio/9 cannot be opened"));
        root.file("dev/vfio/9", "");
        root.device("0000:04:00.1", NIC, Some("igb"), Some("9"));
        let found = root.obstacle("0000:04:00.0");
        assert!(found.contains("shares IOMMU group 9 with 0000:04:00.1") && found.contains("igb"), "{found}");
    }
}
