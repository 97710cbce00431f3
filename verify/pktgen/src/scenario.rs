//! A scenario: everything that describes a benchmark, so that it can be repeated. A TOML file, of which the command line overrides keys.

use std::path::{Path, PathBuf};

use ipnet::IpNet;
use serde::Deserialize;

use crate::engine::Dut;
use crate::port::PortSpec;
use crate::rate::Rate;
use crate::search::TestKind;
use crate::traffic::frames::Protocol;
use crate::traffic::order::Direction;
use crate::traffic::sizes::{FCS, Sizes};

/// As long as a search with the default trials takes at most.
const CHURN_S: f64 = 1_200.0;

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Scenario {
    pub eal_args: Option<String>,
    /// Each has a queue of every port. None: one, wherever the process runs.
    pub cores: Vec<usize>,
    pub port: Vec<PortSpec>,
    pub dut: Dut,
    pub table: Option<PathBuf>,
    pub traffic: Traffic,
    pub load: LoadKeys,
    pub test: TestKeys,
    pub latency: LatencyKeys,
    pub changes: ChangeKeys,
    pub event: Vec<Event>,
    pub report: ReportKeys,
    pub seed: Option<u64>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Traffic {
    pub sizes: Option<Sizes>,
    /// `ipv4`, `ipv6`; none: both.
    pub families: Vec<Family>,
    pub protocol: Protocol,
    pub direction: Direction,
    pub prefixes: Vec<IpNet>,
    pub flows: Option<usize>,
    pub zipf: Option<f64>,
    pub pcap: Option<PathBuf>,
    pub rewrite: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    Ipv4,
    Ipv6,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LoadKeys {
    pub rate: Option<Rate>,
    pub burst: Option<u64>,
    pub window: Option<usize>,
    pub duration: Option<f64>,
}

/// Keys of all tests; each one says what it takes.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TestKeys {
    pub kind: TestKind,
    pub min_rate: Option<Rate>,
    pub max_rate: Option<Rate>,
    /// Seconds of a trial.
    pub trial: Option<f64>,
    /// MLRsearch: seconds of the first trials, and the sum of seconds that classify a load.
    pub initial_trial: Option<f64>,
    pub duration_sum: Option<f64>,
    pub exceed_ratio: Option<f64>,
    /// Relative width of the final interval.
    pub width: Option<f64>,
    /// Loss ratio of PDR, or of the binary search.
    pub loss_ratio: Option<f64>,
    /// Seconds after which a search gives up.
    pub search_max: Option<f64>,
    pub warmup: Option<f64>,
    /// Back-to-back: repetitions, and the longest burst in seconds.
    pub repeat: Option<usize>,
    pub longest_burst: Option<f64>,
    /// Frame-loss curve: step in percent of the largest rate.
    pub step: Option<f64>,
    /// Seconds to wait for the last packets of a trial.
    pub wait: Option<f64>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LatencyKeys {
    pub one_in: Option<u32>,
    /// Measure latency at 10, 50 and 90 % of what a search found.
    pub at_result: Option<bool>,
}

/// What changes while packets are sent.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ChangeKeys {
    /// The timetable, MRT. With `churn` it is written, without it is read.
    pub updates: Option<PathBuf>,
    /// Unix time in seconds of the first change.
    pub start_at: Option<f64>,
    /// Changes/s, and for how many seconds.
    pub churn: Option<f64>,
    pub churn_s: Option<f64>,
    /// Time after a change in which both next hops are right.
    pub settle_ms: Option<u64>,
    /// Silence that is an outage.
    pub outage_ms: Option<u64>,
    /// Before counting, each flow must have been forwarded once.
    pub coverage: bool,
    /// Changes that are announced on the control socket.
    pub set: Vec<ChangeSet>,
}

/// Next hops that routes of the table get when the name is said on the control socket.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChangeSet {
    pub name: String,
    pub file: PathBuf,
}

/// A command that is run at a time.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Event {
    /// Seconds after the first trial began.
    pub at: f64,
    /// Run by `sh -c`.
    pub run: String,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ReportKeys {
    pub json: Option<PathBuf>,
    pub csv: Option<PathBuf>,
    pub html: Option<PathBuf>,
}

