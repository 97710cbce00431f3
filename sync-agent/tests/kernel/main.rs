//! The kernel sink in a network namespace, with the real kernel. As root; elsewhere each test says that it is skipped.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod stage;

mod cost;
mod foreign;
mod refused;
mod scrub;
