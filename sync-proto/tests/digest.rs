//! What a digest promises: no forgery without the key, one error for two keys, a change of the key without a copy of the table.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::hash::Hasher;
use std::time::Duration;

use common::{Net, Node, group, key, label, put, table};
use fibcast_sync_proto::change::record_id;
use fibcast_sync_proto::client::{Client, ClientConfig, ClientEvent, How};
use fibcast_sync_proto::frame::Role;
use fibcast_sync_proto::{Change, DigestKey, DigestKeys, Table, Value};
use siphasher::sip::SipHasher13;

/// Prefixes that the adversary may announce, each by one of two next hops.
const PREFIXES: u32 = 160;

fn secret(n: u8) -> DigestKey {
    DigestKey::new(std::array::from_fn(|i| n.wrapping_mul(31).wrapping_add(i as u8)))
}

/// The hash of a route in version 1 of the protocol: under a constant, the second half a function of the first.
fn old_hash(i: u32, hop: u8) -> u128 {
    let mut bytes = [0u8; 32];
    (bytes[0], bytes[1], bytes[2]) = (2, 4, 24);
    bytes[8..16].copy_from_slice(&label(hop).0.to_le_bytes());
    bytes[28..].copy_from_slice(&(i << 8).to_be_bytes());
    let mut h = SipHasher13::new_with_keys(0x6669_6263_6173_7421, 0x7265_636f_7264_2d31);
    h.write(&bytes);
    let id = h.finish();
    u128::from(id) << 64 | u128::from(fibcast_sync_proto::sketch::check_of(id))
}

/// The hash of a route as somebody computes it who has this key.
fn hash(digest_key: &DigestKey, i: u32, hop: u8) -> u128 {
    record_id(digest_key, &key(i), &Value::Route(label(hop))).unwrap()
}

/// Elimination over GF(2): prefixes whose change from next hop 1 to 2 leaves the XOR as it is, if `delta` is what each changes in it.
fn eliminate(delta: impl Fn(u32) -> u128) -> Vec<u32> {
    let mut rows: Vec<(u128, Vec<bool>)> = Vec::new();
    for i in 0..PREFIXES {
        let mut row = (delta(i), (0..PREFIXES).map(|j| i == j).collect::<Vec<_>>());
        for (other, members) in &rows {
            if row.0 ^ other < row.0 {
                row.0 ^= other;
                row.1.iter_mut().zip(members).for_each(|(mine, theirs)| *mine ^= theirs);
            }
        }
        if row.0 == 0 {
            return (0..PREFIXES).filter(|&j| row.1[j as usize]).collect();
        }
        rows.push(row);
        rows.sort_by_key(|row| std::cmp::Reverse(row.0));
    }
    panic!("{PREFIXES} vectors of 128 bits are linearly dependent");
}

/// A table with all prefixes, of which some lead to the other next hop.
fn announced(digest_key: DigestKey, moved: &[u32]) -> Table {
    let mut table = Table::new(1).with_digest_key(digest_key);
    let hop = |i: u32| if moved.contains(&i) { 2 } else { 1 };
    table.commit([group(1), group(2)].into_iter().chain((0..PREFIXES).map(|i| put(i, hop(i))))).unwrap();
    table
}

#[test]
fn elimination_forges_the_digest_of_version_1() {
    let moved = eliminate(|i| old_hash(i, 1) ^ old_hash(i, 2));
    assert!(moved.len() > 20);
    let sum = |moved: &[u32]| {
        (0..PREFIXES).fold(0, |sum, i| sum ^ old_hash(i, if moved.contains(&i) { 2 } else { 1 }))
    };
    assert_eq!(sum(&moved), sum(&[]), "two different tables with one digest");
}

#[test]
fn elimination_needs_the_key() {
    let moved = eliminate(|i| hash(&DigestKey::PUBLIC, i, 1) ^ hash(&DigestKey::PUBLIC, i, 2));
    // Without a configured key the promise is only against accidents.
    assert_eq!(announced(DigestKey::PUBLIC, &moved).digest(), announced(DigestKey::PUBLIC, &[]).digest());
    for key in [secret(1), secret(2)] {
        assert_ne!(announced(key, &moved).digest(), announced(key, &[]).digest());
    }
}

#[test]
fn digests_that_an_adversary_sees_do_not_help() {
    let key = secret(3);
    let before = announced(key, &[]).digest();
    // The adversary moves one prefix at a time, and reads the digest in the status.
    let seen: Vec<u128> = (0..PREFIXES).map(|i| announced(key, &[i]).digest().hash ^ before.hash).collect();
    let moved = eliminate(|i| seen[i as usize]);
    assert_ne!(announced(key, &moved).digest(), before);
    // The same elimination on what a digest is made of would succeed.
    let moved = eliminate(|i| hash(&key, i, 1) ^ hash(&key, i, 2));
    assert_eq!(announced(key, &moved).digest(), before);
}

