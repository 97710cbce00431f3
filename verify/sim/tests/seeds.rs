//! Some hundred seeds with every test run; `make sim` runs a thousand.
#![allow(clippy::panic)]

use fibcast_sim::{Options, run};

fn pass(seeds: std::ops::Range<u64>) {
    for seed in seeds {
        let options = Options::new(seed, 80);
        let outcome = run(&options);
        if let Some((step, violation)) = outcome.violation {
            let (tail, command) = (outcome.tail.join("\n"), options.command());
            panic!(
                "{tail}\nseed {seed}, step {step}: {}: {}\nreplay: {command}",
                violation.rule.name(),
                violation.text
            );
        }
    }
}

#[test]
fn networks_of_seeds_1000_to_1059_keep_all_rules() {
    pass(1000..1060);
}

#[test]
fn networks_of_seeds_1060_to_1119_keep_all_rules() {
    pass(1060..1120);
}

#[test]
fn networks_of_seeds_1120_to_1179_keep_all_rules() {
    pass(1120..1180);
}

#[test]
fn networks_of_seeds_1180_to_1239_keep_all_rules() {
    pass(1180..1240);
}

#[test]
fn the_same_seed_gives_the_same_run_and_another_seed_another() {
    let hashes: Vec<u64> = [7, 7, 8].map(|seed| run(&Options::new(seed, 60)).hash).to_vec();
    assert_eq!(hashes[0], hashes[1]);
    assert_ne!(hashes[0], hashes[2]);
}
