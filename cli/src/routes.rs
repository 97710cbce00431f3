//! `fibcast show routes`: asks page by page, and prints each as it comes. So a table of any size shows its first lines at once, and neither this
//! command nor the daemon holds more than a page of it.

use std::net::IpAddr;

use clap::{Args, ValueEnum};
use fibcast_control::protocol::{Request, RouteQuery, RouteRequest};
use fibcast_control::routes::{Family, RouteFilter};
use fibcast_control::tables::RouteList;
use fibcast_control::{Answer, ClientError};

use crate::json;
use crate::output::say_bytes;
use crate::print::RoutePages;

/// What is asked of the table.
#[derive(Debug, Args)]
pub struct Routes {
    /// 203.0.113.0/24 or 2001:db8::1; an address is looked up as a packet's is.
    #[arg(value_name = "PREFIX|ADDRESS", value_parser = route_query)]
    query: Option<RouteQuery>,
    /// The prefix and all within it.
    #[arg(long, requires = "query")]
    orlonger: bool,
    /// All within the prefix, without itself.
    #[arg(long, requires = "query", conflicts_with = "orlonger")]
    longer_than: bool,
    /// Only routes with this gateway.
    #[arg(long, value_name = "ADDRESS")]
    next_hop: Option<IpAddr>,
    /// Only routes of this origin; of a host: `own`, or `server NAME`.
    #[arg(long, value_name = "NAME")]
    origin: Option<String>,
    /// Only routes of this VRF.
    #[arg(long, value_name = "NUMBER")]
    vrf: Option<u32>,
    /// Only routes of this family.
    #[arg(long, value_enum)]
    family: Option<FamilyName>,
    /// The most destinations to list; 0: all.
    #[arg(long, default_value_t = 100)]
    limit: u64,
    /// Of a route server: each origin's route, the best first, and what decided.
    #[arg(long)]
    all: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum FamilyName {
    Ipv4,
    Ipv6,
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

impl Routes {
    fn request(&self) -> Result<RouteRequest, String> {
        let query = match (self.query.clone().unwrap_or_default(), self.orlonger, self.longer_than) {
            (RouteQuery::Prefix(prefix), true, _) => RouteQuery::Orlonger(prefix),
            (RouteQuery::Prefix(prefix), _, true) => RouteQuery::LongerThan(prefix),
            (RouteQuery::Address(address), orlonger, longer) if orlonger || longer => {
                return Err(format!("{address}: expected a prefix with --orlonger and --longer-than"));
            }
            (query, ..) => query,
        };
        let family = self.family.map(|family| match family {
            FamilyName::Ipv4 => Family::Ipv4,
            FamilyName::Ipv6 => Family::Ipv6,
        });
        let filter =
            RouteFilter { vrf: self.vrf, family, next_hop: self.next_hop, origin: self.origin.clone() };
        Ok(RouteRequest { query, filter, all: self.all, ..RouteRequest::default() })
    }
}

/// Prints the routes: as text, or as one JSON object for each.
pub fn run(
    options: &Routes,
    ask: impl Fn(Request) -> Result<Answer, ClientError>,
    as_json: bool,
) -> Result<(), String> {
    let page = |request: &RouteRequest| match ask(Request::Routes(request.clone())) {
        Ok(Answer::Routes(list)) => Ok(list),
        Ok(_) => Err("the daemon gave another answer than what it was asked for".to_owned()),
        Err(error) => Err(error.to_string()),
    };
    let most = if options.limit == 0 { u64::MAX } else { options.limit };
    let (mut request, mut pages, mut shown) = (options.request()?, RoutePages::default(), 0);
    let last = loop {
        request.limit = usize::try_from(most - shown).unwrap_or(usize::MAX);
        let list = page(&request)?;
        shown += list.matched;
        let text = if as_json { lines(&list)? } else { pages.page(&list) };
        if !say_bytes(text.as_bytes())? {
            return Ok(());
        }
        request.after = list.next;
        if list.next.is_none() || shown >= most {
            break list;
        }
    };
    // What was cut off is counted, unless that is known already.
    let mut matched = shown;
    if last.next.is_some() && request.filter.is_open() && request.query == RouteQuery::All {
        matched = last.total;
    } else {
        request.limit = 0;
        while request.after.is_some() {
            let list = page(&request)?;
            matched += list.matched;
            request.after = list.next;
        }
    }
    let cut = if matched > shown {
        format!(" of {matched} that match (--limit {}; 0 lists all)", options.limit)
    } else {
        String::new()
    };
    if as_json {
        // Standard output has routes only.
        if !cut.is_empty() {
            eprintln!("{shown} shown{cut}");
        }
        return Ok(());
    }
    say_bytes(format!("{shown} shown{cut}, {} in the table\n", last.total).as_bytes()).map(|_| ())
}

fn lines(list: &RouteList) -> Result<String, String> {
    let mut text = String::new();
    for route in &list.routes {
        text += &json::line(route)?;
    }
    Ok(text)
}
