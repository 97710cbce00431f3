//! What routing daemons and the kernel say to a route server.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use fibcast_netlink::Messages;
use fibcast_route_server::source::RouteChange;
use fibcast_route_server::source::fpm::takeover::{Outcome, Takeover};
use fibcast_route_server::source::fpm::{Receiver, Rules, Sentinel};
use fibcast_route_server::source::mirror::{How, Policy};
use fibcast_route_server::source::netlink::Follower;
use ipnet::IpNet;

use crate::Input;

fn policy() -> Policy {
    Policy {
        vrfs: [(254, 0), (100, 7)].into(),
        ports: [("3".to_owned(), "p3".to_owned())].into(),
        ..Policy::default()
    }
}

/// What the RIB has after these changes.
fn take(rib: &mut HashSet<(u32, IpNet)>, changes: Vec<RouteChange>) -> bool {
    let any = !changes.is_empty();
    for change in changes {
        let place = (change.vrf, change.prefix);
        assert_eq!(change.prefix.trunc(), change.prefix);
        if change.path.is_some() {
            rib.insert(place)
        } else {
            rib.remove(&place)
        };
    }
    any
}

fn rules() -> Rules {
    Rules {
        policy: policy(),
        how: How::Either,
        quiet: Duration::from_secs(5),
        sentinel: Sentinel::default(),
        hold: Some(Duration::from_secs(1)),
    }
}

/// zebra's stream, in portions. Whatever it says, all of it is withdrawn when it is gone for good.
pub fn fpm(data: &[u8]) {
    let mut input = Input::new(data);
    let portion = usize::from(input.byte().unwrap_or(0)) + 1;
    let mut now = Instant::now();
    let mut receiver = Receiver::new("fuzz", rules());
    receiver.connected(now, 1);
    let mut rib = HashSet::new();
    let mut buffer: Vec<u8> = Vec::new();
    loop {
        let bytes = input.take(portion);
        if bytes.is_empty() {
            break;
        }
        buffer.extend(bytes);
        match receiver.take(&buffer) {
            Ok(taken) => drop(buffer.drain(..taken)),
            Err(_) => {
                buffer.clear();
                receiver.disconnected(now);
                receiver.connected(now, 1);
            }
        }
        assert!(buffer.len() <= usize::from(u16::MAX), "a frame that is complete was not taken");
        if portion % 3 == 0 {
            now += Duration::from_millis(700);
            receiver.turn(now);
            take(&mut rib, receiver.changes(now, 7));
        }
    }
    receiver.disconnected(now);
    receiver.turn(now + Duration::from_secs(3600));
    while take(&mut rib, receiver.changes(now, 100)) {}
    assert!(rib.is_empty(), "routes of a zebra that is gone");
}

/// Connections that come, send and go: there is one session at most, only its end makes way for another, and a connection that is no session
/// changes nothing.
pub fn takeover(data: &[u8]) {
    let mut input = Input::new(data);
    let mut now = Instant::now();
    let mut machine = Takeover::new(Receiver::new("fuzz", rules()));
    let (mut rib, mut next) = (HashSet::new(), 0);
    let count = |machine: &Takeover, name| {
        machine.receiver.counters().iter().find(|(known, _)| *known == name).map_or(0, |(_, value)| *value)
    };
    while let Some(step) = input.byte() {
        let (session, newcomer) = (machine.session(), machine.newcomer());
        let before = ["sessions", "routes_stale", "routes_heard"].map(|name| count(&machine, name));
        let whose = if step & 8 == 0 { newcomer } else { session };
        let mut ended = None;
        match step & 7 {
            0 => {
                next += 1;
                let peer = ([127, 0, 0, 1], 1000 + next as u16).into();
                let entered = machine.enter(now, next, peer);
                assert_eq!(entered.is_ok(), machine.newcomer() == Some(next));
            }
            1..=4 => {
                let length = usize::from(input.number());
                let mut bytes = input.take(length);
                let Some(id) = whose else { continue };
                while !bytes.is_empty() {
                    let room = machine.room(id);
                    assert!(room.len() <= 8 * usize::from(u16::MAX), "memory is bounded");
                    let n = room.len().min(bytes.len());
                    if n == 0 {
                        break;
                    }
                    room[..n].copy_from_slice(&bytes[..n]);
                    bytes = &bytes[n..];
                    match machine.filled(now, id, n) {
                        Outcome::Open | Outcome::Session => {}
                        Outcome::Broken(_) | Outcome::Refused(_) => {
                            ended = Some(id);
                            break;
                        }
                    }
                }
            }
            5 => {
                if let Some(id) = whose {
                    machine.closed(now, id);
                    ended = Some(id);
                }
            }
            6 => now += Duration::from_millis(u64::from(step) * 50),
            _ => {
                machine.promote(now);
                machine.turn(now);
                machine.receiver.turn(now);
                take(&mut rib, machine.receiver.changes(now, 7));
            }
        }
        match (session, machine.session()) {
            (Some(old), Some(new)) if old != new => panic!("a session was replaced while it was alive"),
            (Some(old), None) => assert_eq!(ended, Some(old), "a session ended that nobody closed"),
            _ => {}
        }
        let after = ["sessions", "routes_stale", "routes_heard"].map(|name| count(&machine, name));
        if session.is_none() && machine.session().is_none() && step & 7 < 5 && before[0] == after[0] {
            assert_eq!(before, after, "a connection that is no session changed something");
        }
        if session.is_some() && whose == newcomer && session != newcomer && step & 7 < 5 {
            assert_eq!(before, after, "a newcomer changed something");
        }
    }
    for id in [machine.session(), machine.newcomer()].into_iter().flatten() {
        machine.closed(now, id);
    }
    machine.receiver.disconnected(now);
    machine.receiver.turn(now + Duration::from_secs(3600));
    while take(&mut rib, machine.receiver.changes(now, 100)) {}
    assert!(rib.is_empty(), "routes of a zebra that is gone");
}

/// The kernel's messages: by themselves and in dumps. An empty dump leaves nothing.
pub fn netlink(data: &[u8]) {
    let mut input = Input::new(data);
    let now = Instant::now();
    let mut follower = Follower::new("fuzz", policy(), Duration::from_secs(5));
    let mut rib = HashSet::new();
    while let Some(step) = input.byte() {
        let length = usize::from(input.number());
        let bytes = input.take(length);
        let dump = step & 1 == 1;
        if dump {
            follower.dump_begins(now);
        }
        Messages::new(bytes).flatten().for_each(|message| follower.hear(&message, dump));
        match step >> 1 & 3 {
            0 => follower.lost(),
            1 => follower.dump_ended(),
            2 => drop(take(&mut rib, follower.changes(now, 5))),
            _ => {}
        }
    }
    follower.dump_begins(now);
    follower.dump_ended();
    while take(&mut rib, follower.changes(now, 100)) {}
    assert!(rib.is_empty(), "routes of an empty table");
}
