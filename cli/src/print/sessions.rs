//! `show servers` and `show clients`: connections of the sync protocol.

use std::fmt::Write;

use fibcast_control::status::{ClientStatus, RefusedRoute, ServerStatus};

use super::columns::{Table, or_dash, yes};

pub fn table_of_servers(servers: &[ServerStatus]) -> String {
    Table::of(servers)
        .text("server", |server| &server.address)
        .value("role", |server| server.role)
        .value("name", |server| or_dash(server.name.as_ref()))
        .state("state", |server| server.state.clone())
        .value("ready", |server| {
            format!("{}{}", yes(server.ready), if server.stale { ", stale" } else { "" })
        })
        .value("lag", |server| server.lag)
        .value("bytes in", |server| server.received_bytes)
        .value("bytes out", |server| server.sent_bytes)
        .value("certificate", |server| certificate(&server.certificate))
        .value("last error", |server| or_dash(server.last_error.as_ref()))
        .finish()
}

pub fn table_of_clients(clients: &[ClientStatus]) -> String {
    let mut page = Table::of(clients)
        .text("client", |client| &client.name)
        .text("address", |client| &client.address)
        .text("table", |client| &client.table)
        .value("role", |client| client.role)
        .state("state", |client| client.state.clone())
        .value("serial", |client| client.serial)
        .value("installed", |client| or_dash(client.installed.as_ref()))
        .value("age ms", |client| or_dash(client.installed_age_ms.as_ref()))
        .value("refused", |client| client.refused)
        .value("lag", |client| client.lag)
        .value("bytes in", |client| client.received_bytes)
        .value("bytes out", |client| client.sent_bytes)
        .value("queued", |client| client.queued_bytes)
        .value("certificate", |client| certificate(&client.certificate))
        .value("last error", |client| or_dash(client.last_error.as_ref()))
        .finish();
    clients.iter().filter(|client| client.refused > 0).for_each(|client| refused(client, &mut page));
    page
}

/// What a client does not forward by.
fn refused(client: &ClientStatus, page: &mut String) {
    let _ = writeln!(page, "{} does not forward by {} routes:", client.name, client.refused);
    for RefusedRoute { vrf, prefix, reason } in &client.refused_first {
        let vrf = if *vrf == 0 { String::new() } else { format!(" in VRF {vrf}") };
        let _ = writeln!(page, "  {prefix}{vrf}: {reason}");
    }
    if client.refused > client.refused_first.len() as u64 {
        let _ = writeln!(page, "  …");
    }
}

/// The names in a certificate.
fn certificate(names: &[String]) -> String {
    if names.is_empty() { "plain TCP".into() } else { names.join(",") }
}
