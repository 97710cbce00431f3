//! The engine against a small model of a router, correct and wrong in each way that the generator must detect.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::checksum::{fold, sum};
use crate::engine::{Content, Dut, Engine, Settings};
use crate::frame::Mac;
use crate::ledger::LOST_AFTER_NS;
use crate::neighbor::{Heard, Link, mac_of, tests::link};
use crate::pacer::Load;
use crate::plan::{Plan, Update, Wanted};
use crate::report::{Figures, Phase};
use crate::traffic::frames::{MAX_FRAME, Protocol};
use crate::traffic::order::Direction;
use crate::trial::Trial;

const MS: u64 = 1_000_000;
const START: u64 = 1_700_000_000_000 * MS;
const GATEWAYS: [&str; 4] = ["198.18.0.2", "198.19.0.3", "2001:2::5", "2001:2:0:1::6"];

fn table() -> Vec<(IpNet, IpAddr)> {
    (0..100_u32)
        .map(|n| {
            let prefix = if n % 2 == 0 { format!("9.{n}.0.0/16") } else { format!("2a00:{n:x}::/32") };
            let gateway = GATEWAYS[(n % 2 * 2 + n / 2 % 2) as usize];
            (prefix.parse().unwrap(), gateway.parse().unwrap())
        })
        .collect()
}

/// Forwards by linear search; the other side of the same links.
struct Router {
    table: Vec<(IpNet, IpAddr)>,
    links: Vec<Link>,
}

impl Router {
    fn new() -> Self {
        Self { table: table(), links: vec![link(0), link(1)] }
    }

    fn mac(port: usize) -> Mac {
        [2, 0, 0, 0, 0, 0x90 + port as u8]
    }

    /// ARP and ND as the generator's own code speaks them, seen from the router's end.
    fn neighbor(&self, port: usize, frame: &[u8]) -> Option<Vec<u8>> {
        let mut end = self.links[port].clone();
        (end.peer4, end.peer6) = (end.host4(), end.host6());
        let Heard::Question { answer, .. } = end.hear(frame) else { return None };
        let claimed: Mac = answer[6..12].try_into().unwrap();
        Some(replace(&answer, &claimed, &Self::mac(port)))
    }

    fn forward(&self, frame: &[u8]) -> Option<(usize, Vec<u8>)> {
        let mut out = frame.to_vec();
        let to = if out[12..14] == [8, 0] {
            out[22] -= 1;
            out[24..26].fill(0);
            let checksum = fold(sum(0, &out[14..34]));
            out[24..26].copy_from_slice(&checksum.to_be_bytes());
            IpAddr::from(<[u8; 4]>::try_from(&out[30..34]).unwrap())
        } else {
            out[21] -= 1;
            IpAddr::from(<[u8; 16]>::try_from(&out[38..54]).unwrap())
        };
        let (_, gateway) = self.table.iter().find(|(prefix, _)| prefix.contains(&to))?;
        let port = self.links.iter().position(|link| link.holds(*gateway))?;
        out[..6].copy_from_slice(&mac_of(*gateway));
        out[6..12].copy_from_slice(&Self::mac(port));
        Some((port, out))
    }
}

/// Replaces the MAC, which also means the check sum of a neighbor advertisement.
fn replace(frame: &[u8], from: &Mac, to: &Mac) -> Vec<u8> {
    let mut out = frame.to_vec();
    for at in 0..out.len() - 5 {
        if out[at..at + 6] == from[..] {
            out[at..at + 6].copy_from_slice(to);
        }
    }
    if out[12..14] == [0x86, 0xdd] {
        out[56..58].fill(0);
        let checksum = fold(sum(sum(58 + 32, &out[22..54]), &out[54..86]));
        out[56..58].copy_from_slice(&checksum.to_be_bytes());
    }
    out
}

type Frames = Vec<(usize, Vec<u8>)>;

fn settings(window: Option<usize>) -> Settings {
    Settings {
        dut: Dut::Router,
        content: Content::Own { protocol: Protocol::Both, sizes: (64..=104).collect() },
        direction: Direction::Mesh,
        zipf: None,
        seed: 3,
        window,
        coverage: true,
        outage_ns: None,
        lost_after_ns: LOST_AFTER_NS,
        remembered: 1 << 16,
        latency_one_in: 1,
        silence_timeout_ns: Some(5_000 * MS),
    }
}

