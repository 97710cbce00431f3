//! Simulates whole networks of the production state machines on a virtual clock, from a seed.
//!
//! A sync protocol is correct if *every* order of messages, losses and crashes leads to the same tables. Hand-written tests do not cover
//! the orders that nobody thought of. This crate draws them at random: a seed determines the number of route servers, relays and leaves,
//! their registrations, queue sizes, how bytes are split into portions, and what fails when. The code under test is the production code:
//! `sync-proto`'s `Node` with the roles of agents and route servers. Only sockets, threads, sinks and the clock are replaced. The same seed
//! gives the same run, event by event, so a failure is replayed by one command.
//!
//! A run ([`script`]) draws a [`network`] of [`node`]s. In each step a fault happens ([`faults`]: route changes, resets, half-open
//! connections, loss in one direction or both, slow readers, crashes with and without checkpoint, power losses, servers out of service,
//! paused processes, clock jumps, failing or damaged sinks, panics); bytes move through [`connection`]s (`transport`), each followed by the
//! node's `turn`; after each input and each step the [`invariants`] are checked (`watch`). From time to time, and at the end, all faults
//! end (except that one node may stay down), and the network must come to rest: every table equals that of the [`model`], every client uses
//! its first choice, and then only heartbeats are sent.
//!
//! The rules are in [`invariants::Rule`]. The strictest are cheap: nothing is corrupted here, so a digest mismatch, an unexpected frame or
//! a dropped healthy server is a bug of the state machines, however they recover.
//!
//! Mutation tests verify that the simulator finds bugs ([`mutations`]): the state machines can be built with deliberate faults, each of
//! which must be found.
//!
//! Start with [`script`], then [`network`]. [`agent`] adds a sink to the production core, [`route_server`] the routes of sources.

mod acknowledged;
pub mod agent;
pub mod connection;
pub mod faults;
pub mod invariants;
pub mod model;
pub mod mutations;
pub mod network;
pub mod node;
pub mod rng;
pub mod route_server;
pub mod script;
pub mod trace;
mod transport;
mod turn;
mod watch;

pub use script::{Options, Outcome, run};
