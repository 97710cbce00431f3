//! `fibcast-dataplane`: forwards packets on DPDK ports by the table of its route servers.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use clap::Parser;
use fibcast_control::protocol::{Answer, DataplaneRequest, Request};
use fibcast_control::routes::RoutePlace;
use fibcast_control::status::{ForwardingStatus, Kind, Status};
use fibcast_control::tables::{Route, RouteList};
use fibcast_daemon::about::About;
use fibcast_daemon::config::{Loaded, Step};
use fibcast_daemon::exit::{Failure, finish};
use fibcast_daemon::operators::Operators;
use fibcast_daemon::reload::Reload;
use fibcast_daemon::threads::{self, Monitor};
use fibcast_daemon::{config, cpu, log, process, signals};
use fibcast_dataplane::agent_guard::{self, AgentGuard, FencingToken};
use fibcast_dataplane::config::{Config, SavedRoutes};
use fibcast_dataplane::control::sink::ControlSink;
use fibcast_dataplane::memory;
use fibcast_dataplane::router::Router;
use fibcast_dataplane::router::show::View;
use fibcast_sync_agent::agent::{Agent, AgentConfig, AgentHandle, refuse_unknown};
use fibcast_sync_agent::digest_key::KeyFile;
use fibcast_sync_agent::protection::Protection;
use fibcast_sync_agent::shell::ShellError;
use fibcast_sync_agent::shell::tls::Security;

/// Forwards packets on DPDK ports by the table that its route servers distribute.
#[derive(Debug, Parser)]
#[command(name = "fibcast-dataplane", version)]
struct Arguments {
    /// Configuration file.
    #[arg(long, value_name = "FILE", default_value = "/etc/fibcast/dataplane.toml")]
    config: PathBuf,
    /// Check the configuration and the files that it names without touching a device, print the memory that the ports need, and exit.
    #[arg(long)]
    check_config: bool,
}

fn main() -> ExitCode {
    // First of all: compiled code may use instructions that this CPU lacks.
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
        Security::check_expiry(&loaded.value.tls, &loaded.value.node.name, &loaded)?;
        if let Some(sync) = &loaded.value.sync {
            let keys = KeyFile::load(loaded.value.node.digest_key.as_deref()).map_err(Failure::work)?;
            sync.inspect(&keys, &loaded)?.iter().for_each(|line| println!("{line}"));
        }
        SavedRoutes::load(&loaded)?;
        println!("{}", memory::advice(&loaded.value));
        return Ok(());
    }
    log::start_with(&loaded.value.log, &loaded)?;
    fibcast_daemon::files::raise_limit();
    let config = &loaded.value;
    let started = Instant::now();
    let router = Router::start(&loaded)?;
    // Dropped in reverse order of declaration: operators, agent, router.
    let protection = config.sync.as_ref().map(|_| Protection::open(&config.node, &config.tls)).transpose()?;
    let agent = start_agent(&loaded, &router, protection.as_ref())?;
    let reload = reloading(loaded.clone(), router.view(), protection);
    reload.on_hangup()?;
    let about = About::new("fibcast-dataplane", &config.node.name, vec![dpdk::version()], reload);
    let handler = handler(&loaded, about, &router, agent.clone(), started);
    let _operators = Operators::open(&config.node, handler)
        .map_err(|(key, error)| Failure::work(loaded.error(&[Step::Key("node"), Step::Key(key)], error)))?;
    let _monitor = Monitor::start(config.node.stall_exit()).map_err(Failure::work)?;
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

/// Takes static routes and neighbors, allow lists, certificates and digest keys of a new version of the file. One with anything else that
/// changed is refused.
fn reloading(in_force: Loaded<Config>, view: Arc<View>, protection: Option<Protection>) -> Reload {
    Reload::new(in_force, move |new, before| {
        Config::check(new).map_err(|error| error.to_string())?;
        Config::may_reload(new, before)?;
        let read = protection.as_ref().map(|protection| protection.read(new, &new.value.tls)).transpose()?;
        let mut done = vec![view.reload(&new.value)?];
        if let (Some(protection), Some(read)) = (&protection, read) {
            done.extend(protection.replace(read));
        }
        done.extend(log::take_over(&new.value.log));
        Ok(done)
    })
}

