//! What is bounded in a dataplane, how far it is used, and what to raise where something did not fit.

use std::collections::BTreeMap;

use fibcast_control::status::{LimitStatus, Status};
use fibcast_control::tables::DropList;

use super::finding::{Finding, Grade};

/// Drops by a full queue: reason, which queue, and what to do.
const QUEUES: [(&str, &str, &str); 4] = [
    (
        "host_full",
        "packets for the router itself",
        "the port has half of the queue to the host at most, so the others are served; who sends so much there?",
    ),
    (
        "hold_full",
        "packets that wait for a neighbor",
        "a scan of a subnet does this, and costs other ports nothing: fibcast show neighbors lists what does not answer",
    ),
    (
        "tx_full",
        "packets that wait for a device",
        "its link is slower than what is sent there, or raise workers.tx_backlog for longer bursts",
    ),
    (
        "spread_full",
        "packets on their way to another worker",
        "the worker of that flow is busy: add cores to workers.cores, or use a device with RSS",
    ),
];

/// The limits of a dataplane; empty for other daemons.
pub fn findings(status: &Status, drops: &DropList) -> Vec<Finding> {
    let limits = status.forwarding.iter().flat_map(|forwarding| &forwarding.limits);
    let mut findings: Vec<Finding> =
        limits.clone().filter(|limit| needs_attention(limit)).map(near).collect();
    for (reason, what, advice) in QUEUES {
        let mut ports: BTreeMap<&str, u64> = BTreeMap::new();
        for drop in drops.drops.iter().filter(|drop| drop.reason == reason) {
            *ports.entry(&drop.port).or_default() += drop.packets;
        }
        if !ports.is_empty() {
            let ports: Vec<String> =
                ports.iter().map(|(port, packets)| format!("{port}: {packets}")).collect();
            let found = format!("{what}: did not fit, by port of arrival: {}", ports.join(", "));
            findings.push(Finding::of(Grade::Warning, "limits", found, advice));
        }
    }
    if !drops.icmp_limited.is_empty() {
        let kinds = drops.icmp_limited.iter().map(|count| format!("{}: {}", count.kind, count.messages));
        let found = format!("ICMP messages not sent, by kind: {}", kinds.collect::<Vec<_>>().join(", "));
        let advice = "a scan or a loop causes them; the keys of [icmp] set the rates by kind";
        findings.push(Finding::of(Grade::Warning, "limits", found, advice));
    }
    let rest: Vec<String> = limits
        .filter(|limit| !needs_attention(limit))
        .map(|limit| format!("{} {} of {}", limit.key, limit.used, limit.most))
        .collect();
    if !rest.is_empty() {
        findings.push(Finding::fine("limits", rest.join(", ")));
    }
    findings
}

fn needs_attention(limit: &LimitStatus) -> bool {
    limit.hits != 0 || limit.used.saturating_mul(10) >= limit.most.saturating_mul(9)
}

fn near(limit: &LimitStatus) -> Finding {
    let found = format!("{}: {} of {} used, hit {} times", limit.key, limit.used, limit.most, limit.hits);
    let advice = match limit.key.as_str() {
        "fib.retired_memory" => {
            "a worker does not leave old tables: fibcast show workers says which one is stalled"
        }
        "fib.max_unproven_neighbors" => {
            "a scan or made-up senders on the port with most of them; raise the key if real hosts are that many"
        }
        _ => "raise the key in the file of the dataplane, and restart it",
    };
    Finding::of(Grade::Warning, "limits", found, advice)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use fibcast_control::status::{ForwardingStatus, Kind};
    use fibcast_control::tables::{DropCount, IcmpCount};

    use super::*;

    fn limit(key: &str, used: u64, hits: u64) -> LimitStatus {
        LimitStatus { key: key.into(), used, most: 100, hits }
    }

    #[test]
    fn a_limit_that_was_hit_or_is_near_is_told_with_what_to_do_and_the_others_with_their_use() {
        let limits = vec![
            limit("fib.max_routes", 12, 0),
            limit("fib.max_groups", 95, 0),
            limit("fib.max_neighbors", 3, 7),
        ];
        let forwarding = Some(ForwardingStatus { limits, ..ForwardingStatus::default() });
        let status =
            Status { forwarding, ..fibcast_daemon::process::status("nh", Kind::Dataplane, Duration::ZERO) };
        let drop = |port: &str, packets| DropCount { port: port.into(), reason: "host_full".into(), packets };
        let drops = DropList {
            drops: vec![drop("p0", 40), drop("p1", 2)],
            icmp_limited: vec![IcmpCount { kind: "time_exceeded".into(), messages: 9 }],
            ..DropList::default()
        };
        let found: Vec<String> = findings(&status, &drops).into_iter().map(|finding| finding.found).collect();
        assert_eq!(
            found,
            [
                "fib.max_groups: 95 of 100 used, hit 0 times",
                "fib.max_neighbors: 3 of 100 used, hit 7 times",
                "packets for the router itself: did not fit, by port of arrival: p0: 40, p1: 2",
                "ICMP messages not sent, by kind: time_exceeded: 9",
                "fib.max_routes 12 of 100",
            ]
        );
    }
}
