//! DPDK's environment abstraction layer (EAL): its arguments in addition to those of the configuration.

use dpdk::Eal;
use fibcast_daemon::config::{Loaded, Step};
use fibcast_daemon::exit::Failure;
use fibcast_machine::Machine;

use super::explain::{Explained, Scene, explain};
use crate::config::{Config, Port};
use crate::{memory, preflight};

/// Options that select EAL's cores; a value may follow in the same word.
const CORES: [&str; 5] = ["-l", "-c", "-S", "--lcores", "-s"];
/// Options that list devices to use, or to ignore.
const ALLOW: [&str; 2] = ["-a", "--allow"];
const BLOCK: [&str; 2] = ["-b", "--block"];

/// Initializes EAL.
///
/// # Errors
/// [`Failure`] if the arguments are invalid, or EAL does not start.
pub fn init(loaded: &Loaded<Config>) -> Result<Eal, Failure> {
    preflight::check(loaded)?;
    let wrong = |step: &[Step], reason| Failure::work(loaded.error(step, reason));
    let arguments = arguments(&loaded.value)
        .map_err(|(port, reason)| wrong(&[Step::Key("port"), Step::At(port), Step::Key("device")], reason))?;
    let eal = Eal::init(&arguments).map_err(|error| {
        let scene =
            Scene { machine: &Machine::here(), memory_mib: memory::wanted_mib(&loaded.value), device: None };
        let Explained { reason, wrong_argument } = explain(&error, scene);
        let failure = loaded.error(&[Step::Key("eal"), Step::Key("args")], reason);
        // After exit code 2 a supervisor does not try again.
        if wrong_argument { Failure::Configuration(failure) } else { Failure::work(failure) }
    })?;
    if let Some(version) = dpdk::untested_version() {
        let tested = dpdk::TESTED_RELEASES.join(", ");
        tracing::warn!("{version} has not been tested with fibcast ({tested})");
    }
    // EAL pins this thread; control and agent must not share a core with the first worker because of that.
    eal.restore_affinity();
    Ok(eal)
}

/// The configured arguments, one core, and the devices of the ports: without a list EAL takes every device that is bound to a user-space
/// driver, away from other programs. An error comes with the index of its port.
fn arguments(config: &Config) -> Result<Vec<String>, (usize, String)> {
    let mut arguments = config.eal.args.clone();
    let given = |options: &[&str]| {
        config.eal.args.iter().any(|argument| options.iter().any(|option| argument.starts_with(option)))
    };
    // Workers are our own threads: without this EAL starts one more per core.
    if !given(&CORES)
        && let Some(core) = config.workers.cores.first()
    {
        arguments.extend(["-l".to_owned(), core.to_string()]);
    }
    let on_pci: Vec<(usize, String, String)> =
        config.ports.iter().enumerate().flat_map(|(index, port)| devices(index, port)).collect();
    let without_pci = given(&["--no-pci"]);
    if let (true, Some((index, device, _))) = (without_pci, on_pci.first()) {
        let reason = format!("{device} is a PCI device, but [eal] args has --no-pci: remove it");
        return Err((*index, reason));
    }
    // Devices to ignore are the operator's choice; EAL accepts only one of the two lists.
    if without_pci || given(&BLOCK) {
        return Ok(arguments);
    }
    if on_pci.is_empty() {
        // Other devices, such as an accelerator, may be listed.
        if !given(&ALLOW) {
            arguments.push("--no-pci".to_owned());
        }
        return Ok(arguments);
    }
    for (_, name, devargs) in on_pci {
        if !config.eal.args.iter().any(|argument| argument.contains(&name)) {
            arguments.extend(["-a".to_owned(), devargs]);
        }
    }
    Ok(arguments)
}

/// PCI devices of a port with its index: name, and name with arguments.
fn devices(index: usize, port: &Port) -> Vec<(usize, String, String)> {
    match (port.device_name(), port.devargs()) {
        (Some(name), Some(devargs)) if port.is_on_pci() => vec![(index, name, devargs)],
        _ => port.members().into_iter().map(|name| (index, name.clone(), name)).collect(),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn of(args: &str, devices: &[&str]) -> Result<String, (usize, String)> {
        let mut text = format!("[node]\nname = \"nh\"\n[workers]\ncores = [3, 4]\n[eal]\nargs = [{args}]\n");
        for (index, device) in devices.iter().enumerate() {
            text += &format!("[[port]]\nname = \"p{index}\"\ndevice = \"{device}\"\n");
        }
        let loaded = fibcast_daemon::config::parse::<Config>(Path::new("test.toml"), text).unwrap();
        arguments(&loaded.value).map(|arguments| arguments.join(" "))
    }

    #[test]
    fn only_the_ports_devices_are_taken() {
        let two = ["0000:01:00.0,rx_func_vec=0", "02:00.1"];
        assert_eq!(of("", &two).unwrap(), "-l 3 -a 0000:01:00.0,rx_func_vec=0 -a 0000:02:00.1");
        assert_eq!(
            of("\"-l\", \"1\"", &["0000:01:00.0", "net_tap0,iface=x"]).unwrap(),
            "-l 1 -a 0000:01:00.0"
        );
    }

    #[test]
    fn without_pci_devices_the_bus_is_left_alone() {
        assert_eq!(of("", &["net_tap0,iface=x"]).unwrap(), "-l 3 --no-pci");
        assert_eq!(of("\"--no-pci\"", &["net_tap0"]).unwrap(), "--no-pci -l 3");
        assert_eq!(of("\"-a\", \"0000:07:00.0\"", &["net_tap0"]).unwrap(), "-a 0000:07:00.0 -l 3");
    }

    #[test]
    fn members_of_a_virtual_device_are_taken_too() {
        let bond = ["net_bonding0,mode=1,slave=0000:01:00.0,slave=02:00.0"];
        assert_eq!(of("", &bond).unwrap(), "-l 3 -a 0000:01:00.0 -a 0000:02:00.0");
        assert_eq!(of("", &["net_failsafe0,dev(0000:03:00.0)"]).unwrap(), "-l 3 -a 0000:03:00.0");
    }

    #[test]
    fn what_the_operator_chose_stays() {
        let device = ["0000:01:00.0"];
        assert_eq!(of("\"-b\", \"0000:09:00.0\"", &device).unwrap(), "-b 0000:09:00.0 -l 3");
        assert_eq!(of("\"-a\", \"0000:01:00.0,x=1\"", &device).unwrap(), "-a 0000:01:00.0,x=1 -l 3");
        assert_eq!(of("\"--allow=0000:01:00.0\"", &device).unwrap(), "--allow=0000:01:00.0 -l 3");
    }

    #[test]
    fn a_pci_port_without_the_bus_is_refused_with_its_port() {
        let (port, reason) = of("\"--no-pci\"", &["net_tap0", "0000:01:00.0"]).unwrap_err();
        assert!(port == 1 && reason.contains("0000:01:00.0") && reason.contains("--no-pci"), "{reason}");
    }
}
