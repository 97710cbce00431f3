//! `show status`: the whole daemon on one page.

use std::fmt::Write;

use fibcast_control::status::{
    AcknowledgeStatus, ListenerStatus, OriginStatus, ScrubStatus, Status, ThreadState,
};

use super::columns::{Table, or_dash, yes};
use super::sessions::{table_of_clients, table_of_servers};
use crate::color;

pub fn status_page(status: &Status) -> String {
    let mut page = String::new();
    let table = &status.table;
    let state = match (status.ready, status.stale) {
        (_, true) => color::state("stale") + ": no capable server, the table does not change",
        (true, false) => color::state("ready"),
        (false, false) => color::state("not ready"),
    };
    let _ = writeln!(page, "{}: {state}", status.name);
    let _ = writeln!(
        page,
        "fibcast {}, pid {}, up {} s, {} MiB resident",
        status.version,
        status.pid,
        status.uptime_ms / 1000,
        status.resident_bytes >> 20
    );
    let _ = writeln!(
        page,
        "table: {} IPv4 and {} IPv6 routes, {} groups, serial {}, epoch {:016x}, digest {}, {} changes",
        table.ipv4_routes,
        table.ipv6_routes,
        table.groups,
        table.serial,
        table.epoch,
        table.digest,
        table.changes
    );
    for thread in &status.threads {
        let age = thread.age_ms as f64 / 1_000.0;
        let what = match thread.state {
            ThreadState::Running if thread.restarts == 0 => continue,
            ThreadState::Running => format!("was restarted {} times after a panic", thread.restarts),
            ThreadState::Stalled => format!("has made no progress for {age:.1} s"),
            ThreadState::Panicked => "has panicked".to_owned(),
        };
        let panic = thread.last_panic.as_ref().map(|text| format!(": {text}")).unwrap_or_default();
        let _ = writeln!(page, "thread {} {what}{panic}", thread.name);
    }
    if let Some(sync) = &status.sync {
        let active = sync.active.map_or_else(|| "none".into(), |role| role.to_string());
        let lasted = sync.last_failover_ms.map_or_else(|| "-".into(), |ms| format!("{ms:.1} ms"));
        let _ =
            writeln!(page, "active server: {active}; failovers {}, the last took {lasted}", sync.failovers);
        let _ = writeln!(
            page,
            "routes copied {} (last failover {}, differing {}), applied {}, passed on {}; digest mismatches {}",
            sync.routes_copied,
            sync.last_failover_routes_copied,
            sync.routes_differing,
            sync.routes_applied,
            sync.routes_passed_on,
            sync.digest_mismatches
        );
        if let Some(checkpoint) = &sync.checkpoint {
            let age = checkpoint.age_ms.map_or_else(
                || "none yet".into(),
                |age| {
                    format!("{} s old, serial {}, {} bytes", age / 1000, checkpoint.serial, checkpoint.bytes)
                },
            );
            let _ = writeln!(page, "checkpoint {}: {age}", checkpoint.path);
            if let Some(error) = &checkpoint.last_error {
                let _ = writeln!(page, "checkpoint: {error}");
            }
        }
        let _ = write!(page, "\n{}", table_of_servers(&sync.servers));
    }
    let refused = &status.refused;
    if refused.turned_away + refused.handshake + refused.not_allowed > 0 {
        let _ = writeln!(
            page,
            "connections refused: {} by limits, {} by handshake, {} by allow list",
            refused.turned_away, refused.handshake, refused.not_allowed
        );
    }
    for listener in &status.listeners {
        let ListenerStatus { name, turned_away, gave_way, exhausted, .. } = listener;
        if turned_away + gave_way + exhausted > 0 {
            let _ = writeln!(
                page,
                "listener {name}: {turned_away} connections refused, {gave_way} gave way to newcomers, {exhausted} times out of files or memory"
            );
        }
    }
    if status.log_lines_dropped > 0 {
        let _ = writeln!(page, "log: {} lines lost, because nobody read them", status.log_lines_dropped);
    }
    if let Some(forwarding) = &status.forwarding {
        let _ = writeln!(
            page,
            "\nforwarding: serial {}, {} routes, {} next hops ({} unresolved), {} generations published, {} retired, {} batches pending",
            forwarding.serial,
            forwarding.routes,
            forwarding.next_hops,
            forwarding.next_hops_unresolved,
            forwarding.published,
            forwarding.retired,
            forwarding.pending_batches
        );
        if forwarding.workers_stalled != 0 {
            let _ = writeln!(page, "{} workers are stalled or have ended", forwarding.workers_stalled);
        }
        if forwarding.address_conflicts != 0 {
            let _ = writeln!(
                page,
                "another station claimed an address of this router {} times: see the log",
                forwarding.address_conflicts
            );
        }
        if forwarding.neighbors_refused != 0 {
            let _ = writeln!(
                page,
                "{} neighbors did not fit: {} in use (fib.max_neighbors, and 4096 without an answer for each port)",
                forwarding.neighbors_refused, forwarding.neighbors
            );
        }
        if forwarding.agent_restarts != 0 {
            let _ = writeln!(page, "the agent was restarted {} times", forwarding.agent_restarts);
        }
        scrub(&mut page, "table", &forwarding.scrub_table);
        scrub(&mut page, "tries", &forwarding.scrub_tries);
        if let Some(error) = &forwarding.apply_error {
            let _ = writeln!(page, "the pending batch cannot be applied: {error}");
        }
    }
    if let Some(kernel) = &status.kernel {
        let _ = writeln!(
            page,
            "kernel table {}: {} routes, {} refused, {} unfit, {} of VRFs without a table, {} not yet written",
            kernel.table, kernel.routes, kernel.refused, kernel.unfit, kernel.left_out, kernel.pending
        );
        if kernel.foreign != 0 {
            let (others, shadowed) = (kernel.foreign, kernel.shadowed);
            let _ = writeln!(
                page,
                "kernel: {others} routes of others in our tables, which shadow {shadowed} of ours"
            );
        }
        if let Some(shadow) = &kernel.shadow {
            let _ = writeln!(page, "kernel: shadowed: {shadow}");
        }
        scrub(&mut page, "kernel", &kernel.scrub);
        if let Some(error) = &kernel.last_error {
            let _ = writeln!(page, "kernel: {error}");
        }
    }
    if !status.sources.is_empty() {
        let sources = Table::of(&status.sources)
            .text("source", |source| &source.origin)
            .text("kind", |source| &source.kind)
            .state("state", |source| source.state.clone())
            .value("routes", |source| source.routes)
            .value("limit", |source| or_dash(source.max_prefixes))
            .value("denied", |source| source.denied)
            .value("changes", |source| source.changes)
            .value("end of table", |source| {
                source.end_of_table_by.clone().unwrap_or_else(|| yes(source.end_of_table).to_string())
            })
            .value("last error", |source| or_dash(source.last_error.as_ref()));
        let _ = write!(page, "\n{}", sources.finish());
        for source in status.sources.iter().filter(|source| !source.counters.is_empty()) {
            let nonzero = source.counters.iter().filter(|(_, value)| **value > 0);
            let words: Vec<String> = nonzero.map(|(name, value)| format!("{name} {value}")).collect();
            let _ = writeln!(page, "source {}: {}", source.origin, words.join(", "));
        }
    }
    if !status.origins.is_empty() {
        let _ = write!(page, "\n{}", origins(&status.origins));
    }
    if !status.peers.is_empty() {
        let peers = Table::of(&status.peers)
            .text("peer", |peer| &peer.address)
            .value("name", |peer| or_dash(peer.name.as_ref()))
            .state("state", |peer| peer.state.clone())
            .value("routes", |peer| peer.routes)
            .value("origins", |peer| peer.origins.join(","))
            .text("stale", |peer| yes(peer.stale))
            .value("last error", |peer| or_dash(peer.last_error.as_ref()));
        let _ = write!(page, "\n{}", peers.finish());
    }
    if let Some(acknowledge) = &status.acknowledge {
        let _ = write!(page, "\n{}", acknowledged(acknowledge));
    }
    if !status.clients.is_empty() {
        let _ = write!(page, "\n{}", table_of_clients(&status.clients));
    }
    page
}

