//! The rule of `/healthz`.
//!
//! Healthy means that everything on the way of a route and a packet works by what it says itself: threads that beat, a table that a capable
//! server vouches for, a sink that has all of it. What is not known counts as broken, and each reason names what to look at.

use fibcast_control::status::{
    ForwardingStatus, KernelStatus, Kind, SourceStatus, Status, ThreadState, ThreadStatus,
};

/// A kernel table that lacks the changes of a batch for longer than this is behind.
const KERNEL_LATE_MS: u64 = 3_000;

/// Whether the node serves and forwards by a capable server's table.
///
/// # Errors
/// The reason why it does not, for the operator.
pub fn check(status: &Status) -> Result<(), String> {
    threads(&status.threads)?;
    match (&status.forwarding, status.kind) {
        (Some(known), _) => forwarding(known)?,
        (None, Kind::Dataplane) => return Err("the control thread does not say how it forwards".into()),
        (None, _) => {}
    }
    status.kernel.iter().try_for_each(kernel)?;
    status.sources.iter().try_for_each(source)?;
    if let Some(stalled) = status.sync.as_ref().and_then(|sync| sync.stalled.as_ref()) {
        return Err(format!("stalled: {stalled}, the table is kept as it was"));
    }
    match (status.ready, status.stale) {
        (true, false) => Ok(()),
        (_, true) => Err("stale: no capable server, the table is kept as it was".into()),
        (false, false) => Err("not ready".into()),
    }
}

/// Whether all threads on the way of a route or a packet make progress.
///
/// # Errors
/// Those that do not, with their age.
pub fn threads(threads: &[ThreadStatus]) -> Result<(), String> {
    if threads.is_empty() {
        return Err("no thread's heartbeat is known".into());
    }
    let unwell = threads.iter().filter(|thread| thread.essential).filter_map(|thread| match thread.state {
        ThreadState::Running => None,
        ThreadState::Stalled => {
            let age = thread.age_ms as f64 / 1_000.0;
            Some(format!("thread {} has made no progress for {age:.1} s", thread.name))
        }
        ThreadState::Panicked => {
            let text = thread.last_panic.as_deref().unwrap_or_default();
            Some(format!("thread {} panicked: {text}", thread.name))
        }
    });
    let unwell: Vec<String> = unwell.collect();
    if unwell.is_empty() { Ok(()) } else { Err(unwell.join("; ")) }
}

fn forwarding(forwarding: &ForwardingStatus) -> Result<(), String> {
    if forwarding.workers_stalled != 0 {
        return Err(format!("{} workers are stalled", forwarding.workers_stalled));
    }
    match &forwarding.apply_error {
        Some(error) => Err(format!("a batch cannot be applied, the table is kept as it was: {error}")),
        None => Ok(()),
    }
}

fn kernel(kernel: &KernelStatus) -> Result<(), String> {
    if kernel.refused != 0 && !kernel.refusals_accepted {
        let reason = kernel.last_refusal.as_deref().unwrap_or("no reason known");
        return Err(format!(
            "the kernel refuses {} routes, for example {reason} (fine here? [kernel] accept_refused = true)",
            kernel.refused
        ));
    }
    if kernel.own_gateway != 0 && !kernel.refusals_accepted {
        let example = kernel.own_gateway_example.as_deref().unwrap_or("none known");
        return Err(format!(
            "{} routes have a gateway that is an address of this host, for example {example} (fine here? [kernel] accept_refused = true)",
            kernel.own_gateway
        ));
    }
    if kernel.shadowed != 0 && !kernel.shadows_accepted {
        let example = kernel.shadow.as_deref().unwrap_or("none known");
        return Err(format!(
            "{} routes are shadowed by routes of others, for example {example} (fine here? [kernel] accept_shadowed = true)",
            kernel.shadowed
        ));
    }
    match kernel.busy_ms {
        late if late > KERNEL_LATE_MS => Err(format!(
            "kernel table {} lacks changes for {:.1} s, {} routes are to be written",
            kernel.table,
            late as f64 / 1_000.0,
            kernel.pending
        )),
        _ => Ok(()),
    }
}

