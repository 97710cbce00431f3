//! Answers as text for people, and as JSON for programs.

use fibcast_control::Answer;
use fibcast_control::status::{ClientStatus, OriginStatus, ServerStatus, Status};
use fibcast_control::tables::{
    DropList, GroupList, GroupTraffic, NeighborList, PortList, RouteList, WorkerList,
};
use std::fmt::Write;

use crate::Show;

/// One line of JSON: what was asked for, without an envelope.
pub fn json(show: &Show, answer: &Answer) -> serde_json::Result<String> {
    let mut text = match (show, answer) {
        (Show::Servers, Answer::Status(status)) => serde_json::to_string(servers(status)),
        (Show::Clients, Answer::Status(status)) => serde_json::to_string(&status.clients),
        (_, Answer::Status(status)) => serde_json::to_string(status),
        (_, Answer::Routes(list)) => serde_json::to_string(list),
        (_, Answer::Groups(list)) => serde_json::to_string(list),
        (_, Answer::Neighbors(list)) => serde_json::to_string(list),
        (_, Answer::Ports(list)) => serde_json::to_string(list),
        (_, Answer::Workers(list)) => serde_json::to_string(list),
        (_, Answer::Drops(list)) => serde_json::to_string(list),
        (_, Answer::Kv(list)) => serde_json::to_string(list),
        (_, Answer::Captured(captured)) => serde_json::to_string(captured),
        (_, Answer::Trace(trace)) => serde_json::to_string(trace),
        (_, Answer::Done(said)) => serde_json::to_string(said),
    }?;
    text.push('\n');
    Ok(text)
}

/// Text with aligned columns.
pub fn text(show: &Show, answer: &Answer) -> String {
    match (show, answer) {
        (Show::Servers, Answer::Status(status)) => table_of_servers(servers(status)),
        (Show::Clients, Answer::Status(status)) => table_of_clients(&status.clients),
        (_, Answer::Status(status)) => status_page(status),
        (_, Answer::Routes(list)) => routes(list),
        (_, Answer::Groups(list)) => groups(list),
        (_, Answer::Neighbors(list)) => neighbors(list),
        (_, Answer::Ports(list)) => ports(list),
        (_, Answer::Workers(list)) => workers(list),
        (_, Answer::Drops(list)) => drops(list),
        // Commands of their own show these.
        (_, Answer::Captured(_) | Answer::Trace(_)) => String::new(),
        (_, Answer::Done(said)) => format!("{said}\n"),
        (_, Answer::Kv(list)) => list.entries.iter().map(crate::kv::line).collect(),
    }
}

fn servers(status: &Status) -> &[ServerStatus] {
    status.sync.as_ref().map_or(&[], |sync| &sync.servers)
}

/// Columns as wide as their widest cell; numbers to the right. The last column is not padded.
struct Columns {
    rows: Vec<Vec<String>>,
}

impl Columns {
    fn new(heads: &[&str]) -> Columns {
        Columns { rows: vec![heads.iter().map(|head| (*head).to_owned()).collect()] }
    }

    fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    fn finish(self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            self.rows
                .iter()
                .filter_map(|row| row.get(column))
                .map(|cell| cell.chars().count())
                .max()
                .unwrap_or(0)
        };
        let numeric = |column: usize| {
            self.rows.iter().skip(1).filter_map(|row| row.get(column)).all(|cell| cell.parse::<f64>().is_ok())
        };
        let shapes: Vec<(usize, bool)> =
            (0..columns).map(|column| (width(column), numeric(column))).collect();
        let mut text = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for (cell, (width, numeric)) in row.iter().zip(&shapes) {
                if *numeric {
                    let _ = write!(line, "{cell:>width$}  ");
                } else {
                    let _ = write!(line, "{cell:<width$}  ");
                }
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

fn or_dash(text: &Option<String>) -> String {
    text.clone().unwrap_or_else(|| "-".into())
}

fn yes(value: bool) -> String {
    if value { "yes" } else { "no" }.into()
}

fn status_page(status: &Status) -> String {
    let mut page = String::new();
    let table = &status.table;
    let state = match (status.ready, status.stale) {
        (_, true) => "stale: no capable server, the table is kept as it was",
        (true, false) => "ready",
        (false, false) => "not ready",
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
            let _ = writeln!(page, "{} workers stand still or have ended", forwarding.workers_stalled);
        }
        if forwarding.address_conflicts != 0 {
            let _ = writeln!(
                page,
                "another station claimed an address of this router {} times: see the log",
                forwarding.address_conflicts
            );
        }
        if forwarding.agent_restarts != 0 {
            let _ = writeln!(page, "the agent was started again {} times", forwarding.agent_restarts);
        }
        if let Some(error) = &forwarding.apply_error {
            let _ = writeln!(page, "the pending batch cannot be applied: {error}");
        }
    }
    if let Some(kernel) = &status.kernel {
        let _ = writeln!(
            page,
            "kernel table {}: {} routes, {} refused, {} unfit, {} of VRFs without a table, {} still to be written",
            kernel.table, kernel.routes, kernel.refused, kernel.unfit, kernel.left_out, kernel.pending
        );
        if let Some(error) = &kernel.last_error {
            let _ = writeln!(page, "kernel: {error}");
        }
    }
    if !status.sources.is_empty() {
        let mut columns = Columns::new(&[
            "source",
            "kind",
            "state",
            "routes",
            "limit",
            "denied",
            "changes",
            "end of table",
            "last error",
        ]);
        for source in &status.sources {
            columns.row(vec![
                source.origin.clone(),
                source.kind.clone(),
                source.state.clone(),
                source.routes.to_string(),
                source.max_prefixes.map_or_else(|| "-".to_owned(), |most| most.to_string()),
                source.denied.to_string(),
                source.changes.to_string(),
                yes(source.end_of_table),
                or_dash(&source.last_error),
            ]);
        }
        let _ = write!(page, "\n{}", columns.finish());
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
        let mut columns =
            Columns::new(&["peer", "name", "state", "routes", "origins", "stale", "last error"]);
        for peer in &status.peers {
            columns.row(vec![
                peer.address.clone(),
                or_dash(&peer.name),
                peer.state.clone(),
                peer.routes.to_string(),
                peer.origins.join(","),
                yes(peer.stale),
                or_dash(&peer.last_error),
            ]);
        }
        let _ = write!(page, "\n{}", columns.finish());
    }
    if !status.clients.is_empty() {
        let _ = write!(page, "\n{}", table_of_clients(&status.clients));
    }
    page
}

fn table_of_servers(servers: &[ServerStatus]) -> String {
    let heads = [
        "server",
        "role",
        "name",
        "state",
        "ready",
        "lag",
        "bytes in",
        "bytes out",
        "certificate",
        "last error",
    ];
    let mut columns = Columns::new(&heads);
    for server in servers {
        columns.row(vec![
            server.address.clone(),
            server.role.to_string(),
            or_dash(&server.name),
            server.state.clone(),
            if server.stale { format!("{}, stale", yes(server.ready)) } else { yes(server.ready) },
            server.lag.to_string(),
            server.received_bytes.to_string(),
            server.sent_bytes.to_string(),
            certificate(&server.certificate),
            or_dash(&server.last_error),
        ]);
    }
    columns.finish()
}

fn table_of_clients(clients: &[ClientStatus]) -> String {
    let heads = [
        "client",
        "address",
        "table",
        "role",
        "state",
        "serial",
        "lag",
        "bytes in",
        "bytes out",
        "queued",
        "certificate",
        "last error",
    ];
    let mut columns = Columns::new(&heads);
    for client in clients {
        columns.row(vec![
            client.name.clone(),
            client.address.clone(),
            client.table.clone(),
            client.role.to_string(),
            client.state.clone(),
            client.serial.to_string(),
            client.lag.to_string(),
            client.received_bytes.to_string(),
            client.sent_bytes.to_string(),
            client.queued_bytes.to_string(),
            certificate(&client.certificate),
            or_dash(&client.last_error),
        ]);
    }
    columns.finish()
}

/// The names in a certificate.
fn certificate(names: &[String]) -> String {
    if names.is_empty() { "plain TCP".into() } else { names.join(",") }
}

/// The name of each origin, what its lease says, and how its routes count here.
fn origins(list: &[OriginStatus]) -> String {
    let heads =
        ["origin", "server", "state", "counted", "routes", "epoch", "sequence", "lease left", "id", "path"];
    let mut columns = Columns::new(&heads);
    for origin in list {
        columns.row(vec![
            origin.name.clone(),
            origin.server.clone(),
            origin.state.clone(),
            origin.counted.clone(),
            origin.routes.to_string(),
            format!("{:016x}", origin.epoch),
            origin.sequence.to_string(),
            origin.lease_left_ms.map_or_else(|| "-".to_owned(), |ms| format!("{:.1} s", ms as f64 / 1e3)),
            origin.id.clone(),
            if origin.path.is_empty() { "-".to_owned() } else { origin.path.join(" > ") },
        ]);
    }
    let mut text = columns.finish();
    let mut conflicts: Vec<&String> = list.iter().filter_map(|origin| origin.conflict.as_ref()).collect();
    conflicts.sort_unstable();
    conflicts.dedup();
    for conflict in conflicts {
        let _ = writeln!(text, "{conflict}");
    }
    text
}

/// Every origin's route, the best one marked, and what decided.
fn choices(list: &RouteList) -> String {
    let heads = [
        "",
        "vrf",
        "prefix",
        "via",
        "origin",
        "server",
        "distance",
        "metric",
        "origin id",
        "stale",
        "decided by",
    ];
    let mut columns = Columns::new(&heads);
    for route in &list.routes {
        let Some(choice) = &route.choice else { continue };
        columns.row(vec![
            if choice.best { "*" } else { "" }.to_owned(),
            route.vrf.to_string(),
            route.prefix.to_string(),
            route.via.join(", "),
            or_dash(&route.origin),
            choice.server.clone(),
            choice.distance.to_string(),
            choice.metric.to_string(),
            choice.origin_id.clone(),
            yes(choice.stale),
            if choice.best { choice.decided_by.clone() } else { format!("lost by {}", choice.decided_by) },
        ]);
    }
    let mut text = columns.finish();
    let _ = writeln!(text, "{} shown, {} in the table", list.routes.len(), list.total);
    text
}

fn routes(list: &RouteList) -> String {
    if list.routes.iter().any(|route| route.choice.is_some()) {
        return choices(list);
    }
    let mut columns = Columns::new(&["vrf", "prefix", "via", "origin", "group"]);
    for route in &list.routes {
        columns.row(vec![
            route.vrf.to_string(),
            route.prefix.to_string(),
            route.via.join(", "),
            or_dash(&route.origin),
            route.label.clone(),
        ]);
    }
    let mut text = columns.finish();
    let _ = writeln!(text, "{} shown, {} in the table", list.routes.len(), list.total);
    text
}

fn groups(list: &GroupList) -> String {
    let mut columns = Columns::new(&["group", "packets", "bytes", "via"]);
    for group in &list.groups {
        let count = |count: fn(&GroupTraffic) -> u64| {
            group.traffic.as_ref().map_or_else(|| "-".to_owned(), |traffic| count(traffic).to_string())
        };
        let (packets, bytes) = (count(|traffic| traffic.packets), count(|traffic| traffic.bytes));
        columns.row(vec![group.label.clone(), packets, bytes, group.via.join(", ")]);
    }
    columns.finish()
}

fn neighbors(list: &NeighborList) -> String {
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

fn ports(list: &PortList) -> String {
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
        "tx pressed",
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
            port.tx_pressed.to_string(),
            port.driver.clone(),
            addresses.join(","),
        ]);
    }
    columns.finish()
}

