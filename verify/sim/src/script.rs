//! One run: a network drawn from a seed, steps with faults, rests, a verdict.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use fibcast_sync_proto::acknowledge::{OnTimeout, Policy};
use fibcast_sync_proto::client::ClientConfig;
use fibcast_sync_proto::mutation::Mutation;
use fibcast_sync_proto::server::Limits;
use fibcast_sync_proto::subset::{Family, PrefixRange, Subset};

use crate::faults::{Fault, Weather};
use crate::invariants::{Rule, Violation};
use crate::model::{Model, Protocol};
use crate::network::{Direction, Network, Settings};
use crate::node::Node;
use crate::rng::Rng;
use crate::route_server::Plan;
use crate::trace::Trace;

/// Parameters of a run.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Determines everything.
    pub seed: u64,
    /// Number of faults and changes.
    pub steps: u64,
    /// Route servers, relays, leaves; drawn if none are given.
    pub nodes: Option<(usize, usize, usize)>,
    /// Print the trace as it grows.
    pub print: bool,
    /// A deliberate fault of the state machines.
    pub mutation: Option<Mutation>,
}

impl Options {
    /// A run of this seed.
    pub fn new(seed: u64, steps: u64) -> Self {
        Self { seed, steps, nodes: None, print: false, mutation: None }
    }

    /// The command that replays it.
    pub fn command(&self) -> String {
        let nodes = self.nodes.map(|(a, b, c)| format!(" --nodes {a},{b},{c}")).unwrap_or_default();
        let mutation = self.mutation.map(|m| format!(" --mutation {}", m.name())).unwrap_or_default();
        let features = if self.mutation.is_some() { " --features mutations" } else { "" };
        format!(
            "cargo run --release -q -p fibcast-sim{features} -- run --seed {} --steps {}{nodes}{mutation} --replay",
            self.seed, self.steps
        )
    }
}

/// Result of a run.
#[derive(Debug)]
pub struct Outcome {
    /// Hash of the whole trace.
    pub hash: u64,
    /// Events handled.
    pub events: u64,
    /// Virtual time.
    pub time: Duration,
    /// Summary of the network.
    pub network: String,
    /// The violated rule and the step, if any.
    pub violation: Option<(u64, Violation)>,
    /// The last lines of the trace.
    pub tail: Vec<String>,
}

/// Runs one seed.
pub fn run(options: &Options) -> Outcome {
    choose(options.mutation);
    let mut rng = Rng::new(options.seed);
    let (mut network, text) = draw(&mut rng, options);
    let weather = Weather::draw(&mut rng);
    let mut step = 0;
    let caught = catch_unwind(AssertUnwindSafe(|| play(&mut network, &weather, options.steps, &mut step)));
    choose(None);
    let result = caught.unwrap_or_else(|panic| {
        let text = panic
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()))
            .unwrap_or_else(|| "of unknown kind".into());
        Err(Violation::new(Rule::NoFailure, format!("panic: {text}")))
    });
    Outcome {
        hash: network.trace.borrow().hash(),
        events: network.events,
        time: network.now,
        network: text,
        violation: result.err().map(|v| (step, v)),
        tail: network.trace.borrow().tail(),
    }
}

#[cfg(feature = "mutations")]
fn choose(mutation: Option<Mutation>) {
    fibcast_sync_proto::mutation::select(mutation);
}

#[cfg(not(feature = "mutations"))]
fn choose(_: Option<Mutation>) {}

fn play(network: &mut Network, weather: &Weather, steps: u64, step: &mut u64) -> Result<(), Violation> {
    for protocol in 0..network.model.protocols.len() {
        let (n, mut rng) = (network.model.size(), network.rng.clone());
        network.model.churn(protocol, n, 10, &mut rng);
        network.rng = rng;
    }
    for n in 0..network.nodes.len() {
        network.start(n, false)?;
        let wait = Duration::from_micros(network.rng.skewed(1, 300_000));
        network.run_until(network.now + wait)?;
    }
    let rests = network.rng.below(3);
    for at in 0..steps {
        *step = at;
        let mut rng = network.rng.clone();
        let fault = weather.pick(&mut rng);
        network.rng = rng;
        let wait = network.befall(fault)?;
        network.run_until(network.now + wait)?;
        network.check()?;
        if rests > 0 && network.rng.below(steps) < rests {
            rest(network)?;
        }
    }
    *step = steps;
    rest(network)?;
    network.rest(&[])
}

