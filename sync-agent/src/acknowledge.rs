//! `[acknowledge]` of the configuration of relays and route servers, and how operators see what it decides.

use std::time::Duration;

use fibcast_control::status::{AcknowledgeNode, AcknowledgeStatus, RefusedRoute};
use fibcast_daemon::config::{ConfigError, Loaded};
use fibcast_sync_proto::acknowledge::{
    Acknowledge, AcknowledgeEvent, NodeState, OnTimeout, Policy, Require, Standing,
};
use fibcast_sync_proto::refusal::{Reason, RouteKey};
use fibcast_sync_proto::server::SessionId;
use serde::Deserialize;

/// Refused routes of a node that operators see.
const SHOWN: usize = 5;

/// `[acknowledge]`: which clients must forward by a change before it counts as installed.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AcknowledgeKeys {
    /// `"all"`, `"primary-tier"`, or a list of node names, each with at most one `*`.
    pub require: RequireKey,
    /// Percentage of the counting nodes.
    pub quorum: u8,
    /// Longest wait in milliseconds; 0: no limit.
    pub timeout_ms: u64,
    /// `"announce"` or `"hold"`.
    pub on_timeout: OnTimeoutKey,
    /// How long a node whose connection is lost counts, in milliseconds.
    pub grace_ms: u64,
}

/// `require`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum RequireKey {
    /// A word.
    Word(String),
    /// Names of nodes.
    Names(Vec<String>),
}

/// `on_timeout`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnTimeoutKey {
    /// Acknowledge without the nodes that are missing.
    Announce,
    /// Keep waiting.
    Hold,
}

impl Default for AcknowledgeKeys {
    fn default() -> Self {
        Self {
            require: RequireKey::Word("all".into()),
            quorum: 100,
            timeout_ms: 10_000,
            on_timeout: OnTimeoutKey::Announce,
            grace_ms: 5_000,
        }
    }
}

impl AcknowledgeKeys {
    /// Checks what types cannot express.
    ///
    /// # Errors
    /// [`ConfigError`] with file, line and key of the first invalid value.
    pub fn check<T>(&self, loaded: &Loaded<T>) -> Result<(), ConfigError> {
        let error =
            |key: &str, reason: String| Err(loaded.error(&["acknowledge".into(), key.into()], reason));
        match &self.require {
            RequireKey::Word(word) if word == "all" || word == "primary-tier" => {}
            RequireKey::Word(word) => {
                let expected = "expected \"all\", \"primary-tier\" or a list of node names";
                return error("require", format!("{expected}, found {word:?}"));
            }
            RequireKey::Names(names) if names.is_empty() => {
                return error("require", "expected at least one node name, found none".into());
            }
            RequireKey::Names(names) => {
                for name in names {
                    if name.is_empty() || name.len() > 64 || name.matches('*').count() > 1 {
                        let expected = "expected a node name of at most 64 bytes with at most one *";
                        return error("require", format!("{expected}, found {name:?}"));
                    }
                }
            }
        }
        if !(1..=100).contains(&self.quorum) {
            return error("quorum", format!("expected 1 to 100 percent, found {}", self.quorum));
        }
        if self.timeout_ms != 0 && !(100..=3_600_000).contains(&self.timeout_ms) {
            let found = self.timeout_ms;
            return error("timeout_ms", format!("expected 0 for no limit, or 100 to 3600000, found {found}"));
        }
        if self.grace_ms > 3_600_000 {
            return error("grace_ms", format!("expected at most 3600000, found {}", self.grace_ms));
        }
        Ok(())
    }

    /// The policy of a section that passed [`Self::check`].
    pub fn policy(&self) -> Policy {
        Policy {
            require: match &self.require {
                RequireKey::Names(names) => Require::Names(names.clone()),
                RequireKey::Word(word) if word == "primary-tier" => Require::PrimaryTier,
                RequireKey::Word(_) => Require::All,
            },
            quorum: self.quorum,
            timeout: (self.timeout_ms > 0).then(|| Duration::from_millis(self.timeout_ms)),
            on_timeout: match self.on_timeout {
                OnTimeoutKey::Announce => OnTimeout::Announce,
                OnTimeoutKey::Hold => OnTimeout::Hold,
            },
            grace: Duration::from_millis(self.grace_ms),
        }
    }
}