/// What the required clients have installed.
fn acknowledged(acknowledge: &AcknowledgeStatus) -> String {
    let waiting = acknowledge.waiting_ms.map(|ms| format!(", for {:.1} s", ms as f64 / 1e3));
    let nodes = Table::of(&acknowledge.nodes)
        .text("node", |node| &node.name)
        .state("state", |node| node.state.clone())
        .value("installed", |node| or_dash(node.installed))
        .value("refused", |node| node.refused)
        .value("age ms", |node| node.age_ms);
    format!(
        "acknowledged: serial {}, {} commits wait{}, {} timeouts, {} routes refused\n{}",
        acknowledge.acknowledged,
        acknowledge.behind,
        waiting.unwrap_or_default(),
        acknowledge.timeouts,
        acknowledge.refused,
        if acknowledge.nodes.is_empty() { String::new() } else { nodes.finish() }
    )
}

/// Each origin with the state of its lease and its eligibility.
fn origins(list: &[OriginStatus]) -> String {
    let left = |ms: u64| format!("{:.1} s", ms as f64 / 1e3);
    let path = |path: &[String]| if path.is_empty() { "-".to_owned() } else { path.join(" > ") };
    let mut text = Table::of(list)
        .text("origin", |origin| &origin.name)
        .text("server", |origin| &origin.server)
        .state("state", |origin| origin.state.clone())
        .state("eligible", |origin| origin.eligibility.clone())
        .value("routes", |origin| origin.routes)
        .value("epoch", |origin| format!("{:016x}", origin.epoch))
        .value("sequence", |origin| origin.sequence)
        .value("lease left", |origin| or_dash(origin.lease_left_ms.map(left)))
        .text("id", |origin| &origin.id)
        .value("path", |origin| path(&origin.path))
        .finish();
    let mut conflicts: Vec<&String> = list.iter().filter_map(|origin| origin.conflict.as_ref()).collect();
    conflicts.sort_unstable();
    conflicts.dedup();
    for conflict in conflicts {
        let _ = writeln!(text, "{conflict}");
    }
    text
}

/// A scrubber that has compared something.
fn scrub(page: &mut String, of: &str, scrub: &ScrubStatus) {
    if scrub.compared == 0 {
        return;
    }
    let pass = scrub.pass_age_ms.map_or("none yet".into(), |age| format!("{} s ago", age / 1000));
    let _ = writeln!(
        page,
        "scrub of the {of}: {} differences, {} mended, {} passes, the last {pass}",
        scrub.differences, scrub.mended, scrub.passes
    );
    if let Some(difference) = &scrub.last_difference {
        let _ = writeln!(page, "scrub of the {of}: last difference: {difference}");
    }
}
