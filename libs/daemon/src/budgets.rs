//! `[node.limits]`: memory in bytes that peers may use, and how long they may take nothing.

use serde::Deserialize;

use crate::config::{ConfigError, Loaded};

/// `[node.limits]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Budgets {
    /// Most bytes held for all clients: what waits to be sent to them, and their incomplete requests. Without views.
    pub clients_bytes: usize,
    /// Most bytes of memory of all views, the parts of tables that clients request.
    pub views_bytes: usize,
    /// Most bytes of memory of batches that servers have not committed yet, of all servers together. A table whose opaque records are
    /// larger cannot be copied.
    pub pending_bytes: usize,
    /// A client that takes next to nothing of what waits for it is disconnected after this time in milliseconds.
    pub progress_ms: u64,
}

impl Default for Budgets {
    fn default() -> Self {
        Self { clients_bytes: 48 << 20, views_bytes: 256 << 20, pending_bytes: 48 << 20, progress_ms: 10_000 }
    }
}

impl Budgets {
    /// Checks what types cannot express.
    ///
    /// # Errors
    /// [`ConfigError`] with file, line and key of the first invalid value.
    pub fn check<T>(&self, loaded: &Loaded<T>) -> Result<(), ConfigError> {
        const MOST: u64 = 1 << 36;
        let values = [
            ("clients_bytes", self.clients_bytes as u64, 4 << 20, MOST),
            ("views_bytes", self.views_bytes as u64, 1 << 20, MOST),
            ("pending_bytes", self.pending_bytes as u64, 8 << 20, MOST),
            ("progress_ms", self.progress_ms, 1_000, 600_000),
        ];
        for (key, found, least, most) in values {
            if !(least..=most).contains(&found) {
                let reason = format!("expected {least} to {most}, found {found}");
                return Err(loaded.error(&["node".into(), "limits".into(), key.into()], reason));
            }
        }
        Ok(())
    }
}
