//! The status of a daemon as Prometheus metrics (OpenMetrics text).
//!
//! Gauges are current values, counters totals since the start. Ports and drops of a dataplane come from the same handler.

use std::sync::atomic::AtomicU64;

use fibcast_control::protocol::{Answer, DataplaneRequest};
use fibcast_control::status::{
    AcknowledgeStatus, ForwardingStatus, KernelStatus, Kind, ListenerStatus, OriginStatus, Role, ScrubStatus,
    SourceStatus, Status, SyncStatus, ThreadState, ThreadStatus,
};
use fibcast_control::tables::{DropCount, DropList, PortList, WorkerList, WorkerStatus};
use prometheus_client::encoding::EncodeMetric;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::TypedMetric;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Metric, Registry};

use crate::control::Handler;

/// The `Content-Type` that Prometheus expects.
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// All metrics of a daemon as text.
pub(crate) fn text(status: &Status, handler: &dyn Handler) -> String {
    let mut page = Page(Registry::with_prefix("fibcast"));
    page.node(status);
    page.threads(&status.threads);
    page.sources(status);
    page.origins(status);
    page.certificates(status);
    page.sessions(status);
    if let Some(acknowledge) = &status.acknowledge {
        page.acknowledge(acknowledge);
    }
    if let Some(sync) = &status.sync {
        page.sync(sync);
    }
    if let Some(kernel) = &status.kernel {
        page.kernel(kernel);
    }
    if let Some(forwarding) = &status.forwarding {
        page.forwarding(forwarding);
    }
    page.scrubs(status);
    if status.kind == Kind::Dataplane {
        if let Ok(Answer::Ports(list)) = handler.handle(DataplaneRequest::Ports.into()) {
            page.ports(&list);
        }
        if let Ok(Answer::Workers(list)) = handler.handle(DataplaneRequest::Workers.into()) {
            page.workers(&list);
        }
        if let Ok(Answer::Drops(list)) = handler.handle(DataplaneRequest::Drops.into()) {
            page.drops(&list);
        }
    }
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = encode(&mut text, &page.0);
    text
}

