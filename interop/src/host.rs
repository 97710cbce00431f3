//! A host: one network namespace.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::{Lab, Process, text};

/// A host of a laboratory.
#[derive(Debug)]
pub struct Host<'l> {
    lab: &'l Lab,
    name: String,
    namespace: String,
    folder: PathBuf,
}

impl<'l> Host<'l> {
    pub(crate) fn new(lab: &'l Lab, name: &str, namespace: String, folder: PathBuf) -> Self {
        Self { lab, name: name.to_owned(), namespace, folder }
    }

    /// The laboratory.
    pub fn lab(&self) -> &'l Lab {
        self.lab
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The name of its namespace.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// A folder of its own, in which FRR may write.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Writes a file into its folder.
    pub fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.folder.join(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    /// Runs a command of the shell on it: what it printed, and whether it was content.
    pub fn try_sh(&self, command: &str) -> (bool, String) {
        let output = Command::new("ip")
            .args(["netns", "exec", &self.namespace, "timeout", "60", "bash", "-c", command])
            .stdin(Stdio::null())
            .output()
            .unwrap();
        (output.status.success(), text(&output))
    }

    /// The same, for a command that must be content.
    #[track_caller]
    pub fn sh(&self, command: &str) -> String {
        let (content, text) = self.try_sh(command);
        assert!(content, "{}: {command}: {text}", self.name);
        text
    }

    /// `ip` on it.
    #[track_caller]
    pub fn ip(&self, arguments: &str) -> String {
        self.sh(&format!("ip {arguments}"))
    }

    /// Starts a program on it, with its output in `NAME.out` of its folder.
    pub fn start(&self, name: &str, program: &Path, arguments: &[&str]) -> Process {
        let out = std::fs::File::create(self.folder.join(format!("{name}.out"))).unwrap();
        let child = Command::new("ip")
            .args(["netns", "exec", &self.namespace])
            .arg(program)
            .args(arguments)
            .env("RUNTIME_DIRECTORY", &self.folder)
            .stdin(Stdio::piped())
            .stdout(out.try_clone().unwrap())
            .stderr(out)
            .spawn()
            .unwrap();
        Process::new(name, child, self.folder.join(format!("{name}.out")))
    }
}
