//! Only the primary speaks while it is capable: on the secondary's connection there are heartbeats and nothing else. Killed, stopped, cut
//! off in both directions or in one, or alive but not ready: the secondary is activated, and not before.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::{Duration, Instant};

use fibcast_control::status::Role;
use fibcast_control::{Answer, Request};
use fibcast_interop::{
    Host, Lab, Ours, agent_toml, always, eventually, mirror_of_table, route_server_toml, table,
};

const ROUTES: u32 = 5_000;
const HEARTBEAT: Duration = Duration::from_millis(100);

fn server_toml(host: &Host<'_>, name: &str, more: &str) -> String {
    let rest = format!("[sync]\nheartbeat_ms = 100\n{more}{}", mirror_of_table(name));
    route_server_toml(host, name, "0.0.0.0:7830", &rest)
}

/// What happens takes the primary away: the secondary is in use, with all routes.
#[track_caller]
fn taken_over(agent: &Ours<'_>, why: &str, failovers: &mut u64, happen: impl FnOnce()) {
    let begin = Instant::now();
    happen();
    let active = || match agent.ask(Request::Status) {
        Some(Answer::Status(status)) => status.sync.and_then(|sync| sync.active),
        _ => None,
    };
    while active() != Some(Role::Secondary) {
        assert!(begin.elapsed() < Duration::from_secs(10), "not within 10 s: {why}");
        std::thread::sleep(Duration::from_millis(1));
    }
    let took = begin.elapsed();
    let sync = agent.sync();
    *failovers += 1;
    assert_eq!(sync.failovers, *failovers, "{why}: once");
    assert_eq!((agent.count(), sync.routes_differing), (u64::from(ROUTES), 0), "{why}");
    println!("{why}: the secondary is active after {} ms", took.as_millis());
}

/// The primary is in use again, and stays so.
#[track_caller]
fn taken_back(agent: &Ours<'_>, failovers: &mut u64) {
    eventually("the primary is in use again", 30, || agent.active() == Some(Role::Primary));
    *failovers += 1;
    always("the primary", 1, || {
        let sync = agent.sync();
        (sync.active, sync.failovers) == (Some(Role::Primary), *failovers)
    });
}

