//! `show neighbors`, `ports`, `workers` and `drops`: the state of a dataplane.

use std::fmt::Write;

use fibcast_control::tables::{DropList, NeighborList, PortList, WorkerList};

use super::columns::{Columns, or_dash, yes};

pub fn neighbors(list: &NeighborList) -> String {
    let mut columns = Columns::new(&["port", "address", "mac", "state"]);
    for neighbor in &list.neighbors {
        columns.row(vec![
            neighbor.port.clone(),
            neighbor.address.to_string(),
            or_dash(&neighbor.mac),
            neighbor.state.clone(),
        ]);
    }
    columns.finish()
}

pub fn ports(list: &PortList) -> String {
    let heads = [
        "port",
        "link",
        "mac",
        "mtu",
        "rx packets",
        "rx bytes",
        "tx packets",
        "tx bytes",
        "rx missed",
        "tx errors",
        "tx backpressure",
        "driver",
        "addresses",
    ];
    let mut columns = Columns::new(&heads);
    for port in &list.ports {
        let addresses: Vec<_> = port.addresses.iter().map(ToString::to_string).collect();
        columns.row(vec![
            port.name.clone(),
            if port.link_up { "up" } else { "down" }.into(),
            port.mac.clone(),
            port.mtu.to_string(),
            port.rx_packets.to_string(),
            port.rx_bytes.to_string(),
            port.tx_packets.to_string(),
            port.tx_bytes.to_string(),
            port.rx_missed.to_string(),
            port.tx_errors.to_string(),
            port.tx_backpressure.to_string(),
            port.driver.clone(),
            addresses.join(","),
        ]);
    }
    columns.finish()
}

pub fn workers(list: &WorkerList) -> String {
    let heads = [
        "worker",
        "core",
        "received",
        "sent",
        "dropped",
        "host",
        "originated",
        "bursts",
        "serial",
        "idle",
        "busy %",
        "cpu %",
        "state",
        "held",
        "icmp errors",
        "destructors",
    ];
    let mut columns = Columns::new(&heads);
    for worker in &list.workers {
        columns.row(vec![
            worker.worker.to_string(),
            worker.core.to_string(),
            worker.received.to_string(),
            worker.sent.to_string(),
            worker.dropped.to_string(),
            worker.host.to_string(),
            worker.originated.to_string(),
            worker.bursts.to_string(),
            worker.serial.to_string(),
            yes(worker.idle),
            format!("{:.1}", worker.busy_percent),
            format!("{:.1}", worker.cpu_percent),
            if worker.stalled { "stalled" } else { "fine" }.into(),
            worker.held.to_string(),
            worker.icmp_sent.to_string(),
            worker.destructors.to_string(),
        ]);
    }
    let mut text = columns.finish();
    if list.workers.iter().all(|worker| worker.queues.is_empty()) {
        return text;
    }
    let mut columns = Columns::new(&["worker", "queue", "port", "packets", "full bursts", "software rss"]);
    for worker in &list.workers {
        for (number, queue) in worker.queues.iter().enumerate() {
            columns.row(vec![
                worker.worker.to_string(),
                number.to_string(),
                queue.port.clone(),
                queue.packets.to_string(),
                queue.full_bursts.to_string(),
                queue.software_rss.to_string(),
            ]);
        }
    }
    let _ = write!(text, "\n{}", columns.finish());
    text
}

pub fn drops(list: &DropList) -> String {
    let mut columns = Columns::new(&["port", "reason", "packets"]);
    for drop in &list.drops {
        columns.row(vec![drop.port.clone(), drop.reason.clone(), drop.packets.to_string()]);
    }
    let mut text = columns.finish();
    let _ = writeln!(
        text,
        "received {} = sent {} + dropped {} + host {} + held {}",
        list.received, list.sent, list.dropped, list.host, list.held
    );
    if !list.icmp_limited.is_empty() {
        let mut columns = Columns::new(&["icmp not sent", "messages"]);
        for limited in &list.icmp_limited {
            columns.row(vec![limited.kind.clone(), limited.messages.to_string()]);
        }
        let _ = write!(text, "\n{}", columns.finish());
    }
    text
}
