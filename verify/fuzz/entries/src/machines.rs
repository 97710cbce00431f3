//! Client and server machines under arbitrary bytes and arbitrary orders of events.

use std::time::Duration;

use fibcast_sync_proto::client::{Client, ClientConfig};
use fibcast_sync_proto::frame::{Frame, Mode, Role, State};
use fibcast_sync_proto::server::{Limits, Served, Server, Tables};
use fibcast_sync_proto::sketch::RootDigest;
use fibcast_sync_proto::subset::{Family, Subset};
use fibcast_sync_proto::{Change, GroupValue, Key, Label, Table, Value};

use crate::Input;

/// Steps of one input.
const STEPS: usize = 300;

fn put(i: u32, last: u8) -> [Change; 2] {
    let value = GroupValue::via([192, 0, 2, last].into());
    let label = Label::of(&value);
    let prefix = ipnet::Ipv4Net::new((i << 8).into(), 24).expect("24 bits are a length").into();
    [
        Change::Put(Key::Group(label), Value::Group(value)),
        Change::Put(Key::Route { vrf: i % 2, prefix }, Value::Route(label)),
    ]
}

fn table(epoch: u64, n: u32) -> Table {
    let mut table = Table::new(epoch).with_tombstone_limit(4);
    table.commit((0..n).flat_map(|i| put(i, (i % 4) as u8))).expect("a good batch");
    table
}

/// A frame of any type with any body.
fn any_frame(input: &mut Input<'_>) -> Vec<u8> {
    let kind = match input.byte().unwrap_or(0) % 19 {
        // The optional ones.
        17 => 128,
        18 => 129,
        kind => kind,
    };
    let body = input.chunk();
    let n = (body.len() as u32).to_be_bytes();
    [&[kind, n[1], n[2], n[3]], body].concat()
}

fn state(input: &mut Input<'_>, digest: RootDigest) -> State {
    let flags = input.byte().unwrap_or(0);
    State {
        epoch: u64::from(flags >> 4) + 1,
        serial: u64::from(input.byte().unwrap_or(0)),
        digest,
        ready: flags & 1 == 0,
        stale: flags & 8 != 0,
        path: if flags & 2 == 0 {
            Vec::new()
        } else {
            vec!["x".into(), if flags & 4 == 0 { "y" } else { "nic" }.into()]
        },
    }
}

/// What a server may say, right or wrong.
fn server_words(input: &mut Input<'_>, table: &Table) -> Vec<u8> {
    let mut out = Vec::new();
    let digest = if input.byte().unwrap_or(0) & 1 == 0 { table.digest() } else { RootDigest::default() };
    match input.byte().unwrap_or(0) % 8 {
        0 => {
            Frame::Hello { name: "rs".into() }.encode(&mut out);
            Frame::Welcome(state(input, digest)).encode(&mut out);
        }
        1 => Frame::Welcome(state(input, digest)).encode(&mut out),
        2 => Frame::Heartbeat(Some(state(input, digest))).encode(&mut out),
        3 => {
            let mode =
                [Mode::Changes, Mode::Snapshot, Mode::Reconcile][usize::from(input.byte().unwrap_or(0) % 3)];
            Frame::Begin { mode, from: u64::from(input.byte().unwrap_or(0)) }.encode(&mut out);
        }
        4 => Frame::Commit {
            epoch: u64::from(input.byte().unwrap_or(0) >> 4) + 1,
            serial: u64::from(input.byte().unwrap_or(0)),
            count: 0,
            digest,
        }
        .encode(&mut out),
        5 => Frame::Equal { epoch: 1, serial: u64::from(input.byte().unwrap_or(0)) }.encode(&mut out),
        6 => {
            let first = u64::from(input.byte().unwrap_or(0)) * 16;
            let mut symbols: Vec<_> = table.sketch().symbols_from(first as usize).take(64).collect();
            if let Some(symbol) = symbols.first_mut() {
                symbol.sum ^= u64::from(input.number());
                symbol.count = symbol.count.wrapping_add(i64::from(input.number() as i16));
            }
            Frame::Symbols { serial: 3, count: table.len(), first, symbols }.encode(&mut out);
        }
        _ => Frame::Records(input.chunk()).encode(&mut out),
    }
    out
}

/// A client with two servers that say and do anything in any order. Its table stays sound.
pub fn client(data: &[u8]) {
    let mut input = Input::new(data);
    let mut now = Duration::from_secs(1);
    let mut table = table(9, u32::from(input.byte().unwrap_or(0) % 40));
    let mut config = ClientConfig::new("nic", "fib", vec![Role::Primary, Role::Secondary]);
    config.failback = Some(Duration::from_secs(1));
    let mut client = Client::new(config, now);
    for _ in 0..STEPS {
        let Some(op) = input.byte() else { break };
        let link = usize::from(op >> 4 & 1);
        match op & 15 {
            0 => client.handle_connected(now, link),
            1 => client.handle_disconnected(now, link, "reset", &mut table),
            2 => client.handle_bytes(now, link, input.chunk(), &mut table),
            3 | 4 => {
                let frame = any_frame(&mut input);
                client.handle_bytes(now, link, &frame, &mut table);
            }
            5 | 6 => {
                now += Duration::from_millis(u64::from(input.number()));
                client.handle_timeout(now, &mut table);
            }
            7 => {
                let n = client.transmit(link).len().min(usize::from(input.byte().unwrap_or(0)));
                client.sent(link, n);
            }
            _ => {
                let words = server_words(&mut input, &table);
                client.handle_bytes(now, link, &words, &mut table);
            }
        }
        while client.poll_action().is_some() {}
        while client.poll_event().is_some() {}
        let _ = (client.poll_timeout(), client.is_synced(), client.path(), client.links());
    }
    assert!(table.is_sound(), "the client's table is not what its digest says");
}

