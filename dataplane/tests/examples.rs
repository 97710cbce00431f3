//! The example configuration of `packaging/examples` passes `--check-config`.
#![cfg(feature = "dpdk")]
#![allow(clippy::unwrap_used)]

use std::process::Command;

#[test]
fn dataplanes_example_is_right() {
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/../packaging/examples/dataplane.toml");
    let mut program = Command::new(env!("CARGO_BIN_EXE_fibcast-dataplane"));
    let output = program.args(["--config", example, "--check-config"]).output().unwrap();
    assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stderr).as_ref()), (Some(0), ""));
}