/// What operators see; `serial` is the table's.
pub fn status(now: Duration, acknowledge: &Acknowledge, serial: u64) -> AcknowledgeStatus {
    let age = |at: Duration| now.saturating_sub(at).as_millis() as u64;
    let node = |(name, node): (&str, &NodeState)| AcknowledgeNode {
        name: name.to_owned(),
        state: match node.standing {
            Standing::Counts => "counts",
            Standing::Lost(_) => "lost",
            Standing::Joining => "joining",
            Standing::Gone => "gone",
            Standing::NotRequired => "not required",
        }
        .to_owned(),
        installed: node.installed,
        age_ms: age(node.at),
        refused: node.refused().len() as u64 + node.more_refused(),
    };
    AcknowledgeStatus {
        acknowledged: acknowledge.acknowledged(),
        behind: serial.saturating_sub(acknowledge.acknowledged()),
        waiting_ms: acknowledge.waiting_since().map(age),
        timeouts: acknowledge.timeouts(),
        refused: acknowledge.refused().len() as u64,
        nodes: acknowledge.nodes().map(node).collect(),
    }
}

/// The number of routes that a session's client does not forward by, and the first of them.
pub fn refused_by(acknowledge: &Acknowledge, session: SessionId) -> (u64, Vec<RefusedRoute>) {
    let node = acknowledge.nodes().map(|(_, node)| node).find(|node| node.session() == Some(session));
    let show = |(key, reason): (&RouteKey, &Reason)| {
        let (vrf, prefix) = *key;
        RefusedRoute { vrf, prefix, reason: reason.to_string() }
    };
    let number = |node: &NodeState| node.refused().len() as u64 + node.more_refused();
    node.map(|node| (number(node), node.refused().iter().take(SHOWN).map(show).collect())).unwrap_or_default()
}

/// Logs what happened to the clients downstream.
pub fn log(event: &AcknowledgeEvent) {
    match event {
        AcknowledgeEvent::Left(name) => tracing::warn!(
            "{name}: its connection is lost for longer than acknowledge.grace_ms; changes no longer wait for it"
        ),
        AcknowledgeEvent::Joined(name) => {
            tracing::info!("{name}: it has installed what is acknowledged; changes wait for it from now on");
        }
        AcknowledgeEvent::TimedOut { serial, nodes, announced } => {
            let then = if *announced { "acknowledged without them" } else { "held back" };
            let nodes = if nodes.is_empty() { "no node".to_owned() } else { nodes.join(", ") };
            tracing::warn!("serial {serial}: not installed by {nodes} within acknowledge.timeout_ms; {then}");
        }
        AcknowledgeEvent::CaughtUp => tracing::info!("the required nodes have installed everything again"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    struct File {
        acknowledge: AcknowledgeKeys,
    }

    fn check(lines: &str) -> Result<Policy, String> {
        let text = format!("[acknowledge]\n{lines}\n");
        let loaded =
            fibcast_daemon::config::parse::<File>("x.toml".as_ref(), text).map_err(|e| e.to_string())?;
        loaded.value.acknowledge.check(&loaded).map_err(|e| e.to_string())?;
        Ok(loaded.value.acknowledge.policy())
    }

    #[test]
    fn an_empty_section_waits_for_all_and_announces_after_ten_seconds() {
        assert_eq!(check(""), Ok(Policy::default()));
        let policy = check("require = [\"nh-*\"]\ntimeout_ms = 0\non_timeout = \"hold\"").unwrap();
        assert_eq!(policy.require, Require::Names(vec!["nh-*".into()]));
        assert_eq!((policy.timeout, policy.on_timeout), (None, OnTimeout::Hold));
        assert_eq!(check("require = \"primary-tier\"").unwrap().require, Require::PrimaryTier);
    }

    #[test]
    fn errors_name_file_line_and_key() {
        for (lines, expected) in [
            ("require = \"some\"", "x.toml:2: acknowledge.require: expected \"all\", \"primary-tier\""),
            ("require = []", "x.toml:2: acknowledge.require: expected at least one node name"),
            ("require = [\"*-*\"]", "x.toml:2: acknowledge.require: expected a node name of at most 64"),
            ("quorum = 0", "x.toml:2: acknowledge.quorum: expected 1 to 100 percent, found 0"),
            ("quorum = 101", "x.toml:2: acknowledge.quorum: expected 1 to 100 percent, found 101"),
            ("timeout_ms = 5", "x.toml:2: acknowledge.timeout_ms: expected 0 for no limit"),
            ("\ngrace_ms = 9999999", "x.toml:3: acknowledge.grace_ms: expected at most 3600000"),
        ] {
            let error = check(lines).unwrap_err();
            assert!(error.starts_with(expected), "{error}");
        }
        assert!(check("on_timeout = \"maybe\"").unwrap_err().contains("x.toml:2: acknowledge.on_timeout"));
    }
}
