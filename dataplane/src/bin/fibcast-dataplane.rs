//! `fibcast-dataplane`: forwards packets on DPDK ports by the table that its servers give it.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use fibcast_control::protocol::{Answer, Request};
use fibcast_control::status::{Kind, Status, TableStatus, resident_bytes};
use fibcast_control::{ControlServer, server};
use fibcast_daemon::config::{Loaded, Step};
use fibcast_daemon::exit::{Failure, finish};
use fibcast_daemon::{config, cpu, log, signals};
use fibcast_dataplane::config::Config;
use fibcast_dataplane::router::Router;

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
    config.tls.warn();
    let started = Instant::now();
    let router = Router::start(&loaded)?;
    let _operators = open_control(&loaded, &router, started)?;
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

fn open_control(
    loaded: &Loaded<Config>,
    router: &Router,
    started: Instant,
) -> Result<Option<ControlServer>, Failure> {
    let Some(path) = &loaded.value.node.control else { return Ok(None) };
    let (name, view) = (loaded.value.node.name.clone(), router.view());
    let handler = move |request: Request| match request {
        Request::Status {} => Ok(Answer::Status(Box::new(Status {
            name: name.clone(),
            kind: Kind::Dataplane,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            uptime_ms: started.elapsed().as_millis() as u64,
            resident_bytes: resident_bytes(),
            ready: true,
            stale: false,
            table: TableStatus::default(),
            sync: None,
            clients: Vec::new(),
            sources: Vec::new(),
            peers: Vec::new(),
            forwarding: view.forwarding(),
        }))),
        other => view.answer(other),
    };
    let opened = server::ControlServer::start(path, handler);
    opened.map(Some).map_err(|error| {
        Failure::work(loaded.error(&[Step::Key("node"), Step::Key("control")], error.to_string()))
    })
}
