//! Programs whose log nobody reads, or whose threads hang when they stop. Each is this test file again, as a child.

#![allow(clippy::unwrap_used, clippy::panic)] // A test may fail where it stands.
use std::io::{BufRead, BufReader, PipeReader, PipeWriter, Read, Write};
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use fibcast_daemon::config::parse;
use fibcast_daemon::exit::{Failure, finish};
use fibcast_daemon::{log, signals};

const PROGRAM: &str = "FIBCAST_TEST_PROGRAM";
const LINES: u64 = 50_000;
/// Generous, for a loaded machine.
const SOON: Duration = Duration::from_secs(30);

/// The section of a daemon's file that matters here.
#[derive(Debug, serde::Deserialize)]
struct File {
    log: log::LogKeys,
}

/// What the children do: a test that does nothing unless it is one.
#[test]
fn child_program() {
    let Ok(program) = std::env::var(PROGRAM) else { return };
    match std::env::var("FIBCAST_TEST_LOG") {
        Err(_) => log::start(),
        Ok(text) => {
            let loaded = parse::<File>("x.toml".as_ref(), text).unwrap();
            if let Err(error) = log::start_with(&loaded.value.log, &loaded) {
                println!("{error}");
                std::process::exit(0);
            }
        }
    }
    match program.as_str() {
        "floods-and-ends" => {
            let start = Instant::now();
            for n in 0..LINES {
                tracing::info!("line {n} of a flood that nobody reads");
            }
            println!("logged in {} ms", start.elapsed().as_millis());
            println!("lost {}", log::lines_dropped());
            let start = Instant::now();
            finish("x", Err(Failure::work("it failed")));
            println!("finished in {} ms", start.elapsed().as_millis());
        }
        "floods-and-goes-on" => {
            for n in 0..LINES {
                tracing::info!("line {n} of a flood that nobody reads at first");
            }
            println!("flooded");
            // The parent reads from now on.
            std::io::stdin().read_line(&mut String::new()).unwrap();
            assert!(log::flush(SOON));
            tracing::info!("the end after {} lost lines", log::lines_dropped());
            assert!(log::flush(SOON));
        }
        "says-everything" => {
            tracing::error!("an error\n<0>with a forged line");
            tracing::warn!("a warning");
            tracing::info!("a word");
            let panicked = std::thread::Builder::new().name("worker-7".into()).spawn(|| panic!("a bug"));
            assert!(panicked.unwrap().join().is_err());
            finish("x", Err(Failure::work("the last line")));
        }
        "changes-its-level" => {
            tracing::info!("not yet");
            let text = "[log]\nlevel = \"debug\"\n".to_owned();
            let new = parse::<File>("x.toml".as_ref(), text).unwrap();
            assert_eq!(log::take_over(&new.value.log), None);
            tracing::debug!(peer = "rs-a", lines = 7, "now \"quoted\"\nand broken");
            finish("x", Err(Failure::work("the last line")));
        }
        "hangs" => {
            signals::on_stop_within(Duration::from_secs(1), || tracing::info!("stops")).unwrap();
            println!("runs");
            loop {
                std::thread::park();
            }
        }
        other => panic!("no program {other}"),
    }
    std::process::exit(0);
}

/// A child with the reading end of its standard error.
fn start(program: &str, journal: bool) -> (Child, PipeReader) {
    let (reader, writer) = std::io::pipe().unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "child_program", "--nocapture"]).env(PROGRAM, program);
    command
        .env_remove("JOURNAL_STREAM")
        .env_remove("FIBCAST_LOG")
        .env_remove("RUST_LOG")
        .env_remove("RUST_BACKTRACE");
    if journal {
        command.env("JOURNAL_STREAM", identity(&writer));
    }
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(writer);
    (command.spawn().unwrap(), reader)
}

fn identity(pipe: &PipeWriter) -> String {
    let found = rustix::fs::fstat(pipe.as_fd()).unwrap();
    format!("{}:{}", found.st_dev, found.st_ino)
}

fn wait(child: &mut Child) -> Option<i32> {
    let end = Instant::now() + SOON;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code();
        }
        assert!(Instant::now() < end, "the program does not end");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The number after a word in a child's output.
fn figure(text: &str, word: &str) -> u64 {
    text.lines().find_map(|line| line.strip_prefix(word)?.split(' ').next()?.parse().ok()).unwrap()
}

fn all_of(child: &mut Child) -> String {
    let mut text = String::new();
    child.stdout.take().unwrap().read_to_string(&mut text).unwrap();
    text
}

#[test]
fn a_log_that_nobody_reads_delays_neither_work_nor_end() {
    let (mut child, reader) = start("floods-and-ends", false);
    assert_eq!(wait(&mut child), Some(0));
    let text = all_of(&mut child);
    println!("{text}");
    assert!(figure(&text, "logged in ") < 20_000, "{text}");
    assert!(figure(&text, "finished in ") < 10_000, "{text}");
    assert!(figure(&text, "lost ") > LINES / 2, "{text}");
    drop(reader);
}

