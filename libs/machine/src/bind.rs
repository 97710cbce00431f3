//! Gives PCI devices to a driver for programs, or back to the kernel, by `driver_override` of sysfs, as driverctl(8) does; and remembers it for the
//! next boot, in a file for each device below `/etc/fibcast/nic.d`.
//!
//! `driver_override` lets one device have another driver than those of its kind, whatever binds first. The order is: override, unbind, probe.

use std::io;
use std::path::PathBuf;

use crate::Machine;
use crate::pci::{Device, Driver, HOW_TO_IOMMU};

const DEVICES: &str = "/sys/bus/pci/devices";
const DRIVERS: &str = "/sys/bus/pci/drivers";
/// Overrides for the next boot: a file for each device, named by its address, with the driver in it.
pub const FOLDER: &str = "/etc/fibcast/nic.d";
/// `IFF_UP`.
const UP: u64 = 1;

/// Why a device keeps its driver.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// There is no such device, or it is none that can be bound.
    #[error("{0}")]
    Device(String),
    /// An interface of the kernel is in use.
    #[error(
        "{address}: interface {interface} is up, and would disappear: ip link set {interface} down, or --force"
    )]
    InUse {
        /// The device.
        address: String,
        /// Its interface.
        interface: String,
    },
    /// The driver is not loaded.
    #[error("there is no driver {driver}: modprobe {driver}")]
    NoDriver {
        /// The driver.
        driver: String,
    },
    /// The driver needs an IOMMU.
    #[error(
        "{address}: vfio-pci needs an IOMMU, and there is none: {HOW_TO_IOMMU}; or --driver uio_pci_generic"
    )]
    NoIommu {
        /// The device.
        address: String,
    },
    /// The kernel took the orders and did something else.
    #[error("{address}: expected {expected} to take the device, found {found}: dmesg says why")]
    Refused {
        /// The device.
        address: String,
        /// The wanted driver.
        expected: String,
        /// The one that has it.
        found: String,
    },
    /// A file cannot be written.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

/// What writes to files of sysfs. Tests have a kernel of their own.
pub trait Write {
    /// Writes a text to a file of the machine.
    ///
    /// # Errors
    /// The system's error.
    fn write(&self, machine: &Machine, path: &str, text: &str) -> io::Result<()>;
}

/// The kernel of this machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct Kernel;

impl Write for Kernel {
    fn write(&self, machine: &Machine, path: &str, text: &str) -> io::Result<()> {
        // Without creating it: a file that is not there is an interface that the kernel does not have.
        let mut file = std::fs::OpenOptions::new().write(true).open(machine.path(path))?;
        io::Write::write_all(&mut file, text.as_bytes())
    }
}

/// A network device for a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nic {
    /// The device.
    pub device: Device,
    /// NUMA node; none if the machine has one only.
    pub numa: Option<u64>,
    /// MAC addresses of its interfaces.
    pub macs: Vec<String>,
    /// The driver that it gets at the next boot, if a file says so.
    pub at_boot: Option<String>,
}

/// The name of a driver.
pub fn name_of(driver: &Driver) -> &str {
    match driver {
        Driver::ForPrograms(name) | Driver::Shared(name) | Driver::Kernel(name) => name,
        Driver::None => "none",
    }
}

impl Machine {
    /// All network devices.
    pub fn nics(&self) -> Vec<Nic> {
        let nic = |device: Device| {
            // -1 where there is one node only.
            let numa = self.number(&format!("{DEVICES}/{}/numa_node", device.address));
            let mac =
                |name: &String| Some(self.read(&format!("/sys/class/net/{name}/address"))?.trim().to_owned());
            let macs = device.interfaces.iter().filter_map(mac).collect();
            let at_boot = self.remembered(&device.address);
            Nic { device, numa, macs, at_boot }
        };
        self.network_devices().into_iter().map(nic).collect()
    }