fn wanted() -> Wanted {
    Wanted { seed: 3, ..Wanted::default() }
}

const LOAD: Load =
    Load { pps: 10_000.0, burst: 10, duration_ns: Some(200 * MS), count: None, windowed: false };

/// Runs a generator for 200 ms of counted packets at 10,000 packets/s against the router; `tamper` sees the
/// frames that come back in each step of 1 ms once packets count.
fn run(updates: &[Update], tamper: impl FnMut(u64, &mut Router, &mut Frames)) -> Figures {
    run_with(settings(Some(64)), LOAD, updates, tamper).0
}

fn run_with(
    settings: Settings,
    load: Load,
    updates: &[Update],
    mut tamper: impl FnMut(u64, &mut Router, &mut Frames),
) -> (Figures, Trial) {
    let mut router = Router::new();
    let plan = Plan::new(table(), updates, &[], &router.links, 20 * MS, &wanted()).unwrap();
    let mut engine = Engine::new(plan, router.links.clone(), settings, START).unwrap();
    let mut frame = [0; MAX_FRAME];
    let mut now = START;
    let mut counted = 0;
    let trial = loop {
        assert!(now < START + 60_000 * MS, "does not end: {:?}", engine.figures(now));
        if engine.phase() == Phase::Ready {
            match engine.result() {
                Some(trial) => break trial,
                None => assert!(engine.start(load, now)),
            }
        }
        engine.handle_time(now);
        let mut back = Frames::new();
        while let Some((port, length)) = engine.poll_transmit(now, &mut frame) {
            match router.neighbor(port, &frame[..length]) {
                Some(answer) => back.push((port, answer)),
                None => back.extend(router.forward(&frame[..length])),
            }
        }
        if engine.phase() == Phase::Count {
            tamper(counted, &mut router, &mut back);
            counted += 1;
        }
        now += MS;
        for (port, frame) in back {
            engine.handle_frame(port, &frame, now);
        }
    };
    (engine.figures(now), trial)
}

/// Tampers with the first frame of the tenth millisecond.
fn tampered(mut change: impl FnMut(&mut Frames)) -> Figures {
    run(&[], |step, _, back| {
        if step == 10 {
            assert!(back.len() >= 4);
            change(back);
        }
    })
}

fn faults(figures: &Figures) -> [u64; 5] {
    [figures.lost, figures.misdelivered, figures.duplicated, figures.reordered, figures.corrupt]
}

#[test]
fn right_router_passes_with_every_flow_covered() {
    let figures = run(&[], |_, _, _| {});
    assert!(figures.clean(), "{figures:?}");
    assert_eq!((figures.covered, figures.flows, figures.gateways), (100, 100, 4));
    assert!((1900..=2100).contains(&figures.sent), "200 ms at 10,000 packets/s: {}", figures.sent);
    assert!(figures.covered_at.is_some() && figures.latency_max_us >= 1000.0);
}

#[test]
fn packet_that_the_router_drops_is_lost() {
    let figures = tampered(|back| drop(back.remove(0)));
    assert_eq!(faults(&figures), [1, 0, 0, 0, 0]);
    assert!(!figures.clean() && figures.sent == figures.received + 1);
}

#[test]
fn packet_forwarded_twice_is_duplicated() {
    let figures = tampered(|back| back.push(back[0].clone()));
    assert_eq!(faults(&figures), [0, 0, 1, 0, 0]);
}

#[test]
fn wrong_next_hop_wrong_port_and_wrong_source_are_misdelivered() {
    let to_other = tampered(|back| back[0].1[5] ^= 1);
    assert_eq!(faults(&to_other), [0, 1, 0, 0, 0]);
    assert!(to_other.faults[0].contains("expected next hop"), "{:?}", to_other.faults);
    assert_eq!(faults(&tampered(|back| back[0].0 ^= 1)), [0, 1, 0, 0, 0]);
    assert_eq!(faults(&tampered(|back| back[0].1[11] ^= 1)), [0, 1, 0, 0, 0]);
}