fn workers(list: &WorkerList) -> String {
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
    let mut columns = Columns::new(&["worker", "queue", "port", "packets", "full bursts", "handed on"]);
    for worker in &list.workers {
        for (number, queue) in worker.queues.iter().enumerate() {
            columns.row(vec![
                worker.worker.to_string(),
                number.to_string(),
                queue.port.clone(),
                queue.packets.to_string(),
                queue.full_bursts.to_string(),
                queue.handed_on.to_string(),
            ]);
        }
    }
    let _ = write!(text, "\n{}", columns.finish());
    text
}

fn drops(list: &DropList) -> String {
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
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use fibcast_control::tables::{DropCount, WorkerStatus};

    #[test]
    fn numbers_stand_to_the_right_and_words_to_the_left() {
        let list = DropList {
            received: 12,
            sent: 2,
            dropped: 10,
            drops: vec![
                DropCount { port: "p0".into(), reason: "no_route".into(), packets: 9 },
                DropCount { port: "uplink".into(), reason: "ttl_exceeded".into(), packets: 1000 },
            ],
            ..DropList::default()
        };
        let expected = "\
port    reason        packets
p0      no_route            9
uplink  ttl_exceeded     1000
received 12 = sent 2 + dropped 10 + host 0 + held 0
";
        assert_eq!(text(&Show::Drops, &Answer::Drops(list)), expected);
    }

    #[test]
    fn destructors_that_ran_on_a_worker_are_shown_beside_it() {
        let worker = |worker, destructors| WorkerStatus { worker, destructors, ..WorkerStatus::default() };
        let list = WorkerList { workers: vec![worker(0, 0), worker(1, 3)] };
        let page = text(&Show::Workers, &Answer::Workers(list));
        let last: Vec<&str> = page.lines().filter_map(|line| line.split_whitespace().last()).collect();
        assert_eq!(last, ["destructors", "0", "3"]);
    }
}
