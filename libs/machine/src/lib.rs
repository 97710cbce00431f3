//! What the kernel tells about a machine in /proc, /sys and /dev, as far as DPDK depends on it, and what to do where it does not fit.
//!
//! * [`pci`]: network devices, and whether a program can take one;
//! * [`hugepages`]: how much memory of what size;
//! * [`cores`]: which processors there are.
//!
//! The dataplane looks before it starts DPDK, `fibcast doctor` when an operator asks. Nothing is changed. All paths are below a root folder,
//! so that tests show made-up machines.

pub mod cores;
pub mod hugepages;
pub mod pci;

use std::path::{Path, PathBuf};

/// A machine under a root folder.
#[derive(Debug, Clone)]
pub struct Machine {
    root: PathBuf,
}

impl Machine {
    /// As it is shown below this folder.
    pub fn new(root: &Path) -> Machine {
        Machine { root: root.to_owned() }
    }

    /// This machine.
    pub fn here() -> Machine {
        Machine::new(Path::new("/"))
    }

    /// Where a path of the machine is.
    pub fn path(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// The text of a file; none where it cannot be read.
    pub fn read(&self, path: &str) -> Option<String> {
        std::fs::read_to_string(self.path(path)).ok()
    }

    /// The number in a file.
    pub fn number(&self, path: &str) -> Option<u64> {
        self.read(path)?.trim().parse().ok()
    }

    /// The names in a folder, in order; none where there is no such folder.
    pub fn names(&self, folder: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.path(folder)).into_iter().flatten().flatten();
        let mut names: Vec<String> =
            entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort_unstable();
        names
    }

    /// The last part of where a symbolic link leads.
    pub fn link(&self, path: &str) -> Option<String> {
        let to = std::fs::read_link(self.path(path)).ok()?;
        Some(to.file_name()?.to_string_lossy().into_owned())
    }
}
