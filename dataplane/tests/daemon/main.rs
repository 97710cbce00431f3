//! The real binary under load, from outside: ports of files and of nothing, a worker on a core, and what an operator sees.
#![cfg(feature = "dpdk")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

mod accounting;
mod capture_costs;
mod certificates;
mod operator;
mod reload;
mod saved_routes;
mod spread;
mod stalled_worker;
mod start_failures;
