//! Files: disks that are full or hang, and the end of file descriptors.

use std::any::Any;
use std::fs::{File, OpenOptions, Permissions};
use std::io::{Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use fibcast_control::{ClientError, Request};
use fibcast_testbed::Failure;
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, prlimit};

use crate::attack::{Attack, How, Target};
use crate::health::metric;
use crate::subject::{Running, Setup, Subject, pipe};
use crate::trial::{Expected, Harm, Trial};

/// How long the daemon is made to log, at most.
const CHATTER: Duration = Duration::from_secs(20);
/// How long what a daemon writes into a pipe is read.
const DRAINED: Duration = Duration::from_secs(2);
/// `O_NONBLOCK`.
const NONBLOCK: i32 = 0o4000;

/// All trials.
pub fn all() -> Vec<Trial> {
    use Subject::{Agent, Dataplane, RouteServer};
    let mut trials = Vec::new();
    for subject in [RouteServer, Agent, Dataplane] {
        let writes = subject != RouteServer;
        let mut add = |harm: Box<dyn Harm>, lost| {
            trials.push(Trial { subject, harm, expected: Expected::Served, lost });
        };
        let full = if writes { "lines of the log; checkpoints" } else { "lines of the log" };
        add(Box::new(DiskFull { writes }), full);
        add(Box::new(LogHangs), "lines of the log");
        add(Box::new(ReloadHangs { file: "subject.toml" }), "reloads");
        add(Box::new(ReloadHangs { file: "digest.key" }), "reloads");
        add(Box::new(ReloadHangs { file: "subject.pem" }), "reloads");
        if writes {
            add(Box::new(CheckpointHangs), "checkpoints");
        }
        add(Box::new(NoDescriptors), "connections beyond the limit; silent ones give way");
    }
    trials
}

/// Makes a daemon log until lines are lost: each SIGHUP is a line or more.
fn chatter(running: &Running) {
    let begin = Instant::now();
    while begin.elapsed() < CHATTER {
        for _ in 0..200 {
            running.process.signal(Signal::HUP);
            std::thread::sleep(Duration::from_millis(1));
        }
        if lost_lines(running) {
            return;
        }
    }
}

fn lost_lines(running: &Running) -> bool {
    metric(running.http, "log_lines_dropped_total", "") > 0.0
}

fn checkpoint_failed(running: &Running) -> bool {
    metric(running.http, "checkpoint_failed", "") > 0.0
}

/// Seconds since the last one.
fn checkpoint_age(running: &Running) -> f64 {
    metric(running.http, "checkpoint_age_seconds", "")
}

/// No space is left where it writes.
#[derive(Debug)]
struct DiskFull {
    /// Checkpoints too, not only its log.
    writes: bool,
}

/// A file that takes all space.
struct Filler(PathBuf);

impl Drop for Filler {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Harm for DiskFull {
    fn name(&self) -> String {
        "disk full".into()
    }

    fn setup(&self) -> Setup<'_> {
        Setup { small_disk: true, ..Setup::default() }
    }

    fn strike(&self, running: &mut Running) -> Result<Box<dyn Any>, Failure> {
        let path = running.file("filler");
        let failed = |error| Failure::io(path.display(), error);
        let mut file = File::create(&path).map_err(failed)?;
        let filler = Filler(path.clone());
        let mut size = 1 << 16;
        while size > 0 {
            if file.write_all(&vec![7; size]).is_err() {
                size /= 2;
            }
        }
        chatter(running);
        Ok(Box::new(filler))
    }

    fn is_felt(&self, running: &Running) -> bool {
        lost_lines(running) && (!self.writes || checkpoint_failed(running))
    }

    fn is_over(&self, running: &Running) -> bool {
        !self.writes || !checkpoint_failed(running) && (0.0..4.0).contains(&checkpoint_age(running))
    }
}

/// Nobody reads its log.
#[derive(Debug)]
struct LogHangs;

/// Somebody reads again.
struct ReadAgain(Option<std::io::PipeReader>);

impl Drop for ReadAgain {
    fn drop(&mut self) {
        if let Some(mut log) = self.0.take() {
            // Until the daemon ends.
            std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        }
    }
}

impl Harm for LogHangs {
    fn name(&self) -> String {
        "its log is a pipe that nobody reads".into()
    }

    fn setup(&self) -> Setup<'_> {
        Setup { unread_log: true, ..Setup::default() }
    }

    fn strike(&self, running: &mut Running) -> Result<Box<dyn Any>, Failure> {
        chatter(running);
        Ok(Box::new(ReadAgain(running.log.take())))
    }

    fn is_felt(&self, running: &Running) -> bool {
        lost_lines(running)
    }
}

/// A file that a reload reads does not come.
#[derive(Debug)]
struct ReloadHangs {
    file: &'static str,
}

/// A file that hangs, in the place of another one.
struct Hanging {
    path: PathBuf,
    before: Vec<u8>,
}

impl Hanging {
    fn replace(path: PathBuf) -> Result<Self, Failure> {
        let before = std::fs::read(&path).map_err(|error| Failure::io(path.display(), error))?;
        pipe(&path)?;
        Ok(Self { path, before })
    }
}

