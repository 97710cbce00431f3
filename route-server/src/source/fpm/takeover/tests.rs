//! Connections that come, stay and go in an inconvenient order.

use super::super::tests::{Rib, counter, frame, rules, tell};
use super::*;
use fibcast_netlink::testing as wire;

const S: Duration = Duration::from_secs(1);

fn peer(port: u16) -> SocketAddr {
    ([127, 0, 0, 1], port).into()
}

fn route(prefix: &str) -> Vec<u8> {
    frame(&[wire::route(prefix, "192.0.2.1")])
}

/// Connections are named by their ports.
struct Lab {
    takeover: Takeover,
    rib: Rib,
    now: Instant,
}

impl Lab {
    fn new() -> Self {
        let takeover = Takeover::new(Receiver::new("bgp", rules()));
        Self { takeover, rib: Rib::new(), now: Instant::now() }
    }

    fn enter(&mut self, port: u16) -> Result<Option<Refused>, Refusal> {
        self.takeover.enter(self.now, port.into(), peer(port))
    }

    /// The connection sends these bytes, as far as it is read.
    fn send(&mut self, port: u16, mut bytes: &[u8]) -> Outcome {
        let mut outcome = Outcome::Open;
        while !bytes.is_empty() && outcome == Outcome::Open {
            let room = self.takeover.room(port.into());
            let n = room.len().min(bytes.len());
            if n == 0 {
                break;
            }
            room[..n].copy_from_slice(&bytes[..n]);
            bytes = &bytes[n..];
            outcome = self.takeover.filled(self.now, port.into(), n);
        }
        outcome
    }

    fn close(&mut self, port: u16) -> Outcome {
        self.takeover.closed(self.now, port.into());
        self.takeover.promote(self.now)
    }

    fn after(&mut self, time: Duration) -> Option<Refused> {
        self.now += time;
        self.takeover.turn(self.now)
    }

    fn routes(&mut self) -> Vec<String> {
        tell(&mut self.takeover.receiver, &mut self.rib);
        self.rib.keys().map(|(_, prefix)| prefix.to_string()).collect()
    }

    fn sessions(&self) -> u64 {
        counter(&self.takeover.receiver, "sessions")
    }

    fn stale(&self) -> u64 {
        counter(&self.takeover.receiver, "routes_stale")
    }

    /// A session with one route.
    fn with_session(port: u16) -> Self {
        let mut lab = Self::new();
        assert_eq!(lab.enter(port), Ok(None));
        assert_eq!(lab.send(port, &route("10.0.0.0/8")), Outcome::Session);
        assert_eq!(lab.routes(), ["10.0.0.0/8"]);
        lab
    }
}

#[test]
fn a_connection_changes_nothing_before_its_first_whole_route() {
    let mut lab = Lab::with_session(1);
    lab.close(1);
    assert_eq!((lab.stale(), lab.sessions()), (0, 1));
    lab.enter(2).unwrap();
    let bytes = route("10.1.0.0/16");
    let (last, rest) = bytes.split_last().unwrap();
    assert_eq!(lab.send(2, rest), Outcome::Open);
    assert_eq!((lab.stale(), lab.sessions(), lab.takeover.session()), (0, 1, None));
    assert_eq!(lab.send(2, &[*last]), Outcome::Session);
    assert_eq!((lab.stale(), lab.sessions()), (1, 2));
    assert_eq!(lab.routes(), ["10.0.0.0/8", "10.1.0.0/16"]);
}

#[test]
fn two_zebras_at_a_time_never_mix_and_the_second_is_refused_while_the_first_is_alive() {
    let mut lab = Lab::with_session(1);
    lab.enter(2).unwrap();
    assert_eq!(lab.send(2, &route("10.1.0.0/16")), Outcome::Open);
    assert!(lab.takeover.room(2).is_empty(), "no more is read from it");
    assert_eq!(lab.after(SILENCE - S), None);
    assert_eq!(lab.send(1, &route("10.2.0.0/16")), Outcome::Open);
    assert_eq!(lab.after(S), Some(Refused { id: 2, peer: peer(2), refusal: Refusal::Alive(peer(1)) }));
    assert_eq!(
        (lab.routes(), lab.sessions(), lab.stale()),
        (vec!["10.0.0.0/8".into(), "10.2.0.0/16".into()], 1, 0)
    );
}

#[test]
fn a_zebra_that_restarts_before_its_old_connection_is_closed_takes_over_when_it_is() {
    let mut lab = Lab::with_session(1);
    lab.enter(2).unwrap();
    assert_eq!(lab.send(2, &[route("10.1.0.0/16"), route("10.2.0.0/16")].concat()), Outcome::Open);
    assert_eq!(lab.after(S / 10), None);
    assert_eq!(lab.close(1), Outcome::Session);
    assert_eq!((lab.takeover.session(), lab.takeover.newcomer(), lab.sessions()), (Some(2), None, 2));
    assert_eq!(lab.send(2, &route("10.3.0.0/16")), Outcome::Open);
    assert_eq!(lab.routes().len(), 4);
    assert_eq!(lab.stale(), 1);
}

