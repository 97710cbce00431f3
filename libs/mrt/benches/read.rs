//! Records and routes per second of this reader and of `bgpkit-parser`, on a table and on updates: `cargo bench -p fibcast-mrt`.
//!
//! Both read the same bytes from memory, by turns, and the medians count. `bgpkit-parser` reads in three ways: records, elements (the
//! nearest to what this crate gives, with all attributes) and routes (its fastest: without next hops).

#![allow(clippy::unwrap_used)]

use std::hint::black_box;
use std::io::{Cursor, Read};
use std::time::Instant;

use bgpkit_parser::BgpkitParser;
use fibcast_mrt::Reader;

const ROUNDS: usize = 7;
const PREFIXES: u32 = 40_000;
const PEERS: u16 = 20;

/// A way to read a file, which gives the number of its routes or records.
type Read1 = fn(&[u8]) -> u64;

fn main() {
    println!("{:<28} {:>12} {:>12} {:>12}", "", "records/s", "MB/s", "ours is");
    compare("table, 20 peers", &table());
    for file in ["full-transfer-2015", "updates-2016-5min"] {
        compare(file, &recorded(file));
    }
}

fn compare(name: &str, bytes: &[u8]) {
    let mut reader = Reader::from_read(name, Cursor::new(bytes.to_vec())).unwrap();
    let routes = reader.by_ref().map(Result::unwrap).count() as u64;
    let records = reader.counts().records;
    assert_eq!(routes, bgpkit_elements(bytes), "{name}: both read the same number of routes");
    let ways: [(&str, Read1); 4] = [
        ("fibcast-mrt", ours),
        ("bgpkit-parser, records", bgpkit_records),
        ("bgpkit-parser, elements", bgpkit_elements),
        ("bgpkit-parser, routes", bgpkit_routes),
    ];
    let mut seconds = [const { Vec::new() }; 4];
    for _ in 0..ROUNDS {
        for ((_, read), seconds) in ways.iter().zip(&mut seconds) {
            let begin = Instant::now();
            black_box(read(black_box(bytes)));
            seconds.push(begin.elapsed().as_secs_f64());
        }
    }
    let medians = seconds.map(|mut all| {
        all.sort_by(f64::total_cmp);
        all[all.len() / 2]
    });
    println!("{name}: {records} records, {routes} routes");
    for ((way, _), median) in ways.iter().zip(medians) {
        let (rate, mb) = (records as f64 / median, bytes.len() as f64 / median / 1e6);
        println!("  {way:<26} {rate:>12.0} {mb:>12.0} {:>11.1}×", median / medians[0]);
    }
}

fn ours(bytes: &[u8]) -> u64 {
    // The copy that owned input needs is part of the time.
    let reader = Reader::from_read("bench", Cursor::new(bytes.to_vec())).unwrap();
    let mut routes = 0;
    for route in reader {
        black_box(route.unwrap());
        routes += 1;
    }
    routes
}

fn bgpkit_records(bytes: &[u8]) -> u64 {
    BgpkitParser::from_reader(bytes).into_record_iter().map(black_box).count() as u64
}

fn bgpkit_elements(bytes: &[u8]) -> u64 {
    BgpkitParser::from_reader(bytes).into_elem_iter().map(black_box).count() as u64
}

fn bgpkit_routes(bytes: &[u8]) -> u64 {
    BgpkitParser::from_reader(bytes).into_route_iter().map(black_box).count() as u64
}

/// A file of the project's data, decompressed.
fn recorded(name: &str) -> Vec<u8> {
    let path = format!("{}/../../verify/data/{name}.mrt.gz", env!("CARGO_MANIFEST_DIR"));
    let mut bytes = Vec::new();
    flate2::read::MultiGzDecoder::new(std::fs::File::open(path).unwrap()).read_to_end(&mut bytes).unwrap();
    bytes
}

/// RIB_IPV4_UNICAST as a collector with 20 peers writes it: an AS path of four, a metric and four communities for each entry.
fn table() -> Vec<u8> {
    let record = |subtype: u16, body: &[u8], out: &mut Vec<u8>| {
        out.extend(1_700_000_000u32.to_be_bytes());
        out.extend(13u16.to_be_bytes());
        out.extend(subtype.to_be_bytes());
        out.extend((body.len() as u32).to_be_bytes());
        out.extend(body);
    };
    let mut out = Vec::new();
    let mut body = vec![192, 0, 2, 250, 0, 0];
    body.extend(PEERS.to_be_bytes());
    for peer in 0..PEERS as u8 {
        body.extend([2, 192, 0, 2, peer, 192, 0, 2, peer]);
        body.extend((64_500 + u32::from(peer)).to_be_bytes());
    }
    record(1, &body, &mut out);
    for i in 0..PREFIXES {
        body.clear();
        body.extend(i.to_be_bytes());
        let [_, a, b, c] = (0x14_0000 + i).to_be_bytes();
        body.extend([24, a, b, c]);
        body.extend(PEERS.to_be_bytes());
        for peer in 0..PEERS {
            body.extend(peer.to_be_bytes());
            body.extend(1_700_000_000u32.to_be_bytes());
            let mut attributes = vec![0x40, 1, 1, 0, 0x40, 2, 18, 2, 4];
            for hop in [64_500 + u32::from(peer), 3356, 1299, 100_000 + i] {
                attributes.extend(hop.to_be_bytes());
            }
            attributes.extend([0x40, 3, 4, 192, 0, 2, peer as u8, 0x80, 4, 4, 0, 0, 0, 10, 0xc0, 8, 16]);
            attributes.extend((0..4u32).flat_map(|n| (0x0d1c_0000 + n).to_be_bytes()));
            body.extend((attributes.len() as u16).to_be_bytes());
            body.extend(attributes);
        }
        record(2, &body, &mut out);
    }
    out
}
