//! What a daemon says about itself: its version and its running configuration.

use serde::{Deserialize, Serialize};

use crate::protocol::OwnRoute;

/// A program, and how it was built.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// Name of the program: `fibcast`, `fibcast-route-server`, …
    pub program: String,
    /// Name of the node; none for the command.
    #[serde(default)]
    pub node: Option<String>,
    /// Its version.
    pub version: String,
    /// The commit it was built from, if the build was told.
    #[serde(default)]
    pub commit: Option<String>,
    /// `release` or `debug`.
    #[serde(default)]
    pub profile: Option<String>,
    /// Target triple of the compiler.
    #[serde(default)]
    pub target: Option<String>,
    /// Version of the Rust compiler.
    #[serde(default)]
    pub rustc: Option<String>,
    /// Libraries that it is linked with at run time, each with its version: `DPDK 22.11.11`.
    #[serde(default)]
    pub libraries: Vec<String>,
}

impl Version {
    /// That of the running program, whose crates are all built together.
    pub fn of_this(program: &str) -> Self {
        let known = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        Self {
            program: program.to_owned(),
            node: None,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            commit: option_env!("FIBCAST_COMMIT").and_then(known),
            profile: known(env!("FIBCAST_PROFILE")),
            target: known(env!("FIBCAST_TARGET")),
            rustc: known(env!("FIBCAST_RUSTC")),
            libraries: Vec::new(),
        }
    }
}

/// The configuration that a daemon runs by: its file as of the start or the last reload, and what an operator changed since then.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunningConfig {
    /// The file that it was read from.
    pub path: String,
    /// It as TOML, without comments. Files with keys are named and not read, so there are no secrets in it.
    pub toml: String,
    /// The same as an object, without what follows.
    pub config: serde_json::Value,
    /// Dataplane: routes of operators that are saved in a file of their own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub saved_routes: Vec<OwnRoute>,
    /// Dataplane: routes of operators until the next start.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub temporary_routes: Vec<OwnRoute>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_knows_how_it_was_built() {
        let version = Version::of_this("fibcast");
        assert_eq!(version.version, env!("CARGO_PKG_VERSION"));
        assert!(["debug", "release"].contains(&version.profile.as_deref().unwrap()));
        assert!(version.target.unwrap().contains("linux"));
        assert!(version.rustc.unwrap().starts_with("1."));
    }
}
