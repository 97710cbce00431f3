//! `fibcast show`: what can be shown, what is asked of the daemon for it, and how the answer is printed.

use clap::Subcommand;
use fibcast_control::status::{ServerStatus, Status};
use fibcast_control::{Answer, ClientError, DataplaneRequest, Request};

use crate::output::say;
use crate::print;
use crate::routes::{self, Routes};

/// What can be shown.
#[derive(Debug, Subcommand)]
pub enum Show {
    /// Table, servers, clients, sources, origins; is it ready, is it stale.
    Status,
    /// The servers that an agent or dataplane is registered with.
    Servers,
    /// The clients that are registered here.
    Clients,
    /// Routes: all, those of a prefix, or the longest match of an address; with --json one object for each.
    Routes(Routes),
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

/// Asks, and prints the page: text with aligned columns, or one line of JSON without an envelope.
pub fn run(
    show: &Show,
    ask: impl Fn(Request) -> Result<Answer, ClientError>,
    json: bool,
) -> Result<(), String> {
    match show {
        Show::Routes(options) => routes::run(options, ask, json),
        other => say(&page(other, |request| ask(request).map_err(|error| error.to_string()), json)?),
    }
}

fn page(show: &Show, ask: impl Fn(Request) -> Result<Answer, String>, json: bool) -> Result<String, String> {
    /// What is asked; the answer, and what of it is shown; how that is printed.
    macro_rules! page {
        ($request:expr, $answer:pat => $shown:expr, $print:path) => {
            match ask($request.into())? {
                $answer if json => {
                    serde_json::to_string($shown).map(|line| line + "\n").map_err(|error| error.to_string())
                }
                $answer => Ok($print($shown)),
                _ => Err("the daemon gave another answer than what it was asked for".to_owned()),
            }
        };
    }
    match show {
        Show::Status => page!(Request::Status, Answer::Status(status) => &*status, print::status_page),
        Show::Servers => {
            page!(Request::Status, Answer::Status(status) => servers(&status), print::table_of_servers)
        }
        Show::Clients => {
            page!(Request::Status, Answer::Status(status) => &*status.clients, print::table_of_clients)
        }
        Show::Routes(_) => Err("routes have more than one page".to_owned()),
        Show::Groups => page!(Request::Groups, Answer::Groups(list) => &list, print::groups),
        Show::Neighbors => {
            page!(DataplaneRequest::Neighbors, Answer::Neighbors(list) => &list, print::neighbors)
        }
        Show::Ports => page!(DataplaneRequest::Ports, Answer::Ports(list) => &list, print::ports),
        Show::Workers => page!(DataplaneRequest::Workers, Answer::Workers(list) => &list, print::workers),
        Show::Drops => page!(DataplaneRequest::Drops, Answer::Drops(list) => &list, print::drops),
    }
}

fn servers(status: &Status) -> &[ServerStatus] {
    status.sync.as_ref().map_or(&[], |sync| &sync.servers)
}
