//! The command line: a scenario's keys as options, which override those of a file.

use std::path::PathBuf;
use std::str::FromStr;

use clap::Parser;
use ipnet::IpNet;

use crate::engine::Dut;
use crate::port::PortSpec;
use crate::rate::Rate;
use crate::scenario::{ChangeSet, Event, Family, Scenario};
use crate::search::TestKind;
use crate::traffic::frames::Protocol;
use crate::traffic::order::Direction;
use crate::traffic::sizes::Sizes;

/// Sends packets through a device, checks each one that comes back against a whole routing table, and measures throughput, loss and latency.
///
/// Open loop by default: packets leave at the given rate, whatever the device does. With --window it is a closed loop.
///
/// Exit codes: 0 if all was well; 1 if a packet was lost, misdelivered, duplicated, reordered or corrupt in a test of traffic, if the
/// intended load could not be offered, or if no result was found; 2 for wrong options or a wrong scenario.
#[derive(Debug, Parser)]
#[command(name = "fibcast-pktgen", version)]
pub struct Arguments {
    /// A scenario file; options override its keys.
    #[arg(long)]
    pub scenario: Option<PathBuf>,
    /// Arguments for DPDK's EAL, separated by spaces [default: --no-pci --no-huge --no-shconf --no-telemetry, -l with the cores, -m with
    /// 256 MiB for each].
    #[arg(long, allow_hyphen_values = true, help_heading = "Ports and device")]
    pub eal_args: Option<String>,
    /// Cores that send and receive, each by a queue of its own on every port [default: one loop, on any core].
    #[arg(long, value_delimiter = ',', help_heading = "Ports and device")]
    pub cores: Vec<usize>,
    /// A port, once or more: [name=p0,][mac=MAC,][subnet4=NET,peer4=ADDRESS,][subnet6=NET,peer6=ADDRESS,][peer_mac=MAC,][vlan=ID,][mtu=BYTES,]
    /// [line_rate=BITS,]device=DEVARGS. The device is last, since devargs have commas of their own; it may be a PCI address.
    #[arg(long = "port", help_heading = "Ports and device")]
    pub ports: Vec<PortSpec>,
    /// What is tested [default: router].
    #[arg(long, help_heading = "Ports and device")]
    pub dut: Option<Dut>,
    /// The router's table: MRT (TABLE_DUMP_V2 or updates), plain or gzip; a file that ends in .txt has lines PREFIX via GATEWAY.
    #[arg(long, help_heading = "Ports and device")]
    pub table: Option<PathBuf>,
    /// Frame sizes in bytes with FCS: 64, a range 64-128, imix (7:4:1 of 64, 570, 1518), or a mix 64:7,570:4,1518:1. What is too small for
    /// its headers is enlarged: IPv6 with UDP needs 78 [default: 64].
    #[arg(long, help_heading = "Traffic")]
    pub sizes: Option<Sizes>,
    /// IPv4, IPv6, or both, as the table has them [default: both].
    #[arg(long, value_delimiter = ',', help_heading = "Traffic")]
    pub families: Vec<Family>,
    /// Transport protocol [default: udp].
    #[arg(long, help_heading = "Traffic")]
    pub protocol: Option<Protocol>,
    /// mesh: in by all ports, out by any; unidirectional: in by the first port, out by others; bidirectional: in by all ports, out by
    /// others; or the ports' shares such as 9:1 [default: mesh].
    #[arg(long, help_heading = "Traffic")]
    pub direction: Option<Direction>,
    /// Destinations inside these prefixes only, instead of one for each prefix of the table.
    #[arg(long, value_delimiter = ',', help_heading = "Traffic")]
    pub prefixes: Vec<IpNet>,
    /// So many destinations; 1 is one flow.
    #[arg(long, help_heading = "Traffic")]
    pub flows: Option<usize>,
    /// The n-th destination gets packets in proportion to 1 / n^ZIPF, instead of all the same.
    #[arg(long, help_heading = "Traffic")]
    pub zipf: Option<f64>,
    /// Sends the UDP and TCP packets of this pcap file, each to its own destination; the first 12 bytes of the payload become a signature.
    #[arg(long, help_heading = "Traffic")]
    pub pcap: Option<PathBuf>,
    /// The packets of the pcap file get the destinations that other options choose.
    #[arg(long, help_heading = "Traffic")]
    pub rewrite: bool,
    /// Rate over all ports: packets/s (1.5Mpps), bit/s of frames with FCS (10Gbit/s), or percent of the sending ports' lines (50%)
    /// [default: 250kpps].
    #[arg(long, help_heading = "Load")]
    pub rate: Option<Rate>,
    /// Packets that leave together [default: 32; with --window 1].
    #[arg(long, help_heading = "Load")]
    pub burst: Option<u64>,
    /// Closed loop: so many packets in flight at most, at no more than the rate. Keep it below the descriptors of one receive queue, so that
    /// no full ring drops.
    #[arg(long, help_heading = "Load")]
    pub window: Option<usize>,
    /// Seconds of a test of traffic; without it, until SIGTERM or SIGINT.
    #[arg(long, help_heading = "Load")]
    pub duration: Option<f64>,
    /// What is measured [default: traffic].
    #[arg(long, help_heading = "Test")]
    pub test: Option<TestKind>,
    /// Largest rate of a search, as --rate [default: the sending ports' lines].
    #[arg(long, help_heading = "Test")]
    pub max_rate: Option<Rate>,
    /// Smallest rate of a search [default: 9001pps].
    #[arg(long, help_heading = "Test")]
    pub min_rate: Option<Rate>,
    /// Seconds of a trial [default: 60 as in RFC 2544; mlrsearch 1].
    #[arg(long, help_heading = "Test")]
    pub trial: Option<f64>,
    /// mlrsearch: seconds of trials that classify a load [default: 21].
    #[arg(long, help_heading = "Test")]
    pub duration_sum: Option<f64>,
    /// mlrsearch: part of that time that may lose more than allowed [default: 0.5].
    #[arg(long, help_heading = "Test")]
    pub exceed_ratio: Option<f64>,
    /// Relative width of the interval at which a search ends [default: 0.005].
    #[arg(long, help_heading = "Test")]
    pub width: Option<f64>,
    /// Loss that is allowed: of PDR [default: 0.005], or of throughput [default: 0].
    #[arg(long, help_heading = "Test")]
    pub loss_ratio: Option<f64>,
    /// mlrsearch: seconds of trials after which it gives up [default: 1200].
    #[arg(long, help_heading = "Test")]
    pub search_max: Option<f64>,
    /// back-to-back: repetitions [default: 50, as in RFC 9004].
    #[arg(long, help_heading = "Test")]
    pub repeat: Option<usize>,
    /// back-to-back: seconds of the longest burst that is tried, at most 30 by RFC 9004 [default: 2].
    #[arg(long, help_heading = "Test")]
    pub longest_burst: Option<f64>,
    /// loss-curve: step in percent of the largest rate [default: 10].
    #[arg(long, help_heading = "Test")]
    pub step: Option<f64>,
    /// Write everything that a search found into this file, as JSON.
    #[arg(long, help_heading = "Report")]
    pub json_file: Option<PathBuf>,
    /// The trials of a search as CSV.
    #[arg(long, help_heading = "Report")]
    pub csv_file: Option<PathBuf>,
    /// A report with plots, one HTML file.
    #[arg(long, help_heading = "Report")]
    pub html_file: Option<PathBuf>,
    /// Seconds to wait for the last packets of a trial (RFC 2544 §23) [default: 2].
    #[arg(long, help_heading = "Test")]
    pub loss_wait: Option<f64>,
    /// One in so many packets has its latency recorded [default: 8; with --window 1].
    #[arg(long, help_heading = "Test")]
    pub latency_one_in: Option<u32>,
    /// Next-hop changes during the run: MRT (BGP4MP_ET), plain or gzip; with --churn the file that is written.
    #[arg(long, help_heading = "Changes")]
    pub updates: Option<PathBuf>,
    /// Unix time in seconds at which the first change is due.
    #[arg(long, help_heading = "Changes")]
    pub start_at: Option<f64>,
    /// Makes up so many changes/s, each of a random route to another next hop of the table, and writes them to --updates. The source of the
    /// device's routes plays that file from --start-at on; trials wait for that time.
    #[arg(long, help_heading = "Changes")]
    pub churn: Option<f64>,
    /// Seconds of --churn [default: 1200].
    #[arg(long, help_heading = "Changes")]
    pub churn_s: Option<f64>,
    /// SECONDS:COMMAND, run by sh so long after the first trial began, such as 30:systemctl kill -s KILL fibcast-route-server; once or more.
    #[arg(long = "event", help_heading = "Changes")]
    pub events: Vec<Event>,
    /// NAME=FILE: next hops that routes of the table get when {"change":"NAME"} arrives on the control socket; once or more. The file has
    /// the format of --table.
    #[arg(long = "change", requires = "control", help_heading = "Changes")]
    pub changes: Vec<ChangeSet>,
    /// Time after a change is due in which both next hops are accepted [default: 2000].
    #[arg(long, help_heading = "Changes")]
    pub settle_ms: Option<u64>,
    /// Report outages: times of at least this length in which no packet came back, with their losses. Packets in flight for longer do not
    /// count for --window then, so that sending resumes when the router is back. 10 to 1000.
    #[arg(long, help_heading = "Changes")]
    pub outage_ms: Option<u64>,
    /// Before counting, wait until every flow has been forwarded once, and report when that was.
    #[arg(long, help_heading = "Changes")]
    pub coverage: bool,
    /// A unix socket that answers {"show":"pktgen"} with the figures, and accepts {"change":"NAME"}.
    #[arg(long)]
    pub control: Option<PathBuf>,
    /// Print the figures as one line of JSON every 200 ms, the last one at the end.
    #[arg(long)]
    pub json: bool,
    /// Never sleep, or sleep up to 60 us when there is nothing to do. [default: spin; with --window sleep]
    #[arg(long)]
    pub idle: Option<Idle>,
    /// Seconds to wait for the peer of a port to appear.
    #[arg(long, default_value_t = 30)]
    pub wait: u64,
    /// Seconds to wait for a device that answers nothing, before counting [default: 120; with --window for ever].
    #[arg(long)]
    pub silence_timeout: Option<u64>,
    /// Seed of the order of flows and of their destinations [default: 1].
    #[arg(long)]
    pub seed: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Idle {
    Spin,
    Sleep,
}

impl FromStr for ChangeSet {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((name, file)) if !name.is_empty() && !file.is_empty() => {
                Ok(Self { name: name.to_owned(), file: file.into() })
            }
            _ => Err(format!("expected NAME=FILE, found {text:?}")),
        }
    }
}