#[test]
fn digest_is_that_of_the_records_from_scratch_under_any_key() {
    let mut t = table(1, 300);
    t.commit([Change::Delete(common::key(7)), put(8, 3)]).unwrap();
    for key in [DigestKey::PUBLIC, secret(1), secret(2)] {
        t.rekey(key, t.epoch() + 1);
        let ids = t.iter().map(|(k, v)| record_id(&key, &k, &v).unwrap());
        assert_eq!(key.digest_of(ids), t.digest());
        assert!(t.is_sound());
        // Later changes are under the new key, too.
        t.commit([put(1_000 + t.epoch() as u32, 1)]).unwrap();
        assert!(t.is_sound());
    }
}

fn keyed(n: u32, digest_key: DigestKey, epoch: u64) -> Table {
    let mut t = table(epoch, n);
    t.rekey(digest_key, epoch);
    t
}

/// A client and two servers with these keys.
fn net(servers: [DigestKeys; 2], client: DigestKey) -> Net {
    let node = |(at, keys): (usize, DigestKeys)| {
        let name = ["a", "b"][at];
        let mut node = Node::new(name, keyed(1_000, keys.own(), at as u64 + 10));
        node.server.set_digest_keys(keys);
        node
    };
    let nodes = servers.into_iter().enumerate().map(node).collect();
    let mut config = ClientConfig::new("nic", "fib", vec![Role::Primary, Role::Secondary]);
    config.digest_key = client.id();
    Net::with(nodes, config, Table::new(99).with_digest_key(client))
}

#[test]
fn two_keys_end_with_an_error_that_names_both_nodes_and_both_keys() {
    let (ours, theirs) = (secret(1), secret(2));
    let mut net = net([DigestKeys::new(theirs, []), DigestKeys::new(theirs, [])], ours);
    net.advance(Duration::from_secs(3));
    let error = net.client.links()[0].last_error.clone().unwrap();
    let expected = format!("nic uses digest key {}, but a has {}", ours.id(), theirs.id());
    assert!(error.contains(&expected), "{error}");
    assert_eq!((net.copy.len(), net.client.counters().digest_mismatches), (0, 0));
    // A node without a key is told so.
    let mut bare = self::net([DigestKeys::new(theirs, []), DigestKeys::new(theirs, [])], DigestKey::PUBLIC);
    bare.advance(Duration::from_secs(3));
    let error = bare.client.links()[0].last_error.clone().unwrap();
    assert!(error.contains("nic uses digest key public, but a has"), "{error}");
}

#[test]
fn key_changes_node_by_node_without_a_copy_or_a_difference() {
    let (old, new) = (secret(1), secret(2));
    let both = |own, other| DigestKeys::new(own, [other]);
    let mut net = net([both(old, new), both(old, new)], old);
    net.advance(Duration::from_secs(3));
    assert!(net.equal_to(0));
    let copied = net.client.counters().routes_copied;
    let serial = net.copy.serial();

    // The primary first, then the client, then the secondary. After each step the client is in sync and gets changes.
    let mut expected = 0;
    let mut check = |net: &mut Net, of: DigestKey| {
        net.advance(Duration::from_secs(10));
        assert!(net.client.is_synced());
        for node in &mut net.nodes {
            node.commit([put(5_000 + expected, 1)]);
        }
        net.advance(Duration::from_secs(1));
        expected += 1;
        assert_eq!((net.copy.serial(), net.copy.digest_key()), (serial + u64::from(expected), of));
        assert_eq!(net.client.counters().digest_mismatches, 0);
    };
    let rekey = |net: &mut Net, at: usize| {
        let epoch = net.nodes[at].table.epoch() + 100;
        net.nodes[at].table.rekey(new, epoch);
        net.nodes[at].server.set_digest_keys(both(new, old));
    };
    check(&mut net, old);
    rekey(&mut net, 0);
    check(&mut net, old);
    assert_eq!(net.client.counters().routes_copied, copied);
    net.copy.rekey(new, 99);
    let mut config = net.client.config().clone();
    config.digest_key = new.id();
    for i in 0..2 {
        net.kill(i);
        net.nodes[i].up = true;
    }
    net.client = Client::new(config, net.now);
    check(&mut net, new);
    rekey(&mut net, 1);
    check(&mut net, new);
    assert_eq!(net.client.counters().routes_copied, 0, "the new client copied nothing");
    let hows = net.events.iter().filter_map(|event| match event {
        ClientEvent::Activated { how, .. } => Some(*how),
        _ => None,
    });
    assert_eq!(hows.filter(|how| *how == How::Snapshot).count(), 1, "only the first copy");
}
