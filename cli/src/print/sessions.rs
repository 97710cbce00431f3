//! `show servers` and `show clients`: connections of the sync protocol.

use fibcast_control::status::{ClientStatus, ServerStatus};

use super::columns::{Columns, or_dash, yes};

pub fn table_of_servers(servers: &[ServerStatus]) -> String {
    let heads = [
        "server",
        "role",
        "name",
        "state",
        "ready",
        "lag",
        "bytes in",
        "bytes out",
        "certificate",
        "last error",
    ];
    let mut columns = Columns::new(&heads);
    for server in servers {
        columns.row(vec![
            server.address.clone(),
            server.role.to_string(),
            or_dash(&server.name),
            server.state.clone(),
            if server.stale { format!("{}, stale", yes(server.ready)) } else { yes(server.ready) },
            server.lag.to_string(),
            server.received_bytes.to_string(),
            server.sent_bytes.to_string(),
            certificate(&server.certificate),
            or_dash(&server.last_error),
        ]);
    }
    columns.finish()
}

pub fn table_of_clients(clients: &[ClientStatus]) -> String {
    let heads = [
        "client",
        "address",
        "table",
        "role",
        "state",
        "serial",
        "lag",
        "bytes in",
        "bytes out",
        "queued",
        "certificate",
        "last error",
    ];
    let mut columns = Columns::new(&heads);
    for client in clients {
        columns.row(vec![
            client.name.clone(),
            client.address.clone(),
            client.table.clone(),
            client.role.to_string(),
            client.state.clone(),
            client.serial.to_string(),
            client.lag.to_string(),
            client.received_bytes.to_string(),
            client.sent_bytes.to_string(),
            client.queued_bytes.to_string(),
            certificate(&client.certificate),
            or_dash(&client.last_error),
        ]);
    }
    columns.finish()
}

/// The names in a certificate.
fn certificate(names: &[String]) -> String {
    if names.is_empty() { "plain TCP".into() } else { names.join(",") }
}
