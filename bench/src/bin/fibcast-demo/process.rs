//! Programs that the demo starts: each with its log in a file, ended when dropped, and ended by the kernel if the demo itself is killed.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// How long a program may take to end in order before it is killed.
const STOP_TIMEOUT: Duration = Duration::from_secs(8);

/// Which of its standard streams the demo has the other end of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenEnd {
    /// What it prints, for [`Process::stdout`].
    Output,
    /// What it reads, for [`Process::tell`]; what it prints is in its log.
    Input,
}

/// A program that runs, or has run.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    ended: Option<ExitStatus>,
    killed: bool,
}

impl Process {
    /// Starts `program` with its standard error in `NAME.log` of `folder`; in a network namespace where one is named.
    pub fn start(
        name: &str,
        program: &Path,
        arguments: &[String],
        folder: &Path,
        namespace: Option<&str>,
        open_end: OpenEnd,
    ) -> Result<Process, String> {
        let log = folder.join(format!("{name}.log"));
        let open = || {
            File::options()
                .create(true)
                .append(true)
                .open(&log)
                .map_err(|error| format!("{}: {error}", log.display()))
        };
        if !program.exists() {
            return Err(format!("{}: no such program; `make build` makes it", program.display()));
        }
        // setpriv (util-linux) asks the kernel to end the program with the demo, however that ends, and then becomes the program; so does
        // `ip netns exec` before it.
        let mut command = match namespace {
            None => Command::new("setpriv"),
            Some(namespace) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", namespace, "setpriv"]);
                command
            }
        };
        let (stdin, stdout) = match open_end {
            OpenEnd::Output => (Stdio::null(), Stdio::piped()),
            OpenEnd::Input => (Stdio::piped(), open()?.into()),
        };
        let child = command
            .args(["--pdeathsig", "TERM", "--"])
            .arg(program)
            .args(arguments)
            // Where DPDK keeps what it leaves behind, so that it goes with the folder.
            .env("RUNTIME_DIRECTORY", folder)
            .stdin(stdin)
            .stdout(stdout)
            .stderr(open()?)
            .spawn()
            .map_err(|error| format!("{name}: cannot start {}: {error}", program.display()))?;
        Ok(Process { name: name.to_owned(), child, log, ended: None, killed: false })
    }

    /// Writes to its standard input.
    pub fn tell(&mut self, text: &str) -> Result<(), String> {
        let input = self.child.stdin.as_mut().ok_or("no standard input");
        let written = input.map(|input| input.write_all(text.as_bytes()));
        written.map_err(str::to_owned)?.map_err(|error| format!("{}: {error}", self.name))
    }

    /// What it prints, once.
    pub fn stdout(&mut self) -> Option<ChildStdout> {
        self.child.stdout.take()
    }

    /// An error with the end of its log if it has ended.
    pub fn check(&mut self) -> Result<(), String> {
        match self.try_wait() {
            Some(status) => Err(format!("{} ended ({status}):\n{}", self.name, self.end_of_log())),
            None => Ok(()),
        }
    }

    /// SIGKILL, and waits until it is gone.
    pub fn kill(&mut self) {
        if self.try_wait().is_none() {
            let _ = self.child.kill();
            self.ended = self.child.wait().ok();
            self.killed = true;
        }
    }

    /// The demo itself has killed it.
    pub fn was_killed(&self) -> bool {
        self.killed
    }

    /// SIGTERM.
    pub fn terminate(&mut self) {
        if self.try_wait().is_none() {
            let _ = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status();
        }
    }

    /// SIGTERM, then waits for the end; SIGKILL when it takes too long.
    pub fn stop(&mut self) -> Option<ExitStatus> {
        self.terminate();
        let deadline = Instant::now() + STOP_TIMEOUT;
        while self.try_wait().is_none() {
            if Instant::now() > deadline {
                self.kill();
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        self.ended
    }

    /// The last lines of its log.
    pub fn end_of_log(&self) -> String {
        let mut text = String::new();
        if let Ok(mut file) = File::open(&self.log) {
            let _ = file.read_to_string(&mut text);
        }
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(8)..].join("\n")
    }

    fn try_wait(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().ok().flatten();
        }
        self.ended
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stop();
    }
}
