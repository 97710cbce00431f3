//! `docs/json.md` and the JSON of each command say the same: an answer with every documented field comes out as it is documented, and nothing else.

#![allow(clippy::unwrap_used, clippy::panic)] // A test may fail where it stands.
use std::collections::HashMap;
use std::path::Path;
use std::process::Command;

use fibcast_control::kv::KvList;
use fibcast_control::protocol::{Answer, CounterPage, DataplaneRequest, KvRequest, Request};
use fibcast_control::status::Status;
use fibcast_control::tables::RouteList;
use fibcast_daemon::control::ControlServer;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

/// The rows of a section: path and type.
type Rows = Vec<(String, String)>;

/// The sections of the page by their commands.
fn sections() -> HashMap<String, Rows> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/json.md");
    let (mut sections, mut command): (HashMap<String, Rows>, _) = (HashMap::new(), String::new());
    for line in std::fs::read_to_string(path).unwrap().lines() {
        if let Some(heading) = line.strip_prefix("## fibcast ") {
            command = heading.to_owned();
        } else if let Some(row) = line.strip_prefix("| `") {
            let (path, rest) = row.split_once("` | ").unwrap();
            let kind = rest.replace("\\|", "/");
            let kind = kind.split(" | ").next().unwrap().to_owned();
            sections.entry(command.clone()).or_default().push((path.to_owned(), kind));
        }
    }
    sections
}

/// A value of a documented type; `epoch` is an integer for the daemon, and a string for readers.
fn sample(kind: &str, sections: &HashMap<String, Rows>, for_reader: bool) -> Value {
    if let Some(command) = kind.strip_prefix("as in `fibcast ") {
        return object(&sections[command.trim_end_matches('`')], sections, for_reader);
    }
    let base = kind.split(" or ").next().unwrap();
    match base {
        "string" => json!("text"),
        "integer" => json!(7),
        "number" => json!(0.5),
        "boolean" => json!(true),
        "address" => json!("192.0.2.1"),
        "prefix" => json!("192.0.2.0/24"),
        "object" => json!({}),
        "epoch" if for_reader => json!("18446744073709551615"),
        "epoch" => json!(u64::MAX),
        words if words.starts_with('"') => json!(words.split('/').next().unwrap().trim().trim_matches('"')),
        other => panic!("{other:?} is not a documented type"),
    }
}

/// An object with all documented fields.
fn object(rows: &Rows, sections: &HashMap<String, Rows>, for_reader: bool) -> Value {
    let mut root = json!({});
    for (path, kind) in rows {
        // `text` or `hex`.
        if path == "entries[].value.hex" {
            continue;
        }
        let mut place = &mut root;
        for step in path.split('.') {
            let (name, lists) = (step.trim_end_matches("[]"), step.matches("[]").count());
            let fields: &mut Map<String, Value> = place.as_object_mut().unwrap();
            let key = if name == "*" { "some" } else { name };
            place = fields.entry(key).or_insert_with(|| if lists > 0 { json!([{}]) } else { json!({}) });
            if lists > 0 {
                place = &mut place[0];
            }
        }
        *place = sample(kind, sections, for_reader);
    }
    root
}

fn typed<T: DeserializeOwned>(value: &Value) -> T {
    serde_json::from_value(value.clone()).unwrap_or_else(|error| panic!("{error}: {value}"))
}

