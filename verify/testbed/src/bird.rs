//! BIRD on a host.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::process::{command, find};
use crate::wait::until;
use crate::{Failure, Namespace, Process};

/// How long it may take to answer.
const ANSWER: Duration = Duration::from_secs(60);

/// BIRD on a host.
#[derive(Debug)]
pub struct Bird {
    host: Namespace,
    folder: PathBuf,
    process: Option<Process>,
}

impl Bird {
    /// With a configuration, in a folder where its socket and log are as well. It does not run yet.
    ///
    /// # Errors
    /// The folder cannot be written to.
    pub fn new(host: &Namespace, folder: &Path, conf: &str) -> Result<Bird, Failure> {
        let bird = Bird { host: host.clone(), folder: folder.to_owned(), process: None };
        bird.write(conf)?;
        Ok(bird)
    }

    fn write(&self, conf: &str) -> Result<(), Failure> {
        let path = self.folder.join("bird.conf");
        std::fs::write(&path, conf).map_err(|error| Failure::io(path.display(), error))
    }

    /// Starts it (again).
    ///
    /// # Errors
    /// It is not installed, or does not answer.
    pub fn try_start(&mut self) -> Result<(), Failure> {
        let program = find("bird").ok_or_else(|| Failure::Missing("bird".to_owned()))?;
        let path = |file: &str| self.folder.join(file).display().to_string();
        let mut command = command(&program, Some(self.host.name()))?;
        command.args(["-f", "-c", &path("bird.conf"), "-s", &path("bird.ctl")]);
        let mut process = Process::start("bird", command, &self.folder)?;
        until("bird answers", ANSWER, || {
            process.check()?;
            Ok::<_, Failure>(self.try_birdc("show status").is_ok())
        })?;
        self.process = Some(process);
        Ok(())
    }

    fn try_birdc(&self, command: &str) -> Result<String, Failure> {
        self.host.sh(&format!("birdc -s {} '{command}'", self.folder.join("bird.ctl").display()))
    }

    /// `SIGKILL`: its routes stay in the kernel.
    pub fn kill(&mut self) {
        self.process.take().iter_mut().for_each(Process::kill);
    }
}

/// What tests ask.
#[allow(clippy::unwrap_used, reason = "a test ends where it stands")]
impl Bird {
    /// Starts it (again).
    ///
    /// # Panics
    /// As [`try_start`](Self::try_start) fails.
    #[track_caller]
    pub fn start(&mut self) {
        self.try_start().unwrap();
    }

    /// Another configuration, in use from now on.
    ///
    /// # Panics
    /// BIRD refuses it.
    #[track_caller]
    pub fn configure(&self, conf: &str) {
        self.write(conf).unwrap();
        self.try_birdc("configure").unwrap();
    }
}
