//! What an operator can ask a fibcast daemon: the control protocol, its unix socket and its client.
//!
//! [`protocol`] has the requests and the envelope of answers, [`status`], [`tables`] and [`kv`] the types of what is shown. A daemon starts a
//! [`server::ControlServer`] with a handler, and the same handler feeds [`http::HttpServer`] for monitoring ([`metrics`]);
//! `fibcast`, the demo and the tests use [`client::ask`].
//! One request is one line of JSON, its answer another; a connection may carry many.

pub mod capture;
pub mod client;
pub mod http;
pub mod kv;
pub mod metrics;
pub mod protocol;
pub mod server;
pub mod status;
pub mod tables;

pub use client::{ClientError, ask};
pub use protocol::{Answer, Reply, Request};
pub use server::ControlServer;