fn source(source: &SourceStatus) -> Result<(), String> {
    match source.state.as_str() {
        "failed" | "stopped" => {
            let reason = source.last_error.as_deref().unwrap_or("no reason known");
            Err(format!("source {:?} has {}: {reason}", source.origin, source.state))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn thread(name: &str, state: ThreadState) -> ThreadStatus {
        ThreadStatus {
            name: name.into(),
            state,
            age_ms: 2_600,
            limit_ms: 2_000,
            essential: name != "checkpoint",
            restarts: 0,
            last_panic: Some("index out of bounds".into()),
        }
    }

    fn well(kind: Kind) -> Status {
        Status {
            ready: true,
            threads: vec![thread("monitor", ThreadState::Running)],
            forwarding: (kind == Kind::Dataplane).then(ForwardingStatus::default),
            ..crate::process::status("n", kind, Duration::ZERO)
        }
    }

    fn reason(status: &Status) -> String {
        check(status).unwrap_err()
    }

    #[test]
    fn a_node_that_works_is_healthy() {
        for kind in [Kind::RouteServer, Kind::Agent, Kind::Dataplane] {
            assert_eq!(check(&well(kind)), Ok(()));
        }
    }

    #[test]
    fn what_is_not_known_is_unhealthy() {
        let status = Status { threads: Vec::new(), ..well(Kind::Agent) };
        assert_eq!(reason(&status), "no thread's heartbeat is known");
        let status = Status { forwarding: None, ..well(Kind::Dataplane) };
        assert!(reason(&status).contains("control thread"), "{}", reason(&status));
    }

    #[test]
    fn a_stalled_or_panicked_thread_is_named_with_its_age_or_text() {
        let threads = [
            thread("control", ThreadState::Stalled),
            thread("watch", ThreadState::Running),
            thread("kernel", ThreadState::Panicked),
        ];
        let status = Status { threads: threads.into(), ..well(Kind::Dataplane) };
        assert_eq!(
            reason(&status),
            "thread control has made no progress for 2.6 s; thread kernel panicked: index out of bounds"
        );
        let threads = vec![thread("checkpoint", ThreadState::Stalled), thread("agent", ThreadState::Running)];
        assert_eq!(check(&Status { threads, ..well(Kind::Agent) }), Ok(()), "not on the way of a route");
    }

    #[test]
    fn a_kernel_that_refuses_routes_is_unhealthy_unless_the_operator_accepts_it() {
        let kernel = |accepted| KernelStatus {
            refused: 162,
            last_refusal: Some("192.0.2.0/24 in VRF 0: Network is unreachable".into()),
            refusals_accepted: accepted,
            ..KernelStatus::default()
        };
        let status = |accepted| Status { kernel: Some(kernel(accepted)), ..well(Kind::Agent) };
        let text = reason(&status(false));
        assert!(text.contains("refuses 162 routes") && text.contains("Network is unreachable"), "{text}");
        assert_eq!(check(&status(true)), Ok(()));
    }

    #[test]
    fn routes_that_others_shadow_are_unhealthy_unless_the_operator_accepts_it() {
        let kernel = |accepted| KernelStatus {
            foreign: 7,
            shadowed: 3,
            shadow: Some("192.0.2.0/24 by a route of protocol static".into()),
            shadows_accepted: accepted,
            ..KernelStatus::default()
        };
        let status = |accepted| Status { kernel: Some(kernel(accepted)), ..well(Kind::Agent) };
        let text = reason(&status(false));
        assert!(text.starts_with("3 routes are shadowed by routes of others"), "{text}");
        assert!(text.contains("192.0.2.0/24") && text.contains("accept_shadowed"), "{text}");
        assert_eq!(check(&status(true)), Ok(()));
    }

    #[test]
    fn a_gateway_that_is_the_host_itself_is_unhealthy_unless_the_operator_accepts_it() {
        let kernel = |refusals_accepted| KernelStatus {
            unfit: 20_000,
            own_gateway: 20_000,
            own_gateway_example: Some("10.0.0.0/8 via 192.0.2.1".into()),
            refusals_accepted,
            ..Default::default()
        };
        let status = |accepted| Status { kernel: Some(kernel(accepted)), ..well(Kind::Agent) };
        let expected = "20000 routes have a gateway that is an address of this host, for example 10.0.0.0/8 via 192.0.2.1";
        assert!(reason(&status(false)).starts_with(expected));
        assert_eq!(check(&status(true)), Ok(()));
    }

    #[test]
    fn a_kernel_table_that_stays_behind_is_unhealthy() {
        let status = |busy_ms| {
            let kernel = KernelStatus { table: 254, busy: true, busy_ms, pending: 7, ..Default::default() };
            Status { kernel: Some(kernel), ..well(Kind::Agent) }
        };
        assert_eq!(check(&status(2_000)), Ok(()));
        assert_eq!(
            reason(&status(4_500)),
            "kernel table 254 lacks changes for 4.5 s, 7 routes are to be written"
        );
    }

    #[test]
    fn a_source_that_follows_nobody_any_more_is_unhealthy() {
        let source = |state: &str| SourceStatus {
            origin: "bgp".into(),
            kind: "fpm".into(),
            state: state.into(),
            routes: 1,
            changes: 1,
            end_of_table: true,
            end_of_table_by: None,
            denied: 0,
            max_prefixes: None,
            last_error: Some("line 3".into()),
            counters: Default::default(),
        };
        let status = |state| Status { sources: vec![source(state)], ..well(Kind::RouteServer) };
        assert_eq!(reason(&status("failed")), "source \"bgp\" has failed: line 3");
        assert_eq!(reason(&status("stopped")), "source \"bgp\" has stopped: line 3");
        assert_eq!(check(&status("connected")), Ok(()));
    }
}