struct Lent<'t>(&'t Table, bool);

impl Tables for Lent<'_> {
    fn served(&self, name: &str) -> Option<Served<'_>> {
        (name == "fib").then_some(Served { table: self.0, ready: self.1, path: &[] })
    }
}

/// What a client may say, right or wrong.
fn client_words(input: &mut Input<'_>, table: &Table) -> Vec<u8> {
    let mut out = Vec::new();
    match input.byte().unwrap_or(0) % 7 {
        0 => {
            Frame::Hello { name: "nic".into() }.encode(&mut out);
            let flags = input.byte().unwrap_or(0);
            let family = [None, Some(Family::V4), Some(Family::V6)][usize::from(flags % 3)];
            let vrfs = if flags & 8 == 0 { Vec::new() } else { vec![u32::from(flags >> 6)] };
            let subset =
                if flags & 16 == 0 { Subset::default() } else { Subset::new(vrfs, family, Vec::new()) };
            let register = Frame::Register {
                table: "fib".into(),
                role: Role::Primary,
                heartbeat_ms: 300,
                digest_key: fibcast_sync_proto::DigestKey::PUBLIC.id(),
                path: Vec::new(),
                subset,
            };
            register.encode(&mut out);
        }
        1 => {
            let flags = input.byte().unwrap_or(0);
            let digest = if flags & 1 == 0 {
                RootDigest { hash: u128::from(flags), count: table.len() }
            } else {
                table.digest()
            };
            let epoch = if flags & 2 == 0 { table.epoch() } else { 77 };
            let serial = u64::from(input.byte().unwrap_or(0) % 16);
            Frame::Activate { epoch, serial, digest, copy: flags & 4 != 0 }.encode(&mut out);
        }
        2 => Frame::Deactivate.encode(&mut out),
        3 => Frame::More { until: u64::from(input.number()) }.encode(&mut out),
        4 => {
            let mut ids: Vec<u64> = Vec::new();
            let key = table.digest_key();
            let of = |(k, v)| fibcast_sync_proto::change::record_id(&key, &k, &v);
            ids.extend(table.iter().take(4).filter_map(of).map(fibcast_sync_proto::sketch::sketch_id));
            ids.push(u64::from(input.number()));
            Frame::Want { last: input.byte().unwrap_or(0) & 1 == 0, ids }.encode(&mut out);
        }
        _ => Frame::Heartbeat(None).encode(&mut out),
    }
    out
}

/// A server with sessions that say and do anything in any order while its table changes. What waits for a session is bounded.
pub fn server(data: &[u8]) {
    let mut input = Input::new(data);
    let mut now = Duration::from_secs(1);
    let flags = input.byte().unwrap_or(0);
    let mut table = table(5, u32::from(flags % 60));
    let limits = if flags & 64 == 0 {
        Limits { queue: 300, shared: 4, portion: 8, batch: 4096, held: 1 << 20, ..Limits::default() }
    } else {
        Limits::default()
    };
    let mut server = Server::new("rs").with_limits(limits);
    let mut sessions = Vec::new();
    let mut ready = true;
    for _ in 0..STEPS {
        let Some(op) = input.byte() else { break };
        let session = sessions.get(usize::from(op >> 4) % sessions.len().max(1)).copied().unwrap_or(1);
        match op & 15 {
            0 if sessions.len() < 8 => sessions.push(server.accept(now)),
            1 => server.close(session),
            2 => server.handle_bytes(now, session, input.chunk(), &Lent(&table, ready)),
            3 => {
                let frame = any_frame(&mut input);
                server.handle_bytes(now, session, &frame, &Lent(&table, ready));
            }
            4 => {
                now += Duration::from_millis(u64::from(input.number() % 8_192));
                server.handle_timeout(now, &Lent(&table, ready));
            }
            5 | 6 => {
                let (i, last) = (u32::from(input.byte().unwrap_or(0)), input.byte().unwrap_or(0));
                let changes = if last & 1 == 0 {
                    put(i, last).to_vec()
                } else {
                    put(i, last).into_iter().skip(1).map(|c| Change::Delete(c.key().clone())).collect()
                };
                let mut transaction = table.begin();
                transaction.push_all(changes).expect("a good batch");
                transaction.commit_and_collect().expect("a good batch");
                server.pump(&Lent(&table, ready));
            }
            7 => {
                ready = !ready;
                server.announce(&Lent(&table, ready));
            }
            8..=10 => {
                let n = server.transmit(session).len().min(usize::from(input.number()));
                server.sent(session, n);
                server.pump(&Lent(&table, ready));
            }
            _ => {
                let words = client_words(&mut input, &table);
                server.handle_bytes(now, session, &words, &Lent(&table, ready));
            }
        }
        while server.poll_event().is_some() {}
        let _ = server.poll_timeout();
        // The budget, and what each of the sessions may hold whatever the others do.
        assert!(server.held_bytes() <= limits.held + 8 * (4 << 10), "{} bytes held", server.held_bytes());
    }
    assert!(table.is_sound());
}
