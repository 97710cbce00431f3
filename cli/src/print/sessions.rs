//! `show servers` and `show clients`: connections of the sync protocol.

use fibcast_control::status::{ClientStatus, ServerStatus};

use super::columns::{Table, or_dash, yes};

pub fn table_of_servers(servers: &[ServerStatus]) -> String {
    Table::of(servers)
        .text("server", |server| &server.address)
        .value("role", |server| server.role)
        .value("name", |server| or_dash(server.name.as_ref()))
        .text("state", |server| &server.state)
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
    Table::of(clients)
        .text("client", |client| &client.name)
        .text("address", |client| &client.address)
        .text("table", |client| &client.table)
        .value("role", |client| client.role)
        .text("state", |client| &client.state)
        .value("serial", |client| client.serial)
        .value("installed", |client| or_dash(client.installed.as_ref()))
        .value("age ms", |client| or_dash(client.installed_age_ms.as_ref()))
        .value("lag", |client| client.lag)
        .value("bytes in", |client| client.received_bytes)
        .value("bytes out", |client| client.sent_bytes)
        .value("queued", |client| client.queued_bytes)
        .value("certificate", |client| certificate(&client.certificate))
        .value("last error", |client| or_dash(client.last_error.as_ref()))
        .finish()
}

/// The names in a certificate.
fn certificate(names: &[String]) -> String {
    if names.is_empty() { "plain TCP".into() } else { names.join(",") }
}
