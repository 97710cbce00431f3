//! `fibcast show version`: this command and each daemon that is asked: the named one, or all that run here.

use std::path::PathBuf;
use std::time::Duration;

use fibcast_control::about::Version;
use fibcast_control::status::Kind;
use fibcast_control::{Answer, ClientError, Request, ask};
use serde::Serialize;

use crate::output::say;
use crate::{json, print};

/// Versions, the command's first.
#[derive(Debug, Serialize)]
pub struct Versions {
    versions: Vec<Version>,
}

/// Asks all daemons and prints the page. One that does not answer is an error after the page.
pub fn run(sockets: &[PathBuf], timeout: Duration, as_json: bool) -> Result<(), String> {
    let mut versions = vec![Version::of_this("fibcast")];
    let mut failed = Vec::new();
    for socket in sockets {
        match of(|request| ask(socket, &request, timeout)) {
            Ok(version) => versions.push(version),
            Err(reason) => failed.push(reason),
        }
    }
    say(&if as_json { json::line(&Versions { versions })? } else { print::versions(&versions) })?;
    if failed.is_empty() { Ok(()) } else { Err(failed.join("; ")) }
}

/// That of one daemon.
fn of(ask: impl Fn(Request) -> Result<Answer, ClientError>) -> Result<Version, String> {
    match ask(Request::Version) {
        Ok(Answer::Version(version)) => Ok(version),
        // A daemon that is older than the request tells its version with its status.
        Err(ClientError::Refused(reason)) => match ask(Request::Status) {
            Ok(Answer::Status(status)) => {
                let program = match status.kind {
                    Kind::RouteServer => "fibcast-route-server",
                    Kind::Agent => "fibcast-agent",
                    Kind::Dataplane => "fibcast-dataplane",
                };
                let (program, node) = (program.to_owned(), Some(status.name));
                Ok(Version { program, node, version: status.version, ..Version::default() })
            }
            _ => Err(reason),
        },
        Ok(_) => Err("the daemon gave another answer than what it was asked for".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}
