//! Says how long the RIB takes to load an MRT table, and how many changes it accepts per second.

use std::sync::Arc;
use std::time::Instant;

use fibcast_route_server::rib::{Contender, Contenders, commit_source, select};
use fibcast_route_server::source::{Event, Kind, Message, Outlet, QUEUE, pace::Pace, replay, start};
use fibcast_sync_proto::{OriginId, Table};

fn main() {
    let mut files = std::env::args_os().skip(1).map(std::path::PathBuf::from);
    let Some(path) = files.next() else {
        eprintln!("usage: rib-load TABLE.mrt [UPDATES.mrt]");
        std::process::exit(2);
    };
    let options = |path| replay::MrtOptions {
        path,
        updates: None,
        pace: Pace::Recorded,
        start_at_us: Some(0),
        peer: None,
        bad_records: None,
        allow_empty: false,
        vrf: 0,
    };
    let (mut own, mut fib) = (Table::new(1), Table::new(1));
    for path in std::iter::once(path).chain(files) {
        load(&mut own, &mut fib, Kind::Mrt(options(path)));
    }
}

fn load(own: &mut Table, fib: &mut Table, kind: Kind) {
    let id = OriginId::of("bgp");
    let (to, from) = crossbeam_channel::bounded::<Message>(QUEUE);
    let outlet = Outlet::new(0, to, Arc::new(|| ()), Arc::default());
    let begin = Instant::now();
    if let Err(error) = start("load", kind, outlet) {
        eprintln!("{error}");
        return;
    }
    let (mut changes, mut waited) = (0, std::time::Duration::ZERO);
    loop {
        let asked = Instant::now();
        let Ok(message) = from.recv() else { break };
        waited += asked.elapsed();
        match message.event {
            Event::Batch(batch) => {
                changes += batch.len();
                if let Err(error) = commit_source(own, id, 20, &batch) {
                    eprintln!("{error}");
                }
                let contenders = Contenders::new(vec![Contender { id, stale: false, table: own }]);
                if let Err(error) = select(fib, &contenders, batch.iter().map(|c| (c.vrf, c.prefix))) {
                    eprintln!("{error}");
                }
            }
            Event::Failed(reason) => eprintln!("{reason}"),
            _ => {}
        }
    }
    let seconds = begin.elapsed().as_secs_f64();
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let rss = status.lines().find(|l| l.starts_with("VmRSS")).unwrap_or("").to_owned();
    println!(
        "{changes} changes in {seconds:.3} s, {:.0}/s, waited for the source {:.3} s; {} routes; {rss}",
        changes as f64 / seconds,
        waited.as_secs_f64(),
        fib.counts().routes(),
    );
}
