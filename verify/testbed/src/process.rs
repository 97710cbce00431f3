//! Programs that run: each with what it prints in a file, ended when dropped, and ended by the kernel where this process is killed.

use std::fs::File;
use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::Failure;
use crate::wait::until;

/// How long a program may take to end in order before it is killed.
const END: Duration = Duration::from_secs(8);

/// A program that runs, or has run.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    ended: Option<ExitStatus>,
    killed: bool,
}

/// A command of this program; in a network namespace where one is named. The kernel ends it with the thread that starts it, which has to
/// live as long.
///
/// # Errors
/// There is no such file.
pub fn command(program: &Path, namespace: Option<&str>) -> Result<Command, Failure> {
    if !program.is_file() {
        return Err(Failure::Missing(program.display().to_string()));
    }
    // setpriv (util-linux) asks the kernel to end the program with this process, however that ends, and then becomes the program; so does
    // `ip netns exec` before it. Both keep the process id.
    let mut command = match namespace {
        None => Command::new("setpriv"),
        Some(namespace) => {
            let mut command = Command::new("ip");
            command.args(["netns", "exec", namespace, "setpriv"]);
            command
        }
    };
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    Ok(command)
}

/// Where a program is: in PATH, or among the daemons of FRR.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders =
        std::env::split_paths(&path).chain(["/usr/lib/frr", "/usr/sbin", "/sbin"].map(PathBuf::from));
    folders.map(|folder| folder.join(program)).find(|file| file.is_file())
}

/// Runs a program to its end: its standard output.
///
/// # Errors
/// It cannot be started, or did not end well; with what it printed.
pub fn run(program: &str, arguments: &[&str]) -> Result<String, Failure> {
    let named = || format!("{program} {}", arguments.join(" "));
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    let output = output.map_err(|error| Failure::Command { command: named(), output: error.to_string() })?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() {
        return Ok(text(&output.stdout));
    }
    Err(Failure::Command { command: named(), output: text(&[output.stdout, output.stderr].concat()) })
}

/// Addresses on loopback that were free a moment ago.
///
/// # Errors
/// The system gives none.
pub fn free_addresses<const N: usize>() -> Result<[SocketAddr; N], Failure> {
    // All are held until the last is there, so that they differ.
    let listeners: Result<Vec<_>, _> = (0..N).map(|_| TcpListener::bind("127.0.0.1:0")).collect();
    let addresses =
        listeners.and_then(|all| all.iter().map(TcpListener::local_addr).collect::<Result<Vec<_>, _>>());
    let addresses = addresses.map_err(|error| Failure::io("a free port", error))?;
    Ok(std::array::from_fn(|at| addresses[at]))
}

impl Process {
    /// Starts a [`command`]. What it prints is added to `NAME.log` of `folder`, where DPDK keeps its files as well.
    ///
    /// # Errors
    /// The file cannot be written, or the program not be started.
    pub fn start(name: &str, command: Command, folder: &Path) -> Result<Process, Failure> {
        Process::spawn(name, command, folder, false, None)
    }

