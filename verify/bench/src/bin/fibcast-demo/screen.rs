//! A few lines redrawn in place on a terminal; plain lines, one a second, where there is none.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// Where the lines go.
#[derive(Debug)]
pub struct Screen {
    terminal: bool,
    drawn: usize,
    last: Option<Instant>,
}

impl Screen {
    /// Standard output.
    pub fn new() -> Screen {
        Screen { terminal: std::io::stdout().is_terminal(), drawn: 0, last: None }
    }

    /// A line that stays.
    pub fn say(&mut self, line: &str) {
        let mut out = std::io::stdout().lock();
        self.erase(&mut out);
        let _ = writeln!(out, "{line}");
        let _ = out.flush();
    }

    /// Lines that the next call replaces. Without a terminal: the same as one line, at most once a second.
    pub fn show(&mut self, lines: &[String]) {
        let mut out = std::io::stdout().lock();
        if self.terminal {
            self.erase(&mut out);
            for line in lines {
                let _ = writeln!(out, "{line}");
            }
            self.drawn = lines.len();
        } else if self.last.is_none_or(|last| last.elapsed() >= Duration::from_secs(1)) {
            let _ = writeln!(out, "{}", lines.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" | "));
            self.last = Some(Instant::now());
        }
        let _ = out.flush();
    }

    fn erase(&mut self, out: &mut impl Write) {
        if self.drawn > 0 {
            // Up, then clear to the end of the screen (ECMA-48 CUU and ED).
            let _ = write!(out, "\x1b[{}A\x1b[J", self.drawn);
            self.drawn = 0;
        }
    }
}
