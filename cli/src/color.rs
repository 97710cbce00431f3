//! Colours of the output, by ECMA-48 (SGR): on a terminal only, unless the operator says otherwise.

use std::ffi::OsStr;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::ValueEnum;

/// Set once, before anything is printed.
static ON: AtomicBool = AtomicBool::new(false);

/// When text has colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum When {
    /// On a terminal, unless NO_COLOR is set or TERM is dumb.
    Auto,
    Always,
    Never,
}

impl When {
    /// Puts the choice in force; `terminal` is whether standard output is one.
    pub fn choose(self, terminal: bool) {
        let variable = |name| std::env::var_os(name);
        let on = self.is_on(terminal, variable("NO_COLOR").as_deref(), variable("TERM").as_deref());
        ON.store(on, Ordering::Relaxed);
    }

    /// NO_COLOR counts if it is not empty (no-color.org); the command line counts more.
    fn is_on(self, terminal: bool, no_color: Option<&OsStr>, term: Option<&OsStr>) -> bool {
        match self {
            When::Always => true,
            When::Never => false,
            When::Auto => {
                terminal && no_color.is_none_or(OsStr::is_empty) && term.is_none_or(|term| term != "dumb")
            }
        }
    }
}

/// A rendition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    Heading,
    Good,
    Warning,
    Bad,
}

/// The text in a style, or as it is without colours.
pub fn paint(style: Style, text: &str) -> String {
    if !ON.load(Ordering::Relaxed) || text.is_empty() {
        return text.to_owned();
    }
    let code = match style {
        Style::Heading => 1,
        Style::Good => 32,
        Style::Warning => 33,
        Style::Bad => 31,
    };
    format!("\x1b[{code}m{text}\x1b[0m")
}

/// A state in its style; states that are neither good nor bad stay as they are.
pub fn state(word: &str) -> String {
    let style = match word {
        "up" | "ok" | "fine" | "ready" | "live" | "in sync" | "active" | "reachable" | "static"
        | "connected" => Style::Good,
        "warn" | "stale" | "delay" | "probe" | "incomplete" | "unknown" | "not ready" | "connecting"
        | "activating" | "loading" | "waiting" => Style::Warning,
        "BAD" | "down" | "failed" | "stalled" | "unresolved" | "stopped" | "lost" | "ineligible" => {
            Style::Bad
        }
        _ => return word.to_owned(),
    };
    paint(style, word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_counts_more_than_the_environment_and_that_more_than_the_terminal() {
        let auto = |terminal, no_color: Option<&str>, term: Option<&str>| {
            When::Auto.is_on(terminal, no_color.map(OsStr::new), term.map(OsStr::new))
        };
        assert!(auto(true, None, Some("xterm")) && auto(true, Some(""), None));
        assert!(!auto(false, None, None) && !auto(true, Some("1"), None) && !auto(true, None, Some("dumb")));
        assert!(When::Always.is_on(false, Some(OsStr::new("1")), None));
        assert!(!When::Never.is_on(true, None, None));
    }

    #[test]
    fn without_colours_text_is_as_it_was() {
        assert_eq!((state("down"), paint(Style::Heading, "port")), ("down".into(), "port".into()));
        When::Always.choose(false);
        assert_eq!((state("down"), state("other")), ("\x1b[31mdown\x1b[0m".into(), "other".into()));
        assert_eq!(paint(Style::Heading, ""), "");
        When::Never.choose(true);
    }
}
