//! A changed file at a real server: rules and files of sources are taken over at work, whole or not at all, by the command and by SIGHUP.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, also in its helpers")]

mod common;

use std::net::SocketAddr;
use std::process::Command;

use common::{Folder, Server, free_addresses, mrt_table};
use fibcast_control::status::SourceStatus;
use fibcast_control::{Answer, Request};

/// A server whose file and routes change.
struct Reloaded {
    folder: Folder,
    server: Server,
    listen: SocketAddr,
}

impl Reloaded {
    fn start(more: &str, routes: &str) -> Self {
        let folder = Folder::new();
        let [listen] = free_addresses();
        folder.write("own.routes", routes);
        folder.config("rs", Some(listen), &Self::text(&folder, more));
        let server = Server::start(&folder, "rs");
        server.until("ready", |status| status.ready);
        Self { folder, server, listen }
    }

    fn text(folder: &Folder, more: &str) -> String {
        let path = folder.path("own.routes");
        format!(
            "[rib]\nready_timeout_ms = 5000\n[[source]]\norigin = \"own\"\nkind = \"static\"\npath = {path:?}\n{more}"
        )
    }

    fn write(&self, more: &str) {
        self.folder.config("rs", Some(self.listen), &Self::text(&self.folder, more));
    }

    /// The answer to the command, with the folder's path taken out.
    fn reload(&self) -> Result<String, String> {
        let plain = |text: String| {
            text.replace(&format!("{}/", self.folder.path("x").parent().unwrap().display()), "")
        };
        match self.server.node.ask(Request::Reload) {
            Ok(Answer::Done(text)) => Ok(plain(text)),
            Ok(other) => panic!("{other:?}"),
            Err(error) => Err(plain(error.to_string())),
        }
    }

    fn prefixes(&self) -> Vec<String> {
        self.server.routes().iter().map(|route| route.split(' ').next().unwrap().to_owned()).collect()
    }

    fn until(&self, prefixes: &[&str]) {
        self.server.until(&format!("{prefixes:?}"), |_| self.prefixes() == prefixes);
    }

    fn source(&self, origin: &str) -> SourceStatus {
        self.server.status().unwrap().sources.into_iter().find(|source| source.origin == origin).unwrap()
    }

    fn serial(&self) -> u64 {
        self.server.status().unwrap().table.serial
    }
}

const THREE: &str = "10.0.0.0/8 via 192.0.2.1\n10.1.0.0/16 via 192.0.2.1\n10.2.0.0/16 blackhole\n";

#[test]
fn a_changed_file_of_routes_is_taken_over_and_what_stays_the_same_is_no_change() {
    let rs = Reloaded::start("", THREE);
    rs.until(&["10.0.0.0/8", "10.1.0.0/16", "10.2.0.0/16"]);
    let before = rs.serial();
    assert_eq!(rs.reload().unwrap(), "");
    // The same routes in other words, in another order.
    let mut lines: Vec<&str> = THREE.lines().collect();
    lines.reverse();
    rs.folder.write("own.routes", lines.join("\n"));
    assert_eq!(rs.reload().unwrap(), "source \"own\": own.routes: 3 routes");
    rs.server.until("read", |status| status.sources[0].state == "finished");
    assert_eq!(rs.serial(), before);
    rs.folder.write(
        "own.routes",
        "10.0.0.0/8 via 192.0.2.1\n10.1.0.0/16 via 192.0.2.9\n10.3.0.0/16 via 192.0.2.1\n",
    );
    rs.reload().unwrap();
    rs.until(&["10.0.0.0/8", "10.1.0.0/16", "10.3.0.0/16"]);
    assert!(rs.server.routes()[1].contains("192.0.2.9"));
    assert!(rs.server.status().unwrap().ready);
}

#[test]
fn filters_limits_and_distances_are_taken_over_and_told_by_line_and_key() {
    let rs = Reloaded::start("", THREE);
    rs.write("filter = [{ action = \"deny\", prefix = \"10.1.0.0/16\" }]\n");
    let text = rs.reload().unwrap();
    assert_eq!(text, "rs.toml:11: source[0].filter: changed\nsource \"own\": own.routes: 3 routes");
    rs.until(&["10.0.0.0/8", "10.2.0.0/16"]);
    // One route too many: it is stopped, and keeps what it had and what it has told.
    rs.write("max_prefixes = 2\n");
    rs.reload().unwrap();
    rs.server.until("stopped", |status| status.sources[0].state == "stopped");
    assert_eq!(rs.prefixes(), ["10.0.0.0/8", "10.1.0.0/16", "10.2.0.0/16"]);
    // A higher limit starts it again, and so does a file with fewer routes.
    rs.write("max_prefixes = 3\ndistance = 9\n");
    rs.reload().unwrap();
    rs.until(&["10.0.0.0/8", "10.1.0.0/16", "10.2.0.0/16"]);
    rs.folder.write("own.routes", format!("{THREE}10.4.0.0/16 blackhole\n"));
    rs.reload().unwrap();
    rs.server.until("stopped again", |status| status.sources[0].state == "stopped");
    rs.folder.write("own.routes", "10.4.0.0/16 blackhole\n");
    rs.reload().unwrap();
    rs.until(&["10.4.0.0/16"]);
    assert_eq!(rs.source("own").state, "finished");
}

