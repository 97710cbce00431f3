//! `[workers]`: poll-mode workers.

use std::collections::HashSet;

use fibcast_daemon::config::{ConfigError, Loaded, Step};
use serde::Deserialize;

use super::Config;
use crate::worker::idle::Policy;

/// Most workers; more than one machine has cores for.
const MAX_WORKERS: usize = 64;

/// `[workers]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Workers {
    /// CPU cores; one worker runs on each.
    pub cores: Vec<usize>,
    /// What workers do without traffic.
    #[serde(default)]
    pub idle: Policy,
    /// Software RSS: whether flows of a port with fewer receive queues than workers are spread over all workers.
    #[serde(default)]
    pub spread: SoftwareRssPolicy,
    /// Most packets that wait for each transmit queue whose device takes no more.
    #[serde(default = "Workers::default_backlog")]
    pub tx_backlog: usize,
}

/// Software RSS: whether the worker that polls a queue shares its flows with the other workers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SoftwareRssPolicy {
    /// Only if some worker would have no queue at all.
    #[default]
    Auto,
    /// For each port that has fewer queues than there are workers.
    On,
    /// Never: the worker that polls a queue handles all of its packets.
    Off,
}

impl Workers {
    fn default_backlog() -> usize {
        2_048
    }
}

impl Config {
    pub(super) fn check_workers(&self, loaded: &Loaded<Config>) -> Result<(), ConfigError> {
        let cores = &self.workers.cores;
        let key = [Step::Key("workers"), Step::Key("cores")];
        if cores.is_empty() || cores.len() > MAX_WORKERS {
            let found = cores.len();
            return Err(loaded.error(&key, format!("expected 1 to {MAX_WORKERS} cores, found {found}")));
        }
        let mut seen = HashSet::new();
        if let Some(core) = cores.iter().find(|core| !seen.insert(**core)) {
            return Err(
                loaded.error(&key, format!("core {core} is listed twice: each worker needs its own core"))
            );
        }
        if !(64..=65_536).contains(&self.workers.tx_backlog) {
            let found = self.workers.tx_backlog;
            return Err(loaded.error(
                &[Step::Key("workers"), Step::Key("tx_backlog")],
                format!("expected 64 to 65536 packets, found {found}"),
            ));
        }
        Ok(())
    }
}
