//! The part of an agent's event loop that does not concern peers: sink, checkpoint, commands from other threads.

use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};
use fibcast_control::kv::KvList;
use fibcast_control::protocol::{Answer, RouteRequest};
use fibcast_control::routes::RoutePlace;
use fibcast_control::status::{Kind, Status};
use fibcast_control::tables::{GroupList, RouteList};
use fibcast_daemon::threads::Heartbeat;
use fibcast_daemon::{process, routes};
use fibcast_sync_proto::Key;
use fibcast_sync_proto::agent::{AgentCore, AgentEvent};
use fibcast_sync_proto::ages::Ages;
use fibcast_sync_proto::client::ClientEvent;
use fibcast_sync_proto::node::{ClientId, Node};

use super::kv::{self, Watchers};
use super::scrub::Scrub;
use super::show;
use crate::acknowledge;
use crate::checkpoint::Checkpoint;
use crate::digest_key::KeyFile;
use crate::shell::{Host, ShellState};
use crate::sink::Sink;

/// Commands from other threads.
pub(super) enum Command {
    Status(Sender<Status>),
    Routes(RouteRequest, Sender<RouteList>),
    /// Times since these routes last changed in milliseconds, and the server that they are from.
    Ages(Vec<RoutePlace>, Sender<(Vec<Option<u64>>, Option<String>)>),
    Groups(Sender<GroupList>),
    Resync(Sender<()>),
    KvGet(String, Sender<KvList>),
    KvList(String, usize, Sender<KvList>),
    KvWatch(String, u64, u64, Sender<Result<Answer, String>>),
}

pub(super) struct AgentHost<'s> {
    sink: &'s mut dyn Sink,
    checkpoint: &'s mut Option<Checkpoint>,
    commands: Receiver<Command>,
    heartbeat: &'s Heartbeat,
    /// The digest keys, and the last version of them that was noticed.
    digest_keys: (&'s KeyFile, &'s mut u64),
    watchers: Watchers,
    scrub: Scrub,
    /// Times of the table's serials.
    ages: Ages,
}

impl<'s> AgentHost<'s> {
    pub fn new(
        sink: &'s mut dyn Sink,
        checkpoint: &'s mut Option<Checkpoint>,
        commands: Receiver<Command>,
        digest_keys: (&'s KeyFile, &'s mut u64),
        heartbeat: &'s Heartbeat,
    ) -> Self {
        Self {
            sink,
            checkpoint,
            commands,
            digest_keys,
            heartbeat,
            watchers: Watchers::default(),
            scrub: Scrub::default(),
            ages: Ages::default(),
        }
    }

    /// Sets the time for comparing the sink with the whole table once; none: never.
    pub fn scrub_every(&mut self, pass: Option<Duration>) {
        self.scrub.every(pass.filter(|_| self.sink.can_compare()));
    }

    /// Passes to the sink what it has not accepted yet.
    fn deliver(&mut self, now: Duration, agent: &mut AgentCore) {
        if self.sink.has_lost_table() {
            agent.handle_lost_sink();
        }
        while let Some(next) = agent.poll_sink(now) {
            if next.replaces {
                self.sink.reset();
            }
            let outcome = self.sink.apply(&next.batch);
            agent.handle_sink(now, outcome);
        }
        self.hear_sink(agent);
        while let Some(event) = agent.poll_event() {
            log(&event);
        }
        while let Some(event) = agent.poll_acknowledge_event() {
            acknowledge::log(&event);
        }
    }

    /// Passes on what the sink forwards by, and then what it refuses: every refusal up to that serial must be known.
    fn hear_sink(&mut self, agent: &mut AgentCore) {
        agent.handle_forwarding(self.sink.installed());
        if let Some(refusals) = self.sink.refusals(agent.sink_refusals().version()) {
            agent.handle_refusals(refusals);
        }
    }

    fn command(&mut self, now: Duration, command: Command, node: &mut Node<AgentCore>, state: &ShellState) {
        let table = node.role().table();
        // The sender may have stopped waiting.
        match command {
            Command::Status(answer) => drop(answer.try_send(self.status(now, node, state))),
            Command::Routes(request, answer) => {
                let server = self.server(node, state);
                let routes = show::HostRoutes { table, ages: &self.ages, now, server };
                drop(answer.try_send(routes::page(&routes, &request)));
            }
            Command::Ages(places, answer) => {
                let age = |RoutePlace { vrf, prefix }| {
                    show::age_ms(table, &Key::Route { vrf, prefix }, &self.ages, now)
                };
                let ages = places.into_iter().map(age).collect();
                drop(answer.try_send((ages, self.server(node, state))));
            }
            Command::Groups(answer) => drop(answer.try_send(show::groups(table))),
            Command::KvGet(key, answer) => drop(answer.try_send(kv::get(table, &key))),
            Command::KvList(prefix, limit, answer) => drop(answer.try_send(kv::list(table, &prefix, limit))),
            Command::KvWatch(prefix, epoch, serial, answer) => {
                self.watchers.add(now, prefix, epoch, serial, answer);
            }
            Command::Resync(answer) => {
                node.role_mut().handle_resync();
                let _ = answer.try_send(());
            }
        }
    }