impl FromStr for Event {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once(':').and_then(|(at, run)| Some((at.parse().ok()?, run.trim())));
        match parts.filter(|(_, run)| !run.is_empty()) {
            Some((at, run)) => Ok(Self { at, run: run.to_owned() }),
            None => Err(format!("expected SECONDS:COMMAND, found {text:?}")),
        }
    }
}

/// Replaces what was given.
fn put<T>(to: &mut T, given: Option<T>) {
    if let Some(given) = given {
        *to = given;
    }
}

fn put_list<T: Clone>(to: &mut Vec<T>, given: &[T]) {
    if !given.is_empty() {
        *to = given.to_vec();
    }
}

impl Arguments {
    /// The file's keys, overridden, and checked.
    pub fn scenario(&self) -> Result<Scenario, String> {
        let mut scenario = match &self.scenario {
            Some(file) => Scenario::read(file)?,
            None => Scenario::default(),
        };
        let some = |to: &mut Option<_>, given: &Option<_>| put(to, given.clone().map(Some));
        some(&mut scenario.eal_args, &self.eal_args);
        put_list(&mut scenario.port, &self.ports);
        put(&mut scenario.dut, self.dut);
        let some = |to: &mut Option<PathBuf>, given: &Option<PathBuf>| put(to, given.clone().map(Some));
        some(&mut scenario.table, &self.table);
        let changes = &mut scenario.changes;
        some(&mut changes.updates, &self.updates);
        put(&mut changes.start_at, self.start_at.map(Some));
        put(&mut changes.churn, self.churn.map(Some));
        put(&mut changes.churn_s, self.churn_s.map(Some));
        put(&mut changes.settle_ms, self.settle_ms.map(Some));
        put(&mut changes.outage_ms, self.outage_ms.map(Some));
        put_list(&mut changes.set, &self.changes);
        changes.coverage |= self.coverage;
        put_list(&mut scenario.event, &self.events);
        put_list(&mut scenario.cores, &self.cores);
        let traffic = &mut scenario.traffic;
        some(&mut traffic.pcap, &self.pcap);
        put(&mut traffic.sizes, self.sizes.clone().map(Some));
        put_list(&mut traffic.families, &self.families);
        put(&mut traffic.protocol, self.protocol);
        put(&mut traffic.direction, self.direction.clone());
        put_list(&mut traffic.prefixes, &self.prefixes);
        put(&mut traffic.flows, self.flows.map(Some));
        put(&mut traffic.zipf, self.zipf.map(Some));
        traffic.rewrite |= self.rewrite;
        put(&mut scenario.load.rate, self.rate.map(Some));
        put(&mut scenario.load.burst, self.burst.map(Some));
        put(&mut scenario.load.window, self.window.map(Some));
        put(&mut scenario.load.duration, self.duration.map(Some));
        put(&mut scenario.test.kind, self.test);
        put(&mut scenario.test.wait, self.loss_wait.map(Some));
        let test = &mut scenario.test;
        put(&mut test.max_rate, self.max_rate.map(Some));
        put(&mut test.min_rate, self.min_rate.map(Some));
        for (key, given) in [
            (&mut test.trial, self.trial),
            (&mut test.duration_sum, self.duration_sum),
            (&mut test.exceed_ratio, self.exceed_ratio),
            (&mut test.width, self.width),
            (&mut test.loss_ratio, self.loss_ratio),
            (&mut test.search_max, self.search_max),
            (&mut test.step, self.step),
            (&mut test.longest_burst, self.longest_burst),
        ] {
            put(key, given.map(Some));
        }
        put(&mut test.repeat, self.repeat.map(Some));
        some(&mut scenario.report.json, &self.json_file);
        some(&mut scenario.report.csv, &self.csv_file);
        some(&mut scenario.report.html, &self.html_file);
        put(&mut scenario.latency.one_in, self.latency_one_in.map(Some));
        put(&mut scenario.seed, self.seed.map(Some));
        scenario.check()?;
        Ok(scenario)
    }
}
