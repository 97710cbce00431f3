//! The control socket between a daemon and an operator.

#![allow(clippy::unwrap_used)] // A test may fail where it stands.
use fibcast_control::capture::Captured;
use fibcast_control::client::Connection;
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

#[test]
fn a_capture_that_ends_with_its_connection_is_stopped_once_and_others_are_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.sock");
    let (told, stops) = std::sync::mpsc::channel();
    let _server = ControlServer::start(&path, move |request| match request {
        Request::Dataplane(DataplaneRequest::CaptureStart { port, .. }) => {
            let id = port.unwrap().parse().unwrap();
            Ok(Answer::Captured(Captured { id, ..Captured::default() }))
        }
        Request::Dataplane(DataplaneRequest::CaptureStop { id }) => {
            told.send(id).unwrap();
            Ok(Answer::Captured(Captured::default()))
        }
        other => Err(format!("{other:?}")),
    })
    .unwrap();
    let start = |id: u64, until_closed| {
        let (port, directions, filter) = (Some(id.to_string()), Vec::new(), String::new());
        Request::Dataplane(DataplaneRequest::CaptureStart { port, directions, filter, until_closed })
    };
    let open = || Connection::open(&path, ANSWER_TIMEOUT).unwrap();
    let mut connection = open();
    connection.ask(&start(1, true)).unwrap();
    connection.ask(&start(2, false)).unwrap();
    drop(connection);
    assert_eq!(stops.recv_timeout(ANSWER_TIMEOUT), Ok(1));
    // One that was stopped by its owner is not stopped again.
    let mut connection = open();
    connection.ask(&start(3, true)).unwrap();
    connection.ask(&DataplaneRequest::CaptureStop { id: 3 }.into()).unwrap();
    connection.ask(&start(4, true)).unwrap();
    drop(connection);
    let rest = [stops.recv_timeout(ANSWER_TIMEOUT), stops.recv_timeout(ANSWER_TIMEOUT)];
    assert_eq!(rest, [Ok(3), Ok(4)]);
    assert!(stops.recv_timeout(Duration::from_millis(100)).is_err());
}
