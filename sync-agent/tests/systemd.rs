//! What systemd hears of a daemon: started, alive while its threads are, stopping.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::{Duration, Instant};

use fibcast_testbed::ptrace::{self, StoppedThread};
use fibcast_testbed::{Process, process};

/// Generous: the machine may be busy.
const SOON: Duration = Duration::from_secs(30);

struct Supervised {
    process: Process,
    notify: UnixDatagram,
    _folder: tempfile::TempDir,
}

/// Starts an agent under a supervisor that expects a sign of life every two seconds.
fn start(socket: impl FnOnce(&Path) -> (UnixDatagram, String)) -> Supervised {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let (notify, address) = socket(path);
    let file = path.join("agent.toml");
    let [server] = process::free_addresses().unwrap();
    let text = format!(
        "[node]\nname = \"a\"\n[sync]\nservers = [{{ address = \"{server}\", role = \"primary\" }}]\n"
    );
    std::fs::write(&file, text).unwrap();
    let mut command = process::command(env!("CARGO_BIN_EXE_fibcast-agent").as_ref(), None).unwrap();
    command.arg("--config").arg(&file).env("NOTIFY_SOCKET", address).env("WATCHDOG_USEC", "2000000");
    let process = Process::start("agent", command, path).unwrap();
    Supervised { process, notify, _folder: folder }
}

impl Supervised {
    /// The next message within a time.
    fn hear(&self, within: Duration) -> Option<String> {
        self.notify.set_read_timeout(Some(within)).unwrap();
        let mut room = [0; 4096];
        let length = self.notify.recv(&mut room).ok()?;
        Some(String::from_utf8(room[..length].to_vec()).unwrap())
    }

    /// Waits for a message with this line.
    #[track_caller]
    fn expect(&self, line: &str) {
        let until = Instant::now() + SOON;
        while Instant::now() < until {
            if self.hear(SOON).is_some_and(|text| text.lines().any(|found| found == line)) {
                return;
            }
        }
        panic!("no {line}");
    }
}

fn in_folder(folder: &Path) -> (UnixDatagram, String) {
    let path = folder.join("notify");
    (UnixDatagram::bind(&path).unwrap(), path.display().to_string())
}

#[test]
fn a_daemon_tells_its_start_that_it_is_alive_and_its_end() {
    let mut agent = start(in_folder);
    agent.expect("READY=1");
    agent.expect("WATCHDOG=1");
    agent.expect("WATCHDOG=1");
    let status = agent.process.stop();
    assert!(status.is_some_and(|status| status.success()), "{status:?}");
    agent.expect("STOPPING=1");
}

#[test]
fn the_address_may_be_abstract() {
    use std::os::linux::net::SocketAddrExt;
    let agent = start(|folder| {
        let name = format!("fibcast-{}", folder.display());
        let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).unwrap();
        (UnixDatagram::bind_addr(&address).unwrap(), format!("@{name}"))
    });
    agent.expect("READY=1");
}

#[test]
fn the_watchdog_hears_nothing_while_a_thread_is_stalled() {
    let agent = start(in_folder);
    agent.expect("WATCHDOG=1");
    let thread = ptrace::threads(agent.process.pid(), "agent").remove(0);
    let stopped = match StoppedThread::stop(thread) {
        Ok(stopped) => stopped,
        Err(error) => {
            eprintln!("skipped: {error}");
            return;
        }
    };
    // What was sent before the stall was seen; the line about it comes last.
    let until = Instant::now() + SOON;
    while !agent.hear(SOON).unwrap().starts_with("STATUS=thread agent has made no progress") {
        assert!(Instant::now() < until);
    }
    assert_eq!(agent.hear(Duration::from_secs(4)), None);
    drop(stopped);
    agent.expect("STATUS=all threads make progress");
    agent.expect("WATCHDOG=1");
}
