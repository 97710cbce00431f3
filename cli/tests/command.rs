//! The command as a user meets it: exit codes and the one line on failure.

#![allow(clippy::unwrap_used)] // A test may fail where it stands.
use fibcast_control::protocol::{Answer, Request};
use fibcast_control::server::ControlServer;
use fibcast_control::tables::{PortList, RouteList};
use std::process::{Command, Output};

fn fibcast(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_fibcast")).args(arguments).output().unwrap()
}

#[test]
fn a_daemon_that_is_not_there_is_one_line_and_exit_code_1() {
    let output = fibcast(&["--socket", "/nonexistent/rs.sock", "show", "status"]);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.starts_with("fibcast: /nonexistent/rs.sock: no daemon answers there"), "{text}");
    assert_eq!(text.lines().count(), 1);
    assert!(output.stdout.is_empty());
}

#[test]
fn a_wrong_command_line_is_exit_code_2() {
    assert_eq!(fibcast(&["show", "everything"]).status.code(), Some(2));
    let output = fibcast(&["show", "routes", "10.0.0.1/8"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8(output.stderr).unwrap().contains("did you mean 10.0.0.0/8"));
}

#[test]
fn json_is_one_object_and_a_refusal_is_exit_code_1() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.sock");
    let _server = ControlServer::start(&path, |request| match request {
        Request::Ports {} => Ok(Answer::Ports(PortList::default())),
        Request::Routes { .. } => Ok(Answer::Routes(RouteList { total: 3, routes: vec![] })),
        _ => Err("a route server has no workers".into()),
    })
    .unwrap();
    let socket = path.to_str().unwrap();
    let output = fibcast(&["--socket", socket, "--json", "show", "ports"]);
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(0), b"{\"ports\":[]}\n".as_slice()));
    let output = fibcast(&["--socket", socket, "show", "routes"]);
    assert!(String::from_utf8(output.stdout).unwrap().contains("0 shown, 3 in the table"));
    let output = fibcast(&["--socket", socket, "show", "workers"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "fibcast: a route server has no workers\n");
}
