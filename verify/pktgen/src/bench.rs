//! Tests that need several trials: drives a search, measures latency at what it found, and writes reports.

use std::path::Path;

use crate::engine::{Content, Dut, Settings, Team};
use crate::pacer::Load;
use crate::plan::{Plan, Wanted};
use crate::port::PortSpec;
use crate::rate::{Rate, Short};
use crate::report::outcome::{AtLoad, BackToBack as Burst, Found, Outcome, Point};
use crate::report::{html, table};
use crate::scenario::Scenario;
use crate::search::back_to_back::{self, BackToBack};
use crate::search::binary::{self, Binary};
use crate::search::curve::Curve;
use crate::search::mlr::{self, MlrSearch};
use crate::search::{Answer, Ask, Search, TestKind};
use crate::trial::Trial;
use crate::work::{Bench, Failure};

/// CSIT's smallest rate.
const MIN_PPS: f64 = 9_001.0;
const BURST: u64 = 32;
/// RFC 9004 §5.2 wants 50 repetitions.
const REPEAT: usize = 50;
/// Longest burst that is tried: RFC 9004 §5.3, 30 s at most; this is long enough for any buffer.
const LONGEST_S: f64 = 2.0;
/// Parts of the result at which latency is measured, as in CSIT.
const LATENCY_AT: [f64; 3] = [0.9, 0.5, 0.1];
const LATENCY_S: f64 = 5.0;

/// Rates of a test, packets/s.
struct Rates {
    min: f64,
    max: f64,
}

/// Runs the scenario's test. False if there is no result, or if the load was not the intended one.
pub fn run(bench: &mut Bench, scenario: &Scenario, line: Option<f64>) -> Result<bool, Failure> {
    let mean_size = bench.team.mean_size();
    let packets = |rate: Rate| rate.packets(mean_size, line).map_err(Failure::Usage);
    let keys = &scenario.test;
    let max = match (keys.max_rate.or(scenario.load.rate), line) {
        (Some(rate), _) => packets(rate)?,
        (None, Some(_)) => packets(Rate::Percent(100.0))?,
        (None, None) => {
            return Err(Failure::Usage(
                "the largest rate is missing: expected max_rate, or line_rate of the ports that send".into(),
            ));
        }
    };
    let min = keys.min_rate.map(packets).transpose()?.unwrap_or(MIN_PPS.min(max / 10.0));
    if min >= max {
        return Err(Failure::Usage(format!(
            "min_rate: {min:.0} packets/s is not below the largest rate, {max:.0}"
        )));
    }
    let rates = Rates { min, max };
    let mut outcome = Outcome {
        test: keys.kind,
        generator: format!("fibcast-pktgen {}", env!("CARGO_PKG_VERSION")),
        setup: setup(bench, scenario, &rates, mean_size),
        max_pps: max,
        mean_size,
        ..Outcome::default()
    };
    let mut runner = Runner { bench, burst: scenario.load.burst.unwrap_or(BURST), trials: Vec::new() };
    let complete = match keys.kind {
        TestKind::Traffic => true,
        TestKind::Throughput => throughput(&mut runner, scenario, &rates, &mut outcome),
        TestKind::Mlrsearch => mlrsearch(&mut runner, scenario, &rates, &mut outcome),
        TestKind::LossCurve => loss_curve(&mut runner, scenario, &rates, &mut outcome),
        TestKind::BackToBack => bursts(&mut runner, scenario, &rates, &mut outcome),
        TestKind::Soak => soak(&mut runner, scenario, &mut outcome),
    };
    if complete && scenario.latency.at_result.unwrap_or(true) {
        latency(&mut runner, scenario, &mut outcome)?;
    }
    outcome.trials = runner.trials;
    let figures = bench.figures();
    let changed = figures.reconvergence;
    outcome.reconvergence = (changed.routes + changed.missing + changed.waiting > 0).then_some(changed);
    (outcome.outages, outcome.queues) = (figures.outages, figures.queues);
    let stopped = bench.is_stopped();
    warn_of_churn(&mut outcome, scenario);
    warn(&mut outcome, bench, stopped);
    bench.finish();
    write(&outcome, scenario)?;
    println!("{}", table::whole(&outcome));
    // A trial that failed by what the generator did not send says nothing about the device.
    let allowed = outcome.results.iter().map(|found| found.loss_ratio).fold(0.0, f64::max);
    let own_limit = |trial: &Trial| trial.not_offered().is_some() && trial.loss_of_offered() <= allowed;
    let offered = !outcome.trials.iter().any(own_limit);
    let found = outcome.results.iter().all(|found| found.pps.is_some() && !found.unfinished);
    Ok(complete && !stopped && found && offered)
}

