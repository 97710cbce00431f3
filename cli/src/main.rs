//! `fibcast`: the operator's command. Sends a request to a daemon's control socket and prints the answer as text or JSON.
//!
//! [`socket`] finds the daemon, [`show`] asks it, [`routes`] page by page, and [`print`] turns its answers into text, [`json`] into JSON; what can be asked is in
//! `fibcast_control::protocol`. [`watch`] repeats it, [`kv`] writes and reads opaque records, [`capture`], [`trace`], [`ping`] and [`traceroute`] ask a dataplane about packets, [`change`] has
//! what changes a daemon at work, [`top`] shows it live, [`doctor`] looks at the machine around it. [`pki`] and [`manual`] ask nobody: they make
//! certificates, completions and manual pages. [`color`] and [`pager`] are for terminals.

mod capture;
mod change;
mod color;
mod doctor;
mod interrupt;
mod json;
mod kv;
mod manual;
mod nic;
mod output;
mod pager;
mod ping;
mod pki;
mod print;
mod routes;
mod show;
mod socket;
mod top;
mod trace;
mod traceroute;
mod version;
mod watch;

use clap::{Parser, Subcommand};
use fibcast_control::{Answer, DataplaneRequest, Request, ask};
use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;

use output::say;

/// Shows what a fibcast daemon does.
#[derive(Debug, Parser)]
#[command(name = "fibcast", version, propagate_version = true)]
struct Arguments {
    #[command(flatten)]
    daemon: socket::Choice,
    /// Print one JSON object instead of text.
    #[arg(long, global = true)]
    json: bool,
    /// Colours in text; auto: on a terminal, unless NO_COLOR is set.
    #[arg(long, global = true, value_name = "WHEN", value_enum, default_value = "auto")]
    color: color::When,
    /// Print pages at once; otherwise, on a terminal, through $PAGER or `less -FRX`.
    #[arg(long, global = true)]
    no_pager: bool,
    /// Seconds to wait for an answer.
    #[arg(long, global = true, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3600))]
    timeout: u64,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Shows one aspect of the daemon.
    Show {
        #[command(flatten)]
        watch: watch::Watch,
        #[command(subcommand)]
        what: show::Show,
    },
    /// Opaque records: written at a route server, read at any daemon.
    #[command(subcommand)]
    Kv(kv::Kv),
    /// Captures packets of a dataplane into a pcapng file.
    Capture(capture::Capture),
    /// Traces a packet through a dataplane without sending one.
    Trace(trace::Trace),
    Ping(ping::Ping),
    Traceroute(traceroute::Traceroute),
    /// Live rates, workers, drops and servers of a dataplane; q quits.
    Top(top::Top),
    /// Checks this machine and its daemon, with advice for fast forwarding.
    Doctor(doctor::Doctor),
    Nic(nic::Nic),
    /// Makes counters begin at zero.
    #[command(subcommand)]
    Clear(change::Clear),
    /// Static neighbors of a dataplane.
    #[command(subcommand)]
    Neighbor(change::Neighbor),
    /// Routes of a dataplane itself, which take precedence over those from servers.
    #[command(subcommand)]
    Route(change::Route),
    /// Compares the table with the servers' again, and applies all of it.
    Resync,
    /// Takes over a changed configuration file and the files that it names, whole or not at all, as SIGHUP does: certificates and digest keys of
    /// all daemons, sources of a route server, static routes and neighbors of a dataplane.
    Reload,
    /// Creates and shows certificates of nodes.
    #[command(subcommand)]
    Pki(pki::Pki),
    /// Prints completions for a shell.
    Completion(manual::Completion),
    #[command(hide = true)]
    Manual(manual::Manual),
}

fn run(arguments: &Arguments) -> Result<(), String> {
    let (as_json, timeout) = (arguments.json, Duration::from_secs(arguments.timeout));
    let socket = || arguments.daemon.socket();
    arguments.color.choose(std::io::stdout().is_terminal());
    if arguments.is_page() {
        pager::start();
    }
    match &arguments.command {
        Command::Show { watch, what: show::Show::Version } => {
            watch.run(|| version::run(&arguments.daemon.all()?, timeout, as_json))
        }
        Command::Show { watch, what } => watch.run(|| {
            let path = socket()?;
            show::run(what, |request| ask(&path, &request, timeout), as_json)
        }),
        Command::Kv(command) => kv::run(command, &socket()?, timeout, as_json),
        Command::Capture(command) => {
            let text = capture::run(command, &socket()?, timeout)?;
            eprint!("{text}");
            Ok(())
        }
        Command::Trace(command) => say(&trace::run(command, &socket()?, timeout, as_json)?),
        Command::Ping(command) => ping::run(command, &socket()?, timeout, as_json),
        Command::Traceroute(command) => traceroute::run(command, &socket()?, timeout, as_json),
        Command::Top(command) => top::run(command, &socket()?, timeout),
        Command::Doctor(command) => {
            let (text, healthy) = doctor::run(command, &arguments.daemon, timeout, as_json)?;
            say(&text)?;
            if healthy { Ok(()) } else { Err("something has to be done first".to_owned()) }
        }
        Command::Nic(command) => nic::run(command, as_json),
        Command::Clear(change::Clear::Counters) => order(arguments, DataplaneRequest::ClearCounters.into()),
        Command::Neighbor(command) => order(arguments, command.request().into()),
        Command::Route(command) => order(arguments, command.request()?.into()),
        Command::Resync => order(arguments, Request::Resync),
        Command::Reload => order(arguments, Request::Reload),
        Command::Pki(command) => say(&pki::run(command).map_err(|error| error.to_string())?),
        Command::Completion(command) => say(&manual::completion::<Arguments>(command)),
        Command::Manual(command) => manual::pages::<Arguments>(command),
    }
}

impl Arguments {
    /// Whether the output may be longer than a screen and is read by a person from top to bottom.
    fn is_page(&self) -> bool {
        let long = match &self.command {
            Command::Show { watch, .. } => !watch.repeats(),
            Command::Doctor(_) => true,
            _ => false,
        };
        long && !self.json && !self.no_pager
    }
}

/// A command with a one-line result.
fn order(arguments: &Arguments, request: Request) -> Result<(), String> {
    let path = arguments.daemon.socket()?;
    let timeout = Duration::from_secs(arguments.timeout);
    match ask(&path, &request, timeout).map_err(|error| error.to_string())? {
        Answer::Done(message) if arguments.json => say(&json::line(&BTreeMap::from([("done", message)]))?),
        Answer::Done(message) => say(&format!("{message}\n")),
        _ => Err("the daemon sent an unexpected answer".to_owned()),
    }
}

fn main() -> ExitCode {
    let outcome = run(&Arguments::parse());
    // The pager's page ends before the error is told.
    let paged = pager::finish();
    match outcome.and(paged) {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("fibcast: {reason}");
            ExitCode::FAILURE
        }
    }
}
