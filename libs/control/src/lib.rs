//! The control protocol: what an operator can ask a fibcast daemon, and the client that asks.
//!
//! [`protocol`] has the requests and the envelope of answers, [`routes`] what is asked about routes, [`about`], [`status`], [`tables`], [`interfaces`], [`capture`], [`probe`] and [`kv`]
//! the types of what is answered.
//! `fibcast`, the demo and the tests use [`client::ask`]; the answering side is in `fibcast-daemon`.
//!
//! One request is one line of JSON, its answer another; a connection may carry many. A request is its name, or its name with what it is
//! about: `"status"`, `{"routes":{"limit":5}}`, `{"dataplane":"ports"}`, `{"kv":{"get":{"key":"motd"}}}`. The answer is
//! `{"ok":{"ports":{…}}}` or `{"error":"…"}`.
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use fibcast_control::client::ask;
//! use fibcast_control::protocol::{Answer, Request};
//!
//! let answer = ask("/run/fibcast/nh-1.sock".as_ref(), &Request::Status, Duration::from_secs(5))?;
//! if let Answer::Status(status) = answer {
//!     println!("{}: ready {}, {} IPv4 routes", status.name, status.ready, status.table.ipv4_routes);
//! }
//! # Ok::<(), fibcast_control::client::ClientError>(())
//! ```

pub mod about;
pub mod capture;
pub mod client;
mod integers;
pub mod interfaces;
pub mod kv;
pub mod probe;
pub mod protocol;
pub mod routes;
pub mod status;
pub mod tables;

pub use client::{ClientError, ask, probe};
pub use protocol::{Answer, DataplaneRequest, KvRequest, Reply, Request};