struct Runner<'a> {
    bench: &'a mut Bench,
    burst: u64,
    trials: Vec<Trial>,
}

impl Runner<'_> {
    /// None if the test was stopped.
    fn trial(&mut self, ask: Ask) -> Option<Trial> {
        let load = Load {
            pps: ask.pps,
            burst: self.burst,
            duration_ns: Some((ask.seconds * 1e9) as u64),
            count: ask.count,
            windowed: false,
        };
        self.bench.expect(self.trials.len() + 1);
        let trial = self.bench.trial(load).filter(|_| !self.bench.is_stopped())?;
        eprintln!("{}", table::progress(self.trials.len() + 1, &trial));
        self.trials.push(trial.clone());
        Some(trial)
    }

    /// True if the search came to its end.
    fn search(&mut self, search: &mut impl Search) -> bool {
        while let Some(ask) = search.ask() {
            let Some(trial) = self.trial(ask) else { return false };
            search.answer(Answer { ask, loss_ratio: trial.loss_ratio(), seconds: trial.offered_s });
            if let Some(left) = search.left() {
                self.bench.left(left);
            }
        }
        true
    }
}

fn throughput(runner: &mut Runner, scenario: &Scenario, rates: &Rates, outcome: &mut Outcome) -> bool {
    let keys = &scenario.test;
    let loss_ratio = keys.loss_ratio.unwrap_or(0.0);
    let goal = binary::Goal {
        min: rates.min,
        max: rates.max,
        loss_ratio,
        width: keys.width.unwrap_or(0.005),
        // RFC 2544 §24.
        trial_s: keys.trial.unwrap_or(60.0),
    };
    let mut search = Binary::new(goal);
    let complete = runner.search(&mut search);
    let found = Found::new("throughput", loss_ratio, search.throughput(), outcome.mean_size);
    outcome.results = vec![Found { unfinished: !complete, ..found }];
    complete
}

fn mlrsearch(runner: &mut Runner, scenario: &Scenario, rates: &Rates, outcome: &mut Outcome) -> bool {
    let keys = &scenario.test;
    let defaults = mlr::Goal::default();
    let final_trial_s = keys.trial.unwrap_or(defaults.final_trial_s);
    let ndr = mlr::Goal {
        exceed_ratio: keys.exceed_ratio.unwrap_or(defaults.exceed_ratio),
        width: keys.width.unwrap_or(defaults.width),
        initial_trial_s: keys.initial_trial.unwrap_or(defaults.initial_trial_s).min(final_trial_s),
        final_trial_s,
        sum_s: keys.duration_sum.unwrap_or(defaults.sum_s).max(final_trial_s),
        ..defaults
    };
    let pdr = mlr::Goal { loss_ratio: keys.loss_ratio.unwrap_or(0.005), ..ndr };
    let (warmup, most) = (keys.warmup.unwrap_or(1.0), keys.search_max.unwrap_or(1200.0));
    let mut search = MlrSearch::new(&[ndr, pdr], rates.min, rates.max, warmup, most);
    let complete = runner.search(&mut search);
    for (name, found) in ["NDR", "PDR"].into_iter().zip(search.found()) {
        let result = Found::new(name, found.goal.loss_ratio, found.conditional_throughput, outcome.mean_size);
        outcome.results.push(Found {
            lower: found.lower,
            upper: found.upper,
            unfinished: found.unfinished,
            ..result
        });
    }
    complete
}

fn loss_curve(runner: &mut Runner, scenario: &Scenario, rates: &Rates, outcome: &mut Outcome) -> bool {
    let mut search =
        Curve::new(rates.max, scenario.test.step.unwrap_or(10.0), scenario.test.trial.unwrap_or(60.0));
    let complete = runner.search(&mut search);
    // Of what was sent (RFC 2544 §26.3).
    let points = search.points.iter().zip(&runner.trials);
    outcome.curve = points
        .map(|(&(percent, _), trial)| Point {
            percent,
            pps: trial.offered_pps,
            loss_ratio: trial.loss_of_offered(),
        })
        .collect();
    complete
}