/// The daemon's answer with all documented fields.
fn answer(request: Request, sections: &HashMap<String, Rows>) -> Result<Answer, String> {
    let of = |command: &str| object(&sections[command], sections, false);
    Ok(match request {
        Request::Status => Answer::Status(typed(&of("show status"))),
        Request::Version => Answer::Version(typed(&of("show version")["versions"][0])),
        Request::Config => Answer::Config(typed(&of("show config"))),
        Request::Routes(_) => Answer::Routes(RouteList {
            total: 1,
            matched: 1,
            routes: vec![typed(&of("show routes"))],
            next: None,
        }),
        Request::Groups => Answer::Groups(typed(&of("show groups"))),
        Request::Kv(KvRequest::List { .. }) => Answer::Kv(typed(&of("kv list"))),
        Request::Resync => Answer::Done("text".into()),
        Request::Dataplane(request) => match request {
            DataplaneRequest::Interfaces => Answer::Interfaces(typed(&of("show interfaces"))),
            DataplaneRequest::NextHops { .. } => Answer::NextHops(typed(&of("show next-hops"))),
            DataplaneRequest::Neighbors => Answer::Neighbors(typed(&of("show neighbors"))),
            DataplaneRequest::SinceClear(CounterPage::Ports) => Answer::Ports(typed(&of("show ports"))),
            DataplaneRequest::SinceClear(CounterPage::Workers) => Answer::Workers(typed(&of("show workers"))),
            DataplaneRequest::SinceClear(CounterPage::Drops) => Answer::Drops(typed(&of("show drops"))),
            DataplaneRequest::Probe(_) => {
                let command = "traceroute 203.0.113.9 --max-ttl 1 --queries 1";
                Answer::Probed(typed(&of(command)["probes"][0]))
            }
            DataplaneRequest::Trace { .. } => Answer::Trace(typed(&of("trace 203.0.113.9"))),
            other => return Err(format!("{other:?}")),
        },
        other => return Err(format!("{other:?}")),
    })
}

fn fibcast(socket: &Path, command: &str) -> Value {
    let mut program = Command::new(env!("CARGO_BIN_EXE_fibcast"));
    program.args(command.split(' ')).arg("--json").env("FIBCAST_SOCKET", socket);
    let output = program.output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text.lines().count(), 1, "{command}: {text} {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_str(&text).unwrap()
}

#[test]
fn each_command_prints_the_documented_fields_and_no_others() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("x.sock");
    let documented = sections();
    let _server = ControlServer::start(&socket, move |request| answer(request, &sections())).unwrap();
    assert!(documented.len() >= 19, "{:?}", documented.keys());
    for (command, rows) in &documented {
        let mut expected = object(rows, &documented, true);
        let found = fibcast(&socket, command);
        match command.as_str() {
            "show servers" => assert_eq!(found, json!([expected]), "{command}"),
            // The list of a status has them, and this page alone the list.
            "show clients" => assert_eq!(found, json!([expected]), "{command}"),
            // The command's own version comes first, with the same fields.
            "show version" => {
                let names = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
                assert_eq!(found["versions"][1], expected["versions"][0], "{command}");
                assert_eq!(names(&found["versions"][0]), names(&expected["versions"][0]));
            }
            command if command.starts_with("ping ") => {
                expected["sequence"] = json!(1);
                assert_eq!(found, expected, "{command}");
            }
            command if command.starts_with("traceroute ") => {
                expected["ttl"] = json!(1);
                assert_eq!(found, expected, "{command}");
            }
            // What is found depends on the machine.
            "doctor" => {
                for finding in found["findings"].as_array().unwrap() {
                    let fields: Vec<&String> = finding.as_object().unwrap().keys().collect();
                    assert_eq!(fields, ["advice", "check", "found", "grade"]);
                }
            }
            "nic list" => {
                for device in found["devices"].as_array().unwrap() {
                    let fields: Vec<&String> = device.as_object().unwrap().keys().collect();
                    let documented: Vec<&String> =
                        expected["devices"][0].as_object().unwrap().keys().collect();
                    assert_eq!(fields, documented);
                }
            }
            // Integers as strings are read by the types of the control protocol as well.
            "show status" => {
                assert_eq!(found, expected, "{command}");
                assert_eq!(typed::<Status>(&found), typed(&object(rows, &documented, false)));
            }
            "kv list" => {
                assert_eq!(found, expected, "{command}");
                assert_eq!(typed::<KvList>(&found), typed(&object(rows, &documented, false)));
            }
            _ => assert_eq!(found, expected, "{command}"),
        }
    }
}