#[test]
fn a_reload_is_whole_or_nothing() {
    let folder = Folder::new();
    let more = |path: &str| {
        let path = folder.path(path);
        format!("[[source]]\norigin = \"more\"\nkind = \"static\"\npath = {path:?}\n")
    };
    folder.write("bad.routes", "10.9.0.0/16 blackhole\nrubbish\n");
    folder.write("good.routes", "10.9.0.0/16 blackhole\n");
    let rs = Reloaded::start("", THREE);
    let before = rs.serial();
    rs.folder.write("own.routes", "10.8.0.0/16 blackhole\n");
    // The first file is fine; the second has a wrong line, or a key needs a restart.
    rs.write(&more("bad.routes"));
    let error = rs.reload().unwrap_err();
    assert!(error.starts_with("nothing has changed: rs.toml:14: source[1].path: "), "{error}");
    assert!(error.contains("bad.routes:2: expected a prefix"), "{error}");
    for (line, expected) in [
        ("[[peer]]\naddress = \"127.0.0.1:9\"\n", "rs.toml:11: peer needs a restart"),
        ("[limits]\nhalf_open = 7\n", "rs.toml:11: limits needs a restart"),
        ("colour = 1\n", "rs.toml:11: source[0].colour: unknown field"),
        (
            "[acknowledge]\n[sync]\nheartbeat_ms = 100\n",
            "these changes need a restart: rs.toml:12: sync, rs.toml:11: acknowledge",
        ),
    ] {
        rs.write(line);
        let error = rs.reload().unwrap_err();
        assert!(error.starts_with(&format!("nothing has changed: {expected}")), "{error}");
    }
    assert_eq!((rs.serial(), rs.prefixes().len()), (before, 3));
    rs.folder.write("own.routes", THREE);
    rs.write(&more("good.routes"));
    rs.reload().unwrap();
    rs.until(&["10.0.0.0/8", "10.1.0.0/16", "10.2.0.0/16", "10.9.0.0/16"]);
    assert_eq!(rs.source("more").state, "finished");
    rs.write("");
    let text = rs.reload().unwrap();
    assert!(text.contains("source \"more\": removed, its routes are withdrawn"), "{text}");
    rs.until(&["10.0.0.0/8", "10.1.0.0/16", "10.2.0.0/16"]);
    assert_eq!(rs.server.status().unwrap().sources.len(), 1);
}

#[test]
fn sighup_does_what_the_command_does_and_logs_it() {
    let mut rs = Reloaded::start("", THREE);
    let hang_up = || {
        let pid = rs.server.node.process.pid().to_string();
        assert!(Command::new("kill").args(["-HUP", &pid]).status().unwrap().success());
    };
    rs.folder.write("own.routes", "10.5.0.0/16 blackhole\n");
    hang_up();
    rs.until(&["10.5.0.0/16"]);
    rs.folder.write("own.routes", "rubbish\n");
    hang_up();
    rs.folder.write("own.routes", "10.6.0.0/16 blackhole\n");
    std::thread::sleep(std::time::Duration::from_millis(200));
    hang_up();
    rs.until(&["10.6.0.0/16"]);
    assert_eq!(rs.server.stop(), 0);
    let log = rs.server.node.process.output();
    assert!(log.contains("reloaded: source \"own\": "), "{log}");
}

#[test]
fn a_table_that_could_not_be_read_is_read_again_and_a_bad_one_is_refused() {
    let folder = Folder::new();
    let table = folder.path("table.mrt");
    let whole = mrt_table(&[("11.0.0.0/8", "192.0.2.1"), ("12.0.0.0/8", "192.0.2.1")]);
    std::fs::write(&table, &whole[..whole.len() - 3]).unwrap();
    let rs = Reloaded::start(
        &format!("[[source]]\norigin = \"bgp\"\nkind = \"mrt\"\npath = {table:?}\n"),
        "10.0.0.0/8 blackhole\n",
    );
    rs.server.until("failed", |status| status.sources[1].state == "failed");
    let error = rs.reload().unwrap_err();
    assert!(error.starts_with("nothing has changed: rs.toml:14: source[1].path: "), "{error}");
    std::fs::write(&table, whole).unwrap();
    rs.reload().unwrap();
    rs.until(&["10.0.0.0/8", "11.0.0.0/8", "12.0.0.0/8"]);
    assert_eq!((rs.source("bgp").state.as_str(), rs.source("bgp").last_error), ("finished", None));
}
