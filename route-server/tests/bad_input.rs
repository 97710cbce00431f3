//! What is wrong from the start ends the server with one clear line and the right exit code.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, also in its helpers")]

mod common;

use std::net::TcpListener;

use common::{Folder, command, free_addresses, mrt_table, run};

/// The one line that is not log.
fn complaint(text: &str) -> String {
    let lines: Vec<&str> = text.lines().filter(|l| l.starts_with("fibcast-route-server: ")).collect();
    assert_eq!(lines.len(), 1, "{text}");
    lines[0].trim_start_matches("fibcast-route-server: ").to_owned()
}

/// Starts a server with this configuration: exit code and complaint, the folder's path taken out.
fn refused(folder: &Folder, more: &str) -> (i32, String) {
    let config = folder.config("rs", None, more);
    let (code, text) = run(command(&config));
    let root = format!("{}/", folder.path("x").parent().unwrap().display());
    (code, complaint(&text).replace(&root, ""))
}

#[test]
fn a_wrong_key_and_a_wrong_type_name_file_line_and_key() {
    let folder = Folder::new();
    let (code, text) = refused(&folder, "colour = 1\n");
    assert_eq!(code, 2);
    assert!(text.starts_with("rs.toml:4: node.colour: unknown field"), "{text}");
    let (code, text) = refused(&folder, "[rib]\norigin_hold_ms = \"long\"\n");
    assert_eq!(code, 2);
    assert!(text.starts_with("rs.toml:5: rib.origin_hold_ms: invalid type"), "{text}");
}

#[test]
fn check_config_starts_nothing_and_finds_a_missing_file() {
    let folder = Folder::new();
    let good = folder.config("rs", None, "");
    assert_eq!(
        run({
            let mut c = command(&good);
            c.arg("--check-config");
            c
        }),
        (0, String::new())
    );
    let bad = folder.config(
        "rs",
        None,
        "[[source]]\norigin = \"bgp\"\nkind = \"mrt\"\npath = \"/nonexistent.mrt\"\n",
    );
    let (code, text) = run({
        let mut c = command(&bad);
        c.arg("--check-config");
        c
    });
    assert_eq!(code, 2);
    assert!(text.contains("rs.toml:7: source[0].path: /nonexistent.mrt: No such file"), "{text}");
}

#[test]
fn check_config_reads_the_files_of_routes_and_says_what_they_hold() {
    let folder = Folder::new();
    folder.write("table.mrt", mrt_table(&[("10.0.0.0/8", "192.0.2.1"), ("10.1.0.0/16", "192.0.2.1")]));
    let routes = folder.write("routes", "192.0.2.0/24 blackhole\n");
    let own = format!("[[source]]\norigin = \"own\"\nkind = \"static\"\npath = {routes:?}\n");
    let check = |more: &str| {
        let config = folder.config("rs", None, more);
        let output = command(&config).arg("--check-config").output().unwrap();
        let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        let code = output.status.code().unwrap();
        (code, text.replace(&format!("{}/", config.parent().unwrap().display()), ""))
    };
    let (code, text) = check(&format!("{}{own}", mrt_source(&folder)));
    assert_eq!(code, 0, "{text}");
    let lines: Vec<&str> = text.lines().collect();
    assert!(
        lines[0].starts_with("source \"bgp\": table.mrt: 2 prefixes in 3 records of the peers "),
        "{text}"
    );
    assert_eq!(lines[1], "source \"own\": routes: 1 routes");

    let (code, text) = check(&format!("{}peer = \"192.0.2.99\"\n", mrt_source(&folder)));
    assert_eq!(code, 2);
    assert!(
        text.contains("rs.toml:7: source[0].path: table.mrt: expected routes of peer 192.0.2.99"),
        "{text}"
    );
    folder.write("routes", "10.0.0.0/8 via somewhere\n");
    let (code, text) = check(&own);
    assert_eq!(code, 2);
    assert!(text.contains("rs.toml:7: source[0].path: routes:1: expected the address"), "{text}");
}

#[test]
fn check_config_warns_of_certificates_that_expire_and_refuses_those_that_have() {
    let program = env!("CARGO_BIN_EXE_fibcast-route-server");
    fibcast_testbed::expiry::check_config_tells_what_expires(program.as_ref(), "");
}

