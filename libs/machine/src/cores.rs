//! CPU cores.

use crate::Machine;

impl Machine {
    /// Numbers of the online CPU cores; none if the kernel does not report them.
    pub fn online_cores(&self) -> Option<Vec<usize>> {
        list(self.read("/sys/devices/system/cpu/online")?.trim())
    }
}

/// Parses the kernel's list format: `0-3,8`. None if it is invalid.
fn list(text: &str) -> Option<Vec<usize>> {
    let mut all = Vec::new();
    for part in text.split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        all.extend(first..=last);
    }
    Some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_has_numbers_and_ranges() {
        assert_eq!(list("0-3,8"), Some(vec![0, 1, 2, 3, 8]));
        assert_eq!(list("0"), Some(vec![0]));
        assert_eq!(list("all"), None);
    }
}