#[test]
fn the_secondary_only_beats_until_the_primary_is_killed_stopped_cut_off_or_unready() {
    let Some(lab) = Lab::new(&["nft"]) else { return };
    let (a, b, h) = (lab.host("a"), lab.host("b"), lab.host("h"));
    let network = lab.network(&[&a, &b, &h]);
    for host in [&a, &b] {
        host.uplink();
        host.ip_batch(&table("add", 0..ROUTES, "192.0.2.2"));
    }
    let mut primary = a.ours("fibcast-route-server", "rs-a", &server_toml(&a, "rs-a", ""));
    let secondary = b.ours("fibcast-route-server", "rs-b", &server_toml(&b, "rs-b", ""));
    let servers = ["10.255.0.1:7830", "10.255.0.2:7830"];
    let keys = format!("heartbeat_ms = {}\nfailback_s = 1\n", HEARTBEAT.as_millis());
    let agent = h.ours("fibcast-agent", "nh", &agent_toml(&h, "nh", None, &servers, &keys));
    eventually("both ready, the table from the primary", 30, || {
        let ready = |role| agent.server(role).ready;
        agent.active() == Some(Role::Primary)
            && agent.count() == u64::from(ROUTES)
            && ready(Role::Primary)
            && ready(Role::Secondary)
    });
    let mut failovers = agent.sync().failovers;

    // Bytes on the secondary's connection: the same for each heartbeat, whatever changes.
    let span = |changes: &mut dyn FnMut()| {
        let bytes = |role| agent.server(role).received_bytes;
        let (begin, before) = (Instant::now(), [bytes(Role::Primary), bytes(Role::Secondary)]);
        changes();
        std::thread::sleep(Duration::from_secs(3).saturating_sub(begin.elapsed()));
        let heartbeats = begin.elapsed().div_duration_f64(HEARTBEAT);
        let got = [bytes(Role::Primary) - before[0], bytes(Role::Secondary) - before[1]];
        (got[0], got[1], got[1] as f64 / heartbeats)
    };
    let quiet = span(&mut || {});
    let batch = |via| table("replace", 0..ROUTES, via);
    let (serial, changes) = (agent.status().table.serial, agent.status().table.changes);
    let busy = span(&mut || {
        for via in ["192.0.2.3", "192.0.2.2", "192.0.2.3", "192.0.2.2"] {
            a.ip_batch(&batch(via));
            b.ip_batch(&batch(via));
        }
    });
    let status = agent.status();
    println!(
        "from the primary {} bytes at rest, {} while {} records changed in {} commits; from the secondary {} and {}",
        quiet.0,
        busy.0,
        status.table.changes - changes,
        status.table.serial - serial,
        quiet.1,
        busy.1
    );
    assert!(busy.0 > quiet.0 + 2 * u64::from(ROUTES), "the primary tells changes");
    assert!((16.0..=64.0).contains(&quiet.2), "{} bytes a heartbeat", quiet.2);
    assert!(busy.2 < 1.3 * quiet.2 + 4.0, "{} bytes a heartbeat, {} at rest", busy.2, quiet.2);
    let secondary_says = secondary.status().clients;
    let client = secondary_says.iter().find(|client| client.name == "nh").unwrap();
    assert!(!client.active && client.role == Role::Secondary, "{client:?}");
    assert_eq!((agent.sync().failovers, agent.active()), (failovers, Some(Role::Primary)));

    taken_over(&agent, "kill -9", &mut failovers, || primary.kill());
    primary.start();
    taken_back(&agent, &mut failovers);

    taken_over(&agent, "SIGSTOP", &mut failovers, || primary.process().pause());
    primary.process().resume();
    taken_back(&agent, &mut failovers);

    taken_over(&agent, "cable cut in both directions", &mut failovers, || network.cut(&a));
    network.mend(&a);
    taken_back(&agent, &mut failovers);

    taken_over(&agent, "cut from the primary to the host", &mut failovers, || h.deafen("10.255.0.1"));
    h.hear();
    taken_back(&agent, &mut failovers);

    taken_over(&agent, "cut from the host to the primary", &mut failovers, || a.deafen("10.255.0.3"));
    a.hear();
    taken_back(&agent, &mut failovers);

    // It comes back with a source that says nothing: alive, and not ready until its time is over.
    taken_over(&agent, "kill -9 again", &mut failovers, || primary.kill());
    let silent = "[rib]\nready_timeout_ms = 12000\n\
        [[source]]\norigin = \"silent\"\nkind = \"fpm\"\nlisten = \"127.0.0.1:2620\"\n";
    primary.rewrite(&server_toml(&a, "rs-a", silent));
    primary.start();
    eventually("connected", 5, || agent.server(Role::Primary).name.as_deref() == Some("rs-a"));
    always("alive is not ready", 8, || {
        let sync = agent.sync();
        (sync.active, sync.failovers) == (Some(Role::Secondary), failovers)
            && !agent.server(Role::Primary).ready
    });
    assert_eq!(primary.count(), u64::from(ROUTES), "although it has the whole table");
    taken_back(&agent, &mut failovers);
}

#[test]
fn a_server_that_was_never_ready_is_never_used() {
    let Some(lab) = Lab::new(&[]) else { return };
    let (a, b, h) = (lab.host("a"), lab.host("b"), lab.host("h"));
    let _network = lab.network(&[&a, &b, &h]);
    b.uplink();
    b.ip_batch(&table("add", 0..100, "192.0.2.2"));
    let silent = "[[source]]\norigin = \"silent\"\nkind = \"fpm\"\nlisten = \"127.0.0.1:2620\"\n";
    let primary =
        a.ours("fibcast-route-server", "rs-a", &route_server_toml(&a, "rs-a", "0.0.0.0:7830", silent));
    let _secondary = b.ours("fibcast-route-server", "rs-b", &server_toml(&b, "rs-b", ""));
    let servers = ["10.255.0.1:7830", "10.255.0.2:7830"];
    let agent = h.ours("fibcast-agent", "nh", &agent_toml(&h, "nh", None, &servers, "heartbeat_ms = 100\n"));
    eventually("the table from the secondary", 20, || agent.count() == 100);
    always("the secondary", 3, || agent.active() == Some(Role::Secondary));
    assert!(!primary.status().ready && !agent.server(Role::Primary).ready);
}
