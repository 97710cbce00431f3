//! `fibcast-agent` as a program: exit codes and the one line that says why.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::io::Read;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

fn agent() -> Command {
    Command::new(env!("CARGO_BIN_EXE_fibcast-agent"))
}

fn file(dir: &tempfile::TempDir, text: &str) -> std::path::PathBuf {
    let path = dir.path().join("agent.toml");
    std::fs::write(&path, text).unwrap();
    path
}

fn run(text: &str, check: bool) -> (i32, String) {
    let dir = tempfile::tempdir().unwrap();
    let mut command = agent();
    command.arg("--config").arg(file(&dir, text)).args(check.then_some("--check-config"));
    let Output { status, stderr, .. } = command.output().unwrap();
    (status.code().unwrap(), String::from_utf8(stderr).unwrap())
}

const SYNC: &str = "[sync]\nservers = [{ address = \"127.0.0.1:1\", role = \"primary\" }]\n";

#[test]
fn good_configuration_is_checked_in_silence() {
    assert_eq!(run(&format!("[node]\nname = \"n\"\n{SYNC}"), true), (0, String::new()));
}

#[test]
fn wrong_key_ends_with_code_2_and_names_the_line() {
    let (code, error) = run(&format!("[node]\nname = \"n\"\ncolour = 3\n{SYNC}"), true);
    assert_eq!(code, 2);
    assert!(error.contains("agent.toml:3: node.colour"), "{error}");
}

#[test]
fn check_config_warns_of_certificates_that_expire_and_refuses_those_that_have() {
    let program = env!("CARGO_BIN_EXE_fibcast-agent");
    fibcast_testbed::expiry::check_config_tells_what_expires(program.as_ref(), SYNC);
}

#[test]
fn port_in_use_ends_with_code_1_and_one_line() {
    let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = other.local_addr().unwrap();
    let (code, error) = run(&format!("[node]\nname = \"n\"\nlisten = [\"{address}\"]\n{SYNC}"), false);
    assert_eq!(code, 1);
    let wanted = format!("fibcast-agent: listen {address}: another program is already listening there");
    assert_eq!(error.lines().last(), Some(wanted.as_str()));
}

#[test]
fn unreachable_server_is_retried_with_one_line_until_the_agent_is_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let path = file(&dir, &format!("[node]\nname = \"n\"\n{SYNC}"));
    let mut child = agent().arg("--config").arg(path).stderr(Stdio::piped()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(1500));
    let killed = Command::new("kill").arg(child.id().to_string()).status().unwrap();
    assert!(killed.success());
    let end = Instant::now() + Duration::from_secs(20);
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        assert!(Instant::now() < end, "does not stop");
        std::thread::sleep(Duration::from_millis(20));
    };
    let mut log = String::new();
    child.stderr.take().unwrap().read_to_string(&mut log).unwrap();
    assert_eq!(status.code(), Some(0), "{log}");
    let lines = log.lines().filter(|l| l.contains("server 127.0.0.1:1: Connection refused")).count();
    assert_eq!(lines, 1, "{log}");
}

/// The program's log from its start to a SIGTERM; SIGHUP comes in between, and `meanwhile` before it.
fn log_of(text: &str, dir: &tempfile::TempDir, meanwhile: impl FnOnce()) -> String {
    let path = file(dir, text);
    let mut child = agent().arg("--config").arg(path).stderr(Stdio::piped()).spawn().unwrap();
    let signal = |name: &str| {
        std::thread::sleep(Duration::from_millis(700));
        assert!(Command::new("kill").arg(name).arg(child.id().to_string()).status().unwrap().success());
    };
    std::thread::sleep(Duration::from_millis(300));
    meanwhile();
    signal("-HUP");
    signal("-TERM");
    let mut log = String::new();
    child.stderr.take().unwrap().read_to_string(&mut log).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0), "{log}");
    log
}

#[test]
fn plain_tcp_beyond_loopback_must_be_asked_for_and_is_said_at_every_start() {
    let far = "[sync]\nservers = [{ address = \"192.0.2.1:7830\", role = \"primary\" }]\n";
    let (code, error) = run(&format!("[node]\nname = \"n\"\n{far}"), true);
    assert_eq!(code, 2);
    assert!(error.contains("192.0.2.1:7830 is not on loopback"), "{error}");
    let listen = "[node]\nname = \"n\"\nlisten = [\"0.0.0.0:7830\"]\n";
    let (code, error) = run(&format!("{listen}{SYNC}"), true);
    assert!(code == 2 && error.contains("0.0.0.0:7830 is not on loopback"), "{error}");
    let dir = tempfile::tempdir().unwrap();
    for _ in 0..2 {
        let log = log_of(&format!("[node]\nname = \"n\"\n{SYNC}[tls]\ninsecure = true\n"), &dir, || {});
        assert_eq!(
            log.matches("tls.insecure = true: connections between nodes are plain TCP").count(),
            1,
            "{log}"
        );
    }
}

#[test]
fn certificates_are_read_again_at_sighup() {
    let pki = common::pki::Pki::new();
    let tls = pki.issue("n", 24);
    let path = |file: &Option<std::path::PathBuf>| file.clone().unwrap().display().to_string();
    let text = format!(
        "[node]\nname = \"n\"\n{SYNC}[tls]\ncert = {:?}\nkey = {:?}\nca = {:?}\nservers = [\"rs-*\"]\n",
        path(&tls.cert),
        path(&tls.key),
        path(&tls.ca)
    );
    let dir = tempfile::tempdir().unwrap();
    let log = log_of(&text, &dir, || drop(pki.issue("n", 24)));
    assert!(log.contains("reloaded allow lists and certificates"), "{log}");
    let log = log_of(&text, &dir, || std::fs::write(tls.key.clone().unwrap(), "garbage").unwrap());
    let line = log.lines().find(|line| line.contains("cannot reload, nothing has changed: "));
    // With file and line of the key.
    assert!(line.is_some_and(|line| line.contains("agent.toml:7: tls.key: ")), "{log}");
}

#[test]
fn check_config_reads_the_checkpoint_and_says_what_a_start_would_find() {
    let folder = tempfile::tempdir().unwrap();
    let checkpoint = folder.path().join("table.ckpt");
    let check = || {
        let text = format!("[node]\nname = \"n\"\n{SYNC}checkpoint = {checkpoint:?}\n");
        let output =
            agent().arg("--check-config").arg("--config").arg(file(&folder, &text)).output().unwrap();
        (output.status.code(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
    };
    let (code, text) = check();
    assert!(code == Some(0) && text.contains("table.ckpt: none yet"), "{text}");
    std::fs::write(&checkpoint, "rubbish").unwrap();
    let (code, text) = check();
    assert!(code == Some(0) && text.starts_with("warning: checkpoint "), "{text}");
    assert!(text.contains("table.ckpt") && text.ends_with("the start is with an empty table\n"), "{text}");
}
