//! The example configurations of `packaging/examples` and `docs` pass `--check-config`.
#![cfg(feature = "dpdk")]
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

#[track_caller]
fn check(file: &Path) {
    let mut program = Command::new(env!("CARGO_BIN_EXE_fibcast-dataplane"));
    let output = program.arg("--config").arg(file).arg("--check-config").output().unwrap();
    assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stderr).as_ref()), (Some(0), ""));
}

#[test]
fn dataplanes_example_is_right() {
    // The group of the packages, which need not be installed where tests run.
    let text = std::fs::read_to_string(root().join("packaging/examples/dataplane.toml")).unwrap();
    let group = "control_group = \"fibcast\"";
    assert!(text.contains(group), "{text}");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("dataplane.toml");
    std::fs::write(&file, text.replace(group, "control_group = \"root\"")).unwrap();
    check(&file);
}

/// The TOML blocks of a document with the headings above them.
fn blocks(text: &str) -> Vec<(String, String)> {
    let (mut blocks, mut heading, mut block) = (Vec::new(), String::new(), None::<String>);
    for line in text.lines() {
        match (&mut block, line) {
            (None, "```toml") => block = Some(String::new()),
            (None, line) if line.starts_with("## ") => heading = line[3..].to_owned(),
            (None, _) => {}
            (Some(_), "```") => blocks.push((heading.clone(), block.take().unwrap())),
            (Some(text), line) => text.extend([line, "\n"]),
        }
    }
    blocks
}

#[test]
fn each_section_about_interfaces_has_a_configuration_that_is_right() {
    let text = std::fs::read_to_string(root().join("docs/interfaces.md")).unwrap();
    let blocks = blocks(&text);
    let sections = text.lines().filter(|line| line.starts_with("## ") && *line != "## Not supported").count();
    let mut with_one: Vec<&str> = blocks.iter().map(|(heading, _)| heading.as_str()).collect();
    with_one.dedup();
    assert!(sections > 0 && with_one.len() == sections, "of {sections} sections have one: {with_one:?}");
    let folder = tempfile::tempdir().unwrap();
    for (number, (heading, block)) in blocks.iter().enumerate() {
        let file = folder.path().join(format!("{number}.toml"));
        std::fs::write(&file, block).unwrap();
        println!("{heading}: {}", file.display());
        check(&file);
    }
}