#[test]
fn lost_lines_are_told_when_somebody_reads_again() {
    let (mut child, mut reader) = start("floods-and-goes-on", false);
    let mut stdout = BufReader::new(child.stdout.take().unwrap()).lines();
    while stdout.next().unwrap().unwrap() != "flooded" {}
    child.stdin.take().unwrap().write_all(b"\n").unwrap();
    let mut log = String::new();
    reader.read_to_string(&mut log).unwrap();
    assert_eq!(wait(&mut child), Some(0));
    let figure = |line: &str| line.split(' ').find_map(|word| word.parse::<u64>().ok()).unwrap();
    // Once for each time that somebody read again.
    let reported =
        log.lines().filter(|line| line.contains("lines of this log are lost") && line.contains(" WARN "));
    let lost = figure(log.lines().last().unwrap().split_once("after ").unwrap().1);
    assert_eq!(reported.map(|line| figure(line.split_once("WARN ").unwrap().1)).sum::<u64>(), lost);
    assert!(lost > LINES / 2, "{lost}");
    let seen = log.lines().filter(|line| line.contains("of a flood")).count() as u64;
    assert_eq!(LINES - seen, lost, "all others are counted");
}

#[test]
fn the_journal_gets_priorities_instead_of_times_and_no_forged_lines() {
    let (mut child, mut reader) = start("says-everything", true);
    let mut log = String::new();
    reader.read_to_string(&mut log).unwrap();
    wait(&mut child);
    let lines: Vec<&str> = log.lines().collect();
    assert_eq!(
        lines[..4],
        ["<3>an error", "<3>    <0>with a forged line", "<4>a warning", "<6>a word"],
        "{log}"
    );
    assert!(
        lines[4].starts_with("<3>thread worker-7 panicked at ") && lines[4].ends_with(": a bug"),
        "{log}"
    );
    assert_eq!(lines[5..], ["<3>x: the last line"], "{log}");
}

#[test]
fn another_stream_than_the_journal_gets_times() {
    let (mut child, mut reader) = start("says-everything", false);
    let mut log = String::new();
    reader.read_to_string(&mut log).unwrap();
    wait(&mut child);
    let lines: Vec<&str> = log.lines().collect();
    assert!(lines[0].starts_with("20") && lines[0].contains("ERROR an error"), "{log}");
    assert_eq!((lines[1], *lines.last().unwrap()), ("    <0>with a forged line", "x: the last line"));
}

#[test]
fn a_program_that_cannot_stop_is_ended_and_says_so() {
    let (mut child, mut reader) = start("hangs", false);
    let mut stdout = BufReader::new(child.stdout.take().unwrap()).lines();
    while stdout.next().unwrap().unwrap() != "runs" {}
    let begin = Instant::now();
    assert!(Command::new("kill").arg(child.id().to_string()).status().unwrap().success());
    assert_eq!(wait(&mut child), Some(1));
    assert!(begin.elapsed() >= Duration::from_secs(1), "{:?}", begin.elapsed());
    let mut log = String::new();
    reader.read_to_string(&mut log).unwrap();
    assert!(log.contains("could not stop within 1 s"), "{log}");
}

/// What a child writes to its standard output with this `[log]`.
fn run_with(program: &str, section: &str) -> String {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "child_program", "--nocapture"]).env(PROGRAM, program);
    command.env("FIBCAST_TEST_LOG", section).env_remove("FIBCAST_LOG").env_remove("RUST_LOG");
    String::from_utf8(command.output().unwrap().stdout).unwrap()
}

#[test]
fn a_file_gets_json_and_a_changed_level() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log/a.log");
    let section = format!(
        "[log]\nlevel = \"warn\"\nformat = \"json\"\ntarget = \"file\"\npath = \"{}\"\n",
        path.display()
    );
    run_with("changes-its-level", &section);
    let text = std::fs::read_to_string(&path).unwrap();
    let lines: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2, "{text}");
    assert_eq!(lines[0]["message"], "now \"quoted\"\nand broken");
    assert_eq!(
        (&lines[0]["level"], &lines[0]["peer"], &lines[0]["lines"]),
        (&"debug".into(), &"rs-a".into(), &7.into())
    );
    assert!(lines[0]["timestamp"].as_str().unwrap().ends_with('Z'), "{text}");
    assert!(lines[1]["message"].as_str().unwrap().contains("the last line"), "{text}");
}

#[test]
fn a_file_that_cannot_be_written_is_named_with_its_line() {
    let out = run_with("says-everything", "[log]\ntarget = \"file\"\npath = \"/proc/no/a.log\"\n");
    assert!(out.contains("x.toml:3: log.path: cannot write to the file ("), "{out}");
}