/// TTL changed by two, with a check sum that fits.
fn decrement_again(frame: &mut [u8]) {
    if frame[12..14] == [8, 0] {
        frame[22] -= 1;
        frame[24..26].fill(0);
        let checksum = fold(sum(0, &frame[14..34]));
        frame[24..26].copy_from_slice(&checksum.to_be_bytes());
    } else {
        frame[21] -= 1;
    }
}

#[test]
fn ttl_and_hop_limit_that_fall_by_two_are_found() {
    let figures = tampered(|back| back.iter_mut().for_each(|(_, frame)| decrement_again(frame)));
    assert!(figures.bad_ttl >= 4 && figures.bad_ttl == figures.corrupt && figures.bad_checksum == 0);
    assert_eq!(figures.lost, 0, "it came back, though wrong");
}

#[test]
fn ipv4_check_sum_that_was_not_updated_is_found() {
    let figures = tampered(|back| {
        let ipv4 = back.iter_mut().find(|(_, frame)| frame[12..14] == [8, 0]).unwrap();
        ipv4.1[25] ^= 1;
    });
    assert_eq!((figures.bad_checksum, faults(&figures)), (1, [0, 0, 0, 0, 1]));
}

#[test]
fn changed_payload_is_corrupt_and_its_packet_missing() {
    let figures = tampered(|back| *back[0].1.last_mut().unwrap() ^= 0x80);
    assert_eq!((figures.corrupt, figures.lost), (1, 1));
}

fn signature(frame: &[u8]) -> crate::traffic::signature::Signature {
    crate::traffic::frames::Frames::recognise(frame, None).unwrap().signature
}

fn flow((_, frame): &(usize, Vec<u8>)) -> u32 {
    signature(frame).flow
}

#[test]
fn packets_of_one_flow_in_the_wrong_order_are_reordered() {
    let mut swapped = 0;
    let figures = run(&[], |_, _, back| {
        for at in 1..back.len() {
            if swapped == 0 && flow(&back[at - 1]) == flow(&back[at]) {
                back.swap(at - 1, at);
                swapped += 1;
            }
        }
    });
    assert_eq!((swapped, faults(&figures)), (1, [0, 0, 0, 1, 0]));
}

#[test]
fn packets_of_different_flows_may_overtake_each_other() {
    let mut overtaken = 0;
    let figures = run(&[], |_, _, back| {
        let before = back.clone();
        // Stable: the packets of one flow stay in order.
        back.sort_by_key(flow);
        overtaken += usize::from(*back != before);
    });
    assert!(overtaken > 0 && figures.clean(), "{figures:?}");
}

#[test]
fn packet_that_comes_after_it_was_given_up_stays_lost() {
    let mut held = None;
    let mut router = Router::new();
    let plan = Plan::new(table(), &[], &[], &router.links, 0, &wanted()).unwrap();
    let settings = Settings { coverage: false, ..settings(Some(8)) };
    let mut engine = Engine::new(plan, router.links.clone(), settings, START).unwrap();
    let load = Load { pps: 1_000.0, burst: 1, duration_ns: None, count: None, windowed: false };
    let mut frame = [0; MAX_FRAME];
    let mut now = START;
    for _ in 0..3_000 {
        if engine.phase() == Phase::Ready {
            engine.start(load, now);
        }
        engine.handle_time(now);
        while let Some((port, length)) = engine.poll_transmit(now, &mut frame) {
            let back = match router.neighbor(port, &frame[..length]) {
                Some(answer) => Some((port, answer)),
                None => router.forward(&frame[..length]),
            };
            let Some((port, back)) = back else { continue };
            if engine.figures(now).phase == Phase::Count && held.is_none() {
                held = Some((port, back));
            } else {
                engine.handle_frame(port, &back, now);
            }
        }
        now += MS;
    }
    assert!(now > START + LOST_AFTER_NS);
    let (port, held) = held.unwrap();
    engine.handle_frame(port, &held, now);
    router.table.clear();
    let figures = engine.figures(now);
    assert_eq!((figures.lost, figures.late), (1, 1));
    assert!(!figures.clean());
}

