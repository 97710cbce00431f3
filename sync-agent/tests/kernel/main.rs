//! The kernel sink in a network namespace, with the real kernel. As root; elsewhere each test says that it is skipped.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../common/mod.rs"]
mod common;
mod stage;

mod cost;
mod foreign;
mod next_hop;
mod refused;
mod scrub;