#[test]
fn rubbish_and_frames_of_another_kind_are_refused_at_once() {
    let mut overlong = route("10.1.0.0/16");
    overlong[4..8].copy_from_slice(&200u32.to_ne_bytes());
    for rubbish in [&b"GET / HTTP/1.1\r\n"[..], &[1, 2, 0, 8], &[1, 1, 0, 0], &[1], &overlong] {
        let mut lab = Lab::with_session(1);
        lab.enter(2).unwrap();
        let expected = Outcome::Refused(Refused { id: 2, peer: peer(2), refusal: Refusal::Invalid });
        let outcome = lab.send(2, rubbish);
        // One byte may be the beginning of a frame.
        assert_eq!(outcome, if rubbish == [1] { Outcome::Open } else { expected });
        assert_eq!((lab.takeover.session(), lab.sessions(), lab.stale()), (Some(1), 1, 0));
    }
}

#[test]
fn half_a_frame_and_silence_keeps_nobody_out() {
    let mut lab = Lab::with_session(1);
    lab.enter(2).unwrap();
    lab.send(2, &route("10.1.0.0/16")[..9]);
    assert_eq!(lab.enter(3), Err(Refusal::Busy(peer(2))));
    assert_eq!(lab.after(PROOF_TIMEOUT), None);
    let silent = Refused { id: 2, peer: peer(2), refusal: Refusal::Silent };
    assert_eq!(lab.enter(3), Ok(Some(silent)));
    // Nobody else comes: it is closed all the same.
    lab.send(3, &[1, 1]);
    assert_eq!(lab.after(SILENCE).map(|refused| (refused.id, refused.refusal)), Some((3, Refusal::Silent)));
    // Without a session too.
    lab.close(1);
    lab.enter(4).unwrap();
    lab.send(4, &[1, 1]);
    assert_eq!(lab.after(SILENCE).map(|refused| refused.id), Some(4));
}

#[test]
fn an_empty_zebra_waits_as_long_as_nobody_else_comes() {
    let mut lab = Lab::new();
    lab.enter(1).unwrap();
    assert_eq!(lab.after(SILENCE * 100), None);
    assert_eq!(lab.send(1, &route("10.0.0.0/8")), Outcome::Session);
}

#[test]
fn a_flood_of_connections_holds_one_place_and_no_memory() {
    let mut lab = Lab::with_session(1);
    let mut refused = 0;
    for port in 2..10_000 {
        refused += u64::from(lab.enter(port).is_err());
        lab.after(Duration::from_millis(1));
    }
    assert!(refused > 9_900, "{refused}");
    assert_eq!((lab.takeover.session(), lab.sessions(), lab.stale()), (Some(1), 1, 0));
    assert!(lab.takeover.newcomer.as_ref().is_some_and(|newcomer| newcomer.buffer.capacity() == 0));
}

#[test]
fn a_newcomer_without_a_route_is_bounded_in_bytes() {
    let mut lab = Lab::new();
    lab.enter(1).unwrap();
    let neighbors = frame(&[wire::message(28, 0, &[0; 4096])]);
    let sent = (0..1000).take_while(|_| lab.send(1, &neighbors) == Outcome::Open).count();
    assert!(sent * neighbors.len() <= PRELUDE && sent > 10, "{sent}");
    assert_eq!(lab.takeover.newcomer(), None);
}

#[test]
fn what_comes_before_the_first_route_is_passed_over() {
    let mut lab = Lab::new();
    lab.enter(1).unwrap();
    assert_eq!(lab.send(1, &frame(&[wire::message(28, 0, &[0; 64])])), Outcome::Open);
    assert_eq!(lab.send(1, &frame(&[wire::object(7, "192.0.2.1")])), Outcome::Session);
    assert_eq!(lab.send(1, &frame(&[wire::route_by("10.0.0.0/8", 7)])), Outcome::Open);
    assert_eq!(lab.routes(), ["10.0.0.0/8"]);
}

#[test]
fn a_session_that_breaks_makes_way_for_the_newcomer() {
    let mut lab = Lab::with_session(1);
    lab.enter(2).unwrap();
    lab.send(2, &route("10.1.0.0/16"));
    assert!(matches!(lab.send(1, &[9]), Outcome::Broken(_)));
    assert_eq!(lab.takeover.promote(lab.now), Outcome::Session);
    assert_eq!(lab.routes(), ["10.0.0.0/8", "10.1.0.0/16"]);
}