/// A rest, in which one node may stay down.
fn rest(network: &mut Network) -> Result<(), Violation> {
    // All nodes come back up, except the one that may be chosen now.
    network.heal(&[])?;
    let mut down = Vec::new();
    if network.rng.percent(40) {
        let n = network.rng.index(network.nodes.len());
        let servers = network.nodes.iter().filter(|n| n.tier == 1).count();
        if n >= servers || servers > 1 {
            let power = network.rng.percent(50);
            network.crash(n, power);
            down.push(n);
        }
    }
    network.rest(&down)?;
    if let Some(&n) = down.first() {
        let from_disk = network.rng.percent(50);
        network.start(n, from_disk)?;
        // Changes while it starts.
        network.churn(Fault::Churn);
    }
    Ok(())
}

/// Draws a network.
fn draw(rng: &mut Rng, options: &Options) -> (Network, String) {
    // Some runs concentrate on tier 1.
    let wide = rng.percent(30);
    let drawn = if wide {
        (rng.range(3, 5) as usize, rng.range(0, 1) as usize, rng.range(1, 2) as usize)
    } else {
        (rng.range(1, 3) as usize, rng.range(0, 3) as usize, rng.range(1, 4) as usize)
    };
    let (servers, relays, leaves) = options.nodes.unwrap_or(drawn);
    let servers = servers.max(1);
    let shape = if wide {
        *rng.pick(&[Shape::Mesh, Shape::Ring, Shape::Chain]).unwrap_or(&Shape::Mesh)
    } else {
        Shape::Mesh
    };
    let protocols = servers + rng.index(2);
    let destinations = if rng.percent(10) { rng.range(800, 1_600) } else { rng.skewed(8, 400) } as usize;
    let siblings = relays > 1 && rng.percent(25);
    let small = Limits {
        queue: rng.skewed(200, 20_000) as usize,
        shared: rng.skewed(1, 200) as usize,
        portion: rng.skewed(1, 300) as usize,
        ..Limits::default()
    };
    let settings = Settings {
        limits: if rng.percent(70) { small } else { Limits::default() },
        tombstones: if rng.percent(50) { rng.skewed(0, 60) as usize } else { 100_000 },
        room: rng.skewed(300, 60_000) as usize,
        portions: if rng.percent(50) { rng.range(1, 60) } else { 0 },
        siblings,
    };
    let mut config = ClientConfig::new("", "", Vec::new());
    config.failback = Some(Duration::from_millis(rng.range(1_000, 6_000)));
    let lease = Duration::from_millis(rng.range(1_000, 4_000));
    let hold = Duration::from_millis(rng.range(500, 6_000));
    let ready_timeout = Duration::from_millis(rng.range(4_000, 20_000));
    let grace = Duration::from_millis(rng.range(0, 5_000));
    let count = protocols;
    let protocols = protocol_plan(protocols, servers, rng);
    let mut nodes = Vec::new();
    for n in 0..servers {
        let peers: Vec<usize> = (0..servers).filter(|&p| shape.joins(n, p, servers)).collect();
        let mut node = Node::new(format!("rs{n}"), 1, peers.clone(), config.clone());
        node.plan = Some(Plan {
            name: node.name.clone(),
            protocols: protocols
                .iter()
                .filter(|p| p.home == n)
                .map(|p| (p.name.clone(), p.distance))
                .collect(),
            peers: peers.len(),
            lease,
            hold,
            ready_timeout,
            grace,
            tombstones: settings.tombstones,
        });
        nodes.push(node);
    }
    let part = if rng.percent(20) { any_part(rng) } else { Subset::default() };
    let parts = rng.percent(40);
    for r in 0..relays {
        let mut upstream = some_of(0..servers, 2, rng);
        if siblings {
            upstream.push(servers + (r + 1) % relays);
        }
        let mut node = Node::new(format!("relay{r}"), 2, upstream, config.clone());
        node.subset = part.clone();
        node.expire = any_expiry(rng);
        node.lag = any_lag(rng);
        let policy = Policy { timeout: None, on_timeout: OnTimeout::Hold, grace, ..Policy::default() };
        node.acknowledge = rng.percent(60).then_some(policy);
        nodes.push(node);
    }
    for l in 0..leaves {
        // Mostly behind relays, some beside them.
        let from =
            if relays == 0 || rng.percent(20) { 0..servers + relays } else { servers..servers + relays };
        let upstream = some_of(from, 2, rng);
        let mut node = Node::new(format!("leaf{l}"), 3, upstream, config.clone());
        node.expire = any_expiry(rng);
        node.lag = any_lag(rng);
        node.subset = Some(any_part(rng)).filter(|p| parts && part.covers(p)).unwrap_or(part.clone());
        nodes.push(node);
    }
    for node in &mut nodes {
        node.offset = Duration::from_millis(rng.below(100_000));
    }
    let text = format!(
        "{servers} route servers in a {} with {count} protocols, {relays} relays{}, {leaves} leaves, {destinations} destinations, {} parts",
        shape.name(),
        if siblings { " (each other's last choice)" } else { "" },
        nodes.iter().map(|node| &node.subset).collect::<std::collections::BTreeSet<_>>().len(),
    );
    let groups = rng.skewed(2, 40) as usize;
    let model = Model::new(protocols, destinations, groups);
    let pairs: Vec<(usize, usize)> =
        nodes.iter().enumerate().flat_map(|(n, node)| node.servers.iter().map(move |&s| (n, s))).collect();
    let mut network = Network::new(nodes, model, settings, rng.clone(), Trace::new(options.print));
    for pair in pairs {
        let delay = Duration::from_micros(network.rng.skewed(20, 60_000));
        let jitter = Duration::from_micros(network.rng.skewed(1, 10_000));
        network.paths.insert(pair, Direction { delay, jitter, ..Direction::default() });
    }
    let mut parts = vec![Subset::default()];
    parts.extend(network.nodes.iter().map(|node| node.subset.clone()).filter(|part| !part.is_all()));
    parts.dedup();
    network.ledger.parts = parts;
    network.note(Duration::ZERO, format_args!("{text}; {settings:?}"));
    (network, text)
}