/// Names and values of a metric's labels.
type Labels = Vec<(&'static str, String)>;

/// A gauge with a fraction.
type Share = Gauge<f64, AtomicU64>;

/// The metrics of one answer.
struct Page(Registry);

impl Page {
    fn gauge(&mut self, name: &str, help: &str, value: impl TryInto<i64>) {
        let gauge: Gauge = Gauge::default();
        gauge.set(whole(value));
        self.0.register(name, help, gauge);
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) {
        let counter: Counter = Counter::default();
        counter.inc_by(value);
        self.0.register(name, help, counter);
    }

    /// One metric with a row for each set of labels.
    fn family<M, V>(
        &mut self,
        (name, help): (&str, &str),
        rows: impl Iterator<Item = (Labels, V)>,
        set: fn(&M, V),
    ) where
        M: Metric + EncodeMetric + TypedMetric + Default + Clone,
    {
        let family = Family::<Labels, M>::default();
        for (labels, value) in rows {
            set(&family.get_or_create(&labels), value);
        }
        self.0.register(name, help, family);
    }

    fn gauges<V: TryInto<i64>>(&mut self, name: &str, help: &str, rows: impl Iterator<Item = (Labels, V)>) {
        self.family::<Gauge, V>((name, help), rows, |gauge, value| {
            gauge.set(whole(value));
        });
    }

    fn shares(&mut self, name: &str, help: &str, rows: impl Iterator<Item = (Labels, f64)>) {
        self.family::<Share, f64>((name, help), rows, |gauge, value| {
            gauge.set(value);
        });
    }

    fn counters(&mut self, name: &str, help: &str, rows: impl Iterator<Item = (Labels, u64)>) {
        self.family::<Counter, u64>((name, help), rows, |counter, value| {
            counter.inc_by(value);
        });
    }

    fn node(&mut self, status: &Status) {
        let table = &status.table;
        self.gauge("ready", "1 when it is in sync with everything it needs", status.ready);
        self.gauge("stale", "1 when it has no capable server", status.stale);
        self.gauge("resident_bytes", "Resident memory", status.resident_bytes);
        self.gauge("serial", "Serial of the table's last commit", table.serial);
        self.gauge("groups", "Next-hop groups", table.groups);
        self.gauge("clients", "Registered clients", status.clients.len());
        let routes = [("ipv4", table.ipv4_routes), ("ipv6", table.ipv6_routes)];
        let rows = routes.map(|(family, routes)| (vec![("family", family.to_owned())], routes));
        self.gauges("routes", "Routes in the forwarding table", rows.into_iter());
        self.counter("changes", "Records changed, all commits together", table.changes);
        let refused = &status.refused;
        self.counter("connections_turned_away", "Connections refused by a limit", refused.turned_away);
        self.counter("handshakes_failed", "Connections refused at the handshake", refused.handshake);
        let help = "Connections refused because of their certificate's names";
        self.counter("connections_not_allowed", help, refused.not_allowed);
        let help = "Sessions that ended because they had used up a limit, or took nothing";
        self.counter("sessions_over_budget", help, refused.over_budget);
        self.listeners(&status.listeners);
        let help = "Lines of the log that nobody read in time";
        self.counter("log_lines_dropped", help, status.log_lines_dropped);
    }

    fn threads(&mut self, threads: &[ThreadStatus]) {
        let labels = |thread: &ThreadStatus| vec![("thread", thread.name.clone())];
        let ages = threads.iter().map(|thread| (labels(thread), thread.age_ms as f64 / 1_000.0));
        self.shares("thread_heartbeat_age_seconds", "Since the thread's last heartbeat", ages);
        let unwell = threads.iter().map(|thread| (labels(thread), thread.state != ThreadState::Running));
        self.gauges("thread_stalled", "1 when the thread makes no progress or has panicked", unwell);
        let restarts = threads.iter().map(|thread| (labels(thread), thread.restarts));
        let help = "Times that the thread's work was restarted after a panic";
        self.counters("thread_restarts", help, restarts);
    }

    fn sync(&mut self, sync: &SyncStatus) {
        let active = match sync.active {
            Some(Role::Primary) => 1,
            Some(Role::Secondary) => 2,
            None => 0,
        };
        let help = "1 while the active server announces commits and sends none";
        self.gauge("server_stalled", help, sync.stalled.is_some());
        self.gauge("active_server", "1 primary, 2 secondary, 0 none", active);
        let help = "Routes that differed in the last failover or failback";
        self.gauge("routes_differing", help, sync.routes_differing);
        if let Some(checkpoint) = &sync.checkpoint {
            let age = checkpoint.age_ms.map_or(-1, |age| whole(age / 1000));
            self.gauge("checkpoint_age_seconds", "Since the last complete checkpoint; -1: none yet", age);
            self.gauge("checkpoint_bytes", "Size of the last checkpoint", checkpoint.bytes);
            let help = "1 when the last checkpoint could not be written or read";
            self.gauge("checkpoint_failed", help, checkpoint.last_error.is_some());
        }
        self.counter("failovers", "Failovers and failbacks to another server", sync.failovers);
        self.counter("routes_copied", "Routes received in full copies of the table", sync.routes_copied);
        self.counter("routes_applied", "Routes changed by applied batches", sync.routes_applied);
        self.counter("routes_passed_on", "Routes passed on to the tier below", sync.routes_passed_on);
        let help = "Commits whose digest was not the server's";
        self.counter("digest_mismatches", help, sync.digest_mismatches);
        let help = "Times that the active server announced commits and sent none";
        self.counter("server_stalls", help, sync.stalls);
    }

    fn kernel(&mut self, kernel: &KernelStatus) {
        self.gauge("kernel_routes", "Routes that the kernel has as they should be", kernel.routes);
        self.gauge("kernel_refused", "Routes that the kernel currently refuses", kernel.refused);
        self.gauge("kernel_unfit", "Routes that this host cannot have", kernel.unfit);
        let help = "Those of them whose gateway is an address of this host";
        self.gauge("kernel_own_gateway", help, kernel.own_gateway);
        self.gauge("kernel_left_out", "Routes of VRFs that have no table", kernel.left_out);
        let help = "Routes that packets do not take, because the kernel prefers a route of somebody else";
        self.gauge("kernel_shadowed", help, kernel.shadowed);
        self.gauge("kernel_foreign", "Routes of others in our kernel tables", kernel.foreign);
        self.gauge("kernel_pending", "Routes not yet written", kernel.pending);
        self.counter("kernel_refusals", "Times that the kernel refused a route", kernel.refusals);
        let help = "Times that the kernel's table was read and repaired";
        self.counter("kernel_audits", help, kernel.audits);
    }

    fn forwarding(&mut self, forwarding: &ForwardingStatus) {
        self.gauge("forwarding_serial", "Serial of the generation that workers use", forwarding.serial);
        self.gauge("forwarding_retired", "Retired generations that wait for workers", forwarding.retired);
        let help = "Memory that waits for workers in retired generations";
        self.gauge("forwarding_retired_bytes", help, forwarding.retired_bytes);
        let limits = || forwarding.limits.iter();
        let labels = |key: &str| vec![("key", key.to_owned())];
        let used = limits().map(|limit| (labels(&limit.key), limit.used));
        self.gauges("limit_used", "Use of what the key bounds, in its unit", used);
        let most = limits().map(|limit| (labels(&limit.key), limit.most));
        self.gauges("limit_most", "The bound", most);
        let hits = limits().map(|limit| (labels(&limit.key), limit.hits));
        self.counters("limit_hits", "Times that something did not fit", hits);
        let pending = forwarding.pending_batches;
        self.gauge("forwarding_pending_batches", "Batches that wait to be applied", pending);
        let help = "1 while a batch cannot be applied and the previous table stays in use";
        self.gauge("forwarding_apply_failed", help, forwarding.apply_error.is_some());
        self.gauge("workers_stalled", "Workers that are stalled or have ended", forwarding.workers_stalled);
        let unresolved = forwarding.next_hops_unresolved;
        self.gauge("next_hops_unresolved", "Next hops without a MAC address", unresolved);
        self.counter("agent_restarts", "Restarts of the agent's thread", forwarding.agent_restarts);
        let help = "Times that another station claimed an address of this router";
        self.counter("address_conflicts", help, forwarding.address_conflicts);
        let help = "Neighbors that a limit refused, or that gave way to others";
        self.counter("neighbors_refused", help, forwarding.neighbors_refused);
    }

    /// A route server's sources.
    fn sources(&mut self, status: &Status) {
        if status.sources.is_empty() {
            return;
        }
        let all = || status.sources.iter().map(|source| (labels([("origin", &source.origin)]), source));
        let routes = all().map(|(labels, source)| (labels, source.routes));
        self.gauges("source_routes", "Routes that a source has", routes);
        let ended = |source: &SourceStatus| source.state == "stopped" || source.state == "failed";
        let stopped = all().map(|(labels, source)| (labels, ended(source)));
        self.gauges("source_stopped", "1 when a source has failed or reached its max_prefixes", stopped);
        let by = status.sources.iter().filter_map(|source| {
            let by = source.end_of_table_by.as_ref()?;
            Some((labels([("origin", &source.origin), ("by", by)]), 1))
        });
        self.gauges("source_end_of_table", "1 with what the end of a source's table was detected by", by);
        let denied = all().map(|(labels, source)| (labels, source.denied));
        self.counters("source_denied", "Announcements that a source's filter denied", denied);
        let counters = status.sources.iter().flat_map(|source| {
            let row = |name: &str| labels([("origin", &source.origin), ("name", name)]);
            source.counters.iter().map(move |(name, value)| (row(name), *value))
        });
        let help = "Counters of live sources: routes stale, parked, skipped by reason, …";
        self.gauges("source", help, counters);
    }

    /// The origins that a route server knows.
    fn origins(&mut self, status: &Status) {
        if status.origins.is_empty() {
            return;
        }
        let row = |origin: &OriginStatus| labels([("origin", &origin.name), ("server", &origin.server)]);
        let all = || status.origins.iter().map(|origin| (row(origin), origin));
        let number = |state: &str| match state {
            "live" => 2,
            "stale" => 1,
            "loading" => 0,
            _ => -1,
        };
        let states = all().map(|(labels, origin)| (labels, number(&origin.state)));
        self.gauges("origin_state", "2 live, 1 stale, 0 loading, -1 expired", states);
        let help = "Eligibility for best path: 2 eligible, 1 stale (ranked last), -1 ineligible";
        let eligibility = all().map(|(labels, origin)| (labels, number(&origin.eligibility)));
        self.gauges("origin_eligibility", help, eligibility);
        let routes = all().map(|(labels, origin)| (labels, origin.routes));
        self.gauges("origin_routes", "Routes of the origin that are held here", routes);
        let left = all().filter_map(|(labels, origin)| Some((labels, origin.lease_left_ms?)));
        self.gauges("origin_lease_left_milliseconds", "Time until its lease or hold time ends", left);
        let conflicts = all().map(|(labels, origin)| (labels, origin.conflict.is_some()));
        let help = "1 when another route server has an origin of the same name";
        self.gauges("origin_conflict", help, conflicts);
    }

    /// What accepts connections.
    fn listeners(&mut self, listeners: &[ListenerStatus]) {
        let all = || listeners.iter().map(|listener| (labels([("listener", &listener.name)]), listener));
        self.gauges("listener_connections", "Open connections", all().map(|(labels, l)| (labels, l.open)));
        let half_open = all().map(|(labels, l)| (labels, l.half_open));
        self.gauges("listener_half_open", "Open connections that give way to newcomers", half_open);
        let accepted = all().map(|(labels, l)| (labels, l.accepted));
        self.counters("listener_accepted", "Connections that got a place", accepted);
        let turned_away = all().map(|(labels, l)| (labels, l.turned_away));
        self.counters("listener_turned_away", "Connections refused by a limit", turned_away);
        let gave_way = all().map(|(labels, l)| (labels, l.gave_way));
        self.counters("listener_gave_way", "Half-open connections closed in favor of newcomers", gave_way);
        let exhausted = all().map(|(labels, l)| (labels, l.exhausted));
        let help = "Times that there was no file descriptor or memory for a connection";
        self.counters("listener_exhausted", help, exhausted);
    }

    /// When own certificate, CA and CRL expire.
    fn certificates(&mut self, status: &Status) {
        let rows = status.certificates.iter().map(|certificate| {
            let subject = &certificate.subject;
            let names = [("kind", &certificate.kind), ("path", &certificate.path), ("subject", subject)];
            (labels(names.map(|(name, value)| (name, value.as_str()))), certificate.expires_unix_seconds)
        });
        let help = "When own certificate or CA expires, or a newer CRL is due, in seconds since 1970";
        self.gauges("tls_certificate_expiry_seconds", help, rows);
    }

    /// Servers and clients, with the names in their certificates.
    fn sessions(&mut self, status: &Status) {
        let row = |peer: &str, address: &str, certificate: &[String]| {
            labels([("peer", peer), ("address", address), ("certificate", &certificate.join(","))])
        };
        let servers = || {
            status.sync.iter().flat_map(|sync| &sync.servers).map(|server| {
                let name = server.name.as_deref().unwrap_or_default();
                (row(name, &server.address, &server.certificate), server)
            })
        };
        let up = servers().map(|(labels, server)| (labels, ["active", "standby"].contains(&&*server.state)));
        self.gauges("server_up", "1 when registered with the server", up);
        let lag = servers().map(|(labels, server)| (labels, server.lag));
        self.gauges("server_lag", "Commits of the active server not yet applied", lag);
        let lag = status.clients.iter();
        let lag = lag.map(|client| (row(&client.name, &client.address, &client.certificate), client.lag));
        self.gauges("client_lag", "Commits not yet sent to the client", lag);
    }

    fn acknowledge(&mut self, acknowledge: &AcknowledgeStatus) {
        self.gauge(
            "acknowledged_serial",
            "Serial that all required clients have installed",
            acknowledge.acknowledged,
        );
        self.gauge("acknowledge_behind", "Commits that wait for an acknowledgement", acknowledge.behind);
        let waiting = acknowledge.waiting_ms.unwrap_or(0);
        self.gauge("acknowledge_waiting_milliseconds", "Time that the oldest of them has waited", waiting);
        self.counter("acknowledge_timeouts", "Times that a commit waited for too long", acknowledge.timeouts);
        self.gauge(
            "acknowledge_refused_routes",
            "Routes that required clients do not forward by",
            acknowledge.refused,
        );
        let all = || acknowledge.nodes.iter().map(|node| (labels([("node", &node.name)]), node));
        let counts = all().map(|(labels, node)| (labels, ["counts", "lost"].contains(&&*node.state)));
        self.gauges("acknowledge_node_counts", "1 when changes wait for the node", counts);
        let installed = all().filter_map(|(labels, node)| Some((labels, node.installed?)));
        self.gauges("acknowledge_node_serial", "Serial that the node forwards by", installed);
        let refused = all().map(|(labels, node)| (labels, node.refused));
        self.gauges("acknowledge_node_refused_routes", "Routes that the node does not forward by", refused);
    }

    /// Scrubbers, by what they compare.
    fn scrubs(&mut self, status: &Status) {
        let of_forwarding =
            |f: &'_ ForwardingStatus| [("table", f.scrub_table.clone()), ("tries", f.scrub_tries.clone())];
        let of_forwarding = status.forwarding.iter().flat_map(of_forwarding);
        let of_kernel = status.kernel.iter().map(|kernel| ("kernel", kernel.scrub.clone()));
        let all: Vec<_> =
            of_forwarding.chain(of_kernel).map(|(of, scrub)| (labels([("of", of)]), scrub)).collect();
        if all.is_empty() {
            return;
        }
        let rows = |value: fn(&ScrubStatus) -> u64| all.iter().map(move |(of, s)| (of.clone(), value(s)));
        self.counters(
            "scrub_passes",
            "Complete comparisons of what forwards with the table",
            rows(|s| s.passes),
        );
        self.counters("scrub_compared", "Routes or lookups compared with the table", rows(|s| s.compared));
        let help = "Differences between what forwards and the table";
        self.counters("scrub_differences", help, rows(|s| s.differences));
        self.counters("scrub_mended", "Differences that were corrected", rows(|s| s.mended));
        self.counters("scrub_skipped", "Parts left out because a change was under way", rows(|s| s.skipped));
        let age = |s: &ScrubStatus| s.pass_age_ms.map_or(-1, |age| whole(age / 1000));
        let ages = all.iter().map(|(of, scrub)| (of.clone(), age(scrub)));
        self.gauges("scrub_pass_age_seconds", "Since the last complete comparison; -1: none yet", ages);
    }

    fn ports(&mut self, list: &PortList) {
        let all = || list.ports.iter().map(|port| (labels([("port", &port.name)]), port));
        let received = all().map(|(labels, port)| (labels, port.rx_packets));
        self.counters("port_received_packets", "Packets that workers received", received);
        let sent = all().map(|(labels, port)| (labels, port.tx_packets));
        self.counters("port_sent_packets", "Packets that workers sent", sent);
    }

    fn drops(&mut self, list: &DropList) {
        let row = |drop: &DropCount| (labels([("port", &drop.port), ("reason", &drop.reason)]), drop.packets);
        let help = "Packets dropped, by port of arrival and reason";
        self.counters("dropped_packets", help, list.drops.iter().map(row));
        let limited = list.icmp_limited.iter();
        let limited = limited.map(|messages| (labels([("kind", &messages.kind)]), messages.messages));
        self.counters("icmp_limited", "ICMP messages that were due but not sent, by kind", limited);
    }

    fn workers(&mut self, list: &WorkerList) {
        let label = |worker: &WorkerStatus| ("worker", worker.worker.to_string());
        let all = || list.workers.iter().map(|worker| (vec![label(worker)], worker));
        let cpu = all().map(|(labels, worker)| (labels, worker.cpu_percent / 100.0));
        self.shares("worker_cpu", "Share of a CPU that the worker's thread used lately", cpu);
        let busy = all().map(|(labels, worker)| (labels, worker.busy_percent / 100.0));
        self.shares("worker_busy", "Share of its time that the worker spent on packets lately", busy);
        let stalled = all().map(|(labels, worker)| (labels, worker.stalled));
        self.gauges("worker_stalled", "1 when the worker is stalled or has ended", stalled);
        let queues = list.workers.iter().flat_map(|worker| {
            worker.queues.iter().enumerate().map(move |(number, queue)| {
                let port = ("port", queue.port.clone());
                (vec![label(worker), ("queue", number.to_string()), port], queue.packets)
            })
        });
        self.counters("queue_received_packets", "Packets received by queue", queues);
    }
}

fn labels<const N: usize>(pairs: [(&'static str, &str); N]) -> Labels {
    pairs.map(|(name, value)| (name, value.to_owned())).to_vec()
}

/// The value as a gauge has it.
fn whole(value: impl TryInto<i64>) -> i64 {
    value.try_into().unwrap_or(i64::MAX)
}
