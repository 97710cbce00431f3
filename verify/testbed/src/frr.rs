//! Daemons of FRR on a host, with configuration, sockets and logs in a folder of their own.
//!
//! In containers `verify/docker/frr/start-frr` starts them, by a shell: there they have a whole machine of their own, and end as one.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::process::{command, find, run};
use crate::wait::{eventually, until};
use crate::{Failure, Namespace, Process};

/// How long a daemon may take to answer.
const ANSWER: Duration = Duration::from_secs(30);

/// Daemons of FRR on a host.
#[derive(Debug)]
pub struct Frr {
    host: Namespace,
    folder: PathBuf,
    daemons: RefCell<BTreeMap<String, Process>>,
    /// Further options of zebra.
    zebra: Vec<String>,
}

impl Frr {
    /// In a folder of its own, with an `frr.conf`. No daemon runs yet.
    ///
    /// # Errors
    /// The folder cannot be made, or there is no user `frr`.
    pub fn new(host: &Namespace, folder: PathBuf, conf: &str) -> Result<Frr, Failure> {
        let frr = Frr { host: host.clone(), folder, daemons: RefCell::default(), zebra: Vec::new() };
        std::fs::create_dir_all(&frr.folder).map_err(|error| Failure::io(frr.folder.display(), error))?;
        // zebra and the others write as the user `frr`.
        run("chown", &["frr:frr", &frr.folder.display().to_string()])?;
        frr.write("frr.conf", conf)?;
        frr.write("vtysh.conf", "")?;
        Ok(frr)
    }

    /// The same with further options of zebra.
    #[must_use]
    pub fn with_zebra_options(mut self, options: &[&str]) -> Frr {
        self.zebra = options.iter().map(|&option| option.to_owned()).collect();
        self
    }

    /// Writes a file into the folder.
    ///
    /// # Errors
    /// The system refuses.
    pub fn write(&self, name: &str, content: &str) -> Result<(), Failure> {
        let path = self.folder.join(name);
        std::fs::write(&path, content).map_err(|error| Failure::io(path.display(), error))
    }

    /// Starts one daemon, without its part of `frr.conf`. zebra gives up routes of its predecessor that nobody claims for `retain_s` seconds.
    /// With zebra comes mgmtd where there is one (FRR 9 and later): staticd takes its configuration from it.
    ///
    /// # Errors
    /// It is not installed, or does not answer.
    pub fn start(&self, daemon: &str, retain_s: u32) -> Result<(), Failure> {
        let program = find(daemon).ok_or_else(|| Failure::Missing(daemon.to_owned()))?;
        let has_mgmtd = self.daemons.borrow().contains_key("mgmtd");
        if daemon == "zebra" && !has_mgmtd && find("mgmtd").is_some() {
            self.start("mgmtd", retain_s)?;
        }
        let path = |file: &str| self.folder.join(file).display().to_string();
        let mut command = self.command(&program)?;
        command
            .args(["-i", &path(&format!("{daemon}.pid")), "-z", &path("zserv.api")])
            .args(["-P", "0"])
            .args(["--vty_socket", &self.folder.display().to_string()])
            .args(["--log", "stdout", "--log-level", "warnings"]);
        if find("mgmtd").is_none() {
            // Later releases have no file for each daemon.
            self.write(&format!("{daemon}.conf"), "")?;
            command.args(["-f", &path(&format!("{daemon}.conf"))]);
        }
        if daemon == "zebra" {
            // As docs/frr.md says for /etc/frr/daemons.
            command.args(["-M", "dplane_fpm_nl", "-s", "90000000"]);
            // In one word: since FRR 10.2 the time is optional, and a separate word is not taken for it.
            command.arg(format!("-K{retain_s}"));
            command.args(&self.zebra);
        }
        let mut process = Process::start(&format!("{daemon}-{}", self.host.host()), command, &self.folder)?;
        let vty = self.folder.join(format!("{daemon}.vty"));
        until(&format!("{daemon} listens"), ANSWER, || {
            process.check()?;
            Ok::<_, Failure>(vty.exists() && self.try_vtysh(&["show version"], Some(daemon)).0)
        })?;
        self.daemons.borrow_mut().insert(daemon.to_owned(), process);
        Ok(())
    }

    /// A command of a daemon. mgmtd and those that it configures find each other in /run/frr, whatever the options say: that is this folder.
    fn command(&self, program: &Path) -> Result<Command, Failure> {
        if find("mgmtd").is_none() {
            return command(program, Some(self.host.name()));
        }
        let shell = find("sh").ok_or_else(|| Failure::Missing("sh".to_owned()))?;
        let mut command = command(&shell, Some(self.host.name()))?;
        // `ip netns exec` has made a mount namespace.
        let script = r#"mkdir -p /run/frr && mount --bind "$0" /run/frr && exec "$@""#;
        command.args(["-c", script]).arg(&self.folder).arg(program);
        Ok(command)
    }