    /// Replaces the key of the table's digest when the file was reloaded with another one.
    fn take_new_digest_keys(&mut self, node: &mut Node<AgentCore>) {
        let (file, seen) = &mut self.digest_keys;
        let Some(keys) = file.replaced(seen) else { return };
        node.role_mut().rekey(keys.own(), super::epoch());
        node.set_digest_keys(keys);
        // The file is under the old key.
        if let Some(checkpoint) = self.checkpoint {
            checkpoint.abandon();
        }
    }

    /// The server that the table is from, as the origin of routes.
    fn server(&self, node: &Node<AgentCore>, state: &ShellState) -> Option<String> {
        let active = node.client(0)?.active()?;
        let name = node.client(0)?.links().into_iter().nth(active).and_then(|link| link.name);
        let name = name.or_else(|| Some(state.clients.first()?.address(active).to_owned()))?;
        Some(format!("server {name}"))
    }

    /// All but the name and the time since the agent was spawned.
    fn status(&self, now: Duration, node: &Node<AgentCore>, state: &ShellState) -> Status {
        let agent = node.role();
        let client = node.client(0);
        let mut sync = show::sync_status(node, 0, state);
        sync.checkpoint = self.checkpoint.as_ref().map(Checkpoint::status);
        Status {
            ready: client.is_some_and(|c| c.is_synced()),
            stale: client.is_none_or(|c| c.is_stale()),
            table: show::table_status(agent.table(), agent.changes()),
            sync: Some(sync),
            clients: show::clients(now, node, state, agent.acknowledge()),
            acknowledge: agent.acknowledge().map(|a| acknowledge::status(now, a, agent.table().serial())),
            refused: show::refused(state),
            ..process::status("", Kind::Agent, Duration::ZERO)
        }
    }
}

impl Host<AgentCore> for AgentHost<'_> {
    fn client_event(&mut self, now: Duration, node: &mut Node<AgentCore>, _: ClientId, event: &ClientEvent) {
        if let ClientEvent::Committed(_) = event {
            // Immediately, not at the end of the turn: the worker should see it as soon as possible.
            self.deliver(now, node.role_mut());
        }
    }

    fn input(&mut self, now: Duration, node: &mut Node<AgentCore>, state: &ShellState) {
        self.heartbeat.beat();
        let active = node.client(0).and_then(|client| client.active());
        if let Some(server) = active.and_then(|link| state.clients.first()?.wires.get(link)?.address) {
            self.sink.synchronised_with(server);
        }
        // Before the core advances, so that a report goes upstream in this turn.
        self.hear_sink(node.role_mut());
        while let Ok(command) = self.commands.try_recv() {
            self.command(now, command, node, state);
        }
        self.take_new_digest_keys(node);
    }

    fn output(&mut self, now: Duration, node: &mut Node<AgentCore>) -> Option<Duration> {
        let agent = node.role_mut();
        self.deliver(now, agent);
        self.ages.note(agent.table().serial(), now);
        let mut wake_at = None;
        if let Some(checkpoint) = self.checkpoint {
            wake_at = checkpoint.turn(now, agent.table());
            agent.keep_deletions(checkpoint.pin());
        }
        let watched = self.watchers.turn(now, agent.table());
        let compared = self.scrub.turn(now, agent, self.sink);
        wake_at.into_iter().chain(watched).chain(compared).min()
    }
}

fn log(event: &AgentEvent) {
    match event {
        AgentEvent::Expired(after) => tracing::error!(
            "no capable server for {} s (sync.expire_s): routes are withdrawn",
            after.as_secs()
        ),
        AgentEvent::Recovered => tracing::info!("a capable server is back: its table is used again"),
        AgentEvent::SinkFailed { serial, reason } => {
            tracing::error!("batch to serial {serial} is pending: {reason}");
        }
        AgentEvent::SinkBehindHorizon(serial) => tracing::error!(
            "the table at serial {serial} has forgotten what the sink lacks; the sink gets the whole table again"
        ),
    }
}
