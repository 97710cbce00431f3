//! The status of a daemon as Prometheus metrics (OpenMetrics text).
//!
//! Gauges are what is now, counters what happened since the start. A dataplane adds its ports and drops, asked from the same handler.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::protocol::{Answer, Request};
use crate::server::Handler;
use crate::status::{Kind, Role, Status};

/// What Prometheus wants to be told about the text.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FamilyLabel {
    family: &'static str,
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

/// All metrics of a daemon as text.
pub fn text(status: &Status, handler: &dyn Handler) -> String {
    let mut registry = Registry::with_prefix("fibcast");
    node(&mut registry, status);
    if status.kind == Kind::Dataplane {
        if let Ok(Answer::Ports(list)) = handler.handle(Request::Ports {}) {
            let (rx, tx) = (Family::<PortLabel, Counter>::default(), Family::<PortLabel, Counter>::default());
            for port in list.ports {
                let label = PortLabel { port: port.name };
                rx.get_or_create(&label).inc_by(port.rx_packets);
                tx.get_or_create(&label).inc_by(port.tx_packets);
            }
            registry.register("port_received_packets", "Packets that workers received", rx);
            registry.register("port_sent_packets", "Packets that workers sent", tx);
        }
        if let Ok(Answer::Drops(list)) = handler.handle(Request::Drops {}) {
            let drops = Family::<DropLabel, Counter>::default();
            for drop in list.drops {
                drops.get_or_create(&DropLabel { port: drop.port, reason: drop.reason }).inc_by(drop.packets);
            }
            registry.register("dropped_packets", "Packets dropped, by port of arrival and reason", drops);
        }
    }
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = encode(&mut text, &registry);
    text
}

fn node(registry: &mut Registry, status: &Status) {
    let mut gauge = |name: &str, help: &str, value: i64| {
        let gauge: Gauge = Gauge::default();
        gauge.set(value);
        registry.register(name, help, gauge);
    };
    let whole = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    gauge("ready", "1 when it is in sync with all that it needs", i64::from(status.ready));
    gauge("stale", "1 when no capable server feeds it", i64::from(status.stale));
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
    }
    if let Some(forwarding) = &status.forwarding {
        gauge("forwarding_serial", "Serial of the generation that workers use", whole(forwarding.serial));
        gauge("forwarding_retired", "Retired generations that wait for workers", whole(forwarding.retired));
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

    let mut counter = |name: &str, help: &str, value: u64| {
        let counter = Counter::<u64, AtomicU64>::default();
        counter.inc_by(value);
        registry.register(name, help, counter);
    };
    counter("changes", "Records changed, all commits together", status.table.changes);
    if let Some(sync) = &status.sync {
        counter("failovers", "Times that another server was activated", sync.failovers);
        counter("routes_copied", "Routes received as copies of a whole table", sync.routes_copied);
        counter("routes_applied", "Routes changed by applied batches", sync.routes_applied);
        counter("routes_passed_on", "Routes passed on to the tier below", sync.routes_passed_on);
        counter("digest_mismatches", "Commits whose digest was not the server's", sync.digest_mismatches);
    }
}
