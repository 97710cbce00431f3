//! `fibcast-agent`: keeps a copy of the forwarding table and serves it to the tier below, without a dataplane.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use fibcast_control::protocol::{Answer, Request};
use fibcast_daemon::about::About;
use fibcast_daemon::exit::{Failure, finish};
use fibcast_daemon::operators::Operators;
use fibcast_daemon::reload::Reload;
use fibcast_daemon::threads::Monitor;
use fibcast_sync_agent::agent::{Agent, AgentConfig, NoSink, Sink};
use fibcast_sync_agent::config::AgentFile;
use fibcast_sync_agent::digest_key::KeyFile;
use fibcast_sync_agent::kernel::KernelSink;
use fibcast_sync_agent::protection::Protection;
use fibcast_sync_agent::shell::tls::Security;

/// Keeps a copy of the forwarding table and serves it to the tier below.
#[derive(Debug, Parser)]
#[command(name = "fibcast-agent", version)]
struct Arguments {
    /// The configuration file.
    #[arg(long, default_value = "/etc/fibcast/agent.toml")]
    config: PathBuf,
    /// Check the configuration and the files that it names, and exit.
    #[arg(long)]
    check_config: bool,
}

fn main() -> ExitCode {
    finish("fibcast-agent", run(&Arguments::parse()))
}

fn run(arguments: &Arguments) -> Result<(), Failure> {
    fibcast_daemon::cpu::check().map_err(Failure::work)?;
    let loaded = fibcast_daemon::config::load::<AgentFile>(&arguments.config)?;
    AgentFile::check(&loaded)?;
    if arguments.check_config {
        let file = &loaded.value;
        Security::check_expiry(&file.tls, &file.node.name, &loaded)?;
        let keys = KeyFile::load(file.node.digest_key.as_deref()).map_err(Failure::work)?;
        file.sync.inspect(&keys, &loaded)?.iter().for_each(|line| println!("{line}"));
        return Ok(());
    }
    fibcast_daemon::log::start_with(&loaded.value.log, &loaded)?;
    let file = loaded.value.clone();
    fibcast_daemon::files::raise_limit();
    let protection = Protection::open(&file.node, &file.tls)?;
    let reload = Reload::new(loaded, {
        let protection = protection.clone();
        move |new, before| {
            AgentFile::check(new).map_err(|error| error.to_string())?;
            AgentFile::may_reload(new, before)?;
            let mut done = protection.replace(protection.read(new, &new.value.tls)?);
            done.extend(fibcast_daemon::log::take_over(&new.value.log));
            Ok(done)
        }
    });
    reload.on_hangup()?;
    let about = About::new("fibcast-agent", &file.node.name, Vec::new(), reload);
    let config = AgentConfig {
        security: protection.security,
        digest_keys: protection.keys,
        scrub: file.scrub.pass(),
        name: file.node.name.clone(),
        listen: file.node.listen.clone(),
        sync: file.sync,
        limits: file.limits,
        acknowledge: file.acknowledge.map(|acknowledge| acknowledge.policy()),
        budgets: file.node.limits,
    };
    let (sink, kernel): (Box<dyn Sink>, _) = match &file.kernel {
        None => (Box::new(NoSink), None),
        Some(kernel) => {
            let sink = KernelSink::start(kernel, file.scrub.pass())
                .map_err(|error| Failure::work(format!("kernel table {}: {error}", kernel.table)))?;
            let view = sink.view();
            (Box::new(sink), Some(view))
        }
    };
    let agent = Arc::new(Agent::spawn(config, sink).map_err(Failure::work)?);
    let handler = {
        let agent = Arc::clone(&agent);
        move |request: Request| {
            if let Some(answer) = about.answer(&request) {
                return answer;
            }
            let mut answer = agent.answer(request);
            if let (Ok(Answer::Status(status)), Some(kernel)) = (&mut answer, &kernel) {
                status.kernel = Some(kernel.status());
            }
            answer
        }
    };
    let _operators = Operators::open(&file.node, handler).map_err(|(_, error)| Failure::work(error))?;
    let _monitor = Monitor::start(file.node.stall_exit()).map_err(Failure::work)?;
    tracing::info!("{}: agent runs", file.node.name);
    fibcast_daemon::signals::wait().map_err(Failure::work)?;
    tracing::info!("{}: stops", file.node.name);
    Ok(())
}
