//! Hosts behind NIC hosts get copies: a chain of three tiers passes a change on in 10 ms.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;
use std::time::{Duration, Instant};

use fibcast_control::protocol::{RouteQuery, RouteRequest};
use fibcast_control::{Answer, Request, ask};
use fibcast_interop::{Lab, agent_toml, eventually, mirror_of_table, route_server_toml, table};

const ROUTES: u32 = 20_000;
const CHANGES: u32 = 60;

/// When a daemon has a route to an address by a next hop.
fn seen(socket: &Path, address: &str, via: &str) -> Instant {
    let end = Instant::now() + Duration::from_secs(10);
    let query = RouteQuery::Address(address.parse().unwrap());
    let request = Request::Routes(RouteRequest { query, limit: 1, ..RouteRequest::default() });
    loop {
        let answer = ask(socket, &request, Duration::from_secs(5));
        let now = Instant::now();
        if let Ok(Answer::Routes(list)) = answer
            && list.routes.first().is_some_and(|route| route.via == [via])
        {
            return now;
        }
        assert!(now < end, "{}: no route to {address} via {via}", socket.display());
        std::thread::sleep(Duration::from_micros(200));
    }
}

#[test]
fn a_change_passes_three_tiers_within_10_ms() {
    let Some(lab) = Lab::new(&[]) else { return };
    let (a, r, l) = (lab.host("a"), lab.host("r"), lab.host("l"));
    let _network = lab.network(&[&a, &r, &l]);
    a.uplink();
    a.ip_batch(&table("add", 0..ROUTES, "192.0.2.2"));
    let server = a.ours(
        "fibcast-route-server",
        "rs",
        &route_server_toml(&a, "rs", "0.0.0.0:7830", &mirror_of_table("a")),
    );
    let toml = agent_toml(&r, "relay", Some("0.0.0.0:7830"), &["10.255.0.1:7830"], "");
    let relay = r.ours("fibcast-agent", "relay", &toml);
    let leaf = l.ours("fibcast-agent", "leaf", &agent_toml(&l, "leaf", None, &["10.255.0.2:7830"], ""));
    eventually("a copy in each tier", 30, || {
        leaf.count() == u64::from(ROUTES) && leaf.digest() == server.digest()
    });
    assert_eq!((relay.count(), relay.digest()), (leaf.count(), leaf.digest()));

    let mut took: Vec<Duration> = (0..CHANGES)
        .map(|n| {
            let via = if n % 2 == 0 { "192.0.2.3" } else { "192.0.2.2" };
            let address = format!("16.0.{}.1", n / 2);
            let sockets = [server.socket(), leaf.socket()];
            let [first, last] = std::thread::scope(|scope| {
                let watch = |socket: &std::path::PathBuf| {
                    let (socket, address) = (socket.clone(), address.clone());
                    scope.spawn(move || seen(&socket, &address, via))
                };
                let threads = [watch(&sockets[0]), watch(&sockets[1])];
                a.ip_batch(&table("replace", n / 2..n / 2 + 1, via));
                threads.map(|thread| thread.join().unwrap())
            });
            last.saturating_duration_since(first)
        })
        .collect();
    took.sort();
    let ms = |at: usize| took[at].as_secs_f64() * 1e3;
    let (median, late) = (ms(took.len() / 2), ms(took.len() * 9 / 10));
    println!(
        "from tier 1 to tier 3, {CHANGES} changes: median {median:.1} ms, nine of ten within {late:.1} ms, all within {:.1} ms (goal: 10 ms)",
        ms(took.len() - 1)
    );
    // The machine may be busy with other things; the goal is judged by the figure above.
    assert!(median < 100.0, "median {median} ms");
    assert_eq!(leaf.digest(), server.digest());
}