    fn remembered(&self, address: &str) -> Option<String> {
        let text = self.read(&format!("{FOLDER}/{address}"))?;
        Some(text.trim().to_owned()).filter(|driver| !driver.is_empty())
    }

    /// Devices and drivers that files name for the next boot.
    pub fn overrides(&self) -> Vec<(String, String)> {
        let names = self.names(FOLDER).into_iter();
        names.filter_map(|address| Some((address.clone(), self.remembered(&address)?))).collect()
    }

    /// Gives a device to a driver for programs. With `force` even if an interface of it is up.
    ///
    /// # Errors
    /// [`BindError`]. A device that the driver did not take is back with the kernel's.
    pub fn bind(
        &self,
        kernel: &dyn Write,
        address: &str,
        driver: &str,
        force: bool,
    ) -> Result<(), BindError> {
        let device = self.bindable(address)?;
        if name_of(&device.driver) == driver {
            return Ok(());
        }
        if !self.path(&format!("{DRIVERS}/{driver}")).exists() {
            return Err(BindError::NoDriver { driver: driver.to_owned() });
        }
        if driver == "vfio-pci" && !device.has_group() && !self.vfio_works_without_iommu() {
            return Err(BindError::NoIommu { address: address.to_owned() });
        }
        let is_up = |name: &&String| self.flags(name) & UP != 0;
        if let Some(interface) = device.interfaces.iter().find(is_up).filter(|_| !force) {
            return Err(BindError::InUse { address: address.to_owned(), interface: interface.clone() });
        }
        self.hand_over(kernel, &device, driver)?;
        let found = self.driver_of(address);
        if found == driver {
            return Ok(());
        }
        // Better a device of the kernel than one that nobody has.
        self.hand_over(kernel, &device, "")?;
        Err(BindError::Refused { address: address.to_owned(), expected: driver.to_owned(), found })
    }

    /// Gives a device back to the kernel's driver.
    ///
    /// # Errors
    /// [`BindError`].
    pub fn unbind(&self, kernel: &dyn Write, address: &str) -> Result<(), BindError> {
        let device = self.bindable(address)?;
        if matches!(device.driver, Driver::Kernel(_)) {
            return Ok(());
        }
        self.hand_over(kernel, &device, "")?;
        match self.device(address).map(|device| device.driver) {
            Some(Driver::Kernel(_) | Driver::Shared(_)) => Ok(()),
            _ => Err(BindError::Refused {
                address: address.to_owned(),
                expected: "a driver of the kernel".into(),
                found: self.driver_of(address),
            }),
        }
    }

