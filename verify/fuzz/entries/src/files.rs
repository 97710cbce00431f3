//! Files and lines from outside: MRT, configuration, checkpoints, requests of operators.

use std::io::{Cursor, Write};
use std::path::Path;
use std::time::Duration;

use fibcast_control::protocol::Request;
use fibcast_daemon::config::{Loaded, parse};
use fibcast_mrt::{BadRecords, Reader};
use fibcast_sync_agent::checkpoint::Checkpoint;

use crate::Input;

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

/// Records of all types with right lengths: those that can be decoded give the same routes whether bad ones end the reading or are skipped.
///
/// Two bytes choose a record's type, two are its length; an index of two peers comes first.
pub fn mrt_records(data: &[u8]) {
    const KINDS: [(u16, u8); 5] = [(5, 4), (12, 5), (13, 13), (16, 12), (17, 12)];
    let mut file = vec![0, 0, 0, 1, 0, 13, 0, 1, 0, 0, 0, 44, 0, 0, 0, 0, 0, 0, 0, 2];
    file.extend([2, 0, 0, 0, 0, 192, 0, 2, 1, 0, 0, 252, 1, 1, 0, 0, 0, 0]);
    file.extend([0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 252, 2]);
    let mut input = Input::new(data);
    while let (Some(kind), Some(subtype)) = (input.byte(), input.byte()) {
        let (kind, subtypes) = KINDS[usize::from(kind) % KINDS.len()];
        let len = input.number();
        let body = input.take(usize::from(len));
        file.extend([0, 0, 0, 2]);
        file.extend(kind.to_be_bytes());
        file.extend([0, subtype % subtypes]);
        file.extend((body.len() as u32).to_be_bytes());
        file.extend(body);
    }
    let open = |bad_records| {
        let reader = Reader::from_read("input.mrt", Cursor::new(file.clone())).expect("no compression");
        reader.bad_records(bad_records)
    };
    let mut skipping = open(BadRecords::Skip);
    let all: Vec<_> = skipping.by_ref().map(|route| route.expect("all lengths are right")).collect();
    let counts = skipping.counts();
    assert_eq!(counts.bad > 0, skipping.first_bad().is_some());
    assert!(counts.bad + counts.without_routes <= counts.records, "a record counts once: {counts:?}");
    let until_bad: Vec<_> = open(BadRecords::Stop).map_while(Result::ok).collect();
    assert!(all.starts_with(&until_bad), "skipping changes what precedes");
    assert!(counts.bad > 0 || all == until_bad);
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
    if let Ok(text) = std::str::from_utf8(data)
        && let Ok(filter) = text.parse::<fibcast_dataplane::capture::filter::Filter>()
    {
        // Any packet, such as the words themselves.
        let _ = filter.matches(data);
    }
    let Ok(request) = serde_json::from_slice::<Request>(data) else { return };
    let line = serde_json::to_vec(&request).expect("a request can be written");
    assert_eq!(serde_json::from_slice::<Request>(&line).expect("what was written is read"), request);
}