/// Starts the agent on its own thread, with its supervisor; none without `[sync]`.
fn start_agent(
    loaded: &Loaded<Config>,
    router: &Router,
    protection: Option<&Protection>,
) -> Result<Option<Arc<AgentGuard>>, Failure> {
    let config = &loaded.value;
    let (Some(sync), Some(control), Some(protection)) = (config.sync.clone(), router.control(), protection)
    else {
        return Ok(None);
    };
    let ports: Vec<String> = config.ports.iter().map(|port| port.name.clone()).collect();
    let setup = AgentConfig {
        name: config.node.name.clone(),
        listen: config.node.listen.clone(),
        sync,
        security: protection.security.clone(),
        digest_keys: protection.keys.clone(),
        scrub: config.scrub.pass(),
        limits: config.limits,
        acknowledge: config.acknowledge.as_ref().map(|acknowledge| acknowledge.policy()),
        budgets: config.node.limits,
    };
    let mut token = FencingToken::default();
    let make = move || {
        token = token.next();
        let sink = ControlSink::fenced(control.clone(), ports.clone(), token.clone());
        Agent::spawn(setup.clone(), Box::new(sink))
    };
    let guard = AgentGuard::start(make, agent_guard::STALL_TIMEOUT).map_err(|error: ShellError| {
        Failure::work(loaded.error(&[Step::Key("node"), Step::Key("listen")], error.to_string()))
    })?;
    Ok(Some(Arc::new(guard)))
}

/// Answers operators: the agent's view of the table plus what the dataplane adds.
fn handler(
    loaded: &Loaded<Config>,
    about: About,
    router: &Router,
    guard: Option<Arc<AgentGuard>>,
    started: Instant,
) -> impl Fn(Request) -> Result<Answer, String> + Clone + Send + Sync + 'static {
    let (name, view) = (loaded.value.node.name.clone(), router.view());
    move |request: Request| {
        if let Some(mut answer) = about.answer(&request) {
            if let Ok(Answer::Config(config)) = &mut answer {
                view.complete(config);
            }
            return answer;
        }
        let agent = guard.as_ref().map(|guard| guard.agent());
        match (request, &agent) {
            (Request::Status, _) => {
                let own = process::status(&name, Kind::Dataplane, started.elapsed());
                let status = match &agent {
                    Some(agent) => Status { kind: own.kind, uptime_ms: own.uptime_ms, ..agent.status()? },
                    // By static routes alone it is as it should be.
                    None => Status { ready: true, ..own },
                };
                let agent_restarts = guard.as_ref().map_or(0, |guard| guard.restarts());
                let forwarding = view.forwarding();
                let forwarding = forwarding.map(|known| ForwardingStatus { agent_restarts, ..known });
                // Last: a thread that did not answer in time is stalled by now.
                Ok(Answer::Status(Box::new(Status { forwarding, threads: threads::show(), ..status })))
            }
            (Request::Routes(request), agent) => {
                refuse_unknown(&request)?;
                let mut list = view.routes(request)?;
                if let Some(agent) = agent {
                    complete(&mut list, agent);
                }
                Ok(Answer::Routes(list))
            }
            (Request::Groups, _) => view.groups().map(Answer::Groups),
            (request @ Request::Resync, Some(agent)) => agent.answer(request),
            (Request::Resync, None) => Err("there are no servers: [sync] is missing".to_owned()),
            (Request::Reload | Request::Version | Request::Config, _) => Err("answered before".to_owned()),
            (Request::Kv(request), Some(agent)) => agent.records(request),
            (Request::Kv(_), None) => {
                Err("opaque records come from servers, and this host has no [sync]".to_owned())
            }
            (Request::Dataplane(request @ DataplaneRequest::Trace { .. }), Some(agent)) => {
                trace(&view, request, agent)
            }
            (Request::Dataplane(request), _) => view.answer(request),
        }
    }
}

/// Adds what the agent knows of routes that are not the host's own. What it does not say in time is left out.
fn complete(list: &mut RouteList, agent: &AgentHandle) {
    let mut of_servers: Vec<&mut Route> =
        list.routes.iter_mut().filter(|route| route.origin.is_none()).collect();
    let places = of_servers.iter().map(|route| RoutePlace { vrf: route.vrf, prefix: route.prefix }).collect();
    let Ok((ages, server)) = agent.ages(places) else { return };
    for (route, age_ms) in of_servers.iter_mut().zip(ages) {
        (route.age_ms, route.origin) = (age_ms, server.clone());
    }
}

/// A trace says which server the route came from, which the agent knows.
fn trace(view: &View, request: DataplaneRequest, agent: &AgentHandle) -> Result<Answer, String> {
    let mut answer = view.answer(request)?;
    if let Answer::Trace(trace) = &mut answer
        && trace.origin.as_deref() == Some("servers")
        && let Some(sync) = agent.status().ok().and_then(|status| status.sync)
        && let Some(server) = sync.servers.iter().find(|server| Some(server.role) == sync.active)
    {
        let name = server.name.as_deref().unwrap_or(&server.address);
        trace.origin = Some(format!("server {name} ({})", server.role));
    }
    Ok(answer)
}