    /// Remembers the driver of a device for the next boot; none: forgets it.
    ///
    /// # Errors
    /// [`BindError::File`].
    pub fn remember(&self, address: &str, driver: Option<&str>) -> Result<(), BindError> {
        let path = self.path(&format!("{FOLDER}/{address}"));
        let failed = |source| BindError::File { path: path.clone(), source };
        let Some(driver) = driver else {
            return match std::fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(error)),
                _ => Ok(()),
            };
        };
        std::fs::create_dir_all(self.path(FOLDER)).map_err(failed)?;
        // As a whole or not at all: a boot may come at any time. A name with a dot in front is no address.
        let new = self.path(&format!("{FOLDER}/.{address}"));
        std::fs::write(&new, format!("{driver}\n")).map_err(failed)?;
        std::fs::rename(&new, &path).map_err(failed)
    }

    fn bindable(&self, address: &str) -> Result<Device, BindError> {
        let wrong = |reason: String| BindError::Device(reason);
        let device = self.device(address).ok_or_else(|| {
            wrong(format!("there is no PCI device {address}: fibcast nic list shows those of this machine"))
        })?;
        if !device.is_network() {
            return Err(wrong(format!("{address} is no network device")));
        }
        if let Driver::Shared(driver) = &device.driver {
            return Err(wrong(format!(
                "{address} stays with the kernel's driver {driver}, which shares it with DPDK: there is nothing to bind"
            )));
        }
        Ok(device)
    }

    fn hand_over(&self, kernel: &dyn Write, device: &Device, driver: &str) -> Result<(), BindError> {
        let address = &device.address;
        let write = |path: &str, text: &str| {
            kernel.write(self, path, text).map_err(|source| BindError::File { path: self.path(path), source })
        };
        // An empty line takes the override away.
        write(&format!("{DEVICES}/{address}/driver_override"), &format!("{driver}\n"))?;
        if self.link(&format!("{DEVICES}/{address}/driver")).is_some() {
            write(&format!("{DEVICES}/{address}/driver/unbind"), address)?;
        }
        write("/sys/bus/pci/drivers_probe", address)
    }

    fn driver_of(&self, address: &str) -> String {
        self.link(&format!("{DEVICES}/{address}/driver")).unwrap_or_else(|| "none".to_owned())
    }

    fn flags(&self, interface: &str) -> u64 {
        let text = self.read(&format!("/sys/class/net/{interface}/flags")).unwrap_or_default();
        u64::from_str_radix(text.trim().trim_start_matches("0x"), 16).unwrap_or(0)
    }

    fn vfio_works_without_iommu(&self) -> bool {
        self.read("/sys/module/vfio/parameters/enable_unsafe_noiommu_mode")
            .is_some_and(|text| text.trim() == "Y")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::os::unix::fs::symlink;

    use super::*;

    const NIC: &str = "0000:03:00.0";

    /// A machine with one network device of ixgbe, and a kernel that acts on what is written to sysfs.
    struct Fake {
        root: tempfile::TempDir,
        /// The driver that refuses every device.
        broken: Option<&'static str>,
    }

    impl Fake {
        fn new(with_iommu: bool) -> (Fake, Machine) {
            let fake = Fake { root: tempfile::tempdir().unwrap(), broken: None };
            let device = format!("sys/bus/pci/devices/{NIC}");
            for (path, text) in [
                ("class", "0x020000\n"),
                ("vendor", "0x8086\n"),
                ("numa_node", "1\n"),
                ("driver_override", "(null)\n"),
                ("net/eth7/x", ""),
            ] {
                fake.file(&format!("{device}/{path}"), text);
            }
            fake.file("sys/class/net/eth7/address", "02:00:00:00:00:07\n");
            fake.file("sys/class/net/eth7/flags", "0x1002\n");
            fake.file("sys/bus/pci/drivers_probe", "");
            for driver in ["ixgbe", "vfio-pci", "uio_pci_generic"] {
                fake.file(&format!("sys/bus/pci/drivers/{driver}/unbind"), "");
            }
            symlink("../../drivers/ixgbe", fake.root.path().join(&device).join("driver")).unwrap();
            if with_iommu {
                fake.file("sys/kernel/iommu_groups/7/x", "");
                let group = fake.root.path().join(&device).join("iommu_group");
                symlink("../../../../kernel/iommu_groups/7", group).unwrap();
            }
            let machine = Machine::new(fake.root.path());
            (fake, machine)
        }

        fn file(&self, path: &str, text: &str) {
            let path = self.root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
    }

    impl Write for Fake {
        fn write(&self, machine: &Machine, path: &str, text: &str) -> io::Result<()> {
            Kernel.write(machine, path, text)?;
            let driver = machine.path(&format!("{DEVICES}/{NIC}/driver"));
            if path.ends_with("/driver/unbind") {
                assert_eq!(text, NIC);
                std::fs::remove_file(driver)?;
            } else if path == "/sys/bus/pci/drivers_probe" {
                assert_eq!((text, driver.exists()), (NIC, false), "it must be without a driver");
                let wanted = machine.read(&format!("{DEVICES}/{NIC}/driver_override")).unwrap();
                let wanted = wanted.lines().next().filter(|name| !name.is_empty()).unwrap_or("ixgbe");
                if self.broken != Some(wanted) {
                    symlink(format!("../../drivers/{wanted}"), driver)?;
                }
            }
            Ok(())
        }
    }

    fn driver(machine: &Machine) -> String {
        machine.driver_of(NIC)
    }

    #[test]
    fn a_device_goes_to_a_driver_for_programs_and_back() {
        let (fake, machine) = Fake::new(true);
        machine.bind(&fake, NIC, "vfio-pci", false).unwrap();
        assert_eq!(driver(&machine), "vfio-pci");
        machine.bind(&fake, NIC, "vfio-pci", false).unwrap();
        machine.bind(&fake, NIC, "uio_pci_generic", false).unwrap();
        assert_eq!(driver(&machine), "uio_pci_generic");
        machine.unbind(&fake, NIC).unwrap();
        assert_eq!(driver(&machine), "ixgbe");
        machine.unbind(&fake, NIC).unwrap();
    }

    #[test]
    fn what_is_in_use_or_cannot_work_stays_where_it_is() {
        let (fake, machine) = Fake::new(false);
        let error = |machine: &Machine, driver: &str| {
            machine.bind(&fake, NIC, driver, false).unwrap_err().to_string()
        };
        assert!(
            error(&machine, "vfio-pci").contains("needs an IOMMU, and there is none: switch the IOMMU on")
        );
        assert_eq!(error(&machine, "igb_uio"), "there is no driver igb_uio: modprobe igb_uio");
        fake.file("sys/class/net/eth7/flags", "0x1003\n");
        let up = error(&machine, "uio_pci_generic");
        assert!(
            up.contains("interface eth7 is up") && up.contains("ip link set eth7 down, or --force"),
            "{up}"
        );
        let none = machine.bind(&fake, "0000:09:00.0", "vfio-pci", false).unwrap_err().to_string();
        assert!(none.starts_with("there is no PCI device 0000:09:00.0"), "{none}");
        assert_eq!(driver(&machine), "ixgbe");
        machine.bind(&fake, NIC, "uio_pci_generic", true).unwrap();
        assert_eq!(driver(&machine), "uio_pci_generic");
    }

    #[test]
    fn a_device_that_the_driver_does_not_take_returns_to_the_kernel() {
        let (mut fake, machine) = Fake::new(true);
        fake.broken = Some("vfio-pci");
        let error = machine.bind(&fake, NIC, "vfio-pci", false).unwrap_err().to_string();
        assert!(error.contains("expected vfio-pci to take the device, found none"), "{error}");
        assert_eq!(driver(&machine), "ixgbe");
    }

    #[test]
    fn a_shared_device_needs_no_binding() {
        let (fake, machine) = Fake::new(true);
        let link = fake.root.path().join(format!("sys/bus/pci/devices/{NIC}/driver"));
        std::fs::remove_file(&link).unwrap();
        symlink("../../drivers/mlx5_core", &link).unwrap();
        let error = machine.bind(&fake, NIC, "vfio-pci", false).unwrap_err().to_string();
        assert!(error.contains("stays with the kernel's driver mlx5_core"), "{error}");
    }

    #[test]
    fn a_list_has_driver_node_interface_address_and_what_comes_at_boot() {
        let (_fake, machine) = Fake::new(true);
        machine.remember(NIC, Some("vfio-pci")).unwrap();
        let nics = machine.nics();
        assert_eq!(nics.len(), 1);
        let nic = &nics[0];
        assert_eq!((name_of(&nic.device.driver), nic.numa), ("ixgbe", Some(1)));
        assert_eq!(
            (&nic.device.interfaces[..], &nic.macs[..]),
            (&["eth7".into()][..], &["02:00:00:00:00:07".into()][..])
        );
        assert_eq!(nic.at_boot.as_deref(), Some("vfio-pci"));
        assert_eq!(machine.overrides(), [(NIC.to_owned(), "vfio-pci".to_owned())]);
        machine.remember(NIC, None).unwrap();
        machine.remember(NIC, None).unwrap();
        assert!(machine.overrides().is_empty());
    }
}