#[test]
fn a_missing_configuration_is_named() {
    let (code, text) = run(command("/nonexistent.toml".as_ref()));
    assert_eq!(code, 2);
    assert!(complaint(&text).starts_with("/nonexistent.toml: cannot read the configuration"), "{text}");
}

#[test]
fn a_port_for_zebra_that_is_taken_ends_the_server_and_names_it() {
    let folder = Folder::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = taken.local_addr().unwrap();
    let source = format!("[[source]]\norigin = \"bgp\"\nkind = \"fpm\"\nlisten = \"{listen}\"\n");
    let (code, text) = refused(&folder, &source);
    assert_eq!(code, 1);
    assert!(text.contains("\"bgp\"") && text.contains(&format!("cannot listen on {listen}")), "{text}");
}

fn mrt_source(folder: &Folder) -> String {
    format!("[[source]]\norigin = \"bgp\"\nkind = \"mrt\"\npath = {:?}\n", folder.path("table.mrt"))
}

#[test]
fn a_truncated_table_is_a_failure_of_its_source_alone_with_file_and_byte() {
    let folder = Folder::new();
    let table = mrt_table(&[("10.0.0.0/8", "192.0.2.1"), ("10.1.0.0/16", "192.0.2.1")]);
    folder.write("table.mrt", &table[..table.len() - 4]);
    let routes = folder.write("routes", "10.0.0.0/8 via 192.0.2.9\n");
    let good = format!("[[source]]\norigin = \"static\"\nkind = \"static\"\npath = {routes:?}\n");
    folder.config("rs", None, &(mrt_source(&folder) + &good));
    let server = common::Server::start(&folder, "rs");
    let status = server.until("the source has failed", |status| status.sources[0].state == "failed");
    let error = status.sources[0].last_error.clone().unwrap();
    assert!(
        error.contains("table.mrt: record 3, at byte ") && error.contains("the file is truncated: expected "),
        "{error}"
    );
    assert!(!status.ready, "its table is incomplete");
    server.until("the other source continues", |status| status.sources[1].end_of_table);
    assert!(
        server.routes().contains(&"10.0.0.0/8 via 192.0.2.9 of static".to_owned()),
        "{:?}",
        server.routes()
    );
}

#[test]
fn a_table_that_is_no_mrt_is_refused_with_what_was_expected() {
    let folder = Folder::new();
    folder.write("table.mrt", "this is no routing table, whatever its name may be");
    let (code, text) = refused(&folder, &mrt_source(&folder));
    assert_eq!(code, 2);
    assert!(
        text.starts_with(
            "rs.toml:7: source[0].path: table.mrt: record 1, at byte 8: expected an MRT record length"
        ),
        "{text}"
    );
}

#[test]
fn a_wrong_line_among_static_routes_is_refused_with_its_number() {
    let folder = Folder::new();
    let routes = folder.write("routes", "10.0.0.0/8 via 192.0.2.1\n10.0.0.0/8 via somewhere\n");
    let source = format!("[[source]]\norigin = \"static\"\nkind = \"static\"\npath = {routes:?}\n");
    let (code, text) = refused(&folder, &source);
    assert_eq!(code, 2);
    let expected =
        "rs.toml:7: source[0].path: routes:2: expected the address of a next hop, found \"somewhere\"";
    assert_eq!(text, expected);
}

#[test]
fn a_port_in_use_is_named() {
    let folder = Folder::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let config = folder.config("rs", Some(address), "");
    let (code, text) = run(command(&config));
    assert_eq!(code, 1);
    assert!(complaint(&text).contains(&address.to_string()), "{text}");
}

#[test]
fn a_control_socket_in_use_is_named_and_left_alone() {
    let folder = Folder::new();
    let [address] = free_addresses();
    folder.config("rs", Some(address), "");
    let mut first = common::Server::start(&folder, "rs");
    first.until("the first server answers", |_| true);
    let second =
        folder.write("second.toml", format!("[node]\nname = \"second\"\ncontrol = {:?}\n", first.socket));
    let (code, text) = run(command(&second));
    assert_eq!(code, 1);
    assert!(complaint(&text).contains("another daemon is already listening there"), "{text}");
    assert!(first.status().is_some());
    assert_eq!(first.stop(), 0);
    assert!(!first.socket.exists());
}
