//! `fibcast-dataplane`: forwards packets on DPDK ports by the table that its servers give it.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use clap::Parser;
use fibcast_control::ControlServer;
use fibcast_control::http::HttpServer;
use fibcast_control::protocol::{Answer, Request};
use fibcast_control::server::Handler;
use fibcast_control::status::{Kind, Status, TableStatus, resident_bytes};
use fibcast_daemon::config::{Loaded, Step};
use fibcast_daemon::exit::{Failure, finish};
use fibcast_daemon::{config, cpu, log, signals};
use fibcast_dataplane::config::Config;
use fibcast_dataplane::control::sink::ControlSink;
use fibcast_dataplane::router::Router;
use fibcast_sync_agent::agent::{Agent, AgentConfig, AgentHandle};
use fibcast_sync_agent::shell::tls::Security;

/// Forwards packets on DPDK ports by the table that its servers give it.
#[derive(Debug, Parser)]
#[command(name = "fibcast-dataplane", version)]
struct Arguments {
    /// Configuration file.
    #[arg(long, value_name = "FILE", default_value = "/etc/fibcast/dataplane.toml")]
    config: PathBuf,
    /// Only check the configuration, without touching a device.
    #[arg(long)]
    check_config: bool,
}

fn main() -> ExitCode {
    // Before anything else: compiled code may use what this processor lacks.
    if let Err(reason) = cpu::check() {
        return finish("fibcast-dataplane", Err(Failure::Work(reason)));
    }
    let arguments = Arguments::parse();
    finish("fibcast-dataplane", run(&arguments))
}

fn run(arguments: &Arguments) -> Result<(), Failure> {
    let loaded: Loaded<Config> = config::load(&arguments.config)?;
    Config::check(&loaded)?;
    if arguments.check_config {
        return Ok(());
    }
    log::start();
    let config = &loaded.value;
    let started = Instant::now();
    let router = Router::start(&loaded)?;
    // Declared in this order, they end in the other: operators, agent, router.
    let agent = start_agent(&loaded, &router)?;
    let handler = handler(&loaded, &router, agent.clone(), started);
    let _operators = open_control(&loaded, handler.clone())?;
    let _http = open_http(&loaded, handler)?;
    tracing::info!(
        "{}: {} ports, {} workers",
        config.node.name,
        config.ports.len(),
        config.workers.cores.len()
    );
    signals::wait().map_err(Failure::work)?;
    tracing::info!("{}: stopping", config.node.name);
    Ok(())
}

/// The agent on its own thread, feeding the control thread; none without `[sync]`.
fn start_agent(loaded: &Loaded<Config>, router: &Router) -> Result<Option<Arc<AgentHandle>>, Failure> {
    let config = &loaded.value;
    let (Some(sync), Some(control)) = (config.sync.clone(), router.control()) else { return Ok(None) };
    let ports = config.ports.iter().map(|port| port.name.clone()).collect();
    let setup = AgentConfig {
        name: config.node.name.clone(),
        listen: config.node.listen.clone(),
        sync,
        security: Security::open(&config.tls, &config.node.name)?,
        limits: config.limits,
    };
    let agent = Agent::spawn(setup, Box::new(ControlSink::new(control, ports))).map_err(|error| {
        Failure::work(loaded.error(&[Step::Key("node"), Step::Key("listen")], error.to_string()))
    })?;
    Ok(Some(Arc::new(agent)))
}

/// Answers operators: the agent's view of the table, and what the dataplane adds.
fn handler(
    loaded: &Loaded<Config>,
    router: &Router,
    agent: Option<Arc<AgentHandle>>,
    started: Instant,
) -> impl Fn(Request) -> Result<Answer, String> + Clone + Send + Sync + 'static {
    let (name, view) = (loaded.value.node.name.clone(), router.view());
    move |request: Request| {
        if let (true, Some(agent)) = (request.is_kv(), &agent) {
            return agent.answer(request);
        }
        if request != (Request::Status {}) {
            return view.answer(request);
        }
        let status = match &agent {
            Some(agent) => agent.status()?,
            None => without_agent(&name),
        };
        Ok(Answer::Status(Box::new(Status {
            kind: Kind::Dataplane,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_ms: started.elapsed().as_millis() as u64,
            forwarding: view.forwarding(),
            ..status
        })))
    }
}

/// The status of a host that forwards by static routes alone.
fn without_agent(name: &str) -> Status {
    Status {
        name: name.to_owned(),
        kind: Kind::Dataplane,
        version: String::new(),
        pid: std::process::id(),
        uptime_ms: 0,
        resident_bytes: resident_bytes(),
        ready: true,
        stale: false,
        table: TableStatus::default(),
        sync: None,
        clients: Vec::new(),
        sources: Vec::new(),
        peers: Vec::new(),
        origins: Vec::new(),
        refused: fibcast_control::status::Refused::default(),
        kernel: None,
        forwarding: None,
    }
}

fn open_control(loaded: &Loaded<Config>, handler: impl Handler) -> Result<Option<ControlServer>, Failure> {
    let Some(path) = &loaded.value.node.control else { return Ok(None) };
    ControlServer::start(path, handler).map(Some).map_err(|error| {
        Failure::work(loaded.error(&[Step::Key("node"), Step::Key("control")], error.to_string()))
    })
}

fn open_http(loaded: &Loaded<Config>, handler: impl Handler) -> Result<Option<HttpServer>, Failure> {
    let Some(address) = loaded.value.node.http else { return Ok(None) };
    HttpServer::start(address, handler).map(Some).map_err(|error| {
        Failure::work(loaded.error(&[Step::Key("node"), Step::Key("http")], error.to_string()))
    })
}