impl Scenario {
    /// Reads a file. A path in it is relative to the file's folder.
    pub fn read(path: &Path) -> Result<Self, String> {
        let fail = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
        let text = std::fs::read_to_string(path).map_err(|error| fail(&error))?;
        let mut scenario: Self = toml::from_str(&text).map_err(|error| {
            let line = error.span().map_or(1, |span| {
                text.get(..span.start).map_or(1, |before| before.matches('\n').count() + 1)
            });
            format!("{}: line {line}: {}", path.display(), error.message())
        })?;
        let folder = path.parent().unwrap_or(Path::new(""));
        let Self { table, traffic, changes, .. } = &mut scenario;
        let sets = changes.set.iter_mut().map(|set| &mut set.file);
        let files = [table, &mut traffic.pcap, &mut changes.updates].into_iter().flatten();
        for file in files.chain(sets) {
            *file = folder.join(&*file);
        }
        Ok(scenario)
    }

    /// What no part can check alone.
    pub fn check(&self) -> Result<(), String> {
        let fail = |what: String| Err(what);
        if self.port.is_empty() {
            return fail("no port: expected --port or [[port]]".into());
        }
        if self.port.len() > usize::from(u8::MAX) {
            return fail("expected at most 255 ports".into());
        }
        for port in &self.port {
            port.link(self.dut)?;
        }
        let names: Vec<&str> = self.port.iter().map(PortSpec::name).collect();
        if let Some(name) =
            names.iter().enumerate().find_map(|(at, name)| names.get(..at)?.contains(name).then_some(name))
        {
            return fail(format!("two ports have the name {name}"));
        }
        match self.dut {
            Dut::Router if self.table.is_none() => {
                return fail("a router needs --table, the routes that it has".into());
            }
            Dut::Bridge if !self.port.len().is_multiple_of(2) => {
                return fail(format!(
                    "a bridge has pairs of ports, expected an even number, found {}",
                    self.port.len()
                ));
            }
            Dut::Bridge | Dut::Loopback if self.table.is_some() => {
                return fail("a table needs a router: expected dut = \"router\", or prefixes instead".into());
            }
            Dut::Bridge | Dut::Loopback
                if self.traffic.prefixes.is_empty() && self.traffic.pcap.is_none() =>
            {
                return fail(
                    "without a table the destinations are missing: expected prefixes or a pcap".into(),
                );
            }
            _ => {}
        }
        if let Direction::Asymmetric(shares) = &self.traffic.direction
            && shares.len() != self.port.len()
        {
            return fail(format!("direction: {} shares for {} ports", shares.len(), self.port.len()));
        }
        if self.dut == Dut::Router && self.port.len() == 1 && self.traffic.direction != Direction::Mesh {
            return fail("direction: one port has no other: expected mesh".into());
        }
        if self.traffic.pcap.is_some()
            && (self.traffic.sizes.is_some() || self.traffic.protocol != Protocol::Udp)
        {
            return fail(
                "a pcap brings its own sizes and protocols: expected neither sizes nor protocol".into(),
            );
        }
        if self.traffic.pcap.is_none() && self.traffic.rewrite {
            return fail("rewrite needs a pcap".into());
        }
        for (key, value) in
            [("flows", self.traffic.flows), ("window", self.load.window), ("repeat", self.test.repeat)]
        {
            if value == Some(0) {
                return fail(format!("{key} = 0: expected more"));
            }
        }
        if self.load.burst.is_some_and(|burst| !(1..=4096).contains(&burst)) {
            return fail("burst: expected 1 to 4096 packets".into());
        }
        if self.load.window.is_some() && self.test.kind != TestKind::Traffic {
            return fail("window: a closed loop cannot be searched, because it adapts to the device: expected kind = \"traffic\"".into());
        }
        for (key, value) in [
            ("duration", self.load.duration),
            ("trial", self.test.trial),
            ("longest_burst", self.test.longest_burst),
            ("initial_trial", self.test.initial_trial),
            ("duration_sum", self.test.duration_sum),
            ("search_max", self.test.search_max),
            ("zipf", self.traffic.zipf),
            ("step", self.test.step),
            ("churn", self.changes.churn),
            ("churn_s", self.changes.churn_s),
        ] {
            if value.is_some_and(|value| !(value.is_finite() && value > 0.0)) {
                return fail(format!("{key} = {}: expected a number above 0", value.unwrap_or(0.0)));
            }
        }
        for (key, value, from_zero) in [
            ("width", self.test.width, false),
            ("exceed_ratio", self.test.exceed_ratio, true),
            ("loss_ratio", self.test.loss_ratio, true),
        ] {
            let right = |value: f64| value < 1.0 && (value > 0.0 || (from_zero && value == 0.0));
            if value.is_some_and(|value| !right(value)) {
                return fail(format!("{key} = {}: expected a ratio below 1", value.unwrap_or(0.0)));
            }
        }
        self.check_changes()?;
        self.check_mtu()
    }

