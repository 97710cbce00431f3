//! Colours and the pager: on a terminal only. `script` of util-linux makes one.

#![allow(clippy::unwrap_used, clippy::panic)] // A test may fail where it stands.
use std::path::{Path, PathBuf};
use std::process::Command;

use fibcast_control::interfaces::{Interface, InterfaceList};
use fibcast_control::protocol::{Answer, DataplaneRequest, Request};
use fibcast_daemon::control::ControlServer;

const RED: &str = "\x1b[31mdown\x1b[0m";

fn serve() -> (tempfile::TempDir, PathBuf, ControlServer) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.sock");
    let server = ControlServer::start(&path, |request| match request {
        Request::Dataplane(DataplaneRequest::Interfaces) => Ok(Answer::Interfaces(InterfaceList {
            interfaces: vec![Interface { name: "p0".into(), link_up: Some(false), ..Interface::default() }],
        })),
        other => Err(format!("{other:?}")),
    })
    .unwrap();
    (folder, path, server)
}

/// What is on the terminal; none, with a line that says why, on a machine without `script`.
fn on_terminal(socket: &Path, arguments: &str, variables: &[(&str, &str)]) -> Option<(Option<i32>, String)> {
    let mut command = Command::new("script");
    let asked = format!("{} {arguments}", env!("CARGO_BIN_EXE_fibcast"));
    command.args(["--quiet", "--return", "--command", &asked, "/dev/null"]);
    command.env("FIBCAST_SOCKET", socket).env("TERM", "xterm").env_remove("NO_COLOR").env_remove("LESS");
    // No pager unless a test wants one.
    command.env("PAGER", "cat").envs(variables.iter().copied());
    let output = command.stdin(std::process::Stdio::null()).output();
    let output = output.inspect_err(|error| eprintln!("skipped: script: {error}")).ok()?;
    Some((output.status.code(), String::from_utf8(output.stdout).unwrap()))
}

fn piped(socket: &Path, arguments: &str) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fibcast"));
    command.args(arguments.split(' ')).env("FIBCAST_SOCKET", socket).env("PAGER", "sed s/^/paged/");
    String::from_utf8(command.output().unwrap().stdout).unwrap()
}

#[test]
fn colours_are_on_a_terminal_and_nowhere_else_unless_asked_for() {
    let (_folder, socket, _server) = serve();
    let plain = piped(&socket, "show interfaces");
    assert!(plain.contains("down") && !plain.contains('\x1b') && !plain.contains("paged"), "{plain:?}");
    assert!(piped(&socket, "--color always show interfaces").contains(RED));
    assert!(!piped(&socket, "--color always --json show interfaces").contains('\x1b'));
    let Some((_, text)) = on_terminal(&socket, "show interfaces", &[]) else { return };
    assert!(text.contains(RED), "{text:?}");
    let (_, text) = on_terminal(&socket, "show interfaces", &[("NO_COLOR", "1")]).unwrap();
    assert!(text.contains("down") && !text.contains(RED), "{text:?}");
    let (_, text) = on_terminal(&socket, "--color=never show interfaces", &[]).unwrap();
    assert!(text.contains("down") && !text.contains(RED), "{text:?}");
}

#[test]
fn the_columns_stay_where_they_are_with_colours() {
    let (_folder, socket, _server) = serve();
    let plain = piped(&socket, "show interfaces");
    let colored = piped(&socket, "--color=always show interfaces");
    let without = ["\x1b[1m", "\x1b[31m", "\x1b[32m", "\x1b[33m", "\x1b[0m"];
    let stripped = without.iter().fold(colored, |text, code| text.replace(code, ""));
    assert_eq!(stripped, plain);
}

#[test]
fn pages_go_through_the_pager_on_a_terminal_only() {
    let (_folder, socket, _server) = serve();
    let pager = [("PAGER", "sed s/^/paged/")];
    let Some((code, text)) = on_terminal(&socket, "show interfaces", &pager) else { return };
    assert!(code == Some(0) && text.contains("pagedp0"), "{text:?}");
    for arguments in ["--no-pager show interfaces", "--json show interfaces"] {
        let (_, text) = on_terminal(&socket, arguments, &pager).unwrap();
        assert!(text.contains("p0") && !text.contains("paged"), "{arguments}: {text:?}");
    }
    // A pager that reads nothing is a reader who has seen enough; one that does not exist is named.
    assert_eq!(on_terminal(&socket, "show interfaces", &[("PAGER", "true")]).unwrap().0, Some(0));
    let (code, text) = on_terminal(&socket, "show interfaces", &[("PAGER", "no-such-pager")]).unwrap();
    assert!(code == Some(1) && text.contains("PAGER: cannot run \"no-such-pager\""), "{text:?}");
    // An error is told after the page, and its exit code stays.
    let (code, text) = on_terminal(&socket, "show drops", &pager).unwrap();
    assert!(code == Some(1) && text.contains("fibcast: "), "{text:?}");
}
