//! Makes a routing table and its changes from a list of real prefixes, as MRT files that route servers replay, or as text.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use fibcast_mrt::Writer;
use fibcast_testbed::tablegen::churn::{self, Phase};
use fibcast_testbed::tablegen::{Gateways, GatewaysError, PrefixesError, Rule, read_prefixes, text};
use flate2::Compression;
use flate2::write::GzEncoder;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// Gives prefixes next hops by a fixed rule and writes them as MRT: a table, and updates that flap some of its routes.
#[derive(Debug, Parser)]
#[command(version)]
struct Options {
    /// List of prefixes, one on each line, plain or gzip
    #[arg(long, default_value = "verify/data/full-table-2024.prefixes.txt.gz")]
    prefixes: PathBuf,
    /// Write the table (TABLE_DUMP_V2) here; a name that ends in .gz is compressed, one that ends in .txt has lines PREFIX via GATEWAY
    #[arg(long)]
    table: Option<PathBuf>,
    /// Write the updates (BGP4MP_ET) here; a name that ends in .gz is compressed
    #[arg(long, requires = "phase")]
    updates: Option<PathBuf>,
    /// A phase of the updates: RATE/s:SECONDSs; may be given several times
    #[arg(long)]
    phase: Vec<Phase>,
    /// Prefixes that flap
    #[arg(long, default_value_t = 100_000)]
    flaps: usize,
    /// IPv4 subnets of the gateways, one for each port
    #[arg(long, default_values = ["198.18.0.0/16", "198.19.0.0/16"])]
    subnet4: Vec<Ipv4Net>,
    /// IPv6 subnets of the gateways, one for each port
    #[arg(long, default_values = ["2001:2::/64", "2001:2:0:1::/64"])]
    subnet6: Vec<Ipv6Net>,
    /// Gateways in each subnet
    #[arg(long, default_value_t = 64)]
    per_subnet: u32,
    /// Use only this many prefixes, spread over the list
    #[arg(long)]
    limit: Option<usize>,
    /// Seed of the table and the flaps
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Time stamp of the table and of the first update, seconds since 1970
    #[arg(long, default_value_t = 1_700_000_000)]
    time: u32,
}

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{0}")]
    Prefixes(#[from] PrefixesError),
    #[error("--subnet4, --subnet6, --per-subnet: {0}")]
    Gateways(#[from] GatewaysError),
    #[error("--updates needs two ports or more to flap between")]
    OnePort,
    #[error("{path}: cannot write: {source}")]
    Output { path: PathBuf, source: io::Error },
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("fibcast-tablegen: {failure}");
            ExitCode::from(if matches!(failure, Failure::Gateways(_) | Failure::OnePort) { 2 } else { 1 })
        }
    }
}

fn run(options: &Options) -> Result<(), Failure> {
    let gateways = Gateways::new(options.subnet4.clone(), options.subnet6.clone(), options.per_subnet)?;
    if options.updates.is_some() && gateways.ports() < 2 {
        return Err(Failure::OnePort);
    }
    let rule = Rule { gateways, seed: options.seed };
    let mut prefixes = read_prefixes(&options.prefixes)?;
    if let Some(limit) = options.limit.filter(|limit| *limit < prefixes.len()) {
        let step = prefixes.len() as f64 / limit.max(1) as f64;
        prefixes = (0..limit).filter_map(|i| prefixes.get((i as f64 * step) as usize).copied()).collect();
    }
    let peer = rule.gateways.address(0, IpNet::V4(Ipv4Net::default()));
    if let Some(path) = &options.table {
        let written = if text::is_text(path) {
            lines(path, &prefixes, &rule)
        } else {
            write_to(path, |w| table(w, &prefixes, &rule, peer, options.time))
        };
        written.map_err(|source| Failure::Output { path: path.clone(), source })?;
        let v4 = prefixes.iter().filter(|p| matches!(p, IpNet::V4(_))).count();
        println!(
            "{}: {v4} IPv4 and {} IPv6 routes by {} gateways of each family",
            path.display(),
            prefixes.len() - v4,
            rule.gateways.count()
        );
    }
    if let Some(path) = &options.updates {
        let flapping = churn::draw(&prefixes, options.flaps, options.seed);
        let mut count = 0;
        let written = write_to(path, |w| {
            let begin_us = u64::from(options.time) * 1_000_000;
            for change in churn::changes(&flapping, &rule, &options.phase) {
                let next_hop = rule.gateways.address(change.gateway, change.prefix);
                w.announce(begin_us + change.at_us, peer, next_hop, &[change.prefix])?;
                count += 1;
            }
            Ok(())
        });
        written.map_err(|source| Failure::Output { path: path.clone(), source })?;
        println!("{}: {count} changes of {} prefixes", path.display(), flapping.len());
    }
    Ok(())
}

fn table(w: &mut Writer<Output>, prefixes: &[IpNet], rule: &Rule, peer: IpAddr, time: u32) -> io::Result<()> {
    w.peer_index(time, "fibcast-tablegen", peer)?;
    for prefix in prefixes {
        w.rib(time, *prefix, rule.gateways.address(rule.gateway(*prefix), *prefix))?;
    }
    Ok(())
}

fn lines(path: &Path, prefixes: &[IpNet], rule: &Rule) -> io::Result<()> {
    let mut file = BufWriter::with_capacity(1 << 20, File::create(path)?);
    for prefix in prefixes {
        text::write_route(&mut file, *prefix, rule.gateways.address(rule.gateway(*prefix), *prefix))?;
    }
    file.flush()
}

/// The output; [`Output::finish`] completes it, compressed or not, and reports its errors.
enum Output {
    Plain(BufWriter<File>),
    Gzip(GzEncoder<BufWriter<File>>),
}

impl Output {
    fn create(path: &Path) -> io::Result<Self> {
        let file = BufWriter::with_capacity(1 << 20, File::create(path)?);
        let compressed = path.extension().is_some_and(|e| e == "gz");
        Ok(if compressed { Self::Gzip(GzEncoder::new(file, Compression::fast())) } else { Self::Plain(file) })
    }

    fn finish(self) -> io::Result<()> {
        match self {
            Self::Plain(mut file) => file.flush(),
            Self::Gzip(encoder) => encoder.finish()?.flush(),
        }
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(file) => file.write(bytes),
            Self::Gzip(encoder) => encoder.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(file) => file.flush(),
            Self::Gzip(encoder) => encoder.flush(),
        }
    }
}

fn write_to(path: &Path, content: impl FnOnce(&mut Writer<Output>) -> io::Result<()>) -> io::Result<()> {
    let mut writer = Writer::new(Output::create(path)?);
    content(&mut writer)?;
    writer.into_inner().finish()
}