fn bursts(runner: &mut Runner, scenario: &Scenario, rates: &Rates, outcome: &mut Outcome) -> bool {
    let goal = back_to_back::Goal {
        pps: rates.max,
        longest: (rates.max * scenario.test.longest_burst.unwrap_or(LONGEST_S)).max(1.0) as u64,
        repeat: scenario.test.repeat.unwrap_or(REPEAT),
        resolution: runner.burst,
    };
    let mut search = BackToBack::new(goal);
    let complete = runner.search(&mut search);
    // What was lost at the line's rate tells what is forwarded of it.
    let lossy = runner.trials.iter().filter(|trial| trial.lost > 0);
    let forwarded = lossy
        .map(|trial| trial.forwarded as f64 / trial.offered.max(1) as f64 * trial.offered_pps)
        .fold(0.0, f64::max);
    let (implied_buffer_s, corrected_buffer_s) = search.buffer_s(forwarded.min(rates.max));
    outcome.back_to_back = Some(Burst {
        line_pps: rates.max,
        lengths: search.lengths.clone(),
        mean: search.mean(),
        deviation: search.deviation(),
        unbounded: search.is_unbounded(),
        implied_buffer_s,
        corrected_buffer_s,
    });
    complete
}

/// Trials of a minute one after the other, so that a loss has a time.
fn soak(runner: &mut Runner, scenario: &Scenario, outcome: &mut Outcome) -> bool {
    let seconds = scenario.load.duration.unwrap_or(600.0);
    let part = scenario.test.trial.unwrap_or(60.0).min(seconds);
    let mut left = seconds;
    while left > 0.0 {
        runner.bench.left((left / part).ceil() as usize);
        if runner.trial(Ask::at(outcome.max_pps, part.min(left))).is_none() {
            return false;
        }
        left -= part;
    }
    let (offered, forwarded) = runner
        .trials
        .iter()
        .fold((0, 0), |(offered, forwarded), trial| (offered + trial.offered, forwarded + trial.forwarded));
    let loss_ratio = if offered == 0 { 0.0 } else { (offered - forwarded) as f64 / offered as f64 };
    outcome.curve = vec![Point { percent: 100.0, pps: outcome.max_pps, loss_ratio }];
    loss_ratio == 0.0
}

/// At parts of each result, and the same loads looped back inside the generator.
fn latency(runner: &mut Runner, scenario: &Scenario, outcome: &mut Outcome) -> Result<(), Failure> {
    let mut loads: Vec<(String, f64)> = Vec::new();
    for found in &outcome.results {
        for part in LATENCY_AT {
            if let Some(pps) = found.pps {
                loads.push((format!("{:.0} % of {}", part * 100.0, found.name), pps * part));
            }
        }
    }
    let mut rows = Vec::new();
    for (name, pps) in loads {
        let Some(trial) = runner.trial(Ask::at(pps, scenario.test.trial.unwrap_or(LATENCY_S).min(LATENCY_S)))
        else {
            return Ok(());
        };
        rows.push(AtLoad { name, pps, device: trial.latency, generator: None, curve: trial.curve });
    }
    if rows.is_empty() {
        return Ok(());
    }
    let mut own = runner.bench.loopback(|now_ns| loopback_team(scenario, now_ns))?;
    for row in &mut rows {
        let load = Load {
            pps: row.pps,
            burst: runner.burst,
            duration_ns: Some(1_000_000_000),
            count: None,
            windowed: false,
        };
        row.generator = own.trial(load).and_then(|trial| trial.latency);
    }
    outcome.latency = rows;
    Ok(())
}

/// An engine that sends the same frames into a ring and takes them out again.
fn loopback_team(scenario: &Scenario, now_ns: u64) -> Result<Team, Failure> {
    let link = PortSpec::of_device("loopback").link(Dut::Loopback).map_err(Failure::Usage)?;
    let net = |text: &str| text.parse().map_err(|_| Failure::Usage(text.to_owned()));
    let wanted = Wanted {
        within: vec![net("9.0.0.0/8")?],
        flows: Some(1000),
        seed: scenario.seed(),
        ..Wanted::default()
    };
    let links = vec![link];
    let plan = Plan::without_table(&links, &wanted)
        .map_err(|error| Failure::Plan { what: "loopback".into(), error })?;
    let settings = Settings {
        dut: Dut::Loopback,
        content: Content::Own {
            protocol: scenario.traffic.protocol,
            sizes: scenario.sizes().pattern().to_vec(),
        },
        direction: Default::default(),
        zipf: None,
        seed: scenario.seed(),
        window: None,
        coverage: false,
        outage_ns: None,
        lost_after_ns: 100_000_000,
        remembered: 1 << 22,
        latency_one_in: scenario.latency.one_in.unwrap_or(8),
        silence_timeout_ns: Some(5_000_000_000),
    };
    Ok(Team::new(plan, &links, &settings, 1, now_ns)?)
}

