//! What harm is done.

use std::any::Any;
use std::fmt::Debug;

use fibcast_testbed::Failure;
use fibcast_testbed::ptrace::{self, StoppedThread};

use crate::subject::Running;

/// A fault.
pub trait Fault: Debug {
    /// What it is, for the table.
    fn name(&self) -> String;

    /// Does the harm, and undoes it when the returned value is dropped.
    ///
    /// # Errors
    /// It cannot be done here.
    fn strike(&self, running: &Running) -> Result<Box<dyn Any>, Failure>;
}

/// A thread is stopped, as in a debugger or in a system call that does not return.
#[derive(Debug)]
pub struct Stop {
    /// Its name in the kernel; `main` for the main thread, whose name unnamed threads have as well.
    pub comm: &'static str,
}

impl Fault for Stop {
    fn name(&self) -> String {
        format!("thread {} stops", self.comm)
    }

    fn strike(&self, running: &Running) -> Result<Box<dyn Any>, Failure> {
        let process = running.process.pid();
        let ids = match self.comm {
            "main" => vec![process as i32],
            name => ptrace::threads(process, name),
        };
        if ids.is_empty() {
            return Err(Failure::Missing(format!("thread {}", self.comm)));
        }
        let stopped: Result<Vec<StoppedThread>, Failure> = ids.into_iter().map(StoppedThread::stop).collect();
        Ok(Box::new(stopped?))
    }
}

/// A thread panics, once.
#[derive(Debug)]
pub struct Panic {
    /// Name of its heartbeat.
    pub thread: &'static str,
}

impl Fault for Panic {
    fn name(&self) -> String {
        format!("thread {} panics", self.thread)
    }

    fn strike(&self, running: &Running) -> Result<Box<dyn Any>, Failure> {
        // Under another name first: the daemon must not read half of it.
        let (draft, file) = (running.panic_file().with_extension("new"), running.panic_file());
        std::fs::write(&draft, self.thread)
            .and_then(|()| std::fs::rename(&draft, &file))
            .map_err(|error| Failure::io(file.display(), error))?;
        Ok(Box::new(()))
    }
}
