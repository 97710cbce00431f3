//! Answers as text for people, with aligned columns; a file for each kind of page.

mod about;
mod columns;
mod dataplane;
mod routes;
mod sessions;
mod status;

pub use self::about::{config, interfaces, next_hops, versions};
pub use self::dataplane::{drops, neighbors, ports, workers};
pub use self::routes::{RoutePages, groups};
pub use self::sessions::{table_of_clients, table_of_servers};
pub use self::status::status_page;

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
        assert_eq!(drops(&list), expected);
    }

    #[test]
    fn destructors_that_ran_on_a_worker_are_shown_beside_it() {
        let worker = |worker, destructors| WorkerStatus { worker, destructors, ..WorkerStatus::default() };
        let list = WorkerList { workers: vec![worker(0, 0), worker(1, 3)], ..WorkerList::default() };
        let page = workers(&list);
        let last: Vec<&str> = page.lines().filter_map(|line| line.split_whitespace().last()).collect();
        assert_eq!(last, ["destructors", "0", "3"]);
    }
}