/// When the first trial begins.
fn run_watched(first: &mut Option<u64>) {
    let mut router = Router::new();
    let plan = Plan::new(table(), &[], &[], &router.links, 20 * MS, &wanted()).unwrap();
    let mut engine = Engine::new(plan, router.links.clone(), settings(Some(64)), START).unwrap();
    let (mut frame, mut now) = ([0; MAX_FRAME], START);
    while first.is_none() {
        if engine.phase() == Phase::Ready {
            *first = Some(now);
        }
        engine.handle_time(now);
        let mut back = Frames::new();
        while let Some((port, length)) = engine.poll_transmit(now, &mut frame) {
            match router.neighbor(port, &frame[..length]) {
                Some(answer) => back.push((port, answer)),
                None => back.extend(router.forward(&frame[..length])),
            }
        }
        now += MS;
        for (port, frame) in back {
            engine.handle_frame(port, &frame, now);
        }
    }
    router.table.clear();
}

/// The timetable moves 9.0.0.0/16 to another next hop while packets count.
fn moved(delay_steps: u64) -> Figures {
    let prefix: IpNet = "9.0.0.0/16".parse().unwrap();
    // Warm-up takes some milliseconds; the exact start of counting is learned from a dry run.
    let mut first = None;
    run_watched(&mut first);
    let due_ns = first.unwrap() + 50 * MS;
    let update = Update { due_ns, prefix, gateway: GATEWAYS[1].parse().unwrap() };
    run(&[update], |step, router, _| {
        if step == 50 + delay_steps {
            router.table[0].1 = GATEWAYS[1].parse().unwrap();
        }
    })
}

#[test]
fn change_within_the_settling_time_is_fine_and_later_is_misdelivered() {
    let soon = moved(10);
    assert!(soon.clean(), "{soon:?}");
    assert_eq!((soon.changes_due, soon.by_previous_hop > 0), (1, true), "tested at once, not in its turn");
    let seen = soon.reconvergence;
    assert_eq!((seen.routes, seen.missing, seen.waiting), (1, 0, 0));
    assert!(
        (10.0..=14.0).contains(&seen.max_ms),
        "10 ms, a turn of 1 ms to notice, and one to come back: {seen:?}"
    );
    let late = moved(120);
    assert!(late.misdelivered > 0 && late.lost == 0, "{late:?}");
}

#[test]
fn router_that_never_answers_is_told_with_what_was_seen() {
    let links = vec![link(0), link(1)];
    let plan = Plan::new(table(), &[], &[], &links, 0, &wanted()).unwrap();
    let mut engine = Engine::new(plan, links, settings(None), START).unwrap();
    let mut frame = [0; MAX_FRAME];
    engine.handle_time(START + MS);
    assert!(engine.poll_transmit(START + MS, &mut frame).is_some(), "asks for the router");
    engine.handle_frame(1, &[0xff; 60], START + 2 * MS);
    assert_eq!(engine.silence(START + 4_999 * MS), None);
    let words = engine.silence(START + 5_000 * MS).unwrap();
    assert_eq!(
        words,
        "the device is silent for 5 s: ARP and neighbor discovery unanswered on p0 (0 frames received there); \
         ARP and neighbor discovery unanswered on p1 (1 frames received there)"
    );
    engine.stop(START + 2 * MS);
    assert!(engine.is_done() && !engine.figures(START + 2 * MS).clean());
}

#[test]
fn open_loop_offers_what_was_intended_whatever_comes_back() {
    // All is dropped for 100 of the 200 ms, far more than any window.
    let (figures, trial) = run_with(settings(None), LOAD, &[], |step, _, back| {
        if (50..150).contains(&step) {
            back.clear();
        }
    });
    assert_eq!((trial.intended, trial.offered, trial.not_offered()), (2000, 2000, None));
    assert_eq!(trial.lost, 1000, "{figures:?}");
    assert_eq!((trial.forwarded, trial.loss_ratio()), (1000, 0.5));
    let closed = run_with(settings(Some(64)), LOAD, &[], |step, _, back| {
        if (50..150).contains(&step) {
            back.clear();
        }
    });
    assert!(closed.1.lost <= 64 && closed.1.offered < 2000, "a closed loop hides the loss: {:?}", closed.1);
}

