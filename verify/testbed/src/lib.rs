//! What tests, benchmarks, the demo and containers have in common: whole systems on one machine, and the tables and packets for them.
//!
//! | module | what it does |
//! |---|---|
//! | [`process`] | starts programs with a log, stops and kills them; finds programs and free ports |
//! | [`ptrace`] | stops single threads |
//! | [`wait`] | waits with a bound |
//! | [`netns`] | network namespaces, and links between them |
//! | [`config`] | configuration files of our daemons; the LANs with all next hops |
//! | [`node`] | one of our daemons, until it answers |
//! | [`frr`], [`bird`] | routing daemons that are not ours |
//! | [`tablegen`] | tables of real prefixes with next hops, and their changes |
//! | [`internet`] | such a table in files, and who tells it by BGP |
//! | [`pcap`] | files of frames |
//! | [`pki`] | certificates |
//! | [`expiry`] | what daemons say about those that expire |
//!
//! Programs: `fibcast-tablegen` writes tables and changes as MRT files, `fibcast-bgp-player` tells them by BGP, `fibcast-nodeconfig` prints
//! configuration files for shell scripts, `fibcast-chaos` does harm to running daemons.
//!
//! Functions return a [`Failure`], so that a program can say what is missing; those that only tests call panic, and say so.

pub mod bird;
pub mod config;
pub mod expiry;
pub mod frr;
pub mod internet;
pub mod netns;
pub mod node;
pub mod pcap;
pub mod pki;
pub mod process;
pub mod ptrace;
pub mod tablegen;
pub mod wait;

pub use bird::Bird;
pub use frr::Frr;
pub use internet::Internet;
pub use netns::{Namespace, Namespaces};
pub use node::Node;
pub use process::Process;

use std::fmt::Display;
use std::time::Duration;

/// What a part of a system could not do.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// A program is not where it should be.
    #[error(
        "{0} is not there; `make build` makes programs of the project, `scripts/setup interop` installs others"
    )]
    Missing(String),
    /// A command did not end well.
    #[error("{command}: {}", output.trim())]
    Command {
        /// The command.
        command: String,
        /// What it printed.
        output: String,
    },
    /// A program that should run has ended.
    #[error("{name} ended ({status}):\n{log}")]
    Ended {
        /// Its name.
        name: String,
        /// How it ended.
        status: String,
        /// The end of its log.
        log: String,
    },
    /// Something did not come true.
    #[error("not within {} s: {what}", within.as_secs())]
    Late {
        /// What.
        what: String,
        /// The time that it had.
        within: Duration,
    },
    /// The system refused.
    #[error("{what}: {source}")]
    Io {
        /// The file or program.
        what: String,
        /// The system's error.
        source: std::io::Error,
    },
}

impl Failure {
    /// An error of the system, and what it is about.
    pub fn io(what: impl Display, source: std::io::Error) -> Failure {
        Failure::Io { what: what.to_string(), source }
    }
}

/// For programs whose errors are lines.
impl From<Failure> for String {
    fn from(failure: Failure) -> String {
        failure.to_string()
    }
}
