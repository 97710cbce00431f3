//! The real Internet's prefixes with next hops by a rule, and changes of them, in files; and a BGP speaker that tells both.

use std::path::{Path, PathBuf};

use crate::process::{command, run};
use crate::{Failure, Namespace, Process};

/// Routes of an [`Internet`].
pub const ROUTES: u64 = 901_899 + 160_147;

/// What `fibcast-tablegen` makes.
#[derive(Debug)]
pub struct Internet {
    /// The table (MRT).
    pub table: PathBuf,
    /// The changes (MRT).
    pub updates: PathBuf,
}

impl Internet {
    /// The full table of both families, of a list of `data/`, and changes in phases such as `500/s:30s`, written to a folder.
    ///
    /// # Errors
    /// The program in the folder `programs` fails.
    pub fn make(programs: &Path, data: &Path, folder: &Path, phases: &[String]) -> Result<Internet, Failure> {
        let path = |folder: &Path, file: &str| folder.join(file).display().to_string();
        let prefixes = path(data, "full-table-2024.prefixes.txt.gz");
        let (table, updates) = (path(folder, "table.mrt"), path(folder, "updates.mrt"));
        let mut arguments = vec!["--prefixes", &prefixes, "--table", &table, "--updates", &updates];
        phases.iter().for_each(|phase| arguments.extend(["--phase", phase]));
        run(&path(programs, "fibcast-tablegen"), &arguments)?;
        Ok(Internet { table: table.into(), updates: updates.into() })
    }

    /// Keys of a `[[source]]` with the same routes, and further ones.
    pub fn source(&self, keys: &str) -> String {
        format!("kind = \"mrt\"\npath = \"{}\"\n{keys}\n", self.table.display())
    }

    /// Starts a BGP speaker on a host, which dials these neighbors. [`tell`](Process::tell) it a line with the Unix time at which changes begin.
    ///
    /// # Errors
    /// The program is not in the folder `programs`, or cannot be started.
    pub fn speaker<A: AsRef<str>>(
        &self,
        programs: &Path,
        host: &Namespace,
        folder: &Path,
        neighbors: impl IntoIterator<Item = A>,
    ) -> Result<Process, Failure> {
        let mut command = command(&programs.join("fibcast-bgp-player"), Some(host.name()))?;
        command.arg("--table").arg(&self.table).arg("--updates").arg(&self.updates);
        neighbors.into_iter().for_each(|neighbor| _ = command.args(["--neighbor", neighbor.as_ref()]));
        Process::start("speaker", command, folder)
    }
}
