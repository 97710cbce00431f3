//! Answers as text for people and as JSON for programs; one file for each kind of page.

mod columns;
mod dataplane;
mod routes;
mod sessions;
mod status;

use fibcast_control::Answer;
use fibcast_control::status::{ServerStatus, Status};

use self::dataplane::{drops, neighbors, ports, workers};
use self::routes::{groups, routes};
use self::sessions::{table_of_clients, table_of_servers};
use self::status::status_page;
use crate::Show;

/// One line of JSON: the requested content without envelope.
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
        (_, Answer::Done(message)) => serde_json::to_string(message),
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
        // Other commands print these.
        (_, Answer::Captured(_) | Answer::Trace(_)) => String::new(),
        (_, Answer::Done(message)) => format!("{message}\n"),
        (_, Answer::Kv(list)) => list.entries.iter().map(crate::kv::line).collect(),
    }
}

fn servers(status: &Status) -> &[ServerStatus] {
    status.sync.as_ref().map_or(&[], |sync| &sync.servers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use fibcast_control::tables::{DropCount, DropList, WorkerList, WorkerStatus};

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
