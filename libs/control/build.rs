//! Tells the crate how it is built: `fibcast show version` prints it.

use std::process::Command;

fn main() {
    let of = |name: &str| std::env::var(name).unwrap_or_default();
    let compiler = Command::new(of("RUSTC")).arg("--version").output().ok();
    let compiler = compiler.and_then(|output| String::from_utf8(output.stdout).ok()).unwrap_or_default();
    // "rustc 1.89.0 (29483883e 2025-08-04)"
    let compiler = compiler.split_whitespace().nth(1).unwrap_or("unknown").to_owned();
    println!("cargo:rustc-env=FIBCAST_RUSTC={compiler}");
    println!("cargo:rustc-env=FIBCAST_TARGET={}", of("TARGET"));
    println!("cargo:rustc-env=FIBCAST_PROFILE={}", of("PROFILE"));
    println!("cargo:rerun-if-changed=build.rs");
}
