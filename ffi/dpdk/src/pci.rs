//! PCI addresses as people write them, and as DPDK names devices by them.

/// A PCI address in the form in which DPDK names the device (`0000:03:00.0`), from that or without the domain (`03:00.0`); `None` for
/// other names.
pub fn pci_address(name: &str) -> Option<String> {
    let (slot, function) = name.rsplit_once('.')?;
    let mut parts = slot.rsplit(':');
    let (device, bus) = (parts.next()?, parts.next()?);
    let domain = parts.next().unwrap_or("0000");
    let hex = |text: &str, digits: usize| {
        let length = text.len();
        (length == digits && text.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some(())
    };
    if parts.next().is_some() || !matches!(domain.len(), 4..=8) {
        return None;
    }
    hex(domain, domain.len()).and(hex(bus, 2)).and(hex(device, 2)).and(hex(function, 1))?;
    Some(format!("{domain}:{bus}:{device}.{function}").to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_gets_its_domain_and_lower_case() {
        for (written, named) in [
            ("0000:03:00.0", "0000:03:00.0"),
            ("03:00.1", "0000:03:00.1"),
            ("0001:AF:1F.7", "0001:af:1f.7"),
            ("10000:e1:00.0", "10000:e1:00.0"),
        ] {
            assert_eq!(pci_address(written).as_deref(), Some(named));
        }
    }

    #[test]
    fn names_of_virtual_devices_are_none() {
        for name in [
            "net_tap0",
            "net_pcap0",
            "",
            ".",
            "03:00",
            "3:00.0",
            "xx:00.0",
            "0:0000:03:00.0",
            "03:00.10",
            "eth0.100",
        ] {
            assert_eq!(pci_address(name), None, "{name:?}");
        }
    }
}
