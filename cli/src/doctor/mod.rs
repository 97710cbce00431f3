//! `fibcast doctor`: finds what prevents fast forwarding on a machine, each with advice in one line.
//!
//! [`machine`] checks /proc and /sys, [`daemon`] queries a running daemon. Nothing is changed.

mod certificates;
mod daemon;
mod finding;
mod limits;
mod machine;
mod threads;

use std::fmt::Write;
use std::path::PathBuf;
use std::time::Duration;

use crate::socket::Choice;
use crate::{color, json};
use finding::{Finding, Grade};
use machine::Machine;

/// Where to look.
#[derive(Debug, clap::Args)]
pub struct Doctor {
    /// A folder to check instead of /, with proc, sys and dev.
    #[arg(long, hide = true, default_value = "/")]
    root: PathBuf,
}

/// All findings as text or JSON, and whether none of them is bad.
pub fn run(
    doctor: &Doctor,
    choice: &Choice,
    timeout: Duration,
    as_json: bool,
) -> Result<(String, bool), String> {
    let (of_daemon, dataplane) = match choice.socket() {
        Ok(path) => daemon::look(&path, timeout),
        Err(reason) => {
            let advice = "start one (systemctl start fibcast-dataplane), or name its socket with --socket";
            (vec![Finding::of(Grade::Warning, "daemon", reason, advice)], None)
        }
    };
    let mut findings = Machine::new(fibcast_machine::Machine::new(&doctor.root), dataplane).look();
    findings.extend(of_daemon);
    let healthy = findings.iter().all(|finding| finding.grade != Grade::Bad);
    Ok((if as_json { as_line(&findings)? } else { text(&findings) }, healthy))
}

fn text(findings: &[Finding]) -> String {
    let mut text = String::new();
    for finding in findings {
        let word = finding.grade.word();
        let (grade, space) = (color::state(word), " ".repeat(5 - word.len().min(5)));
        let _ = writeln!(text, "{grade}{space}{:<14}{}", finding.what, finding.found);
        if !finding.advice.is_empty() {
            let _ = writeln!(text, "{:<19}-> {}", "", finding.advice);
        }
    }
    text
}

fn as_line(findings: &[Finding]) -> Result<String, String> {
    let one = |finding: &Finding| {
        serde_json::json!({
            "check": finding.what,
            "grade": finding.grade.word().to_lowercase(),
            "found": finding.found,
            "advice": finding.advice,
        })
    };
    let all: Vec<_> = findings.iter().map(one).collect();
    json::line(&serde_json::json!({ "findings": all }))
}
