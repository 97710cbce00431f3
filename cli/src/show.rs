//! `fibcast show`: what can be shown, what is asked of the daemon for it, and how the answer is printed.

use clap::Subcommand;
use fibcast_control::protocol::CounterPage;
use fibcast_control::status::{ServerStatus, Status};
use fibcast_control::{Answer, ClientError, DataplaneRequest, Request};

use crate::json;
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
    /// Ports, VLAN sub-interfaces and the loopback of a dataplane: link, speed, MTU, VRF, MAC and addresses.
    #[command(visible_alias = "interface")]
    Interfaces,
    /// Next hops of a dataplane: gateway, port, MAC, state, and the groups and routes that use them.
    NextHops {
        /// Only those that packets cannot be sent to now.
        #[arg(long)]
        unresolved: bool,
    },
    /// ARP and ND entries of a dataplane.
    Neighbors,
    /// Counters of a dataplane's ports; `fibcast clear counters` makes them begin at zero.
    Ports,
    /// Workers of a dataplane.
    Workers,
    /// Dropped packets of a dataplane by reason.
    Drops,
    /// Version and build of this command and of the daemons: of the named one, or of all that run here.
    Version,
    /// The configuration that a daemon runs by, as of its start or last reload: without comments, and without the content of the files that it
    /// names, such as keys.
    #[command(visible_alias = "running-config")]
    Config,
}

/// Asks, and prints the page: text with aligned columns, or one line of JSON without an envelope.
pub fn run(
    show: &Show,
    ask: impl Fn(Request) -> Result<Answer, ClientError>,
    as_json: bool,
) -> Result<(), String> {
    match show {
        Show::Routes(options) => routes::run(options, ask, as_json),
        other => say(&page(other, |request| ask(request).map_err(|error| error.to_string()), as_json)?),
    }
}

fn page(
    show: &Show,
    ask: impl Fn(Request) -> Result<Answer, String>,
    as_json: bool,
) -> Result<String, String> {
    let since_clear = DataplaneRequest::SinceClear;
    /// What is asked; the answer, and what of it is shown; how that is printed.
    macro_rules! page {
        ($request:expr, $answer:pat => $shown:expr, $print:path) => {
            match ask($request.into())? {
                $answer if as_json => json::line($shown),
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
        Show::Version => Err("versions are those of several daemons".to_owned()),
        Show::Config => page!(Request::Config, Answer::Config(config) => &*config, print::config),
        Show::Interfaces => {
            page!(DataplaneRequest::Interfaces, Answer::Interfaces(list) => &list, print::interfaces)
        }
        Show::NextHops { unresolved } => {
            let request = DataplaneRequest::NextHops { unresolved: *unresolved };
            page!(request, Answer::NextHops(list) => &list, print::next_hops)
        }
        Show::Groups => page!(Request::Groups, Answer::Groups(list) => &list, print::groups),
        Show::Neighbors => {
            page!(DataplaneRequest::Neighbors, Answer::Neighbors(list) => &list, print::neighbors)
        }
        Show::Ports => page!(since_clear(CounterPage::Ports), Answer::Ports(list) => &list, print::ports),
        Show::Workers => {
            page!(since_clear(CounterPage::Workers), Answer::Workers(list) => &list, print::workers)
        }
        Show::Drops => page!(since_clear(CounterPage::Drops), Answer::Drops(list) => &list, print::drops),
    }
}

fn servers(status: &Status) -> &[ServerStatus] {
    status.sync.as_ref().map_or(&[], |sync| &sync.servers)
}
