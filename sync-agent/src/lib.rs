//! The shell around the sync machines: client, relay, and what is done with the table.

pub mod shell;
