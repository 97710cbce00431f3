//! One HTTP connection without its socket: HTTP/1.0 and 1.1, GET, no request bodies (RFC 9112).
//!
//! The owner passes bytes ([`Connection::handle_input`], no more than [`Connection::room`]), the end of input, and the time
//! ([`Connection::handle_timeout`] at [`Connection::due`]). [`Connection::poll_request`] returns one request after the other; each is
//! answered by [`Connection::answer`], and the answer is fetched by [`Connection::output`] and [`Connection::sent`]. Wrong requests are
//! answered here. A connection with [`Connection::is_over`] is closed; [`Connection::is_draining`] asks the owner to close its sending side.
//!
//! Time is what passed since any start, and must not go back.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// Most bytes of a request's head.
pub const MAX_HEAD: usize = 8 * 1024;
/// Most header fields of a request.
const MAX_FIELDS: usize = 64;
/// Time for a request's head, from its first byte; of the first one, from the connection's start.
const HEAD: Duration = Duration::from_secs(5);
/// Time without a request on a connection that is kept.
const IDLE: Duration = Duration::from_secs(75);
/// Time for the client to take an answer.
const WRITE: Duration = Duration::from_secs(10);
/// Time for the client to close its side. Without it, a reset could overtake the answer (RFC 9112, section 9.6).
const DRAIN: Duration = Duration::from_secs(1);

const PLAIN: &str = "text/plain; charset=utf-8";

/// The answer to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Status code.
    pub code: u16,
    /// `Content-Type`.
    pub kind: &'static str,
    /// Content, which several connections may share.
    pub body: Arc<[u8]>,
}

