//! Whole networks over the production state machines, on a virtual clock, from a seed.
//!
//! A sync protocol is right when *every* order of messages, losses and crashes leads to the same tables. No test that was written by
//! hand tries the orders that nobody thought of. This crate draws them: a seed decides how many route servers, relays and leaves there
//! are, who registers with whom, how large queues are, how bytes are cut into portions, what fails and when. The code under
//! test is what runs in production: `sync-proto`'s `Node` with the roles of agents and of route servers. Only sockets, threads, sinks
//! and the clock are replaced. The same seed gives the same run, event by event, so that a failure is replayed by one command.
//!
//! How a run goes ([`script`]): a [`network`] of [`node`]s is drawn; each step something happens ([`faults`]: route changes, resets, half-open
//! connections, silence in one direction or both, slow readers, crashes with and without checkpoint, power losses, servers taken
//! out of service, processes that are stopped, clocks that jump, sinks that fail or are damaged, panics); bytes move through [`connection`]s (`transport`), each followed by
//! the node's `turn`; after each input and each step the [`invariants`] are checked (`watch`). Now and then, and at the end, all faults
//! end (but for a node that may stay down), and the network has to come to rest: every table equal to that of the [`model`], every
//! client on its first choice, and then not a byte but heartbeats.
//!
//! Rules and what they mean are in [`invariants::Rule`]. The strictest are cheap: nobody corrupts anything here, so a digest mismatch, an
//! unexpected frame or a server that is given up while nothing was wrong is a fault of the machines, whatever they make of it afterwards.
//!
//! That the simulator finds faults is itself tested ([`mutations`]): the machines can be built with deliberate ones, each of which must be found.
//!
//! Begin with [`script`], then [`network`]. [`agent`] adds a sink to the production core, [`route_server`] the routes of sources.

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
