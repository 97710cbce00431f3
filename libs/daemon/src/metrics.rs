//! The status of a daemon as Prometheus metrics (OpenMetrics text).
//!
//! Gauges are current values, counters totals since the start. Ports and drops of a dataplane come from the same handler.

use std::sync::atomic::AtomicU64;

use fibcast_control::protocol::{Answer, DataplaneRequest};
use fibcast_control::status::{Kind, Role, Status};
use fibcast_control::tables::WorkerList;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::control::Handler;

/// The `Content-Type` that Prometheus expects.
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ScrubLabel {
    of: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FamilyLabel {
    family: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SourceCounterLabel {
    origin: String,
    name: String,
}

/// A session with a server or client, with the names in its certificate.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SessionLabel {
    peer: String,
    address: String,
    certificate: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SourceLabel {
    origin: String,
}

/// A protocol instance beside a route server.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OriginLabel {
    origin: String,
    server: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PortLabel {
    port: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DropLabel {
    port: String,
    reason: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct IcmpLabel {
    kind: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WorkerLabel {
    worker: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct QueueLabel {
    worker: u64,
    queue: u64,
    port: String,
}

/// All metrics of a daemon as text.
pub(crate) fn text(status: &Status, handler: &dyn Handler) -> String {
    let mut registry = Registry::with_prefix("fibcast");
    node(&mut registry, status);
    if status.kind == Kind::Dataplane {
        if let Ok(Answer::Ports(list)) = handler.handle(DataplaneRequest::Ports.into()) {
            let (rx, tx) = (Family::<PortLabel, Counter>::default(), Family::<PortLabel, Counter>::default());
            for port in list.ports {
                let label = PortLabel { port: port.name };
                rx.get_or_create(&label).inc_by(port.rx_packets);
                tx.get_or_create(&label).inc_by(port.tx_packets);
            }
            registry.register("port_received_packets", "Packets that workers received", rx);
            registry.register("port_sent_packets", "Packets that workers sent", tx);
        }
        if let Ok(Answer::Workers(list)) = handler.handle(DataplaneRequest::Workers.into()) {
            workers(&mut registry, &list);
        }
        if let Ok(Answer::Drops(list)) = handler.handle(DataplaneRequest::Drops.into()) {
            let drops = Family::<DropLabel, Counter>::default();
            for drop in list.drops {
                drops.get_or_create(&DropLabel { port: drop.port, reason: drop.reason }).inc_by(drop.packets);
            }
            registry.register("dropped_packets", "Packets dropped, by port of arrival and reason", drops);
            let limited = Family::<IcmpLabel, Counter>::default();
            for messages in list.icmp_limited {
                limited.get_or_create(&IcmpLabel { kind: messages.kind }).inc_by(messages.messages);
            }
            registry.register("icmp_limited", "ICMP messages that were due but not sent, by kind", limited);
        }
    }
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = encode(&mut text, &registry);
    text
}

/// Metrics of a route server's sources.
/// Scrubbers by what they compare.
fn scrubs(registry: &mut Registry, status: &Status) {
    let forwarding = status.forwarding.iter();
    let all = forwarding
        .flat_map(|forwarding| [("table", &forwarding.scrub_table), ("tries", &forwarding.scrub_tries)])
        .chain(status.kernel.iter().map(|kernel| ("kernel", &kernel.scrub)));
    let counters: [Family<ScrubLabel, Counter>; 5] = Default::default();
    let age = Family::<ScrubLabel, Gauge>::default();
    let mut any = false;
    for (of, scrub) in all {
        any = true;
        let values = [scrub.passes, scrub.compared, scrub.differences, scrub.mended, scrub.skipped];
        for (family, value) in counters.iter().zip(values) {
            family.get_or_create(&ScrubLabel { of }).inc_by(value);
        }
        let seconds = scrub.pass_age_ms.map_or(-1, |age| i64::try_from(age / 1000).unwrap_or(i64::MAX));
        age.get_or_create(&ScrubLabel { of }).set(seconds);
    }
    if !any {
        return;
    }
    let names = [
        ("scrub_passes", "Complete comparisons of what forwards with the table"),
        ("scrub_compared", "Routes or lookups compared with the table"),
        ("scrub_differences", "Differences between what forwards and the table"),
        ("scrub_mended", "Differences that were corrected"),
        ("scrub_skipped", "Parts left out because a change was under way"),
    ];
    for ((name, help), family) in names.into_iter().zip(counters) {
        registry.register(name, help, family);
    }
    registry.register("scrub_pass_age_seconds", "Since the last complete comparison; -1: none yet", age);
}

fn sources(registry: &mut Registry, status: &Status) {
    if status.sources.is_empty() {
        return;
    }
    let routes = Family::<SourceLabel, Gauge>::default();
    let stopped = Family::<SourceLabel, Gauge>::default();
    let denied = Family::<SourceLabel, Counter>::default();
    for source in &status.sources {
        let label = SourceLabel { origin: source.origin.clone() };
        routes.get_or_create(&label).set(i64::try_from(source.routes).unwrap_or(i64::MAX));
        stopped.get_or_create(&label).set(i64::from(source.state == "stopped" || source.state == "failed"));
        denied.get_or_create(&label).inc_by(source.denied);
    }
    registry.register("source_routes", "Routes that a source has", routes);
    registry.register("source_stopped", "1 when a source has failed or reached its max_prefixes", stopped);
    registry.register("source_denied", "Announcements that a source's filter denied", denied);
}

/// Metrics of the origins that a route server knows.
fn origins(registry: &mut Registry, status: &Status) {
    if status.origins.is_empty() {
        return;
    }
    let family = Family::<OriginLabel, Gauge>::default;
    let (states, eligibility, routes) = (family(), family(), family());
    let (lease, conflict) = (family(), family());
    for origin in &status.origins {
        let label = OriginLabel { origin: origin.name.clone(), server: origin.server.clone() };
        let number = |state: &str| match state {
            "live" => 2,
            "stale" => 1,
            "loading" => 0,
            _ => -1,
        };
        states.get_or_create(&label).set(number(&origin.state));
        eligibility.get_or_create(&label).set(number(&origin.eligibility));
        routes.get_or_create(&label).set(i64::try_from(origin.routes).unwrap_or(i64::MAX));
        if let Some(left) = origin.lease_left_ms {
            lease.get_or_create(&label).set(i64::try_from(left).unwrap_or(i64::MAX));
        }
        conflict.get_or_create(&label).set(i64::from(origin.conflict.is_some()));
    }
    registry.register("origin_state", "2 live, 1 stale, 0 loading, -1 expired", states);
    registry.register(
        "origin_eligibility",
        "Eligibility for best path: 2 eligible, 1 stale (ranked last), -1 ineligible",
        eligibility,
    );
    registry.register("origin_routes", "Routes of the origin that are held here", routes);
    registry.register("origin_lease_left_milliseconds", "Time until its lease or hold time ends", lease);
    registry.register(
        "origin_conflict",
        "1 when another route server has an origin of the same name",
        conflict,
    );
}

fn workers(registry: &mut Registry, list: &WorkerList) {
    let cpu = Family::<WorkerLabel, Gauge<f64, AtomicU64>>::default();
    let busy = Family::<WorkerLabel, Gauge<f64, AtomicU64>>::default();
    let stalled = Family::<WorkerLabel, Gauge>::default();
    let queues = Family::<QueueLabel, Counter>::default();
    for worker in &list.workers {
        let label = WorkerLabel { worker: worker.worker as u64 };
        cpu.get_or_create(&label).set(worker.cpu_percent / 100.0);
        busy.get_or_create(&label).set(worker.busy_percent / 100.0);
        stalled.get_or_create(&label).set(i64::from(worker.stalled));
        for (number, queue) in worker.queues.iter().enumerate() {
            let label = QueueLabel { worker: label.worker, queue: number as u64, port: queue.port.clone() };
            queues.get_or_create(&label).inc_by(queue.packets);
        }
    }
    registry.register("worker_cpu", "Share of a CPU that the worker's thread used lately", cpu);
    registry.register("worker_busy", "Share of its time that the worker spent on packets lately", busy);
    registry.register("worker_stalled", "1 when the worker is stalled or has ended", stalled);
    registry.register("queue_received_packets", "Packets received by queue", queues);
}

fn node(registry: &mut Registry, status: &Status) {
    let mut gauge = |name: &str, help: &str, value: i64| {
        let gauge: Gauge = Gauge::default();
        gauge.set(value);
        registry.register(name, help, gauge);
    };
    let whole = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    gauge("ready", "1 when it is in sync with everything it needs", i64::from(status.ready));
    gauge("stale", "1 when it has no capable server", i64::from(status.stale));
    gauge("resident_bytes", "Resident memory", whole(status.resident_bytes));
    gauge("serial", "Serial of the table's last commit", whole(status.table.serial));
    gauge("groups", "Next-hop groups", whole(status.table.groups));
    gauge("clients", "Registered clients", whole(status.clients.len() as u64));
    if let Some(sync) = &status.sync {
        let active = match sync.active {
            Some(Role::Primary) => 1,
            Some(Role::Secondary) => 2,
            None => 0,
        };
        gauge("active_server", "1 primary, 2 secondary, 0 none", active);
        let differing = whole(sync.routes_differing);
        gauge("routes_differing", "Routes that differed in the last failover or failback", differing);
        if let Some(checkpoint) = &sync.checkpoint {
            let age = checkpoint.age_ms.map_or(-1, |age| whole(age / 1000));
            gauge("checkpoint_age_seconds", "Since the last complete checkpoint; -1: none yet", age);
            gauge("checkpoint_bytes", "Size of the last checkpoint", whole(checkpoint.bytes));
            let failed = i64::from(checkpoint.last_error.is_some());
            gauge("checkpoint_failed", "1 when the last checkpoint could not be written or read", failed);
        }
    }
    if let Some(kernel) = &status.kernel {
        gauge("kernel_routes", "Routes that the kernel has as they should be", whole(kernel.routes));
        gauge("kernel_refused", "Routes that the kernel currently refuses", whole(kernel.refused));
        gauge("kernel_unfit", "Routes that this host cannot have", whole(kernel.unfit));
        gauge("kernel_left_out", "Routes of VRFs that have no table", whole(kernel.left_out));
        gauge("kernel_pending", "Routes not yet written", whole(kernel.pending));
    }
    if let Some(forwarding) = &status.forwarding {
        gauge("forwarding_serial", "Serial of the generation that workers use", whole(forwarding.serial));
        gauge("forwarding_retired", "Retired generations that wait for workers", whole(forwarding.retired));
        let pending = whole(forwarding.pending_batches);
        gauge("forwarding_pending_batches", "Batches that wait to be applied", pending);
        let failed = i64::from(forwarding.apply_error.is_some());
        gauge(
            "forwarding_apply_failed",
            "1 while a batch cannot be applied and the previous table stays in use",
            failed,
        );
        gauge("workers_stalled", "Workers that are stalled or have ended", whole(forwarding.workers_stalled));
        gauge(
            "next_hops_unresolved",
            "Next hops without a MAC address",
            whole(forwarding.next_hops_unresolved),
        );
    }
    let routes = Family::<FamilyLabel, Gauge>::default();
    routes.get_or_create(&FamilyLabel { family: "ipv4" }).set(whole(status.table.ipv4_routes));
    routes.get_or_create(&FamilyLabel { family: "ipv6" }).set(whole(status.table.ipv6_routes));
    registry.register("routes", "Routes in the forwarding table", routes);

    sources(registry, status);
    origins(registry, status);

    let (up, lag) = (Family::<SessionLabel, Gauge>::default(), Family::<SessionLabel, Gauge>::default());
    for server in status.sync.iter().flat_map(|sync| &sync.servers) {
        let label = SessionLabel {
            peer: server.name.clone().unwrap_or_default(),
            address: server.address.clone(),
            certificate: server.certificate.join(","),
        };
        up.get_or_create(&label).set(i64::from(server.state == "active" || server.state == "standby"));
        lag.get_or_create(&label).set(whole(server.lag));
    }
    registry.register("server_up", "1 when registered with the server", up);
    registry.register("server_lag", "Commits of the active server not yet applied", lag);
    let lag = Family::<SessionLabel, Gauge>::default();
    for client in &status.clients {
        let label = SessionLabel {
            peer: client.name.clone(),
            address: client.address.clone(),
            certificate: client.certificate.join(","),
        };
        lag.get_or_create(&label).set(whole(client.lag));
    }
    registry.register("client_lag", "Commits not yet sent to the client", lag);

    let figures = Family::<SourceCounterLabel, Gauge>::default();
    for source in &status.sources {
        for (name, value) in &source.counters {
            let label = SourceCounterLabel { origin: source.origin.clone(), name: name.clone() };
            figures.get_or_create(&label).set(whole(*value));
        }
    }
    registry.register(
        "source",
        "Counters of live sources: routes stale, parked, skipped by reason, …",
        figures,
    );

    scrubs(registry, status);

    let mut counter = |name: &str, help: &str, value: u64| {
        let counter = Counter::<u64, AtomicU64>::default();
        counter.inc_by(value);
        registry.register(name, help, counter);
    };
    counter("connections_turned_away", "Connections refused because of a limit", status.refused.turned_away);
    counter("handshakes_failed", "Connections refused because of their handshake", status.refused.handshake);
    counter(
        "connections_not_allowed",
        "Connections refused because of their certificate's names",
        status.refused.not_allowed,
    );
    if let Some(kernel) = &status.kernel {
        counter("kernel_refusals", "Times that the kernel refused a route", kernel.refusals);
        counter("kernel_audits", "Times that the kernel's table was read and repaired", kernel.audits);
    }
    if let Some(forwarding) = &status.forwarding {
        let help = "Restarts of the agent's thread";
        counter("agent_restarts", help, forwarding.agent_restarts);
        let help = "Times that another station claimed an address of this router";
        counter("address_conflicts", help, forwarding.address_conflicts);
        let help = "Neighbors that a limit refused, or that gave way to others";
        counter("neighbors_refused", help, forwarding.neighbors_refused);
    }
    counter("changes", "Records changed, all commits together", status.table.changes);
    if let Some(sync) = &status.sync {
        counter("failovers", "Failovers and failbacks to another server", sync.failovers);
        counter("routes_copied", "Routes received in full copies of the table", sync.routes_copied);
        counter("routes_applied", "Routes changed by applied batches", sync.routes_applied);
        counter("routes_passed_on", "Routes passed on to the tier below", sync.routes_passed_on);
        counter("digest_mismatches", "Commits whose digest was not the server's", sync.digest_mismatches);
    }
}
