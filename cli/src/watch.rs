//! `show … --watch`: the same page again and again, until the reader has seen enough.

use std::io::IsTerminal;
use std::time::Duration;

use crate::output::say_bytes;

/// How often.
#[derive(Debug, clap::Args)]
pub struct Watch {
    /// Show it again every SECONDS (2) until interrupted; a daemon that does not answer is told and asked again.
    #[arg(long, global = true, value_name = "SECONDS", num_args = 0..=1, require_equals = true,
        default_missing_value = "2", value_parser = clap::value_parser!(u64).range(1..=3600))]
    watch: Option<u64>,
}

/// Clears a terminal and begins at its top.
const CLEAR: &[u8] = b"\x1b[H\x1b[2J";

impl Watch {
    /// Whether it shows more than once.
    pub fn repeats(&self) -> bool {
        self.watch.is_some()
    }

    /// Shows once, or as often as wanted.
    pub fn run(&self, mut show: impl FnMut() -> Result<(), String>) -> Result<(), String> {
        let Some(seconds) = self.watch else { return show() };
        let terminal = std::io::stdout().is_terminal();
        // Between pages of a file or a pipe is an empty line.
        let mut between: &[u8] = if terminal { CLEAR } else { b"" };
        while say_bytes(between)? {
            if let Err(reason) = show() {
                eprintln!("fibcast: {reason}");
            }
            std::thread::sleep(Duration::from_secs(seconds));
            between = if terminal { CLEAR } else { b"\n" };
        }
        Ok(())
    }
}