fn setup(bench: &mut Bench, scenario: &Scenario, rates: &Rates, mean_size: f64) -> Vec<(String, String)> {
    let ports: Vec<String> =
        scenario.port.iter().map(|port| format!("{} ({})", port.name(), port.device)).collect();
    let figures = bench.figures();
    let smallest = bench.team.smallest_ipv6().map_or(String::new(), |size| format!(", IPv6 from {size} on"));
    let frames = match &scenario.traffic.pcap {
        Some(file) => format!("{}, mean {mean_size:.1} bytes", file.display()),
        None => format!("{} bytes with FCS, mean {mean_size:.1}{smallest}", scenario.sizes()),
    };
    let row = |key: &str, value: String| (key.to_owned(), value);
    let cores = match scenario.cores.as_slice() {
        [] => "one, anywhere".to_owned(),
        cores => cores.iter().map(usize::to_string).collect::<Vec<_>>().join(", "),
    };
    let churn = scenario.changes.churn.map(|per_s| row("churn", format!("{per_s} changes of next hops/s")));
    let events =
        scenario.event.iter().map(|event| row("event", format!("after {} s: {}", event.at, event.run)));
    let mut rows = vec![
        row("cores", cores),
        row("device", format!("{:?}", scenario.dut).to_lowercase()),
        row("ports", ports.join(", ")),
        row("frames", frames),
        row("flows", format!("{}, by {} next hops", figures.flows, figures.gateways)),
        row(
            "rates",
            format!(
                "{}pps to {}pps over all ports, bursts of {}",
                Short(rates.min),
                Short(rates.max),
                scenario.load.burst.unwrap_or(BURST)
            ),
        ),
    ];
    rows.extend(churn);
    rows.extend(events);
    rows
}

/// A trial without the changes that were asked for.
fn warn_of_churn(outcome: &mut Outcome, scenario: &Scenario) {
    let Some(per_s) = scenario.changes.churn else { return };
    // The last change is due before the end; random times would differ by more.
    let expected = |trial: &Trial| per_s * trial.offered_s * 0.9 - 1.0;
    let without = outcome.trials.iter().filter(|trial| (trial.changes as f64) < expected(trial)).count();
    if without > 0 {
        outcome.warnings.push(format!(
            "in {without} of {} trials fewer routes changed than {per_s}/s: the {} s of churn were over; expected a larger churn_s",
            outcome.trials.len(),
            scenario.churn_s()
        ));
    }
}

fn warn(outcome: &mut Outcome, bench: &mut Bench, stopped: bool) {
    let slow = outcome.trials.iter().filter(|trial| trial.not_offered().is_some()).count();
    if let Some(words) = outcome.trials.iter().find_map(Trial::not_offered) {
        outcome.warnings.push(format!("in {slow} of {} trials the load was not the intended one, and what was not sent counts as loss. The first: {words}", outcome.trials.len()));
    }
    let dropped: u64 = outcome.trials.iter().map(|trial| trial.generator_dropped).sum();
    if dropped > 0 {
        outcome.warnings.push(format!("{dropped} packets were dropped by the generator's own ports when they came back, and count as lost"));
    }
    let wrong: u64 = outcome
        .trials
        .iter()
        .map(|trial| trial.misdelivered + trial.duplicated + trial.reordered + trial.corrupt)
        .sum();
    if wrong > 0 {
        let first = bench.figures().faults.first().cloned().unwrap_or_default();
        outcome.warnings.push(format!(
            "{wrong} packets were misdelivered, duplicated, reordered or corrupt. The first: {first}"
        ));
    }
    if stopped {
        outcome.warnings.push("stopped before its end".into());
    }
}

fn write(outcome: &Outcome, scenario: &Scenario) -> Result<(), Failure> {
    let save = |path: &Path, text: String| {
        std::fs::write(path, text).map_err(|error| Failure::Io(path.display().to_string(), error))
    };
    if let Some(path) = &scenario.report.json {
        save(path, serde_json::to_string_pretty(outcome).unwrap_or_default())?;
    }
    if let Some(path) = &scenario.report.csv {
        save(path, table::csv(outcome))?;
    }
    if let Some(path) = &scenario.report.html {
        save(path, html::page(outcome).map_err(Failure::Work)?)?;
    }
    Ok(())
}