    fn check_changes(&self) -> Result<(), String> {
        let ChangeKeys { updates, start_at, churn, churn_s, outage_ms, set, .. } = &self.changes;
        let fail = |what: &str| Err(what.to_owned());
        match (updates, start_at, churn) {
            (None, _, Some(_)) => {
                return fail(
                    "churn: expected updates, the file that is written for the source of the routes",
                );
            }
            (Some(_), None, _) => return fail("updates: expected start_at, when the first change is due"),
            (None, Some(_), _) => return fail("start_at: expected updates, the changes that begin then"),
            _ => {}
        }
        if churn_s.is_some() && churn.is_none() {
            return fail("churn_s: expected churn, changes/s");
        }
        let most = crate::plan::churn::MOST;
        if let Some(changes) = churn.map(|churn| churn * self.churn_s()).filter(|&changes| changes > most) {
            return Err(format!("churn: {changes:.0} changes in all, expected at most {most:.0}"));
        }
        if (updates.is_some() || !set.is_empty()) && (self.dut != Dut::Router || self.table.is_none()) {
            return fail("changes of routes need a router and its table");
        }
        if outage_ms.is_some_and(|ms| !(10..=1000).contains(&ms)) {
            return fail("outage_ms: expected 10 to 1000");
        }
        let names: Vec<&str> = set.iter().map(|set| set.name.as_str()).collect();
        if names.iter().enumerate().any(|(at, name)| names.iter().take(at).any(|before| before == name)) {
            return fail("changes.set: two have the same name");
        }
        if let Some(event) = self.event.iter().find(|event| !(event.at.is_finite() && event.at >= 0.0)) {
            return Err(format!("event {:?}: at = {}: expected seconds from 0 on", event.run, event.at));
        }
        if self
            .cores
            .iter()
            .enumerate()
            .any(|(at, core)| self.cores.iter().take(at).any(|before| before == core))
        {
            return fail("cores: one is there twice");
        }
        Ok(())
    }

    /// Seconds of churn.
    pub fn churn_s(&self) -> f64 {
        self.changes.churn_s.unwrap_or(CHURN_S)
    }

    fn check_mtu(&self) -> Result<(), String> {
        let Some(sizes) = &self.traffic.sizes else { return Ok(()) };
        let needed = sizes.largest().saturating_sub(14 + FCS);
        for port in &self.port {
            if let Some(mtu) = port.mtu.filter(|&mtu| mtu < needed) {
                return Err(format!(
                    "sizes {sizes}: frames of {} bytes need an MTU of {needed}, port {} has {mtu}",
                    sizes.largest(),
                    port.name()
                ));
            }
        }
        Ok(())
    }

    pub fn sizes(&self) -> Sizes {
        self.traffic.sizes.clone().unwrap_or_else(|| Sizes::one(64))
    }

    /// MTU that a port must have.
    pub fn mtu(&self, port: &PortSpec) -> u16 {
        let needed = self.sizes().largest().saturating_sub(14 + FCS);
        port.mtu.unwrap_or(1500).max(needed)
    }

