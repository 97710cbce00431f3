//! Stops single threads of other processes, as a debugger does.
//!
//! The kernel takes requests about a thread only from the thread that stopped it, so a [`StoppedThread`] stays where it was made.

use std::marker::PhantomData;
use std::path::PathBuf;

use nix::sys::ptrace;
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;

use crate::Failure;

/// Bytes of a thread's name that the kernel keeps.
const NAME: usize = 15;

/// A thread that does not run until this is dropped.
#[derive(Debug)]
pub struct StoppedThread {
    id: Pid,
    of_this_thread: PhantomData<*const ()>,
}

impl StoppedThread {
    /// Stops a thread, by its id; it has stopped when this returns.
    ///
    /// # Errors
    /// There is no such thread, or this process may not stop it.
    pub fn stop(id: i32) -> Result<StoppedThread, Failure> {
        let id = Pid::from_raw(id);
        let failed = |error: nix::Error| Failure::io(format!("ptrace of thread {id}"), error.into());
        ptrace::seize(id, ptrace::Options::empty()).map_err(failed)?;
        let stopped = StoppedThread { id, of_this_thread: PhantomData };
        ptrace::interrupt(id).map_err(failed)?;
        waitpid(id, Some(WaitPidFlag::__WALL)).map_err(failed)?;
        Ok(stopped)
    }
}

impl Drop for StoppedThread {
    fn drop(&mut self) {
        // Its process may have ended, and cannot be waited for until the tracer has taken note of its thread's end.
        if ptrace::detach(self.id, None).is_err() {
            let _ = waitpid(self.id, Some(WaitPidFlag::__WALL));
        }
    }
}

/// The ids of a process's threads with this name; the kernel knows its first 15 bytes.
pub fn threads(process: u32, name: &str) -> Vec<i32> {
    let wanted = name.get(..NAME).unwrap_or(name);
    let tasks = std::fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    let named = |path: &PathBuf| {
        let comm = std::fs::read_to_string(path.join("comm")).unwrap_or_default();
        comm.trim_end_matches('\n') == wanted
    };
    let paths = tasks.map(|task| task.path()).filter(named);
    paths.filter_map(|path| path.file_name()?.to_str()?.parse().ok()).collect()
}

/// Whether a process has ended, also while a stopped thread of it keeps it from being waited for.
pub fn has_ended(process: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{process}/stat"))
        .map_or(true, |stat| stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('Z')))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::{command, find};
    use crate::wait::eventually;
    use crate::{Process, ptrace};

    fn state(process: u32) -> char {
        let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
        stat.rsplit(") ").next().unwrap().chars().next().unwrap()
    }

    #[test]
    fn a_thread_stands_still_until_it_is_let_go() {
        let folder = tempfile::tempdir().unwrap();
        let mut shell = command(&find("bash").unwrap(), None).unwrap();
        shell.args(["-c", "while :; do :; done"]);
        let process = Process::start("shell", shell, folder.path()).unwrap();
        let pid = process.pid();
        eventually("it runs as bash", 10, || !ptrace::threads(pid, "bash").is_empty());
        let Ok(stopped) = StoppedThread::stop(pid as i32) else {
            eprintln!("skipped: no rights to trace a process");
            return;
        };
        assert_eq!(state(pid), 't');
        drop(stopped);
        eventually("it runs again", 10, || state(pid) == 'R');
    }
}
