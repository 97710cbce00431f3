//! Our daemons on a host, and what they say.

use std::path::PathBuf;
use std::time::Duration;

use fibcast_control::status::{Role, ServerStatus, SourceStatus, Status, SyncStatus};
use fibcast_control::tables::RouteList;
use fibcast_control::{Answer, Request, ask};

use crate::{Host, Process, eventually, text};

/// One of our daemons on a host.
#[derive(Debug)]
pub struct Ours<'h> {
    host: &'h Host<'h>,
    name: String,
    program: &'static str,
    process: Option<Process>,
}

/// Where a program of ours is: beside the tests of the same profile.
pub fn built(program: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let file = test.parent().and_then(|deps| deps.parent()).map(|profile| profile.join(program)).unwrap();
    assert!(file.is_file(), "{} is not built; `make test-interop` does so", file.display());
    file
}

/// `[node]` of a daemon; `more` are further keys.
pub fn node(host: &Host<'_>, name: &str, more: &str) -> String {
    let socket = host.folder().join(format!("{name}.sock"));
    format!("[node]\nname = \"{name}\"\ncontrol = \"{}\"\n{more}\n", socket.display())
}

/// A route server that serves on its host, with sources and peers in `rest`.
pub fn route_server_toml(host: &Host<'_>, name: &str, listen: &str, rest: &str) -> String {
    node(host, name, &format!("listen = [\"{listen}\"]")) + "[tls]\ninsecure = true\n" + rest
}

/// An agent of these servers, the first of them its primary; `sync` are further keys of `[sync]`.
pub fn agent_toml(host: &Host<'_>, name: &str, listen: Option<&str>, servers: &[&str], sync: &str) -> String {
    let listen = listen.map(|listen| format!("listen = [\"{listen}\"]")).unwrap_or_default();
    let roles = ["primary", "secondary"];
    let servers: Vec<String> = servers
        .iter()
        .zip(roles)
        .map(|(address, role)| format!("{{ address = \"{address}\", role = \"{role}\" }}"))
        .collect();
    node(host, name, &listen)
        + &format!("[tls]\ninsecure = true\n[sync]\nservers = [{}]\n{sync}\n", servers.join(", "))
}

impl<'l> Host<'l> {
    /// Starts a daemon of ours (`fibcast-route-server`, …) with a configuration whose node has this name.
    pub fn ours<'h>(&'h self, program: &'static str, name: &str, toml: &str) -> Ours<'h>
    where
        'l: 'h,
    {
        self.file(&format!("{name}.toml"), toml);
        let mut ours = Ours { host: self, name: name.to_owned(), program, process: None };
        ours.start();
        ours
    }
}

impl Ours<'_> {
    /// Starts it (again).
    pub fn start(&mut self) {
        let file = self.host.folder().join(format!("{}.toml", self.name));
        let arguments = ["--config", &file.display().to_string()].map(str::to_owned);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        self.process = Some(self.host.start(&self.name, &built(self.program), &arguments));
        eventually(&format!("{} answers", self.name), 20, || self.ask(Request::Status).is_some());
    }

    /// Another configuration for the next start.
    pub fn rewrite(&self, toml: &str) {
        self.host.file(&format!("{}.toml", self.name), toml);
    }

    /// `SIGKILL`.
    pub fn kill(&mut self) {
        if let Some(process) = self.process.take() {
            process.kill();
        }
    }

    /// Ends it in order.
    pub fn stop(&mut self) {
        if let Some(process) = self.process.take() {
            process.stop();
        }
    }

    /// The process.
    pub fn process(&self) -> &Process {
        self.process.as_ref().unwrap_or_else(|| panic!("{} does not run", self.name))
    }

    /// Its control socket.
    pub fn socket(&self) -> PathBuf {
        self.host.folder().join(format!("{}.sock", self.name))
    }

    /// Asks over the control socket, without a program in between; none where there is no answer.
    pub fn ask(&self, request: impl Into<Request>) -> Option<Answer> {
        ask(&self.socket(), &request.into(), Duration::from_secs(10)).ok()
    }

    /// `fibcast --json show status`.
    #[track_caller]
    pub fn status(&self) -> Status {
        read(self.cli("show status"))
    }

    /// What an agent says of its servers and of what failovers cost.
    #[track_caller]
    pub fn sync(&self) -> SyncStatus {
        self.status().sync.unwrap_or_else(|| panic!("{} has no servers", self.name))
    }

    /// The role of the server in use.
    #[track_caller]
    pub fn active(&self) -> Option<Role> {
        self.sync().active
    }

    /// The connection to a server.
    #[track_caller]
    pub fn server(&self, role: Role) -> ServerStatus {
        let found = self.sync().servers.into_iter().find(|server| server.role == role);
        found.unwrap_or_else(|| panic!("{} has no {role} server", self.name))
    }

    /// Root digest of its table.
    #[track_caller]
    pub fn digest(&self) -> String {
        self.status().table.digest
    }

    /// A source of a route server.
    pub fn source(&self, origin: &str) -> SourceStatus {
        let found = self.status().sources.into_iter().find(|source| source.origin == origin);
        found.unwrap_or_else(|| panic!("{}: no source {origin}", self.name))
    }

    /// What a source counts under a name.
    pub fn counter(&self, origin: &str, name: &str) -> u64 {
        self.source(origin).counters.get(name).copied().unwrap_or(0)
    }

    /// Next hops of a prefix in VRF 0, joined by ", "; none: there is no such route.
    pub fn via(&self, prefix: &str) -> Option<String> {
        let list: RouteList = read(self.cli(&format!("show routes {prefix}")));
        list.routes.into_iter().next().map(|route| route.via.join(", "))
    }

    /// How many routes there are.
    pub fn count(&self) -> u64 {
        let table = self.status().table;
        table.ipv4_routes + table.ipv6_routes
    }

    /// What `fibcast --json ARGUMENTS` prints.
    #[track_caller]
    pub fn cli(&self, arguments: &str) -> serde_json::Value {
        let output = std::process::Command::new(built("fibcast"))
            .arg("--socket")
            .arg(self.socket())
            .arg("--json")
            .args(arguments.split_whitespace())
            .output()
            .unwrap();
        assert!(output.status.success(), "{}: fibcast {arguments}: {}", self.name, text(&output));
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", text(&output)))
    }
}

#[track_caller]
fn read<T: serde::de::DeserializeOwned>(value: serde_json::Value) -> T {
    serde_json::from_value(value).unwrap_or_else(|error| panic!("{error}"))
}