    pub fn seed(&self) -> u64 {
        self.seed.unwrap_or(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PORTS: &str = "[[port]]\nname = \"p0\"\ndevice = \"x0\"\nsubnet4 = \"198.18.0.0/16\"\npeer4 = \"198.18.0.1\"\nmtu = 1500\n\
                         [[port]]\nname = \"p1\"\ndevice = \"x1\"\nsubnet4 = \"198.19.0.0/16\"\npeer4 = \"198.19.0.1\"\n";

    fn scenario(text: &str) -> Result<Scenario, String> {
        let folder = std::env::temp_dir().join(format!("fibcast-scenario-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let file = folder.join(format!("{:x}.toml", crate::checksum::hash(text.as_bytes())));
        std::fs::write(&file, text).unwrap();
        let scenario = Scenario::read(&file);
        std::fs::remove_file(&file).unwrap();
        let scenario = scenario?;
        scenario.check().map(|()| scenario)
    }

    #[test]
    fn a_whole_scenario_is_read() {
        let text = format!(
            "table = \"table.txt\"\nseed = 7\n[traffic]\nsizes = \"imix\"\nfamilies = [\"ipv6\"]\ndirection = \"9:1\"\nzipf = 1.1\n\
             [load]\nrate = \"50%\"\nburst = 16\n[test]\nkind = \"mlrsearch\"\nmin_rate = 9001\nduration_sum = 21\n\
             [latency]\none_in = 100\n\
             [changes]\nupdates = \"u.mrt\"\nstart_at = 1.5\nchurn = 1000\nset = [{{ name = \"away\", file = \"away.txt\" }}]\n\
             [[event]]\nat = 30\nrun = \"true\"\n[report]\nhtml = \"out.html\"\n{PORTS}"
        );
        let scenario = scenario(&text).unwrap();
        assert_eq!(scenario.traffic.direction, Direction::Asymmetric(vec![9, 1]));
        assert_eq!(scenario.load.rate, Some(Rate::Percent(50.0)));
        assert!(scenario.table.unwrap().is_absolute(), "relative to the file");
        assert!(
            scenario.changes.updates.unwrap().is_absolute() && scenario.changes.set[0].file.is_absolute()
        );
        assert_eq!(scenario.event[0].at, 30.0);
    }

    #[test]
    fn examples_are_right() {
        let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../packaging/examples"));
        let mut count = 0;
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.file_name().unwrap().to_string_lossy().starts_with("bench-") {
                Scenario::read(&path).unwrap().check().unwrap();
                count += 1;
            }
        }
        assert_eq!(count, 4);
    }

    #[test]
    fn mistakes_are_told_in_one_line() {
        let table = "table = \"t\"\n";
        for (text, words) in [
            (format!("{table}[traffic]\nsize = 64\n{PORTS}"), "line 3: unknown field `size`"),
            (format!("{table}[load]\nrate = 0\n{PORTS}"), "expected a number above 0"),
            (format!("{table}[load]\nrate = \"10 parsecs\"\n{PORTS}"), "expected a number above 0"),
            (table.to_owned(), "no port"),
            (PORTS.to_owned(), "a router needs --table"),
            (format!("dut = \"bridge\"\n{PORTS}"), "expected prefixes or a pcap"),
            (format!("dut = \"bridge\"\ntable = \"t\"\n{PORTS}"), "a table needs a router"),
            (format!("{table}[traffic]\nsizes = 1519\n{PORTS}"), "need an MTU of 1501, port p0 has 1500"),
            (format!("{table}[traffic]\nsizes = 63\n{PORTS}"), "expected 64 to 9216"),
            (format!("{table}[traffic]\ndirection = \"1:2:3\"\n{PORTS}"), "3 shares for 2 ports"),
            (format!("{table}[traffic]\nrewrite = true\n{PORTS}"), "rewrite needs a pcap"),
            (
                format!("{table}[load]\nwindow = 5\n[test]\nkind = \"throughput\"\n{PORTS}"),
                "a closed loop cannot be searched",
            ),
            (format!("{table}[test]\nwidth = 0.0\n{PORTS}"), "expected a ratio below 1"),
            (format!("{table}[test]\ntrial = -1.0\n{PORTS}"), "expected a number above 0"),
            (format!("{table}{}", PORTS.replace("\"p1\"", "\"p0\"")), "two ports have the name p0"),
            (format!("{table}[changes]\nchurn = 10\n{PORTS}"), "churn: expected updates"),
            (format!("{table}[changes]\nupdates = \"u\"\n{PORTS}"), "updates: expected start_at"),
            (format!("{table}[changes]\nstart_at = 1\n{PORTS}"), "start_at: expected updates"),
            (
                format!("{table}[changes]\nupdates = \"u\"\nstart_at = 1\nchurn = 1e6\n{PORTS}"),
                "1200000000 changes in all",
            ),
            (format!("{table}[changes]\nchurn_s = 1\n{PORTS}"), "churn_s: expected churn"),
            (format!("{table}[changes]\noutage_ms = 5\n{PORTS}"), "expected 10 to 1000"),
            (format!("{table}[[event]]\nat = -1.0\nrun = \"true\"\n{PORTS}"), "expected seconds from 0 on"),
            (format!("cores = [1, 1]\n{table}{PORTS}"), "one is there twice"),
        ] {
            let error = scenario(&text).unwrap_err();
            assert!(error.contains(words) && !error.contains('\n'), "{text}: {error}");
        }
    }
}
