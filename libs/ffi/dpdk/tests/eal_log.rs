//! What EAL says comes once, through `tracing`, and the reason of a failure is in its error.

#![allow(clippy::unwrap_used)]

use std::process::{Command, Output};

use dpdk::{Eal, Port};

const CHILD: &str = "FIBCAST_TEST_EAL_ARGUMENTS";

/// What happens in the child: EAL prints, so it needs a process of its own.
#[test]
fn child() {
    let Ok(arguments) = std::env::var(CHILD) else { return };
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false).with_target(false).init();
    match Eal::init(arguments.split(' ')) {
        Err(error) => println!("error: {error}"),
        Ok(eal) => println!("error: {}", Port::open(&eal, "net_pcap0,iface=nosuchinterface").unwrap_err()),
    }
}

/// Standard output and standard error of EAL with these arguments.
fn run(arguments: &str) -> (String, String) {
    let mut program = Command::new(std::env::current_exe().unwrap());
    let Output { stdout, stderr, .. } =
        program.args(["--exact", "child", "--nocapture"]).env(CHILD, arguments).output().unwrap();
    (String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

const PLAIN: &str =
    "--no-huge -m 64 --no-pci --no-shconf --no-telemetry --iova-mode=va --file-prefix fibcast-test-log";

#[test]
fn a_wrong_argument_is_named_without_the_usage_of_all() {
    let (stdout, stderr) = run(&format!("{PLAIN} --nosuchoption"));
    // EAL of 25.11 ends the process by itself where it does not know an argument; then the log alone tells.
    if let Some(error) = stdout.lines().find(|line| line.starts_with("error: ")) {
        assert!(error.contains("EAL log: ") && error.contains("nosuchoption"), "{error}");
    }
    assert!(
        !stdout.contains("EAL common options") && !stderr.contains("EAL common options"),
        "{stdout}{stderr}"
    );
    let reported =
        stderr.lines().filter(|line| line.contains("ERROR") && line.contains("nosuchoption")).count();
    assert_eq!(reported, 1, "{stdout}{stderr}");
}

#[test]
fn a_core_that_is_not_there_is_named() {
    let (stdout, stderr) = run(&format!("{PLAIN} -l 127"));
    let error = stdout.lines().find(|line| line.starts_with("error: ")).unwrap();
    assert!(error.contains("127") && error.contains("EAL log: "), "{error}");
    let fatal = stderr.lines().filter(|line| line.contains("nvalid")).collect::<Vec<_>>();
    let texts: Vec<&str> =
        fatal.iter().filter_map(|line| line.split_once("EAL: ")).map(|(_, text)| text).collect();
    let once: std::collections::BTreeSet<&str> = texts.iter().copied().collect();
    assert!(!texts.is_empty() && texts.len() == once.len(), "each line once: {stderr}");
}

#[test]
fn a_device_that_cannot_be_probed_comes_with_the_drivers_reason() {
    let (stdout, stderr) = run(&format!("{PLAIN} -l 0"));
    let error = stdout.lines().find(|line| line.starts_with("error: ")).unwrap();
    assert!(error.contains("probe device net_pcap0") && error.contains("nosuchinterface"), "{error}");
    assert!(stderr.lines().any(|line| line.contains("INFO") && line.contains("EAL: ")), "{stderr}");
}
