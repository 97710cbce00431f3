//! What the kernel reports about a machine in /proc, /sys and /dev as far as DPDK depends on it, and how to fix what does not fit.
//!
//! | module | covers |
//! |---|---|
//! | [`pci`] | network devices, and whether a program can use one |
//! | [`bind`] | which driver has a device, now and after the next boot |
//! | [`hugepages`] | memory by page size |
//! | [`cores`] | CPU cores |
//!
//! The dataplane checks before it starts DPDK, `fibcast doctor` on an operator's request. Nothing is changed but by [`bind`]. All paths are relative to a
//! root folder, so tests can describe machines that do not exist.

pub mod bind;
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
    /// The machine that this folder describes.
    pub fn new(root: &Path) -> Machine {
        Machine { root: root.to_owned() }
    }

    /// This machine.
    pub fn here() -> Machine {
        Machine::new(Path::new("/"))
    }

    /// The file system path for a path of the machine.
    pub fn path(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// Content of a file; none if it cannot be read.
    pub fn read(&self, path: &str) -> Option<String> {
        std::fs::read_to_string(self.path(path)).ok()
    }

    /// The number in a file.
    pub fn number(&self, path: &str) -> Option<u64> {
        self.read(path)?.trim().parse().ok()
    }

    /// Sorted names in a folder; none if there is no such folder.
    pub fn names(&self, folder: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.path(folder)).into_iter().flatten().flatten();
        let mut names: Vec<String> =
            entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort_unstable();
        names
    }

    /// Last component of a symbolic link's target.
    pub fn link(&self, path: &str) -> Option<String> {
        let to = std::fs::read_link(self.path(path)).ok()?;
        Some(to.file_name()?.to_string_lossy().into_owned())
    }
}
