//! `show neighbors`, `ports`, `workers` and `drops`: the state of a dataplane.

use std::fmt::Write;

use fibcast_control::tables::{DropList, NeighborList, PortList, WorkerList};

use super::columns::{Table, or_dash, yes};

pub fn neighbors(list: &NeighborList) -> String {
    Table::of(&list.neighbors)
        .text("port", |neighbor| &neighbor.port)
        .value("address", |neighbor| neighbor.address)
        .value("mac", |neighbor| or_dash(neighbor.mac.as_ref()))
        .state("state", |neighbor| neighbor.state.clone())
        .finish()
}

/// Since when the counters of a page count, unless it is the start.
fn since(cleared_age_ms: Option<u64>) -> String {
    let since = |ms: u64| format!("counted since the counters were cleared, {} s ago\n", ms / 1000);
    cleared_age_ms.map(since).unwrap_or_default()
}

pub fn ports(list: &PortList) -> String {
    let addresses = |list: &[_]| list.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let ports = Table::of(&list.ports)
        .text("port", |port| &port.name)
        .state("link", |port| if port.link_up { "up" } else { "down" })
        .text("mac", |port| &port.mac)
        .value("mtu", |port| port.mtu)
        .value("rx packets", |port| port.rx_packets)
        .value("rx bytes", |port| port.rx_bytes)
        .value("tx packets", |port| port.tx_packets)
        .value("tx bytes", |port| port.tx_bytes)
        .value("rx missed", |port| port.rx_missed)
        .value("tx errors", |port| port.tx_errors)
        .value("tx backpressure", |port| port.tx_backpressure)
        .text("driver", |port| &port.driver)
        .value("addresses", |port| addresses(&port.addresses))
        .finish();
    ports + &since(list.cleared_age_ms)
}

pub fn workers(list: &WorkerList) -> String {
    let workers = Table::of(&list.workers)
        .value("worker", |worker| worker.worker)
        .value("core", |worker| worker.core)
        .value("received", |worker| worker.received)
        .value("sent", |worker| worker.sent)
        .value("dropped", |worker| worker.dropped)
        .value("host", |worker| worker.host)
        .value("originated", |worker| worker.originated)
        .value("bursts", |worker| worker.bursts)
        .value("serial", |worker| worker.serial)
        .text("idle", |worker| yes(worker.idle))
        .value("busy %", |worker| format!("{:.1}", worker.busy_percent))
        .value("cpu %", |worker| format!("{:.1}", worker.cpu_percent))
        .state("state", |worker| if worker.stalled { "stalled" } else { "fine" })
        .value("held", |worker| worker.held)
        .value("icmp errors", |worker| worker.icmp_sent)
        .value("destructors", |worker| worker.destructors)
        .finish();
    let all = list.workers.iter().flat_map(|worker| {
        worker.queues.iter().enumerate().map(move |(number, queue)| (worker.worker, number, queue))
    });
    let queues: Vec<_> = all.collect();
    if queues.is_empty() {
        return workers + &since(list.cleared_age_ms);
    }
    let queues = Table::of(&queues)
        .value("worker", |(worker, ..)| *worker)
        .value("queue", |(_, number, _)| *number)
        .text("port", |(.., queue)| &queue.port)
        .value("packets", |(.., queue)| queue.packets)
        .value("full bursts", |(.., queue)| queue.full_bursts)
        .value("software rss", |(.., queue)| queue.software_rss)
        .finish();
    format!("{workers}\n{queues}{}", since(list.cleared_age_ms))
}

pub fn drops(list: &DropList) -> String {
    let mut text = Table::of(&list.drops)
        .text("port", |drop| &drop.port)
        .text("reason", |drop| &drop.reason)
        .value("packets", |drop| drop.packets)
        .finish();
    let _ = writeln!(
        text,
        "received {} = sent {} + dropped {} + host {} + held {}",
        list.received, list.sent, list.dropped, list.host, list.held
    );
    text += &since(list.cleared_age_ms);
    if !list.icmp_limited.is_empty() {
        let limited = Table::of(&list.icmp_limited)
            .text("icmp not sent", |limited| &limited.kind)
            .value("messages", |limited| limited.messages);
        let _ = write!(text, "\n{}", limited.finish());
    }
    text
}
