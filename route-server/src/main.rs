//! The route server's command line.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use fibcast_daemon::exit::{Failure, finish};
use fibcast_route_server::{config, run};

/// Computes one forwarding table from several sources and peers, and serves it.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Configuration file
    #[arg(long, default_value = "/etc/fibcast/route-server.toml")]
    config: PathBuf,
    /// Check the configuration and the files of routes that it names, say what they hold, and exit
    #[arg(long)]
    check_config: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    finish("fibcast-route-server", start(&arguments))
}

fn start(arguments: &Arguments) -> Result<(), Failure> {
    fibcast_daemon::cpu::check().map_err(Failure::work)?;
    if arguments.check_config {
        for line in config::inspect(&arguments.config)? {
            println!("{line}");
        }
        return Ok(());
    }
    let file = config::read(&arguments.config)?;
    fibcast_daemon::log::start_with(&file.loaded.value.log, &file.loaded)?;
    run::run(file)
}
