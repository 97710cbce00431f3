//! The command as a user meets it: exit codes and the one line on failure.

#![allow(clippy::unwrap_used)] // A test may fail where it stands.
use fibcast_control::protocol::{Answer, CounterPage, DataplaneRequest, Request};
use fibcast_control::tables::{PortList, RouteList};
use fibcast_daemon::control::ControlServer;
use std::io::{BufRead, BufReader};
use std::process::{Command, Output, Stdio};

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
        Request::Dataplane(DataplaneRequest::SinceClear(CounterPage::Ports)) => {
            Ok(Answer::Ports(PortList::default()))
        }
        Request::Routes(_) => Ok(Answer::Routes(RouteList { total: 3, ..RouteList::default() })),
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

#[test]
fn what_changes_a_daemon_is_asked_for_and_said_in_a_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.sock");
    let _server = ControlServer::start(&path, |request| match request {
        Request::Resync => Ok(Answer::Done("compared".into())),
        Request::Reload => Ok(Answer::Done("read".into())),
        Request::Dataplane(request) => match request {
            DataplaneRequest::RouteAdd(route)
                if route.via.len() == 2 && route.weights == [1, 3] && route.vrf == 7 =>
            {
                Ok(Answer::Done("added".into()))
            }
            DataplaneRequest::RouteAdd(route) if route.save => Ok(Answer::Done("added and saved".into())),
            DataplaneRequest::RouteDelete { vrf: 0, save: false, .. } => Ok(Answer::Done("deleted".into())),
            DataplaneRequest::RouteDelete { vrf: 0, save: true, .. } => Ok(Answer::Done("forgotten".into())),
            DataplaneRequest::NeighborAdd { .. } => Ok(Answer::Done("there".into())),
            DataplaneRequest::NeighborDelete { .. } => Err("port p9: expected the name of a [[port]]".into()),
            other => Err(format!("{other:?}")),
        },
        other => Err(format!("{other:?}")),
    })
    .unwrap();
    let socket = path.to_str().unwrap();
    let run = |arguments: &str| {
        let all: Vec<&str> = ["--socket", socket].into_iter().chain(arguments.split(' ')).collect();
        let output = fibcast(&all);
        (output.status.code(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
    };
    let add = "route add 10.0.0.0/8 --via 192.0.2.7 --via 192.0.2.8 --weights 1,3 --vrf 7";
    assert_eq!(run(add), (Some(0), "added\n".into()));
    assert_eq!(run("route del 10.0.0.0/8"), (Some(0), "deleted\n".into()));
    assert_eq!(run("route add 10.0.0.0/8 via 192.0.2.7 --save").1, "added and saved\n");
    assert_eq!(run("route delete 10.0.0.0/8 --save").1, "forgotten\n");
    assert_eq!(
        run("--json neighbor add p0 192.0.2.7 02:00:00:00:00:07"),
        (Some(0), "{\"done\":\"there\"}\n".into())
    );
    let (code, text) = run("neighbor del p9 192.0.2.7");
    assert!(code == Some(1) && text.contains("expected the name"), "{text}");
    assert_eq!((run("resync").1, run("reload").1), ("compared\n".into(), "read\n".into()));
    let (code, text) = run("route add 10.0.0.1/8 --via 192.0.2.7");
    assert!(code == Some(1) && text.contains("did you mean 10.0.0.0/8"), "{text}");
    assert_eq!(run("route add 10.0.0.0/8").0, Some(2));
    assert_eq!(run("route add 10.0.0.0/8 --via 192.0.2.7 --special blackhole").0, Some(2));
}

#[test]
fn the_doctor_looks_at_this_machine_and_says_what_is_missing() {
    let output = fibcast(&["--socket", "/nonexistent/x.sock", "doctor"]);
    let text = String::from_utf8(output.stdout).unwrap();
    // No daemon is behind that socket.
    assert_eq!(output.status.code(), Some(1), "{text}");
    for what in ["cpu", "hugepages", "clock", "permissions", "daemon"] {
        assert!(text.lines().any(|line| line.split_whitespace().nth(1) == Some(what)), "{what}: {text}");
    }
    let output = fibcast(&["--socket", "/nonexistent/x.sock", "--json", "doctor"]);
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let findings = json["findings"].as_array().unwrap();
    assert!(findings.iter().any(|finding| finding["check"] == "daemon" && finding["grade"] == "bad"));
}

#[test]
fn a_watched_page_comes_again_until_nobody_reads_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.sock");
    let _server = ControlServer::start(&path, |_| Ok(Answer::Ports(PortList::default()))).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_fibcast"));
    command.args(["--json", "show", "ports", "--watch=1"]).env("FIBCAST_SOCKET", &path);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = || lines.next().unwrap().unwrap();
    assert_eq!([next(), next(), next()], ["{\"ports\":[]}", "", "{\"ports\":[]}"]);
    drop(lines);
    assert!(child.wait().unwrap().success());
}
