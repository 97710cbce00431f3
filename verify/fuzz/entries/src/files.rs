//! Files and lines from outside: MRT, configuration, checkpoints, requests of operators.

use std::io::{Cursor, Write};
use std::path::Path;
use std::time::Duration;

use fibcast_control::protocol::Request;
use fibcast_daemon::config::{Loaded, parse};
use fibcast_mrt::Reader;
use fibcast_sync_agent::checkpoint::Checkpoint;

/// An MRT file: routes until its end or one error, and nothing after that.
pub fn mrt(data: &[u8]) {
    // What a small file may expand to is bounded here, not by the reader: it streams.
    let Ok(mut reader) = Reader::from_read("input.mrt", Cursor::new(data.to_vec())) else { return };
    let mut routes = 0u64;
    while let Some(route) = reader.next() {
        routes += 1;
        if route.is_err() {
            assert!(reader.next().is_none(), "a reader continues after an error");
            return;
        }
        if routes > 1_000_000 {
            return;
        }
    }
}

/// The three daemons' configuration files. An error names the file and a line in it.
pub fn config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let path = Path::new("daemon.toml");
    let named =
        |error: String| assert!(error.starts_with("daemon.toml"), "an error without the file: {error}");
    match parse::<fibcast_route_server::config::Config>(path, text.to_owned()) {
        Ok(_) => {}
        Err(error) => named(error.to_string()),
    }
    let agent: Result<Loaded<fibcast_sync_agent::config::AgentFile>, _> = parse(path, text.to_owned());
    match agent {
        Ok(loaded) => {
            fibcast_sync_agent::config::AgentFile::check(&loaded).unwrap_or_else(|e| named(e.to_string()))
        }
        Err(error) => named(error.to_string()),
    }
    let dataplane: Result<Loaded<fibcast_dataplane::config::Config>, _> = parse(path, text.to_owned());
    match dataplane {
        Ok(loaded) => {
            fibcast_dataplane::config::Config::check(&loaded).unwrap_or_else(|e| named(e.to_string()))
        }
        Err(error) => named(error.to_string()),
    }
}

/// A checkpoint file: a sound table or none.
pub fn checkpoint(data: &[u8]) {
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.write_all(data).and_then(|()| file.flush()).expect("a file can be written");
    let mut checkpoint = Checkpoint::new(file.path(), "fib", Duration::from_secs(30));
    if let Some(table) = checkpoint.load(7, &Default::default()) {
        assert!(table.is_sound(), "a checkpoint made a table that is not what its digest says");
    }
}

/// A request of an operator, as a line: what is read is the same after a round trip.
pub fn control(data: &[u8]) {
    let Ok(request) = serde_json::from_slice::<Request>(data) else { return };
    let line = serde_json::to_vec(&request).expect("a request can be written");
    assert_eq!(serde_json::from_slice::<Request>(&line).expect("what was written is read"), request);
}