impl Drop for Hanging {
    fn drop(&mut self) {
        // Who waits gets the file; who comes later finds it where it was.
        let writer = OpenOptions::new().write(true).custom_flags(NONBLOCK).open(&self.path);
        let draft = self.path.with_extension("again");
        let _ = std::fs::write(&draft, &self.before);
        if let Ok(of_before) = File::open(&draft) {
            let _ = of_before.set_permissions(Permissions::from_mode(0o600));
        }
        let _ = std::fs::rename(&draft, &self.path);
        if let Ok(mut writer) = writer {
            let _ = writer.write_all(&self.before);
        }
    }
}

impl Harm for ReloadHangs {
    fn name(&self) -> String {
        let what = match self.file {
            "digest.key" => "file of digest keys",
            "subject.pem" => "certificate",
            _ => "configuration file",
        };
        format!("reload: the disk of the {what} hangs")
    }

    fn setup(&self) -> Setup<'_> {
        // Without certificates not every daemon reads its configuration again.
        let of_keys = self.file == "digest.key";
        Setup { digest_key: of_keys, tls: !of_keys, ..Setup::default() }
    }

    fn strike(&self, running: &mut Running) -> Result<Box<dyn Any>, Failure> {
        let hanging = Hanging::replace(running.file(self.file))?;
        running.process.signal(Signal::HUP);
        Ok(Box::new(hanging))
    }

    fn is_felt(&self, running: &Running) -> bool {
        // The one by the signal hangs, this one is told so.
        matches!(running.ask(Request::Reload), Err(ClientError::Refused(text)) if text.contains("an earlier reload"))
    }

    fn is_over(&self, running: &Running) -> bool {
        running.ask(Request::Reload).is_ok()
    }
}

/// The checkpoint's disk takes nothing and refuses nothing.
#[derive(Debug)]
struct CheckpointHangs;

/// The other end of the pipe that a checkpoint is written into.
struct Drain(PathBuf);

impl Drop for Drain {
    fn drop(&mut self) {
        // Opening it lets the daemon continue; what it writes there is no file, which it notices by itself.
        let Ok(mut reader) = OpenOptions::new().read(true).custom_flags(NONBLOCK).open(&self.0) else {
            return;
        };
        let (begin, mut bytes) = (Instant::now(), vec![0; 1 << 16]);
        while begin.elapsed() < DRAINED {
            let _ = reader.read(&mut bytes);
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Harm for CheckpointHangs {
    fn name(&self) -> String {
        "the disk of the checkpoint hangs".into()
    }

    fn strike(&self, running: &mut Running) -> Result<Box<dyn Any>, Failure> {
        let path = running.file("table.ckpt.new");
        pipe(&path)?;
        Ok(Box::new(Drain(path)))
    }

    fn is_felt(&self, running: &Running) -> bool {
        // One is written each second otherwise.
        checkpoint_age(running) >= 4.0
    }

    fn is_over(&self, running: &Running) -> bool {
        !checkpoint_failed(running) && (0.0..4.0).contains(&checkpoint_age(running))
    }
}

/// Every file descriptor is in use.
#[derive(Debug)]
struct NoDescriptors;

/// The limit of a process's open files, until this is dropped.
struct Limited {
    process: Pid,
    before: Rlimit,
    _attacks: Vec<Attack>,
}

impl Limited {
    fn set(process: Pid, limit: Rlimit) -> Result<(), Failure> {
        prlimit(Some(process), Resource::Nofile, limit)
            .map(drop)
            .map_err(|error| Failure::io("limit of open files", error.into()))
    }
}

impl Drop for Limited {
    fn drop(&mut self) {
        let _ = Limited::set(self.process, self.before);
    }
}

impl Harm for NoDescriptors {
    fn name(&self) -> String {
        "no file descriptors left (EMFILE)".into()
    }

    fn strike(&self, running: &mut Running) -> Result<Box<dyn Any>, Failure> {
        let number = running.process.pid();
        let process = i32::try_from(number).ok().and_then(Pid::from_raw);
        let process = process.ok_or_else(|| Failure::Missing(format!("process {number}")))?;
        let open = std::fs::read_dir(format!("/proc/{number}/fd")).map_err(|e| Failure::io("/proc", e))?;
        let highest =
            open.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u64>().ok()).max();
        // A few more. The silent ones take these, and the gaps below.
        let current = Some(highest.unwrap_or(0) + 4);
        // It has inherited the hard limit, and raised the soft one to that.
        let maximum = getrlimit(Resource::Nofile).maximum;
        Limited::set(process, Rlimit { current, maximum })?;
        let before = Rlimit { current: maximum, maximum };
        let targets = [Target::Tcp(running.sync), Target::Tcp(running.http), Target::Unix(running.control())];
        let attacks = targets.map(|target| Attack::start(target, How::Silent { connections: 300 }));
        Ok(Box::new(Limited { process, before, _attacks: attacks.into() }))
    }

    fn is_felt(&self, running: &Running) -> bool {
        metric(running.http, "listener_exhausted_total", "") > 0.0
    }
}
