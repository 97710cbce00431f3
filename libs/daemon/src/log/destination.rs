//! Where the lines of the log end: standard error, journald, or a file. Only the log's thread writes.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::io::Errno;

/// Pause before standard error is tried again, if somebody made it non-blocking.
const FULL: Duration = Duration::from_millis(20);
/// Socket of journald's own protocol (systemd.journal-fields(7), `systemd-journald.service(8)`).
const JOURNAL: &str = "/run/systemd/journal/socket";

/// Writes all of it to standard error, however long that takes. False if it is gone.
pub(super) fn write_stderr(mut bytes: &[u8]) -> bool {
    while !bytes.is_empty() {
        match rustix::io::write(rustix::stdio::stderr(), bytes) {
            Ok(0) => return false,
            Ok(n) => bytes = bytes.get(n..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => std::thread::sleep(FULL),
            Err(_) => return false,
        }
    }
    true
}

/// A connection to journald.
pub(super) struct Journal {
    socket: UnixDatagram,
    /// SYSLOG_IDENTIFIER, the program's name.
    name: String,
}

impl Journal {
    /// The journal of this machine.
    pub fn open() -> io::Result<Self> {
        Self::at(Path::new(JOURNAL))
    }

    fn at(path: &Path) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.connect(path)?;
        let program = std::env::current_exe().ok();
        let name = program.as_deref().and_then(Path::file_name).and_then(|name| name.to_str());
        Ok(Self { socket, name: name.unwrap_or("fibcast").to_owned() })
    }

    /// Sends each line, which begins with its priority as in sd-daemon(3). False if one was lost.
    pub fn write(&self, lines: &[u8]) -> bool {
        let mut fine = true;
        for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let (priority, text) = match line {
                [b'<', priority @ b'0'..=b'7', b'>', text @ ..] => (*priority, text),
                text => (b'6', text),
            };
            let head =
                format!("SYSLOG_IDENTIFIER={}\nPRIORITY={}\nMESSAGE=", self.name, char::from(priority));
            fine &= self.socket.send(&[head.as_bytes(), text, b"\n"].concat()).is_ok();
        }
        fine
    }
}

/// A file that others may rename and remove.
pub(super) struct LogFile {
    path: PathBuf,
    file: Option<File>,
}

impl LogFile {
    /// Opens or creates it, and its folder.
    pub fn open(path: &Path) -> io::Result<Self> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        Ok(Self { path: path.to_owned(), file: Some(append(path)?) })
    }

    /// Appends. False if the lines are lost.
    pub fn write(&mut self, lines: &[u8]) -> bool {
        let identity = |found: std::fs::Metadata| (found.dev(), found.ino());
        let opened = self.file.as_ref().and_then(|file| file.metadata().ok()).map(identity);
        let named = std::fs::metadata(&self.path).ok().map(identity);
        if opened.is_none() || opened != named {
            self.file = append(&self.path).ok();
        }
        self.file.as_mut().is_some_and(|file| file.write_all(lines).is_ok())
    }
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o640).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_was_renamed_is_opened_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log/a.log");
        let mut log = LogFile::open(&path).unwrap();
        assert!(log.write(b"one\n"));
        std::fs::rename(&path, folder.path().join("a.log.1")).unwrap();
        assert!(log.write(b"two\n"));
        assert_eq!(std::fs::read(folder.path().join("a.log.1")).unwrap(), b"one\n");
        assert_eq!(std::fs::read(&path).unwrap(), b"two\n");
    }

    #[test]
    fn journald_gets_each_line_with_its_priority() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let journal = UnixDatagram::bind(&path).unwrap();
        assert!(Journal::at(&path).unwrap().write(b"<3>broken\nplain\n"));
        let mut entries = Vec::new();
        for _ in 0..2 {
            let mut entry = [0; 512];
            let length = journal.recv(&mut entry).unwrap();
            entries.push(String::from_utf8_lossy(&entry[..length]).into_owned());
        }
        assert!(entries[0].ends_with("\nPRIORITY=3\nMESSAGE=broken\n"), "{entries:?}");
        assert!(entries[1].ends_with("\nPRIORITY=6\nMESSAGE=plain\n"), "{entries:?}");
        drop(journal);
        assert!(!Journal::at(&path).is_ok_and(|journal| journal.write(b"x\n")));
    }
}