#[test]
fn packet_that_did_not_go_right_was_not_forwarded() {
    let (_, trial) = run_with(settings(None), LOAD, &[], |step, _, back| match step {
        10 => back[0].1[5] ^= 1,
        20 => decrement_again(&mut back[0].1),
        30 => *back[0].1.last_mut().unwrap() ^= 1,
        _ => {}
    });
    assert_eq!((trial.misdelivered, trial.corrupt, trial.lost, trial.forwarded), (1, 2, 1, 1997));
}

/// A device without a table: 9.0.0.0/8 through a bridge or a plug, frames as they are.
fn forwarded_by(dut: Dut, egress: impl Fn(usize) -> usize) -> Trial {
    let links = vec![link(0), link(1)];
    let within = vec!["9.0.0.0/8".parse().unwrap(), "2a00::/16".parse().unwrap()];
    let wanted = Wanted { within, flows: Some(20), ..wanted() };
    let plan = Plan::without_table(&links, &wanted).unwrap();
    let mut engine = Engine::new(plan, links, Settings { dut, ..settings(None) }, START).unwrap();
    let (mut frame, mut now) = ([0; MAX_FRAME], START);
    while now < START + 10_000 * MS {
        if engine.phase() == Phase::Ready {
            match engine.result() {
                Some(trial) => return trial,
                None => assert!(engine.start(LOAD, now)),
            }
        }
        engine.handle_time(now);
        let mut back = Frames::new();
        while let Some((port, length)) = engine.poll_transmit(now, &mut frame) {
            let out = if engine.phase() == Phase::Count {
                egress(port)
            } else if dut == Dut::Bridge {
                port ^ 1
            } else {
                port
            };
            back.push((out, frame[..length].to_vec()));
        }
        now += MS;
        for (port, frame) in back {
            engine.handle_frame(port, &frame, now);
        }
    }
    panic!("does not end: {:?}", engine.figures(now));
}

#[test]
fn bridge_and_loopback_are_judged_by_their_ports() {
    let right = forwarded_by(Dut::Bridge, |port| port ^ 1);
    assert_eq!((right.forwarded, right.offered, right.misdelivered), (2000, 2000, 0));
    let back = forwarded_by(Dut::Bridge, |port| port);
    assert_eq!((back.forwarded, back.misdelivered), (0, 2000));
    let plug = forwarded_by(Dut::Loopback, |port| port);
    assert_eq!((plug.forwarded, plug.lost, plug.corrupt), (2000, 0, 0));
}

#[test]
fn trials_follow_each_other_and_each_has_its_own_figures() {
    let mut router = Router::new();
    let plan = Plan::new(table(), &[], &[], &router.links, 0, &wanted()).unwrap();
    let mut engine = Engine::new(plan, router.links.clone(), settings(None), START).unwrap();
    let (mut frame, mut now, mut trials) = ([0; MAX_FRAME], START, Vec::new());
    while trials.len() < 3 {
        assert!(now < START + 30_000 * MS);
        if engine.phase() == Phase::Ready {
            trials.extend(engine.result());
            engine.start(Load { pps: 1_000.0 * (trials.len() + 1) as f64, ..LOAD }, now);
        }
        engine.handle_time(now);
        let mut back = Frames::new();
        while let Some((port, length)) = engine.poll_transmit(now, &mut frame) {
            match router.neighbor(port, &frame[..length]) {
                Some(answer) => back.push((port, answer)),
                None => back.extend(router.forward(&frame[..length])),
            }
        }
        if trials.len() == 1 && engine.phase() == Phase::Count && !back.is_empty() {
            back.remove(0);
        }
        now += MS;
        back.into_iter().for_each(|(port, frame)| engine.handle_frame(port, &frame, now));
    }
    router.table.clear();
    let offered: Vec<_> = trials.iter().map(|trial| trial.offered).collect();
    assert_eq!(offered, [200, 400, 600]);
    assert_eq!((trials[0].lost, trials[2].lost), (0, 0));
    assert!(trials[1].lost > 0 && trials[1].lost + trials[1].forwarded == 400);
}
