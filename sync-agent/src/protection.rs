//! What protects a node's connections and digests: certificates with allow lists, and digest keys. A reload reads both before either is in
//! force.

use std::sync::Arc;

use fibcast_daemon::config::Loaded;
use fibcast_daemon::exit::Failure;
use fibcast_daemon::sections::{Node, Tls};
use fibcast_sync_proto::DigestKeys;

use crate::digest_key::KeyFile;
use crate::shell::tls::{NewRules, Security};

/// What is in force. Clones share it.
#[derive(Debug, Clone)]
pub struct Protection {
    /// Certificates and allow lists; none for plain TCP.
    pub security: Option<Arc<Security>>,
    /// Keys of the tables' digests.
    pub keys: KeyFile,
}

/// What was read by a reload.
#[derive(Debug)]
pub struct NewProtection {
    rules: Option<NewRules>,
    keys: DigestKeys,
}

impl Protection {
    /// Reads the files at a daemon's start. Logs what is not protected.
    ///
    /// # Errors
    /// [`Failure`] if a file cannot be used.
    pub fn open(node: &Node, tls: &Tls) -> Result<Self, Failure> {
        tls.warn();
        let security = Security::load(tls, &node.name).map_err(Failure::work)?;
        Ok(Self { security, keys: KeyFile::open(node, tls)? })
    }

    /// Reads the files again, with `[tls]` of a new version of the configuration. Nothing changes before [`Self::replace`].
    ///
    /// # Errors
    /// What cannot be used, with file, line and key.
    pub fn read<T>(&self, loaded: &Loaded<T>, tls: &Tls) -> Result<NewProtection, String> {
        let rules = self.security.as_ref().map(|security| security.read(tls)).transpose();
        let rules = rules.map_err(|error| error.within(loaded).to_string())?;
        Ok(NewProtection { rules, keys: self.keys.read().map_err(|error| error.to_string())? })
    }

    /// Puts in force what was read; says what that is.
    pub fn replace(&self, new: NewProtection) -> Vec<String> {
        let mut done = Vec::new();
        if let (Some(security), Some(rules)) = (&self.security, new.rules) {
            security.replace(rules);
            done.push(
                "allow lists and certificates: read again, live sessions are judged by them".to_owned(),
            );
        }
        if self.keys.replace(new.keys) {
            done.push(format!("digest keys: {}", self.keys.keys()));
        }
        done
    }
}