    /// Gives all daemons their part of `frr.conf`, as `vtysh -b` does at boot.
    ///
    /// # Errors
    /// One does not take it.
    pub fn configure(&self) -> Result<(), Failure> {
        let folder = self.folder.display();
        self.host.sh(&format!("vtysh --vty_socket {folder} --config_dir {folder} -b")).map(drop)
    }

    /// Starts a program of the project's own beside them (`packaging/frr/fibcast-sentinel`), which speaks by their sockets.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn sentinel(&self, program: &Path, options: &[&str]) -> Result<Process, Failure> {
        let mut command = command(program, Some(self.host.name()))?;
        command.args(["--watch", "--vty_socket", &self.folder.display().to_string()]).args(options);
        Process::start(&format!("sentinel-{}", self.host.host()), command, &self.folder)
    }

    /// The folder with the sockets, as `vtysh --vty_socket` wants it.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Looks whether all run.
    ///
    /// # Errors
    /// One has ended by itself.
    pub fn check(&self) -> Result<(), Failure> {
        self.daemons.borrow_mut().values_mut().try_for_each(Process::check)
    }

    /// Kills a daemon (`SIGKILL`).
    pub fn kill(&self, daemon: &str) {
        self.take(daemon).iter_mut().for_each(Process::kill);
    }

    /// Ends a daemon in order.
    pub fn stop(&self, daemon: &str) {
        drop(self.take(daemon));
    }

    fn take(&self, daemon: &str) -> Option<Process> {
        // Its socket is left behind by a kill, and would be taken for a new one's.
        let _ = std::fs::remove_file(self.folder.join(format!("{daemon}.vty")));
        self.daemons.borrow_mut().remove(daemon)
    }

    /// Stops a daemon for a while (`SIGSTOP`, `SIGCONT`).
    pub fn pause(&self, daemon: &str, time: Duration) {
        self.daemons.borrow().get(daemon).inspect(|process| process.pause());
        std::thread::sleep(time);
        self.daemons.borrow().get(daemon).inspect(|process| process.resume());
    }

    fn try_vtysh(&self, commands: &[&str], daemon: Option<&str>) -> (bool, String) {
        let mut line = format!("vtysh --vty_socket {}", self.folder.display());
        if let Some(daemon) = daemon {
            line += &format!(" -d {daemon}");
        }
        for command in commands {
            line += &format!(" -c '{command}'");
        }
        self.host.try_sh(&line)
    }
}

/// What tests ask.
impl Frr {
    /// Runs commands of vtysh; what they printed.
    ///
    /// # Panics
    /// It refuses.
    #[track_caller]
    pub fn vtysh(&self, commands: &[&str]) -> String {
        let (content, output) = self.try_vtysh(commands, None);
        assert!(content, "{}: {commands:?}: {output}", self.host.host());
        output
    }

    /// Runs commands of vtysh in `configure terminal`.
    ///
    /// # Panics
    /// It refuses one.
    #[track_caller]
    pub fn conf(&self, commands: &[&str]) {
        let output = self.vtysh(&[&["configure terminal"], commands].concat());
        assert!(!output.contains('%'), "{}: {commands:?}: {output}", self.host.host());
    }

    /// Has zebra hang up, and connect to a port of this host, where it tells its table from the beginning. One after the other: of two commands
    /// at once zebra may forget the second.
    ///
    /// # Panics
    /// It does not do so.
    pub fn fpm_to(&self, port: u16) {
        for (command, counted) in [
            ("no fpm address".to_owned(), "User FPM disable requests"),
            (format!("fpm address 127.0.0.1 port {port}"), "User FPM configurations"),
        ] {
            let before = self.fpm_counter(counted);
            self.conf(&[&command]);
            eventually(counted, 60, || self.fpm_counter(counted) > before);
        }
    }

    /// How often zebra's FPM connection was closed or had no room, by its own account: `show fpm counters`.
    ///
    /// # Panics
    /// There is no counter of this name.
    #[track_caller]
    #[allow(clippy::panic, reason = "a test ends where it stands")]
    pub fn fpm_counter(&self, name: &str) -> u64 {
        let output = self.vtysh(&["show fpm counters"]);
        let mut values = output.lines().filter(|line| line.contains(name));
        let value = values.next().and_then(|line| line.rsplit(':').next()?.trim().parse().ok());
        value.unwrap_or_else(|| panic!("{name}: {output}"))
    }
}

impl Drop for Frr {
    /// At once: in order, zebra would take each of its routes out of a kernel table that goes away in a moment.
    fn drop(&mut self) {
        self.daemons.borrow_mut().values_mut().for_each(Process::kill);
    }
}
