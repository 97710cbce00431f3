//! One of our daemons, with a configuration file and a control socket in a folder.

use std::path::{Path, PathBuf};
use std::time::Duration;

use fibcast_control::status::Status;
use fibcast_control::{Answer, ClientError, Request, ask};

use crate::process::command;
use crate::wait::until;
use crate::{Failure, Process};

/// How long a daemon may take to answer after its start.
const START: Duration = Duration::from_secs(60);
/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(20);

/// A daemon that was started.
#[derive(Debug)]
pub struct Node {
    /// The program.
    pub process: Process,
    socket: PathBuf,
    name: String,
}

impl Node {
    /// Starts a program of ours with `NAME.toml` of a folder, which says that its control socket is `NAME.sock` there; in a network
    /// namespace where one is named.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(
        program: &Path,
        name: &str,
        folder: &Path,
        namespace: Option<&str>,
    ) -> Result<Node, Failure> {
        let mut command = command(program, namespace)?;
        command.arg("--config").arg(folder.join(format!("{name}.toml")));
        let process = Process::start(name, command, folder)?;
        Ok(Node { process, socket: folder.join(format!("{name}.sock")), name: name.to_owned() })
    }

    /// The same, and waits until it answers.
    ///
    /// # Errors
    /// It ends, or does not answer in time.
    pub fn ready(
        program: &Path,
        name: &str,
        folder: &Path,
        namespace: Option<&str>,
    ) -> Result<Node, Failure> {
        let mut node = Node::start(program, name, folder, namespace)?;
        until(&format!("{name} answers"), START, || {
            node.process.check()?;
            Ok::<_, Failure>(node.status().is_some())
        })?;
        Ok(node)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its control socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Asks over the control socket.
    ///
    /// # Errors
    /// It does not answer, or refuses.
    pub fn ask(&self, request: impl Into<Request>) -> Result<Answer, ClientError> {
        ask(&self.socket, &request.into(), ANSWER)
    }

    /// Its status; none: it does not answer.
    pub fn status(&self) -> Option<Status> {
        match self.ask(Request::Status) {
            Ok(Answer::Status(status)) => Some(*status),
            _ => None,
        }
    }
}
