//! The control socket between a daemon and an operator.

#![allow(clippy::unwrap_used)] // A test may fail where it stands.
use fibcast_control::protocol::{Answer, DataplaneRequest, Request};
use fibcast_control::tables::DropList;
use fibcast_control::{ClientError, ask};
use fibcast_daemon::control::{ControlServer, ServerError};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Duration;

const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

fn drops_only(request: Request) -> Result<Answer, String> {
    match request {
        Request::Dataplane(DataplaneRequest::Drops) => {
            Ok(Answer::Drops(DropList { received: 7, ..DropList::default() }))
        }
        other => Err(format!("this daemon has none of {other:?}")),
    }
}

#[test]
fn a_request_is_answered_and_a_refusal_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("new/folder/x.sock");
    let server = ControlServer::start(&path, drops_only).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let Answer::Drops(drops) = ask(&path, &DataplaneRequest::Drops.into(), ANSWER_TIMEOUT).unwrap() else {
        panic!("another answer")
    };
    assert_eq!(drops.received, 7);
    let refused = ask(&path, &DataplaneRequest::Ports.into(), ANSWER_TIMEOUT).unwrap_err();
    assert!(matches!(&refused, ClientError::Refused(text) if text.contains("Ports")), "{refused}");
    drop(server);
    assert!(!path.exists());
}

#[test]
fn no_daemon_is_one_clear_line() {
    let error = ask("/nonexistent/x.sock".as_ref(), &Request::Status, ANSWER_TIMEOUT).unwrap_err();
    assert!(error.to_string().starts_with("/nonexistent/x.sock: no daemon answers there"), "{error}");
}

#[test]
fn a_socket_in_use_is_refused_and_a_dead_one_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.sock");
    let first = ControlServer::start(&path, drops_only).unwrap();
    assert!(matches!(ControlServer::start(&path, drops_only), Err(ServerError::InUse(_))));
    drop(first);
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists(), "the dead daemon's socket is still there");
    ControlServer::start(&path, drops_only).unwrap();
}

#[test]
fn a_file_in_the_way_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.sock");
    std::fs::write(&path, "precious").unwrap();
    assert!(matches!(ControlServer::start(&path, drops_only), Err(ServerError::NotASocket(_))));
    assert_eq!(std::fs::read(&path).unwrap(), b"precious");
}

#[test]
fn garbage_gets_an_error_and_the_next_request_an_answer() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.sock");
    let _server = ControlServer::start(&path, drops_only).unwrap();
    let mut stream = UnixStream::connect(&path).unwrap();
    stream.write_all(b"\xff\xfe what?\n{\"dataplane\":\"drops\"}\n").unwrap();
    let mut lines = BufReader::new(stream).lines();
    assert!(lines.next().unwrap().unwrap().contains("not a request"));
    assert!(lines.next().unwrap().unwrap().contains("\"received\":7"));
}
