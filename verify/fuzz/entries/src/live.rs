//! What routing daemons and the kernel say to a route server.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use fibcast_netlink::Messages;
use fibcast_route_server::source::RouteChange;
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

/// zebra's stream, in portions. Whatever it says, all of it is withdrawn when it is gone for good.
pub fn fpm(data: &[u8]) {
    let mut input = Input::new(data);
    let portion = usize::from(input.byte().unwrap_or(0)) + 1;
    let rules = Rules {
        policy: policy(),
        how: How::Either,
        quiet: Duration::from_secs(5),
        sentinel: Sentinel::default(),
        hold: Some(Duration::from_secs(1)),
    };
    let mut now = Instant::now();
    let mut receiver = Receiver::new("fuzz", rules);
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
    receiver.turn(now + Duration::from_secs(2));
    while take(&mut rib, receiver.changes(now, 100)) {}
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
