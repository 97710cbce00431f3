//! What a pass costs with the whole Internet table: `cargo nextest run -p fibcast-sync-agent --test kernel --run-ignored only --no-capture`.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::stage::{Stage, group, route};

/// `[scrub] pass_s` by default.
const PERIOD_S: f64 = 600.0;

/// CPU time of the sink's thread, what the kernel does for it included.
fn spent() -> Duration {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten().map(|task| task.path());
    let mut named =
        tasks.filter(|task| std::fs::read_to_string(task.join("comm")).unwrap().trim() == "kernel");
    let task = named.next().expect("the sink's thread");
    let text = std::fs::read_to_string(task.join("schedstat")).unwrap();
    Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())
}

#[test]
#[ignore = "a measurement: prints, and takes a minute and 2 GB"]
fn cost_of_a_pass_with_the_whole_table() {
    // A pass begins as soon as the one before has ended.
    let Some(mut stage) = Stage::new("", Duration::from_millis(1)) else { return };
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../verify/data/full-table-2024.prefixes.txt.gz");
    let mut prefixes = fibcast_testbed::tablegen::read_prefixes(&path).unwrap();
    prefixes.sort();
    prefixes.dedup();
    let gateways = |net: &str| (2..6).map(|host| group(&[&format!("{net}{host}")])).collect::<Vec<_>>();
    let (v4, v6) = (gateways("192.0.2."), gateways("2001:db9::"));
    let groups = |v6_prefix: bool| if v6_prefix { &v6 } else { &v4 };
    let changes = prefixes
        .iter()
        .enumerate()
        .flat_map(|(number, prefix)| route(*prefix, groups(prefix.addr().is_ipv6()).get(number % 4)));
    let begin = Instant::now();
    stage.commit(changes.collect());
    let all = prefixes.len() as u64;
    let before = stage.eventually("the table", |status| status.routes == all && status.scrub.passes > 0);
    println!("{all} routes written in {:.1} s", begin.elapsed().as_secs_f64());
    let (from, begin) = (spent(), Instant::now());
    let after = stage.eventually("three passes", |status| status.scrub.passes >= before.scrub.passes + 3);
    let passes = (after.scrub.passes - before.scrub.passes) as f64;
    let (cpu, took) = ((spent() - from).as_secs_f64() / passes, begin.elapsed().as_secs_f64() / passes);
    println!(
        "a pass: {cpu:.2} s of CPU in {took:.1} s; every {PERIOD_S} s that is {:.2} % of a core",
        100.0 * cpu / PERIOD_S
    );
    assert_eq!((after.scrub.differences, after.refused), (0, 0), "{after:?}");
}
