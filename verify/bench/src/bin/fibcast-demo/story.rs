//! The sequence: load, traffic, changes, kill, return, calm, verdict.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use fibcast_control::status::Role;
use fibcast_testbed::config::{self, LANS};
use fibcast_testbed::netns::address;
use fibcast_testbed::process::command;
use fibcast_testbed::wait::until;
use fibcast_testbed::{Internet, Namespace, Namespaces, Node, Process};

use crate::files::{Layout, NIC_HOST};
use crate::frr::{self, Frr};
use crate::generator::{Feed, Figures};
use crate::plan::{Phase, Plan};
use crate::screen::Screen;
use crate::verdict::{Seen, grouped};
use crate::watch::{Rate, Watched, all_equal, all_loaded};

/// Longest wait for anything that should take a few seconds.
const READY_TIMEOUT: Duration = Duration::from_secs(60);

/// Longest wait for FRR to load, and for what it does when it is asked again.
const READY_TIMEOUT_WITH_FRR: Duration = Duration::from_secs(240);

/// How often the nodes are asked while nothing is timed.
const TICK: Duration = Duration::from_millis(200);

/// Most packets of the generator in flight: fewer than a receive queue has descriptors, so that no full ring drops.
const WINDOW: &str = "768";
/// For this long after a route change the old next hop is right as well, in milliseconds. It covers the second in which the surviving
/// server ranks the killed server's routes after its own.
const SETTLE_MS: u32 = 3000;

/// The same with FRR, whose bgpd and zebra take their time when they do much else.
const SETTLE_WITH_FRR_MS: u32 = 6000;

/// Longest time to the secondary that is let pass where routes come from FRR.
const TAKEOVER_WITH_FRR_MS: f64 = 100.0;

/// Where things are.
#[derive(Debug)]
pub struct Place {
    /// The programs.
    pub programs: PathBuf,
    /// The prefixes.
    pub data: PathBuf,
    /// The helper for FRR; none: routes come from files.
    pub packaging: Option<PathBuf>,
    /// Where everything is kept; none: nowhere.
    pub keep: Option<PathBuf>,
}

/// A run that is under way. Dropping it ends every program and removes the folder.
pub struct Story {
    plan: Plan,
    pps: u64,
    programs: PathBuf,
    layout: Layout,
    started: Instant,
    started_at: f64,
    screen: Screen,
    stop: Arc<AtomicBool>,
    copies: Vec<Watched>,
    changes: Rate,
    nodes: Vec<Node>,
    generator: Option<(Process, Feed)>,
    frr: Option<Frr>,
    // Last, so that they are removed after the programs have ended.
    hosts: Vec<Namespace>,
    _namespaces: Option<Namespaces>,
    _folder: Option<tempfile::TempDir>,
}

/// Places of the nodes in `copies` and `nodes`.
const RS_A: usize = 0;
const RS_B: usize = 1;
const NH_1: usize = 2;

impl Story {
    /// Makes the table, writes the files, starts the generator and the first three nodes.
    pub fn begin(place: Place, plan: Plan, pps: u64) -> Result<Story, String> {
        let stop = Arc::new(AtomicBool::new(false));
        let flag = stop.clone();
        fibcast_daemon::signals::on_stop(move || flag.store(true, Ordering::Release))
            .map_err(|error| format!("signals: {error}"))?;
        if let Some(reason) = place.packaging.as_ref().and_then(|_| frr::missing()) {
            return Err(reason);
        }
        let mut screen = Screen::new();
        let (folder, temporary) = work_folder(place.keep.as_deref())?;
        screen.say("making a routing table of the real Internet's prefixes, and its changes");
        let phase = |phase: &Phase| format!("{}/s:{}s", phase.rate, phase.lasts.as_secs());
        let phases: Vec<String> = plan.phases.iter().map(phase).collect();
        let internet = Internet::make(&place.programs, &place.data, &folder, &phases)?;
        let started_at = unix_now();
        let (mut hosts, mut namespaces) = (Vec::new(), None);
        let layout = if place.packaging.is_some() {
            let made = namespaces.insert(Namespaces::new());
            hosts = frr::ALL_HOSTS.iter().map(|host| made.add(host)).collect::<Result<_, _>>()?;
            made.network(&hosts.iter().collect::<Vec<_>>())?;
            Layout::with_frr(folder, internet, [1, 2, 3].map(address))
        } else {
            Layout::new(folder, internet, started_at + plan.quiet.as_secs_f64())?
        };
        layout.write().map_err(|error| format!("configurations: {error}"))?;
        let copies = ["rs-a", "rs-b", "nh-1", "nh-2"].map(|name| Watched::new(name, &layout.folder)).into();
        let mut story = Story {
            plan,
            pps,
            programs: place.programs,
            layout,
            started: Instant::now(),
            started_at,
            screen,
            stop,
            copies,
            changes: Rate::new(),
            nodes: Vec::new(),
            generator: None,
            frr: None,
            hosts,
            _namespaces: namespaces,
            _folder: temporary,
        };
        if let Some(packaging) = &place.packaging {
            story.load_frr(packaging)?;
            story.screen.say("starting nh-1 (NIC host with dataplane)");
        } else {
            story.screen.say("starting rs-a and rs-b (route servers) and nh-1 (NIC host with dataplane)");
        }
        // The generator owns the vhost-user sockets; virtio-user ports connect to them, so it comes before the dataplane.
        let generator = story.start_generator()?;
        story.generator = Some(generator);
        story.wait_for_links()?;
        for name in ["rs-a", "rs-b", "nh-1"].into_iter().skip(story.nodes.len()) {
            let node = story.start_node(name)?;
            story.nodes.push(node);
        }
        Ok(story)
    }