    /// The same with errors to where the caller wants them.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_with_log(
        name: &str,
        command: Command,
        folder: &Path,
        log: Stdio,
    ) -> Result<Process, Failure> {
        Process::spawn(name, command, folder, false, Some(log))
    }

    /// The same with the standard output for the caller; only errors go to the file.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_piped(
        name: &str,
        command: Command,
        folder: &Path,
    ) -> Result<(Process, ChildStdout), Failure> {
        let mut process = Process::spawn(name, command, folder, true, None)?;
        let stdout = process.child.stdout.take();
        let stdout = stdout.ok_or_else(|| Failure::Missing(format!("standard output of {name}")))?;
        Ok((process, stdout))
    }

    fn spawn(
        name: &str,
        mut command: Command,
        folder: &Path,
        piped: bool,
        stderr: Option<Stdio>,
    ) -> Result<Process, Failure> {
        let log = folder.join(format!("{name}.log"));
        let open = || File::options().create(true).append(true).open(&log);
        let failed = |error| Failure::io(log.display(), error);
        command
            .env("RUNTIME_DIRECTORY", folder)
            .stdin(Stdio::piped())
            .stdout(if piped { Stdio::piped() } else { open().map_err(failed)?.into() })
            .stderr(stderr.map_or_else(|| open().map(Stdio::from), Ok).map_err(failed)?);
        let child =
            command.spawn().map_err(|error| Failure::io(format!("{name} cannot be started"), error))?;
        Ok(Process { name: name.to_owned(), child, log, ended: None, killed: false })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has not ended.
    pub fn runs(&mut self) -> bool {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().ok().flatten();
        }
        self.ended.is_none()
    }

    /// Looks whether it runs, unless it was killed by [`kill`](Self::kill).
    ///
    /// # Errors
    /// It has ended by itself; with the end of its log.
    pub fn check(&mut self) -> Result<(), Failure> {
        if self.runs() || self.killed {
            return Ok(());
        }
        let status = self.ended.map(|status| status.to_string()).unwrap_or_default();
        Err(Failure::Ended { name: self.name.clone(), status, log: self.end_of_log() })
    }

    /// Sends a signal. Until it has been waited for, its process id is nobody else's.
    pub fn signal(&self, signal: Signal) {
        if self.ended.is_none() {
            let _ = kill_process(Pid::from_child(&self.child), signal);
        }
    }

    /// `SIGKILL`, and waits until it is gone.
    pub fn kill(&mut self) {
        if self.runs() {
            self.killed = true;
            self.signal(Signal::KILL);
            self.ended = self.child.wait().ok();
        }
    }

    /// `SIGSTOP`.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// `SIGCONT`.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// `SIGTERM`, then waits for the end; `SIGKILL` where that takes too long.
    pub fn stop(&mut self) -> Option<ExitStatus> {
        self.resume();
        self.signal(Signal::TERM);
        if until("", END, || Ok::<_, Failure>(!self.runs())).is_err() {
            self.kill();
        }
        self.ended
    }

    /// Writes to its standard input.
    ///
    /// # Errors
    /// It has closed that.
    pub fn tell(&mut self, text: &str) -> Result<(), Failure> {
        let written = self.child.stdin.as_mut().map_or(Ok(()), |input| input.write_all(text.as_bytes()));
        written.map_err(|error| Failure::io(&self.name, error))
    }

    /// What it printed.
    pub fn output(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The last lines of that.
    pub fn end_of_log(&self) -> String {
        let text = self.output();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(12)..].join("\n")
    }

    /// Resident memory in bytes.
    pub fn resident(&self) -> u64 {
        fibcast_daemon::process::resident_bytes_of(self.pid())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stop();
        if std::thread::panicking() {
            eprintln!("--- the last lines of {}:\n{}", self.name, self.end_of_log());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(folder: &Path, script: &str) -> Process {
        let mut command = command(&find("bash").unwrap(), None).unwrap();
        command.args(["-c", script]);
        Process::start("shell", command, folder).unwrap()
    }

    #[test]
    fn one_that_ends_by_itself_is_named_with_its_last_words_and_one_that_was_killed_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let mut process = shell(folder.path(), "read word; echo heard $word; exit 3");
        process.check().unwrap();
        process.tell("end\n").unwrap();
        until("the end", END, || Ok::<_, Failure>(!process.runs())).unwrap();
        let error = process.check().unwrap_err().to_string();
        assert!(error.contains("shell ended (exit status: 3)") && error.ends_with("heard end"), "{error}");
        let mut process = shell(folder.path(), "sleep 60");
        process.kill();
        process.check().unwrap();
    }

    #[test]
    fn one_that_is_paused_ends_in_order_all_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let mut process =
            shell(folder.path(), "trap 'exit 7' TERM; echo ready; while :; do sleep 0.01; done");
        until("the trap", END, || Ok::<_, Failure>(process.output() == "ready\n")).unwrap();
        process.pause();
        assert_eq!(process.stop().and_then(|status| status.code()), Some(7));
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let error = command("/nonexistent/program".as_ref(), None).unwrap_err().to_string();
        assert!(error.starts_with("/nonexistent/program is not there"), "{error}");
    }
}
