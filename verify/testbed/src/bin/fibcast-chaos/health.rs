//! `/healthz` and `/metrics` as monitoring reads them.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(10);

/// Code and text; none: no answer.
pub fn get(http: SocketAddr, path: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&http, ANSWER).ok()?;
    stream.set_read_timeout(Some(ANSWER)).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: chaos\r\nConnection: close\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    let code = text.split(' ').nth(1)?.parse().ok()?;
    let body = text.split_once("\r\n\r\n").map(|(_, body)| body.trim().to_owned());
    Some((code, body.unwrap_or_default()))
}

/// Whether a daemon is healthy, or what it says instead.
pub fn check(http: SocketAddr) -> Result<(), String> {
    match get(http, "/healthz") {
        Some((200, _)) => Ok(()),
        Some((_, text)) => Err(text),
        None => Err("no answer".into()),
    }
}

/// Times that a thread was restarted, by its metric.
pub fn restarts(http: SocketAddr, thread: &str) -> u64 {
    let text = get(http, "/metrics").map(|(_, text)| text).unwrap_or_default();
    let name = format!("fibcast_thread_restarts_total{{thread=\"{thread}\"}} ");
    let value = text.lines().find_map(|line| line.strip_prefix(&name)?.trim().parse().ok());
    value.unwrap_or(0)
}
