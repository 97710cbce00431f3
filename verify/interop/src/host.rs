//! A host: one network namespace, with a folder of its own.

use std::path::{Path, PathBuf};

use fibcast_testbed::process::command;
use fibcast_testbed::{Bird, Frr, Namespace, Process};

use crate::Lab;

/// For so long a new zebra keeps routes of the one before that nobody claims; shorter than docs/frr.md says.
pub const RETAIN_S: u32 = 8;

/// A host of a laboratory.
#[derive(Debug)]
pub struct Host<'l> {
    lab: &'l Lab,
    namespace: Namespace,
    folder: PathBuf,
}

impl<'l> Host<'l> {
    pub(crate) fn new(lab: &'l Lab, namespace: Namespace, folder: PathBuf) -> Self {
        Self { lab, namespace, folder }
    }

    /// The laboratory.
    pub fn lab(&self) -> &'l Lab {
        self.lab
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.namespace.host()
    }

    /// Its namespace.
    pub fn namespace(&self) -> &Namespace {
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
        self.namespace.try_sh(command)
    }

    /// The same, for a command that must be content.
    #[track_caller]
    pub fn sh(&self, command: &str) -> String {
        self.namespace.sh(command).unwrap_or_else(|failure| panic!("{failure}"))
    }

    /// `ip` on it.
    #[track_caller]
    pub fn ip(&self, arguments: &str) -> String {
        self.namespace.ip(arguments).unwrap_or_else(|failure| panic!("{failure}"))
    }

    /// Starts a program on it, with its output in `NAME.log` of its folder.
    pub fn start(&self, name: &str, program: &Path, arguments: &[&str]) -> Process {
        let mut command = command(program, Some(self.namespace.name())).unwrap();
        command.args(arguments);
        Process::start(name, command, &self.folder).unwrap()
    }

    /// Starts zebra and other daemons of FRR, and gives them an `frr.conf`.
    pub fn frr(&self, daemons: &[&str], conf: &str) -> Frr {
        self.frr_with(daemons, conf, &[])
    }

    /// The same with further options of zebra.
    pub fn frr_with(&self, daemons: &[&str], conf: &str, zebra: &[&str]) -> Frr {
        let frr = Frr::new(&self.namespace, self.folder.join("frr"), conf).unwrap();
        let frr = frr.with_zebra_options(zebra);
        let others = daemons.iter().filter(|daemon| **daemon != "zebra");
        ["zebra"].iter().chain(others).for_each(|daemon| frr.start(daemon, RETAIN_S).unwrap());
        frr.configure().unwrap();
        frr
    }

    /// Starts BIRD with a configuration.
    pub fn bird(&self, conf: &str) -> Bird {
        let mut bird = Bird::new(&self.namespace, &self.folder, conf).unwrap();
        bird.start();
        bird
    }
}
