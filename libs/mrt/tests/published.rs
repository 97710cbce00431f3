//! Files of many writers and years, beside two independent parsers.
//!
//! `published.tsv` has a row for each file: its origin, its SHA-256, what this reader finds in it, a sum over its routes, and what
//! `bgpkit-parser` and `bgpdump` 1.6.2 find: the same routes, or in what they differ. `bgpkit-parser` is run here, `bgpdump` where it is
//! installed. Small files whose licence permits it are in `published/`; the others are read where `MRT_FILES` names their folder.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking, also in its helpers"
)]

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs::File;
use std::io::Read;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use bgpkit_parser::BgpkitParser;
use bgpkit_parser::models::ElemType;
use fibcast_mrt::{BadRecords, Counts, Event, Reader};
use ipnet::IpNet;
use sha2::{Digest, Sha256};

/// A row of the table.
struct Row<'a> {
    file: &'a str,
    sha256: &'a str,
    records: &'a str,
    bad: &'a str,
    routes: &'a str,
    sum: &'a str,
    bgpkit: &'a str,
    bgpdump: &'a str,
}

fn rows() -> Vec<Row<'static>> {
    let table = include_str!("published.tsv");
    let row = |line: &'static str| {
        let columns: Vec<&str> = line.split('\t').collect();
        let [file, _from, sha256, records, bad, routes, sum, bgpkit, bgpdump] = columns[..] else {
            panic!("expected 9 columns: {line}")
        };
        Row { file, sha256, records, bad, routes, sum, bgpkit, bgpdump }
    };
    table.lines().skip(1).map(row).collect()
}

/// The files that are here.
fn present() -> Vec<(Row<'static>, PathBuf)> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/published");
    let more = std::env::var_os("MRT_FILES").map(PathBuf::from);
    let find = |row: Row<'static>| {
        let places = [Some(own.clone()), more.clone()].into_iter().flatten();
        let path = places.map(|folder| folder.join(row.file)).find(|path| path.is_file())?;
        Some((row, path))
    };
    rows().into_iter().filter_map(find).collect()
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn line(peer: IpAddr, id: Option<u32>, prefix: IpNet, next_hop: Option<IpAddr>) -> String {
    let id = id.map_or("-".to_owned(), |id| id.to_string());
    match next_hop {
        Some(next_hop) => format!("A {peer} {id} {prefix} {next_hop}"),
        None => format!("W {peer} {id} {prefix}"),
    }
}

fn sorted(mut lines: Vec<String>) -> Vec<String> {
    lines.sort_unstable();
    lines
}

/// What this reader finds: its routes, or its error.
fn ours(path: &Path) -> (Counts, Result<Vec<String>, String>) {
    let mut reader = Reader::open(path).unwrap().bad_records(BadRecords::Skip);
    let mut lines = Vec::new();
    for route in &mut reader {
        match route {
            Ok(route) => {
                let next_hop = match route.event {
                    Event::Announce { next_hop, .. } => Some(next_hop),
                    Event::Withdraw => None,
                };
                lines.push(line(route.peer, route.path_id, route.prefix, next_hop));
            }
            Err(error) => return (reader.counts(), Err(error.problem.to_string())),
        }
    }
    (reader.counts(), Ok(sorted(lines)))
}

#[test]
fn each_file_gives_the_routes_of_the_table() {
    let present = present();
    assert!(present.len() >= 25, "the files of this folder");
    for (row, path) in present {
        assert_eq!(sha256(&std::fs::read(&path).unwrap()), row.sha256, "{}", row.file);
        let (counts, routes) = ours(&path);
        let found = [counts.records.to_string(), counts.bad.to_string()];
        assert_eq!(found, [row.records, row.bad], "{}", row.file);
        match routes {
            Ok(lines) => {
                let sum = sha256(lines.join("\n").as_bytes());
                assert_eq!([&lines.len().to_string(), &sum[..16]], [row.routes, row.sum], "{}", row.file);
            }
            Err(error) => assert!(row.routes == "-" && error.contains(row.sum), "{}: {error}", row.file),
        }
    }
}

