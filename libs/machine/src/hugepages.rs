//! Hugepages: the memory for packet buffers that devices access by DMA.

use crate::Machine;

/// MiB of hugepages that the ports of `packaging/examples/dataplane.toml` need. Documents and `fibcast doctor` recommend it if no other
/// configuration is known. A test of the dataplane computes it.
pub const EXAMPLE_MIB: u64 = 52;

/// Hugepages of one size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pages {
    /// Size of one page in KiB.
    pub kib: u64,
    /// Number of pages.
    pub total: u64,
    /// Number of pages that can still be allocated.
    pub free: u64,
    /// Whether this is the default size (`vm.nr_hugepages`); a boot parameter may select another than 2 MiB.
    pub is_default: bool,
}

impl Machine {
    /// All sizes, smallest first.
    pub fn hugepages(&self) -> Vec<Pages> {
        const FOLDER: &str = "/sys/kernel/mm/hugepages";
        let meminfo = self.read("/proc/meminfo").unwrap_or_default();
        let default = meminfo.lines().find_map(|line| line.strip_prefix("Hugepagesize:"));
        let default = default.and_then(|text| text.split_whitespace().next()?.parse().ok()).unwrap_or(2_048);
        let size = |name: &String| name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok();
        let one = |name: &String| {
            let count = |file: &str| self.number(&format!("{FOLDER}/{name}/{file}")).unwrap_or(0);
            // A reserved page is free but promised to a process; the kernel may create further pages up to the overcommit limit.
            let more = count("nr_overcommit_hugepages").saturating_sub(count("surplus_hugepages"));
            let free = count("free_hugepages").saturating_sub(count("resv_hugepages")) + more;
            let kib = size(name)?;
            Some(Pages { kib, total: count("nr_hugepages"), free, is_default: kib == default })
        };
        let mut all: Vec<Pages> = self.names(FOLDER).iter().filter_map(one).collect();
        all.sort_unstable_by_key(|pages| pages.kib);
        all
    }

    /// Whether a hugetlbfs is mounted.
    pub fn hugetlbfs_is_mounted(&self) -> bool {
        let text = self.read("/proc/mounts").unwrap_or_default();
        text.lines().any(|line| line.split_whitespace().nth(2) == Some("hugetlbfs"))
    }

    /// Hugepages of a process in KiB.
    pub fn hugepages_of(&self, pid: u32) -> Option<u64> {
        let text = self.read(&format!("/proc/{pid}/status"))?;
        let line = text.lines().find_map(|line| line.strip_prefix("HugetlbPages:"))?;
        line.split_whitespace().next()?.parse().ok()
    }
}

/// Free hugepages of all sizes in KiB.
pub fn free_kib(all: &[Pages]) -> u64 {
    all.iter().map(|pages| pages.kib * pages.free).sum()
}

/// Hugepages of all sizes in KiB, free or not.
pub fn total_kib(all: &[Pages]) -> u64 {
    all.iter().map(|pages| pages.kib * pages.total).sum()
}

/// The command that reserves `kib` more than is in use now; it never removes pages.
pub fn how_to_reserve(all: &[Pages], kib: u64) -> String {
    let Some(smallest) = all.first().filter(|pages| pages.kib > 0) else {
        return "use a kernel with hugepages (CONFIG_HUGETLBFS)".to_owned();
    };
    let in_use = smallest.total.saturating_sub(smallest.free);
    let wanted = (in_use + kib.div_ceil(smallest.kib)).max(smallest.total);
    // vm.nr_hugepages refers to the default size, which a boot parameter may change.
    let file = format!("/sys/kernel/mm/hugepages/hugepages-{}kB/nr_hugepages", smallest.kib);
    if smallest.is_default {
        format!("sysctl -w vm.nr_hugepages={wanted}")
    } else {
        format!("echo {wanted} > {file}")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn machine(files: &[(&str, &str)]) -> (tempfile::TempDir, Machine) {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let machine = Machine::new(root.path());
        (root, machine)
    }

    #[test]
    fn pages_that_are_promised_are_not_free() {
        let (_root, machine) = machine(&[
            ("sys/kernel/mm/hugepages/hugepages-1048576kB/nr_hugepages", "0\n"),
            ("sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages", "512\n"),
            ("sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", "500\n"),
            ("sys/kernel/mm/hugepages/hugepages-2048kB/resv_hugepages", "30\n"),
            ("proc/7/status", "Name:\tx\nHugetlbPages:\t   65536 kB\n"),
            ("proc/mounts", "none /mnt ext4 rw 0 0\n"),
        ]);
        let all = machine.hugepages();
        assert_eq!(all[0], Pages { kib: 2_048, total: 512, free: 470, is_default: true });
        assert_eq!((all[1].kib, free_kib(&all)), (1 << 20, 470 * 2_048));
        assert_eq!((machine.hugepages_of(7), machine.hugepages_of(8)), (Some(65_536), None));
        assert!(!machine.hugetlbfs_is_mounted());
    }

    #[test]
    fn advice_names_the_size_where_another_one_is_the_default() {
        let (_root, machine) = machine(&[
            ("sys/kernel/mm/hugepages/hugepages-1048576kB/nr_hugepages", "0\n"),
            ("sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages", "0\n"),
            ("proc/meminfo", "MemTotal: 1 kB\nHugepagesize:    1048576 kB\n"),
        ]);
        let advice = how_to_reserve(&machine.hugepages(), 52 << 10);
        assert_eq!(advice, "echo 26 > /sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages");
    }

    #[test]
    fn advice_counts_what_others_use_and_never_lowers() {
        let pages = |total, free| [Pages { kib: 2_048, total, free, is_default: true }];
        assert_eq!(how_to_reserve(&pages(0, 0), 64 << 10), "sysctl -w vm.nr_hugepages=32");
        assert_eq!(how_to_reserve(&pages(100, 10), 64 << 10), "sysctl -w vm.nr_hugepages=122");
        assert_eq!(how_to_reserve(&pages(1_000, 900), 64 << 10), "sysctl -w vm.nr_hugepages=1000");
        let gigantic = [Pages { kib: 1 << 20, total: 0, free: 0, is_default: false }];
        assert!(
            how_to_reserve(&gigantic, 1).starts_with("echo 1 > /sys/kernel/mm/hugepages/hugepages-1048576kB")
        );
    }
}
