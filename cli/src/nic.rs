//! `fibcast nic`: which driver has a network device, now and after the next boot. Asks no daemon: the machine's sysfs alone.

use std::path::PathBuf;
use std::process::Command;

use fibcast_machine::Machine;
use fibcast_machine::bind::{BindError, Kernel, Nic as Found, name_of};
use fibcast_machine::pci;
use serde::Serialize;

use crate::json;
use crate::output::say;

/// Network devices and their drivers.
#[derive(Debug, clap::Args)]
pub struct Nic {
    /// The machine's root folder.
    #[arg(long, hide = true, default_value = "/", global = true)]
    root: PathBuf,
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Lists the network devices: PCI address, driver, NUMA node, interfaces, MAC addresses.
    List,
    /// Gives devices to a driver for programs, now and at each boot.
    Bind {
        /// PCI addresses, such as 0000:03:00.0.
        #[arg(required = true)]
        devices: Vec<String>,
        /// The driver: vfio-pci needs an IOMMU, uio_pci_generic does not.
        #[arg(long, default_value = "vfio-pci")]
        driver: String,
        /// Even if an interface of the device is up.
        #[arg(long)]
        force: bool,
        /// Until the next boot only.
        #[arg(long)]
        no_save: bool,
    },
    /// Gives devices back to the kernel's driver, now and at each boot.
    Unbind {
        /// PCI addresses, such as 0000:03:00.0.
        #[arg(required = true)]
        devices: Vec<String>,
        /// Until the next boot only.
        #[arg(long)]
        no_save: bool,
    },
    /// Binds what /etc/fibcast/nic.d names, as fibcast-nic.service does at boot.
    Apply,
}

/// A device in JSON.
#[derive(Debug, Serialize)]
struct Line<'n> {
    address: &'n str,
    driver: &'n str,
    numa: Option<u64>,
    interfaces: &'n [String],
    macs: &'n [String],
    at_boot: Option<&'n str>,
}

impl Line<'_> {
    fn of(nic: &Found) -> Line<'_> {
        let Found { device, numa, macs, at_boot } = nic;
        Line {
            address: &device.address,
            driver: name_of(&device.driver),
            numa: *numa,
            interfaces: &device.interfaces,
            macs,
            at_boot: at_boot.as_deref(),
        }
    }
}

#[derive(Debug, Serialize)]
struct List<'n> {
    devices: Vec<Line<'n>>,
}

/// Does what was asked for.
///
/// # Errors
/// What went wrong, a line for each device.
pub fn run(command: &Nic, as_json: bool) -> Result<(), String> {
    let machine = Machine::new(&command.root);
    match &command.what {
        What::List => say(&list(&machine.nics(), as_json)?),
        What::Bind { devices, driver, force, no_save } => each(devices, |address| {
            bind(&machine, address, driver, *force)?;
            if !*no_save {
                machine.remember(address, Some(driver)).map_err(told)?;
            }
            // It has the driver; what still keeps a program from using it, such as another device of its group, is told.
            let left = machine.obstacle(address).map_or_else(String::new, |reason| format!("; but {reason}"));
            say(&format!("{address}: {driver}{}{left}\n", until(*no_save)))
        }),
        What::Unbind { devices, no_save } => each(devices, |address| {
            machine.unbind(&Kernel, address).map_err(told)?;
            if !*no_save {
                machine.remember(address, None).map_err(told)?;
            }
            let driver = machine.device(address).map(|device| device.driver);
            let driver = driver.as_ref().map_or("none", name_of);
            say(&format!("{address}: {driver}{}\n", until(*no_save)))
        }),
        What::Apply => {
            let all = machine.overrides();
            let failed: Vec<String> = all
                .iter()
                // At boot no interface is anybody's yet.
                .filter_map(|(address, driver)| bind(&machine, address, driver, true).err())
                .collect();
            if failed.is_empty() { Ok(()) } else { Err(failed.join("\nfibcast: ")) }
        }
    }
}

fn until(no_save: bool) -> &'static str {
    if no_save { " until the next boot" } else { "" }
}

fn told(error: BindError) -> String {
    error.to_string()
}

/// Every device, whatever becomes of the others.
fn each(devices: &[String], mut one: impl FnMut(&str) -> Result<(), String>) -> Result<(), String> {
    let mut failed = Vec::new();
    for text in devices {
        let address = pci::address(text)
            .ok_or_else(|| format!("expected a PCI address such as 0000:03:00.0, found {text:?}"));
        if let Err(error) = address.and_then(|address| one(&address)) {
            failed.push(error);
        }
    }
    if failed.is_empty() { Ok(()) } else { Err(failed.join("\nfibcast: ")) }
}

/// With a driver that is a module which nobody has needed yet.
fn bind(machine: &Machine, address: &str, driver: &str, force: bool) -> Result<(), String> {
    match machine.bind(&Kernel, address, driver, force) {
        Err(BindError::NoDriver { driver }) => {
            let output = Command::new("modprobe").arg(&driver).output();
            match output.map(|output| output.status.success()) {
                Ok(true) => machine.bind(&Kernel, address, &driver, force).map_err(told),
                _ => Err(format!("{address}: {}", BindError::NoDriver { driver })),
            }
        }
        other => other.map_err(told),
    }
}

fn list(nics: &[Found], as_json: bool) -> Result<String, String> {
    if as_json {
        return json::line(&List { devices: nics.iter().map(Line::of).collect() });
    }
    if nics.is_empty() {
        return Ok("there is no network device on a PCI bus\n".to_owned());
    }
    let heading = ["DEVICE", "DRIVER", "NUMA", "INTERFACES", "MAC", "AT BOOT"].map(str::to_owned);
    let row = |nic: &Found| {
        let or_dash = |text: String| if text.is_empty() { "-".to_owned() } else { text };
        [
            nic.device.address.clone(),
            name_of(&nic.device.driver).to_owned(),
            or_dash(nic.numa.map(|node| node.to_string()).unwrap_or_default()),
            or_dash(nic.device.interfaces.join(",")),
            or_dash(nic.macs.join(",")),
            or_dash(nic.at_boot.clone().unwrap_or_default()),
        ]
    };
    let rows: Vec<[String; 6]> = std::iter::once(heading).chain(nics.iter().map(row)).collect();
    let width = |column: usize| rows.iter().filter_map(|row| Some(row.get(column)?.len())).max().unwrap_or(0);
    let widths: Vec<usize> = (0..6).map(width).collect();
    let mut text = String::new();
    for row in &rows {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        text += cells.join("  ").trim_end();
        text += "\n";
    }
    Ok(text)
}