/// Decompresses a file by the tools of flate2 and bzip2, not by the reader's choice.
fn plain(path: &Path) -> Vec<u8> {
    let (mut bytes, file) = (Vec::new(), File::open(path).unwrap());
    match path.extension().and_then(|e| e.to_str()) {
        Some("gz") => flate2::read::MultiGzDecoder::new(file).read_to_end(&mut bytes),
        Some("bz2") => bzip2::read::MultiBzDecoder::new(file).read_to_end(&mut bytes),
        _ => (&file).read_to_end(&mut bytes),
    }
    .unwrap();
    bytes
}

#[test]
fn bgpkit_parser_finds_the_same_routes() {
    assert_all(present().into_iter().map(|(row, path)| {
        let bytes = plain(&path);
        let elements = BgpkitParser::from_reader(&bytes[..]).into_elem_iter();
        let theirs = elements.filter_map(|e| {
            let next_hop = match e.elem_type {
                ElemType::ANNOUNCE => Some(e.next_hop?),
                ElemType::WITHDRAW => None,
            };
            Some(line(e.peer_ip, e.prefix.path_id, e.prefix.prefix.trunc(), next_hop))
        });
        compare(row.file, row.bgpkit, &ours(&path).1.unwrap_or_default(), &sorted(theirs.collect()))
    }));
}

#[test]
fn bgpdump_finds_the_same_routes() {
    if Command::new("bgpdump").output().is_err() {
        eprintln!("bgpdump is not installed: not compared");
        return;
    }
    assert_all(present().into_iter().map(|(row, path)| {
        let output = Command::new("bgpdump").args(["-m", "-v"]).arg(&path).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        compare(
            row.file,
            row.bgpdump,
            &ours(&path).1.unwrap_or_default(),
            &sorted(text.lines().filter_map(of_bgpdump).collect()),
        )
    }));
}

/// A line such as `BGP4MP|1279836900|A|192.0.2.1|64500|203.0.113.0/24|64500 64501|IGP|192.0.2.9|…`; with additional paths the identifier
/// follows the prefix. Routes without a next hop have 255.255.255.255.
fn of_bgpdump(text: &str) -> Option<String> {
    let mut columns: Vec<&str> = text.split('|').collect();
    let id = match columns.first()?.ends_with("_AP") {
        true => Some(columns.remove(6).parse().ok()?),
        false => None,
    };
    let address = |at: usize| columns.get(at)?.parse::<IpAddr>().ok();
    let next_hop = match *columns.get(2)? {
        "A" | "B" => Some(address(8)?),
        "W" => None,
        _ => return None,
    };
    if next_hop == Some([255, 255, 255, 255].into()) {
        return None;
    }
    Some(line(address(3)?, id, columns.get(5)?.parse::<IpNet>().ok()?.trunc(), next_hop))
}

/// Whether the table is right. `said` is "same", or in what they differ: then a difference must be there.
fn compare(file: &str, said: &str, ours: &[String], theirs: &[String]) -> Result<(), String> {
    let (a, b): (BTreeSet<&String>, BTreeSet<&String>) = (ours.iter().collect(), theirs.iter().collect());
    let few = |of: &BTreeSet<&String>, without: &BTreeSet<&String>| {
        of.difference(without).take(3).map(ToString::to_string).collect::<Vec<_>>().join("; ")
    };
    if (ours == theirs) == (said == "same") {
        return Ok(());
    }
    let (ours, theirs) = (ours.len(), theirs.len());
    let (only_ours, only_theirs) = (few(&a, &b), few(&b, &a));
    Err(format!("{file}: {ours} and {theirs} routes; only ours: {only_ours}; only theirs: {only_theirs}"))
}

/// Compares all files before it fails.
fn assert_all(results: impl Iterator<Item = Result<(), String>>) {
    let wrong: Vec<String> = results.filter_map(Result::err).collect();
    assert!(wrong.is_empty(), "the table says otherwise:\n{}", wrong.join("\n"));
}