impl Answer {
    /// A line of text.
    pub fn text(code: u16, text: &str) -> Self {
        Answer { code, kind: PLAIN, body: format!("{text}\n").into_bytes().into() }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// A request is awaited or incomplete.
    Head,
    /// The owner has a request, and owes the answer.
    Working,
    /// An answer is sent.
    Writing,
    /// All is sent, and the client has yet to close its side.
    Draining,
    Over,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Connection {
    phase: Phase,
    until: Duration,
    input: Vec<u8>,
    /// The client has closed its sending side.
    ended: bool,
    /// The connection ends after the current answer.
    last: bool,
    head: Vec<u8>,
    body: Option<Arc<[u8]>>,
    /// Bytes of head and body that were sent.
    sent: usize,
}

impl Connection {
    /// A connection that was accepted at this time.
    pub fn new(now: Duration) -> Self {
        Self {
            phase: Phase::Head,
            until: now + HEAD,
            input: Vec::new(),
            ended: false,
            last: false,
            head: Vec::new(),
            body: None,
            sent: 0,
        }
    }

    /// Bytes that the connection takes at the moment.
    pub fn room(&self) -> usize {
        match self.phase {
            Phase::Head if !self.ended => MAX_HEAD.saturating_sub(self.input.len()),
            Phase::Draining => MAX_HEAD,
            _ => 0,
        }
    }

    /// Takes bytes of the client, at most [`Self::room`].
    pub fn handle_input(&mut self, now: Duration, bytes: &[u8]) {
        if self.phase != Phase::Head || bytes.is_empty() {
            return;
        }
        if self.input.is_empty() {
            self.until = self.until.min(now + HEAD);
        }
        self.input.extend_from_slice(bytes.get(..self.room()).unwrap_or(bytes));
    }

    /// The client has closed its sending side. It may still read.
    pub fn handle_end(&mut self) {
        self.ended = true;
        if self.phase == Phase::Draining {
            self.close();
        }
    }

    /// The connection is of no use any more.
    pub fn close(&mut self) {
        self.phase = Phase::Over;
        // Nothing more is sent, and what may be large is given back.
        (self.input, self.head, self.body) = (Vec::new(), Vec::new(), None);
    }

    /// The path of the next complete request. The owner owes an answer.
    pub fn poll_request(&mut self, now: Duration, date: SystemTime) -> Option<String> {
        if self.phase != Phase::Head {
            return None;
        }
        match parse(&self.input) {
            Ok(Parsed::Partial) if self.ended => self.close(),
            Ok(Parsed::Partial) => {}
            Ok(Parsed::Request { length, path, keep }) => {
                self.input.drain(..length.min(self.input.len()));
                if self.input.is_empty() {
                    // An idle connection costs no buffer.
                    self.input = Vec::new();
                }
                self.last = !keep;
                self.phase = Phase::Working;
                return Some(path);
            }
            Err((code, text)) => self.refuse(now, code, text, date),
        }
        None
    }

    /// Answers the request that [`Self::poll_request`] returned.
    pub fn answer(&mut self, now: Duration, answer: &Answer, date: SystemTime) {
        if self.phase != Phase::Working {
            return;
        }
        let Answer { code, kind, body } = answer;
        let connection = if self.last { "close" } else { "keep-alive" };
        let allow = if *code == 405 { "Allow: GET\r\n" } else { "" };
        self.head = format!(
            "HTTP/1.1 {code} {}\r\nDate: {}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nCache-Control: no-store\r\n\
             Connection: {connection}\r\n{allow}\r\n",
            reason(*code),
            httpdate::fmt_http_date(date),
            body.len(),
        )
        .into_bytes();
        self.body = Some(body.clone());
        self.sent = 0;
        self.phase = Phase::Writing;
        self.until = now + WRITE;
    }

    fn refuse(&mut self, now: Duration, code: u16, text: &str, date: SystemTime) {
        // What follows a wrong request has no known beginning.
        self.input = Vec::new();
        self.last = true;
        self.phase = Phase::Working;
        self.answer(now, &Answer::text(code, text), date);
    }

    /// Bytes to send: rest of the head, rest of the body.
    pub fn output(&self) -> [&[u8]; 2] {
        let body = self.body.as_deref().unwrap_or_default();
        let of_body = self.sent.saturating_sub(self.head.len());
        [self.head.get(self.sent..).unwrap_or_default(), body.get(of_body..).unwrap_or_default()]
    }

    /// The body that is sent, to see who shares it.
    pub fn body(&self) -> Option<&Arc<[u8]>> {
        self.body.as_ref()
    }

    /// So many bytes of [`Self::output`] were sent.
    pub fn sent(&mut self, now: Duration, n: usize) {
        if self.phase != Phase::Writing {
            return;
        }
        self.sent = self.sent.saturating_add(n);
        if self.output().iter().any(|rest| !rest.is_empty()) {
            return;
        }
        (self.head, self.body, self.sent) = (Vec::new(), None, 0);
        match (self.last, self.ended) {
            (true, true) => self.close(),
            (true, false) => (self.phase, self.until) = (Phase::Draining, now + DRAIN),
            (false, _) => {
                let time = if self.input.is_empty() { IDLE } else { HEAD };
                (self.phase, self.until) = (Phase::Head, now + time);
            }
        }
    }

    /// When the phase ends; none while the owner owes an answer.
    pub fn due(&self) -> Option<Duration> {
        (!matches!(self.phase, Phase::Working | Phase::Over)).then_some(self.until)
    }

    /// Ends a phase that took too long.
    pub fn handle_timeout(&mut self, now: Duration, date: SystemTime) {
        if self.due().is_none_or(|due| now < due) {
            return;
        }
        if self.phase == Phase::Head && !self.input.is_empty() {
            self.refuse(now, 408, "the request was not complete within 5 s", date);
        } else {
            self.close();
        }
    }

    /// Whether the owner owes an answer.
    pub fn is_working(&self) -> bool {
        self.phase == Phase::Working
    }

    /// Whether all is sent, and the sending side is to be closed.
    pub fn is_draining(&self) -> bool {
        self.phase == Phase::Draining
    }

    /// Whether the connection is to be closed.
    pub fn is_over(&self) -> bool {
        self.phase == Phase::Over
    }
}

enum Parsed {
    Partial,
    Request { length: usize, path: String, keep: bool },
}

fn parse(input: &[u8]) -> Result<Parsed, (u16, &'static str)> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut request = httparse::Request::new(&mut fields);
    let length = match request.parse(input) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) if input.len() < MAX_HEAD => return Ok(Parsed::Partial),
        Ok(httparse::Status::Partial) => return Err((431, "a request's head has at most 8192 bytes")),
        Err(httparse::Error::TooManyHeaders) => return Err((431, "a request has at most 64 header fields")),
        Err(httparse::Error::Version) => return Err((505, "this is HTTP/1.0 and HTTP/1.1")),
        Err(_) => return Err((400, "not an HTTP request")),
    };
    if request.method != Some("GET") {
        return Err((405, "only GET is served here"));
    }
    let mut keep = request.version == Some(1);
    let mut hosts = 0;
    for field in request.headers.iter() {
        let is = |name: &str| field.name.eq_ignore_ascii_case(name);
        if is("host") {
            hosts += 1;
        } else if is("transfer-encoding") || (is("content-length") && field.value.trim_ascii() != b"0") {
            return Err((413, "a request has no content here"));
        } else if is("connection") {
            let has = |word: &str| {
                field
                    .value
                    .split(|b| *b == b',')
                    .any(|t| t.trim_ascii().eq_ignore_ascii_case(word.as_bytes()))
            };
            keep = !has("close") && (keep || has("keep-alive"));
        }
    }
    // RFC 9112, section 3.2.
    if hosts > 1 || (hosts == 0 && request.version == Some(1)) {
        return Err((400, "an HTTP/1.1 request has one Host field"));
    }
    Ok(Parsed::Request { length, path: path(request.path.unwrap_or("/")), keep })
}

/// The path of a target in origin form or absolute form, without its query (RFC 9112, section 3.2).
fn path(target: &str) -> String {
    let target = match target.split_once("://") {
        Some(("http" | "https", rest)) => rest.find('/').map_or("/", |at| rest.get(at..).unwrap_or("/")),
        _ => target,
    };
    target.split('?').next().unwrap_or_default().to_owned()
}

fn reason(code: u16) -> &'static str {
    match code {
        200 => "OK",
        400 => "Bad Request",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        413 => "Content Too Large",
        431 => "Request Header Fields Too Large",
        503 => "Service Unavailable",
        505 => "HTTP Version Not Supported",
        _ => "Error",
    }
}

#[cfg(test)]
mod tests;