    /// Starts the route servers and FRR beside them, and waits until both are ready. Then the time of the first change is known.
    fn load_frr(&mut self, packaging: &Path) -> Result<(), String> {
        self.screen.say("starting rs-a and rs-b (route servers), zebra and bgpd beside each, and a BGP speaker that feeds both");
        self.screen
            .say("FRR loads at its own pace: with two of them on two cores, count on one to three minutes");
        for name in frr::HOSTS {
            let node = self.start_node(name)?;
            self.nodes.push(node);
        }
        self.frr = Some(Frr::start(&self.hosts, &self.programs, packaging, &self.layout)?);
        self.wait_until("FRR to tell its table and both servers to be ready", |copies| {
            all_loaded(&copies[..=RS_B])
        })?;
        let routes = self.copies[RS_A].routes();
        for line in self.frr.as_ref().map_or(Ok(Vec::new()), |frr| frr.summary(routes))? {
            self.screen.say(&line);
        }
        // From here on everything is timed as in the demo without FRR.
        self.started = Instant::now();
        self.started_at = unix_now();
        self.layout.first_change = self.started_at + self.plan.quiet.as_secs_f64();
        let first_change = self.layout.first_change;
        self.frr.as_mut().map_or(Ok(()), |frr| frr.begin_changes(first_change))?;
        Ok(())
    }

    /// From the load of the table to the verdict.
    pub fn run(mut self) -> Result<Seen, String> {
        let mut seen = Seen::default();
        self.wait_until("the table to be in rs-a, rs-b and nh-1", |copies| all_loaded(&copies[..=NH_1]))?;
        seen.table_s = self.started.elapsed().as_secs_f64();
        seen.routes = self.copies[NH_1].routes();
        self.screen.say(&format!("{} routes in all three after {:.1} s", grouped(seen.routes), seen.table_s));
        self.screen.say("starting nh-2 (agent behind nh-1)");
        let agent = self.start_node("nh-2")?;
        self.nodes.push(agent);

        self.run_until(self.plan.kill)?;
        seen.takeover_limit_ms = self.frr.as_ref().map(|_| TAKEOVER_WITH_FRR_MS);
        self.kill_primary(&mut seen)?;
        self.run_until(self.plan.restart)?;
        self.screen.say("starting rs-a again");
        self.nodes[RS_A] = self.start_node("rs-a")?;
        self.run_until(self.plan.last_change() + self.plan.calm)?;
        if self.frr.is_some() {
            // zebra tells all again at its own pace, and the way back is for packets to see.
            self.wait_until("rs-a to have its table again and nh-1 to use it", |copies| {
                copies[NH_1].active() == Some(Role::Primary)
            })?;
            self.run_until(
                Duration::try_from_secs_f64(self.plan_time()).unwrap_or_default() + self.plan.calm,
            )?;
        }

        self.end_traffic(&mut seen)?;
        self.wait_until("all copies to be equal", all_equal)?;
        self.note_end(&mut seen);
        Ok(seen)
    }

