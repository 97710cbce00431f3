//! Replays the corpus through what the fuzzers run, each input also with small changes, so that every test run covers it.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;

use fibcast_fuzz_entries::ALL;

/// Changed copies of each input.
fn copies() -> u64 {
    std::env::var("FUZZ_COPIES").ok().and_then(|n| n.parse().ok()).unwrap_or(40)
}

fn replay(name: &str) {
    let run = ALL.iter().find(|(n, _)| *n == name).expect("a target of that name").1;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../corpus").join(name);
    let mut files: Vec<_> = folder.read_dir().expect("a corpus").map(|e| e.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty(), "the corpus of {name} is empty");
    let mut chance = 0x9e37_79b9_7f4a_7c15u64;
    let mut below = |n: usize| {
        chance ^= chance << 13;
        chance ^= chance >> 7;
        chance ^= chance << 17;
        (chance % n.max(1) as u64) as usize
    };
    for file in files {
        let data = std::fs::read(&file).unwrap();
        run(&data);
        for _ in 0..copies() {
            let mut copy = data.clone();
            for _ in 0..=below(4) {
                let at = below(copy.len());
                match (below(5), copy.get_mut(at)) {
                    (0, Some(byte)) => *byte = below(256) as u8,
                    (1, Some(byte)) => *byte ^= 1 << below(8),
                    (2, _) => copy.truncate(at),
                    (3, _) => copy.insert(at, below(256) as u8),
                    _ => {
                        let piece: Vec<u8> = copy.iter().skip(at).take(below(40)).copied().collect();
                        copy.extend(piece);
                    }
                }
            }
            run(&copy);
        }
    }
}

macro_rules! targets {
    ($($name:ident)*) => {
        $(#[test] fn $name() { replay(stringify!($name)); })*

        #[test]
        fn no_target_is_left_out() {
            let tested = [$(stringify!($name)),*];
            assert!(ALL.iter().all(|(name, _)| tested.contains(name)));
        }
    };
}

targets! { frames records sketch client server origins mrt mrt_records config checkpoint control reload http packets fpm takeover netlink }
