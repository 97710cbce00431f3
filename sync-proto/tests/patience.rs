//! Each state has its time: a peer that stops in it is given up, and the machine asks to be woken for that.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::time::Duration;

use common::*;
use fibcast_sync_proto::client::{Action, Client, ClientConfig};
use fibcast_sync_proto::frame::{Frame, Role, State};
use fibcast_sync_proto::server::{Served, Server, ServerEvent, Tables};
use fibcast_sync_proto::{DigestKey, RootDigest, Subset, Table};

struct One(Table);

impl Tables for One {
    fn served(&self, name: &str) -> Option<Served<'_>> {
        (name == "fib").then_some(Served { table: &self.0, ready: true, path: &[] })
    }
}

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn bytes(frames: &[Frame<'_>]) -> Vec<u8> {
    let mut out = Vec::new();
    frames.iter().for_each(|f| f.encode(&mut out));
    out
}

fn hello() -> Frame<'static> {
    Frame::Hello { name: "peer".into() }
}

fn register() -> Frame<'static> {
    Frame::Register {
        table: "fib".into(),
        role: Role::Primary,
        heartbeat_ms: 300,
        digest_key: DigestKey::PUBLIC.id(),
        path: Vec::new(),
        subset: Subset::default(),
    }
}

/// When a server gives up a client that says this and then nothing more, waking only when the machine wants it.
fn server_gives_up(frames: &[Frame<'_>]) -> (Duration, String) {
    let tables = One(table(5, 3_000));
    let mut server = Server::new("rs");
    let mut now = ms(1_000);
    let id = server.accept(now);
    server.handle_bytes(now, id, &bytes(frames), &tables);
    for _ in 0..1_000 {
        while let Some(event) = server.poll_event() {
            if let ServerEvent::Ended { error, .. } = event {
                return (now - ms(1_000), error.to_string());
            }
        }
        now = server.poll_timeout().expect("a session has a timer").max(now);
        server.handle_timeout(now, &tables);
        // The client's system takes everything, the client says nothing.
        server.sent(id, usize::MAX);
    }
    panic!("never given up");
}

#[test]
fn server_gives_up_a_client_that_stops_in_any_state() {
    let other = RootDigest { hash: 7, count: 3_000 };
    let activate = Frame::Activate { epoch: 0, serial: 0, digest: other, copy: false };
    let copy = Frame::Activate { epoch: 0, serial: 0, digest: other, copy: true };
    let cases: [(&str, Vec<Frame<'_>>, u64); 5] = [
        ("greeting", vec![], 5_000),
        ("registering", vec![hello()], 5_000),
        ("standby", vec![hello(), register()], 3_300),
        ("sketching", vec![hello(), register(), activate], 3_300),
        ("active", vec![hello(), register(), copy], 3_300),
    ];
    for (state, frames, most) in cases {
        let (after, error) = server_gives_up(&frames);
        assert!(after <= ms(most) && after >= ms(most * 8 / 10), "{state}: after {after:?}");
        assert!(error.starts_with("silent for"), "{state}: {error}");
    }
}

/// When a client gives up a server that says this when it is connected, and then `again` every 100 ms.
fn client_gives_up(connected: bool, frames: &[Frame<'_>], again: Option<&Frame<'_>>) -> (Duration, String) {
    let mut copy = Table::new(9);
    let mut now = ms(1_000);
    let mut client = Client::new(ClientConfig::new("nic", "fib", vec![Role::Primary]), now);
    assert_eq!(client.poll_action(), Some(Action::Connect(0)));
    if connected {
        client.handle_connected(now, 0);
        frames.iter().for_each(|f| client.handle_bytes(now, 0, &bytes(std::slice::from_ref(f)), &mut copy));
    }
    let mut next = now + ms(100);
    for _ in 0..1_000 {
        if client.poll_action() == Some(Action::Disconnect(0)) {
            return (now - ms(1_000), client.links()[0].last_error.clone().unwrap());
        }
        now = client.poll_timeout().expect("a link has a timer").min(next).max(now);
        if now >= next {
            next += ms(100);
            if let Some(again) = again.filter(|_| connected) {
                client.handle_bytes(now, 0, &bytes(std::slice::from_ref(again)), &mut copy);
            }
        }
        client.handle_timeout(now, &mut copy);
    }
    panic!("never given up");
}

#[test]
fn client_gives_up_a_server_that_stops_in_any_state() {
    let state = |ready| State {
        epoch: 5,
        serial: 1,
        digest: RootDigest { hash: 7, count: 9 },
        ready,
        stale: false,
        path: Vec::new(),
    };
    let beat = Frame::Heartbeat(Some(state(true)));
    let welcome = |ready| vec![hello(), Frame::Welcome(state(ready))];
    // A table that does not lead to its digest: the client deactivates, and nobody answers.
    let wrong = [
        welcome(true),
        vec![
            Frame::Begin { mode: fibcast_sync_proto::frame::Mode::Snapshot, from: 0 },
            Frame::Commit { epoch: 5, serial: 1, count: 0, digest: RootDigest { hash: 7, count: 9 } },
        ],
    ]
    .concat();
    let cases = [
        ("connecting", false, vec![], None, 5_000, "silent for"),
        ("greeting", true, vec![], None, 5_000, "silent for"),
        ("half a greeting", true, vec![hello()], None, 5_000, "silent for"),
        ("standby", true, welcome(false), None, 900, "silent for"),
        ("activating in silence", true, welcome(true), None, 900, "silent for"),
        ("activating, heartbeats only", true, welcome(true), Some(&beat), 10_000, "no data within 10 s"),
        ("stopping", true, wrong, Some(&beat), 10_000, "no answer to Deactivate"),
    ];
    for (what, connected, frames, again, most, says) in cases {
        let (after, error) = client_gives_up(connected, &frames, again);
        assert!(after <= ms(most + 400) && after >= ms(most * 8 / 10), "{what}: after {after:?}: {error}");
        assert!(error.contains(says), "{what}: {error}");
    }
}

/// 600 times: the difference to a table that nobody has, all symbols of it, and two records.
fn dear_questions() -> Vec<u8> {
    let question = |n: u64| {
        let digest = RootDigest { hash: u128::from(n + 1) << 64, count: 20_004 };
        [
            Frame::Activate { epoch: 0, serial: 0, digest, copy: false },
            Frame::More { until: 4_000 },
            Frame::Want { last: true, ids: vec![n, n + 1] },
        ]
    };
    (0..600).flat_map(|n| bytes(&question(n))).collect()
}

#[test]
fn questions_without_end_wait_their_turn_and_are_all_answered_to_who_reads() {
    let tables = One(table(5, 20_000));
    let mut server = Server::new("rs");
    let mut now = ms(1_000);
    let (greedy, good) = (server.accept(now), server.accept(now));
    for id in [greedy, good] {
        server.handle_bytes(now, id, &bytes(&[hello(), register()]), &tables);
        server.sent(id, usize::MAX);
    }
    server.handle_bytes(now, greedy, &dear_questions(), &tables);
    // Without reading it gets a few answers, some 56 KiB each, and no more however often the machine is called.
    for _ in 0..20 {
        assert!(server.queued(greedy) < 600 * 1024, "{} bytes wait", server.queued(greedy));
        assert!(!server.listens(greedy) && server.listens(good));
        server.handle_timeout(now, &tables);
        server.pump(&tables);
    }
    // The one that reads is answered in portions, each of which leaves the other its heartbeat, and is heard again at the end.
    let (mut taken, mut calls) = (0, 0);
    while !server.listens(greedy) {
        taken += server.queued(greedy);
        server.sent(greedy, usize::MAX);
        assert_eq!(server.poll_timeout(), Some(Duration::ZERO), "there is something to do at once");
        now += ms(10);
        server.handle_bytes(now, good, &bytes(&[Frame::Heartbeat(None)]), &tables);
        server.handle_timeout(now, &tables);
        assert!(server.queued(greedy) < 600 * 1024, "{} bytes in one turn", server.queued(greedy));
        calls += 1;
        assert!(calls < 5_000);
    }
    assert!(calls > 60 && taken > 600 * 50 * 1024, "{taken} bytes in {calls} calls");
    assert!(server.queued(good) > 0, "the other one got its heartbeats");
    assert_eq!(server.sessions().len(), 2);
}
