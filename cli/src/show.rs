//! `fibcast show`: what can be shown, what is asked of the daemon for it, and how the answer is printed.

use clap::Subcommand;
use fibcast_control::protocol::RouteQuery;
use fibcast_control::status::{ServerStatus, Status};
use fibcast_control::{Answer, DataplaneRequest, Request};

use crate::print;

/// What can be shown.
#[derive(Debug, Subcommand)]
pub enum Show {
    /// Table, servers, clients, sources, origins; is it ready, is it stale.
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
        /// The most to list.
        #[arg(long, default_value_t = 100)]
        limit: usize,
        /// Of a route server: each origin's route, the best first, and what decided.
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

/// Asks, and gives the page: text with aligned columns, or one line of JSON without an envelope.
pub fn run(
    show: &Show,
    ask: impl Fn(Request) -> Result<Answer, String>,
    json: bool,
) -> Result<String, String> {
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
        Show::Routes { query, limit, all } => {
            let request =
                Request::Routes { query: query.clone().unwrap_or_default(), limit: *limit, all: *all };
            page!(request, Answer::Routes(list) => &list, print::routes)
        }
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
