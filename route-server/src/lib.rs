//! Sources, RIB, best path and fan-out of one routing table.
//!
//! Where to begin: [`source`] is where routes come from, [`mrt`] reads what collectors record.

pub mod config;
pub mod engine;
pub mod mrt;
pub mod operator;
pub mod rib;
pub mod run;
pub mod source;
