//! Our daemons on a host, and what they say.

use std::path::PathBuf;

use fibcast_control::status::{Role, ServerStatus, SourceStatus, Status, SyncStatus};
use fibcast_control::tables::Route;
use fibcast_control::{Answer, Request};
use fibcast_testbed::{Node, Process, config, process};

use crate::Host;

/// One of our daemons on a host.
#[derive(Debug)]
pub struct Ours<'h> {
    host: &'h Host<'h>,
    name: String,
    program: &'static str,
    node: Option<Node>,
}

/// Where programs of ours are: beside the tests of the same profile.
pub fn programs() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.parent().and_then(|deps| deps.parent()).unwrap().to_owned()
}

/// A route server that serves on its host, with sources and peers in `rest`.
pub fn route_server_toml(host: &Host<'_>, name: &str, listen: &str, rest: &str) -> String {
    config::node(name, host.folder(), &config::listen(listen)) + config::INSECURE + rest
}

/// An agent of these servers, the first of them its primary; `sync` are further keys of `[sync]`.
pub fn agent_toml(host: &Host<'_>, name: &str, listen: Option<&str>, servers: &[&str], sync: &str) -> String {
    let listen = listen.map(config::listen).unwrap_or_default();
    config::node(name, host.folder(), &listen) + config::INSECURE + &config::sync(servers, sync)
}

impl<'l> Host<'l> {
    /// Starts a daemon of ours (`fibcast-route-server`, …) with a configuration whose node has this name.
    pub fn ours<'h>(&'h self, program: &'static str, name: &str, toml: &str) -> Ours<'h>
    where
        'l: 'h,
    {
        let mut ours = Ours { host: self, name: name.to_owned(), program, node: None };
        ours.rewrite(toml);
        ours.start();
        ours
    }
}

impl Ours<'_> {
    /// Starts it (again).
    pub fn start(&mut self) {
        let (program, host) = (programs().join(self.program), self.host);
        let node = Node::ready(&program, &self.name, host.folder(), Some(host.namespace().name()));
        self.node = Some(node.unwrap_or_else(|failure| panic!("{failure}")));
    }

    /// Another configuration for the next start.
    pub fn rewrite(&self, toml: &str) {
        self.host.file(&format!("{}.toml", self.name), toml);
    }

    /// `SIGKILL`.
    pub fn kill(&mut self) {
        self.node.take().iter_mut().for_each(|node| node.process.kill());
    }

    /// Ends it in order.
    pub fn stop(&mut self) {
        self.node = None;
    }

    /// The process.
    pub fn process(&self) -> &Process {
        let node = self.node.as_ref().unwrap_or_else(|| panic!("{} does not run", self.name));
        &node.process
    }

    /// Its control socket.
    pub fn socket(&self) -> PathBuf {
        self.host.folder().join(format!("{}.sock", self.name))
    }

    /// Asks over the control socket, without a program in between; none where there is no answer.
    pub fn ask(&self, request: impl Into<Request>) -> Option<Answer> {
        self.node.as_ref()?.ask(request).ok()
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
        let list: Vec<Route> = read(self.cli(&format!("show routes {prefix}"))["routes"].take());
        list.into_iter().next().map(|route| route.via.join(", "))
    }

    /// How many routes there are.
    pub fn count(&self) -> u64 {
        let table = self.status().table;
        table.ipv4_routes + table.ipv6_routes
    }

    /// What `fibcast --json ARGUMENTS` prints; of `show routes`, its lines as the list `routes`.
    #[track_caller]
    pub fn cli(&self, arguments: &str) -> serde_json::Value {
        let (program, socket) = (programs().join("fibcast"), self.socket());
        let (program, socket) = (program.display().to_string(), socket.display().to_string());
        let words = ["--socket", &socket, "--json"].into_iter().chain(arguments.split_whitespace());
        let output = process::run(&program, &words.collect::<Vec<_>>());
        let output = output.unwrap_or_else(|failure| panic!("{}: {failure}", self.name));
        let json = |text: &str| -> serde_json::Value {
            serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {output}"))
        };
        if arguments.starts_with("show routes") {
            return serde_json::json!({ "routes": output.lines().map(json).collect::<Vec<_>>() });
        }
        json(&output)
    }
}

#[track_caller]
fn read<T: serde::de::DeserializeOwned>(value: serde_json::Value) -> T {
    serde_json::from_value(value).unwrap_or_else(|error| panic!("{error}"))
}
