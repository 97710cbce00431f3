//! The rule of `/healthz`.

use fibcast_control::status::Status;

/// Whether the node serves and forwards by a capable server's table.
///
/// # Errors
/// The reason why it does not, for the operator.
pub fn check(status: &Status) -> Result<(), String> {
    if let Some(forwarding) = &status.forwarding {
        if forwarding.workers_stalled != 0 {
            return Err(format!("{} workers are stalled", forwarding.workers_stalled));
        }
        if let Some(error) = &forwarding.apply_error {
            return Err(format!("a batch cannot be applied, the table is kept as it was: {error}"));
        }
    }
    if let Some(stalled) = status.sync.as_ref().and_then(|sync| sync.stalled.as_ref()) {
        return Err(format!("stalled: {stalled}, the table is kept as it was"));
    }
    match (status.ready, status.stale) {
        (true, false) => Ok(()),
        (_, true) => Err("stale: no capable server, the table is kept as it was".into()),
        (false, false) => Err("not ready".into()),
    }
}
