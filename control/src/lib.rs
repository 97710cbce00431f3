//! The control protocol between operators and fibcast daemons: requests, answers, unix socket and client.
//!
//! | module, in reading order | holds |
//! |---|---|
//! | [`protocol`] | requests, and the envelope of answers: one line of JSON each |
//! | [`status`], [`tables`], [`kv`], [`capture`] | the answers' types |
//! | [`client`] | [`client::ask`], used by `fibcast`, the demo and tests |
//! | [`server`] | [`server::ControlServer`]: a daemon's unix socket |
//! | [`http`], [`metrics`] | the same handler for monitoring |
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use fibcast_control::client::ask;
//! use fibcast_control::protocol::{Answer, Request};
//!
//! let answer = ask("/run/fibcast/nh-1.sock".as_ref(), &Request::Status {}, Duration::from_secs(5))?;
//! if let Answer::Status(status) = answer {
//!     println!("{}: ready {}, {} IPv4 routes", status.name, status.ready, status.table.ipv4_routes);
//! }
//! # Ok::<(), fibcast_control::client::ClientError>(())
//! ```

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
