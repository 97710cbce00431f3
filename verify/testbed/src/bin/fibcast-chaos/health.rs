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

/// The sum of a metric over the rows that have these labels, written as on the page; 0 if there is none.
pub fn metric(http: SocketAddr, name: &str, labels: &str) -> f64 {
    let text = get(http, "/metrics").map(|(_, text)| text).unwrap_or_default();
    let rows = text.lines().filter_map(|line| line.strip_prefix("fibcast_")?.strip_prefix(name));
    let values = rows.filter_map(|row| {
        let (found, value) = row.rsplit_once(' ')?;
        let of_metric = found.is_empty() || found.starts_with('{') && found.contains(labels);
        of_metric.then(|| value.trim().parse::<f64>().ok()).flatten()
    });
    values.sum()
}

/// Times that a thread was restarted.
pub fn restarts(http: SocketAddr, thread: &str) -> u64 {
    metric(http, "thread_restarts_total", &format!("thread=\"{thread}\"")) as u64
}
