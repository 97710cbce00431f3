use std::time::Instant;

use fibcast_netlink::testing as wire;
use fibcast_netlink::{Messages, Route};

use super::super::tests::{frame as framed, rules};
use super::*;
use crate::source::acknowledgement::{Acknowledgement, InstalledRoute};
use crate::source::fpm::Receiver;

/// A receiver with a session, and what its owner knows.
struct Bed {
    receiver: Receiver,
    port: u16,
}

impl Bed {
    fn new() -> Self {
        let mut receiver = Receiver::new("bgp", rules()).with_echo();
        receiver.connected(Instant::now(), 1);
        Self { receiver, port: 1 }
    }

    fn hear(&mut self, message: Vec<u8>) {
        let bytes = framed(&[message]);
        assert_eq!(self.receiver.take(&bytes), Ok(bytes.len()));
    }

    /// Passes changes to the owner of the RIB; returns them as acknowledgements.
    fn tell(&mut self) -> Vec<InstalledRoute> {
        let changes = self.receiver.changes(Instant::now(), 1_000);
        let routes = changes.into_iter().filter_map(|change| {
            let (group, _) = change.path?;
            let group = std::sync::Arc::new(group.value.clone());
            Some(InstalledRoute { vrf: change.vrf, prefix: change.prefix, group, failed: false })
        });
        routes.collect()
    }

    fn acknowledge(&mut self, routes: &[InstalledRoute], failed: bool) {
        let routes = routes.iter().map(|route| InstalledRoute { failed, ..route.clone() });
        self.receiver.acknowledge(&Acknowledgement { routes: routes.collect() });
    }

    fn reconnect(&mut self) {
        self.port += 1;
        self.receiver.disconnected(Instant::now());
        self.receiver.connected(Instant::now(), self.port);
    }

    /// Prefix and `rtm_flags` of each answer.
    fn answers(&mut self) -> Vec<(String, u32)> {
        let mut bytes = Vec::new();
        self.receiver.answers(&mut bytes, usize::MAX);
        let (mut at, mut found) = (0, Vec::new());
        while let Some((content, length)) = crate::source::fpm::frame::first(&bytes[at..]).unwrap() {
            let all: Vec<_> = Messages::new(content).collect::<Result<_, _>>().unwrap();
            assert_eq!(all.len(), 1, "zebra reads the first message of a frame alone");
            assert_eq!((all[0].kind, all[0].flags & REQUEST), (24, REQUEST));
            let mut route = Route::default();
            assert_eq!(route.read(&all[0]), Ok(true));
            let flags = u32::from_ne_bytes(all[0].body[8..12].try_into().unwrap());
            found.push((route.prefix.to_string(), flags));
            at += length;
        }
        assert_eq!(at, bytes.len());
        found
    }
}

fn installed(prefix: &str) -> Vec<(String, u32)> {
    vec![(prefix.to_owned(), OFFLOAD)]
}

#[test]
fn an_answer_is_the_message_that_zebra_sent_with_a_flag() {
    let metrics = wire::attribute(8 | 0x8000, &wire::attribute(2, &1400u32.to_ne_bytes()));
    let attributes = [
        wire::attribute(6, &20u32.to_ne_bytes()),
        metrics,
        wire::multipath(&[("192.0.2.1", 1), ("192.0.2.2", 3)]),
    ];
    let messages = [
        wire::route("10.0.0.0/8", "192.0.2.1"),
        wire::route_of(24, "10.1.0.0/16", 254, 1, &attributes),
        wire::route_of(24, "10.2.0.0/16", 254, 6, &[]),
        wire::route_of(24, "2001:db8::/32", 254, 1, &[wire::gateway("2001:db8::1"), wire::output(3)]),
        wire::route_of(24, "0.0.0.0/0", 254, 1, &[wire::gateway("192.0.2.1")]),
    ];
    for message in messages {
        let mut bed = Bed::new();
        bed.hear(message.clone());
        assert_eq!(bed.answers(), []);
        let routes = bed.tell();
        assert_eq!(routes.len(), 1);
        bed.acknowledge(&routes, false);
        let mut bytes = Vec::new();
        bed.receiver.answers(&mut bytes, usize::MAX);
        let read = |bytes: &[u8]| {
            let mut route = Route::default();
            let message = Messages::new(bytes).next().unwrap().unwrap();
            assert_eq!(route.read(&message), Ok(true));
            route
        };
        assert_eq!(format!("{:?}", read(&bytes[4..])), format!("{:?}", read(&message)));
    }
}

