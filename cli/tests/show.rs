//! What is shown of versions, configurations, interfaces and next hops, and cleared, as a user asks for it.

#![allow(clippy::unwrap_used, clippy::panic)] // A test may fail where it stands.
use std::path::Path;
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};

use fibcast_control::about::{RunningConfig, Version};
use fibcast_control::interfaces::{Interface, InterfaceList, NextHopEntry, NextHopList};
use fibcast_control::protocol::{Answer, CounterPage, DataplaneRequest, Request};
use fibcast_control::status::Status;
use fibcast_control::tables::DropList;
use fibcast_daemon::control::ControlServer;

fn fibcast(socket: &Path, arguments: &str) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fibcast"));
    let Output { status, stdout, stderr } =
        command.args(arguments.split(' ')).env("FIBCAST_SOCKET", socket).output().unwrap();
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

fn serve(
    handler: impl Fn(Request) -> Result<Answer, String> + Send + Sync + 'static,
) -> (tempfile::TempDir, std::path::PathBuf, ControlServer) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.sock");
    let server = ControlServer::start(&path, handler).unwrap();
    (folder, path, server)
}

#[test]
fn versions_are_those_of_the_command_and_of_the_daemon() {
    let (_folder, socket, _server) = serve(|request| match request {
        Request::Version => Ok(Answer::Version(Version {
            program: "fibcast-dataplane".into(),
            node: Some("nh-1".into()),
            version: "9.8.7".into(),
            libraries: vec!["DPDK 24.11.2".into()],
            ..Version::default()
        })),
        other => Err(format!("{other:?}")),
    });
    let (code, text, _) = fibcast(&socket, "show version");
    assert_eq!(code, Some(0));
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[1][..3], ["fibcast", "-", env!("CARGO_PKG_VERSION")], "{text}");
    assert_eq!(lines[2], ["fibcast-dataplane", "nh-1", "9.8.7", "-", "-", "-", "-", "DPDK", "24.11.2"]);
    let (_, text, _) = fibcast(&socket, "--json show version");
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(json["versions"][1]["version"], "9.8.7");
    // No daemon there: the command's version all the same, and an error.
    let (code, text, error) = fibcast("/nonexistent/x.sock".as_ref(), "show version");
    assert!(code == Some(1) && text.lines().count() == 2, "{text}");
    assert!(error.contains("no daemon answers there"), "{error}");
}

#[test]
fn a_daemon_that_is_older_than_the_question_tells_its_version_by_its_status() {
    let status = r#"{"name":"rs-a","kind":"route-server","version":"0.0.9","pid":1,"uptime_ms":1,"resident_bytes":1,
        "ready":true,"stale":false,"table":{"epoch":1,"serial":1,"ipv4_routes":0,"ipv6_routes":0,"groups":0,"records":0,
        "digest":"","changes":0}}"#;
    let status: Status = serde_json::from_str(status).unwrap();
    let (_folder, socket, _server) = serve(move |request| match request {
        Request::Status => Ok(Answer::Status(Box::new(status.clone()))),
        _ => Err("not a request that this version understands".into()),
    });
    let (code, text, _) = fibcast(&socket, "show version");
    assert_eq!(code, Some(0));
    let last: Vec<&str> = text.lines().last().unwrap().split_whitespace().collect();
    assert_eq!(last[..3], ["fibcast-route-server", "rs-a", "0.0.9"]);
}

#[test]
fn a_configuration_is_toml_and_with_json_an_object() {
    let config = RunningConfig {
        path: "/etc/fibcast/agent.toml".into(),
        toml: "[node]\nname = \"a\"\n".into(),
        config: serde_json::json!({"node": {"name": "a"}}),
        ..RunningConfig::default()
    };
    let (_folder, socket, _server) = serve(move |request| match request {
        Request::Config => Ok(Answer::Config(Box::new(config.clone()))),
        other => Err(format!("{other:?}")),
    });
    let (_, text, _) = fibcast(&socket, "show config");
    assert_eq!(text, "# /etc/fibcast/agent.toml\n[node]\nname = \"a\"\n");
    let (_, text, _) = fibcast(&socket, "--json show running-config");
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(json["config"]["node"]["name"], "a");
}

#[test]
fn interfaces_and_next_hops_are_asked_for_and_listed() {
    let (_folder, socket, _server) = serve(|request| match request {
        Request::Dataplane(DataplaneRequest::Interfaces) => Ok(Answer::Interfaces(InterfaceList {
            interfaces: vec![Interface { name: "p0".into(), link_up: Some(true), ..Interface::default() }],
        })),
        Request::Dataplane(DataplaneRequest::NextHops { unresolved }) => {
            let gateway = if unresolved { "10.0.0.9" } else { "10.0.0.1" }.parse().ok();
            let hop = NextHopEntry { gateway, resolved: !unresolved, ..NextHopEntry::default() };
            Ok(Answer::NextHops(NextHopList { next_hops: vec![hop] }))
        }
        other => Err(format!("{other:?}")),
    });
    let (code, text, _) = fibcast(&socket, "show interfaces");
    assert!(code == Some(0) && text.lines().nth(1).unwrap().starts_with("p0         up"), "{text}");
    assert!(fibcast(&socket, "show next-hops").1.ends_with("1 next hops, 0 unresolved\n"));
    let (_, text, _) = fibcast(&socket, "show next-hops --unresolved");
    assert!(text.contains("10.0.0.9") && text.ends_with("1 next hops, 1 unresolved\n"), "{text}");
}

#[test]
fn counters_are_cleared_and_shown_since_then() {
    let cleared = Arc::new(Mutex::new(false));
    let (_folder, socket, _server) = serve(move |request| {
        let mut cleared = cleared.lock().unwrap();
        match request {
            Request::Dataplane(DataplaneRequest::ClearCounters) => {
                *cleared = true;
                Ok(Answer::Done("cleared".into()))
            }
            Request::Dataplane(DataplaneRequest::SinceClear(CounterPage::Drops)) => {
                let cleared_age_ms = cleared.then_some(2_500);
                Ok(Answer::Drops(DropList { cleared_age_ms, ..DropList::default() }))
            }
            other => Err(format!("{other:?}")),
        }
    });
    let note = "counted since the counters were cleared, 2 s ago";
    assert!(!fibcast(&socket, "show drops").1.contains(note));
    assert_eq!(fibcast(&socket, "clear counters").1, "cleared\n");
    let (_, text, _) = fibcast(&socket, "show drops");
    assert!(text.contains(note), "{text}");
    let help = fibcast(&socket, "clear counters --help").1;
    assert!(help.contains("Prometheus"), "{help}");
}