    fn start_node(&self, name: &str) -> Result<Node, String> {
        let program = match name {
            NIC_HOST => "fibcast-dataplane",
            "nh-2" => "fibcast-agent",
            _ => "fibcast-route-server",
        };
        let host = self.hosts.iter().find(|host| host.host() == name).map(Namespace::name);
        Ok(Node::start(&self.programs.join(program), name, &self.layout.folder, host)?)
    }

    fn start_generator(&self) -> Result<(Process, Feed), String> {
        let Layout { folder, internet, first_change, .. } = &self.layout;
        let settle = if self.frr.is_some() { SETTLE_WITH_FRR_MS } else { SETTLE_MS };
        let mut command = command(&self.programs.join("fibcast-pktgen"), None)?;
        command
            .args(config::generator(folder, NIC_HOST, 0, &self.layout.prefix("generator")))
            .arg("--table")
            .arg(&internet.table)
            .arg("--updates")
            .arg(&internet.updates)
            .args(["--start-at", &first_change.to_string(), "--settle-ms", &settle.to_string()])
            .args(["--window", WINDOW, "--sizes", "64-104", "--rate", &self.pps.to_string(), "--json"]);
        let (process, stdout) = Process::start_piped("pktgen", command, folder)?;
        Ok((process, Feed::follow(stdout)))
    }

    /// A virtio-user port fails at once where its socket is not there yet.
    fn wait_for_links(&mut self) -> Result<(), String> {
        let (folder, stop, generator) = (&self.layout.folder, &self.stop, &mut self.generator);
        until("the traffic generator opens its ports", READY_TIMEOUT, || {
            check_stopped(stop)?;
            generator.iter_mut().try_for_each(|(process, _)| process.check())?;
            Ok::<_, String>(LANS.iter().all(|lan| lan.socket(folder, NIC_HOST).exists()))
        })?;
        Ok(())
    }