/// Registrations between route servers.
#[derive(Debug, Clone, Copy)]
enum Shape {
    Mesh,
    Ring,
    Chain,
}

impl Shape {
    fn joins(self, a: usize, b: usize, n: usize) -> bool {
        match self {
            Shape::Mesh => a != b,
            Shape::Chain => a.abs_diff(b) == 1,
            Shape::Ring => a.abs_diff(b) == 1 || (n > 2 && a.abs_diff(b) == n - 1),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Shape::Mesh => "mesh",
            Shape::Ring => "ring",
            Shape::Chain => "chain",
        }
    }
}

/// Time without a capable server after which an agent stops forwarding; mostly never.
fn any_expiry(rng: &mut Rng) -> Option<Duration> {
    rng.percent(30).then(|| Duration::from_millis(rng.range(1_000, 15_000)))
}

/// Time from a sink's batch to its effect on packets.
fn any_lag(rng: &mut Rng) -> Option<Duration> {
    rng.percent(50).then(|| Duration::from_micros(rng.skewed(100, 2_000_000)))
}

/// A subset of the table.
fn any_part(rng: &mut Rng) -> Subset {
    let range = |text: &str| text.parse().ok().map(PrefixRange::within);
    let ranges = |texts: &[&str]| texts.iter().filter_map(|t| range(t)).collect::<Vec<_>>();
    match rng.below(7) {
        0 => Subset::new(vec![0], None, Vec::new()),
        1 => Subset::new(vec![1], None, Vec::new()),
        2 => Subset::new(Vec::new(), Some(Family::V4), Vec::new()),
        3 => Subset::new(vec![0], Some(Family::V6), Vec::new()),
        4 => Subset::new(Vec::new(), None, ranges(&["10.0.0.0/8", "2001:db8::/32"])),
        5 => Subset::new(Vec::new(), Some(Family::V4), ranges(&["172.16.0.0/12"])),
        _ => Subset::default(),
    }
}

fn protocol_plan(count: usize, servers: usize, rng: &mut Rng) -> Vec<Protocol> {
    let plan = |p: usize| Protocol {
        name: ["bgp", "ospf", "static", "isis"].get(p % 4).copied().unwrap_or("bgp").to_owned()
            + &(if p < 4 { String::new() } else { p.to_string() }),
        distance: [20, 110, 1, 115].get(rng.index(4)).copied().unwrap_or(20),
        home: p % servers,
        stale: false,
        routes: BTreeMap::new(),
    };
    (0..count).map(plan).collect()
}

/// Up to `n` elements of a range, in random order.
fn some_of(range: std::ops::Range<usize>, n: usize, rng: &mut Rng) -> Vec<usize> {
    let mut all: Vec<usize> = range.collect();
    let mut some = Vec::new();
    while some.len() < n && !all.is_empty() {
        some.push(all.swap_remove(rng.index(all.len())));
    }
    some
}
