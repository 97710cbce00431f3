//! `/metrics`, `/healthz`, `/status.json` and an index page for monitoring; read-only, one thread.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;

use fibcast_control::protocol::{Answer, Request};
use fibcast_control::status::Status;
use tiny_http::{Header, Method, Request as HttpRequest, Response, Server};

use crate::control::Handler;
use crate::{health, metrics};

/// Why the port cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("http {address}: cannot listen ({reason})")]
pub struct HttpError {
    /// The configured address.
    pub address: SocketAddr,
    /// The system's error.
    pub reason: String,
}

/// A running HTTP server. Dropping it ends the thread.
pub struct HttpServer {
    server: Arc<Server>,
    thread: Option<JoinHandle<()>>,
}

impl std::fmt::Debug for HttpServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "HttpServer({})", self.server.server_addr())
    }
}

impl HttpServer {
    /// Opens the port.
    ///
    /// # Errors
    /// [`HttpError`] if the address cannot be used.
    pub fn start(address: SocketAddr, handler: impl Handler) -> Result<HttpServer, HttpError> {
        let failed = |reason: String| HttpError { address, reason };
        let server = Arc::new(Server::http(address).map_err(|error| failed(error.to_string()))?);
        let thread = std::thread::Builder::new()
            .name("http".into())
            .spawn({
                let server = server.clone();
                move || serve(&server, &handler)
            })
            .map_err(|error| failed(error.to_string()))?;
        Ok(HttpServer { server, thread: Some(thread) })
    }

    /// The address in use, which matters if the configuration has port 0.
    pub fn address(&self) -> Option<SocketAddr> {
        self.server.server_addr().to_ip()
    }
}

impl Drop for HttpServer {
    fn drop(&mut self) {
        self.server.unblock();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(server: &Server, handler: &dyn Handler) {
    // The iterator ends when `unblock` is called.
    for request in server.incoming_requests() {
        if let Err(error) = respond(request, handler) {
            tracing::debug!("http: {error}");
        }
    }
}

fn respond(request: HttpRequest, handler: &dyn Handler) -> io::Result<()> {
    if *request.method() != Method::Get {
        return request.respond(page(405, PLAIN, "only GET is served here\n".into()));
    }
    let path = request.url().split('?').next().unwrap_or_default().to_owned();
    let answer = match path.as_str() {
        "/" => page(200, PLAIN, "fibcast: /metrics /healthz /status.json\n".into()),
        "/metrics" | "/healthz" | "/status.json" => match status(handler) {
            Err(reason) => page(503, PLAIN, format!("{reason}\n")),
            Ok(status) if path == "/metrics" => {
                page(200, metrics::CONTENT_TYPE, metrics::text(&status, handler))
            }
            Ok(status) if path == "/healthz" => health(&status),
            Ok(status) => page(200, "application/json", serde_json::to_string_pretty(&status)?),
        },
        _ => page(404, PLAIN, "there are /metrics, /healthz and /status.json\n".into()),
    };
    request.respond(answer)
}

const PLAIN: &str = "text/plain; charset=utf-8";

/// 200 while the node works, otherwise 503 with the reason.
fn health(status: &Status) -> Response<io::Cursor<Vec<u8>>> {
    match health::check(status) {
        Ok(()) => page(200, PLAIN, "ready\n".into()),
        Err(reason) => page(503, PLAIN, format!("{reason}\n")),
    }
}

fn status(handler: &dyn Handler) -> Result<Status, String> {
    match handler.handle(Request::Status)? {
        Answer::Status(status) => Ok(*status),
        _ => Err("the daemon gave another answer than its status".into()),
    }
}

fn page(code: u16, kind: &str, text: String) -> Response<io::Cursor<Vec<u8>>> {
    let response = Response::from_string(text).with_status_code(code);
    match Header::from_bytes("Content-Type", kind) {
        Ok(header) => response.with_header(header),
        Err(()) => response,
    }
}