    /// SIGKILL of rs-a, then asks nh-1 without pause until it uses the secondary.
    fn kill_primary(&mut self, seen: &mut Seen) -> Result<(), String> {
        // At the start the first server that is ready is used; the primary is back in its place a few seconds later.
        self.wait_until("nh-1 to use the primary", |copies| copies[NH_1].active() == Some(Role::Primary))?;
        let before = self.copies[NH_1].failovers();
        self.nodes[RS_A].process.kill();
        let killed = Instant::now();
        self.screen.say("killed rs-a, the primary (SIGKILL)");
        while killed.elapsed() < READY_TIMEOUT {
            self.copies[NH_1].refresh();
            if self.copies[NH_1].active() == Some(Role::Secondary) && self.copies[NH_1].failovers() > before {
                seen.takeover_ms = Some(killed.elapsed().as_secs_f64() * 1e3);
                let sync = self.copies[NH_1].status.as_ref().and_then(|status| status.sync.as_ref());
                seen.noticed_ms = sync.and_then(|sync| sync.last_failover_ms);
                seen.copied = sync.map(|sync| sync.last_failover_routes_copied);
                seen.differing = sync.map(|sync| sync.routes_differing);
                return Ok(());
            }
            check_stopped(&self.stop)?;
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    fn end_traffic(&mut self, seen: &mut Seen) -> Result<(), String> {
        let Some((mut process, feed)) = self.generator.take() else {
            return Err("no traffic generator".into());
        };
        process.stop();
        // The reader sees the end of the output a moment after the process has ended.
        std::thread::sleep(TICK);
        seen.packets = feed.latest();
        seen.mean_pps = seen.packets.mean_pps;
        seen.last_route_s = seen.packets.covered_at.map(|at| at - self.started_at);
        if seen.packets.sent == 0 {
            return Err(format!("the traffic generator sent nothing:\n{}", process.end_of_log()));
        }
        Ok(())
    }

    fn note_end(&self, seen: &mut Seen) {
        let drops = self.copies[NH_1].drops().unwrap_or_default();
        let mut by_reason = BTreeMap::new();
        for drop in drops.drops {
            *by_reason.entry(drop.reason).or_default() += drop.packets;
        }
        seen.dropped = by_reason.into_iter().collect();
        seen.failed_back = self.copies[NH_1].active() == Some(Role::Primary);
        for copy in &self.copies {
            let Some(status) = &copy.status else { continue };
            seen.digests.push((copy.name, status.table.digest.clone()));
            seen.memory.push((copy.name, status.resident_bytes));
            if copy.name == "nh-1" {
                seen.changes = status.sync.as_ref().map_or(0, |sync| sync.routes_applied);
            }
        }
    }

    /// Shows what happens until the plan's time `at`.
    fn run_until(&mut self, at: Duration) -> Result<(), String> {
        while self.plan_time() < at.as_secs_f64() {
            self.tick()?;
        }
        Ok(())
    }

    fn wait_until(&mut self, what: &str, holds: impl Fn(&[Watched]) -> bool) -> Result<(), String> {
        let timeout = if self.frr.is_some() { READY_TIMEOUT_WITH_FRR } else { READY_TIMEOUT };
        let deadline = Instant::now() + timeout;
        while !holds(&self.copies) {
            if Instant::now() > deadline {
                let logs: Vec<_> = self.nodes.iter().map(|node| node.process.end_of_log()).collect();
                return Err(format!(
                    "waited {} s for {what}; the last answers:\n{}",
                    timeout.as_secs(),
                    logs.join("\n")
                ));
            }
            self.tick()?;
        }
        Ok(())
    }

    /// One look at everything.
    fn tick(&mut self) -> Result<(), String> {
        check_stopped(&self.stop)?;
        self.nodes.iter_mut().try_for_each(|node| node.process.check())?;
        self.generator.iter_mut().try_for_each(|(process, _)| process.check())?;
        for copy in &mut self.copies {
            copy.refresh();
        }
        if let Some(frr) = &mut self.frr {
            frr.check()?;
        }
        let lines = if self.loads_frr() { self.lines_of_frr() } else { self.lines() };
        self.screen.show(&lines);
        std::thread::sleep(TICK);
        Ok(())
    }

    fn loads_frr(&self) -> bool {
        self.frr.is_some() && self.layout.first_change.is_infinite()
    }

    fn lines_of_frr(&mut self) -> Vec<String> {
        let seconds = self.started.elapsed().as_secs_f64();
        self.frr.as_mut().map_or_else(Vec::new, |frr| frr.lines(seconds, &self.copies[..=RS_B]))
    }

    fn lines(&mut self) -> Vec<String> {
        let status = self.copies[NH_1].status.clone();
        let applied =
            status.as_ref().and_then(|status| status.sync.as_ref()).map_or(0, |sync| sync.routes_applied);
        self.changes.update(applied);
        let figures = self.generator.as_ref().map_or_else(Figures::default, |(_, feed)| feed.latest());
        let at = self.plan_time();
        let due = Duration::try_from_secs_f64(at).map_or(0, |at| self.plan.rate_at(at));
        let active = self.copies[NH_1].active().map_or_else(|| "none".into(), |role| role.to_string());
        vec![
            format!(
                "{:6.1} s  {} routes  serial {}  {:.0} changes/s ({due} due)",
                self.started.elapsed().as_secs_f64(),
                grouped(self.copies[NH_1].routes()),
                status.as_ref().map_or(0, |status| status.table.serial),
                self.changes.value,
            ),
            format!(
                "          {:.3} Mpps  sent {}  lost {}  misdelivered {}{}",
                figures.pps / 1e6,
                grouped(figures.sent),
                figures.lost,
                figures.misdelivered,
                if figures.warming_up { "  (warming up)" } else { "" },
            ),
            format!(
                "          active server: {active}  digests {}",
                if all_equal(&self.copies) { "equal" } else { "differ (changes are on their way)" }
            ),
        ]
    }

    fn plan_time(&self) -> f64 {
        unix_now() - self.layout.first_change
    }
}

fn check_stopped(stop: &AtomicBool) -> Result<(), String> {
    if stop.load(Ordering::Acquire) { Err("stopped before the end".into()) } else { Ok(()) }
}

fn unix_now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

fn work_folder(keep: Option<&Path>) -> Result<(PathBuf, Option<tempfile::TempDir>), String> {
    match keep {
        Some(folder) => {
            std::fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
            Ok((folder.to_owned(), None))
        }
        None => {
            let temporary = tempfile::Builder::new()
                .prefix("fibcast-demo-")
                .tempdir()
                .map_err(|error| format!("a folder for this run: {error}"))?;
            Ok((temporary.path().to_owned(), Some(temporary)))
        }
    }
}
