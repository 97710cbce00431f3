//! The whole system over TCP on loopback: real route servers as processes, with the full table from an MRT file.
//!
//! [`load`] is how fast an empty NIC host forwards, [`latency`] how fast a change gets to workers, [`failover`] what the loss of a
//! server costs, [`fanout`] many clients at one server, [`acknowledge`] what answers to a routing daemon cost, [`ndr`] which rate is forwarded without loss meanwhile; [`server`] starts route servers, [`light`] is a client without a table.

pub mod acknowledge;
pub mod failover;
pub mod fanout;
pub mod latency;
mod light;
pub mod load;
pub mod ndr;
mod server;

use std::time::Duration;

use fibcast_control::status::Role;
use fibcast_dataplane::control::Setup;
use fibcast_sync_agent::agent::config::{Sync, SyncServer};
use fibcast_sync_agent::agent::{Agent, AgentConfig, AgentHandle, Sink};
use fibcast_sync_agent::shell::Limits;
use fibcast_testbed::wait::until_every;

use crate::Failure;

/// An agent of this process with these servers, the first of them its primary; it never fails back by itself.
fn agent(servers: &[std::net::SocketAddr], sink: Box<dyn Sink>) -> Result<AgentHandle, Failure> {
    agent_named("bench", servers, sink)
}

/// The same with this name.
fn agent_named(
    name: &str,
    servers: &[std::net::SocketAddr],
    sink: Box<dyn Sink>,
) -> Result<AgentHandle, Failure> {
    let roles = [Role::Primary, Role::Secondary];
    let servers = servers.iter().zip(roles).map(|(a, role)| SyncServer { address: a.to_string(), role });
    let sync = Sync {
        servers: servers.collect(),
        heartbeat_ms: 300,
        failback_s: 0,
        checkpoint: None,
        checkpoint_interval_s: 30,
        ..Default::default()
    };
    let config = AgentConfig {
        name: name.into(),
        listen: Vec::new(),
        sync,
        security: None,
        digest_keys: Default::default(),
        scrub: None,
        limits: Limits::default(),
        acknowledge: None,
        budgets: Default::default(),
    };
    Agent::spawn(config, sink).map_err(|e| Failure::Net(e.to_string()))
}

/// The control side of a NIC host that has a table and no ports.
fn without_ports() -> Setup {
    Setup {
        ports: Vec::new(),
        routes: Vec::new(),
        neighbors: Vec::new(),
        limits: fibcast_fib::Limits::default(),
        icmp: fibcast_dataplane::pipeline::icmp_error::Limits::default(),
        allow_class_e: false,
        rings: Vec::new(),
        counters: Vec::new(),
    }
}

fn status(agent: &AgentHandle) -> Result<fibcast_control::status::Status, Failure> {
    agent.status().map_err(Failure::Net)
}

/// Waits for something that must come, and looks often: how long it took may be what is measured.
fn until(what: &str, done: impl FnMut() -> Result<bool, Failure>) -> Result<(), Failure> {
    until_every(Duration::from_micros(500), what, Duration::from_secs(90), done).map(drop)
}

fn percentile(sorted: &[f64], part: f64) -> f64 {
    let at = ((sorted.len() as f64 - 1.0) * part).round() as usize;
    sorted.get(at).copied().unwrap_or(f64::NAN)
}
