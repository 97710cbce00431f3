//! A program that runs, and ends with what holds it.

use std::path::PathBuf;
use std::process::Child;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// A program that runs on a host (`ip netns exec` replaces itself by it, so the process id is the program's).
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    out: PathBuf,
}

impl Process {
    pub(crate) fn new(name: &str, child: Child, out: PathBuf) -> Self {
        Self { name: name.to_owned(), child, out }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has not ended.
    pub fn runs(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    fn signal(&self, signal: Signal) {
        let _ = kill_process(Pid::from_child(&self.child), signal);
    }

    /// `SIGKILL`.
    pub fn kill(mut self) {
        self.signal(Signal::KILL);
        let _ = self.child.wait();
    }

    /// `SIGSTOP`.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// `SIGCONT`.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// `SIGTERM`, and `SIGKILL` where that is not enough.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.signal(Signal::CONT);
        self.signal(Signal::TERM);
        let end = Instant::now() + Duration::from_secs(5);
        while self.runs() {
            if Instant::now() > end {
                self.signal(Signal::KILL);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Writes to its standard input.
    pub fn tell(&mut self, text: &str) {
        let input = self.child.stdin.as_mut().unwrap();
        std::io::Write::write_all(input, text.as_bytes()).unwrap();
    }

    /// What it printed, and its log.
    pub fn output(&self) -> String {
        std::fs::read_to_string(&self.out).unwrap_or_default()
    }

    /// Resident memory in bytes.
    pub fn resident(&self) -> u64 {
        let statm = std::fs::read_to_string(format!("/proc/{}/statm", self.pid())).unwrap_or_default();
        statm.split_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * 4096
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.runs() {
            self.end();
        }
        if std::thread::panicking() {
            let output = self.output();
            let tail: Vec<&str> = output.lines().rev().take(25).collect();
            eprintln!("--- {} printed last:", self.name);
            tail.iter().rev().for_each(|line| eprintln!("{line}"));
        }
    }
}
