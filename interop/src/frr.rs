//! Daemons of FRR on a host, with configuration, sockets and logs in a folder of their own.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use crate::{Host, Process, eventually, find};

/// Daemons of FRR on a host.
#[derive(Debug)]
pub struct Frr<'h> {
    host: &'h Host<'h>,
    folder: PathBuf,
    daemons: RefCell<BTreeMap<String, Process>>,
}

impl<'l> Host<'l> {
    /// Starts zebra and other daemons, and gives them an `frr.conf` as `vtysh -b` does at boot.
    pub fn frr<'h>(&'h self, daemons: &[&str], conf: &str) -> Frr<'h>
    where
        'l: 'h,
    {
        let folder = self.folder().join("frr");
        std::fs::create_dir_all(&folder).unwrap();
        // zebra and the others write as the user `frr`.
        self.sh(&format!("chown frr:frr {}", folder.display()));
        std::fs::write(folder.join("frr.conf"), conf).unwrap();
        std::fs::write(folder.join("vtysh.conf"), "").unwrap();
        let frr = Frr { host: self, folder, daemons: RefCell::default() };
        frr.start("zebra");
        daemons.iter().filter(|daemon| **daemon != "zebra").for_each(|daemon| frr.start(daemon));
        frr.configure();
        frr
    }
}

impl Frr<'_> {
    /// Starts one daemon, without its configuration.
    pub fn start(&self, daemon: &str) {
        // As docs/frr.md says for /etc/frr/daemons, but for a shorter time until unclaimed routes are given up.
        self.start_with(daemon, 8);
    }

    /// Starts zebra, which gives up routes of its predecessor that nobody claims for so many seconds.
    pub fn start_zebra(&self, retain_s: u32) {
        self.start_with("zebra", retain_s);
    }

    fn start_with(&self, daemon: &str, retain_s: u32) {
        let program = find(daemon).unwrap_or_else(|| panic!("{daemon} is not installed"));
        let path = |file: &str| self.folder.join(file).display().to_string();
        std::fs::write(path(&format!("{daemon}.conf")), "").unwrap();
        let (pid, zserv, conf) =
            (path(&format!("{daemon}.pid")), path("zserv.api"), path(&format!("{daemon}.conf")));
        let mut arguments = vec!["-i", &pid, "-z", &zserv, "-f", &conf, "-A", "127.0.0.1"];
        let (folder, retain) = (self.folder.display().to_string(), retain_s.to_string());
        arguments.extend(["--vty_socket", &folder, "--log", "stdout", "--log-level", "warnings"]);
        if daemon == "zebra" {
            arguments.extend(["-M", "dplane_fpm_nl", "-s", "90000000", "-K", &retain]);
        }
        let process = self.host.start(daemon, &program, &arguments);
        self.daemons.borrow_mut().insert(daemon.to_owned(), process);
        let vty = self.folder.join(format!("{daemon}.vty"));
        eventually(&format!("{daemon} listens"), 20, || {
            vty.exists() && self.try_vtysh(&["show version"], Some(daemon)).0
        });
    }

    /// Gives all daemons their part of `frr.conf`.
    pub fn configure(&self) {
        let folder = self.folder.display();
        let (content, output) =
            self.host.try_sh(&format!("vtysh --vty_socket {folder} --config_dir {folder} -b"));
        assert!(content, "{}: frr.conf: {output}", self.host.name());
    }

    /// Kills a daemon (`SIGKILL`).
    pub fn kill(&self, daemon: &str) {
        self.take(daemon).kill();
    }

    /// Ends a daemon in order.
    pub fn stop(&self, daemon: &str) {
        self.take(daemon).stop();
    }

    fn take(&self, daemon: &str) -> Process {
        let process = self.daemons.borrow_mut().remove(daemon);
        // Its socket is left behind by a kill, and would be taken for a new one's.
        let process = process.unwrap_or_else(|| panic!("{daemon} was not started"));
        let _ = std::fs::remove_file(self.folder.join(format!("{daemon}.vty")));
        process
    }

    /// Stops a daemon for a while (`SIGSTOP`, `SIGCONT`).
    pub fn pause(&self, daemon: &str, time: Duration) {
        let daemons = self.daemons.borrow();
        let process = daemons.get(daemon).unwrap_or_else(|| panic!("{daemon} was not started"));
        process.pause();
        std::thread::sleep(time);
        process.resume();
    }

    /// The process id of a daemon.
    pub fn pid(&self, daemon: &str) -> Option<u32> {
        self.daemons.borrow().get(daemon).map(Process::pid)
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

    /// Runs commands of vtysh; what they printed.
    #[track_caller]
    pub fn vtysh(&self, commands: &[&str]) -> String {
        let (content, output) = self.try_vtysh(commands, None);
        assert!(content, "{}: {commands:?}: {output}", self.host.name());
        output
    }

    /// Runs commands of vtysh in `configure terminal`.
    #[track_caller]
    pub fn conf(&self, commands: &[&str]) {
        let output = self.vtysh(&[&["configure terminal"], commands].concat());
        assert!(!output.contains('%'), "{}: {commands:?}: {output}", self.host.name());
    }

    /// The folder with the sockets, as `vtysh --vty_socket` wants it.
    pub fn folder(&self) -> &std::path::Path {
        &self.folder
    }

    /// Has zebra hang up, and connect to a port of this host, where it tells its table from the beginning. One after the other: of two commands
    /// at once zebra may forget the second.
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
    pub fn fpm_counter(&self, name: &str) -> u64 {
        let output = self.vtysh(&["show fpm counters"]);
        let line =
            output.lines().find(|line| line.contains(name)).unwrap_or_else(|| panic!("{name}: {output}"));
        line.rsplit(':')
            .next()
            .and_then(|value| value.trim().parse().ok())
            .unwrap_or_else(|| panic!("{line}"))
    }
}
