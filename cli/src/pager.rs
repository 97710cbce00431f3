//! The pager of long pages on a terminal: `$PAGER`, or `less -FRX`, which gives way if everything fits on one screen.
//!
//! While it runs, standard output is its input. It reads the keyboard, so an interrupt is its own business, and this process ends after it.

use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use signal_hook::consts::SIGINT;

static RUNNING: Mutex<Option<Pager>> = Mutex::new(None);

struct Pager {
    child: Child,
    input: Option<ChildStdin>,
}

fn running() -> MutexGuard<'static, Option<Pager>> {
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The command, if there shall be one: a shell's for `$PAGER`, as git runs it; none if that is empty or `cat`.
fn command(pager: Option<OsString>) -> Option<Command> {
    match pager {
        Some(pager) if pager.is_empty() || pager == "cat" => None,
        Some(pager) => {
            let mut command = Command::new("sh");
            command.arg("-c").arg(pager);
            // Colours for a less without options.
            if std::env::var_os("LESS").is_none() {
                command.env("LESS", "FRX");
            }
            Some(command)
        }
        None => {
            let mut command = Command::new("less");
            command.arg("-FRX");
            Some(command)
        }
    }
}

/// Starts the pager, if standard output is a terminal. A machine without `less` has none.
pub fn start() {
    if !io::stdout().is_terminal() {
        return;
    }
    let Some(mut command) = command(std::env::var_os("PAGER")) else { return };
    let Ok(mut child) = command.stdin(Stdio::piped()).spawn() else { return };
    // Handled and not ignored: what is ignored would be in the pager as well.
    let _ = signal_hook::flag::register(SIGINT, Arc::new(AtomicBool::new(false)));
    let input = child.stdin.take();
    *running() = Some(Pager { child, input });
}

/// Writes to the pager, or to standard output without one.
pub fn write(bytes: &[u8]) -> io::Result<()> {
    if let Some(Pager { input: Some(input), .. }) = &mut *running() {
        return input.write_all(bytes).and_then(|()| input.flush());
    }
    let mut out = io::stdout();
    out.write_all(bytes).and_then(|()| out.flush())
}

/// Waits until the reader has left the pager.
pub fn finish() -> Result<(), String> {
    let Some(Pager { mut child, input }) = running().take() else { return Ok(()) };
    drop(input);
    match child.wait() {
        // The shell's answer for a command that does not exist, or is none.
        Ok(status) if matches!(status.code(), Some(126 | 127)) => {
            let pager = std::env::var("PAGER").unwrap_or_default();
            Err(format!("PAGER: cannot run {pager:?}; --no-pager prints without one"))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_pager_and_cat_are_none_and_others_are_a_shells_commands() {
        let of = |pager: Option<&str>| {
            let command = command(pager.map(OsString::from))?;
            let words = std::iter::once(command.get_program()).chain(command.get_args());
            Some(words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" "))
        };
        assert_eq!((of(Some("")), of(Some("cat"))), (None, None));
        assert_eq!(of(None).as_deref(), Some("less -FRX"));
        assert_eq!(of(Some("more -d")).as_deref(), Some("sh -c more -d"));
    }
}
