//! BIRD on a host.

use std::path::PathBuf;

use crate::{Host, Process, eventually, find};

/// BIRD on a host.
#[derive(Debug)]
pub struct Bird<'h> {
    host: &'h Host<'h>,
    socket: PathBuf,
    conf: PathBuf,
    process: Option<Process>,
}

impl<'l> Host<'l> {
    /// Starts BIRD with a configuration.
    pub fn bird<'h>(&'h self, conf: &str) -> Bird<'h>
    where
        'l: 'h,
    {
        let conf = self.file("bird.conf", conf);
        let mut bird = Bird { host: self, socket: self.folder().join("bird.ctl"), conf, process: None };
        bird.start();
        bird
    }
}

impl Bird<'_> {
    /// Starts it (again).
    pub fn start(&mut self) {
        let program = find("bird").unwrap_or_else(|| panic!("bird is not installed"));
        let (conf, socket) = (self.conf.display().to_string(), self.socket.display().to_string());
        self.process = Some(self.host.start("bird", &program, &["-f", "-c", &conf, "-s", &socket]));
        eventually("bird answers", 60, || self.birdc_try("show status").0);
    }

    /// `SIGKILL`: its routes stay in the kernel.
    pub fn kill(&mut self) {
        if let Some(process) = self.process.take() {
            process.kill();
        }
    }

    /// Ends it in order: it takes its routes out of the kernel.
    pub fn stop(&mut self) {
        if let Some(process) = self.process.take() {
            process.stop();
        }
    }

    /// Another configuration, in use from now on.
    pub fn configure(&self, conf: &str) {
        std::fs::write(&self.conf, conf).unwrap();
        self.birdc("configure");
    }

    fn birdc_try(&self, command: &str) -> (bool, String) {
        self.host.try_sh(&format!("birdc -s {} '{command}'", self.socket.display()))
    }

    /// Runs a command of birdc; what it printed.
    #[track_caller]
    pub fn birdc(&self, command: &str) -> String {
        let (content, output) = self.birdc_try(command);
        assert!(content, "{}: {command}: {output}", self.host.name());
        output
    }
}
