//! The control protocol between operators and fibcast daemons: requests, answers, unix socket and client.
//!
//! | module, in reading order | holds |
//! |---|---|
//! | [`protocol`] | requests, and the envelope of answers: one line of JSON each |
//! | [`status`], [`tables`], [`kv`], [`capture`] | the answers' types |
//! | [`client`] | [`client::ask`], used by `fibcast`, the demo and tests |
//! | [`server`] | [`server::ControlServer`]: a daemon's unix socket |
//! | [`http`], [`metrics`] | the same handler for monitoring |

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