#[test]
fn a_route_that_changed_meanwhile_is_not_answered_for_its_former_next_hops() {
    let mut bed = Bed::new();
    bed.hear(wire::route("10.0.0.0/8", "192.0.2.1"));
    let first = bed.tell();
    bed.hear(wire::route("10.0.0.0/8", "192.0.2.2"));
    bed.acknowledge(&first, false);
    assert_eq!(bed.answers(), [], "heard, and not told yet");
    let second = bed.tell();
    bed.acknowledge(&first, false);
    assert_eq!(bed.answers(), [], "told, and not acknowledged yet");
    bed.acknowledge(&second, false);
    assert_eq!(bed.answers(), installed("10.0.0.0/8"));
    // Queued, and changed before zebra took the answer.
    bed.acknowledge(&second, false);
    bed.hear(wire::route("10.0.0.0/8", "192.0.2.3"));
    assert_eq!(bed.answers(), []);
    let third = bed.tell();
    bed.hear(wire::withdrawal("10.0.0.0/8"));
    bed.acknowledge(&third, false);
    assert_eq!(bed.answers(), []);
}

#[test]
fn an_equal_route_that_zebra_sends_again_is_answered_at_once() {
    let mut bed = Bed::new();
    bed.hear(wire::route("10.0.0.0/8", "192.0.2.1"));
    let routes = bed.tell();
    bed.hear(wire::route("10.0.0.0/8", "192.0.2.1"));
    assert_eq!(bed.answers(), [], "not installed yet");
    bed.acknowledge(&routes, false);
    assert_eq!(bed.answers(), installed("10.0.0.0/8"));
    bed.hear(wire::route("10.0.0.0/8", "192.0.2.1"));
    assert!(bed.tell().is_empty());
    assert_eq!(bed.answers(), installed("10.0.0.0/8"));
    assert_eq!(bed.answers(), [], "once");
}

#[test]
fn everything_is_answered_again_after_a_new_connection_as_far_as_zebra_sends_it() {
    let mut bed = Bed::new();
    bed.hear(wire::route("10.0.0.0/8", "192.0.2.1"));
    bed.hear(wire::route("10.1.0.0/16", "192.0.2.1"));
    let routes = bed.tell();
    bed.acknowledge(&routes, false);
    bed.reconnect();
    assert_eq!(bed.answers(), [], "zebra does not know these routes yet");
    bed.acknowledge(&routes, false);
    assert_eq!(bed.answers(), []);
    bed.hear(wire::route("10.1.0.0/16", "192.0.2.1"));
    assert_eq!(bed.answers(), installed("10.1.0.0/16"));
    bed.hear(wire::route("10.0.0.0/8", "192.0.2.9"));
    assert_eq!(bed.answers(), [], "it has changed");
}

#[test]
fn an_overdue_route_is_reported_as_failed_until_it_is_installed() {
    let mut bed = Bed::new();
    bed.hear(wire::route("10.0.0.0/8", "192.0.2.1"));
    let routes = bed.tell();
    bed.acknowledge(&routes, true);
    assert_eq!(bed.answers(), [("10.0.0.0/8".to_owned(), OFFLOAD_FAILED)]);
    bed.acknowledge(&routes, false);
    assert_eq!(bed.answers(), installed("10.0.0.0/8"));
}

#[test]
fn a_changed_object_voids_the_acknowledgement_of_its_routes() {
    let mut bed = Bed::new();
    bed.hear(wire::object(5, "192.0.2.1"));
    bed.hear(wire::route_by("10.0.0.0/8", 5));
    let first = bed.tell();
    bed.acknowledge(&first, false);
    assert_eq!(bed.answers(), installed("10.0.0.0/8"));
    bed.hear(wire::object(5, "192.0.2.2"));
    bed.acknowledge(&first, false);
    assert_eq!(bed.answers(), []);
    let second = bed.tell();
    bed.hear(wire::route_by("10.0.0.0/8", 5));
    assert_eq!(bed.answers(), []);
    bed.acknowledge(&second, false);
    assert_eq!(bed.answers(), installed("10.0.0.0/8"));
}

#[test]
fn templates_are_shared_and_go_with_their_last_route() {
    let mut echo = Echo::default();
    let body = |prefix: &str| wire::route(prefix, "192.0.2.1")[HEADER..].to_vec();
    let prefixes: Vec<String> = (0..200).map(|n| format!("10.{n}.0.0/16")).collect();
    for prefix in &prefixes {
        echo.heard(0, prefix.parse().unwrap(), &body(prefix), false);
        echo.heard(0, prefix.parse().unwrap(), &body(prefix), true);
    }
    assert_eq!((echo.templates.index.len(), echo.templates.slots.len()), (1, 1));
    prefixes.iter().for_each(|prefix| echo.gone(0, prefix.parse().unwrap()));
    assert_eq!((echo.templates.index.len(), echo.templates.free.len()), (0, 1));
    assert!(echo.v4.is_empty());
}
