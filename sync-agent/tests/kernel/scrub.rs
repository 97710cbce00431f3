//! The scrubber beside a busy table: it reports nothing that is right, and misses nothing that is wrong.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use fibcast_control::status::KernelStatus;
use fibcast_sync_proto::{Change, GroupValue, Key};
use ipnet::IpNet;

use crate::stage::{Stage, group, route};

/// Routes of each family.
const ROUTES: u32 = 5_000;
/// Of those, the ones that never change by themselves.
const QUIET: u32 = 2_000;

fn prefix(v6: bool, number: u32) -> IpNet {
    if v6 {
        let bits = 0x2001_0db8 << 96 | u128::from(number) << 80;
        ipnet::Ipv6Net::new(bits.into(), 48).unwrap().into()
    } else {
        ipnet::Ipv4Net::new((0x0a00_0000 + (number << 8)).into(), 24).unwrap().into()
    }
}

/// A route with one of a few groups of its family, or none.
fn change(v6: bool, number: u32, turn: Option<u32>) -> Vec<Change> {
    let v4_groups: [&[&str]; 4] = [&["192.0.2.2"], &["192.0.2.3"], &["192.0.2.2", "192.0.2.3"], &[]];
    let v6_groups: [&[&str]; 3] = [&["2001:db9::2"], &["2001:db9::3"], &[]];
    let groups: &[&[&str]] = if v6 { &v6_groups } else { &v4_groups };
    let chosen: Option<GroupValue> = turn.map(|turn| group(groups[turn as usize % groups.len()]));
    route(prefix(v6, number), chosen.as_ref())
}

/// Changes routes until `done`.
fn churn(stage: &mut Stage, seed: u32, mut done: impl FnMut(&KernelStatus) -> bool) {
    let end = Instant::now() + Duration::from_secs(600);
    let mut random = seed;
    loop {
        let status = stage.status();
        if done(&status) {
            return;
        }
        assert!(Instant::now() < end, "{status:?}");
        let changes = (0..200).flat_map(|_| {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let number = QUIET + (random >> 8) % (ROUTES - QUIET);
            change(random & 0x80 == 0, number, (random & 0x70 != 0).then_some(random >> 16))
        });
        let changes = changes.collect();
        stage.commit(changes);
    }
}

/// Commands of `ip`, all of a family at once: a batch knows no `-6`.
fn batch(stage: &Stage, lines: &[String]) {
    let (v6, v4): (Vec<&str>, Vec<&str>) =
        lines.iter().map(String::as_str).partition(|line| line.starts_with("-6"));
    for (family, lines) in [("-4", v4), ("-6", v6)] {
        let lines: Vec<&str> = lines.into_iter().map(|line| line.trim_start_matches("-6 ")).collect();
        let mut file = tempfile::NamedTempFile::new().unwrap();
        std::io::Write::write_all(&mut file, (lines.join("\n") + "\n").as_bytes()).unwrap();
        // A route that a change has just withdrawn cannot be deleted.
        stage
            .host
            .sh(&format!("ip {family} -force -batch {} 2>/dev/null; true", file.path().display()))
            .unwrap();
    }
}

/// The routes that the kernel has of ours are those that it should have.
fn compare(stage: &Stage) {
    let text =
        ["-4", "-6"].map(|family| stage.ip(&format!("{family} route show table 200 proto 217"))).concat();
    let lines = text.lines().filter(|line| !line.starts_with(char::is_whitespace));
    let found: BTreeSet<IpNet> = lines
        .map(|line| {
            let word = line.split_whitespace().find(|word| *word != "blackhole").unwrap();
            word.parse().unwrap_or_else(|_| panic!("{line}"))
        })
        .collect();
    let all = stage.table.page(None, 4 * ROUTES as usize, |_| true).records;
    let prefixes = all.iter().filter_map(|(key, _)| match key {
        Key::Route { prefix, .. } => Some(*prefix),
        _ => None,
    });
    let wanted: BTreeSet<IpNet> = prefixes.collect();
    let missing: Vec<_> = wanted.difference(&found).take(5).collect();
    let ghosts: Vec<_> = found.difference(&wanted).take(5).collect();
    assert!(missing.is_empty() && ghosts.is_empty(), "missing {missing:?}, too many {ghosts:?}");
}

#[test]
fn a_busy_table_gives_no_false_report_and_hides_no_damage() {
    let Some(mut stage) = Stage::new("", Duration::from_millis(1)) else { return };
    let all = (0..ROUTES).flat_map(|number| [change(false, number, Some(0)), change(true, number, Some(0))]);
    stage.commit(all.flatten().collect());
    stage.eventually("the table", |status| status.routes == u64::from(2 * ROUTES));
    let goal = stage.status().scrub.passes + 6;
    churn(&mut stage, 1, |status| status.scrub.passes >= goal);
    let status = stage.status();
    assert_eq!(status.scrub.differences, 0, "{:?}", status.scrub);
    assert!(status.scrub.skipped > 0, "nothing changed during a pass: {:?}", status.scrub);

    // Damage to what is quiet, of each kind and family, while the rest changes: each is found once.
    let mut lines = Vec::new();
    for number in (0..QUIET).step_by(40) {
        let at = |v6: bool, offset: u32| prefix(v6, number + offset);
        lines.extend([
            format!("route del {} table 200", at(false, 0)),
            format!("-6 route del {} table 200", at(true, 1)),
            format!("route replace {} via 192.0.2.77 table 200 proto 217 metric 1024", at(false, 2)),
            format!("-6 route replace {} via 2001:db9::77 table 200 proto 217 metric 1024", at(true, 3)),
            format!("route replace unreachable {} table 200 proto 217 metric 1024", at(false, 4)),
        ]);
        let ghost = number + 20_000;
        lines.extend([
            format!("route add blackhole {} table 200 proto 217 metric 1024", prefix(false, ghost)),
            format!("-6 route add {} via 2001:db9::2 table 200 proto 217 metric 1024", prefix(true, ghost)),
        ]);
    }
    let damaged = lines.len() as u64;
    batch(&stage, &lines);
    churn(&mut stage, 2, |status| status.scrub.mended >= damaged);
    let passes = stage.status().scrub.passes;
    churn(&mut stage, 3, |status| status.scrub.passes >= passes + 3);
    let scrub = stage.status().scrub;
    assert_eq!((scrub.differences, scrub.mended), (damaged, damaged), "{scrub:?}");

    // Damage to what changes as well: by a batch or by the scrubber, it ends.
    let lines: Vec<String> = (QUIET..ROUTES)
        .step_by(7)
        .flat_map(|number| {
            [
                format!("route del {} table 200", prefix(false, number)),
                format!("-6 route del {} table 200", prefix(true, number)),
            ]
        })
        .collect();
    let churned = stage.status().scrub.passes + 2;
    batch(&stage, &lines);
    churn(&mut stage, 4, |status| status.scrub.passes >= churned);
    let passes = stage.status().scrub.passes + 3;
    let status = stage.eventually("three passes", |status| status.scrub.passes >= passes);
    assert_eq!((status.refused, status.shadowed, status.unfit), (0, 0, 0), "{status:?}");
    compare(&stage);
    let scrub = stage.status().scrub;
    let last = stage.eventually("two passes", |status| status.scrub.passes >= scrub.passes + 2);
    assert_eq!(last.scrub.differences, scrub.differences, "something is left");
}
