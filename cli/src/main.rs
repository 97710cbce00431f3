//! `fibcast`: the operator's command. Sends a request to a daemon's control socket and prints the answer as text or JSON.
//!
//! [`socket`] finds the daemon, [`print`] formats answers; the requests are in `fibcast_control::protocol`. [`kv`] writes and reads opaque
//! records, [`capture`] and [`trace`] ask a dataplane about packets, [`change`] changes a running dataplane, [`top`] shows it live,
//! [`doctor`] checks the machine. [`pki`] creates certificates without a daemon.

mod capture;
mod change;
mod doctor;
mod kv;
mod pki;
mod print;
mod socket;
mod top;
mod trace;

use clap::{Parser, Subcommand};
use fibcast_control::protocol::RouteQuery;
use fibcast_control::{Answer, Request, ask};
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Shows and changes the state of a fibcast daemon.
#[derive(Debug, Parser)]
#[command(name = "fibcast", version, propagate_version = true)]
struct Arguments {
    /// The daemon's control socket; default: the only one in /run/fibcast.
    #[arg(long, global = true, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Print one JSON object instead of text.
    #[arg(long, global = true)]
    json: bool,
    /// Seconds to wait for an answer.
    #[arg(long, global = true, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3600))]
    timeout: u64,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Shows one aspect of the daemon.
    #[command(subcommand)]
    Show(Show),
    /// Opaque records: written at a route server, read at any daemon.
    #[command(subcommand)]
    Kv(kv::Kv),
    /// Captures packets of a dataplane into a pcapng file.
    Capture(capture::Capture),
    /// Traces a packet through a dataplane without sending one.
    Trace(trace::Trace),
    /// Live rates, workers, drops and servers of a dataplane; q quits.
    Top(top::Top),
    /// Checks this machine and its daemon, with advice for fast forwarding.
    Doctor(doctor::Doctor),
    /// Static neighbors of a dataplane.
    #[command(subcommand)]
    Neighbor(change::Neighbor),
    /// Routes of a dataplane itself, which take precedence over those from servers.
    #[command(subcommand)]
    Route(change::Route),
    /// Compares the table with the servers' again, and applies all of it.
    Resync,
    /// Reloads what may change at run time: static routes and neighbors of a dataplane, certificates of all daemons.
    Reload,
    /// Creates and shows certificates of nodes.
    #[command(subcommand)]
    Pki(pki::Pki),
}

#[derive(Debug, Subcommand)]
enum Show {
    /// Table, servers, clients, sources and origins; whether it is ready or stale.
    Status,
    /// The servers that an agent or dataplane is registered with.
    Servers,
    /// The clients that are registered here.
    Clients,
    /// Routes: all, one prefix, or the longest match of an address.
    Routes {
        /// 203.0.113.0/24 or 2001:db8::1.
        #[arg(value_name = "PREFIX|ADDRESS", value_parser = route_query)]
        query: Option<RouteQuery>,
        /// Most routes to list.
        #[arg(long, default_value_t = 100)]
        limit: usize,
        /// Route server: each origin's route, best first, with the deciding criterion.
        #[arg(long)]
        all: bool,
    },
    /// Next-hop groups.
    Groups,
    /// ARP and ND entries of a dataplane.
    Neighbors,
    /// Ports of a dataplane.
    Ports,
    /// Workers of a dataplane.
    Workers,
    /// Dropped packets of a dataplane by reason.
    Drops,
}

fn route_query(text: &str) -> Result<RouteQuery, String> {
    if let Ok(address) = text.parse() {
        return Ok(RouteQuery::Address(address));
    }
    let prefix: ipnet::IpNet =
        text.parse().map_err(|_| "expected a prefix such as 203.0.113.0/24 or an address".to_owned())?;
    if prefix.trunc() != prefix {
        return Err(format!("host bits are set; did you mean {}?", prefix.trunc()));
    }
    Ok(RouteQuery::Prefix(prefix))
}

impl Show {
    fn request(&self) -> Request {
        match self {
            Show::Status | Show::Servers | Show::Clients => Request::Status {},
            Show::Routes { query, limit, all } => {
                Request::Routes { query: query.clone().unwrap_or_default(), limit: *limit, all: *all }
            }
            Show::Groups => Request::Groups {},
            Show::Neighbors => Request::Neighbors {},
            Show::Ports => Request::Ports {},
            Show::Workers => Request::Workers {},
            Show::Drops => Request::Drops {},
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), String> {
    let show = match &arguments.command {
        Command::Show(show) => show,
        Command::Kv(command) => {
            let path = socket::choose(arguments.socket.as_deref())?;
            return kv::run(command, &path, Duration::from_secs(arguments.timeout), arguments.json);
        }
        Command::Capture(command) => {
            let path = socket::choose(arguments.socket.as_deref())?;
            let text = capture::run(command, &path, Duration::from_secs(arguments.timeout))?;
            eprint!("{text}");
            return Ok(());
        }
        Command::Trace(command) => {
            let path = socket::choose(arguments.socket.as_deref())?;
            let timeout = Duration::from_secs(arguments.timeout);
            return say(&trace::run(command, &path, timeout, arguments.json)?);
        }
        Command::Top(command) => {
            let path = socket::choose(arguments.socket.as_deref())?;
            return top::run(command, &path, Duration::from_secs(arguments.timeout));
        }
        Command::Doctor(command) => {
            let (text, healthy) = doctor::run(
                command,
                arguments.socket.as_deref(),
                Duration::from_secs(arguments.timeout),
                arguments.json,
            )?;
            say(&text)?;
            return if healthy { Ok(()) } else { Err("some checks failed".to_owned()) };
        }
        Command::Neighbor(command) => return order(arguments, command.request()),
        Command::Route(command) => return order(arguments, command.request()?),
        Command::Resync => return order(arguments, Request::Resync {}),
        Command::Reload => return order(arguments, Request::Reload {}),
        Command::Pki(command) => return say(&pki::run(command).map_err(|error| error.to_string())?),
    };
    let path = socket::choose(arguments.socket.as_deref())?;
    let answer = ask(&path, &show.request(), Duration::from_secs(arguments.timeout))
        .map_err(|error| error.to_string())?;
    let text = if arguments.json {
        print::json(show, &answer).map_err(|error| error.to_string())?
    } else {
        print::text(show, &answer)
    };
    say(&text)
}

/// A command with a one-line result.
fn order(arguments: &Arguments, request: Request) -> Result<(), String> {
    let path = socket::choose(arguments.socket.as_deref())?;
    let timeout = Duration::from_secs(arguments.timeout);
    match ask(&path, &request, timeout).map_err(|error| error.to_string())? {
        Answer::Done(message) if arguments.json => {
            let text = serde_json::to_string(&message).map_err(|error| error.to_string())?;
            say(&format!("{{\"done\":{text}}}\n"))
        }
        Answer::Done(message) => say(&format!("{message}\n")),
        _ => Err("the daemon sent an unexpected answer".to_owned()),
    }
}

fn say(text: &str) -> Result<(), String> {
    say_bytes(text.as_bytes()).map(|_| ())
}

/// False: the reader has closed the pipe (`| head`).
fn say_bytes(bytes: &[u8]) -> Result<bool, String> {
    let mut out = std::io::stdout();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(false),
        outcome => outcome.map(|()| true).map_err(|error| error.to_string()),
    }
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("fibcast: {reason}");
            ExitCode::FAILURE
        }
    }
}
