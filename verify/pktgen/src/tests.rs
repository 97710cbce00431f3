//! The engine against a small model of a router, correct and wrong in each way that the generator must detect.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::checksum::{fold, sum};
use crate::engine::{Content, Dut, Engine, Settings, Team};
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
        decrement(&mut out);
        let to = if out[12..14] == [8, 0] {
            IpAddr::from(<[u8; 4]>::try_from(&out[30..34]).unwrap())
        } else {
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

/// All that the engines send now.
fn sent(engines: &mut [Engine], now: u64) -> Frames {
    let (mut frame, mut all) = ([0; MAX_FRAME], Frames::new());
    for engine in engines {
        engine.handle_time(now);
        while let Some((port, length)) = engine.poll_transmit(now, &mut frame) {
            all.push((port, frame[..length].to_vec()));
        }
    }
    all
}

/// A millisecond later it comes back, each frame to another engine's queue in turn.
fn deliver(engines: &mut [Engine], now: &mut u64, back: Frames) {
    *now += MS;
    for (number, (port, frame)) in back.into_iter().enumerate() {
        let at = number % engines.len();
        if let Some(owner) = engines[at].handle_frame(port, &frame, *now) {
            assert_ne!(owner, at);
            assert_eq!(engines[owner].handle_frame(port, &frame, *now), None);
        }
    }
}

impl Router {
    fn handle(&self, frames: Frames) -> Frames {
        let answer = |(port, frame): (usize, Vec<u8>)| match self.neighbor(port, &frame) {
            Some(answer) => Some((port, answer)),
            None => self.forward(&frame),
        };
        frames.into_iter().filter_map(answer).collect()
    }
}

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
    let (mut now, mut counted) = (START, 0);
    let trial = loop {
        assert!(now < START + 60_000 * MS, "does not end: {:?}", engine.figures(now));
        if engine.phase() == Phase::Ready {
            match engine.result() {
                Some(trial) => break trial,
                None => assert!(engine.start(load, now)),
            }
        }
        let mut back = router.handle(sent(std::slice::from_mut(&mut engine), now));
        if engine.phase() == Phase::Count {
            tamper(counted, &mut router, &mut back);
            counted += 1;
        }
        deliver(std::slice::from_mut(&mut engine), &mut now, back);
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

/// TTL or hop limit less by one, with a check sum that fits.
pub fn decrement(frame: &mut [u8]) {
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
    let figures = tampered(|back| back.iter_mut().for_each(|(_, frame)| decrement(frame)));
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
    let router = Router::new();
    let plan = Plan::new(table(), &[], &[], &router.links, 0, &wanted()).unwrap();
    let settings = Settings { coverage: false, ..settings(Some(8)) };
    let mut engine = Engine::new(plan, router.links.clone(), settings, START).unwrap();
    let load = Load { pps: 1_000.0, burst: 1, duration_ns: None, count: None, windowed: false };
    let mut now = START;
    for _ in 0..3_000 {
        if engine.phase() == Phase::Ready {
            engine.start(load, now);
        }
        let mut back = router.handle(sent(std::slice::from_mut(&mut engine), now));
        if engine.phase() == Phase::Count && held.is_none() && !back.is_empty() {
            held = Some(back.remove(0));
        }
        deliver(std::slice::from_mut(&mut engine), &mut now, back);
    }
    assert!(now > START + LOST_AFTER_NS);
    let (port, held) = held.unwrap();
    engine.handle_frame(port, &held, now);
    let figures = engine.figures(now);
    assert_eq!((figures.lost, figures.late), (1, 1));
    assert!(!figures.clean());
}

/// When the first trial begins.
fn run_watched(first: &mut Option<u64>) {
    let router = Router::new();
    let plan = Plan::new(table(), &[], &[], &router.links, 20 * MS, &wanted()).unwrap();
    let mut engine = Engine::new(plan, router.links.clone(), settings(Some(64)), START).unwrap();
    let mut now = START;
    while first.is_none() {
        if engine.phase() == Phase::Ready {
            *first = Some(now);
        }
        let back = router.handle(sent(std::slice::from_mut(&mut engine), now));
        deliver(std::slice::from_mut(&mut engine), &mut now, back);
    }
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
        20 => decrement(&mut back[0].1),
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
    let mut now = START;
    while now < START + 10_000 * MS {
        if engine.phase() == Phase::Ready {
            match engine.result() {
                Some(trial) => return trial,
                None => assert!(engine.start(LOAD, now)),
            }
        }
        let frames = sent(std::slice::from_mut(&mut engine), now);
        let warm_up = |port: usize| if dut == Dut::Bridge { port ^ 1 } else { port };
        let counts = engine.phase() == Phase::Count;
        let out = |port| if counts { egress(port) } else { warm_up(port) };
        let back = frames.into_iter().map(|(port, frame)| (out(port), frame)).collect();
        deliver(std::slice::from_mut(&mut engine), &mut now, back);
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
    let router = Router::new();
    let plan = Plan::new(table(), &[], &[], &router.links, 0, &wanted()).unwrap();
    let mut engine = Engine::new(plan, router.links.clone(), settings(None), START).unwrap();
    let (mut now, mut trials) = (START, Vec::new());
    while trials.len() < 3 {
        assert!(now < START + 30_000 * MS);
        if engine.phase() == Phase::Ready {
            trials.extend(engine.result());
            engine.start(Load { pps: 1_000.0 * (trials.len() + 1) as f64, ..LOAD }, now);
        }
        let mut back = router.handle(sent(std::slice::from_mut(&mut engine), now));
        if trials.len() == 1 && engine.phase() == Phase::Count && !back.is_empty() {
            back.remove(0);
        }
        deliver(std::slice::from_mut(&mut engine), &mut now, back);
    }
    let offered: Vec<_> = trials.iter().map(|trial| trial.offered).collect();
    assert_eq!(offered, [200, 400, 600]);
    assert_eq!((trials[0].lost, trials[2].lost), (0, 0));
    assert!(trials[1].lost > 0 && trials[1].lost + trials[1].forwarded == 400);
}

/// 2,000 packets of a team, whose frames come back to any of its queues.
fn team(cores: usize, load: Load, mut tamper: impl FnMut(&mut Frames)) -> (Figures, Trial) {
    let router = Router::new();
    let plan = Plan::new(table(), &[], &[], &router.links, 0, &wanted()).unwrap();
    let settings = Settings { silence_timeout_ns: None, ..settings(None) };
    let mut team = Team::new(plan, &router.links, &settings, cores, START).unwrap();
    let (mut now, mut tampered) = (START, false);
    loop {
        assert!(now < START + 60_000 * MS, "does not end: {:?}", team.figures(now));
        if team.start(load, now) {
            assert!(!tampered, "one trial");
            assert_eq!(team.figures(now).covered, 100);
            tampered = true;
        }
        let mut back = router.handle(sent(team.engines(), now));
        if tampered && team.engines().iter().all(|engine| engine.phase() == Phase::Count) {
            tamper(&mut back);
        }
        deliver(team.engines(), &mut now, back);
        if tampered && team.engines().iter().all(|engine| engine.phase() == Phase::Ready) {
            let trial = team.result().unwrap();
            return (team.figures(now), trial);
        }
    }
}

#[test]
fn cores_share_the_load_and_every_packet_finds_its_engine() {
    for cores in [1, 2, 3, 16] {
        let (figures, trial) = team(cores, LOAD, |_| ());
        assert!(figures.clean(), "{cores}: {figures:?}");
        assert_eq!((figures.covered, figures.flows, figures.gateways), (100, 100, 4));
        assert_eq!((trial.intended_pps.round(), trial.not_offered()), (10_000.0, None));
        assert!(trial.intended.abs_diff(2000) <= 16 && trial.forwarded == trial.intended, "{trial:?}");
        assert_eq!(trial.latency.unwrap().samples, trial.forwarded);
        let count = Load { count: Some(101), duration_ns: None, ..LOAD };
        assert_eq!(team(cores, count, |_| ()).1.offered, 101, "{cores}");
    }
}

#[test]
fn faults_are_counted_once_whatever_core_sees_them() {
    let mut left = 40;
    let (figures, trial) = team(2, LOAD, |back| {
        if left > 0 && !back.is_empty() {
            left -= 1;
            match left % 4 {
                0 => drop(back.remove(0)),
                1 => back.push(back[0].clone()),
                2 => back[0].1[5] ^= 1,
                // A port of UDP or TCP, or a source address.
                _ => back[0].1[36] ^= 1,
            }
        }
    });
    // What is corrupt is lost, too.
    assert_eq!(faults(&figures), [20, 10, 10, 0, 10]);
    assert_eq!((trial.lost, trial.duplicated, trial.misdelivered, trial.corrupt), (20, 10, 10, 10));
    assert_eq!(figures.faults.len(), crate::report::FAULTS_SHOWN);
}

#[test]
fn more_cores_than_flows_are_refused() {
    let links = vec![link(0), link(1)];
    let new = |flows, cores| {
        let plan = Plan::new(table(), &[], &[], &links, 0, &Wanted { flows: Some(flows), ..wanted() });
        Team::new(plan.unwrap(), &links, &settings(None), cores, START).err().map(|error| error.to_string())
    };
    assert_eq!(new(2, 1), None);
    let none = new(1, 2).unwrap();
    assert!(none.contains("2 cores: no destination is left for one of them on port"), "{none}");
    assert!(new(100, 17).unwrap().contains("17 cores: expected 1 to 16"));
}
